//! The data commands of the 82077AA: which sectors they move, by DMA or through the FIFO, and how they end.
//!
//! Datasheet §5.1 and §6. With DMA a command runs to its end when its last byte is written: to the
//! terminal count, to an error, or past its last sector. A disk that is not there is told at once, as a
//! missing address mark, where the real chip would wait for an index pulse that never comes.

use serde::{Deserialize, Serialize};
use storage::{DiskError, FloppyGeometry};

use super::drive::FloppyBay;
use super::fdc::{DRIVES, Fdc, Outside, Phase, st0};
use crate::dma::{Direction, Moved};

const SECTOR: usize = 512;
/// Size code of 512-byte sectors.
const SIZE_CODE: u8 = 2;

/// Status register 1, §6.2.
mod st1 {
    pub const MISSING_MARK: u8 = 0x01;
    pub const NOT_WRITABLE: u8 = 0x02;
    pub const NO_DATA: u8 = 0x04;
    pub const OVERRUN: u8 = 0x10;
    pub const DATA_ERROR: u8 = 0x20;
    pub const END_OF_CYLINDER: u8 = 0x80;
}

/// Status register 2, §6.3.
mod st2 {
    pub const BAD_CYLINDER: u8 = 0x02;
    pub const WRONG_CYLINDER: u8 = 0x10;
    pub const DATA_ERROR: u8 = 0x20;
    pub const CONTROL_MARK: u8 = 0x40;
}

/// DMA channel 2, as the chip sees it.
pub trait Dma {
    /// Moves as much of `buffer` as the channel takes or gives.
    fn transfer(&mut self, direction: Direction, buffer: &mut [u8]) -> Moved;
}

/// What is done with the sectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Kind {
    Read,
    ReadDeleted,
    ReadTrack,
    Write,
    Verify,
    Format,
}

/// A data command under way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Transfer {
    kind: Kind,
    drive: u8,
    /// The side the head is on.
    head: u8,
    both_sides: bool,
    /// Cylinder, head, sector and size code, as looked for in the sector IDs.
    id: [u8; 4],
    last_sector: u8,
    /// Sectors left of VERIFY with a count, of READ TRACK and of FORMAT TRACK.
    left: Option<u8>,
    /// FORMAT TRACK's fill byte.
    fill: u8,
}

/// Status registers 1 and 2 of a command that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Fault(u8, u8);

impl Transfer {
    /// Whether the FIFO is read by the guest.
    pub(super) fn is_to_host(&self) -> bool {
        !matches!(self.kind, Kind::Write | Kind::Format)
    }

    /// Bytes that go through the FIFO at a time.
    pub(super) fn block_bytes(&self) -> usize {
        if self.kind == Kind::Format { 4 } else { SECTOR }
    }

    /// Whether a loaded state is one that commands can lead to.
    pub(super) fn is_valid(&self) -> bool {
        self.drive < 4 && self.head < 2 && self.kind != Kind::Verify
    }

    /// From the nine bytes of a read, write or verify.
    fn new(kind: Kind, command: &[u8]) -> Transfer {
        let (code, select) = (command[0], command[1]);
        let mut transfer = Transfer {
            kind,
            drive: select & 3,
            head: select >> 2 & 1,
            both_sides: code & 0x80 != 0,
            id: [command[2], command[3], command[4], command[5]],
            last_sector: command[6],
            left: None,
            fill: 0,
        };
        match kind {
            Kind::ReadTrack => {
                // Sectors come as they lie on the track, from the index hole on.
                transfer.id[2] = 1;
                transfer.left = Some(transfer.last_sector);
                transfer.both_sides = false;
            }
            // EC: the last byte counts the sectors.
            Kind::Verify if select & 0x80 != 0 => transfer.left = Some(command[8]),
            _ => {}
        }
        transfer
    }

