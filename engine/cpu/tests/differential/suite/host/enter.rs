//! Into a case and back: all registers loaded, then a jump. Only an exception leads out; the signal handler keeps
//! what the registers are and returns to where `enter` was called.

use std::arch::{asm, naked_asm};
use std::mem::offset_of;
use std::sync::atomic::{AtomicBool, Ordering};

use super::control::{ADDRESS, Control, control};

/// Whether the control page is there.
pub static IS_MAPPED: AtomicBool = AtomicBool::new(false);

const DS_SELECTOR: i64 = 0x2B;
const CS_SELECTOR: i64 = 0x33;

/// Loads everything from the control page and jumps.
///
/// # Safety
/// The control page is there and describes code that cannot reach this process's memory.
#[unsafe(naked)]
pub unsafe extern "C" fn enter() {
    naked_asm!(
        "push rbx", "push rbp", "push r12", "push r13", "push r14", "push r15",
        "rdfsbase rax", "mov [{c} + {host_bases}], rax",
        "rdgsbase rax", "mov [{c} + {host_bases} + 8], rax",
        "mov [{c} + {host_stack}], rsp",
        "push qword ptr [{c} + {flags}]",
        "cmp byte ptr [{c} + {has_fpu}], 0",
        "je 2f",
        "mov eax, 7", "xor edx, edx", "xrstor64 [{c} + {fpu}]",
        "2:",
        "mov byte ptr [{c} + {running}], 1",
        "mov es, word ptr [{c} + {selectors}]",
        "mov ds, word ptr [{c} + {selectors} + 6]",
        "cmp byte ptr [{c} + {is_compatible}], 0",
        "je 3f",
        "mov fs, word ptr [{c} + {selectors} + 8]",
        "mov gs, word ptr [{c} + {selectors} + 10]",
        "jmp 4f",
        "3:",
        "mov rax, [{c} + {bases}]", "wrfsbase rax",
        "mov rax, [{c} + {bases} + 8]", "wrgsbase rax",
        "4:",
        "mov byte ptr [{c} + {blocked}], 1",
        "popfq",
        "mov rax, [{c} + {general}]", "mov rcx, [{c} + {general} + 8]",
        "mov rdx, [{c} + {general} + 16]", "mov rbx, [{c} + {general} + 24]",
        "mov rbp, [{c} + {general} + 40]", "mov rsi, [{c} + {general} + 48]",
        "mov rdi, [{c} + {general} + 56]", "mov r8, [{c} + {general} + 64]",
        "mov r9, [{c} + {general} + 72]", "mov r10, [{c} + {general} + 80]",
        "mov r11, [{c} + {general} + 88]", "mov r12, [{c} + {general} + 96]",
        "mov r13, [{c} + {general} + 104]", "mov r14, [{c} + {general} + 112]",
        "mov r15, [{c} + {general} + 120]",
        "mov ss, word ptr [{c} + {selectors} + 4]",
        "mov rsp, [{c} + {general} + 32]",
        "jmp fword ptr [{c} + {entry_far}]",
        c = const ADDRESS,
        host_bases = const offset_of!(Control, host_bases),
        host_stack = const offset_of!(Control, host_stack),
        flags = const offset_of!(Control, flags),
        has_fpu = const offset_of!(Control, has_fpu),
        fpu = const offset_of!(Control, fpu),
        running = const offset_of!(Control, running),
        is_compatible = const offset_of!(Control, is_compatible),
        selectors = const offset_of!(Control, selectors),
        bases = const offset_of!(Control, bases),
        blocked = const offset_of!(Control, blocked),
        general = const offset_of!(Control, general),
        entry_far = const offset_of!(Control, entry) + 4,
    )
}

/// Where the handler sends the processor: the end of `enter`.
#[unsafe(naked)]
unsafe extern "C" fn leave() {
    naked_asm!("pop r15", "pop r14", "pop r13", "pop r12", "pop rbp", "pop rbx", "ret")
}

/// Handles a signal that came out of a case; false if it did not. The first thing a handler does: it makes the
/// host's own segments and flags good again, so nothing before it may touch thread-local memory.
///
/// # Safety
/// `context` is what the kernel passed.
pub unsafe fn take(signal: i32, context: *mut libc::c_void) -> bool {
    let control = control();
    // SAFETY: the page is there as long as handlers are installed; the processor is in 64-bit code, whatever the
    // data segments are; FS and GS are the host's again before anything uses them.
    unsafe {
        asm!("pushfq", "and dword ptr [rsp], 0xFFFBFFFF", "popfq"); // alignment checks off
        if !IS_MAPPED.load(Ordering::Relaxed) || (*control).running == 0 {
            return false;
        }
        (*control).blocked = 0;
        (*control).running = 0;
        let after = &mut (*control).selectors_after;
        asm!("mov {0:x}, es", out(reg) after[0]);
        asm!("mov {0:x}, ds", out(reg) after[1]);
        asm!("mov {0:x}, fs", out(reg) after[2]);
        asm!("mov {0:x}, gs", out(reg) after[3]);
        let bases = &mut (*control).bases_after;
        asm!("rdfsbase {}", out(reg) bases[0]);
        asm!("rdgsbase {}", out(reg) bases[1]);
        let host = (*control).host_bases;
        asm!("mov fs, {0:e}", "mov gs, {0:e}", "wrfsbase {1}", "wrgsbase {2}",
            in(reg) 0, in(reg) host[0], in(reg) host[1]);
        let machine = &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext;
        (*control).after = machine.gregs;
        (*control).signal = signal;
        let fpu = machine.fpregs.cast::<u8>();
        if (*control).has_fpu != 0 {
            fpu.copy_to((&raw mut (*control).fpu_after).cast(), 832);
        }
        // FCW, FSW, FTW and MXCSR as the ABI wants them
        fpu.cast::<u32>().write(0x37F);
        fpu.add(4).cast::<u16>().write(0);
        fpu.add(24).cast::<u32>().write(0x1F80);
        machine.gregs[libc::REG_RIP as usize] = leave as *const () as i64;
        machine.gregs[libc::REG_RSP as usize] = (*control).host_stack as i64;
        machine.gregs[libc::REG_EFL as usize] = 0x202;
        machine.gregs[libc::REG_CSGSFS as usize] = CS_SELECTOR | DS_SELECTOR << 48;
    }
    true
}
