//! Host exceptions in stubs. With unmasked numeric exceptions the host CPU itself decides whether #MF or #XM
//! is raised, before anything is written; the kernel tells us by SIGFPE, and the handler sends the stub to its
//! exit. SIGILL (a form the host does not know after all) likewise. Everything else goes where it went before.
//! A thread that runs a vCPU must not block these two signals.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicPtr, Ordering};

use super::code::{EXIT_SIMD, EXIT_UNDEFINED, EXIT_X87, slot_of};

/// What was installed before, for SIGFPE and SIGILL; leaked, since handlers never go away.
static BEFORE: [AtomicPtr<libc::sigaction>; 2] =
    [AtomicPtr::new(std::ptr::null_mut()), AtomicPtr::new(std::ptr::null_mut())];

fn index(signal: libc::c_int) -> usize {
    usize::from(signal == libc::SIGILL)
}

/// Installs the handlers, once; whether that worked.
pub fn install() -> bool {
    static INSTALLED: OnceLock<bool> = OnceLock::new();
    *INSTALLED.get_or_init(|| [libc::SIGFPE, libc::SIGILL].into_iter().all(install_one))
}

fn install_one(signal: libc::c_int) -> bool {
    // SAFETY: all-zero is a valid sigaction; both structures live through the calls.
    unsafe {
        let mut before: libc::sigaction = std::mem::zeroed();
        if libc::sigaction(signal, std::ptr::null(), &mut before) != 0 {
            return false;
        }
        BEFORE[index(signal)].store(Box::into_raw(Box::new(before)), Ordering::Release);
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handle as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        libc::sigemptyset(&mut action.sa_mask);
        libc::sigaction(signal, &action, std::ptr::null_mut()) == 0
    }
}

/// Only loads, stores and (for foreign signals) sigaction: safe in a signal handler.
extern "C" fn handle(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: with SA_SIGINFO the kernel passes a valid context, which belongs to this handler.
    let registers = unsafe { &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs };
    let at = registers[libc::REG_RIP as usize] as usize;
    if let Some(slot) = slot_of(at) {
        let exit = match registers[libc::REG_TRAPNO as usize] {
            16 => EXIT_X87,
            19 => EXIT_SIMD,
            _ => EXIT_UNDEFINED,
        };
        registers[libc::REG_RIP as usize] = (slot + exit) as i64;
        return;
    }
    let before = BEFORE[index(signal)].load(Ordering::Acquire);
    // SAFETY: stored before the handler was installed, and never freed.
    let Some(before) = (unsafe { before.as_ref() }) else { return };
    match before.sa_sigaction {
        libc::SIG_DFL | libc::SIG_IGN => {
            // Not ours: as if we had never been here. The instruction faults again.
            // SAFETY: a sigaction of the kernel's own.
            unsafe { libc::sigaction(signal, before, std::ptr::null_mut()) };
        }
        handler if before.sa_flags & libc::SA_SIGINFO != 0 => {
            type Full = extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void);
            // SAFETY: installed as a three-argument handler.
            let handler: Full = unsafe { std::mem::transmute::<usize, Full>(handler) };
            handler(signal, info, context);
        }
        handler => {
            type Short = extern "C" fn(libc::c_int);
            // SAFETY: installed as a one-argument handler.
            let handler: Short = unsafe { std::mem::transmute::<usize, Short>(handler) };
            handler(signal);
        }
    }
}