    /// Where on the disk the sector lies whose ID is looked for.
    fn locate(&self, fdc: &Fdc, bay: Option<&FloppyBay>) -> Result<u64, Fault> {
        let (geometry, track) = medium(fdc, self.drive.into(), self.head, bay)?;
        let [cylinder, head, sector, size] = self.id;
        if cylinder != track {
            let bad = if cylinder == 0xFF { st2::BAD_CYLINDER } else { st2::WRONG_CYLINDER };
            return Err(Fault(st1::NO_DATA, bad));
        }
        if head != self.head || size != SIZE_CODE || sector == 0 || sector > geometry.sectors {
            return Err(Fault(st1::NO_DATA, 0));
        }
        let side = u64::from(track) * u64::from(geometry.heads) + u64::from(head);
        Ok((side * u64::from(geometry.sectors) + u64::from(sector) - 1) * SECTOR as u64)
    }

    /// Goes to the next sector, datasheet table 5-8; whether there is one.
    fn advance(&mut self) -> bool {
        if let Some(left) = &mut self.left {
            *left = left.wrapping_sub(1);
            if self.kind == Kind::Format {
                return *left > 0; // the guest gives every ID
            }
            if *left == 0 {
                self.id[2] = self.id[2].wrapping_add(1);
                return false;
            }
        }
        if self.id[2] != self.last_sector {
            self.id[2] = self.id[2].wrapping_add(1);
            return true;
        }
        self.id[2] = 1;
        if !self.both_sides {
            self.id[0] = self.id[0].wrapping_add(1);
            return false;
        }
        self.id[1] ^= 1;
        if self.head == 1 {
            self.id[0] = self.id[0].wrapping_add(1);
            return false;
        }
        self.head = 1;
        true
    }
}

/// The layout of the disk under the head and the track it is on, if the head can read there at all.
fn medium(fdc: &Fdc, drive: usize, head: u8, bay: Option<&FloppyBay>) -> Result<(FloppyGeometry, u8), Fault> {
    let no_mark = Fault(st1::MISSING_MARK, 0);
    let state = fdc.drives.get(drive).and_then(Option::as_ref).ok_or(no_mark)?;
    let geometry = bay.and_then(FloppyBay::geometry).ok_or(no_mark)?;
    // Double density is read at 250 kbit/s, and at 300 in a drive that turns faster.
    let rate_fits = match fdc.rate {
        0 => geometry.rate_kbps == 500,
        1 | 2 => geometry.rate_kbps == 250,
        _ => geometry.rate_kbps == 1000,
    };
    if !rate_fits || state.track >= geometry.cylinders || head >= geometry.heads {
        return Err(no_mark);
    }
    Ok((geometry, state.track))
}

impl Fdc {
    /// Starts a data command.
    pub(super) fn start(&mut self, command: &[u8], outside: &mut Outside) {
        let kind = match command[0] & 0x1F {
            0x02 => Kind::ReadTrack,
            0x05 | 0x09 => Kind::Write,
            0x06 => Kind::Read,
            0x0C => Kind::ReadDeleted,
            0x16 => Kind::Verify,
            0x0A => return self.read_id(command, outside),
            _ => return self.start_format(command, outside),
        };
        let transfer = Transfer::new(kind, command);
        self.last_sector = transfer.last_sector;
        self.implied_seek(transfer.drive.into(), transfer.id[0], outside);
        self.begin(transfer, command[0], outside);
    }

    fn start_format(&mut self, command: &[u8], outside: &mut Outside) {
        let select = command[1];
        let transfer = Transfer {
            kind: Kind::Format,
            drive: select & 3,
            head: select >> 2 & 1,
            both_sides: false,
            id: [0, 0, 0, command[2]],
            last_sector: command[3],
            left: Some(command[3]),
            fill: command[5],
        };
        self.last_sector = command[3];
        self.begin(transfer, command[0], outside);
    }

