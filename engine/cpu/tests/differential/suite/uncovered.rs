//! Why a form the software CPU offers is in no case that ran to its end on an oracle, and what looks at it instead.

use iced_x86::{Code, Instruction, Mnemonic};

use super::masks::why_not_on_host;

/// The reason; `only_faulted` if cases with it agreed, but on an exception alone.
pub fn reason(code: Code, only_faulted: bool) -> &'static str {
    use Mnemonic::*;
    let mut instruction = Instruction::default();
    instruction.set_code(code);
    match instruction.mnemonic() {
        Insb | Insw | Insd | Outsb | Outsw | Outsd | In | Out => {
            "I/O: user mode has the exception alone (agreed), and KVM has no device here; tests/guests, kvm-unit-tests"
        }
        Hlt | Cli | Sti | Invd | Wbinvd | Wbnoinvd | Invlpg | Invpcid | Rdpmc | Swapgs | Clac | Stac
            if only_faulted =>
        {
            "privileged: user mode has the exception alone (agreed); soft/tests, tests/guests, kvm-unit-tests"
        }
        Monitor | Mwait => "privileged, and waits for what nobody does; soft/tests/mwait.rs",
        Cpuid => "answers what the model is; tests/guests/cpuid.asm",
        Rdtsc | Rdtscp | Rdrand | Rdseed | Rdpid => {
            "answers something else every time; soft/tests/features.rs"
        }
        Fnstenv | Fnsave | Fxsave | Fxsave64 | Xsave | Xsave64 | Xsaveopt | Xsaveopt64 | Xsavec
        | Xsavec64 | Xrstor | Xrstor64 => {
            "stores x87 pointers, which name the host's addresses, or depends on its XCR0; group silicon in 64-bit code"
        }
        Push => {
            "SDM 2B, PUSH: the upper half of a 32-bit push of a segment register is the model's; soft/tests"
        }
        Bswap => "SDM 2A, BSWAP: the result of a 16-bit swap is undefined",
        Ud0 | Ud1 | Ud2 => "an exception is all there is (agreed)",
        Sgdt | Sidt | Sldt | Str | Smsw => "UMIP: Linux emulates it in user mode; tests/guests, groups kvm-*",
        _ if why_not_on_host(&instruction).is_some() => {
            "enters, leaves or depends on the host's kernel; groups kvm-*, tests/guests/rings64.asm"
        }
        _ if only_faulted => {
            "in user mode, on the segments and pages there are, an exception is all there is (agreed)"
        }
        _ => "chance has not made it run to its end: more cases would",
    }
}
