//! Whether this thread's floating-point arithmetic keeps subnormal numbers or takes them for zero.
//!
//! Between zero and the smallest normal number (1.2e-38 in `f32`, 2.2e-308 in `f64`) lie numbers with fewer digits. Some
//! processors (Intel's) take some 150 cycles for an operation on one of them, others (AMD's) none or a few: states that
//! decay, or a gradient that fades, then slow a kernel down several times over on one machine and not on another. Training
//! in `f32` loses nothing by taking them for zero. Decompositions in `f64` do: their scaling relies on them.
//!
//! The mode belongs to a thread. A [`Subnormals`] sets it for as long as it lives and puts back what it found:
//!
//! ```
//! use std::hint::black_box;
//! use subnormals::Subnormals;
//!
//! let tiny = black_box(f32::MIN_POSITIVE);
//! assert!(tiny * black_box(0.5) > 0.0);
//! if subnormals::CAN_FLUSH {
//!     let _flushed = Subnormals::flushed();
//!     assert_eq!(tiny * black_box(0.5), 0.0);
//! }
//! assert!(tiny * black_box(0.5) > 0.0);
//! ```
//!
//! Rust's reference has floating-point operations run in the default mode; one that the compiler evaluates or moves is
//! therefore as if the other mode were set. That is harmless here: the two modes differ in numbers below the smallest normal
//! one only, and kernels are functions of their own, called while the mode is set.
//!
//! x86-64 (FTZ and DAZ of MXCSR) and AArch64 (FZ of FPCR) can flush; elsewhere ([`CAN_FLUSH`]) nothing happens.

mod register;

use std::marker::PhantomData;

/// Whether this processor can take subnormal numbers for zero.
pub const CAN_FLUSH: bool = register::FLUSH != 0;

/// What becomes of subnormal numbers on this thread, until this is dropped.
#[derive(Debug)]
#[must_use = "the mode lasts as long as this value"]
pub struct Subnormals {
    found: register::Word,
    /// The register is of the thread that read it.
    of_this_thread: PhantomData<*const ()>,
}

impl Subnormals {
    /// Operations take subnormal operands, and give subnormal results, as zero.
    ///
    /// Nothing that waits for other threads' work, or starts a thread, may run under it: such a wait may take up work of
    /// somebody who needs [`kept`](Self::kept), and on Linux a new thread inherits the mode of the one that starts it.
    #[inline]
    pub fn flushed() -> Self {
        Self::set(register::FLUSH)
    }

    /// Operations keep subnormal numbers, as IEEE 754 has it, whatever the caller's mode.
    #[inline]
    pub fn kept() -> Self {
        Self::set(0)
    }

    #[inline]
    fn set(flush: register::Word) -> Self {
        let found = register::read();
        if found & register::FLUSH != flush {
            register::write(found & !register::FLUSH | flush);
        }
        Self {
            found,
            of_this_thread: PhantomData,
        }
    }
}

impl Drop for Subnormals {
    #[inline]
    fn drop(&mut self) {
        let now = register::read();
        // What operations have reported meanwhile stays reported, as it would without a change of mode.
        let back = self.found | now & register::REPORTED;
        if back != now {
            register::write(back);
        }
    }
}

/// Whether an operation on this thread was given a subnormal number, and did not take it for zero, since
/// [`forget_operands`]. `None` where the processor does not tell: on all but x86-64.
pub fn met_operand() -> Option<bool> {
    (register::OPERAND != 0).then(|| register::read() & register::OPERAND != 0)
}

/// Has the processor forget what [`met_operand`] tells.
pub fn forget_operands() {
    let now = register::read();
    register::write(now & !register::OPERAND);
}

#[cfg(test)]
mod tests {
    use std::hint::black_box;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    /// A subnormal result, and a normal one of a subnormal operand.
    fn results() -> (f32, f64, f32) {
        let half = black_box(f32::MIN_POSITIVE) * black_box(0.5);
        let tiny = black_box(f32::from_bits(1));
        (
            half,
            black_box(f64::MIN_POSITIVE) * black_box(0.5),
            tiny * black_box(1e38),
        )
    }

    fn kept() -> bool {
        let (half, double, raised) = results();
        half > 0.0 && double > 0.0 && raised > 0.0
    }

    fn flushed() -> bool {
        results() == (0.0, 0.0, 0.0)
    }

    #[test]
    fn a_mode_lasts_as_long_as_its_guard() {
        assert!(kept());
        {
            let _flushed = Subnormals::flushed();
            assert_eq!(flushed(), CAN_FLUSH);
            {
                let _kept = Subnormals::kept();
                assert!(kept());
            }
            assert_eq!(flushed(), CAN_FLUSH);
            let _again = Subnormals::flushed();
            assert_eq!(flushed(), CAN_FLUSH);
        }
        assert!(kept());
    }

    #[test]
    fn a_subnormal_operand_is_told_of_unless_it_is_flushed() {
        let work = || black_box(black_box(f32::from_bits(1)) * black_box(2.0));
        forget_operands();
        {
            let _flushed = Subnormals::flushed();
            work();
        }
        assert_ne!(met_operand(), Some(true));
        work();
        assert_ne!(met_operand(), Some(false));
        forget_operands();
        assert_ne!(met_operand(), Some(true));
    }

    #[test]
    fn a_panic_puts_the_mode_back() {
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            let _flushed = Subnormals::flushed();
            panic!("on purpose");
        }));
        assert!(panicked.is_err() && kept());
    }

    #[test]
    fn a_thread_that_runs_already_keeps_its_mode() {
        let (go, wait) = std::sync::mpsc::channel::<()>();
        let other = std::thread::spawn(move || {
            wait.recv().unwrap();
            kept()
        });
        let _flushed = Subnormals::flushed();
        go.send(()).unwrap();
        assert!(other.join().unwrap());
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn everything_else_that_a_caller_has_set_survives() {
        /// Rounding toward zero.
        const TRUNCATE: register::Word = 0x6000;
        const INEXACT: register::Word = 0x20;

        let before = register::read();
        register::write(before & !register::REPORTED | TRUNCATE);
        let as_set = register::read();
        {
            let _flushed = Subnormals::flushed();
            assert_eq!(
                register::read() & !register::REPORTED,
                as_set | register::FLUSH
            );
            black_box(black_box(1.0f32) / black_box(3.0));
        }
        let after = register::read();
        register::write(before);
        // A division that does not come out even was reported, under the guard, and still is.
        assert_eq!(after, as_set | INEXACT);
    }
}