    fn begin(&mut self, transfer: Transfer, code: u8, outside: &mut Outside) {
        let drive = usize::from(transfer.drive);
        if let Some(bay) = outside.bays.get_mut(drive) {
            bay.bay.count.commands += 1;
        }
        let bay = outside.bays.get(drive);
        let protected = bay.is_none_or(|bay| bay.bay.is_read_only());
        if let Err(fault) = medium(self, drive, transfer.head, bay) {
            return self.fail(&transfer, fault);
        }
        if code & 0x40 == 0 {
            return self.fail(&transfer, Fault(st1::MISSING_MARK, 0)); // FM marks on an MFM disk
        }
        if matches!(transfer.kind, Kind::Write | Kind::Format) && protected {
            return self.fail(&transfer, Fault(st1::NOT_WRITABLE, 0));
        }
        if transfer.kind == Kind::Format && transfer.left == Some(0) {
            return self.succeed(&transfer, 0);
        }
        if transfer.kind == Kind::Verify {
            self.verify(transfer, outside);
        } else if self.uses_dma() {
            self.run(transfer, outside);
        } else {
            self.offer(transfer, outside);
        }
    }

    /// Moves sectors by DMA until the terminal count, an error, or the last sector. At most two sides of
    /// 255 sectors.
    fn run(&mut self, mut transfer: Transfer, outside: &mut Outside) {
        let mut block = [0; SECTOR];
        let block = &mut block[..transfer.block_bytes()];
        loop {
            if let Err(fault) = self.fetch(&transfer, block, outside) {
                return self.fail(&transfer, fault);
            }
            let direction = if transfer.is_to_host() { Direction::ToMemory } else { Direction::FromMemory };
            let moved = match self.dma_is_gated_off() {
                true => Moved { bytes: 0, terminal_count: false },
                false => outside.dma.transfer(direction, block),
            };
            if moved.bytes < block.len() && !moved.terminal_count {
                return self.fail(&transfer, Fault(st1::OVERRUN, 0));
            }
            if !transfer.is_to_host() {
                // After the terminal count the rest of the sector is written as zeros.
                block[moved.bytes..].fill(0);
                if let Err(fault) = self.store(&mut transfer, block, outside) {
                    return self.fail(&transfer, fault);
                }
            }
            let more = transfer.advance();
            if moved.terminal_count || !more {
                return self.finish(&transfer, moved.terminal_count);
            }
            if transfer.kind == Kind::ReadDeleted {
                return self.succeed(&transfer, st2::CONTROL_MARK);
            }
        }
    }

    /// Without DMA: fills the FIFO with the next sector, or asks for it.
    fn offer(&mut self, transfer: Transfer, outside: &mut Outside) {
        let mut data = vec![0; transfer.block_bytes()];
        match self.fetch(&transfer, &mut data, outside) {
            Ok(()) => {
                self.phase = Phase::Execution { transfer, data, position: 0 };
                self.interrupt = true;
            }
            Err(fault) => self.fail(&transfer, fault),
        }
    }

    /// The guest has moved all of the FIFO's sector.
    pub(super) fn next_data(&mut self, outside: &mut Outside) {
        let phase = std::mem::replace(&mut self.phase, Phase::Command);
        let Phase::Execution { mut transfer, data, .. } = phase else { return };
        if !transfer.is_to_host()
            && let Err(fault) = self.store(&mut transfer, &data, outside)
        {
            return self.fail(&transfer, fault);
        }
        if !transfer.advance() {
            // Nobody gives a terminal count here, so this is how such a transfer always ends.
            return self.finish(&transfer, false);
        }
        match transfer.kind {
            Kind::ReadDeleted => self.succeed(&transfer, st2::CONTROL_MARK),
            _ => self.offer(transfer, outside),
        }
    }

