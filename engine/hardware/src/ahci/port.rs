//! One AHCI port: its registers, the drive behind it, and the commands in its slots. AHCI 1.3.1 §3.3, §5.3 and §6.

use serde::{Deserialize, Serialize};

use super::command::{Header, Scatter};
use super::fis::{self, Command, area};
use crate::ide::bay::Bay;
use crate::ide::drive::Drive;
use crate::ide::task::{Flow, Task, status};
use crate::memory::Memory;

/// Register offsets.
mod register {
    pub const LIST: u64 = 0x00;
    pub const LIST_HIGH: u64 = 0x04;
    pub const FRAMES: u64 = 0x08;
    pub const FRAMES_HIGH: u64 = 0x0C;
    pub const INTERRUPT: u64 = 0x10;
    pub const INTERRUPT_ENABLE: u64 = 0x14;
    pub const COMMAND: u64 = 0x18;
    pub const TASK_FILE: u64 = 0x20;
    pub const SIGNATURE: u64 = 0x24;
    pub const LINK_STATUS: u64 = 0x28;
    pub const LINK_CONTROL: u64 = 0x2C;
    pub const LINK_ERROR: u64 = 0x30;
    pub const ACTIVE: u64 = 0x34;
    pub const ISSUED: u64 = 0x38;
}

/// Interrupt status bits, §3.3.5.
mod interrupt {
    pub const REGISTER: u32 = 1 << 0;
    pub const PIO_SETUP: u32 = 1 << 1;
    pub const DEVICE_BITS: u32 = 1 << 3;
    pub const CONNECT: u32 = 1 << 6;
    pub const LINK_CHANGE: u32 = 1 << 22;
    pub const OVERFLOW: u32 = 1 << 24;
    pub const TASK_FILE_ERROR: u32 = 1 << 30;
    /// Derived from the link errors, not cleared by writing.
    pub const DERIVED: u32 = CONNECT | LINK_CHANGE;
    pub const ENABLE: u32 = 0xFDC0_00FF;
}

/// Command and status register bits, §3.3.7.
mod command {
    pub const START: u32 = 1 << 0;
    pub const SPIN_UP: u32 = 1 << 1;
    pub const POWER_ON: u32 = 1 << 2;
    pub const OVERRIDE_BUSY: u32 = 1 << 3;
    pub const RECEIVE: u32 = 1 << 4;
    pub const RECEIVING: u32 = 1 << 14;
    pub const RUNNING: u32 = 1 << 15;
    pub const PACKET: u32 = 1 << 24;
    pub const ALWAYS: u32 = SPIN_UP | POWER_ON;
    pub const WRITABLE: u32 = START | RECEIVE | PACKET;
}

/// Link error bits, §3.3.12.
mod link {
    pub const PHY_READY_CHANGED: u32 = 1 << 16;
    pub const EXCHANGED: u32 = 1 << 26;
    /// Status: active, first generation, device present.
    pub const UP: u32 = 0x113;
}

/// ATA command codes that are the controller's business.
mod code {
    pub const READ_DMA_EXT: u8 = 0x25;
    pub const WRITE_DMA_EXT: u8 = 0x35;
    pub const READ_LOG_EXT: u8 = 0x2F;
    pub const READ_QUEUED: u8 = 0x60;
    pub const WRITE_QUEUED: u8 = 0x61;
}

const SOFTWARE_RESET: u8 = 4;
/// Force unit access, in the device register of a queued write.
const TO_MEDIUM: u8 = 0x80;
/// The log with the queued command that failed, ATA8-ACS §A.13.
const QUEUED_ERROR_LOG: u8 = 0x10;
/// The log that says which logs there are, ATA8-ACS §A.2.
const LOG_DIRECTORY: u8 = 0x00;
const CHUNK: usize = 64 << 10;
/// No drive: what the task file shows.
const NO_DRIVE: u32 = 0x7F;
const NO_SIGNATURE: u32 = 0xFFFF_FFFF;

