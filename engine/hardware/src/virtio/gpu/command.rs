//! Commands as drivers write them. Virtio 1.2 §5.7.6.7, §5.7.6.8, §5.7.6.10.

use serde::{Deserialize, Serialize};

use crate::memory::Memory;
use crate::virtio::chain::Buffer;

/// Bytes of the header of commands and answers.
pub const HEADER_BYTES: usize = 24;
/// Where the entries of a backing begin: after the header, a resource, and their number.
pub const ENTRIES_START: u32 = HEADER_BYTES as u32 + 8;
/// The driver wants to be told when the command is done, by this number.
const FENCE: u32 = 1 << 0;

/// Types of commands.
pub mod kind {
    pub const DISPLAY_INFO: u32 = 0x0100;
    pub const CREATE: u32 = 0x0101;
    pub const UNREFERENCE: u32 = 0x0102;
    pub const SET_SCANOUT: u32 = 0x0103;
    pub const FLUSH: u32 = 0x0104;
    pub const TRANSFER: u32 = 0x0105;
    pub const ATTACH: u32 = 0x0106;
    pub const DETACH: u32 = 0x0107;
    pub const EDID: u32 = 0x010A;
    pub const UPDATE_CURSOR: u32 = 0x0300;
    pub const MOVE_CURSOR: u32 = 0x0301;
}

/// A part of a picture, in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rectangle {
    pub x: u32,
    pub y: u32,
    pub width: u32,
    pub height: u32,
}

impl Rectangle {
    /// Whether it is something, and inside a picture of this size.
    pub fn is_inside(&self, width: u32, height: u32) -> bool {
        let fits = |at: u32, length: u32, all: u32| {
            length > 0 && at.checked_add(length).is_some_and(|end| end <= all)
        };
        fits(self.x, self.width, width) && fits(self.y, self.height, height)
    }
}

/// What every command begins with.
pub struct Header {
    kind: u32,
    bytes: [u8; HEADER_BYTES],
}

impl Header {
    /// The one at the start of `request`.
    pub fn read(request: &Buffer, memory: &Memory) -> Option<Header> {
        let bytes: [u8; HEADER_BYTES] = request.read_array(memory)?;
        Some(Header { kind: word(&bytes, 0), bytes })
    }

    /// The header of the answer `kind`: with the number of the fence, if there was one.
    pub fn answered(&self, kind: u32) -> [u8; HEADER_BYTES] {
        let mut answer = [0; HEADER_BYTES];
        answer[..4].copy_from_slice(&kind.to_le_bytes());
        if word(&self.bytes, 4) & FENCE != 0 {
            answer[4..8].copy_from_slice(&FENCE.to_le_bytes());
            // Fence, context, ring.
            answer[8..21].copy_from_slice(&self.bytes[8..21]);
        }
        answer
    }
}

/// A command of the control queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Which monitors there are.
    DisplayInfo,
    /// What a monitor says of itself.
    Edid { scanout: u32 },
    /// A new picture.
    Create { id: u32, format: u32, width: u32, height: u32 },
    /// A picture is needed no more.
    Unreference { id: u32 },
    /// A monitor is to show a part of a picture; 0: nothing.
    SetScanout { shown: Rectangle, scanout: u32, id: u32 },
    /// What changed in a picture is to be seen.
    Flush { part: Rectangle, id: u32 },
    /// A part of a picture is to be fetched from guest memory.
    Transfer { part: Rectangle, offset: u64, id: u32 },
    /// Guest memory is put behind a picture: so many entries follow.
    Attach { id: u32, entries: u32 },
    /// And taken away.
    Detach { id: u32 },
}

impl Command {
    /// The command in `request`; `None` if there is none of that type, or it is too short.
    pub fn read(header: &Header, request: &Buffer, memory: &Memory) -> Option<Command> {
        Some(match header.kind {
            kind::DISPLAY_INFO => Command::DisplayInfo,
            kind::EDID => {
                let [scanout, _] = words(request, memory)?;
                Command::Edid { scanout }
            }
            kind::CREATE => {
                let [id, format, width, height] = words(request, memory)?;
                Command::Create { id, format, width, height }
            }
            kind::UNREFERENCE => {
                let [id, _] = words(request, memory)?;
                Command::Unreference { id }
            }
            kind::SET_SCANOUT => {
                let [x, y, width, height, scanout, id] = words(request, memory)?;
                Command::SetScanout { shown: Rectangle { x, y, width, height }, scanout, id }
            }
            kind::FLUSH => {
                let [x, y, width, height, id, _] = words(request, memory)?;
                Command::Flush { part: Rectangle { x, y, width, height }, id }
            }
            kind::TRANSFER => {
                let [x, y, width, height, low, high, id, _] = words(request, memory)?;
                let offset = u64::from(low) | u64::from(high) << 32;
                Command::Transfer { part: Rectangle { x, y, width, height }, offset, id }
            }
            kind::ATTACH => {
                let [id, entries] = words(request, memory)?;
                Command::Attach { id, entries }
            }
            kind::DETACH => {
                let [id, _] = words(request, memory)?;
                Command::Detach { id }
            }
            _ => return None,
        })
    }
}

/// A command of the cursor queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CursorCommand {
    /// Whether it has a new picture; else it only moves.
    pub changes_picture: bool,
    pub scanout: u32,
    /// Its upper left corner; it may be outside.
    pub x: i32,
    pub y: i32,
    /// Its picture; 0: none.
    pub id: u32,
}

impl CursorCommand {
    /// The command in `request`.
    pub fn read(request: &Buffer, memory: &Memory) -> Option<CursorCommand> {
        let header = Header::read(request, memory)?;
        // The hot spot and padding follow.
        let [scanout, x, y, _, id] = words(request, memory)?;
        let changes_picture = match header.kind {
            kind::UPDATE_CURSOR => true,
            kind::MOVE_CURSOR => false,
            _ => return None,
        };
        Some(CursorCommand { changes_picture, scanout, x: x as i32, y: y as i32, id })
    }
}

/// The words after the header.
fn words<const N: usize>(request: &Buffer, memory: &Memory) -> Option<[u32; N]> {
    let mut bytes = [[0; 4]; N];
    let all = bytes.as_flattened_mut();
    let length = all.len();
    (request.read(memory, HEADER_BYTES as u32, all) == length).then(|| bytes.map(u32::from_le_bytes))
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}