    fn verify(&mut self, mut transfer: Transfer, outside: &mut Outside) {
        let mut block = [0; SECTOR];
        loop {
            if let Err(fault) = self.fetch(&transfer, &mut block, outside) {
                return self.fail(&transfer, fault);
            }
            if !transfer.advance() {
                return self.succeed(&transfer, 0);
            }
        }
    }

    /// Reads the sector a transfer to the guest is at.
    fn fetch(&self, transfer: &Transfer, block: &mut [u8], outside: &mut Outside) -> Result<(), Fault> {
        if transfer.kind == Kind::Format {
            return Ok(());
        }
        let drive = usize::from(transfer.drive);
        let offset = transfer.locate(self, outside.bays.get(drive))?;
        match transfer.is_to_host() {
            true => outside.bays[drive].read(offset, block).map_err(|error| host_fault(&error)),
            false => Ok(()),
        }
    }

    /// Writes the sector a transfer from the guest is at.
    fn store(&self, transfer: &mut Transfer, block: &[u8], outside: &mut Outside) -> Result<(), Fault> {
        let drive = usize::from(transfer.drive);
        let filled = [transfer.fill; SECTOR];
        let bytes = if transfer.kind == Kind::Format {
            transfer.id.copy_from_slice(block);
            &filled[..]
        } else {
            block
        };
        let offset = transfer.locate(self, outside.bays.get(drive))?;
        debug_assert!(drive < DRIVES, "what was located has a drive");
        outside.bays[drive].write(offset, bytes).map_err(|error| host_fault(&error))
    }

    fn read_id(&mut self, command: &[u8], outside: &mut Outside) {
        let select = command[1];
        let mut transfer = Transfer::new(Kind::Verify, &[command[0], select & 7, 0, 0, 0, 0, 0, 0, 0]);
        let drive = usize::from(select & 3);
        let found = medium(self, drive, transfer.head, outside.bays.get(drive));
        match found {
            Ok((geometry, track)) if command[0] & 0x40 != 0 => {
                let rotated = self.drives.get_mut(drive).and_then(Option::as_mut);
                let sector = rotated.map_or(1, |drive| drive.rotate(&geometry));
                transfer.id = [track, transfer.head, sector, SIZE_CODE];
                self.succeed(&transfer, 0);
            }
            Ok(_) => self.fail(&transfer, Fault(st1::MISSING_MARK, 0)),
            Err(fault) => self.fail(&transfer, fault),
        }
    }

    /// Ends after the last sector, or by the terminal count. Only the latter is a normal end, but for
    /// commands that count their sectors.
    fn finish(&mut self, transfer: &Transfer, terminal_count: bool) {
        let mark = if transfer.kind == Kind::ReadDeleted { st2::CONTROL_MARK } else { 0 };
        if terminal_count || transfer.kind == Kind::Format {
            self.succeed(transfer, mark);
        } else {
            self.fail(transfer, Fault(st1::END_OF_CYLINDER, mark));
        }
    }

    fn succeed(&mut self, transfer: &Transfer, status_2: u8) {
        self.tell(transfer, 0, 0, status_2);
    }

    fn fail(&mut self, transfer: &Transfer, Fault(status_1, status_2): Fault) {
        self.tell(transfer, st0::ABNORMAL, status_1, status_2);
    }

    fn tell(&mut self, transfer: &Transfer, status_0: u8, status_1: u8, status_2: u8) {
        let [cylinder, head, sector, size] = transfer.id;
        let status_0 = status_0 | transfer.head << 2 | transfer.drive;
        self.end(vec![status_0, status_1, status_2, cylinder, head, sector, size]);
    }
}

/// What the guest is told when the host cannot read or write the image.
fn host_fault(error: &DiskError) -> Fault {
    match error {
        DiskError::OutOfRange { .. } => Fault(st1::NO_DATA, 0),
        DiskError::ReadOnly => Fault(st1::NOT_WRITABLE, 0),
        _ => Fault(st1::DATA_ERROR, st2::DATA_ERROR),
    }
}
