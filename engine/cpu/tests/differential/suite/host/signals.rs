//! Signal handlers: exceptions of a case go to `enter`, everything else where it went before.

use std::sync::Once;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::enter;

const SIGNALS: [i32; 7] =
    [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE, libc::SIGTRAP, libc::SIGSYS, libc::SIGPROF];

/// What was there before, by index in [`SIGNALS`].
static BEFORE: [AtomicUsize; 7] = [const { AtomicUsize::new(0) }; 7];
/// Case that runs, for whoever dies in it.
static CURRENT: AtomicU64 = AtomicU64::new(0);
/// Ticks of the interval timer since the case began.
static TICKS: AtomicU64 = AtomicU64::new(0);

/// Ticks (of 100 ms of processor time) a case may take.
const PATIENCE: u64 = 100;

/// Names the case that begins, for the message if the process dies of it.
pub fn begin(case: u64) {
    CURRENT.store(case, Ordering::Relaxed);
    TICKS.store(0, Ordering::Relaxed);
}

/// Says where it happened, without allocating.
fn die(what: &str) -> ! {
    let mut digits = [b' '; 21];
    let (mut at, mut left) = (20, CURRENT.load(Ordering::Relaxed));
    digits[20] = b'\n';
    loop {
        at -= 1;
        digits[at] = b'0' + (left % 10) as u8;
        left /= 10;
        if left == 0 {
            break;
        }
    }
    for text in [what.as_bytes(), &digits[at..]] {
        // SAFETY: a write of bytes we have.
        unsafe { libc::write(2, text.as_ptr().cast(), text.len()) };
    }
    // SAFETY: ends the process.
    unsafe { libc::abort() }
}

extern "C" fn handle(signal: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel's context; first thing in the handler.
    if unsafe { enter::take(signal, context) } {
        return;
    }
    match signal {
        libc::SIGPROF if TICKS.fetch_add(1, Ordering::Relaxed) < PATIENCE => return,
        libc::SIGPROF => die("the software CPU does not come back from case "),
        libc::SIGSEGV | libc::SIGBUS => die("the software CPU touched foreign memory in case "),
        _ => {}
    }
    let index = SIGNALS.iter().position(|&other| other == signal).unwrap_or(0);
    let before = BEFORE[index].load(Ordering::Acquire) as *const libc::sigaction;
    // SAFETY: leaked, and stored before the handler was installed.
    let before = unsafe { &*before };
    if before.sa_flags & libc::SA_SIGINFO == 0 {
        die("unexpected signal in case ");
    }
    type Full = extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void);
    // SAFETY: installed as a three-argument handler.
    let handler = unsafe { std::mem::transmute::<usize, Full>(before.sa_sigaction) };
    handler(signal, info, context);
}

/// Installs the handlers, once, over those of the software CPU (which must have its own already).
pub fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        for (index, signal) in SIGNALS.into_iter().enumerate() {
            // SAFETY: zeroed structures are valid; the old action is leaked.
            unsafe {
                let before = Box::leak(Box::new(std::mem::zeroed::<libc::sigaction>()));
                assert_eq!(libc::sigaction(signal, std::ptr::null(), before), 0);
                BEFORE[index].store(&raw const *before as usize, Ordering::Release);
                let mut action: libc::sigaction = std::mem::zeroed();
                action.sa_sigaction = handle as *const () as usize;
                action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART;
                libc::sigfillset(&mut action.sa_mask);
                for synchronous in [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE] {
                    libc::sigdelset(&mut action.sa_mask, synchronous);
                }
                assert_eq!(libc::sigaction(signal, &action, std::ptr::null_mut()), 0);
            }
        }
    });
}

/// Gives the calling thread a signal stack, which cases need (their own may be anywhere), and a timer of its own
/// processor time, which tells when something never ends. Handlers must be installed.
pub fn serve_thread() {
    const BYTES: usize = 256 << 10;
    let memory = Box::leak(vec![0u8; BYTES].into_boxed_slice());
    let stack = libc::stack_t { ss_sp: memory.as_mut_ptr().cast(), ss_flags: 0, ss_size: BYTES };
    // SAFETY: leaked memory of this size.
    assert_eq!(unsafe { libc::sigaltstack(&stack, std::ptr::null_mut()) }, 0);
    let tick = libc::timespec { tv_sec: 0, tv_nsec: 100_000_000 };
    let ticks = libc::itimerspec { it_interval: tick, it_value: tick };
    // SAFETY: zeroed structures are valid; the timer signals this thread and no other.
    unsafe {
        let mut event: libc::sigevent = std::mem::zeroed();
        event.sigev_signo = libc::SIGPROF;
        event.sigev_notify = libc::SIGEV_THREAD_ID;
        event.sigev_notify_thread_id = libc::gettid();
        let mut timer: libc::timer_t = std::mem::zeroed();
        assert_eq!(libc::timer_create(libc::CLOCK_THREAD_CPUTIME_ID, &mut event, &mut timer), 0);
        assert_eq!(libc::timer_settime(timer, 0, &ticks, std::ptr::null_mut()), 0);
    }
    // LSL of Linux's per-CPU segment answers the number of the CPU: let it be the first, as in the guest.
    // SAFETY: a zeroed set with one bit; where the first CPU may not be used nothing changes.
    unsafe {
        let mut first: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(0, &mut first);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &first);
    }
}
