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
    let mut profile = Profile { debug_exit: true, disk_bus, ..Profile::new("board") };
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
        let mut profile = Profile { debug_exit: true, disk_bus, nic, display, ..Profile::new("board") };
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
    for name in
        ["ahci", "e1000", "rtl8029", "ne2000", "virtio-net", "virtio-gpu", "virtio-sound", "sb16", "ide"]
    {
        assert!(walked.contains(name), "{name} is on no board: {walked:?}");
    }
}

#[test]
fn unclaimed_ports_read_ones() {
    let bare = board();
    let wiring = &bare.wiring;
    assert_eq!(wiring.bus.read(Space::Port, 0x1234, Width::Dword, 0), 0xFFFF_FFFF);
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
