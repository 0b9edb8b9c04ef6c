//! An ATAPI CD drive: the packet protocol (ATA/ATAPI-6 §9.10, §9.11); its commands are in `mmc.rs`.
//!
//! Packets of 12 bytes, data by PIO or DMA. A medium change is told by one unit attention; power-on is
//! not, so that systems that read at once after a reset can. Left out: overlap, release interrupts.

use serde::{Deserialize, Serialize};

use super::bay::Bay;
use super::identify;
use super::mmc::{self, Reply, Stream};
use super::task::{DATA_MAX_BYTES, Flow, Task, error, status};

/// Interrupt reason bits in the count register, ATA/ATAPI-6 §7.11.
mod reason {
    /// The data port moves a packet, or the command is over.
    pub const COMMAND: u8 = 1;
    /// Towards the guest.
    pub const TO_HOST: u8 = 2;
}

/// Bytes of a packet.
pub const PACKET: usize = 12;

/// What a command that failed has to say, MMC-3 annex A: sense key, additional code and qualifier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sense {
    /// Sense key.
    pub key: u8,
    /// Additional sense code.
    pub code: u8,
    /// Its qualifier.
    pub qualifier: u8,
}

impl Sense {
    /// A sense of these three.
    pub const fn new(key: u8, code: u8, qualifier: u8) -> Sense {
        Sense { key, code, qualifier }
    }
}

/// What GET EVENT STATUS NOTIFICATION tells next, MMC-3 table 86.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum MediaEvent {
    /// Nothing new.
    #[default]
    None,
    /// Someone asks for the tray to be opened.
    EjectRequest,
    /// A medium came.
    NewMedia,
    /// The medium went.
    Removal,
}

/// Where a command stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Phase {
    Idle,
    /// The data port fills with the packet.
    Packet {
        dma: bool,
        limit: u32,
    },
    /// Data goes to the guest, `limit` bytes per interrupt, or by DMA.
    In {
        stream: Stream,
        position: u64,
        length: u64,
        limit: u32,
        dma: bool,
    },
    /// Data comes from the guest, `left` bytes more; it is looked at by no command offered.
    Out {
        left: u32,
        limit: u32,
        dma: bool,
    },
}

/// The drive's state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Optical {
    /// Registers.
    pub task: Task,
    pub(super) serial: String,
    transfer_mode: u8,
    pub(super) sense: Sense,
    /// To be told once, before the next command that needs the medium.
    pub(super) attention: Option<Sense>,
    /// PREVENT MEDIUM REMOVAL is in force.
    pub(super) locked: bool,
    pub(super) tray_open: bool,
    pub(super) event: MediaEvent,
    phase: Phase,
}

impl Optical {
    /// A drive after power-on.
    pub fn new(serial: &str) -> Optical {
        let mut drive = Optical {
            task: Task::new(),
            serial: serial.to_owned(),
            transfer_mode: 0x22,
            sense: Sense::default(),
            attention: None,
            locked: false,
            tray_open: false,
            event: MediaEvent::None,
            phase: Phase::Idle,
        };
        drive.task.sign(true);
        drive
    }

    /// Power-on.
    pub fn power_on(&mut self) {
        *self = Optical::new(&self.serial);
    }

    /// Software reset, or DEVICE RESET.
    pub fn soft_reset(&mut self) {
        let slave = self.task.device & 0x10;
        self.phase = Phase::Idle;
        self.sense = Sense::default();
        self.locked = false;
        self.task.interrupt = false;
        self.task.sign(true);
        self.task.device = slave;
    }

    /// The controller cannot go on with the command.
    pub fn give_up(&mut self) {
        self.phase = Phase::Idle;
        self.task.fail(error::ABORTED);
    }

    /// Whether the data port waits for a packet.
    pub fn wants_packet(&self) -> bool {
        matches!(self.phase, Phase::Packet { .. })
    }

    /// Whether the guest forbids taking the medium out.
    pub fn is_locked(&self) -> bool {
        self.locked
    }

    /// Whether the tray is open.
    pub fn is_open(&self) -> bool {
        self.tray_open
    }

