//! The PCI function and the transport as a driver sees them, on a console.

use super::*;
use crate::virtio::Console;
use crate::virtio::testing::Rig;
use crate::virtio::transport::feature;

fn console() -> Console {
    Console::new(Box::new(|_| {}))
}

fn rig() -> Rig<Console> {
    Rig::new(console())
}

#[test]
fn the_capabilities_say_where_everything_is() {
    let mut rig = rig();
    let device = &mut rig.device;
    assert_eq!(device.config_read(0, Width::Dword), 0x1043_1AF4);
    assert_eq!(device.config_read(8, Width::Dword), 0x0780_0001);
    let mut at = device.config_read(0x34, Width::Byte) as u8;
    let mut found = Vec::new();
    while at != 0 {
        let id = device.config_read(at, Width::Byte);
        let kind = if id == 9 { device.config_read(at + 3, Width::Byte) } else { 0 };
        let place = if id == 9 { device.config_read(at + 8, Width::Dword) } else { 0 };
        found.push((id, kind, place));
        at = device.config_read(at + 1, Width::Byte) as u8;
    }
    found.sort();
    let expected = [(9, 1, 0), (9, 2, 0x3000), (9, 3, 0x1000), (9, 4, 0x2000), (9, 5, 0), (0x11, 0, 0)];
    assert_eq!(found, expected);
}

#[test]
fn memory_can_be_reached_through_configuration_space() {
    let mut rig = rig();
    let at = rig.device.pci_access;
    let device = &mut rig.device;
    device.config_write(at + 8, Width::Dword, 18);
    device.config_write(at + 12, Width::Dword, 2);
    assert_eq!(device.config_read(at + 16, Width::Word), 2, "number of queues");
    device.config_write(at + 8, Width::Dword, 20);
    device.config_write(at + 12, Width::Dword, 1);
    device.config_write(at + 16, Width::Byte, 3);
    assert_eq!(device.config_read(at + 16, Width::Byte), 3);
    assert_eq!(rig.status(), 3);
    for (offset, length) in [(0x8000, 4), (2, 4), (0, 3), (0, 8)] {
        rig.device.config_write(at + 8, Width::Dword, offset);
        rig.device.config_write(at + 12, Width::Dword, length);
        rig.device.config_write(at + 16, Width::Dword, 0xFFFF_FFFF);
        rig.device.config_read(at + 16, Width::Dword);
    }
    assert_eq!(rig.status(), 3, "impossible accesses have no effect");
}

#[test]
fn without_messages_the_pin_interrupts_until_the_cause_is_read() {
    let mut rig = rig();
    rig.negotiate(feature::VERSION_1);
    rig.submit(1, &[b"x"], &[]);
    assert!(rig.level.get() && rig.vectors().is_empty());
    rig.device.config_write(4, Width::Word, 0x400);
    assert!(!rig.level.get(), "the pin is held off");
    rig.device.config_write(4, Width::Word, 0);
    assert!(rig.level.get());
    assert_eq!(rig.read(0x1000, Width::Byte), 1);
    assert!(!rig.level.get());
    assert_eq!(rig.read(0x1000, Width::Byte), 0);
}

#[test]
fn an_empty_notification_tells_nothing() {
    let mut rig = Rig::start(console(), 0);
    rig.notify(0);
    rig.notify(1);
    rig.write(0x3000 + 4 * 9, Width::Word, 9);
    assert!(rig.vectors().is_empty());
    assert_eq!(rig.status(), 0xF);
}

#[test]
fn what_was_offered_before_the_driver_got_ready_is_taken_then() {
    let mut rig = Rig::start(console(), 0);
    rig.write(20, Width::Byte, 0);
    rig.negotiate_until(feature::VERSION_1, |rig| {
        rig.submit(1, &[b"early"], &[]);
        assert!(rig.queues[1].used().is_empty(), "not yet");
    });
    assert_eq!(rig.queues[1].used().len(), 1);
}

#[test]
fn a_ring_outside_ram_needs_a_reset() {
    let mut rig = rig();
    rig.write(20, Width::Byte, 3);
    rig.write(8, Width::Dword, 1);
    rig.write(12, Width::Dword, 1);
    rig.write(20, Width::Byte, 0xB);
    rig.write(32, Width::Qword, 1 << 40);
    rig.write(28, Width::Word, 1);
    assert_eq!(rig.status(), 0x4B);
    assert_eq!(rig.read(28, Width::Word), 0);
    rig.write(20, Width::Byte, 0);
    assert_eq!(rig.status(), 0);
}

#[test]
fn a_saved_device_goes_on_where_it_was() {
    let mut rig = Rig::start(console(), 0);
    rig.submit(1, &[b"x"], &[]);
    let state = rig.device.save();
    let mut other = Rig::new(console());
    let mut device = VirtioPci::new(
        "device",
        console(),
        rig.memory.clone(),
        Line::unconnected(),
        Messages::new(other.sent.clone()),
    );
    device.load(&state).unwrap();
    other.device = device;
    std::mem::swap(&mut other.queues, &mut rig.queues);
    let head = other.submit(1, &[b"y"], &[]);
    assert_eq!(other.queues[1].used().last(), Some(&(head, 0)));
    assert_eq!(other.vectors(), [2]);
    let mut unfit = VirtioPci::new(
        "unfit",
        crate::virtio::Entropy::new(Box::new(|_| {})),
        rig.memory.clone(),
        Line::unconnected(),
        Messages::unconnected(),
    );
    assert!(unfit.load(&state).is_err(), "a console is no entropy device");
}
