//! The commands of a CD drive: SPC-2 and MMC-3 (T10/1363-D), read-only, one session, one data track.
//!
//! Left out: audio play, writing, DVD structure and CSS, changers, C2 pointers and sub-channel data in
//! READ CD. A MODE SELECT is taken in full and changes nothing.

use serde::{Deserialize, Serialize};

use super::atapi::{MediaEvent, Optical, PACKET, Sense};
use super::bay::Bay;
use super::raw_sector::{self, Fields};

/// Bytes of user data in one block.
const BLOCK: u64 = 2048;
/// The most blocks of one READ by DMA or PIO: as many as READ (10) can ask for.
const READ_MAX_BLOCKS: u32 = 0xFFFF;
/// The most blocks of one READ CD whose sectors are made up around the user data: 9 MiB.
const RAW_MAX_BLOCKS: u32 = 4096;
/// The longest reply that is not sectors.
const REPLY_MAX_BYTES: usize = 0x1_0000;
/// Discs with more blocks than fit on a CD are DVDs.
const CD_MAX_BLOCKS: u64 = 450_000;

const NO_MEDIUM_CLOSED: Sense = Sense::new(2, 0x3A, 1);
const NO_MEDIUM_OPEN: Sense = Sense::new(2, 0x3A, 2);
const UNREADABLE: Sense = Sense::new(3, 0x11, 0);
const INVALID_COMMAND: Sense = Sense::new(5, 0x20, 0);
const OUT_OF_RANGE: Sense = Sense::new(5, 0x21, 0);
const INVALID_FIELD: Sense = Sense::new(5, 0x24, 0);
const SAVING_UNSUPPORTED: Sense = Sense::new(5, 0x39, 0);
const REMOVAL_PREVENTED: Sense = Sense::new(5, 0x53, 2);
const ILLEGAL_FOR_TRACK: Sense = Sense::new(5, 0x64, 0);

/// What a command leads to.
pub enum Reply {
    /// It is over.
    Done,
    /// `length` bytes of `stream` go to the guest.
    Send {
        /// Where they come from.
        stream: Stream,
        /// How many.
        length: u64,
    },
    /// `length` bytes come from the guest.
    Receive {
        /// How many.
        length: u32,
    },
}

/// Where the bytes of a reply come from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Stream {
    /// These bytes.
    Bytes(Vec<u8>),
    /// The user data of blocks from `first`.
    Blocks {
        /// First block.
        first: u32,
    },
    /// Chosen fields of whole sectors from `first`.
    Raw {
        /// First block.
        first: u32,
        /// Which fields.
        fields: Fields,
    },
}

impl Stream {
    /// Fills `buffer` with the bytes from `position`.
    pub fn fill(&self, position: u64, buffer: &mut [u8], bay: &mut Bay) -> Result<(), Sense> {
        match self {
            Stream::Bytes(bytes) => {
                let rest = bytes.get(position as usize..).unwrap_or_default();
                let taken = rest.len().min(buffer.len());
                buffer[..taken].copy_from_slice(&rest[..taken]);
                buffer[taken..].fill(0);
                Ok(())
            }
            Stream::Blocks { first } => {
                bay.read(u64::from(*first) * BLOCK + position, buffer).map_err(|_| UNREADABLE)
            }
            Stream::Raw { first, fields } => fill_raw(*first, *fields, position, buffer, bay),
        }
    }

    /// Whether it can give `length` bytes: a loaded state may claim anything.
    pub fn holds(&self, length: u64) -> bool {
        match self {
            Stream::Bytes(bytes) => bytes.len() <= REPLY_MAX_BYTES && length <= bytes.len() as u64,
            Stream::Blocks { .. } => length <= u64::from(READ_MAX_BLOCKS) * BLOCK,
            Stream::Raw { fields, .. } => {
                fields.bytes() > 0 && length <= u64::from(RAW_MAX_BLOCKS) * fields.bytes()
            }
        }
    }
}

fn fill_raw(
    first: u32,
    fields: Fields,
    position: u64,
    buffer: &mut [u8],
    bay: &mut Bay,
) -> Result<(), Sense> {
    let (size, mut position, mut done) = (fields.bytes(), position, 0);
    while done < buffer.len() {
        let block = u64::from(first) + position / size;
        let mut user = [0; BLOCK as usize];
        bay.read(block * BLOCK, &mut user).map_err(|_| UNREADABLE)?;
        let sector = fields.choose(&raw_sector::mode_1(block as u32, &user));
        let rest = &sector[(position % size) as usize..];
        let taken = rest.len().min(buffer.len() - done);
        buffer[done..done + taken].copy_from_slice(&rest[..taken]);
        (done, position) = (done + taken, position + taken as u64);
    }
    Ok(())
}

