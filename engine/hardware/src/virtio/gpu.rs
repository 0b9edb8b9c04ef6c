//! The GPU device, two dimensions: pictures the driver keeps here and has shown. Virtio 1.2 §5.7.
//!
//! Queue 0 takes commands, queue 1 the cursor's. One scanout. Features: EDID. Everything a guest says of sizes and places
//! is checked, and what it may have kept here has a bound. Left out: 3D (VIRGL), capability sets, blobs, UUIDs, contexts, more scanouts.

mod command;
mod cursor;
mod edid;
mod resource;

use display::{Picture, picture::Pixels};
use serde::{Deserialize, Serialize};

use super::chain::{Buffer, Violation};
use super::function::{Identity, Io, Kind};
use crate::memory::Memory;
use command::{Command, CursorCommand, HEADER_BYTES, Header, Rectangle};
use cursor::Cursor;
use resource::{Backing, Resource};

/// The driver may ask for the monitor's EDID, §5.7.3.
pub const EDID: u64 = 1 << 1;
/// What a machine's driver may keep here, in bytes of pixels.
pub const PIXELS_MAX_BYTES: u64 = 96 << 20;
/// Resources, and entries of all their backings together, that it may have.
const RESOURCES_MAX: usize = 4096;
const ENTRIES_MAX: usize = 1 << 17;
/// Sizes a monitor may have: what an EDID can say.
const SIDES: std::ops::RangeInclusive<u32> = 320..=4095;
/// The monitor's size until somebody gives it another.
const FIRST_SIZE: (u32, u32) = (1024, 768);

const CONTROL: u16 = 0;
/// The monitor has changed, §5.7.4.
const EVENT_DISPLAY: u32 = 1 << 0;
/// Scanouts that the answer about the display has room for, §5.7.6.8.
const SCANOUTS_TOLD: usize = 16;
const EDID_ROOM_BYTES: usize = 1024;

/// How a command ended, §5.7.6.7.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
enum Answer {
    Done = 0x1100,
    DisplayInfo = 0x1101,
    Edid = 0x1104,
    Unspecified = 0x1200,
    OutOfMemory = 0x1201,
    NoSuchScanout = 0x1202,
    NoSuchResource = 0x1203,
    InvalidParameter = 0x1205,
}

/// What the monitor shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Scanout {
    resource: u32,
    shown: Rectangle,
}

/// What is saved.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    resources: Vec<Resource>,
    scanout: Option<Scanout>,
    cursor: Cursor,
    size: (u32, u32),
    events: u32,
}

impl State {
    fn new(size: (u32, u32)) -> State {
        State { resources: Vec::new(), scanout: None, cursor: Cursor::default(), size, events: 0 }
    }

    fn resource(&mut self, id: u32) -> Result<&mut Resource, Answer> {
        self.resources.iter_mut().find(|resource| resource.id == id).ok_or(Answer::NoSuchResource)
    }

    fn pixel_bytes(&self) -> u64 {
        self.resources.iter().map(|resource| 4 * resource.pixels.len() as u64).sum()
    }

    fn entries(&self) -> usize {
        self.resources.iter().filter_map(|resource| resource.backing.as_ref()).map(Backing::entries).sum()
    }
}

/// The device.
pub struct Gpu {
    state: State,
    most_bytes: u64,
    touched: bool,
}

impl Gpu {
    /// A GPU in which a driver may keep `most_bytes` of pixels.
    pub fn new(most_bytes: u64) -> Gpu {
        Gpu { state: State::new(FIRST_SIZE), most_bytes, touched: false }
    }

    /// The monitor has another size, in pixels.
    pub fn resize(&mut self, width: u32, height: u32, io: &mut Io) {
        let side = |pixels: u32| pixels.clamp(*SIDES.start(), *SIDES.end());
        let size = (side(width), side(height));
        if size != self.state.size {
            self.state.size = size;
            self.state.events |= EVENT_DISPLAY;
            io.config_changed();
        }
    }

    /// What the monitor shows, cursor and all; `None` while the driver shows nothing.
    pub fn scan(&self) -> Option<Picture> {
        let Scanout { resource, shown } = self.state.scanout?;
        let resource = self.state.resources.iter().find(|kept| kept.id == resource)?;
        let mut colours = resource.part(shown);
        self.state.cursor.draw(&mut colours, shown.width, shown.height);
        colours.iter_mut().for_each(|colour| *colour &= 0x00FF_FFFF);
        let Rectangle { width, height, .. } = shown;
        Some(Picture::Pixels(Pixels { width, height, repeat_lines: 1, repeat_columns: 1, colours }))
    }

    /// Whether the picture may have changed since this was last asked.
    pub fn touched(&mut self) -> bool {
        std::mem::take(&mut self.touched)
    }

    fn obey(&mut self, command: Command, request: &Buffer, memory: &Memory) -> Result<Answer, Answer> {
        match command {
            Command::DisplayInfo => return Ok(Answer::DisplayInfo),
            Command::Edid { scanout: 0 } => return Ok(Answer::Edid),
            Command::Edid { .. } => return Err(Answer::NoSuchScanout),
            Command::Create { id, format, width, height } => self.create(id, format, width, height)?,
            Command::Unreference { id } => {
                self.state.resource(id)?;
                self.state.resources.retain(|resource| resource.id != id);
                if self.state.scanout.is_some_and(|scanout| scanout.resource == id) {
                    self.show(None);
                }
            }
            Command::SetScanout { scanout: 1.., .. } => return Err(Answer::NoSuchScanout),
            Command::SetScanout { id: 0, .. } => self.show(None),
            Command::SetScanout { shown, id, .. } => {
                self.state.resource(id)?.holds(shown)?;
                self.show(Some(Scanout { resource: id, shown }));
            }
            Command::Flush { part, id } => {
                self.state.resource(id)?.holds(part)?;
                self.touched |= self.state.scanout.is_some_and(|scanout| scanout.resource == id);
            }
            Command::Transfer { part, offset, id } => {
                self.state.resource(id)?.fetch(part, offset, memory)?;
            }
            Command::Attach { id, entries } => {
                let room = ENTRIES_MAX - self.state.entries();
                let resource = self.state.resource(id)?;
                if resource.backing.is_some() {
                    return Err(Answer::Unspecified);
                }
                if entries as usize > room {
                    return Err(Answer::OutOfMemory);
                }
                resource.backing = Some(Backing::read(request, entries, memory)?);
            }
            Command::Detach { id } => {
                let backing = self.state.resource(id)?.backing.take();
                backing.ok_or(Answer::Unspecified)?;
            }
        }
        Ok(Answer::Done)
    }

