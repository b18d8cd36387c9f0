//! Logs: to standard error as `RUST_LOG` says, and to the run's `events.log` once there is one.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::sync::Mutex;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, fmt};

use crate::files::FileError;

static EVENTS: Mutex<Option<File>> = Mutex::new(None);

/// Writes to the events log of the current run, or nowhere.
struct EventsLog;

impl Write for EventsLog {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match EVENTS.lock() {
            Ok(mut guard) => guard
                .as_mut()
                .map_or(Ok(bytes.len()), |file| file.write(bytes)),
            Err(_) => Ok(bytes.len()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Installs the logs of this process: warnings and what `RUST_LOG` asks for on standard error, everything from `info`
/// in the events log.
pub fn init() {
    let filter = EnvFilter::builder()
        .with_default_directive(LevelFilter::WARN.into())
        .from_env_lossy();
    let console = fmt::layer().with_writer(io::stderr).with_filter(filter);
    let events = fmt::layer()
        .with_ansi(false)
        .with_writer(|| EventsLog)
        .with_filter(LevelFilter::INFO);
    // A second call, from a test, leaves the first logs in place.
    let _ = tracing_subscriber::registry()
        .with(console)
        .with(events)
        .try_init();
}

/// From here on, events go to this file too.
pub(crate) fn log_to(path: &Path) -> Result<(), FileError> {
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .map_err(FileError::during("open", path))?;
    if let Ok(mut guard) = EVENTS.lock() {
        *guard = Some(file);
    }
    Ok(())
}