/// Executes a packet.
pub fn execute(drive: &mut Optical, packet: &[u8; PACKET], bay: &mut Bay) -> Result<Reply, Sense> {
    let code = packet[0];
    // These are answered whatever the medium does, SPC-2 §7.25 and MMC-3 §5.10.
    let unconcerned = matches!(code, 0x03 | 0x12 | 0x46 | 0x4A);
    if let Some(attention) = drive.attention.take_if(|_| !unconcerned) {
        return Err(attention);
    }
    if code != 0x03 {
        drive.sense = Sense::default();
    }
    let blocks = present_blocks(drive, bay);
    let need = || blocks.ok_or(if drive.tray_open { NO_MEDIUM_OPEN } else { NO_MEDIUM_CLOSED });
    match code {
        0x00 => need().map(|_| Reply::Done),  // TEST UNIT READY
        0x01 | 0x2B => seek(packet, need()?), // REZERO UNIT, SEEK (10)
        0x03 => Ok(send(request_sense(drive), packet[4].into())),
        0x12 => inquiry(packet),
        0x15 => Ok(Reply::Receive { length: packet[4].into() }), // MODE SELECT (6)
        0x1A => mode_sense_6(drive, packet, blocks),
        0x1B => start_stop(drive, packet, bay),
        0x1E => {
            drive.locked = packet[4] & 1 != 0;
            Ok(Reply::Done)
        }
        0x25 => Ok(send(read_capacity(need()?), 8)),
        0x28 => read(u32_at(packet, 2), u16_at(packet, 7).into(), need()?),
        0xA8 => read(u32_at(packet, 2), u32_at(packet, 6), need()?),
        0x42 => read_subchannel(packet, need()?),
        0x43 => read_toc(packet, need()?),
        0x46 => get_configuration(drive, packet, blocks),
        0x4A => event_status(drive, packet, blocks),
        0x4E => need().map(|_| Reply::Done), // STOP PLAY/SCAN
        0x51 => need().map(|_| send(disc_information(), u16_at(packet, 7).into())),
        0x55 => Ok(Reply::Receive { length: u16_at(packet, 7).into() }), // MODE SELECT (10)
        0x5A => mode_sense_10(drive, packet, blocks),
        0xB9 => read_cd_msf(packet, need()?),
        0xBB => Ok(Reply::Done), // SET CD SPEED
        0xBD => Ok(send(mechanism_status(drive), u16_at(packet, 8).into())),
        0xBE => {
            let count = u32::from_be_bytes([0, packet[6], packet[7], packet[8]]);
            read_cd(packet, u32_at(packet, 2), count, need()?)
        }
        _ => Err(INVALID_COMMAND),
    }
}

/// Blocks of the medium, if there is one and the tray is closed.
fn present_blocks(drive: &Optical, bay: &Bay) -> Option<u64> {
    let blocks = bay.length_bytes() / BLOCK;
    (bay.medium.is_some() && !drive.tray_open).then_some(blocks.min(u32::MAX.into()))
}

fn u16_at(packet: &[u8; PACKET], at: usize) -> u16 {
    u16::from_be_bytes([packet[at], packet[at + 1]])
}

fn u32_at(packet: &[u8; PACKET], at: usize) -> u32 {
    u32::from_be_bytes([packet[at], packet[at + 1], packet[at + 2], packet[at + 3]])
}

/// A reply of at most as many bytes as the guest has room for.
fn send(bytes: Vec<u8>, allocation: u64) -> Reply {
    let length = allocation.min(bytes.len() as u64);
    Reply::Send { stream: Stream::Bytes(bytes), length }
}

fn seek(packet: &[u8; PACKET], blocks: u64) -> Result<Reply, Sense> {
    let target = if packet[0] == 0x2B { u32_at(packet, 2) } else { 0 };
    if u64::from(target) < blocks.max(1) { Ok(Reply::Done) } else { Err(OUT_OF_RANGE) }
}

/// SPC-2 table 103, fixed format. The sense is told once.
fn request_sense(drive: &mut Optical) -> Vec<u8> {
    let attention = drive.attention.filter(|_| drive.sense.key == 0);
    if attention.is_some() {
        drive.attention = None;
    }
    let sense = attention.unwrap_or(drive.sense);
    drive.sense = Sense::default();
    let mut bytes = vec![0; 18];
    bytes[0] = 0x70;
    bytes[2] = sense.key;
    bytes[7] = 10;
    bytes[12] = sense.code;
    bytes[13] = sense.qualifier;
    bytes
}

