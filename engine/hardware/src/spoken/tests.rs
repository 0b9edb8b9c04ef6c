//! Tables: what is read on the bus, and how it reads.

use super::{Access, Context, speak};
use crate::access::Width;
use crate::bus::Space;

struct Speaker {
    context: Context,
    device: &'static str,
    window: u8,
    base: u64,
    space: Space,
}

impl Speaker {
    fn new(device: &'static str, window: u8, base: u64, space: Space) -> Speaker {
        Speaker { context: Context::default(), device, window, base, space }
    }

    fn says(&mut self, address: u64, bytes: usize, value: u64, write: bool) -> String {
        let width = Width::from_bytes(bytes).unwrap();
        let Speaker { device, window, space, base, .. } = *self;
        let access = Access { device, window, offset: address - base, space, address, width, value, write };
        let context = self.context.follow(&access);
        speak(&access, context)
    }

    /// `out`, a byte.
    fn out(&mut self, port: u64, value: u64) -> String {
        self.says(port, 1, value, true)
    }

    /// `in`, a byte.
    fn reads(&mut self, port: u64, value: u64) -> String {
        self.says(port, 1, value, false)
    }
}

#[test]
fn an_8254_is_programmed_and_read() {
    // 8254 datasheet, control word format and read-back command.
    let mut pit = Speaker::new("8254", 0, 0x40, Space::Port);
    assert_eq!(pit.out(0x40, 1), "8254: channel 0, count 0x01", "the access mode is not known yet");
    for (port, value, words) in [
        (0x43, 0x34, "channel 0, mode 2, low then high byte"),
        (0x40, 0x9C, "channel 0, count, low byte 0x9c"),
        (0x40, 0x2E, "channel 0, count, high byte 0x2e"),
        (0x40, 0x01, "channel 0, count, low byte 0x01"),
        (0x43, 0xB6, "channel 2, mode 3 (square wave), low then high byte"),
        (0x43, 0x00, "channel 0, latch the count"),
        (0x43, 0x51, "channel 1, mode 0 (interrupt on terminal count), low byte only, BCD"),
        (0x41, 0x12, "channel 1, count, low byte 0x12"),
        (0x43, 0xE2, "read back status of channel 0"),
        (0x43, 0xCC, "read back count and status of channel 1 and 2"),
    ] {
        assert_eq!(pit.out(port, value), format!("8254: {words}"));
    }
    let mut speaker = Speaker::new("8254", 1, 0x61, Space::Port);
    assert_eq!(speaker.out(0x61, 3), "port 61: channel 2 gate on, speaker on");
    assert_eq!(speaker.reads(0x61, 0x10), "port 61: refresh toggle");
}

#[test]
fn an_8259_is_initialised_masked_and_told_the_end() {
    // 8259A datasheet, figures 7 and 8.
    let mut pic = Speaker::new("interrupts", 0, 0x20, Space::Port);
    for (port, value, words) in [
        (0x20, 0x11, "ICW1, initialise: cascaded, edge, ICW4 follows"),
        (0x21, 0xFB, "mask 0xfb, IRQ 0 1 3 4 5 6 7 masked"),
        (0x21, 0x00, "mask 0x00, no line masked"),
        (0x20, 0x20, "end of interrupt"),
        (0x20, 0x66, "end of interrupt of IRQ 6"),
        (0x20, 0x0B, "OCW3, read ISR next"),
        (0x20, 0x68, "OCW3, special mask mode on"),
    ] {
        assert_eq!(pic.out(port, value), format!("8259 master: {words}"));
    }
    let mut slave = Speaker::new("interrupts", 1, 0xA0, Space::Port);
    assert_eq!(slave.out(0xA0, 0x60), "8259 slave: end of interrupt of IRQ 8");
}

#[test]
fn apics_name_their_registers() {
    // 82093AA §3.2.4; SDM 3A table 12-1 and figure 12-8.
    let mut ioapic = Speaker::new("interrupts", 3, 0xFEC0_0000, Space::Memory);
    ioapic.says(0xFEC0_0000, 4, 0x14, true);
    assert_eq!(
        ioapic.says(0xFEC0_0010, 4, 0xA931, true),
        "I/O APIC: input 2: vector 0x31, lowest priority, level, open"
    );
    ioapic.says(0xFEC0_0000, 4, 0x15, true);
    assert_eq!(ioapic.says(0xFEC0_0010, 4, 0x0300_0000, true), "I/O APIC: input 2 goes to APIC 3");
    let mut lapic = Speaker::new("interrupts", 4, 0xFEE0_0000, Space::Memory);
    for (offset, value, write, words) in [
        (0x0B0, 0, true, "end of interrupt"),
        (0x300, 0xC_4620, true, "command: send STARTUP 0x20 to all others"),
        (0x320, 0x2_00EC, true, "LVT timer: vector 0xec, periodic"),
        (0x380, 62_500, true, "timer starts from 62500"),
        (0x020, 0x0100_0000, false, "ID = 0x01000000"),
        (0x230, 0, false, "requested, vectors 96 to 127 = 0x00000000"),
    ] {
        assert_eq!(lapic.says(0xFEE0_0000 + offset, 4, value, write), format!("local APIC: {words}"));
    }
}