    fn create(&mut self, id: u32, format: u32, width: u32, height: u32) -> Result<(), Answer> {
        if id == 0 || self.state.resource(id).is_ok() {
            return Err(Answer::NoSuchResource);
        }
        let bytes = (u64::from(width) * u64::from(height)).saturating_mul(4);
        let room = self.most_bytes - self.state.pixel_bytes();
        if self.state.resources.len() >= RESOURCES_MAX || bytes > room {
            return Err(Answer::OutOfMemory);
        }
        self.state.resources.push(Resource::new(id, format, width, height)?);
        Ok(())
    }

    fn show(&mut self, scanout: Option<Scanout>) {
        self.touched |= self.state.scanout != scanout;
        self.state.scanout = scanout;
    }

    /// Executes the command in `request` and gives the whole answer.
    fn execute(&mut self, request: &Buffer, memory: &Memory) -> Result<Vec<u8>, Violation> {
        let header = Header::read(request, memory).ok_or(Violation::Request("a header"))?;
        let answer = match Command::read(&header, request, memory) {
            Some(command) => self.obey(command, request, memory).unwrap_or_else(|refused| refused),
            None => Answer::Unspecified,
        };
        let mut bytes = header.answered(answer as u32).to_vec();
        match answer {
            Answer::DisplayInfo => {
                let (width, height) = self.state.size;
                // x, y, width, height, enabled, flags.
                bytes.extend([0, 0, width, height, 1, 0].map(u32::to_le_bytes).as_flattened());
                bytes.resize(HEADER_BYTES + 24 * SCANOUTS_TOLD, 0);
            }
            Answer::Edid => {
                let edid = edid::of(self.state.size);
                bytes.extend([edid.len() as u32, 0].map(u32::to_le_bytes).as_flattened());
                bytes.extend(edid);
                bytes.resize(HEADER_BYTES + 8 + EDID_ROOM_BYTES, 0);
            }
            _ => {}
        }
        Ok(bytes)
    }

    fn point(&mut self, request: &Buffer, memory: &Memory) -> Result<(), Violation> {
        let command = CursorCommand::read(request, memory).ok_or(Violation::Request("a cursor"))?;
        // Nobody is told what is wrong with a cursor: there is no answer.
        if command.scanout == 0 {
            self.state.cursor.moved(command.x, command.y);
            if command.changes_picture {
                let picture = self.state.resources.iter().find(|resource| resource.id == command.id);
                self.state.cursor.show(picture);
            }
            self.touched |= self.state.scanout.is_some();
        }
        Ok(())
    }
}

impl Kind for Gpu {
    const IDENTITY: Identity = Identity { number: 16, class_code: 0x03_8000 };
    type State = State;

    fn features(&self) -> u64 {
        EDID
    }

    fn queue_sizes(&self) -> Vec<u16> {
        vec![64, 16]
    }

    /// Events, events to clear, scanouts, capability sets: §5.7.4.
    fn config(&self) -> Vec<u8> {
        [self.state.events, 0, 1, 0].map(u32::to_le_bytes).concat()
    }

    fn write_config(&mut self, offset: usize, value: &[u8]) {
        if let (4, Ok(clear)) = (offset, value.try_into()) {
            self.state.events &= !u32::from_le_bytes(clear);
        }
    }

    fn notified(&mut self, queue: u16, io: &mut Io) -> Result<(), Violation> {
        while let Some(chain) = io.take(queue)? {
            let mut written = 0;
            if queue == CONTROL {
                let answer = self.execute(&chain.readable, io.memory)?;
                written = chain.writable.write(io.memory, 0, &answer);
                if written < HEADER_BYTES {
                    return Err(Violation::Request("room for the answer"));
                }
            } else {
                self.point(&chain.readable, io.memory)?;
            }
            io.give_back(queue, chain.head, written as u32);
        }
        Ok(())
    }

    fn reset(&mut self) {
        self.show(None);
        self.state = State::new(self.state.size);
    }

    fn state(&self) -> State {
        self.state.clone()
    }

    fn set_state(&mut self, state: State) -> Result<(), &'static str> {
        if !SIDES.contains(&state.size.0) || !SIDES.contains(&state.size.1) {
            return Err("a monitor cannot have that size");
        }
        let is_sound = state.resources.iter().all(Resource::is_sound) && state.cursor.is_sound();
        if !is_sound
            || state.resources.len() > RESOURCES_MAX
            || state.entries() > ENTRIES_MAX
            || state.pixel_bytes() > self.most_bytes
        {
            return Err("more is kept than there is room for, or a picture has not the size it says");
        }
        if let Some(Scanout { resource, shown }) = state.scanout {
            let shown_one = state.resources.iter().find(|kept| kept.id == resource);
            if shown_one.is_none_or(|kept| kept.holds(shown).is_err()) {
                return Err("what is shown is not there");
            }
        }
        (self.state, self.touched) = (state, true);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