    /// The person pressed the button: the guest is asked to open the tray.
    pub fn request_eject(&mut self) {
        self.event = MediaEvent::EjectRequest;
    }

    /// The medium was put in.
    pub fn inserted(&mut self) {
        self.tray_open = false;
        self.event = MediaEvent::NewMedia;
        self.attention = Some(Sense::new(6, 0x28, 0)); // not ready to ready change, medium may have changed
    }

    /// The medium was taken out.
    pub fn removed(&mut self) {
        self.tray_open = true;
        self.locked = false;
        self.event = MediaEvent::Removal;
        self.attention = None;
    }

    /// A guest writes the command register.
    pub fn command(&mut self, code: u8, bay: &mut Bay) {
        self.phase = Phase::Idle;
        self.task.stop_data();
        self.task.interrupt = false;
        self.task.error = 0;
        bay.count.commands += 1;
        match code {
            0x08 => self.soft_reset(),
            0xA0 => self.ask_packet(),
            0xA1 => self.identify(),
            0xEF => self.set_features(),
            0x94..=0x97 | 0x99 | 0xE0..=0xE3 | 0xE6 => self.task.finish(),
            0x98 | 0xE5 => {
                self.task.count = 0xFF;
                self.task.finish();
            }
            // A packet device answers these by showing its signature, ATA/ATAPI-6 §9.12.
            0x20 | 0xEC => {
                let device = self.task.device;
                self.task.sign(true);
                self.task.device = device;
                self.task.fail(error::ABORTED);
            }
            _ => self.task.fail(error::ABORTED),
        }
    }

    fn identify(&mut self) {
        let words = identify::optical(&self.serial, self.transfer_mode);
        let filled = self.task.offer(512, |data| {
            data.copy_from_slice(&words);
            Ok::<(), u8>(())
        });
        if filled.is_ok() {
            self.task.interrupt = true;
        }
    }

    fn set_features(&mut self) {
        match self.task.features {
            0x03 if identify::is_transfer_mode(self.task.count) => {
                self.transfer_mode = self.task.count;
                self.task.finish();
            }
            0x66 | 0xCC => self.task.finish(),
            _ => self.task.fail(error::ABORTED),
        }
    }

    fn ask_packet(&mut self) {
        let limit = u16::from_le_bytes([self.task.lba[1], self.task.lba[2]]);
        // Only the last block of a command may have an odd length.
        let limit = match limit & !1 {
            0 => 0xFFFE,
            even => u32::from(even),
        };
        self.task.ask(PACKET);
        self.task.count = reason::COMMAND;
        // IDENTIFY word 0 promises DRQ within 50 µs and no interrupt for it.
        self.phase = Phase::Packet { dma: self.task.features & 1 != 0, limit };
    }

    /// The guest has moved all the data port held.
    pub fn next_block(&mut self, bay: &mut Bay) {
        match std::mem::replace(&mut self.phase, Phase::Idle) {
            Phase::Packet { dma, limit } => {
                let mut packet = [0; PACKET];
                packet.copy_from_slice(&self.task.data()[..PACKET]);
                self.start(&packet, dma, limit, bay);
            }
            Phase::In { stream, position, length, limit, .. } => {
                self.send(stream, position, length, limit, bay);
            }
            Phase::Out { left, limit, .. } => self.receive(left, limit),
            Phase::Idle => {
                self.task.stop_data();
                self.task.status = status::IDLE;
            }
        }
    }

    fn start(&mut self, packet: &[u8; PACKET], dma: bool, limit: u32, bay: &mut Bay) {
        bay.count.commands += 1;
        match mmc::execute(self, packet, bay) {
            Ok(Reply::Done) => self.end(),
            Ok(Reply::Send { stream, length: 0 }) => {
                drop(stream);
                self.end();
            }
            Ok(Reply::Send { stream, length }) if dma => {
                self.phase = Phase::In { stream, position: 0, length, limit, dma: true };
                self.await_dma(reason::TO_HOST);
            }
            Ok(Reply::Send { stream, length }) => self.send(stream, 0, length, limit, bay),
            Ok(Reply::Receive { length: 0 }) => self.end(),
            Ok(Reply::Receive { length }) if dma => {
                self.phase = Phase::Out { left: length, limit, dma: true };
                self.await_dma(0);
            }
            Ok(Reply::Receive { length }) => self.receive(length, limit),
            Err(sense) => self.check(sense),
        }
    }

