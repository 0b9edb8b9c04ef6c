//! The Intel 82077AA floppy controller: registers, command and result phases, seeks, interrupts.
//!
//! 82077AA datasheet (290166), PC/AT mode. The data commands are in `transfer.rs`. Left out: the scan
//! commands, precompensation, data rates' effect on time, tape drives (the register keeps its bits),
//! status registers A and B, which PC/AT mode does not drive.

use serde::{Deserialize, Serialize};

use super::drive::{Drive, FloppyBay};
use super::transfer::{Dma, Transfer};

/// Drives the board has connectors for.
pub const DRIVES: usize = 2;

/// Main status register, datasheet §2.1.5.
mod main_status {
    pub const REQUEST: u8 = 0x80;
    pub const TO_HOST: u8 = 0x40;
    pub const NO_DMA: u8 = 0x20;
    pub const BUSY: u8 = 0x10;
}

/// Digital output register, §2.1.3.
mod output {
    pub const DMA_GATE: u8 = 0x08;
    pub const RUN: u8 = 0x04;
}

/// Status register 0, §6.1.
pub(super) mod st0 {
    pub const ABNORMAL: u8 = 0x40;
    pub const INVALID: u8 = 0x80;
    pub const READY_CHANGED: u8 = 0xC0;
    pub const SEEK_END: u8 = 0x20;
    pub const EQUIPMENT_CHECK: u8 = 0x10;
}

const VERSION_82077AA: u8 = 0x90;
/// CONFIGURE's second byte after a reset: FIFO off, polling on, no implied seek.
const CONFIGURATION_AT_RESET: u8 = 0x20;
const FIFO_OFF: u8 = 0x20;
const POLLING_OFF: u8 = 0x10;
const IMPLIED_SEEK: u8 = 0x40;
/// Data rate 250 kbit/s.
const RATE_AT_RESET: u8 = 2;
const COMMAND_MAX: usize = 9;
const RESULT_MAX: usize = 10;

/// What the FIFO is for now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Phase {
    /// Taking the bytes of a command.
    Command,
    /// Moving sectors through the FIFO, without DMA.
    Execution {
        transfer: Transfer,
        /// The sector, or the IDs of FORMAT TRACK.
        data: Vec<u8>,
        position: usize,
    },
    /// Giving the bytes of a result.
    Result {
        bytes: Vec<u8>,
        position: usize,
        /// A further seek's interrupt waits for the end of this result.
        interrupt_after: bool,
    },
}

/// The chip.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fdc {
    output: u8,
    tape: u8,
    /// 0: 500, 1: 300, 2: 250, 3: 1000 kbit/s.
    pub(super) rate: u8,
    pub(super) phase: Phase,
    command: Vec<u8>,
    /// The interrupt pin, before the gate.
    pub(super) interrupt: bool,
    /// Status register 0 of what SENSE INTERRUPT STATUS has to tell, per drive.
    pending: [Option<u8>; 4],
    /// The pending ones come from a reset; the next seek makes them void.
    pending_reset: bool,
    /// Drives that seek, until SENSE INTERRUPT STATUS.
    seeking: u8,
    specify: [u8; 2],
    configuration: u8,
    precompensation_track: u8,
    locked: bool,
    perpendicular: u8,
    /// Sectors per track, or last sector, of the last data command.
    pub(super) last_sector: u8,
    /// Where the controller believes each head to be.
    pub(super) cylinders: [u8; 4],
    /// The drives there are.
    pub(super) drives: [Option<Drive>; DRIVES],
}

/// What is outside the chip: the disks, and the DMA channel.
pub struct Outside<'a> {
    /// The disks.
    pub bays: &'a mut [FloppyBay; DRIVES],
    /// DMA channel 2.
    pub dma: &'a mut dyn Dma,
}

impl Fdc {
    /// A controller after power-on.
    pub fn new(drives: [bool; DRIVES]) -> Fdc {
        Fdc {
            output: 0,
            tape: 0,
            rate: RATE_AT_RESET,
            phase: Phase::Command,
            command: Vec::new(),
            interrupt: false,
            pending: [None; 4],
            pending_reset: false,
            seeking: 0,
            specify: [0; 2],
            configuration: CONFIGURATION_AT_RESET,
            precompensation_track: 0,
            locked: false,
            perpendicular: 0,
            last_sector: 0,
            cylinders: [0; 4],
            drives: drives.map(|there| there.then(Drive::new)),
        }
    }

    /// Power-on: the disks stay.
    pub fn power_on(&mut self) {
        *self = Fdc::new([0, 1].map(|n| self.drives[n].is_some()));
    }

