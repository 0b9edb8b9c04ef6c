//! The directed guests of `tests/guests` on every platform: the same registers, the same stops, the same devices.
//!
//! A guest checks what it sees and ends by the debug-exit port with 0, or with the number of the check that
//! failed. One list runs on all platforms; where a platform is left out, the list says why.

use std::cell::RefCell;
use std::sync::Mutex;

use cpu::registers::{general, segment};
use engine::backend::kvm::speed;
use engine::backend::{Backend, InterruptMode};
use engine::profile::{Network, Paravirtual, Profile};
use engine::sound::SoundCards;
use engine::{Ending, Key};
use machine_tests::{Guest, Platform, SOFT, assembler, kvm, platforms};

const KERNEL: &[Platform] = &[kvm(InterruptMode::Kernel)];

/// One guest: where it does not run, and why.
struct Case {
    name: &'static str,
    left_out: &'static [(&'static [Platform], &'static str)],
}

/// Guests that use what an interpreting KVM (a host that is itself virtual) cannot do: exceptions and IRET in
/// protected mode, task switches, newer instructions.
const DEMANDING: &[&str] = &[
    "breakpoints",
    "code_pages",
    "code_stores",
    "cpuid",
    "gates",
    "ioapic",
    "lapic",
    "long",
    "nested",
    "nmi",
    "pae",
    "pages64",
    "paging",
    "protected",
    "restart",
    "rings",
    "rings64",
    "single_step",
    "steps",
    "strings",
    "task",
    "translations",
    "v8086",
    "watchpoints",
];

/// Whether the host's KVM interprets instructions.
fn kvm_interprets() -> bool {
    let choice = speed::choose(Backend::Kvm, false).ok();
    choice.and_then(|choice| choice.kvm_instructions_per_second).is_some_and(|n| n < speed::INTERPRETED_BELOW)
}

/// Seconds until a guest is taken to hang; many tests share the host.
const PATIENCE: u64 = 60;

/// Test programs take the host's time in turns: guests that keep time want a processor.
static TURN: Mutex<()> = Mutex::new(());

impl Case {
    /// Runs `act` with the guest on each platform it runs on.
    fn each(&self, profile: impl Fn() -> Profile, act: impl Fn(&Guest, Platform)) {
        let code = assembler::binary(self.name);
        let _turn = TURN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        for platform in platforms() {
            if let Some((_, why)) = self.left_out.iter().find(|(out, _)| out.contains(&platform)) {
                println!("skipped: {} on {platform:?}: {why}", self.name);
                continue;
            }
            act(&Guest::flat_in(profile(), &code, platform), platform);
        }
    }

    fn pass(&self) {
        self.pass_in(|| Profile::new("guest"));
    }

    /// Passes in the machine of `profile`; where KVM interprets, a demanding guest may end at an instruction that
    /// KVM itself says it cannot do.
    fn pass_in(&self, profile: impl Fn() -> Profile) {
        self.each(profile, |guest, platform| {
            let may_stop =
                platform.backend == Backend::Kvm && DEMANDING.contains(&self.name) && kvm_interprets();
            match may_stop.then(|| self.gap(guest)).flatten() {
                Some(gap) => println!("skipped: {} on {platform:?}, which interprets: {gap}", self.name),
                None => guest.wait_pass(PATIENCE),
            }
        });
    }

    /// What KVM could not do for this guest, which has ended for it.
    fn gap(&self, guest: &Guest) -> Option<String> {
        match guest.wait_end(PATIENCE) {
            Ending::Failed(why) if why.contains("KVM cannot emulate the guest's instruction") => Some(why),
            Ending::DebugExit(UNEXPECTED_FAULT) => {
                let registers = guest.session().registers(0)?;
                let [vector, error_code, at] =
                    [general::RBP, general::RCX, general::RBX].map(|index| registers.general[index]);
                let code = assembler::binary(self.name);
                let instruction = code.get(usize::try_from(at).ok()?.checked_sub(LOAD_ADDRESS)?..)?;
                let refused = vector == 13 && error_code == 0 && instruction.starts_with(&MOV_CR0_EAX);
                refused
                    .then(|| format!("#GP(0) for MOV CR0, EAX at {at:#x}, which sets PG outside long mode"))
            }
            Ending::DebugExit(value) => {
                let gap = GAPS.iter().find(|(end, _)| *end == value)?;
                Some(gap.1.to_owned())
            }
            _ => None,
        }
    }
}