fn inquiry(packet: &[u8; PACKET]) -> Result<Reply, Sense> {
    if packet[1] & 3 != 0 || packet[2] != 0 {
        return Err(INVALID_FIELD); // no vital product data
    }
    let mut bytes = vec![0x05, 0x80, 0x05, 0x32, 31, 0, 0, 0]; // CD, removable, SPC-3 over ATAPI
    bytes.extend_from_slice(b"VITRINE CD-ROM          1.0 ");
    Ok(send(bytes, u16_at(packet, 3).into()))
}

/// START STOP UNIT, MMC-3 §5.39: LoEj and Start.
fn start_stop(drive: &mut Optical, packet: &[u8; PACKET], bay: &Bay) -> Result<Reply, Sense> {
    match packet[4] & 3 {
        2 if drive.locked => return Err(REMOVAL_PREVENTED),
        2 if !drive.tray_open => {
            drive.tray_open = true;
            drive.event = MediaEvent::Removal;
        }
        3 if drive.tray_open && bay.medium.is_some() => drive.inserted(),
        3 => drive.tray_open = false,
        _ => {}
    }
    Ok(Reply::Done)
}

fn read_capacity(blocks: u64) -> Vec<u8> {
    let last = blocks.saturating_sub(1) as u32;
    [last.to_be_bytes(), (BLOCK as u32).to_be_bytes()].concat()
}

fn check_blocks(first: u32, count: u32, blocks: u64) -> Result<(), Sense> {
    if u64::from(first) + u64::from(count) > blocks {
        return Err(OUT_OF_RANGE);
    }
    if count > READ_MAX_BLOCKS { Err(INVALID_FIELD) } else { Ok(()) }
}

fn read(first: u32, count: u32, blocks: u64) -> Result<Reply, Sense> {
    check_blocks(first, count, blocks)?;
    Ok(Reply::Send { stream: Stream::Blocks { first }, length: u64::from(count) * BLOCK })
}

/// READ CD, MMC-3 §5.19.
fn read_cd(packet: &[u8; PACKET], first: u32, count: u32, blocks: u64) -> Result<Reply, Sense> {
    check_blocks(first, count, blocks)?;
    // Expected sector type: any, or mode 1.
    if !matches!(packet[1] >> 2 & 7, 0 | 2) {
        return Err(ILLEGAL_FOR_TRACK);
    }
    if packet[9] & 0x06 != 0 || packet[10] & 7 != 0 {
        return Err(INVALID_FIELD);
    }
    let fields = Fields::new(packet[9]);
    let stream = match fields.is_user_data_only() {
        true => Stream::Blocks { first },
        false if count > RAW_MAX_BLOCKS => return Err(INVALID_FIELD),
        false => Stream::Raw { first, fields },
    };
    Ok(Reply::Send { stream, length: u64::from(count) * fields.bytes() })
}

fn read_cd_msf(packet: &[u8; PACKET], blocks: u64) -> Result<Reply, Sense> {
    let block = |at: usize| raw_sector::block_of_msf([packet[at], packet[at + 1], packet[at + 2]]);
    let (Some(start), Some(end)) = (block(3), block(6)) else { return Err(OUT_OF_RANGE) };
    let count = end.checked_sub(start).ok_or(INVALID_FIELD)?;
    read_cd(packet, start, count, blocks)
}

/// An address in the form asked for: minute, second, frame, or block number.
fn address(block: u64, msf: bool) -> [u8; 4] {
    let block = block.min(u32::MAX.into()) as u32;
    if !msf {
        return block.to_be_bytes();
    }
    let [minute, second, frame] = raw_sector::msf_of_block(block);
    [0, minute, second, frame]
}

