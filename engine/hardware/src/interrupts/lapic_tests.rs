//! The local APIC's registers, by the SDM.

use super::*;

fn enabled(id: u32) -> Lapic {
    let mut lapic = Lapic::new(id, id == 0);
    lapic.write(0xF0, 0x1FF, 0);
    lapic
}

#[test]
fn registers_after_reset() {
    let mut lapic = Lapic::new(3, false);
    let expected = [
        (0x020, 3 << 24),
        (0x030, 0x0105_0014),
        (0x0D0, 0),
        (0x0E0, 0xFFFF_FFFF),
        (0x0F0, 0xFF),
        (0x320, 0x1_0000),
        (0x350, 0x1_0000),
        (0x360, 0x1_0000),
        (0x380, 0),
    ];
    for (offset, value) in expected {
        assert_eq!(lapic.read(offset, 0), value, "{offset:#x}");
    }
    assert_eq!(lapic.read_msr(0x1B, 0), Some(0xFEE0_0800));
    assert_eq!(Lapic::new(0, true).read_msr(0x1B, 0), Some(0xFEE0_0900));
}

#[test]
fn the_highest_vector_above_the_processor_priority_is_delivered() {
    let mut lapic = enabled(0);
    for vector in [0x31, 0x52, 0x41] {
        lapic.accept(vector, false);
    }
    assert_eq!(lapic.acknowledge(), 0x52);
    assert_eq!((lapic.pending(), lapic.processor_priority()), (None, 0x50));
    lapic.accept(0x5F, false);
    assert_eq!(lapic.pending(), None, "the same class waits");
    lapic.accept(0x60, false);
    assert_eq!(lapic.acknowledge(), 0x60);
    lapic.write(0xB0, 0, 0);
    lapic.write(0xB0, 0, 0);
    assert_eq!(lapic.acknowledge(), 0x5F);
    assert_eq!(lapic.read(0x120, 0), 1 << 31, "ISR 0x40 to 0x5F");
}

#[test]
fn nothing_to_deliver_is_the_spurious_vector() {
    let mut lapic = enabled(0);
    lapic.write(0xF0, 0x1EF, 0);
    lapic.accept(0x40, false);
    lapic.set_task_priority(4);
    assert_eq!(lapic.acknowledge(), 0xEF);
    assert_eq!(lapic.isr().highest(), None);
    lapic.set_task_priority(3);
    assert_eq!(lapic.acknowledge(), 0x40);
}

#[test]
fn only_a_level_is_told_to_the_ioapic() {
    let mut lapic = enabled(0);
    lapic.accept(0x40, true);
    lapic.acknowledge();
    assert_eq!(lapic.write(0xB0, 0, 0), Effect::EndOfInterrupt(0x40));
    lapic.accept(0x40, false);
    lapic.acknowledge();
    assert_eq!(lapic.write(0xB0, 0, 0), Effect::Nothing);
    assert_eq!(lapic.write(0xB0, 0, 0), Effect::Nothing, "nothing in service");
}

#[test]
fn disabled_by_software_it_masks_its_table_and_takes_nothing_new() {
    let mut lapic = enabled(0);
    lapic.write(0x320, 0x40, 0);
    lapic.accept(0x50, false);
    lapic.write(0xF0, 0xFF, 0);
    assert_eq!(lapic.read(0x320, 0), 0x1_0040);
    lapic.write(0x320, 0x41, 0);
    assert_eq!(lapic.read(0x320, 0), 0x1_0041, "the mask cannot be cleared");
    lapic.accept(0x60, false);
    assert_eq!(lapic.pending(), Some(0x50), "what was there stays");
}

#[test]
fn illegal_vectors_are_errors_and_interrupt() {
    let mut lapic = enabled(0);
    lapic.write(0x370, 0xFE, 0);
    assert_eq!(lapic.write(0x300, 0x4_000F, 0), Effect::Nothing);
    lapic.accept(3, false);
    assert_eq!(lapic.read(0x280, 0), 0, "latched by a write");
    lapic.write(0x280, 0, 0);
    assert_eq!(lapic.read(0x280, 0), 0x60);
    assert_eq!(lapic.acknowledge(), 0xFE);
    lapic.write(0x280, 0, 0);
    assert_eq!(lapic.read(0x280, 0), 0);
    lapic.read(0x040, 0);
    lapic.write(0x280, 0, 0);
    assert_eq!(lapic.read(0x280, 0), 0x80, "a register that does not exist");
}

#[test]
fn destinations_flat_cluster_and_physical() {
    let mut lapic = enabled(5);
    assert!(lapic.is_addressed(5, false) && !lapic.is_addressed(4, false) && lapic.is_addressed(0xFF, false));
    lapic.write(0xD0, 0x2400_0000, 0);
    assert!(
        lapic.is_addressed(0x04, true) && lapic.is_addressed(0x20, true) && !lapic.is_addressed(0x03, true)
    );
    lapic.write(0xE0, 0x0FFF_FFFF, 0);
    assert!(lapic.is_addressed(0x24, true), "cluster 2, member bit 2");
    assert!(!lapic.is_addressed(0x14, true) && !lapic.is_addressed(0x23, true));
}

