//! The contract, walked over every device of every board: saved state comes back after any accesses, and a reset gives
//! the state of power-on.

use std::collections::HashSet;

use hardware::{Space, Width};

use super::*;
use crate::machine::bare::Bare;
use crate::profile::DisplayAdapter;

fn board() -> Bare {
    board_on(DiskBus::Virtio)
}

fn board_on(disk_bus: DiskBus) -> Bare {
    let mut profile = Profile { debug_exit: true, disk_bus, hpet: true, ..Profile::new("board") };
    profile.paravirtual.keyboard = true;
    profile.sound = "speaker,ac97,sb16,virtio".parse().unwrap();
    Bare::build(&profile).unwrap()
}

/// Boards that together have every device there is.
fn boards() -> [Bare; 5] {
    use DiskBus::{Ahci, Ide, Virtio};
    [
        (Ide, Nic::E1000, DisplayAdapter::Vga),
        (Ahci, Nic::Ne2000, DisplayAdapter::Vga),
        (Virtio, Nic::Virtio, DisplayAdapter::VirtioGpu),
        (Ide, Nic::Ne2000Isa, DisplayAdapter::Vga),
        (Virtio, Nic::E1000, DisplayAdapter::VirtioGpu),
    ]
    .map(|(disk_bus, nic, display)| {
        let mut profile =
            Profile { debug_exit: true, hpet: true, disk_bus, nic, display, ..Profile::new("board") };
        profile.paravirtual.keyboard = true;
        profile.sound = "speaker,ac97,sb16,virtio".parse().unwrap();
        Bare::build(&profile).unwrap()
    })
}

/// Reads and writes all over the ports and device memory; guest time passes.
fn disturb(wiring: &Wiring, board: &Board, accesses: u32) {
    let mut seed = 0x9E37_79B9_7F4A_7C15_u64;
    let windows: Vec<_> = wiring.bus.counts();
    for _ in 0..accesses {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let random = seed >> 20;
        let window = &windows[random as usize % windows.len()];
        let Some(base) = window.base else { continue };
        let address = base + (random >> 8) % window.length;
        let width = [Width::Byte, Width::Word, Width::Dword][(random >> 30) as usize % 3];
        match random >> 40 & 1 {
            0 => drop(wiring.bus.read(window.space, address, width, 0)),
            _ => wiring.bus.write(window.space, address, width, seed >> 3, 0),
        }
        if random.is_multiple_of(64) {
            wiring.clock.step(50_000);
            for (id, _) in wiring.alarms.take_due(wiring.clock.now()) {
                board.timed[id].lock().advance();
            }
        }
    }
}

/// The state of all devices, each brought to the present first.
fn saved(board: &Board) -> Vec<Vec<u8>> {
    board.timed.iter().for_each(|device| device.lock().advance());
    board.devices.iter().map(|device| device.lock().save()).collect()
}

#[test]
fn devices_have_names_of_their_own() {
    let bare = board();
    let (board, _) = (&bare.board, &bare.wiring);
    let names: HashSet<String> = board.devices.iter().map(|device| device.lock().name().to_owned()).collect();
    assert_eq!(names.len(), board.devices.len(), "{names:?}");
    assert!(names.len() >= 15, "{names:?}");
}

#[test]
fn every_device_takes_its_state_back_after_any_accesses() {
    for bare in boards() {
        let (board, wiring) = (&bare.board, &bare.wiring);
        disturb(wiring, board, 20_000);
        let before = saved(board);
        let now = wiring.clock.now();
        disturb(wiring, board, 20_000);
        assert_ne!(saved(board), before, "the accesses changed something");
        wiring.clock.set(now);
        let names = board.devices.iter().map(|device| device.lock().name().to_owned());
        let states: Vec<(String, Vec<u8>)> = names.zip(before.iter().cloned()).collect();
        board.load(states.iter().map(|(_, state)| state.as_slice())).unwrap();
        for (device, state) in board.devices.iter().zip(&before) {
            let device = device.lock();
            assert!(&device.save() == state, "{} differs", device.name());
        }
    }
}

#[test]
fn damaged_states_are_refused_and_change_nothing() {
    for bare in boards() {
        let (board, wiring) = (&bare.board, &bare.wiring);
        disturb(wiring, board, 5_000);
        let before = saved(board);
        for (device, state) in board.devices.iter().zip(&before) {
            let mut device = device.lock();
            assert!(device.load(&state[..state.len() / 2]).is_err(), "{} took half a state", device.name());
            assert_eq!(&device.save(), state, "{}", device.name());
        }
    }
}