/// A word for each log: how many pages it has. The first is the version of all this.
fn log_directory() -> [u8; 512] {
    let mut directory = [0; 512];
    directory[0] = 1;
    directory[2 * usize::from(QUEUED_ERROR_LOG)] = 1;
    directory
}

/// The queued command that failed last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct QueuedError {
    tag: u8,
    status: u8,
    error: u8,
    lba: [u8; 6],
}

/// A port's state.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Port {
    /// The drive, if one is plugged in.
    pub drive: Option<Drive>,
    list: u64,
    frames: u64,
    interrupt: u32,
    enable: u32,
    command: u32,
    /// Status and error, as the last frame brought them.
    task_file: u32,
    signature: u32,
    link_control: u32,
    link_error: u32,
    active: u32,
    issued: u32,
    slot: u8,
    /// A command failed: none runs until the guest stops the port, §5.3.8 and §6.2.2. Clearing the interrupt is not enough.
    failed: bool,
    /// Between the two frames of a software reset.
    resetting: bool,
    queued_error: Option<QueuedError>,
}

impl Port {
    /// Power-on and controller reset: the drive stays plugged in.
    pub fn reset(&mut self) {
        let drive = self.drive.take();
        *self = Port { drive, task_file: NO_DRIVE, signature: NO_SIGNATURE, ..Port::default() };
        self.come_up();
    }

    /// A drive is plugged in.
    pub fn plug(&mut self, drive: Drive) {
        self.drive = Some(drive);
        self.come_up();
    }

    /// The link to a drive comes up: it is heard of as one just plugged in, §10.1.1.
    fn come_up(&mut self) {
        if self.drive.is_some() {
            self.restart_drive();
            self.link_error |= link::EXCHANGED | link::PHY_READY_CHANGED;
        }
    }

    /// The drive is pulled out.
    pub fn unplug(&mut self) {
        self.drive = None;
        (self.task_file, self.signature) = (NO_DRIVE, NO_SIGNATURE);
        (self.issued, self.active) = (0, 0);
        self.link_error |= link::EXCHANGED | link::PHY_READY_CHANGED;
    }

    /// The drive comes up, and shows what it is.
    fn restart_drive(&mut self) {
        if let Some(drive) = &mut self.drive {
            drive.power_on();
            self.show_signature();
        }
    }

    fn show_signature(&mut self) {
        let Some(drive) = &self.drive else { return };
        let task = drive.task();
        let [low, mid, high] = task.lba;
        self.signature = u32::from_le_bytes([task.count, low, mid, high]);
        self.show_task_file();
    }

    fn show_task_file(&mut self) {
        if let Some(drive) = &self.drive {
            self.task_file = u32::from(drive.task().status) | u32::from(drive.task().error) << 8;
        }
    }

    /// Interrupt status, with what follows from the link.
    fn interrupts(&self) -> u32 {
        let derived = |error, bit| if self.link_error & error != 0 { bit } else { 0 };
        self.interrupt
            | derived(link::EXCHANGED, interrupt::CONNECT)
            | derived(link::PHY_READY_CHANGED, interrupt::LINK_CHANGE)
    }

    /// Whether it wants an interrupt.
    pub fn wants_interrupt(&self) -> bool {
        self.interrupts() & self.enable != 0
    }

    /// A guest reads a register.
    pub fn read(&self, offset: u64) -> u32 {
        match offset {
            register::LIST => self.list as u32,
            register::LIST_HIGH => (self.list >> 32) as u32,
            register::FRAMES => self.frames as u32,
            register::FRAMES_HIGH => (self.frames >> 32) as u32,
            register::INTERRUPT => self.interrupts(),
            register::INTERRUPT_ENABLE => self.enable,
            register::COMMAND => self.command_register(),
            register::TASK_FILE => self.task_file,
            register::SIGNATURE => self.signature,
            register::LINK_STATUS if self.drive.is_some() && self.link_control & 0xF == 0 => link::UP,
            register::LINK_CONTROL => self.link_control,
            register::LINK_ERROR => self.link_error,
            register::ACTIVE => self.active,
            register::ISSUED => self.issued,
            _ => 0,
        }
    }

