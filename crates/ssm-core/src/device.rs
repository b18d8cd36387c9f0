//! Whether a device of a backend is there, asked before burn is: burn panics where there is none.

use thiserror::Error;

/// Why a backend cannot run on this machine.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum DeviceError {
    /// There is no Vulkan (elsewhere Metal or Direct3D) adapter, not even one in software.
    #[error(
        "no graphics adapter found for the wgpu backend; install a Vulkan driver (`mesa-vulkan-drivers` has one \
         in software), or use another backend"
    )]
    NoAdapter,
    /// The NVIDIA driver's library cannot be loaded.
    #[error(
        "the CUDA driver library is missing (libcuda.so); install the NVIDIA driver, or use another backend"
    )]
    NoDriver,
    /// The driver is there and sees no GPU, or fails.
    #[error("the CUDA driver finds no usable GPU ({reason}); use another backend")]
    NoGpu {
        /// What the driver said.
        reason: String,
    },
    /// The runtime compiler of CUDA cannot be loaded.
    #[error(
        "CUDA's runtime compiler is missing (libnvrtc.so); install the CUDA toolkit, or put its libraries on \
         LD_LIBRARY_PATH"
    )]
    NoCompiler,
    /// The headers that kernels are compiled with are not in one of the usual places.
    #[error(
        "CUDA's headers are missing; install the CUDA toolkit, or set CUDA_PATH to where it is"
    )]
    NoHeaders,
}

/// Whether the wgpu backend finds an adapter.
///
/// # Errors
/// [`DeviceError::NoAdapter`].
#[cfg(feature = "wgpu")]
pub fn probe_wgpu() -> Result<(), DeviceError> {
    use burn::tensor::backend::DeviceOps;
    use cubecl::{
        Runtime,
        wgpu::{AutoGraphicsApi, GraphicsApi, WgpuDevice, WgpuRuntime},
    };

    let any = WgpuDevice::DefaultDevice.id().type_id;
    let adapters = WgpuRuntime::enumerate_devices(any, &AutoGraphicsApi::backend());
    if adapters.is_empty() {
        return Err(DeviceError::NoAdapter);
    }
    Ok(())
}

/// Whether the CUDA backend finds the driver, a GPU, the runtime compiler and its headers.
///
/// # Errors
/// The first of [`DeviceError::NoDriver`], [`DeviceError::NoGpu`], [`DeviceError::NoCompiler`] and
/// [`DeviceError::NoHeaders`] that holds.
#[cfg(feature = "cuda")]
pub fn probe_cuda() -> Result<(), DeviceError> {
    use cudarc::{driver, nvrtc};

    // SAFETY: both only try to load the library and look for its symbols.
    let (driver_found, compiler_found) = unsafe {
        (
            driver::sys::is_culib_present(),
            nvrtc::sys::is_culib_present(),
        )
    };
    if !driver_found {
        return Err(DeviceError::NoDriver);
    }
    let no_gpu = |reason: String| DeviceError::NoGpu { reason };
    driver::result::init().map_err(|error| no_gpu(error.to_string()))?;
    match driver::result::device::get_count() {
        Ok(count) if count > 0 => {}
        Ok(_) => return Err(no_gpu("device count 0".to_owned())),
        Err(error) => return Err(no_gpu(error.to_string())),
    }
    if !compiler_found {
        return Err(DeviceError::NoCompiler);
    }
    if cubecl::cuda::install::cuda_path().is_none() {
        return Err(DeviceError::NoHeaders);
    }
    Ok(())
}