#[test]
fn a_reset_gives_the_state_of_power_on() {
    // What lasts: battery-backed memory and the time, and the time that the PM timer and the 8254 count.
    const LASTING: [&str; 3] = ["mc146818", "8254", "piix4-pm"];
    let mut walked = HashSet::new();
    for bare in boards() {
        let (board, wiring) = (&bare.board, &bare.wiring);
        let new = saved(board);
        disturb(wiring, board, 20_000);
        wiring.clock.set(0);
        board.reset();
        for (device, new) in board.devices.iter().zip(&new) {
            let device = device.lock();
            walked.insert(device.name().to_owned());
            if !LASTING.contains(&device.name()) {
                assert!(&device.save() == new, "{}: reset does not equal new", device.name());
            }
        }
    }
    for name in [
        "ahci",
        "e1000",
        "rtl8029",
        "ne2000",
        "virtio-net",
        "virtio-gpu",
        "virtio-sound",
        "sb16",
        "ide",
        "hpet",
    ] {
        assert!(walked.contains(name), "{name} is on no board: {walked:?}");
    }
}

#[test]
fn unclaimed_ports_read_ones() {
    let bare = board();
    let wiring = &bare.wiring;
    assert_eq!(wiring.bus.read(Space::Port, 0x1234, Width::Dword, 0), 0xFFFF_FFFF);
}

/// As a guest programs it: vector 0x60 for one input of the I/O APIC, CPU 0's local APIC on, and nothing from the pair.
fn listen(bare: &Bare, input: u64) {
    let write = |address, value| bare.bus().write(Space::Memory, address, Width::Dword, value, 0);
    for (port, value) in [(0x21, 0xFF), (0xA1, 0xFF)] {
        bare.bus().write(Space::Port, port, Width::Byte, value, 0);
    }
    write(0xFEE0_00F0, 0x1FF);
    for (register, value) in [(0x11 + 2 * input, 0), (0x10 + 2 * input, 0x60)] {
        write(0xFEC0_0000, register);
        write(0xFEC0_0010, value);
    }
}

/// Interrupts that CPU 0 takes in ten milliseconds.
fn taken(bare: &Bare) -> u32 {
    let mut count = 0;
    for _ in 0..1000 {
        bare.pass(10_000);
        while bare.acknowledge(0).is_some_and(|vector| vector == 0x60) {
            count += 1;
            bare.bus().write(Space::Memory, 0xFEE0_00B0, Width::Dword, 0, 0);
        }
    }
    count
}

#[test]
fn the_hpet_reaches_the_io_apic_by_its_route_and_in_the_8254s_place() {
    let bare = board();
    let write = |offset: u64, value: u64| {
        bare.bus().write(Space::Memory, 0xFED0_0000 + offset, Width::Qword, value, 0);
    };
    // Comparator 0, periodic, each millisecond, to input 21.
    let (periodic, set_value) = (0x0C | 21 << 9, 1 << 6);
    for (offset, value) in [(0x10, 1), (0x100, periodic | set_value), (0x108, 100_000)] {
        write(offset, value);
    }
    listen(&bare, 21);
    assert_eq!(taken(&bare), 10);
    // The 8254 ticks faster, on input 2, until the HPET has its place.
    for (port, value) in [(0x43, 0x34), (0x40, 170), (0x40, 0)] {
        bare.bus().write(Space::Port, port, Width::Byte, value, 0);
    }
    listen(&bare, 2);
    write(0x100, 0);
    assert!((65..75).contains(&taken(&bare)));
    write(0x10, 3);
    assert_eq!(taken(&bare), 0, "nothing ticks on input 2");
    for (offset, value) in [(0xF0, 0), (0x100, 0x0C | set_value), (0x108, 100_000)] {
        write(offset, value);
    }
    assert_eq!(taken(&bare), 10);
    let timers = bare.board.timers(bare.now_ns(), |_| LatenessSummary::default());
    let row = |name: &str| timers.iter().find(|timer| timer.name == name).expect("a row of its own").clone();
    let (hpet, pit) = (row("HPET timer 0"), row("8254 channel 0"));
    assert_eq!((&*hpet.mode, hpet.period_ns), ("periodic, edge", Some(1e6)));
    assert_eq!((hpet.raised, hpet.delivered, hpet.merged), (20, 20, 0));
    assert!(pit.delivered < 75 && pit.withdrawn > 120, "the 8254 tells nobody: {pit:?}");
    let power = row("ACPI PM timer");
    assert_eq!((&*power.mode, power.period_ns), ("counts, 24 bits, 3.579545 MHz", None));
    let names: Vec<String> = bare.board.tick_counter()().into_iter().map(|(name, _)| name).collect();
    assert!(names.contains(&"HPET timer 2".to_owned()) && names.contains(&"ACPI PM timer".to_owned()));
}