    fn command_register(&self) -> u32 {
        let running = if self.is_running() { command::RUNNING } else { 0 };
        let receiving = if self.command & command::RECEIVE != 0 { command::RECEIVING } else { 0 };
        self.command | command::ALWAYS | running | receiving | u32::from(self.slot) << 8
    }

    fn is_running(&self) -> bool {
        self.command & command::START != 0
    }

    /// A guest writes a register.
    pub fn write(&mut self, offset: u64, value: u32, bay: &mut Bay, memory: &Memory) {
        let low = |field: u64, value: u32, align: u32| field & !0xFFFF_FFFF | u64::from(value & !(align - 1));
        let high = |field: u64, value: u32| field & 0xFFFF_FFFF | u64::from(value) << 32;
        match offset {
            register::LIST => self.list = low(self.list, value, 1024),
            register::LIST_HIGH => self.list = high(self.list, value),
            register::FRAMES => self.frames = low(self.frames, value, 256),
            register::FRAMES_HIGH => self.frames = high(self.frames, value),
            register::INTERRUPT => self.interrupt &= !value | interrupt::DERIVED,
            register::INTERRUPT_ENABLE => self.enable = value & interrupt::ENABLE,
            register::COMMAND => self.write_command(value),
            register::LINK_CONTROL => self.write_link_control(value, memory),
            register::LINK_ERROR => self.link_error &= !value,
            register::ACTIVE if self.is_running() => self.active |= value,
            register::ISSUED if self.is_running() => self.issued |= value,
            _ => {}
        }
        self.run(bay, memory);
    }

    fn write_command(&mut self, value: u32) {
        if value & command::OVERRIDE_BUSY != 0 {
            self.task_file &= !u32::from(status::BUSY | status::DATA);
        }
        self.command = value & command::WRITABLE;
        if !self.is_running() {
            (self.issued, self.active, self.slot, self.failed) = (0, 0, 0, false);
        }
    }

    fn fail(&mut self) {
        self.interrupt |= interrupt::TASK_FILE_ERROR;
        self.failed = true;
    }

    /// Detection control 1 holds the link in reset; letting go of it restarts the drive, §10.4.2.
    fn write_link_control(&mut self, value: u32, memory: &Memory) {
        let (before, after) = (self.link_control & 0xF, value & 0xF);
        self.link_control = value & 0xFFF;
        if before == 1 && after == 0 && self.drive.is_some() {
            self.restart_drive();
            self.link_error |= link::EXCHANGED;
            self.send_register(memory, false);
        }
    }

    /// Runs the commands that were issued, lowest slot first.
    fn run(&mut self, bay: &mut Bay, memory: &Memory) {
        while self.is_running() && self.issued != 0 && !self.failed {
            self.slot = self.issued.trailing_zeros() as u8;
            let Some(mut drive) = self.drive.take() else { return };
            let header = Header::read(memory, self.list, self.slot.into());
            let frame = Command::read(&header.frame(memory));
            let mut running = Running { port: self, drive: &mut drive, bay, memory, header };
            match frame {
                Some(frame) if frame.is_command => running.execute(frame),
                Some(frame) => running.control(frame.control),
                None => running.port.issued &= !(1 << running.port.slot), // no frame a drive knows
            }
            self.drive = Some(drive);
        }
    }

    fn send_register(&mut self, memory: &Memory, interrupts: bool) {
        self.show_task_file();
        let Some(drive) = &self.drive else { return };
        let frame = fis::register(drive.task(), interrupts);
        self.receive(memory, area::REGISTER, &frame);
        if interrupts {
            self.interrupt |= interrupt::REGISTER;
        }
    }

    /// A frame arrives from the drive.
    fn receive(&self, memory: &Memory, at: u64, frame: &[u8]) {
        if self.command & command::RECEIVE != 0 {
            memory.dma_write(self.frames.wrapping_add(at), frame);
        }
    }

    /// Whether a loaded state fits in the place of `now`.
    pub fn is_valid(&self, now: &Port) -> bool {
        let drive = match (&self.drive, &now.drive) {
            (Some(loaded), Some(now)) => loaded.is_valid(now),
            (None, None) => true,
            _ => false,
        };
        drive && self.slot < 32
    }
}

