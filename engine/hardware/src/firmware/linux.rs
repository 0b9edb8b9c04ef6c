//! A Linux kernel for the option ROM `linuxboot_dma.bin`: the `fw_cfg` items it loads and jumps to.
//!
//! Linux Documentation/arch/x86/boot.rst, protocol 2.02 and later with a kernel loaded high. The ROM
//! itself (`genroms/linuxboot_dma.bin`) comes with the firmware package, if it has one.

use crate::firmware::fw_cfg::{FwCfg, key};

/// Where the real-mode part goes.
const SETUP_AT: u32 = 0x1_0000;
/// Where the command line goes.
const COMMAND_LINE_AT: u32 = 0x2_0000;
/// Where the kernel goes.
const KERNEL_AT: u32 = 0x10_0000;
/// Kept free at the end of RAM: SeaBIOS's tables.
const FIRMWARE_BYTES: u64 = 0x2_8000;
const COMMAND_LINE_LIMIT: usize = 2047;

/// Fields of the setup header, boot.rst.
mod header {
    pub const SETUP_SECTORS: usize = 0x1F1;
    pub const MAGIC: usize = 0x202;
    pub const VERSION: usize = 0x206;
    pub const LOADER_TYPE: usize = 0x210;
    pub const LOAD_FLAGS: usize = 0x211;
    pub const INITRD_ADDRESS: usize = 0x218;
    pub const INITRD_SIZE: usize = 0x21C;
    pub const HEAP_END: usize = 0x224;
    pub const COMMAND_LINE: usize = 0x228;
    pub const INITRD_MAX: usize = 0x22C;
    pub const END: usize = 0x268;
}

/// Why a kernel cannot be booted.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinuxError {
    /// There is no setup header.
    #[error("this is not a Linux kernel image (bzImage): the boot header is missing")]
    NotAKernel,
    /// Boot protocol older than 2.02, or loaded low.
    #[error("this kernel is too old: boot protocol {0:#x}, needed is 0x202 with the kernel loaded high")]
    TooOld(u16),
    /// The initial RAM disk does not fit.
    #[error("the initial RAM disk ({0} bytes) does not fit into memory: give the machine more")]
    NoRoom(usize),
    /// The command line is too long.
    #[error("the kernel command line has {0} characters; 2047 are possible")]
    CommandLine(usize),
}

/// Gives a kernel, its initial RAM disk and its command line to the option ROM.
pub fn set_linux(
    firmware: &mut FwCfg,
    image: &[u8],
    initrd: &[u8],
    command_line: &str,
    low_ram_bytes: u64,
) -> Result<(), LinuxError> {
    let word = |at: usize| u16::from_le_bytes([image[at], image[at + 1]]);
    if image.len() < header::END || &image[header::MAGIC..header::MAGIC + 4] != b"HdrS" {
        return Err(LinuxError::NotAKernel);
    }
    let version = word(header::VERSION);
    if version < 0x202 || image[header::LOAD_FLAGS] & 1 == 0 {
        return Err(LinuxError::TooOld(version));
    }
    if command_line.len() > COMMAND_LINE_LIMIT {
        return Err(LinuxError::CommandLine(command_line.len()));
    }
    let sectors = match image[header::SETUP_SECTORS] {
        0 => 4,
        sectors => usize::from(sectors),
    };
    let setup_bytes = ((sectors + 1) * 512).min(image.len());
    let (setup, kernel) = image.split_at(setup_bytes);
    let mut setup = setup.to_vec();
    let initrd_at = place_initrd(&setup, kernel, initrd, low_ram_bytes)?;

    let mut put = |at: usize, bytes: &[u8]| setup[at..at + bytes.len()].copy_from_slice(bytes);
    put(header::LOADER_TYPE, &[0xB0]); // QEMU's number; the ROM is QEMU's
    put(header::LOAD_FLAGS, &[image[header::LOAD_FLAGS] | 0x80]); // the heap may be used
    put(header::HEAP_END, &((COMMAND_LINE_AT - SETUP_AT - 0x200) as u16).to_le_bytes());
    put(header::COMMAND_LINE, &COMMAND_LINE_AT.to_le_bytes());
    put(header::INITRD_ADDRESS, &initrd_at.to_le_bytes());
    put(header::INITRD_SIZE, &(initrd.len() as u32).to_le_bytes());

    let mut text = command_line.as_bytes().to_vec();
    text.push(0);
    for (key, value) in [
        (key::SETUP_ADDRESS, SETUP_AT),
        (key::SETUP_SIZE, setup.len() as u32),
        (key::KERNEL_ADDRESS, KERNEL_AT),
        (key::KERNEL_SIZE, kernel.len() as u32),
        (key::COMMAND_LINE_ADDRESS, COMMAND_LINE_AT),
        (key::COMMAND_LINE_SIZE, text.len() as u32),
        (key::INITRD_ADDRESS, initrd_at),
        (key::INITRD_SIZE, initrd.len() as u32),
    ] {
        firmware.add_bytes(key, value.to_le_bytes());
    }
    firmware.add_bytes(key::SETUP_DATA, setup);
    firmware.add_bytes(key::KERNEL_DATA, kernel);
    firmware.add_bytes(key::COMMAND_LINE_DATA, text);
    firmware.add_bytes(key::INITRD_DATA, initrd);
    Ok(())
}

