//! The board: every device, its ports, its lines and its alarm, in one straight list.

use std::sync::Arc;
use std::time::Duration;

use display::sound::Mixer;
use hardware::chipset::a20::{A20Gate, Port92};
use hardware::chipset::i440fx::I440Fx;
use hardware::chipset::piix3::{PciInterrupts, Piix3};
use hardware::chipset::power::PowerManagement;
use hardware::chipset::rom::SystemRom;
use hardware::debug::Debug;
use hardware::dma::IsaDma;
use hardware::firmware::cmos::{self, BootClass, FloppyType};
use hardware::firmware::fw_cfg::FwCfg;
use hardware::firmware::{acpi, boot, smbios};
use hardware::floppy::FloppyController;
use hardware::ide::{IdeController, Position};
use hardware::input::i8042::Wires;
use hardware::input::{I8042, VmwarePointer};
use hardware::interrupts::{Fabric, fabric};
use hardware::layout::{irq, pci};
use hardware::net::{E1000, Ne2000, Rtl8029};
use hardware::pci::{Function, Root};
use hardware::serial::SerialPort;
use hardware::sound::{self, Ac97, Loudspeaker, Sb16};
use hardware::test_device::TestDevice;
use hardware::timers::hpet::{self, Hpet};
use hardware::timers::{Changeover, LostTicks, Pit, Rtc};
use hardware::vga::VgaCard;
use hardware::virtio::{self, Net, VirtioPci};
use hardware::{
    Alarm, Alarms, Bus, Clock, Device, Line, LineSink, LoadError, Memory, Messages, Requests, Shared, Width,
    WindowSpec, shared,
};

use storage::throttle::Throttle;

use super::StartError;
use super::drives::CdDrive;
use super::input::Sockets;
use super::media::Media;
use super::paravirtual::{Paravirtual, Slots};
use super::platform::Controllers;
use super::sata;
use super::tally::Tally;
use super::timers::{self, Timer, Timers};
use super::worker::SerialOutlet;
use crate::firmware::Firmware;
use crate::profile::{DiskBus, Nic, Profile};
use crate::session::Outlets;
use crate::sound::SoundCard;
use crate::stats::LineCount;
use hardware::histogram::Summary as LatenessSummary;

/// How long a key stays down, and up, while text is typed.
pub const KEYSTROKE: Duration = Duration::from_millis(8);

/// How long the typist waits for a guest that does not read its keyboard.
pub const LONGEST_KEYSTROKE: Duration = Duration::from_millis(250);

/// Room behind RAM: video memory and the system BIOS.
pub const EXTRA_BYTES: u64 = VgaCard::MEMORY_BYTES + (1 << 20);

/// First port of the first serial port.
const COM1: u64 = 0x3F8;

/// The parts every device is wired to.
pub struct Wiring {
    pub memory: Arc<Memory>,
    pub bus: Arc<Bus>,
    pub clock: Clock,
    /// The host's wall time at guest time 0, since 1970.
    pub started: Duration,
    pub requests: Requests,
    pub alarms: Arc<Alarms>,
    /// The end of the network card's cable; without one there is no card.
    pub link: Option<Arc<dyn network::Link>>,
    /// What sound devices play into.
    pub mixer: Arc<Mixer>,
}

/// The devices of one machine.
pub struct Board {
    /// All devices: reset and saved in this order.
    devices: Vec<Shared<dyn Device>>,
    /// Whom each alarm calls, by its id.
    pub timed: Arc<Vec<Shared<dyn Device>>>,
    timers: Timers,
    serial: Shared<SerialPort>,
    pub keyboard: Shared<I8042>,
    pub pointer: Shared<VmwarePointer>,
    pub power: Shared<PowerManagement>,
    pub video: Shared<VgaCard>,
    pub paravirtual: Paravirtual,
    /// What bounds the machine's disks.
    pub disk_throttle: Arc<Throttle>,
    /// Where the CD drive is, if there is one, and the floppy controller.
    pub removable: (Option<CdDrive>, Shared<FloppyController>),
    /// Interrupts of each device.
    pub tally: Arc<Tally>,
}

/// The interrupt controllers are given the first alarm.
const FABRIC_ALARM: usize = 0;

/// The board in the making.
struct Assembly {
    devices: Vec<Shared<dyn Device>>,
    timed: Vec<Shared<dyn Device>>,
}

