//! What SeaBIOS boots from, and in which order: the `bootorder` and boot menu files of `fw_cfg`.

use std::fmt;
use std::time::Duration;

use crate::firmware::fw_cfg::{FwCfg, key};

/// Something SeaBIOS can boot from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BootDevice {
    /// Floppy drive 0 or 1.
    Floppy(u8),
    /// A disk or CD drive on the PIIX3 IDE function: channel and unit, each 0 or 1.
    Ide(u8, u8),
    /// A drive on the AHCI controller in this PCI slot, at this port.
    Ahci(u8, u8),
    /// A virtio or other disk controller of its own, in PCI slot `.0`.
    Disk(u8),
    /// The boot ROM of the network card in PCI slot `.0`.
    Network(u8),
}

impl fmt::Display for BootDevice {
    /// As an Open Firmware device path, which is how SeaBIOS compares (docs/Boot_Order).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BootDevice::Floppy(drive) => write!(f, "/pci@i0cf8/isa@1/fdc@03f0/floppy@{drive:x}"),
            BootDevice::Ide(channel, unit) => {
                write!(f, "/pci@i0cf8/ide@1,1/drive@{channel:x}/disk@{unit:x}")
            }
            BootDevice::Ahci(slot, port) => {
                write!(f, "/pci@i0cf8/pci8086,2922@{slot:x}/drive@{port:x}/disk@0")
            }
            BootDevice::Disk(slot) => write!(f, "/pci@i0cf8/scsi@{slot:x}/disk@0,0"),
            BootDevice::Network(slot) => write!(f, "/pci@i0cf8/ethernet@{slot:x}/ethernet-phy@0"),
        }
    }
}

/// Tells SeaBIOS to try `devices` in this order. With `only`, nothing else is tried.
pub fn set_boot_order(firmware: &mut FwCfg, devices: &[BootDevice], only: bool) {
    let mut lines: Vec<String> = devices.iter().map(BootDevice::to_string).collect();
    if only {
        lines.push("HALT".to_owned());
    }
    let mut text = lines.join("\n").into_bytes();
    text.push(0);
    firmware.add_file("bootorder", text);
}

/// Offers SeaBIOS's boot menu for `wait`, or not at all.
pub fn set_boot_menu(firmware: &mut FwCfg, wait: Option<Duration>) {
    let wait_ms = wait.map_or(0, |wait| wait.as_millis().min(60_000) as u16);
    // SeaBIOS shows this item as its own file "etc/show-boot-menu".
    firmware.add_bytes(key::BOOT_MENU, u16::from(wait.is_some()).to_le_bytes());
    firmware.add_file("etc/boot-menu-wait", wait_ms.to_le_bytes());
}

/// How long SeaBIOS waits before it tries again when nothing boots; `None`: for ever.
pub fn set_retry_after(firmware: &mut FwCfg, wait: Option<Duration>) {
    let wait_ms = wait.map_or(u32::MAX, |wait| wait.as_millis().min(600_000) as u32);
    firmware.add_file("etc/boot-fail-wait", wait_ms.to_le_bytes());
}

/// Tells SeaBIOS the RAM and CPU figures, and where RAM lies (`etc/e820`).
pub fn set_machine(firmware: &mut FwCfg, ram_bytes: u64, low_ram_bytes: u64, cpus: u16) {
    firmware.add_bytes(key::RAM_SIZE, ram_bytes.to_le_bytes());
    firmware.add_bytes(key::CPUS, cpus.to_le_bytes());
    firmware.add_bytes(key::MAX_CPUS, cpus.to_le_bytes());
    firmware.add_bytes(key::NOGRAPHIC, 0u16.to_le_bytes());
    firmware.add_bytes(key::NUMA, vec![0; 8 * (1 + usize::from(cpus))]);
    firmware.add_bytes(key::IRQ0_OVERRIDE, [1]);
    let mut e820 = Vec::new();
    let mut entry = |start: u64, length: u64| {
        e820.extend_from_slice(&start.to_le_bytes());
        e820.extend_from_slice(&length.to_le_bytes());
        e820.extend_from_slice(&1u32.to_le_bytes()); // RAM
    };
    entry(0, low_ram_bytes);
    if ram_bytes > low_ram_bytes {
        entry(crate::layout::address::HIGH_RAM, ram_bytes - low_ram_bytes);
    }
    firmware.add_file("etc/e820", e820);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Memory;

    #[test]
    fn the_order_is_a_list_of_paths_that_ends_in_zero() {
        let mut firmware = FwCfg::new(Memory::new(1 << 20, 0).unwrap());
        set_boot_order(
            &mut firmware,
            &[BootDevice::Ide(1, 0), BootDevice::Floppy(0), BootDevice::Disk(5)],
            true,
        );
        assert_eq!(
            firmware.file("bootorder").unwrap(),
            b"/pci@i0cf8/ide@1,1/drive@1/disk@0\n/pci@i0cf8/isa@1/fdc@03f0/floppy@0\n/pci@i0cf8/scsi@5/disk@0,0\nHALT\0"
        );
    }

    #[test]
    fn ram_above_the_hole_is_a_second_range() {
        let mut firmware = FwCfg::new(Memory::new(1 << 20, 0).unwrap());
        set_machine(&mut firmware, 5 << 30, 3 << 30, 2);
        let e820 = firmware.file("etc/e820").unwrap();
        assert_eq!(e820.len(), 40);
        assert_eq!(e820[8..16], (3u64 << 30).to_le_bytes());
        assert_eq!(e820[20..36], [(1u64 << 32).to_le_bytes(), (2u64 << 30).to_le_bytes()].concat());
    }
}