#[test]
fn commands_carry_their_destination() {
    let mut lapic = enabled(0);
    lapic.write(0x310, 0x0700_0000, 0);
    let message = Message {
        destination: 7,
        logical: true,
        mode: DeliveryMode::LowestPriority,
        vector: 0x44,
        level: false,
    };
    assert_eq!(lapic.write(0x300, 0x0944, 0), Effect::Send(Shorthand::None, message));
    assert_eq!([lapic.read(0x300, 0), lapic.read(0x310, 0)], [0x0944, 0x0700_0000]);
}

#[test]
fn x2apic_mode_by_its_rules() {
    let mut lapic = enabled(0x25);
    assert_eq!(lapic.read_msr(0x802, 0), None, "not in xAPIC mode");
    for forbidden in [0xFEE0_0400, 0xFED0_0800, 0x1_FEE0_0800] {
        assert_eq!(lapic.write_msr(0x1B, forbidden, 0, 1), None, "{forbidden:#x}");
    }
    assert!(lapic.write_msr(0x1B, 0xFEE0_0C00, 0, 1).is_some());
    assert_eq!(lapic.read_msr(0x802, 0), Some(0x25));
    assert_eq!(lapic.read_msr(0x80D, 0), Some(2 << 16 | 1 << 5));
    assert!(lapic.is_addressed(2 << 16 | 0x20, true) && !lapic.is_addressed(1 << 16 | 0x20, true));
    assert_eq!(lapic.write_msr(0x1B, 0xFEE0_0800, 0, 1), None, "back only by way of off");
    for (index, value) in [(0x80B, 1), (0x828, 1), (0x802, 0), (0x80D, 0), (0x80E, 0), (0x808, 0x100)] {
        assert_eq!(lapic.write_msr(index, value, 0, 1), None, "{index:#x}");
    }
    for index in [0x80B, 0x80E, 0x831, 0x83F, 0x8FF] {
        assert_eq!(lapic.read_msr(index, 0), None, "{index:#x}");
    }
    // What Linux writes as it powers off.
    assert!(lapic.write_msr(0x835, 0x5700, 0, 1).is_some());
    assert_eq!(lapic.write_msr(0x832, 0x4000, 0, 1), None, "the timer has no such bit");
    for reserved in [1 << 13, 1 << 16, 1 << 20, 1 << 31] {
        assert_eq!(lapic.write_msr(0x830, 0x44 | reserved, 0, 1), None, "{reserved:#x}");
    }
    let message = Message {
        destination: 0x1_0002,
        logical: true,
        mode: DeliveryMode::Fixed,
        vector: 0x44,
        level: false,
    };
    let sent = lapic.write_msr(0x830, 0x1_0002_0000_1844, 0, 1);
    assert_eq!(sent, Some(Effect::Send(Shorthand::None, message)));
    assert_eq!(lapic.read_msr(0x830, 0), Some(0x1_0002_0000_0844), "64 bits, and never busy");
    assert!(lapic.write_msr(0x83F, 0x77, 0, 1).is_some());
    assert_eq!(lapic.acknowledge(), 0x77, "self interrupt");
    assert!(lapic.write_msr(0x1B, 0xFEE0_0000, 0, 1).is_some());
    assert!(!lapic.is_enabled() && !lapic.is_software_enabled(), "off resets it");
}

#[test]
fn the_timer_raises_its_vector() {
    let mut lapic = enabled(0);
    lapic.write(0x3E0, 0xB, 0);
    lapic.write(0x320, 0x45, 0);
    lapic.write(0x380, 1000, 100);
    assert_eq!((lapic.deadline(), lapic.read(0x390, 600)), (Some(1100), 500));
    assert_eq!(lapic.advance(1100), 1);
    assert_eq!(lapic.timer_vector(), Some(0x45));
    lapic.accept(0x45, false);
    assert_eq!(lapic.acknowledge(), 0x45);
    lapic.write(0xB0, 0, 1100);
    lapic.write(0x320, 0x4_0046, 1100);
    assert!(lapic.write_msr(0x6E0, 6000, 1100, 3_000_000_000).is_some());
    assert_eq!((lapic.deadline(), lapic.read_msr(0x6E0, 1100)), (Some(2000), Some(6000)));
    assert_eq!(lapic.advance(2000), 1);
    lapic.accept(lapic.timer_vector().unwrap(), false);
    assert_eq!((lapic.acknowledge(), lapic.read_msr(0x6E0, 2000)), (0x46, Some(0)));
}
