//! Ctrl-C, SIGTERM and SIGHUP: the first asks to stop, the second leaves at once.

use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The exit code of a program that was interrupted.
pub const EXIT_CODE: u8 = 130;

/// Something was interrupted; the text says how to go on.
#[derive(Debug, thiserror::Error)]
#[error("stopped; {0}")]
pub struct Interrupted(pub String);

/// A flag that becomes true when the user wants to stop. May be asked for once.
pub fn flag() -> anyhow::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stop);
    ctrlc::set_handler(move || {
        if flag.swap(true, Ordering::Relaxed) {
            process::exit(EXIT_CODE.into());
        }
    })?;
    Ok(stop)
}