#[test]
fn an_index_says_what_data_means() {
    // MC146818A figures 10 to 14; VGA technical reference; PCI 3.0 §3.2.2.3.2.
    let mut rtc = Speaker::new("mc146818", 0, 0x70, Space::Port);
    assert_eq!(rtc.reads(0x71, 0), "RTC: a register chosen before the trace began = 0x00");
    assert_eq!(rtc.out(0x70, 0x8A), "RTC: choose register A, NMI off");
    assert_eq!(rtc.reads(0x71, 0x26), "RTC: register A = 0x26: periodic rate 1024 Hz");
    rtc.out(0x70, 0x0B);
    assert_eq!(rtc.out(0x71, 0x42), "RTC: register B := 0x42: periodic interrupt, 24 hours");

    let mut vga = Speaker::new("vga", 1, 0x3C0, Space::Port);
    assert_eq!(vga.says(0x3D4, 2, 0x1E0C, true), "VGA: CRTC start address, high := 0x1e");
    assert_eq!(vga.out(0x3D5, 2), "VGA: CRTC start address, high := 0x02");
    assert_eq!(vga.reads(0x3DA, 8), "VGA: input status 1 = 0x08: vertical retrace");
    assert_eq!(vga.out(0x3C0, 0x30), "VGA: choose attribute mode, screen on");
    assert_eq!(vga.out(0x3C0, 0x41), "VGA: attribute mode := 0x41");
    let mut vbe = Speaker::new("vga", 2, 0x1CE, Space::Port);
    assert_eq!(vbe.says(0x1CE, 2, 1, true), "VGA: choose VBE width");
    assert_eq!(vbe.says(0x1CF, 2, 1024, true), "VGA: VBE width := 0x0400");

    let mut pci = Speaker::new("pci", 0, 0xCF8, Space::Port);
    assert_eq!(pci.says(0xCF8, 4, 0x8000_0904, true), "PCI: choose 00:01.1 (IDE) command and status");
    assert_eq!(pci.says(0xCFE, 2, 0x280, false), "PCI: 00:01.1 (IDE) command and status +2 = 0x0280");

    let mut config = Speaker::new("fw_cfg", 0, 0x510, Space::Port);
    assert_eq!(config.says(0x510, 2, 0x19, true), "fw_cfg: choose file directory");
    assert_eq!(config.reads(0x511, 7), "fw_cfg: byte of file directory = 0x07");
}

#[test]
fn keyboard_serial_and_dma_speak() {
    // PS/2 reference; PC16550D tables II and III; 8237A figure 6.
    let mut keyboard = Speaker::new("8042", 0, 0x60, Space::Port);
    assert_eq!(keyboard.out(0x64, 0xD1), "8042: command 0xd1, write the output port");
    assert_eq!(keyboard.out(0x60, 0xDF), "8042: output port 0xdf, A20 open");
    assert_eq!(keyboard.out(0x60, 0xED), "8042: to the keyboard 0xed, set the lamps");
    assert_eq!(keyboard.reads(0x64, 0x1D), "8042: status 0x1d, output full");
    assert_eq!(keyboard.reads(0x60, 0x9C), "8042: data 0x9c, scan code, key released");

    let mut uart = Speaker::new("com1", 0, 0x3F8, Space::Port);
    assert_eq!(uart.out(0x3F8, 0x41), "16550: sends 'A'");
    assert_eq!(
        uart.out(0x3FB, 0x83),
        "16550: line control := 0x83: 8 data, no parity, 1 stop, divisor latch open"
    );
    assert_eq!(uart.out(0x3F8, 0x0C), "16550: divisor, low := 0x0c: 9600 baud if the high byte is 0");
    assert_eq!(uart.reads(0x3FD, 0x60), "16550: status 0x60, can take a byte, idle");

    let mut dma = Speaker::new("8237", 0, 0, Space::Port);
    assert_eq!(dma.out(0x0B, 0x46), "8237: channel 2, single, to memory");
    assert_eq!(dma.out(0x0A, 0x02), "8237: channel 2 open");
    assert_eq!(dma.out(0xD4, 0x01), "8237: channel 5 open");
    assert_eq!(dma.out(0x81, 0x09), "8237: channel 2, page := 0x09");
}