impl Assembly {
    fn add<T: Device + 'static>(&mut self, device: &Shared<T>) {
        self.devices.push(device.clone());
    }

    /// Adds a device that was given the alarm made last.
    fn add_timed<T: Device + 'static>(&mut self, device: &Shared<T>, alarm: usize) {
        assert_eq!(alarm, self.timed.len(), "alarms are handed out in the order of the list");
        self.timed.push(device.clone());
        self.add(device);
    }
}

impl Board {
    /// Builds all devices of `profile` and puts them on the buses. `controllers` makes the interrupt
    /// controllers; it is given the first alarm.
    pub fn assemble(
        profile: &Profile,
        wiring: &Wiring,
        firmware: Option<&Firmware>,
        mut media: Media,
        outlets: &mut Outlets,
        controllers: impl FnOnce(Alarm) -> Controllers,
    ) -> Result<Board, StartError> {
        let Wiring { memory, bus, clock, started, requests, alarms, link, mixer } = wiring;
        let disk_throttle = media.throttle.clone();
        let mut board = Assembly { devices: Vec::new(), timed: Vec::new() };
        let alarm = || {
            let alarm = alarms.alarm();
            (alarm.id(), alarm)
        };

        // Interrupt controllers and the lines into them.
        let (fabric_id, fabric_alarm) = alarm();
        let (fabric, sink, messages): (Option<Arc<Fabric>>, Arc<dyn LineSink>, Messages) =
            match controllers(fabric_alarm) {
                Controllers::Ours(fabric) => (Some(fabric.clone()), fabric.clone(), Messages::new(fabric)),
                Controllers::Kernel(lines, messages) => (None, lines, messages),
            };
        match &fabric {
            Some(fabric) => board.add_timed(&fabric::install(fabric, bus), fabric_id),
            // The alarm was not used; whoever stands here is never called.
            None => board.timed.push(shared(IsaDma::new())),
        }
        let tally = Arc::new(Tally::default());
        let line = |number| tally.isa_line(number, Line::new(sink.clone(), number));

        // Timers. With the kernel's controllers the 8254 is the kernel's too, and an HPET cannot replace it.
        let event_line = |number| tally.line("hpet", Line::new(sink.clone(), number));
        let place = |number| Changeover::new(line(number), event_line(number));
        let replaced = (profile.hpet && fabric.is_some()).then(|| [irq::TIMER, irq::RTC].map(place));
        let timer_line = |index: usize, number| match &replaced {
            Some(places) => places[index].line(),
            None => line(number),
        };
        let (mut pit, mut pit_alarm) = (None, None);
        if fabric.is_some() {
            let (id, alarm) = alarm();
            let mut device = Pit::new(clock.clone(), timer_line(0, irq::TIMER), alarm);
            if profile.sound.has(SoundCard::Speaker) {
                device = device.with_speaker(mixer.source(SoundCard::Speaker.name()));
            }
            let device = device.install(bus);
            board.add_timed(&device, id);
            (pit, pit_alarm) = (Some(device), Some(id));
        }
        let (rtc_id, rtc_alarm) = alarm();
        let rtc_line = timer_line(1, irq::RTC);
        let rtc = Rtc::new(started.as_secs() as i64, clock.clone(), rtc_line, rtc_alarm).install(bus);
        board.add_timed(&rtc, rtc_id);
        let hpet = profile.hpet.then(|| {
            let (id, alarm) = alarm();
            let routed = hpet::INPUTS.map(event_line);
            let outputs = hpet::Outputs { routed, legacy: replaced };
            let device = Hpet::new(clock.clone(), outputs, alarm).install(bus);
            board.add_timed(&device, id);
            (device, id)
        });

        // Chipset and PCI.
        let interrupts = PciInterrupts::new((0..16).map(line).collect());
        let rom = firmware
            .map(|firmware| SystemRom::new(memory, &firmware.bios))
            .transpose()
            .map_err(|error| StartError::Disk(error.to_string()))?;
        let bridge = shared(I440Fx::new(memory, rom));
        let isa = shared(Piix3::new(interrupts.clone(), requests.clone()));
        let (power_id, power_alarm) = alarm();
        let sci = tally.line("piix4-pm", interrupts.sci_line());
        let power = PowerManagement::install(bus, clock.clone(), power_alarm, sci, requests.clone());
        board.add(&bridge);
        board.add(&isa);
        board.add_timed(&power, power_id);
        let alarms = timers::Alarms {
            pit: pit_alarm,
            rtc: rtc_id,
            hpet: hpet.as_ref().map(|(_, id)| *id),
            power: power_id,
            fabric: FABRIC_ALARM,
        };
        let timers = Timers {
            pit,
            rtc: rtc.clone(),
            hpet: hpet.map(|(device, _)| device),
            power: power.clone(),
            fabric: fabric.clone(),
            alarms,
        };

        // Disks.
        let ide_lines = [line(irq::IDE_PRIMARY), line(irq::IDE_SECONDARY)];
        let ide = shared(IdeController::new(ide_lines, memory.clone()));
        IdeController::connect(&ide, bus);
        board.add(&ide);
        let dma = shared(IsaDma::new());
        IsaDma::connect(&dma, bus);
        board.add(&dma);
        let drives = usize::from(media.floppy.is_some());
        let floppy = shared(FloppyController::new(drives, line(irq::FLOPPY), dma.clone(), memory.clone()));
        FloppyController::connect(&floppy, bus);
        board.add(&floppy);
        let floppy_type =
            media.floppy.as_ref().map_or(FloppyType::None, |(_, geometry)| floppy_type(geometry));
        let serial_outlet = SerialOutlet::new(outlets.serial.take());
        let slots = Slots { wiring, interrupts: &interrupts, messages: &messages, tally: &tally };
        let console = outlets.console.take().unwrap_or_else(|| serial_outlet.another());
        let paravirtual = Paravirtual::assemble(profile, &slots, &mut media, console)?;
        let ahci = (profile.disk_bus == DiskBus::Ahci).then(|| sata::assemble(&slots, &mut media));
        let own_slots: Vec<_> = match &ahci {
            Some((_, bootable)) => bootable.clone(),
            None => paravirtual.disk_slots().map(boot::BootDevice::Disk).collect(),
        };
        let (boot_order, ide_cd) = insert(media, &ide, &floppy, own_slots, ahci.is_none())?;
        let cd_drive = match &ahci {
            Some((ahci, bootable)) => Some(CdDrive::Ahci(ahci.clone(), bootable.len() - 1)),
            None => ide_cd.map(|place| CdDrive::Ide(ide.clone(), place)),
        };

        // Network card.
        let network_card = link.as_ref().and_then(|link| -> Option<Shared<dyn Function>> {
            let (id, alarm) = alarm();
            let (name, pin) = match profile.nic {
                Nic::E1000 => ("e1000", interrupts.line(pci::NETWORK.0, 1)),
                Nic::Virtio => ("virtio-net", interrupts.line(pci::NETWORK.0, 1)),
                Nic::Ne2000 => ("rtl8029", interrupts.line(pci::NETWORK.0, 1)),
                Nic::Ne2000Isa => ("ne2000", line(irq::NE2000)),
            };
            let pin = tally.line(name, pin);
            let messages = tally.messages(name, messages.clone());
            let (mac, link, memory, clock) =
                (profile.mac_address(), link.clone(), memory.clone(), clock.clone());
            match profile.nic {
                Nic::E1000 => {
                    let card = shared(E1000::new("e1000", mac, link, memory, clock, alarm, pin));
                    E1000::connect(&card, bus);
                    board.add_timed(&card, id);
                    Some(card)
                }
                Nic::Virtio => {
                    let net = Net::new(mac, link, clock, alarm);
                    let card = VirtioPci::new("virtio-net", net, memory, pin, messages).install(bus);
                    board.add_timed(&card, id);
                    Some(card)
                }
                Nic::Ne2000 => {
                    let card = shared(Rtl8029::new(mac, link, clock, alarm, pin));
                    Rtl8029::connect(&card, bus);
                    board.add_timed(&card, id);
                    Some(card)
                }
                Nic::Ne2000Isa => {
                    let card = Ne2000::new(mac, link, clock, alarm, pin).install(bus);
                    board.add_timed(&card, id);
                    None
                }
            }
        });

        // Sound cards.
        let ac97 = profile.sound.has(SoundCard::Ac97).then(|| {
            let (id, alarm) = alarm();
            let source = mixer.source(SoundCard::Ac97.name());
            let pin = tally.line("ac97", interrupts.line(pci::AC97.0, 1));
            let card = shared(Ac97::new(source, memory.clone(), clock.clone(), alarm, pin));
            Ac97::connect(&card, bus);
            board.add_timed(&card, id);
            card
        });
        if profile.sound.has(SoundCard::Sb16) {
            let (id, alarm) = alarm();
            let (voice, fm) = (mixer.source(SoundCard::Sb16.name()), mixer.source("opl3"));
            let lines = Sb16::LINES.map(|number| tally.line("sb16", line(number.into())));
            let sockets = sound::Sockets { lines, dma: dma.clone(), voice, fm };
            let card = shared(Sb16::new(sockets, memory.clone(), clock.clone(), alarm));
            Sb16::connect(&card, bus);
            board.add_timed(&card, id);
        }
        let virtio_sound = profile.sound.has(SoundCard::Virtio).then(|| {
            let (id, alarm) = alarm();
            let source = mixer.source(SoundCard::Virtio.name());
            let pin = tally.line("virtio-sound", interrupts.line(pci::SOUND.0, 1));
            let messages = tally.messages("virtio-sound", messages.clone());
            let kind = virtio::Sound::new(source, clock.clone(), alarm);
            let card = VirtioPci::new("virtio-sound", kind, memory.clone(), pin, messages).install(bus);
            board.add_timed(&card, id);
            card
        });

        // Screen, keyboard, serial port.
        let video = VgaCard::install(bus, memory, clock);
        board.add(&video);
        // The A20 gate's layer covers all others.
        let gate = A20Gate::new(memory);
        let port92 = shared(Port92::new(gate.clone(), requests.clone()));
        bus.add(&port92, 0, WindowSpec::ports(1), Some(0x92));
        board.add(&port92);
        let (id, serial_alarm) = alarm();
        let mut serial_sink = serial_outlet.another();
        let sink = Box::new(move |byte| serial_sink(&[byte]));
        let serial = shared(SerialPort::new("com1", clock.clone(), serial_alarm, line(irq::COM1), sink));
        bus.add(&serial, 0, WindowSpec::ports(8), Some(COM1));
        board.add_timed(&serial, id);
        let (id, keyboard_alarm) = alarm();
        let wires = Wires {
            keyboard: line(irq::KEYBOARD),
            mouse: line(irq::MOUSE),
            a20: gate,
            requests: requests.clone(),
        };
        let keyboard = I8042::new(clock.clone(), keyboard_alarm, wires).install(bus);
        board.add_timed(&keyboard, id);
        let pointer = VmwarePointer::install(bus);
        board.add(&pointer);

        // Debug ports.
        let console: Box<dyn FnMut(u8) + Send> = match outlets.debug_console.take() {
            Some(mut console) => Box::new(move |byte| console(&[byte])),
            None => Box::new(|_| {}),
        };
        let debug = Debug::new(console, requests.clone()).install(bus);
        if profile.debug_exit {
            Debug::add_exit(&debug, bus);
            let lines = std::array::from_fn(|number| line(number as u32));
            board.add(&TestDevice::new(lines).install(bus));
        }
        board.add(&debug);

        // PCI functions, in the order of their slots.
        let mut root = Root::new();
        root.attach(pci::HOST_BRIDGE, bridge);
        root.attach(pci::ISA_BRIDGE, isa.clone());
        root.attach(pci::IDE, ide);
        root.attach(pci::POWER_MANAGEMENT, power.clone());
        root.attach(pci::VGA, video.clone());
        if let Some(card) = network_card {
            root.attach(pci::NETWORK, card);
        }
        if let Some(card) = ac97 {
            root.attach(pci::AC97, card);
        }
        if let Some(card) = virtio_sound {
            root.attach(pci::SOUND, card);
        }
        if let Some((ahci, _)) = ahci {
            root.attach(pci::AHCI, ahci.clone());
            board.add(&ahci);
        }
        for (slot, function) in &paravirtual.functions {
            root.attach(*slot, function.clone());
            board.devices.push(function.clone());
        }
        let root = shared(root);
        bus.add(&root, 0, WindowSpec::ports(8).widths(Width::Byte, Width::Dword), Some(0xCF8));
        bus.add(&isa, 0, WindowSpec::ports(1), Some(0xCF9));
        board.add(&root);

        // What the firmware is told.
        for (index, value) in cmos::cmos_contents(
            memory.ram_bytes(),
            profile.cpus as u8,
            [floppy_type, FloppyType::None],
            &[BootClass::Floppy, BootClass::HardDisk, BootClass::Cd],
        ) {
            rtc.lock().set_cmos(index, value);
        }
        if let Some(firmware) = firmware {
            let config = firmware_config(profile, memory, firmware, &boot_order, floppy_type);
            board.add(&config.install(bus));
        }

        // Last: sources play before it mixes.
        let (id, mixing_alarm) = alarm();
        board.add_timed(&Loudspeaker::install(mixer.clone(), clock.clone(), mixing_alarm), id);

        Ok(Board {
            devices: board.devices,
            timed: Arc::new(board.timed),
            timers,
            serial,
            keyboard,
            pointer,
            power,
            video,
            paravirtual,
            disk_throttle,
            removable: (cd_drive, floppy),
            tally,
        })
    }