/// READ TOC/PMA/ATIP, MMC-3 §5.23, formats 0 (TOC), 1 (sessions) and 2 (full TOC).
fn read_toc(packet: &[u8; PACKET], blocks: u64) -> Result<Reply, Sense> {
    let msf = packet[1] & 2 != 0;
    // ATAPI (SFF-8020i) had the format in the last byte.
    let format = match packet[2] & 0x0F {
        0 => packet[9] >> 6,
        format => format,
    };
    let track = |number: u8, block: u64| {
        let [a, b, c, d] = address(block, msf);
        [0, 0x14, number, 0, a, b, c, d] // data track, recorded uninterrupted
    };
    let mut bytes = vec![0, 0, 1, 1];
    match (format, packet[6]) {
        (0, 0 | 1) => bytes.extend([track(1, 0), track(0xAA, blocks)].concat()),
        (0, 0xAA) => bytes.extend(track(0xAA, blocks)),
        (1, _) => bytes.extend(track(1, 0)),
        (2, 0 | 1) => {
            let point = |point: u8, [m, s, f]: [u8; 3]| [1, 0x14, 0, point, 0, 0, 0, 0, m, s, f];
            let lead_out = raw_sector::msf_of_block(blocks.min(u32::MAX.into()) as u32);
            bytes.extend(point(0xA0, [1, 0, 0]));
            bytes.extend(point(0xA1, [1, 0, 0]));
            bytes.extend(point(0xA2, lead_out));
            bytes.extend(point(1, raw_sector::msf_of_block(0)));
        }
        _ => return Err(INVALID_FIELD),
    }
    let length = bytes.len() as u16 - 2;
    bytes[..2].copy_from_slice(&length.to_be_bytes());
    Ok(send(bytes, u16_at(packet, 7).into()))
}

/// READ SUB-CHANNEL, MMC-3 §5.22: nothing plays, and no catalogue number or ISRC is recorded.
fn read_subchannel(packet: &[u8; PACKET], _blocks: u64) -> Result<Reply, Sense> {
    const NO_AUDIO: u8 = 0x15;
    let data = match (packet[2] & 0x40 != 0, packet[3]) {
        (false, _) => Vec::new(),
        (true, 1) => [&[1, 0x14, 1, 1][..], &[0; 8][..]].concat(),
        (true, format @ 2..=3) => [&[format, 0, 0, 0][..], &[0; 16][..]].concat(),
        (true, _) => return Err(INVALID_FIELD),
    };
    let length = (data.len() as u16).to_be_bytes();
    let bytes = [&[0, NO_AUDIO, length[0], length[1]][..], &data].concat();
    Ok(send(bytes, u16_at(packet, 7).into()))
}

/// READ DISC INFORMATION, MMC-3 table 149: one complete session, one track.
fn disc_information() -> Vec<u8> {
    let mut bytes = vec![0; 34];
    bytes[1] = 32;
    bytes[2] = 0x0E; // last session and disc complete
    bytes[3..7].fill(1);
    bytes[7] = 0x20; // unrestricted use
    bytes[16..24].fill(0xFF); // no lead-in or lead-out to write
    bytes
}

/// MECHANISM STATUS, MMC-3 table 127: no changer.
fn mechanism_status(drive: &Optical) -> Vec<u8> {
    vec![0, u8::from(drive.tray_open) << 4, 0, 0, 0, 1, 0, 0]
}

/// Mode page header's medium type, SFF-8020i table 52.
fn medium_type(drive: &Optical, blocks: Option<u64>) -> u8 {
    match blocks {
        Some(_) => 0x01,
        None if drive.tray_open => 0x71,
        None => 0x70,
    }
}

/// The mode pages, MMC-3 §6.3. `control` 1 asks for what can be changed: nothing.
fn mode_pages(drive: &Optical, page: u8, control: u8) -> Result<Vec<u8>, Sense> {
    let lock = u8::from(drive.locked) << 1;
    let speed = 8467u16.to_be_bytes(); // kB/s: 48x
    let all: [&[u8]; 5] = [
        &[0x01, 6, 0, 5, 0, 0, 0, 0],                               // read error recovery
        &[0x0D, 6, 0, 0, 0, 60, 0, 75],                             // seconds per minute, frames per second
        &[0x0E, 14, 4, 0, 0, 0, 0, 75, 1, 255, 2, 255, 0, 0, 0, 0], // CD audio
        &[0x1A, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],                  // power condition
        // Capabilities: tray with lock and eject; reads CD-R, CD-RW, method 2; mode 2, no audio.
        &[
            0x2A,
            18,
            0x07,
            0,
            0x70,
            0,
            0x29 | lock,
            0,
            speed[0],
            speed[1],
            0,
            2,
            0,
            128,
            speed[0],
            speed[1],
            0,
            0,
            0,
            0,
        ],
    ];
    if control == 3 {
        return Err(SAVING_UNSUPPORTED);
    }
    let mut bytes = Vec::new();
    for found in all.iter().filter(|found| page == 0x3F || found[0] == page) {
        let start = bytes.len();
        bytes.extend_from_slice(found);
        if control == 1 {
            bytes[start + 2..].fill(0);
        }
    }
    if bytes.is_empty() { Err(INVALID_FIELD) } else { Ok(bytes) }
}