    /// The disk in `drive` was changed.
    pub fn disk_changed(&mut self, drive: usize) {
        if let Some(Some(drive)) = self.drives.get_mut(drive) {
            drive.changed = true;
        }
    }

    /// The level of the interrupt pin: the digital output register gates it.
    pub fn interrupt_level(&self) -> bool {
        self.interrupt && self.output & output::DMA_GATE != 0
    }

    /// Whether the motor of `drive` is on: nothing waits for it, but a lamp may show it.
    pub fn is_spinning(&self, drive: usize) -> bool {
        drive < DRIVES && self.output >> (4 + drive) & 1 != 0
    }

    fn is_running(&self) -> bool {
        self.output & output::RUN != 0
    }

    pub(super) fn uses_dma(&self) -> bool {
        self.specify[1] & 1 == 0
    }

    pub(super) fn dma_is_gated_off(&self) -> bool {
        self.output & output::DMA_GATE == 0
    }

    /// A guest reads the register at 3F0h + `offset`.
    pub fn read(&mut self, offset: u64, outside: &mut Outside) -> u8 {
        match offset {
            2 => self.output,
            3 => self.tape | 0xFC,
            4 => self.main_status(),
            5 => self.read_fifo(outside),
            7 => self.disk_change(outside),
            _ => 0xFF,
        }
    }

    /// A guest writes the register at 3F0h + `offset`.
    pub fn write(&mut self, offset: u64, value: u8, outside: &mut Outside) {
        match offset {
            2 => self.write_output(value),
            3 => self.tape = value & 3,
            4 => {
                self.rate = value & 3;
                if value & 0x80 != 0 && self.is_running() {
                    self.reset();
                    self.come_up();
                }
            }
            5 if self.is_running() => self.write_fifo(value, outside),
            7 => self.rate = value & 3,
            _ => {}
        }
    }

    fn write_output(&mut self, value: u8) {
        let was_running = self.is_running();
        self.output = value;
        match (was_running, self.is_running()) {
            (true, false) => self.reset(),
            (false, true) => self.come_up(),
            _ => {}
        }
    }

    /// Reset by the output register's bit 2, or the data rate register's bit 7.
    fn reset(&mut self) {
        self.phase = Phase::Command;
        self.command.clear();
        self.interrupt = false;
        self.pending = [None; 4];
        self.pending_reset = false;
        self.seeking = 0;
        self.perpendicular &= 0x3C; // §5.2.6: a software reset clears GAP and WGATE only
        if !self.locked {
            self.configuration = CONFIGURATION_AT_RESET;
            self.precompensation_track = 0;
        }
    }

    /// After a reset all four drives are polled, and found to have become ready: §5.2.4.
    fn come_up(&mut self) {
        if self.configuration & POLLING_OFF == 0 {
            self.pending = [0, 1, 2, 3].map(|n| Some(st0::READY_CHANGED | n));
            self.pending_reset = true;
            self.interrupt = true;
        }
    }

    fn main_status(&self) -> u8 {
        use main_status::*;
        if !self.is_running() {
            return 0;
        }
        let phase = match &self.phase {
            Phase::Command if self.command.is_empty() => REQUEST,
            Phase::Command => REQUEST | BUSY,
            Phase::Execution { transfer, .. } if transfer.is_to_host() => REQUEST | TO_HOST | NO_DMA | BUSY,
            Phase::Execution { .. } => REQUEST | NO_DMA | BUSY,
            Phase::Result { .. } => REQUEST | TO_HOST | BUSY,
        };
        phase | self.seeking
    }

    /// The digital input register: the disk-change line of the selected drive.
    fn disk_change(&self, outside: &Outside) -> u8 {
        let selected = usize::from(self.output & 3);
        let changed = |drive: &Drive| drive.changed || outside.bays[selected].geometry().is_none();
        let line = self.drives.get(selected).and_then(Option::as_ref).is_some_and(changed);
        u8::from(line) << 7
    }

    fn read_fifo(&mut self, outside: &mut Outside) -> u8 {
        let bytewise = self.is_bytewise();
        match &mut self.phase {
            Phase::Command => 0,
            Phase::Execution { transfer, data, position } => {
                if !transfer.is_to_host() {
                    return 0;
                }
                let value = data.get(*position).copied().unwrap_or(0);
                *position += 1;
                self.interrupt = bytewise;
                if *position >= data.len() {
                    self.next_data(outside);
                }
                value
            }
            Phase::Result { bytes, position, interrupt_after } => {
                let value = bytes.get(*position).copied().unwrap_or(0);
                *position += 1;
                // The first result byte acknowledges the interrupt, §5.
                self.interrupt = false;
                if *position >= bytes.len() {
                    self.interrupt = *interrupt_after;
                    self.phase = Phase::Command;
                }
                value
            }
        }
    }