/// How a guest ends that has found one of these, which the architecture does not allow and interpreting KVMs do.
const GAPS: &[(u8, &str)] = &[
    (251, "data breakpoints are not looked at"),
    (252, "a write across two pages is made in the first before the second one faults"),
    (253, "an interrupt comes later than one instruction after STI"),
];
/// How a guest in protected mode ends on a fault it does not expect: EBP, ECX and EBX tell of it (protected.inc).
const UNEXPECTED_FAULT: u8 = 255;
/// Where guests are loaded.
const LOAD_ADDRESS: usize = 0x7C00;
/// MOV CR0, EAX. Some KVMs know paging in long mode alone, and refuse it before.
const MOV_CR0_EAX: [u8; 3] = [0x0F, 0x22, 0xC0];

/// One test per guest. A guest in brackets has its test further down.
macro_rules! guests {
    ($($(#[$own:ident])? $name:ident $(: $(not on $out:ident, because $why:literal)+)?;)*) => {
        /// All guests.
        const TABLE: &[Case] = &[
            $(Case { name: stringify!($name), left_out: &[$($(($out, $why)),+)?] }),*
        ];
        mod run {
            $(guests!(@test $($own)? $name);)*
        }
    };
    (@test own $name:ident) => {};
    (@test $name:ident) => {
        #[test]
        fn $name() {
            super::case(stringify!($name)).pass();
        }
    };
}

fn case(name: &str) -> &'static Case {
    TABLE.iter().find(|case| case.name == name).expect("the guest is in the table")
}

guests! {
    a20;
    breakpoints;
    calls;
    #[own] code_dma;
    code_pages;
    code_stores;
    cpuid;
    dma;
    #[own] fill_disk;
    gates;
    ide_absent;
    #[own] ide_disk;
    ioapic;
    #[own] keyboard;
    lapic;
    #[own] litmus;
    #[own] litmus64;
    long;
    nested;
    nmi;
    pae;
    pages64;
    paging;
    #[own] pci;
    pic;
    pic_special: not on KERNEL, because "the kernel's 8259A keeps special mask mode without acting on it, and a poll there puts nothing in service";
    pic_withdrawn: not on KERNEL, because "the kernel's 8259A keeps a request whose line fell";
    pit: not on KERNEL, because "the kernel's 8254 tells no null count";
    #[own] power_off;
    protected;
    #[own] registers;
    #[own] reset_8042;
    #[own] reset_92;
    #[own] reset_cf9;
    restart;
    rings;
    rings64;
    rtc;
    self_modifying;
    single_step;
    #[own] smp;
    steps;
    strings;
    task;
    translations;
    #[own] triple_fault;
    #[own] uart;
    v8086;
    #[own] vbe;
    #[own] vga_13h;
    #[own] vga_planar;
    watchpoints;
}

#[test]
fn every_source_is_in_the_table() {
    let table: Vec<&str> = TABLE.iter().map(|case| case.name).collect();
    assert_eq!(assembler::names(), table);
}

#[test]
fn binaries_are_what_nasm_makes_of_the_sources() {
    for case in TABLE {
        let Some(assembled) = assembler::assemble(case.name) else { return };
        assert!(assembled == assembler::binary(case.name), "{0}.bin is not what {0}.asm says", case.name);
    }
}

#[test]
fn uart() {
    case("uart").each(
        || Profile::new("uart"),
        |guest, platform| {
            guest.wait_pass(PATIENCE);
            assert_eq!(guest.serial(), "Hello from the UART\n", "{platform:?}");
        },
    );
}

/// The software CPU has both things it is about, whatever the default model.
#[test]
fn giant_pages_and_contexts() {
    let guest = Guest::flat_in(Profile::new("pages64"), &assembler::binary("pages64"), SOFT);
    guest.wait_pass(PATIENCE);
    assert_eq!(guest.debug_console(), "1 GiB pages, contexts");
}

#[test]
fn keyboard() {
    case("keyboard").each(
        || Profile::new("keyboard"),
        |guest, _| {
            guest.wait_until(PATIENCE, "the guest's wish", || guest.debug_console().contains("key?"));
            guest.session().key(Key::A, true);
            std::thread::sleep(std::time::Duration::from_millis(100));
            guest.session().key(Key::A, false);
            guest.wait_pass(PATIENCE);
        },
    );
}

#[test]
fn pci() {
    const FUNCTIONS: &str =
        "00.0 8086:1237\n01.0 8086:7000\n01.1 8086:7010\n01.3 8086:7113\n02.0 1234:1111\n";
    case("pci").each(
        || Profile {
            paravirtual: Paravirtual::NONE,
            network: Network::None,
            sound: SoundCards::NONE,
            ..Profile::new("pci")
        },
        |guest, platform| {
            guest.wait_pass(PATIENCE);
            assert_eq!(guest.debug_console(), FUNCTIONS, "{platform:?}");
        },
    );
}

/// A machine with a disk of 1 MiB, which begins as `sectors` say.
fn with_disk(disk: &RefCell<tempfile::NamedTempFile>, sectors: &[(usize, &[u8])]) -> Profile {
    // One for each platform: the machine before may not have let go of its own yet.
    *disk.borrow_mut() = tempfile::NamedTempFile::new().expect("a temporary file");
    let path = disk.borrow().path().to_owned();
    let mut content = vec![0; 1 << 20];
    for &(sector, bytes) in sectors {
        content[sector * 512..][..bytes.len()].copy_from_slice(bytes);
    }
    std::fs::write(&path, &content).expect("room for a small disk");
    let mut profile = Profile::new("disk");
    profile.disks = vec![path];
    profile
}

#[test]
fn ide_disk() {
    let disk = RefCell::new(tempfile::NamedTempFile::new().expect("a temporary file"));
    case("ide_disk").each(
        || with_disk(&disk, &[(0, b"VITRINE")]),
        |guest, platform| {
            guest.wait_pass(PATIENCE);
            let written = std::fs::read(disk.borrow().path()).expect("the disk");
            assert_eq!(written[5 * 512..5 * 512 + 4], 0xFEED_C0DEu32.to_le_bytes(), "{platform:?}");
        },
    );
}

#[test]
fn fill_disk() {
    let disk = RefCell::new(tempfile::NamedTempFile::new().expect("a temporary file"));
    case("fill_disk").each(
        || with_disk(&disk, &[]),
        |guest, platform| {
            guest.wait_pass(PATIENCE);
            let written = std::fs::read(disk.borrow().path()).expect("the disk");
            let good =
                |(n, sector): (usize, &[u8])| sector.chunks(2).all(|word| word == (n as u16).to_le_bytes());
            assert!(written.chunks(512).enumerate().all(good), "{platform:?}");
        },
    );
}

#[test]
fn code_dma() {
    let disk = RefCell::new(tempfile::NamedTempFile::new().expect("a temporary file"));
    let routine = |byte: u8| [0x66, 0xB8, byte, byte, byte, byte, 0xCB]; // MOV EAX, imm32; RETF
    let (first, second) = (routine(0x11), routine(0x22));
    case("code_dma").pass_in(|| with_disk(&disk, &[(1, &first), (2, &second)]));
}

/// What a 6-bit colour value is on a screen of 8 bits: the top bits again.
fn six_bits(value: u32) -> u32 {
    value << 2 | value >> 4
}

/// Compares the last frame with `colour` of each pixel (column, line) of a `width` x `height` picture.
fn check_frame(guest: &Guest, width: u32, height: u32, colour: impl Fn(u32, u32) -> u32) {
    guest.wait_pass(PATIENCE);
    let frame = guest.session().frame();
    let (columns, lines) = (frame.width / width, frame.height / height);
    assert_eq!((frame.width, frame.height), (width * columns, height * lines), "whole repeats");
    for (at, &pixel) in (0_u32..).zip(&frame.pixels) {
        let (x, y) = (at % frame.width / columns, at / frame.width / lines);
        assert_eq!(pixel, colour(x, y), "pixel {x}, {y}");
    }
}

#[test]
fn vga_planar() {
    let profile = || Profile::new("planar");
    case("vga_planar").each(profile, |guest, _| {
        check_frame(guest, 640, 480, |x, y| {
            let index = if y < 64 { (x / 8 + y) % 16 } else { 0 };
            let bits = if index & 8 != 0 { !index } else { index };
            let part = |bit: u32| (bits >> bit & 1) * 0xFF;
            part(0) << 16 | part(1) << 8 | part(2)
        });
    });
}

#[test]
fn vga_13h() {
    let profile = || Profile::new("13h");
    case("vga_13h").each(profile, |guest, _| {
        check_frame(guest, 320, 200, |x, y| {
            let index = (y * 320 + x) % 256;
            six_bits(index / 4) << 16 | six_bits(63 - index / 4) << 8 | six_bits(index % 64)
        });
    });
}

#[test]
fn vbe() {
    let profile = || Profile::new("vbe");
    case("vbe").each(profile, |guest, _| {
        check_frame(guest, 320, 240, |x, y| (y * 320 + x).wrapping_mul(0x01_0203) & 0xFF_FFFF);
    });
}

#[test]
fn power_off() {
    let profile = || Profile::new("off");
    case("power_off").each(profile, |guest, platform| {
        let ending = guest.wait_end(PATIENCE);
        assert_eq!((ending, guest.debug_console().as_str()), (Ending::PoweredOff, "off"), "{platform:?}");
    });
}

/// A guest that resets the machine and says so before and after.
fn resets(name: &str) {
    case(name).each(
        || Profile::new("reset"),
        |guest, platform| {
            guest.wait_pass(PATIENCE);
            assert_eq!(guest.debug_console(), "once again", "{platform:?}");
        },
    );
}

#[test]
fn reset_cf9() {
    resets("reset_cf9");
}

#[test]
fn reset_8042() {
    resets("reset_8042");
}

#[test]
fn reset_92() {
    resets("reset_92");
}

#[test]
fn triple_fault() {
    let profile = || Profile::new("crash");
    case("triple_fault").each(profile, |guest, platform| {
        let Ending::Crashed(crash) = guest.wait_end(PATIENCE) else {
            panic!("{platform:?}: {:?}", guest.session().state());
        };
        let registers = &crash.registers;
        let fatal = registers.general[general::RBX];
        assert_eq!(registers.general[general::RAX], 0x1234_5678, "{platform:?}");
        assert_eq!((registers.rip, registers.rip % 16), (fatal, 0), "{platform:?}: at UD2 itself");
        assert_eq!(
            (&crash.code[..2], crash.instruction.as_str()),
            (&[0x0F, 0x0B][..], "ud2"),
            "{platform:?}"
        );
        assert_eq!(registers.segments[segment::CS].selector, 8, "{platform:?}");
        // KVM does not tell how it came to the shutdown; the software CPU does.
        let vectors: Vec<u8> = crash.faults.iter().map(|fault| fault.vector).collect();
        if platform.backend == Backend::Soft {
            // #UD, then #GP on its way (a benign and a contributory fault: served in turn), #GP on the
            // way to that: a double fault, and #GP on the way to it.
            assert_eq!(vectors, [6, 13, 13, 8, 13]);
        }
    });
}

/// Where the guest `registers` is behind its last OUT: CLI, HLT and a jump back to CLI follow, the last four bytes.
fn end_address() -> u64 {
    (LOAD_ADDRESS + assembler::binary("registers").len() - 4) as u64
}

/// All registers of all backends, whole: hidden parts of segments, tables, control and debug registers, MSRs, x87.
#[test]
fn registers() {
    let (all, end) = (RefCell::new(Vec::new()), end_address());
    case("registers").each(
        || Profile::new("registers"),
        |guest, platform| {
            guest.wait_pass(PATIENCE);
            let last = guest.session().registers(0).expect("the last registers");
            let mut registers = (*last).clone();
            registers.msrs.tsc_offset = 0; // of each backend's own clock
            registers.msrs.apic_base = 0; // whoever has the local APIC has it
            // CLI, HLT and a jump follow the OUT that ends it, and the end may find the guest there.
            let after = registers.rip - end;
            assert!(after <= 4, "{platform:?}: ended at {:#x}", registers.rip);
            (registers.rip, registers.halted) = (end, false);
            all.borrow_mut().push((platform, registers));
        },
    );
    let all = all.into_inner();
    let (first, registers) = &all[0];
    assert_eq!(registers.general[general::RBX], 0xBBBB_BBBB, "the guest's own end");
    for (platform, others) in &all[1..] {
        assert_eq!(others, registers, "{platform:?} and {first:?}");
    }
}
