//! Ctrl-C and SIGTERM: whoever works or waits looks whether they came, and ends in good order.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

static FLAG: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// Whether one came; never before somebody has asked for the flag.
pub fn came() -> bool {
    FLAG.get().is_some_and(|flag| flag.load(Ordering::Acquire))
}

/// A flag that Ctrl-C and a request to terminate raise, so that the run still ends in order.
pub fn flag() -> Arc<AtomicBool> {
    extern "C" fn raise(_signal: libc::c_int, _info: *mut libc::siginfo_t, _context: *mut libc::c_void) {
        if let Some(flag) = FLAG.get() {
            flag.store(true, Ordering::Release);
        }
    }
    let flag = FLAG.get_or_init(Arc::default).clone();
    for signal in [libc::SIGINT, libc::SIGTERM] {
        // Without the handler the process ends at once, which is the default.
        let _ = vmm_sys_util::signal::register_signal_handler(signal, raise);
    }
    flag
}
