//! The machine's virtio devices: what the profile asks for, each in a PCI slot of its own that never changes.

use std::fs::File;
use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use hardware::chipset::piix3::PciInterrupts;
use hardware::input::Key;
use hardware::layout::pci;
use hardware::pci::Function;
use hardware::virtio::entropy::Source;
use hardware::virtio::{Balloon, Block, Console, Entropy, Gpu, Input, Kind, VirtioPci, gpu};
use hardware::{Messages, Shared};

use super::StartError;
use super::board::Wiring;
use super::media::Media;
use super::tally::Tally;
use super::worker;
use crate::profile::{DiskBus, DisplayAdapter, Profile};
use crate::session::ByteOutlet;

/// How long a pause waits for disks to finish what is under way.
const DRAIN: Duration = Duration::from_secs(2);
/// Most queues of a disk; one a vCPU is enough.
const DISK_QUEUES_MAX: u32 = 4;

const URANDOM: &str = "/dev/urandom";

/// What a device in a PCI slot is wired to.
pub struct Slots<'a> {
    pub wiring: &'a Wiring,
    pub interrupts: &'a Arc<PciInterrupts>,
    pub messages: &'a Messages,
    pub tally: &'a Tally,
}

/// The devices.
#[derive(Default)]
pub struct Paravirtual {
    /// All of them, with their slots.
    pub functions: Vec<((u8, u8), Shared<dyn Function>)>,
    /// The disks, in order.
    pub disks: Vec<Shared<VirtioPci<Block>>>,
    /// The memory balloon.
    pub balloon: Option<Shared<VirtioPci<Balloon>>>,
    /// The GPU.
    pub gpu: Option<Shared<VirtioPci<Gpu>>>,
    console: Option<Shared<VirtioPci<Console>>>,
    keyboard: Option<Shared<VirtioPci<Input>>>,
    tablet: Option<Shared<VirtioPci<Input>>>,
}

impl Paravirtual {
    /// Makes what `profile` asks for; takes the disks out of `media` if they are virtio's.
    pub fn assemble(
        profile: &Profile,
        slots: &Slots,
        media: &mut Media,
        console: ByteOutlet,
    ) -> Result<Paravirtual, StartError> {
        let mut all = Paravirtual::default();
        let wanted = profile.paravirtual;
        if wanted.entropy {
            all.add(slots, pci::ENTROPY, "virtio-rng", Entropy::new(host_entropy()?));
        }
        all.balloon = wanted.balloon.then(|| all.add(slots, pci::BALLOON, "virtio-balloon", Balloon::new()));
        all.console =
            wanted.console.then(|| all.add(slots, pci::CONSOLE, "virtio-console", Console::new(console)));
        all.keyboard =
            wanted.keyboard.then(|| all.add(slots, pci::KEYBOARD, "virtio-keyboard", Input::keyboard()));
        all.tablet = wanted.tablet.then(|| all.add(slots, pci::TABLET, "virtio-tablet", Input::tablet()));
        if profile.display == DisplayAdapter::VirtioGpu {
            all.gpu = Some(all.add(slots, pci::GPU, "virtio-gpu", Gpu::new(gpu::PIXELS_MAX_BYTES)));
        }
        if profile.disk_bus == DiskBus::Virtio {
            let queues = profile.cpus.clamp(1, DISK_QUEUES_MAX) as u16;
            for (n, disk) in (0u8..).zip(media.disks.drain(..)) {
                let (first, function) = pci::FIRST_DISK;
                let (serial, name) = (format!("VT{:08}", n + 1), format!("virtio-disk{n}"));
                let block = Block::new(disk, &serial, queues, worker::start(&name));
                let device = all.add(slots, (first + n, function), &name, block);
                Block::connect(&device);
                all.disks.push(device);
            }
        }
        Ok(all)
    }

    fn add<K: Kind>(&mut self, slots: &Slots, slot: (u8, u8), name: &str, kind: K) -> Shared<VirtioPci<K>> {
        let line = slots.tally.line(name, slots.interrupts.line(slot.0, 1));
        let messages = slots.tally.messages(name, slots.messages.clone());
        let Wiring { memory, bus, .. } = slots.wiring;
        let device = VirtioPci::new(name, kind, memory.clone(), line, messages).install(bus);
        self.functions.push((slot, device.clone()));
        device
    }

    /// The PCI devices that are disks, in order.
    pub fn disk_slots(&self) -> impl Iterator<Item = u8> + use<> {
        (pci::FIRST_DISK.0..).take(self.disks.len())
    }

    /// Waits until the disks have done what they were asked. No vCPU may run. A disk that takes too long
    /// goes on by itself.
    pub fn drain(&self) {
        for disk in &self.disks {
            Block::drain(disk, DRAIN);
        }
    }

    /// Sends bytes to the console; gives how many there was room for.
    pub fn send_console(&self, bytes: &[u8]) -> usize {
        let Some(console) = &self.console else { return 0 };
        console.lock().with(|console, io| console.send(bytes, io)).unwrap_or(0)
    }

    /// The window around the console has another size.
    pub fn resize_console(&self, columns: u16, rows: u16) {
        if let Some(console) = &self.console {
            console.lock().with(|console, io| {
                console.resize(columns, rows, io);
                Ok(())
            });
        }
    }

    /// Whether the guest drives the GPU, and so hears of its monitor's size.
    pub fn takes_size(&self) -> bool {
        self.gpu.as_ref().is_some_and(|gpu| gpu.lock().is_live())
    }

    /// The monitor at the GPU has another size, in pixels.
    pub fn resize_screen(&self, width: u32, height: u32) {
        if let Some(gpu) = &self.gpu {
            gpu.lock().with(|gpu, io| {
                gpu.resize(width, height, io);
                Ok(())
            });
        }
    }

    /// A key goes down or up. Says whether the guest listens to this keyboard.
    pub fn key(&self, key: Key, pressed: bool) -> bool {
        let Some(keyboard) = &self.keyboard else { return false };
        let mut keyboard = keyboard.lock();
        keyboard.with(|keyboard, io| keyboard.key(key, pressed, io));
        keyboard.is_live()
    }

    /// Whether the guest listens to the tablet.
    pub fn takes_pointer(&self) -> bool {
        self.tablet.as_ref().is_some_and(|tablet| tablet.lock().is_live())
    }

    /// The pointer is at (x, y), each 0 to 0x7FFF.
    pub fn pointer(&self, x: u16, y: u16, wheel: i32, buttons: u8) {
        if let Some(tablet) = &self.tablet {
            tablet.lock().with(|tablet, io| tablet.point(x, y, wheel, buttons, io));
        }
    }
}

/// Random bytes from the host's kernel.
fn host_entropy() -> Result<Source, StartError> {
    let unable =
        |error| StartError::Backend(format!("the host gives no random numbers ({URANDOM}): {error}"));
    let mut file = File::open(URANDOM).map_err(unable)?;
    Ok(Box::new(move |bytes| file.read_exact(bytes).expect("the kernel's random numbers have no end")))
}