#[test]
fn a_machine_has_an_hpet_only_if_its_profile_says_so() {
    let bare = Bare::build(&Profile::new("old")).unwrap();
    assert!(!bare.board.names().contains(&"hpet".to_owned()));
    assert_eq!(bare.bus().read(Space::Memory, 0xFED0_0000, Width::Dword, 0), 0xFFFF_FFFF);
    let timers = bare.board.timers(0, |_| LatenessSummary::default());
    assert!(timers.iter().all(|timer| !timer.name.starts_with("HPET")));
}

/// Everything a guest can learn of the PCI bus without changing it: a layout that changes makes guests find
/// "new hardware".
fn pci_layout(bus: &Bus) -> Vec<String> {
    let read = |device: u64, function: u64, register: u64| {
        bus.write(Space::Port, 0xCF8, Width::Dword, 1 << 31 | device << 11 | function << 8 | register, 0);
        bus.read(Space::Port, 0xCFC, Width::Dword, 0)
    };
    let mut layout = Vec::new();
    for (device, function) in (0..32).flat_map(|device| (0..8).map(move |function| (device, function))) {
        let id = read(device, function, 0);
        if id & 0xFFFF == 0xFFFF {
            continue;
        }
        let (class, pin) = (read(device, function, 8) >> 8, read(device, function, 0x3C) >> 8 & 0xFF);
        let windows: Vec<String> = (0x10..0x28)
            .step_by(4)
            .map(|register| {
                bus.write(
                    Space::Port,
                    0xCFC,
                    Width::Dword,
                    {
                        read(device, function, register);
                        0xFFFF_FFFF
                    },
                    0,
                );
                read(device, function, register)
            })
            .map(|mask| if mask == 0 { "-".to_owned() } else { format!("{mask:08x}") })
            .collect();
        let (vendor, id) = (id & 0xFFFF, id >> 16);
        layout.push(format!(
            "{device:02}.{function} {vendor:04x}:{id:04x} {class:06x} pin {pin} {}",
            windows.join(" ")
        ));
    }
    layout
}

const ALWAYS: [&str; 7] = [
    "00.0 8086:1237 060000 pin 0 - - - - - -",
    "01.0 8086:7000 060100 pin 0 - - - - - -",
    "01.1 8086:7010 010180 pin 0 - - - - fffffff1 -",
    "01.3 8086:7113 068000 pin 1 - - - - - -",
    "02.0 1234:1111 030000 pin 0 ff000008 - fffff000 - - -",
    "03.0 8086:100e 020000 pin 1 fffe0000 - fffffff9 - - -",
    "04.0 8086:2415 040100 pin 1 ffffff01 ffffffc1 - - - -",
];
const PARAVIRTUAL: [&str; 6] = [
    "06.0 1af4:1044 ff0000 pin 1 ffff8000 - - - - -",
    "07.0 1af4:1045 ff0000 pin 1 ffff8000 - - - - -",
    "08.0 1af4:1043 078000 pin 1 ffff8000 - - - - -",
    "09.0 1af4:1052 098000 pin 1 ffff8000 - - - - -",
    "10.0 1af4:1052 098000 pin 1 ffff8000 - - - - -",
    "11.0 1af4:1059 040100 pin 1 ffff8000 - - - - -",
];

#[test]
fn the_pci_bus_looks_the_same_for_ever() {
    let ahci = "05.0 8086:2922 010601 pin 1 - - - - - fffff000";
    let disk = "16.0 1af4:1042 010000 pin 1 ffff8000 - - - - -";
    for (bus, before, after) in
        [(DiskBus::Ide, None, None), (DiskBus::Ahci, Some(ahci), None), (DiskBus::Virtio, None, Some(disk))]
    {
        let bare = board_on(bus);
        let wiring = &bare.wiring;
        let expected: Vec<&str> = ALWAYS.into_iter().chain(before).chain(PARAVIRTUAL).chain(after).collect();
        assert_eq!(pci_layout(&wiring.bus), expected, "{bus:?}");
    }
}

/// Devices hold their bus, and the bus holds them.
#[test]
fn nothing_of_a_board_or_a_machine_stays_when_it_is_over() {
    let bare = board();
    let memory = Arc::downgrade(&bare.wiring.memory);
    drop(bare);
    assert!(memory.upgrade().is_none(), "the memory of a board");

    let mut profile = Profile::new("over");
    profile.direct = Some(crate::profile::Direct::BuiltIn(crate::builtin::names()[0].to_owned()));
    profile.backend = crate::backend::Backend::Soft;
    let session = crate::Session::start(&profile, crate::Outlets::default()).unwrap();
    let memory = Arc::downgrade(session.machine().shared_memory());
    session.power_off();
    session.wait(std::time::Duration::from_secs(10));
    drop(session);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while memory.upgrade().is_some() {
        assert!(std::time::Instant::now() < deadline, "the memory of a machine");
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}