#[test]
fn disks_network_and_virtio_speak() {
    // ATA/ATAPI-6 clause 8; 82077AA table 5-1; 8254x SDM table 13-2; virtio 1.2 §4.1.4.
    let mut ide = Speaker::new("ide", 0, 0x1F0, Space::Port);
    assert_eq!(ide.out(0x1F7, 0xC8), "IDE 0: command 0xc8, READ DMA");
    assert_eq!(ide.reads(0x1F7, 0x58), "IDE 0: status 0x58, ready, data wait");
    let mut second = Speaker::new("ide", 3, 0x376, Space::Port);
    assert_eq!(second.reads(0x376, 0x80), "IDE 1: alternate status 0x80, busy");
    let mut master = Speaker::new("ide", 4, 0xC000, Space::Port);
    assert_eq!(master.out(0xC000, 9), "IDE 0: DMA command := 0x09: start, to memory");
    let mut ahci = Speaker::new("ahci", 0, 0xE000_0000, Space::Memory);
    assert_eq!(ahci.says(0xE000_01B8, 4, 1, true), "AHCI: port 1, commands issued := 0x00000001");
    let mut floppy = Speaker::new("floppy", 0, 0x3F2, Space::Port);
    assert_eq!(floppy.reads(0x3F4, 0x80), "82077: status 0x80, ready for a byte");
    assert_eq!(floppy.out(0x3F5, 0xE6), "82077: byte 0xe6, READ DATA if it begins a command");
    let mut card = Speaker::new("e1000", 0, 0xE000_0000, Space::Memory);
    assert_eq!(card.says(0xE000_3818, 4, 5, true), "E1000: TDT, transmit tail := 0x00000005");
    let mut virtio = Speaker::new("virtio-disk0", 0, 0xE001_0000, Space::Memory);
    assert_eq!(virtio.says(0xE001_3004, 2, 1, true), "virtio-disk0: notify queue 1");
    assert_eq!(
        virtio.says(0xE001_0014, 1, 0xF, true),
        "virtio-disk0: status := 0x0f: acknowledge, driver, driver OK, features OK"
    );
}

#[test]
fn power_and_single_ports_speak_and_the_rest_is_said_plainly() {
    // PIIX4 §7.1; PS/2 reference; PIIX3 §2.5.4.1.
    let mut power = Speaker::new("piix4-pm", 0, 0x600, Space::Port);
    assert_eq!(power.says(0x604, 2, 0x2000, true), "ACPI PM: PM1 control: sleep, type 0");
    assert_eq!(power.says(0x608, 4, 1234, false), "ACPI PM: timer stands at 1234");
    let mut gate = Speaker::new("port92", 0, 0x92, Space::Port);
    assert_eq!(gate.out(0x92, 2), "port 92: system control := 0x02: A20 open");
    let mut debug = Speaker::new("debug", 0, 0x80, Space::Port);
    assert_eq!(debug.out(0x80, 0x31), "POST: code 0x31");
    let mut reset = Speaker::new("piix3", 0, 0xCF9, Space::Port);
    assert_eq!(reset.out(0xCF9, 6), "PIIX3: reset control := 0x06: hard reset");
    let mut nobody = Speaker::new("", 0, 0, Space::Port);
    assert_eq!(nobody.reads(0x2F8, 0xFF), "nobody: in 0x2f8 = 0xff");
    let mut other = Speaker::new("test", 0, 0xE0, Space::Port);
    assert_eq!(other.out(0xE0, 1), "test: port 0xe0 := 0x01");
}

#[test]
fn an_hpet_in_words() {
    let say = |offset: u64, width, value, write| {
        let address = 0xFED0_0000 + offset;
        let access =
            Access { device: "hpet", window: 0, offset, space: Space::Memory, address, width, value, write };
        speak(&access, 0)
    };
    assert_eq!(say(0xF0, Width::Dword, 7, false), "HPET: main counter, low half = 0x00000007");
    assert_eq!(
        say(0x10, Width::Qword, 3, true),
        "HPET: configuration := 0x0000000000000003: counts, in the places of the 8254 and the RTC"
    );
    assert_eq!(
        say(0x100, Width::Dword, 0x14C, true),
        "HPET: timer 0, configuration, low half := 0x0000014c: interrupts, periodic, value to be set, 32 bits"
    );
    assert_eq!(say(0x128, Width::Qword, 0x10, true), "HPET: timer 1, comparator := 0x0000000000000010");
    assert_eq!(say(0x20, Width::Dword, 2, true), "HPET: interrupt status, low half := 0x00000002: timer 1");
}

#[test]
fn no_access_is_beyond_words() {
    let names = [
        "8254",
        "interrupts",
        "mc146818",
        "hpet",
        "8042",
        "8237",
        "com1",
        "vga",
        "ide",
        "ahci",
        "floppy",
        "pci",
        "fw_cfg",
        "piix4-pm",
        "e1000",
        "virtio-net",
        "sb16",
        "opl3",
        "piix3",
        "port92",
        "debug",
        "",
        "a device of tomorrow",
    ];
    let mut context = Context::default();
    for device in names {
        for space in [Space::Port, Space::Memory] {
            for address in (0..0x1_0000).step_by(7).chain([0xFEC0_0010, 0xFEE0_0FF0, u64::MAX]) {
                for (window, width, write) in [
                    (0, Width::Byte, true),
                    (3, Width::Word, false),
                    (4, Width::Dword, true),
                    (9, Width::Qword, false),
                ] {
                    let value = address.wrapping_mul(0x9E37_79B9) & width.ones();
                    let access = Access {
                        device,
                        window,
                        offset: address & 0xFFFF,
                        space,
                        address,
                        width,
                        value,
                        write,
                    };
                    let number = context.follow(&access);
                    assert!(speak(&access, number).contains(": "));
                }
            }
        }
    }
}
