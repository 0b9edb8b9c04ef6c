//! Frames between host and drive (Serial ATA 3.x §10.5), as AHCI lays them into memory (AHCI 1.3.1 §4.2).

use crate::ide::task::Task;

/// Bytes of a command frame in a command table.
pub const COMMAND_BYTES: usize = 20;
/// Where frames from the drive lie in the port's receive area, §4.2.1.
pub mod area {
    /// PIO setup.
    pub const PIO_SETUP: u64 = 0x20;
    /// Register, device to host.
    pub const REGISTER: u64 = 0x40;
    /// Set device bits.
    pub const DEVICE_BITS: u64 = 0x58;
}

/// Frame types.
mod kind {
    pub const TO_DEVICE: u8 = 0x27;
    pub const TO_HOST: u8 = 0x34;
    pub const PIO_SETUP: u8 = 0x5F;
    pub const DEVICE_BITS: u8 = 0xA1;
}

/// Bit 7 of the second byte: the frame is a command, not a write of the control register.
const IS_COMMAND: u8 = 0x80;
/// Bit 6 of the second byte of a frame from the drive: it interrupts.
const INTERRUPTS: u8 = 0x40;

/// The task file a host sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Command {
    /// Whether it is a command; otherwise only `control` counts.
    pub is_command: bool,
    /// Command code.
    pub code: u8,
    /// Features, low and high.
    pub features: [u8; 2],
    /// The six bytes of the sector address.
    pub lba: [u8; 6],
    /// Device register.
    pub device: u8,
    /// Count, low and high.
    pub count: [u8; 2],
    /// Device control register.
    pub control: u8,
}

impl Command {
    /// Reads a register frame to the device; `None` for any other frame.
    pub fn read(bytes: &[u8; COMMAND_BYTES]) -> Option<Command> {
        let [frame, flags, code, f0, l0, l1, l2, device, l3, l4, l5, f1, c0, c1, _, control, ..] = *bytes;
        (frame == kind::TO_DEVICE).then_some(Command {
            is_command: flags & IS_COMMAND != 0,
            code,
            features: [f0, f1],
            lba: [l0, l1, l2, l3, l4, l5],
            device,
            count: [c0, c1],
            control,
        })
    }

    /// Puts it into a drive's registers; those with two bytes keep both, as 48-bit commands want.
    pub fn fill(&self, task: &mut Task) {
        task.write(1, self.features[0]);
        for value in [self.count[1], self.count[0]] {
            task.write(2, value);
        }
        for n in 0..3 {
            task.write(3 + n as u64, self.lba[3 + n]);
            task.write(3 + n as u64, self.lba[n]);
        }
        task.write(6, self.device);
    }
}

fn registers(task: &Task) -> [u8; 20] {
    let [l0, l1, l2] = task.lba;
    let [h0, h1, h2] = task.previous_lba;
    let (count, count_high) = (task.count, task.previous_count);
    let (status, error) = (task.status, task.error);
    [0, 0, status, error, l0, l1, l2, task.device, h0, h1, h2, 0, count, count_high, 0, 0, 0, 0, 0, 0]
}

/// A register frame to the host.
pub fn register(task: &Task, interrupts: bool) -> [u8; 20] {
    let mut frame = registers(task);
    frame[0] = kind::TO_HOST;
    frame[1] = if interrupts { INTERRUPTS } else { 0 };
    frame
}

/// A PIO setup frame: `bytes` follow, to memory or from it; then the status is `after`.
pub fn pio_setup(task: &Task, to_memory: bool, bytes: u16, after: u8) -> [u8; 20] {
    let mut frame = registers(task);
    frame[0] = kind::PIO_SETUP;
    frame[1] = INTERRUPTS | if to_memory { 0x20 } else { 0 };
    frame[15] = after;
    frame[16..18].copy_from_slice(&bytes.to_le_bytes());
    frame
}

/// A set device bits frame: queued commands `done` are over.
pub fn device_bits(status: u8, error: u8, done: u32) -> [u8; 8] {
    // Bits 3 and 7 of the status are not in it.
    let mut frame = [kind::DEVICE_BITS, INTERRUPTS, status & 0x77, error, 0, 0, 0, 0];
    frame[4..].copy_from_slice(&done.to_le_bytes());
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_bytes_of_wide_registers_arrive() {
        let mut bytes = [0; COMMAND_BYTES];
        bytes[..14].copy_from_slice(&[0x27, 0x80, 0x25, 1, 2, 3, 4, 0x40, 5, 6, 7, 8, 9, 10]);
        let command = Command::read(&bytes).unwrap();
        let mut task = Task::new();
        command.fill(&mut task);
        assert_eq!((task.lba, task.previous_lba), ([2, 3, 4], [5, 6, 7]));
        assert_eq!((task.count, task.previous_count, task.features, task.device), (9, 10, 1, 0x40));
        assert_eq!(register(&task, true)[4..14], [2, 3, 4, 0x40, 5, 6, 7, 0, 9, 10]);
        bytes[0] = 0x46;
        assert_eq!(Command::read(&bytes), None);
    }
}