    /// Brings every device to its state of power-on.
    pub fn reset(&self) {
        for device in &self.devices {
            device.lock().reset();
        }
    }

    /// All devices, in the order of the board.
    pub fn devices(&self) -> &[Shared<dyn Device>] {
        &self.devices
    }

    /// Where input goes.
    pub fn sockets(&self) -> Sockets {
        let (keyboard, pointer) = (self.keyboard.clone(), self.pointer.clone());
        Sockets { keyboard, pointer, serial: self.serial.clone(), power: self.power.clone() }
    }

    /// The state of every device, by name. Those that follow the time when they are looked at do so first: what
    /// is saved does not tell when that was last.
    pub fn save(&self) -> Vec<(String, Vec<u8>)> {
        self.timed.iter().for_each(|device| device.lock().advance());
        let save = |device: &Shared<dyn Device>| {
            let device = device.lock();
            (device.name().to_owned(), device.save())
        };
        self.devices.iter().map(save).collect()
    }

    /// Puts every device into a state that [`Board::save`] gave on a machine of the same profile.
    pub fn load<'a>(&self, states: impl Iterator<Item = &'a [u8]> + Clone) -> Result<(), LoadError> {
        let load = |(device, state): (&Shared<dyn Device>, &[u8])| device.lock().load(state);
        self.devices.iter().zip(states.clone()).try_for_each(load)?;
        // The interrupt controllers stand first, and have seen the others' lines move to their places since.
        self.devices.iter().zip(states).take(1).try_for_each(load)
    }

    /// The names of all devices, in the order in which they are saved.
    pub fn names(&self) -> Vec<String> {
        self.devices.iter().map(|device| device.lock().name().to_owned()).collect()
    }

    /// Puts the VGA into its 80x25 text mode, for programs that start without firmware.
    pub fn show_text_mode(&self) {
        self.video.lock().set_text_mode();
    }

    /// The interrupt controllers, when they are ours.
    pub fn fabric(&self) -> Option<&Arc<Fabric>> {
        self.timers.fabric.as_ref()
    }

    /// Sends bytes to the first serial port, as fast as the guest takes them.
    pub fn send_serial(&self, mut bytes: &[u8]) {
        const LONGEST_WAIT: Duration = Duration::from_secs(2);
        let begun = std::time::Instant::now();
        while !bytes.is_empty() && begun.elapsed() < LONGEST_WAIT {
            let taken = self.serial.lock().push(bytes);
            bytes = &bytes[taken..];
            if taken == 0 {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }

    /// Output edges of 8254 channel 0, and those merged because the machine was late.
    pub fn timer_edges(&self) -> (u64, u64) {
        let counts = self.timers.pit.as_ref().map(|pit| pit.lock().counts());
        counts.map_or((0, 0), |counts| (counts.raised, counts.merged))
    }

    /// What becomes of ticks that come too late.
    pub fn set_lost_ticks(&self, policy: LostTicks) {
        if let Some(pit) = &self.timers.pit {
            pit.lock().set_lost_ticks(policy);
        }
        self.timers.rtc.lock().set_lost_ticks(policy);
        if let Some(hpet) = &self.timers.hpet {
            hpet.lock().set_lost_ticks(policy);
        }
        if let Some(fabric) = &self.timers.fabric {
            fabric.set_lost_ticks(policy);
        }
    }

    /// Every timer of the guest that is ours; `late` tells how late the device of an alarm was called.
    pub fn timers(&self, now_ns: u64, late: impl Fn(usize) -> LatenessSummary) -> Vec<Timer> {
        self.timers.list(now_ns, late)
    }

    /// Counts the ticks of every timer that is ours, by its name, for as long as it is kept.
    pub fn tick_counter(&self) -> impl Fn() -> Vec<(String, u64)> + Send + Sync + 'static {
        let timers = self.timers.clone();
        move || timers.ticks()
    }

    /// Interrupts per line.
    pub fn line_counts(&self) -> Vec<LineCount> {
        let Some(fabric) = &self.timers.fabric else { return Vec::new() };
        let counts = fabric.counts();
        let lines = (0_u32..).zip(counts.raised).filter(|(_, raised)| *raised > 0);
        // The timer's line is input 2 of the I/O APIC; IRQ 2 itself is the cascade and never rises.
        let delivered = |line: u32| match line {
            irq::TIMER => counts.delivered[0] + counts.delivered[2],
            line => counts.delivered[line as usize],
        };
        lines.map(|(line, raised)| LineCount { line, raised, delivered: delivered(line) }).collect()
    }
}