    fn write_fifo(&mut self, value: u8, outside: &mut Outside) {
        let bytewise = self.is_bytewise();
        match &mut self.phase {
            Phase::Command => {
                self.command.push(value);
                if self.command.len() >= command_length(self.command[0]) {
                    let command = std::mem::take(&mut self.command);
                    self.execute(&command, outside);
                }
            }
            Phase::Execution { transfer, data, position } => {
                if transfer.is_to_host() {
                    return;
                }
                if let Some(byte) = data.get_mut(*position) {
                    *byte = value;
                }
                *position += 1;
                self.interrupt = bytewise;
                if *position >= data.len() {
                    self.next_data(outside);
                }
            }
            Phase::Result { .. } => {}
        }
    }

    /// `command` has as many bytes as [`command_length`] says.
    fn execute(&mut self, command: &[u8], outside: &mut Outside) {
        match command[0] {
            0x03 => self.specify = [command[1], command[2]],
            0x04 => self.sense_drive(command[1], outside),
            0x07 => self.recalibrate(command[1], outside),
            0x08 => self.sense_interrupt(),
            0x0E => self.dump_registers(),
            0x0F => self.seek_to(command[1], command[2], outside),
            0x8F => self.seek_by(command[1], -i16::from(command[2]), outside),
            0xCF => self.seek_by(command[1], command[2].into(), outside),
            0x10 => self.answer(vec![VERSION_82077AA]),
            0x12 => self.set_perpendicular(command[1]),
            0x13 => {
                self.configuration = command[2] & 0x7F;
                self.precompensation_track = command[3];
            }
            0x14 | 0x94 => {
                self.locked = command[0] & 0x80 != 0;
                self.answer(vec![u8::from(self.locked) << 4]);
            }
            _ if is_data_command(command[0]) => self.start(command, outside),
            _ => self.answer(vec![st0::INVALID]),
        }
    }

    /// Gives a result without an interrupt.
    fn answer(&mut self, bytes: Vec<u8>) {
        self.phase = Phase::Result { bytes, position: 0, interrupt_after: false };
    }

    /// Gives a result with an interrupt.
    pub(super) fn end(&mut self, bytes: Vec<u8>) {
        self.answer(bytes);
        self.interrupt = true;
    }

    fn set_perpendicular(&mut self, value: u8) {
        // The drive bits change only with OW (bit 7), §5.2.6.
        let drives = if value & 0x80 != 0 { value & 0x3C } else { self.perpendicular & 0x3C };
        self.perpendicular = drives | value & 3;
    }

    /// Status register 3, §6.4; bits 3 and 5 are always set.
    fn sense_drive(&mut self, select: u8, outside: &Outside) {
        let n = usize::from(select & 3);
        let drive = self.drives.get(n).and_then(Option::as_ref);
        let track_0 = drive.is_some_and(|drive| drive.track == 0);
        let protected = drive.is_some() && outside.bays[n].bay.is_read_only();
        let status = 0x28 | select & 7 | u8::from(track_0) << 4 | u8::from(protected) << 6;
        self.answer(vec![status]);
    }

    fn sense_interrupt(&mut self) {
        let found = (0..4).find_map(|n| Some((n, self.pending[n].take()?)));
        let Some((n, status)) = found else {
            return self.answer(vec![st0::INVALID]);
        };
        self.seeking &= !(1 << n);
        // A reset interrupts once for its four; each seek has an interrupt of its own.
        let more = self.pending.iter().any(Option::is_some);
        let interrupt_after = more && !self.pending_reset;
        self.pending_reset &= more;
        self.interrupt = false;
        let bytes = vec![status, self.cylinders[n]];
        self.phase = Phase::Result { bytes, position: 0, interrupt_after };
    }

    fn dump_registers(&mut self) {
        let [a, b, c, d] = self.cylinders;
        let [rates, load] = self.specify;
        let lock = u8::from(self.locked) << 7 | self.perpendicular;
        let (eot, track) = (self.last_sector, self.precompensation_track);
        self.answer(vec![a, b, c, d, rates, load, eot, lock, self.configuration, track]);
    }