/// As high as kernel and RAM allow.
fn place_initrd(setup: &[u8], kernel: &[u8], initrd: &[u8], low_ram_bytes: u64) -> Result<u32, LinuxError> {
    let field = |at: usize| u32::from_le_bytes([setup[at], setup[at + 1], setup[at + 2], setup[at + 3]]);
    let version = field(header::VERSION) as u16;
    let highest = if version >= 0x203 { u64::from(field(header::INITRD_MAX)) } else { 0x37FF_FFFF };
    let end = (highest + 1).min(low_ram_bytes.saturating_sub(FIRMWARE_BYTES));
    let at = end.checked_sub(initrd.len() as u64).map(|at| at & !0xFFF);
    let kernel_end = u64::from(KERNEL_AT) + kernel.len() as u64;
    at.filter(|at| *at >= kernel_end).map(|at| at as u32).ok_or(LinuxError::NoRoom(initrd.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Memory;

    fn kernel() -> Vec<u8> {
        let mut image = vec![0; 3 * 512 + 1000];
        image[header::SETUP_SECTORS] = 2;
        image[header::MAGIC..header::MAGIC + 4].copy_from_slice(b"HdrS");
        image[header::VERSION..header::VERSION + 2].copy_from_slice(&0x20Fu16.to_le_bytes());
        image[header::LOAD_FLAGS] = 1;
        image[header::INITRD_MAX..header::INITRD_MAX + 4].copy_from_slice(&0x7FFF_FFFFu32.to_le_bytes());
        image
    }

    fn set(image: &[u8], initrd: &[u8], line: &str, ram: u64) -> Result<(), LinuxError> {
        let mut firmware = FwCfg::new(Memory::new(1 << 20, 0).unwrap());
        set_linux(&mut firmware, image, initrd, line, ram)
    }

    #[test]
    fn the_image_is_split_and_its_header_filled_in() {
        let memory = Memory::new(1 << 20, 0).unwrap();
        let mut firmware = FwCfg::new(memory);
        set_linux(&mut firmware, &kernel(), &[7; 5000], "quiet", 64 << 20).unwrap();
        let item = |key: u16| firmware.item(key).unwrap();
        assert_eq!((item(key::SETUP_DATA).len(), item(key::KERNEL_DATA).len()), (3 * 512, 1000));
        assert_eq!(item(key::COMMAND_LINE_DATA), b"quiet\0");
        let setup = item(key::SETUP_DATA);
        let at = u32::from_le_bytes(setup[0x218..0x21C].try_into().unwrap());
        assert_eq!(at, ((64 << 20) - 0x2_8000 - 5000) & !0xFFF);
        assert_eq!((setup[0x210], setup[0x211]), (0xB0, 0x81));
    }

    #[test]
    fn what_cannot_boot_is_refused_with_its_reason() {
        assert_eq!(set(&[0; 4096], &[], "", 64 << 20), Err(LinuxError::NotAKernel));
        assert_eq!(set(b"HdrS", &[], "", 64 << 20), Err(LinuxError::NotAKernel));
        let mut old = kernel();
        old[header::VERSION] = 0x01;
        assert_eq!(set(&old, &[], "", 64 << 20), Err(LinuxError::TooOld(0x201)));
        assert_eq!(set(&kernel(), &vec![0; 4 << 20], "", 4 << 20), Err(LinuxError::NoRoom(4 << 20)));
        assert_eq!(set(&kernel(), &[], &"x".repeat(2048), 64 << 20), Err(LinuxError::CommandLine(2048)));
    }
}