fn mode_sense_6(drive: &Optical, packet: &[u8; PACKET], blocks: Option<u64>) -> Result<Reply, Sense> {
    let pages = mode_pages(drive, packet[2] & 0x3F, packet[2] >> 6)?;
    let header = [pages.len() as u8 + 3, medium_type(drive, blocks), 0, 0];
    Ok(send([&header[..], &pages].concat(), packet[4].into()))
}

fn mode_sense_10(drive: &Optical, packet: &[u8; PACKET], blocks: Option<u64>) -> Result<Reply, Sense> {
    let pages = mode_pages(drive, packet[2] & 0x3F, packet[2] >> 6)?;
    let header = [0, pages.len() as u8 + 6, medium_type(drive, blocks), 0, 0, 0, 0, 0];
    Ok(send([&header[..], &pages].concat(), u16_at(packet, 7).into()))
}

/// GET CONFIGURATION, MMC-3 §5.6 and features of §5.3.
fn get_configuration(_drive: &Optical, packet: &[u8; PACKET], blocks: Option<u64>) -> Result<Reply, Sense> {
    const CD_ROM: u16 = 0x0008;
    const DVD_ROM: u16 = 0x0010;
    let profile = match blocks {
        None => 0,
        Some(blocks) if blocks > CD_MAX_BLOCKS => DVD_ROM,
        Some(_) => CD_ROM,
    };
    let (cd, dvd) = (u8::from(profile == CD_ROM), u8::from(profile == DVD_ROM));
    let medium = cd | dvd;
    // Feature number; version, persistent and current bits; data.
    let features: [(u16, u8, &[u8]); 9] = [
        (0x0000, 0x03, &[0, 0x10, dvd, 0, 0, 0x08, cd, 0]), // profiles
        (0x0001, 0x03, &[0, 0, 0, 2]),                      // core: ATAPI
        (0x0002, 0x03, &[0, 0, 0, 0]),                      // morphing
        (0x0003, 0x03, &[0x29, 0, 0, 0]),                   // removable: tray, eject, lock
        (0x0010, medium, &[0, 0, 8, 0, 0, 1, 0, 0]),        // random readable
        (0x001E, cd, &[]),                                  // CD read
        (0x001F, dvd, &[]),                                 // DVD read
        (0x0100, 0x03, &[]),                                // power management
        (0x0105, 0x03, &[]),                                // time-out
    ];
    let (which, start) = (packet[1] & 3, u16_at(packet, 2));
    let wanted = |number: u16, flags: u8| match which {
        0 => number >= start,
        1 => number >= start && flags & 1 != 0,
        _ => number == start,
    };
    if which == 3 {
        return Err(INVALID_FIELD);
    }
    let mut bytes = vec![0, 0, 0, 0, 0, 0, (profile >> 8) as u8, profile as u8];
    for (number, flags, data) in features.into_iter().filter(|(number, flags, _)| wanted(*number, *flags)) {
        bytes.extend_from_slice(&number.to_be_bytes());
        bytes.extend_from_slice(&[flags, data.len() as u8]);
        bytes.extend_from_slice(data);
    }
    let length = bytes.len() as u32 - 4;
    bytes[..4].copy_from_slice(&length.to_be_bytes());
    Ok(send(bytes, u16_at(packet, 7).into()))
}

/// GET EVENT STATUS NOTIFICATION, MMC-3 §5.7: polled, media events only.
fn event_status(drive: &mut Optical, packet: &[u8; PACKET], blocks: Option<u64>) -> Result<Reply, Sense> {
    const MEDIA: u8 = 4;
    if packet[1] & 1 == 0 {
        return Err(INVALID_FIELD); // only polling
    }
    let allocation = u16_at(packet, 7).into();
    if packet[4] & 1 << MEDIA == 0 {
        return Ok(send(vec![0, 2, 0x80, 1 << MEDIA], allocation)); // no such event class
    }
    let event = match std::mem::take(&mut drive.event) {
        MediaEvent::None => 0,
        MediaEvent::EjectRequest => 1,
        MediaEvent::NewMedia => 2,
        MediaEvent::Removal => 3,
    };
    let present = u8::from(drive.tray_open) | u8::from(blocks.is_some()) << 1;
    Ok(send(vec![0, 6, MEDIA, 1 << MEDIA, event, present, 0, 0], allocation))
}