/// Puts the media into their drives; gives the order to boot them in (floppy, disks, CD), and where the CD drive is.
/// `own_slots` boots what controllers in slots of their own have; an IDE CD drive is there unless they have one.
fn insert(
    media: Media,
    ide: &Shared<IdeController>,
    floppy: &Shared<FloppyController>,
    own_slots: Vec<boot::BootDevice>,
    has_cd_drive: bool,
) -> Result<(Vec<boot::BootDevice>, Option<Position>), StartError> {
    let mut order = Vec::new();
    if let Some((Some(disk), _)) = media.floppy {
        floppy.lock().insert(0, disk).map_err(|error| StartError::Disk(error.to_string()))?;
        order.push(boot::BootDevice::Floppy(0));
    }
    order.extend(own_slots);
    let mut ide = ide.lock();
    // The CD drive has the second channel's first place, as on most PCs; disks take the others.
    let cd_place = Position::SecondaryMaster;
    let has_cd = has_cd_drive && (media.cdrom.is_some() || media.disks.len() < Position::ALL.len());
    let places = Position::ALL.into_iter().filter(|place| !(has_cd && *place == cd_place));
    for (disk, place) in media.disks.into_iter().zip(places) {
        ide.attach_disk(place, disk);
        order.push(boot_device(place));
    }
    if has_cd {
        ide.attach_optical(cd_place, media.cdrom);
        order.push(boot_device(cd_place));
    }
    Ok((order, has_cd.then_some(cd_place)))
}