    fn await_dma(&mut self, reason: u8) {
        self.task.stop_data();
        self.task.count = reason;
        self.task.status = status::IDLE | status::DATA;
    }

    /// The command ended well.
    fn end(&mut self) {
        self.phase = Phase::Idle;
        self.task.count = reason::COMMAND | reason::TO_HOST;
        self.task.finish();
    }

    /// The command ended with a check condition.
    fn check(&mut self, sense: Sense) {
        self.phase = Phase::Idle;
        self.sense = sense;
        self.task.count = reason::COMMAND | reason::TO_HOST;
        self.task.fail(sense.key << 4 | error::ABORTED);
    }

    /// Offers the next block of a reply.
    fn send(&mut self, stream: Stream, position: u64, length: u64, limit: u32, bay: &mut Bay) {
        if position >= length {
            return self.end();
        }
        let now = (length - position).min(limit.into());
        match self.task.offer(now as usize, |data| stream.fill(position, data, bay)) {
            Ok(()) => {
                self.announce(now as u16, reason::TO_HOST);
                self.phase = Phase::In { stream, position: position + now, length, limit, dma: false };
            }
            Err(sense) => self.check(sense),
        }
    }

    /// Asks for the next block of a parameter list.
    fn receive(&mut self, left: u32, limit: u32) {
        if left == 0 {
            return self.end();
        }
        let now = left.min(limit);
        self.task.ask(now as usize);
        self.announce(now as u16, 0);
        self.phase = Phase::Out { left: left - now, limit, dma: false };
    }

    /// Says how many bytes the data port moves now, and which way.
    fn announce(&mut self, bytes: u16, reason: u8) {
        [self.task.lba[1], self.task.lba[2]] = bytes.to_le_bytes();
        self.task.count = reason;
        self.task.interrupt = true;
    }

    /// Which way a DMA command waits to move.
    pub fn dma_flow(&self) -> Flow {
        match self.phase {
            Phase::In { dma: true, .. } => Flow::In,
            Phase::Out { dma: true, .. } => Flow::Out,
            _ => Flow::None,
        }
    }

    /// The bus master takes data for memory; gives how much. 0 after an error.
    pub fn dma_in(&mut self, buffer: &mut [u8], bay: &mut Bay) -> usize {
        let Phase::In { stream, position, length, dma: true, .. } = &mut self.phase else { return 0 };
        let now = (*length - *position).min(buffer.len() as u64);
        if let Err(sense) = stream.fill(*position, &mut buffer[..now as usize], bay) {
            self.check(sense);
            return 0;
        }
        *position += now;
        if position >= length {
            self.end();
        }
        now as usize
    }

    /// The bus master brings data from memory; gives how much was wanted.
    pub fn dma_out(&mut self, bytes: &[u8]) -> usize {
        let Phase::Out { left, dma: true, .. } = &mut self.phase else { return 0 };
        let now = (*left).min(bytes.len().min(DATA_MAX_BYTES) as u32);
        *left -= now;
        if *left == 0 {
            self.end();
        }
        now as usize
    }

    /// Whether a loaded state is one that accesses can lead to.
    pub fn is_valid(&self) -> bool {
        let limit_ok = |limit: u32| (2..=0xFFFE).contains(&limit);
        let phase = match &self.phase {
            Phase::Idle => true,
            Phase::Packet { limit, .. } => limit_ok(*limit) && self.task.data().len() == PACKET,
            Phase::In { stream, position, length, limit, .. } => {
                limit_ok(*limit) && position <= length && stream.holds(*length)
            }
            Phase::Out { left, limit, .. } => limit_ok(*limit) && *left <= 0xFFFF,
        };
        self.task.is_valid() && phase
    }
}
