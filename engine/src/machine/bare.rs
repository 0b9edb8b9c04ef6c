//! A board alone: every device of a profile on its buses, with no processor, thread of time or screen. What reaches it
//! and how time passes is up to whoever holds it: fuzzing, and the contract over all devices.

use std::sync::Arc;
use std::time::Duration;

use display::sound::{Mixer, Output};
use display::{Frame, scanout};
use hardware::input::Key;
use hardware::interrupts::{CpuLines, Fabric};
use hardware::{Alarms, Bus, Clock, LoadError, Memory, Requests};
use network::Link;
use storage::floppy::FloppyGeometry;
use storage::memory::MemoryDisk;
use storage::throttle::{Rates, Throttle};

use super::StartError;
use super::board::{Board, EXTRA_BYTES, Wiring};
use super::media::Media;
use super::pci_setup;
use super::platform::Controllers;
use crate::firmware::Firmware;
use crate::profile::Profile;
use crate::session::Outlets;

/// RAM of a bare board, in bytes.
const RAM_BYTES: u64 = 2 << 20;
const DISK_BYTES: u64 = 1 << 20;
const LOCAL_APIC_HZ: u64 = 1_000_000_000;

/// A device's name and its state.
pub type SavedDevice = (String, Vec<u8>);

/// The board of a profile, its drives full of zeros in memory. Guest time stands still but for [`Bare::pass`].
pub struct Bare {
    pub(super) board: Board,
    pub(super) wiring: Wiring,
    cpus: usize,
    /// The far end of the network card's cable.
    far: Arc<dyn Link>,
}

/// Processors that are not there.
struct NoCpus;

impl CpuLines for NoCpus {
    fn interrupt(&self, _cpu: usize, _level: bool) {}
    fn nmi(&self, _cpu: usize) {}
    fn init(&self, _cpu: usize) {}
    fn startup(&self, _cpu: usize, _vector: u8) {}
}

impl Drop for Bare {
    fn drop(&mut self) {
        self.wiring.bus.clear();
    }
}

impl Bare {
    /// Builds it, with a disk, a CD and a floppy, whatever files `profile` names.
    pub fn build(profile: &Profile) -> Result<Bare, StartError> {
        let (near, far) = network::cable(network::Capacity::default());
        let wiring = Wiring {
            memory: Memory::new(RAM_BYTES, EXTRA_BYTES).map_err(StartError::Memory)?,
            bus: Bus::new(),
            clock: Clock::manual(),
            started: Duration::from_secs(1_000_000_000),
            requests: Requests::unconnected(),
            alarms: Alarms::new(|| {}),
            link: Some(near),
            mixer: Mixer::new(Output::none()),
        };
        let disk =
            |length| MemoryDisk::padded(vec![1], length).map_err(|error| StartError::Disk(error.to_string()));
        let floppy = FloppyGeometry::HD_1440K;
        let media = Media {
            disks: vec![Box::new(disk(DISK_BYTES)?)],
            cdrom: Some(Box::new(disk(DISK_BYTES)?)),
            floppy: Some((Some(Box::new(disk(floppy.length_bytes())?)), floppy)),
            throttle: Throttle::new(Rates::default(), |_| false),
            ports: Vec::new(),
        };
        let (clock, cpus) = (wiring.clock.clone(), profile.cpus as usize);
        let controllers =
            |alarm| Controllers::Ours(Fabric::new(cpus, clock, alarm, LOCAL_APIC_HZ, Box::new(NoCpus)));
        let firmware = Firmware { path: "none".into(), bios: vec![0; 128 << 10], video_bios: vec![0; 512] };
        let mut outlets = Outlets::default();
        let board = Board::assemble(profile, &wiring, Some(&firmware), media, &mut outlets, controllers)?;
        Ok(Bare { board, wiring, cpus, far })
    }

    /// The buses.
    pub fn bus(&self) -> &Bus {
        &self.wiring.bus
    }

    /// Guest memory.
    pub fn memory(&self) -> &Memory {
        &self.wiring.memory
    }

    /// Number of processors the interrupt controllers are made for.
    pub fn cpus(&self) -> usize {
        self.cpus
    }

    /// Guest time.
    pub fn now_ns(&self) -> u64 {
        self.wiring.clock.now()
    }