fn boot_device(place: Position) -> boot::BootDevice {
    let number = place as u8;
    boot::BootDevice::Ide(number / 2, number % 2)
}

fn firmware_config(
    profile: &Profile,
    memory: &Arc<Memory>,
    firmware: &Firmware,
    order: &[boot::BootDevice],
    floppy: FloppyType,
) -> FwCfg {
    let mut config = FwCfg::new(memory.clone());
    let cpus = profile.cpus as u8;
    boot::set_machine(&mut config, memory.ram_bytes(), memory.low_ram_bytes(), cpus.into());
    boot::set_boot_order(&mut config, order, false);
    boot::set_boot_menu(&mut config, None);
    acpi_tables(profile, memory, floppy != FloppyType::None).give_to(&mut config);
    smbios_tables(profile, memory).give_to(&mut config);
    config.add_file("vgaroms/vgabios.bin", firmware.video_bios.clone());
    config
}

/// What the board tells a system about itself, by ACPI.
pub fn acpi_tables(profile: &Profile, memory: &Memory, floppy: bool) -> acpi::Tables {
    acpi::Tables::new(&acpi::Board {
        cpus: profile.cpus as u8,
        low_ram_bytes: memory.low_ram_bytes(),
        serial_ports: 1,
        floppy,
        suspend: false,
        hpet: profile.hpet,
    })
}

/// What the board tells a system about itself, by SMBIOS.
pub fn smbios_tables(profile: &Profile, memory: &Memory) -> smbios::Tables {
    smbios::Tables::new(&smbios::Identity {
        name: profile.name.clone(),
        uuid: [0; 16],
        cpus: profile.cpus as u8,
        ram_bytes: memory.ram_bytes(),
    })
}

fn floppy_type(geometry: &storage::floppy::FloppyGeometry) -> FloppyType {
    match (geometry.cylinders, geometry.sectors) {
        (40, _) => FloppyType::Kb360,
        (_, 8 | 9) => FloppyType::Kb720,
        (_, 15) => FloppyType::Mb12,
        (_, 36) => FloppyType::Mb288,
        _ => FloppyType::Mb144,
    }
}

/// The host's wall time since 1970.
pub fn host_time() -> Duration {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default()
}

/// The registers of a vCPU that is not the first: its local APIC says so.
pub fn secondary(mut registers: cpu::Registers) -> cpu::Registers {
    const BOOTSTRAP_PROCESSOR: u64 = 1 << 8;
    registers.msrs.apic_base &= !BOOTSTRAP_PROCESSOR;
    registers
}

#[cfg(test)]
#[path = "board_tests.rs"]
mod tests;
