//! Gets a thread out of KVM_RUN: `immediate_exit` for the one that is about to enter, a signal for the
//! one that is inside. None is lost: the flag is raised first, and it is lowered before the pins are read.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::ptr::NonNull;
use std::sync::Once;
use std::sync::atomic::{AtomicU8, Ordering};

use kvm_bindings::kvm_run;
use kvm_ioctls::VcpuFd;
use parking_lot::Mutex;

use crate::backend::kicker::Bell;

/// The bell of one KVM vCPU.
pub struct KvmBell {
    state: Mutex<State>,
}

struct State {
    /// Gone once the vCPU is.
    flag: Option<FlagPage>,
    /// The thread that is in [`super::KvmVcpu`]'s `run`.
    inside: Option<libc::pthread_t>,
}

/// A second mapping of the page that holds `immediate_exit`, so that other threads never touch the
/// mapping the vCPU's thread has references into.
struct FlagPage(NonNull<u8>);

const PAGE: usize = 4096;

// SAFETY: the page is shared memory, and the only access to it is through an atomic.
unsafe impl Send for FlagPage {}

impl FlagPage {
    fn map(vcpu: RawFd) -> io::Result<FlagPage> {
        // SAFETY: a fresh shared mapping of the vCPU's first page at an address the kernel chooses.
        let page = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                PAGE,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                vcpu,
                0,
            )
        };
        if page == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(FlagPage(NonNull::new(page.cast()).expect("a mapping is not at address 0")))
    }

    fn flag(&self) -> &AtomicU8 {
        // SAFETY: the offset is inside the mapped page, and a byte is always aligned.
        unsafe { AtomicU8::from_ptr(self.0.as_ptr().add(std::mem::offset_of!(kvm_run, immediate_exit))) }
    }
}

impl Drop for FlagPage {
    fn drop(&mut self) {
        // SAFETY: mapped in `map` with this length, and nothing refers to it any more.
        unsafe { libc::munmap(self.0.as_ptr().cast(), PAGE) };
    }
}

impl KvmBell {
    /// The bell of `vcpu`.
    pub fn new(vcpu: &VcpuFd) -> io::Result<KvmBell> {
        install_handler()?;
        let flag = FlagPage::map(vcpu.as_raw_fd())?;
        Ok(KvmBell { state: Mutex::new(State { flag: Some(flag), inside: None }) })
    }

    /// This thread is going to run the vCPU.
    pub fn enter(&self) {
        unblock_signal();
        // SAFETY: has no precondition.
        let thread = unsafe { libc::pthread_self() };
        self.state.lock().inside = Some(thread);
    }

    /// This thread runs the vCPU no more; no signal reaches it after this.
    pub fn leave(&self) {
        self.state.lock().inside = None;
    }

    /// Makes the next KVM_RUN come back at once, after it has completed the instruction in progress.
    pub fn raise_flag(&self) {
        if let Some(page) = &self.state.lock().flag {
            page.flag().store(1, Ordering::SeqCst);
        }
    }

    /// Lets KVM_RUN enter the guest. Look at the pins after this, not before.
    pub fn lower_flag(&self) {
        if let Some(page) = &self.state.lock().flag {
            page.flag().store(0, Ordering::SeqCst);
        }
    }

    /// The vCPU goes away; ringing does nothing from now on.
    pub fn close(&self) {
        self.state.lock().flag = None;
    }
}

impl Bell for KvmBell {
    fn ring(&self) {
        let state = self.state.lock();
        let Some(page) = &state.flag else { return };
        // If the flag was up already, the one who raised it has sent the signal too.
        if page.flag().swap(1, Ordering::SeqCst) == 0
            && let Some(thread) = state.inside
        {
            // SAFETY: `thread` is alive: it takes the lock in `leave` before it can end.
            unsafe { libc::pthread_kill(thread, signal()) };
        }
    }
}

/// A real-time signal nobody else uses; its only effect is to interrupt KVM_RUN.
fn signal() -> libc::c_int {
    libc::SIGRTMIN() + 5
}

extern "C" fn nothing(_signal: libc::c_int) {}

fn install_handler() -> io::Result<()> {
    static INSTALL: Once = Once::new();
    let mut result = Ok(());
    INSTALL.call_once(|| {
        // SAFETY: all-zero bytes are a valid sigaction (no flags, empty mask).
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = nothing as extern "C" fn(libc::c_int) as usize;
        // KVM_RUN is never restarted; files and sockets that the thread serves between two runs are.
        action.sa_flags = libc::SA_RESTART;
        // SAFETY: the handler does nothing, so it is safe at any point of any thread.
        if unsafe { libc::sigaction(signal(), &action, std::ptr::null_mut()) } != 0 {
            result = Err(io::Error::last_os_error());
        }
    });
    result
}

fn unblock_signal() {
    thread_local! {
        static DONE: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
    }
    DONE.with(|done| {
        if done.replace(true) {
            return;
        }
        // SAFETY: the set is initialised by sigemptyset before it is used.
        unsafe {
            let mut set: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&mut set);
            libc::sigaddset(&mut set, signal());
            libc::pthread_sigmask(libc::SIG_UNBLOCK, &set, std::ptr::null_mut());
        }
    });
}
