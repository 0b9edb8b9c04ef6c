//! Every address, port and line of the board, in one place.

/// Physical addresses.
pub mod address {
    /// Start of the video memory window.
    pub const VGA_WINDOW: u64 = 0xA_0000;
    /// End of the video memory window, and start of the expansion ROM area.
    pub const EXPANSION_ROMS: u64 = 0xC_0000;
    /// The system BIOS below 1 MiB.
    pub const BIOS: u64 = 0xF_0000;
    /// End of the first megabyte.
    pub const MEGABYTE: u64 = 0x10_0000;
    /// Where RAM below 4 GiB ends at most; PCI memory windows follow.
    pub const LOW_RAM_END: u64 = 0xC000_0000;
    /// Start of the PCI memory window.
    pub const PCI_WINDOW: u64 = 0xE000_0000;
    /// The I/O APIC.
    pub const IOAPIC: u64 = 0xFEC0_0000;
    /// The HPET (IA-PC HPET Specification 1.0a, §3.2.4: the usual place).
    pub const HPET: u64 = 0xFED0_0000;
    /// The local APIC of whichever CPU looks.
    pub const LOCAL_APIC: u64 = 0xFEE0_0000;
    /// End of the PCI memory window's usable part.
    pub const PCI_WINDOW_END: u64 = IOAPIC;
    /// RAM that does not fit below [`LOW_RAM_END`] starts here.
    pub const HIGH_RAM: u64 = 0x1_0000_0000;
}

/// Legacy interrupt request lines (ISA IRQ = I/O APIC input, but for the 8254, which is input 2).
pub mod irq {
    /// 8254 channel 0.
    pub const TIMER: u32 = 0;
    /// PS/2 keyboard.
    pub const KEYBOARD: u32 = 1;
    /// Second serial port.
    pub const COM2: u32 = 3;
    /// NE2000 on ISA, as sold: there is no second serial port.
    pub const NE2000: u32 = 3;
    /// First serial port.
    pub const COM1: u32 = 4;
    /// Floppy controller.
    pub const FLOPPY: u32 = 6;
    /// Real-time clock.
    pub const RTC: u32 = 8;
    /// ACPI system control interrupt.
    pub const SCI: u32 = 9;
    /// PS/2 mouse.
    pub const MOUSE: u32 = 12;
    /// First IDE channel.
    pub const IDE_PRIMARY: u32 = 14;
    /// Second IDE channel.
    pub const IDE_SECONDARY: u32 = 15;
}

/// Ports that nothing but custom chose.
pub mod port {
    /// VMware's port of calls.
    pub const VMWARE: u64 = 0x5658;
    /// NE2000 on ISA, 32 of them.
    pub const NE2000: u64 = 0x300;
}

/// Slots of PCI bus 0, as (device, function).
pub mod pci {
    /// 440FX host bridge, 8086:1237.
    pub const HOST_BRIDGE: (u8, u8) = (0, 0);
    /// PIIX3 ISA bridge, 8086:7000.
    pub const ISA_BRIDGE: (u8, u8) = (1, 0);
    /// PIIX3 IDE, 8086:7010.
    pub const IDE: (u8, u8) = (1, 1);
    /// PIIX4 power management, 8086:7113.
    pub const POWER_MANAGEMENT: (u8, u8) = (1, 3);
    /// VGA with Bochs VBE, 1234:1111.
    pub const VGA: (u8, u8) = (2, 0);
    /// Network card.
    pub const NETWORK: (u8, u8) = (3, 0);
    /// AC'97 sound, 8086:2415.
    pub const AC97: (u8, u8) = (4, 0);
    /// AHCI, 8086:2922.
    pub const AHCI: (u8, u8) = (5, 0);
    /// Virtio entropy, 1AF4:1044.
    pub const ENTROPY: (u8, u8) = (6, 0);
    /// Virtio balloon, 1AF4:1045.
    pub const BALLOON: (u8, u8) = (7, 0);
    /// Virtio console, 1AF4:1043.
    pub const CONSOLE: (u8, u8) = (8, 0);
    /// Virtio keyboard, 1AF4:1052.
    pub const KEYBOARD: (u8, u8) = (9, 0);
    /// Virtio tablet, 1AF4:1052.
    pub const TABLET: (u8, u8) = (10, 0);
    /// Virtio sound, 1AF4:1059.
    pub const SOUND: (u8, u8) = (11, 0);
    /// Virtio GPU, 1AF4:1050.
    pub const GPU: (u8, u8) = (12, 0);
    /// The first virtio disk, 1AF4:1042; the others follow, each in a slot of its own.
    pub const FIRST_DISK: (u8, u8) = (16, 0);
}

/// Base of the PIIX4 power management I/O window, as SeaBIOS programs it.
pub const PM_BASE: u16 = 0x600;