/// A command at work: the drive is out of its port meanwhile.
struct Running<'a> {
    port: &'a mut Port,
    drive: &'a mut Drive,
    bay: &'a mut Bay,
    memory: &'a Memory,
    header: Header,
}

impl Running<'_> {
    fn mask(&self) -> u32 {
        1 << self.port.slot
    }

    /// A frame that writes the control register: the software reset bit up, then down, §10.4.1.
    fn control(&mut self, control: u8) {
        let asked = control & SOFTWARE_RESET != 0;
        if self.port.resetting && !asked {
            self.drive.soft_reset();
            let [low, mid, high] = self.drive.task().lba;
            self.port.signature = u32::from_le_bytes([self.drive.task().count, low, mid, high]);
            self.end_register(false);
        } else {
            self.port.issued &= !self.mask();
        }
        self.port.resetting = asked;
    }

    fn execute(&mut self, command: Command) {
        let is_disk = matches!(self.drive, Drive::Disk(_));
        match command.code {
            code::READ_QUEUED | code::WRITE_QUEUED if is_disk => self.queued(command),
            code::READ_LOG_EXT if is_disk && command.lba[0] == LOG_DIRECTORY => {
                self.read_log(command, log_directory());
            }
            code::READ_LOG_EXT if is_disk && command.lba[0] == QUEUED_ERROR_LOG => {
                let log = self.error_log();
                self.read_log(command, log);
            }
            _ => {
                command.fill(self.drive.task_mut());
                self.drive.command(command.code, self.bay);
                self.move_data();
                self.end_register(true);
            }
        }
    }

    /// Moves all data the command has, by DMA or block by block.
    fn move_data(&mut self) {
        let mut scatter = self.header.scatter(self.memory);
        loop {
            let went_on = if self.drive.dma_flow() != Flow::None {
                self.move_dma(&mut scatter)
            } else {
                match self.drive.task().flow() {
                    Flow::None => break,
                    Flow::In => self.move_in(&mut scatter),
                    Flow::Out if self.wants_packet() => self.send_packet(),
                    Flow::Out => self.move_out(&mut scatter),
                }
            };
            if !went_on {
                // The guest gave less memory than the command moves.
                self.port.interrupt |= interrupt::OVERFLOW;
                self.drive.give_up();
                break;
            }
        }
        self.header.tell_moved(self.memory, scatter.moved);
    }

    fn wants_packet(&self) -> bool {
        self.header.packet && matches!(&*self.drive, Drive::Optical(optical) if optical.wants_packet())
    }

    fn send_packet(&mut self) -> bool {
        let packet: [u8; 12] = self.header.packet_bytes(self.memory);
        for four in packet.chunks(4) {
            let value = u32::from_le_bytes([four[0], four[1], four[2], four[3]]);
            self.drive.write_data(4, value.into(), self.bay);
        }
        true
    }

    fn move_dma(&mut self, scatter: &mut Scatter) -> bool {
        let room = scatter.room(CHUNK);
        let mut buffer = vec![0; room];
        if room == 0 {
            return false;
        }
        match self.drive.dma_flow() {
            Flow::In => {
                let moved = self.drive.dma_in(&mut buffer, self.bay);
                scatter.write(&buffer[..moved]);
            }
            _ => {
                scatter.peek(&mut buffer);
                let moved = self.drive.dma_out(&buffer, self.bay);
                scatter.used(moved);
            }
        }
        true // a drive that moved nothing has ended its command with an error
    }

    /// The data port's block goes to memory, announced by a PIO setup frame.
    fn move_in(&mut self, scatter: &mut Scatter) -> bool {
        let length = self.drive.task().data().len();
        self.announce_pio(true, length);
        let mut block = Vec::with_capacity(length);
        while block.len() < length {
            let now = (length - block.len()).min(8);
            let value = self.drive.read_data(now as u64, self.bay);
            block.extend_from_slice(&value.to_le_bytes()[..now]);
        }
        scatter.write(&block) == length
    }

    fn move_out(&mut self, scatter: &mut Scatter) -> bool {
        let length = self.drive.task().data().len();
        self.announce_pio(false, length);
        let mut done = 0;
        while done < length {
            let now = scatter.room((length - done).min(8));
            if now == 0 {
                return false;
            }
            let mut bytes = [0; 8];
            scatter.peek(&mut bytes[..now]);
            scatter.used(now);
            self.drive.write_data(now as u64, u64::from_le_bytes(bytes), self.bay);
            done += now;
        }
        true
    }

    fn announce_pio(&mut self, to_memory: bool, length: usize) {
        let task = self.drive.task();
        let frame = fis::pio_setup(task, to_memory, length as u16, task.status & !status::DATA);
        self.port.receive(self.memory, area::PIO_SETUP, &frame);
        self.port.interrupt |= interrupt::PIO_SETUP;
    }

    /// The command is over; the drive's registers go to the host.
    fn end_register(&mut self, interrupts: bool) {
        let task = self.drive.task_mut();
        task.interrupt = false;
        let frame = fis::register(task, interrupts);
        self.port.task_file = u32::from(task.status) | u32::from(task.error) << 8;
        let failed = task.status & status::ERROR != 0;
        self.port.receive(self.memory, area::REGISTER, &frame);
        if interrupts {
            self.port.interrupt |= interrupt::REGISTER;
        }
        if failed {
            // The slot stays issued, so that the guest sees which command it was.
            self.port.fail();
        } else {
            self.port.issued &= !self.mask();
        }
    }

    /// READ and WRITE FPDMA QUEUED: the count is in the features, the tag in the count, ATA8-ACS §7.53.
    fn queued(&mut self, command: Command) {
        let tag = command.count[0] >> 3;
        let write = command.code == code::WRITE_QUEUED;
        self.port.issued &= !self.mask();
        let plain = Command { count: command.features, features: [0; 2], device: 0x40, ..command };
        plain.fill(self.drive.task_mut());
        self.drive.command(if write { code::WRITE_DMA_EXT } else { code::READ_DMA_EXT }, self.bay);
        self.move_data();
        if write && command.device & TO_MEDIUM != 0 && self.bay.flush().is_err() {
            self.drive.give_up();
        }
        let task = self.drive.task_mut();
        task.interrupt = false;
        let (state, error) = (task.status, task.error);
        let failed = state & status::ERROR != 0;
        let done = if failed { 0 } else { 1 << tag };
        if failed {
            let [l0, l1, l2] = task.lba;
            let [h0, h1, h2] = task.previous_lba;
            let lba = [l0, l1, l2, h0, h1, h2];
            self.port.queued_error = Some(QueuedError { tag, status: state, error, lba });
            self.port.fail();
        }
        self.port.active &= !done;
        self.port.task_file = u32::from(state) | u32::from(error) << 8;
        let frame = fis::device_bits(state, error, done);
        self.port.receive(self.memory, area::DEVICE_BITS, &frame);
        self.port.interrupt |= interrupt::DEVICE_BITS;
    }

    /// Which queued command failed, and why. Reading it is what ends the trouble.
    fn error_log(&mut self) -> [u8; 512] {
        let mut log = [0; 512];
        log[0] = 0x80; // not a queued command
        if let Some(QueuedError { tag, status, error, lba }) = self.port.queued_error.take() {
            (log[0], log[2], log[3]) = (tag, status, error);
            log[4..7].copy_from_slice(&lba[..3]);
            log[8..11].copy_from_slice(&lba[3..]);
        }
        log[511] = log.iter().fold(0u8, |sum, byte| sum.wrapping_sub(*byte));
        log
    }

    fn read_log(&mut self, command: Command, log: [u8; 512]) {
        let task: &mut Task = self.drive.task_mut();
        command.fill(task);
        task.finish();
        self.announce_pio(true, log.len());
        let mut scatter = self.header.scatter(self.memory);
        if scatter.write(&log) < log.len() {
            self.port.interrupt |= interrupt::OVERFLOW;
        }
        self.header.tell_moved(self.memory, scatter.moved);
        self.end_register(true);
    }
}