    /// Goes to a guest time, as when a state is restored.
    pub fn set_now(&self, now_ns: u64) {
        self.wiring.clock.set(now_ns);
    }

    /// Lets guest time pass, and calls each device whose deadline comes, once.
    pub fn pass(&self, ns: u64) {
        self.wiring.clock.step(ns);
        for (id, _) in self.wiring.alarms.take_due(self.now_ns()) {
            self.board.timed[id].lock().advance();
        }
    }

    /// Waits until the threads of disks have done what they were asked.
    pub fn settle(&self) {
        self.board.paravirtual.drain();
    }

    /// Gives the chipset and PCI functions their addresses, as firmware does.
    pub fn set_up_pci(&self) {
        pci_setup::as_firmware_leaves_it(&self.wiring.bus);
    }

    /// Back to power-on.
    pub fn reset(&self) {
        self.board.reset();
    }

    /// The state of every device as it is, which does not follow the time first as [`Bare::save`] has it do.
    pub fn states(&self) -> Vec<Vec<u8>> {
        self.board.devices().iter().map(|device| device.lock().save()).collect()
    }

    /// The state of every device, now.
    pub fn save(&self) -> Vec<SavedDevice> {
        self.board.save()
    }

    /// Takes over what [`Bare::save`] gave.
    pub fn load(&self, states: &[SavedDevice]) -> Result<(), LoadError> {
        self.board.load(states.iter().map(|(_, state)| state.as_slice()))
    }

    /// A processor takes an interrupt: its vector, if one is due.
    pub fn acknowledge(&self, cpu: usize) -> Option<u8> {
        self.board.fabric()?.acknowledge(cpu)
    }

    /// Renders what the display adapter scans out.
    pub fn draw(&self) -> Frame {
        let mut frame = Frame::default();
        scanout::render(&self.board.video.lock().scan(), &mut frame);
        frame
    }

    /// A key of the PS/2 keyboard and of virtio's goes down or up.
    pub fn key(&self, key: Key, pressed: bool) {
        self.board.keyboard.lock().key(key, pressed);
        self.board.paravirtual.key(key, pressed);
    }

    /// The PS/2 mouse moves and has these buttons down; the tablet is where that leads.
    pub fn mouse(&self, dx: i32, dy: i32, wheel: i32, buttons: u8) {
        self.board.keyboard.lock().mouse(dx, dy, wheel, buttons);
        self.board.paravirtual.pointer(dx as u16 & 0x7FFF, dy as u16 & 0x7FFF, wheel, buttons);
    }

    /// Bytes come over the serial line and virtio's console; the power button is pressed.
    pub fn speak(&self, bytes: &[u8]) {
        self.board.sockets().serial.lock().push(bytes);
        self.board.paravirtual.send_console(bytes);
        self.board.paravirtual.resize_console(bytes.len() as u16, 25);
        self.board.power.lock().press_power_button();
    }

    /// A hand puts a disc and a floppy disk in, or takes out what is there, if it can be had.
    pub fn change_media(&self, insert: bool) {
        let (cd, floppy) = &self.board.removable;
        let mut floppy = floppy.lock();
        // A tray that is locked stays shut.
        if insert {
            let disk = |length| MemoryDisk::padded(vec![2], length).ok();
            let disc = disk(2 * DISK_BYTES).and_then(|disc| cd.as_ref()?.insert(Box::new(disc)).ok());
            let disk = disk(FloppyGeometry::HD_1440K.length_bytes());
            let _ = (disc, disk.map(|disk| floppy.insert(0, Box::new(disk))));
        } else {
            let _ = (cd.as_ref().map(|cd| cd.eject()), floppy.eject(0));
        }
    }

    /// The guest is asked to have its balloon hold so much.
    pub fn ask_balloon(&self, bytes: u64) {
        if let Some(balloon) = &self.board.paravirtual.balloon {
            balloon.lock().with(|balloon, io| {
                balloon.set_target_bytes(bytes, io);
                Ok(balloon.ask_statistics(io))
            });
        }
    }

    /// A frame comes over the network cable; what the card has sent is taken. Gives how many frames that was.
    pub fn exchange_frames(&self, frame: &[u8]) -> usize {
        self.far.send(frame);
        let mut taken = Vec::new();
        (0..1000).take_while(|_| self.far.receive(&mut taken)).count()
    }
}