    fn recalibrate(&mut self, select: u8, outside: &Outside) {
        let n = usize::from(select & 3);
        let has_disk = outside.bays.get(n).is_some_and(|bay| bay.geometry().is_some());
        self.cylinders[n] = 0;
        // Without a drive, track 0 is not found after 79 steps: §5.2.2.
        let missing = st0::SEEK_END | st0::ABNORMAL | st0::EQUIPMENT_CHECK;
        let status = self.drives.get_mut(n).and_then(Option::as_mut).map_or(missing, |drive| {
            drive.step(-i16::from(drive.track), has_disk);
            st0::SEEK_END
        });
        self.seek_ended(n, status | select & 3);
    }

    fn seek_to(&mut self, select: u8, cylinder: u8, outside: &Outside) {
        let steps = i16::from(cylinder) - i16::from(self.cylinders[usize::from(select & 3)]);
        self.seek_by(select, steps, outside);
    }

    fn seek_by(&mut self, select: u8, steps: i16, outside: &Outside) {
        let n = usize::from(select & 3);
        self.step(n, steps, outside);
        self.seek_ended(n, st0::SEEK_END | select & 7);
    }

    /// Moves a head. The controller counts cylinders as it believes, the drive stops at its ends.
    fn step(&mut self, n: usize, steps: i16, outside: &Outside) {
        let has_disk = outside.bays.get(n).is_some_and(|bay| bay.geometry().is_some());
        self.cylinders[n] = (i16::from(self.cylinders[n]) + steps).clamp(0, 255) as u8;
        if let Some(Some(drive)) = self.drives.get_mut(n) {
            drive.step(steps, has_disk);
        }
    }

    /// With CONFIGURE's EIS set, a data command seeks by itself.
    pub(super) fn implied_seek(&mut self, n: usize, cylinder: u8, outside: &Outside) {
        if self.configuration & IMPLIED_SEEK != 0 {
            let steps = i16::from(cylinder) - i16::from(self.cylinders[n]);
            self.step(n, steps, outside);
        }
    }

    fn seek_ended(&mut self, n: usize, status: u8) {
        if std::mem::take(&mut self.pending_reset) {
            self.pending = [None; 4];
        }
        self.pending[n] = Some(status);
        self.seeking |= 1 << n;
        self.interrupt = true;
    }

    /// Whether the FIFO moves a transfer's bytes now, and each asks by an interrupt of its own: without
    /// the FIFO, or with a threshold of one byte. Otherwise there is one interrupt per sector.
    pub fn interrupts_per_byte(&self) -> bool {
        self.is_bytewise() && matches!(self.phase, Phase::Execution { .. })
    }

    fn is_bytewise(&self) -> bool {
        self.configuration & FIFO_OFF != 0 || self.configuration & 0x0F == 0
    }

    /// Whether a loaded state fits in the place of `now`.
    pub fn is_valid(&self, now: &Fdc) -> bool {
        let phase = match &self.phase {
            Phase::Command => true,
            Phase::Execution { transfer, data, position } => {
                transfer.is_valid() && data.len() == transfer.block_bytes() && *position < data.len()
            }
            Phase::Result { bytes, position, .. } => bytes.len() <= RESULT_MAX && *position < bytes.len(),
        };
        let command = self.command.is_empty() || self.command.len() < command_length(self.command[0]);
        let drive_ok = |(loaded, now): (&Option<Drive>, &Option<Drive>)| {
            loaded.is_some() == now.is_some() && loaded.as_ref().is_none_or(Drive::is_valid)
        };
        phase
            && command
            && self.command.len() < COMMAND_MAX
            && self.rate < 4
            && self.drives.iter().zip(&now.drives).all(drive_ok)
    }
}

/// READ, READ DELETED, READ TRACK, WRITE, WRITE DELETED, VERIFY, READ ID, FORMAT, whatever their options.
fn is_data_command(code: u8) -> bool {
    matches!(code & 0x1F, 0x02 | 0x05 | 0x06 | 0x09 | 0x0A | 0x0C | 0x16) || code & !0x40 == 0x0D
}

/// Bytes of a command, its code included: datasheet table 5-1.
fn command_length(code: u8) -> usize {
    match code {
        0x03 | 0x0F | 0x8F | 0xCF => 3,
        0x04 | 0x07 | 0x12 => 2,
        0x13 => 4,
        0x08 | 0x0E | 0x10 | 0x14 | 0x94 => 1,
        _ if code & 0x1F == 0x0A => 2,
        _ if code & !0x40 == 0x0D => 6,
        _ if is_data_command(code) => COMMAND_MAX,
        _ => 1,
    }
}
