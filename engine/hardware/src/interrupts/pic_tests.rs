//! The 8259A datasheet's modes, on the pair of a PC/AT.

use super::*;

/// Vectors 0x20 and 0x28, nothing masked; `icw4` for both.
fn programmed(icw4: u8) -> Pair {
    let mut pair = Pair::default();
    for (chip, port, value) in [
        (0, 0, 0x11),
        (0, 1, 0x20),
        (0, 1, 0x04),
        (0, 1, icw4),
        (1, 0, 0x11),
        (1, 1, 0x28),
        (1, 1, 0x02),
        (1, 1, icw4),
    ] {
        pair.write(chip, port, value);
    }
    pair
}

fn raise(pair: &mut Pair, irqs: &[u8]) {
    for &irq in irqs {
        pair.set_line(irq, true);
    }
}

#[test]
fn nothing_interrupts_before_initialisation_is_complete() {
    let mut pair = Pair::default();
    raise(&mut pair, &[1]);
    pair.write(0, 1, 0);
    assert!(!pair.output());
    pair.write(0, 0, 0x11);
    pair.set_line(1, false);
    pair.set_line(1, true);
    for value in [0x20, 0x04] {
        pair.write(0, 1, value);
        assert!(!pair.output());
    }
    pair.write(0, 1, 0x01);
    assert!(pair.output());
    assert_eq!(pair.read(0, 1), 0, "ICW1 clears the mask");
}

#[test]
fn fully_nested_priorities_and_the_slave_between() {
    let mut pair = programmed(1);
    raise(&mut pair, &[3, 12, 1, 9]);
    assert_eq!(pair.acknowledge(), Acknowledged { vector: 0x21, irq: Some(1) });
    assert!(!pair.output(), "the others are lower");
    raise(&mut pair, &[0]);
    assert_eq!(pair.acknowledge().vector, 0x20);
    pair.write(0, 0, 0x20);
    pair.write(0, 0, 0x20);
    assert_eq!(pair.acknowledge(), Acknowledged { vector: 0x29, irq: Some(9) });
    pair.write(0, 0, 0x0B);
    pair.write(1, 0, 0x0B);
    assert_eq!([pair.read(0, 0), pair.read(1, 0)], [0x04, 0x02]);
    pair.write(0, 0, 0x0A);
    pair.write(1, 0, 0x0A);
    assert_eq!([pair.read(0, 0) & 8, pair.read(1, 0)], [8, 0x10]);
    pair.write(1, 0, 0x20);
    pair.write(0, 0, 0x20);
    assert_eq!(pair.acknowledge().vector, 0x2C);
    pair.write(1, 0, 0x64);
    pair.write(0, 0, 0x62);
    assert_eq!(pair.acknowledge().vector, 0x23);
}

#[test]
fn a_request_that_went_away_is_answered_as_seven_and_leaves_no_trace() {
    let mut pair = programmed(1);
    raise(&mut pair, &[5]);
    pair.set_line(5, false);
    assert!(!pair.output());
    assert_eq!(pair.acknowledge(), Acknowledged { vector: 0x27, irq: None });
    assert_eq!(pair.master.isr(), 0);
}

#[test]
fn the_slaves_spurious_request_marks_only_the_master() {
    let mut pair = programmed(1);
    // The slave's request is masked between the two acknowledge pulses: the master saw it.
    pair.master.set_line(CASCADE, true);
    let input = pair.master.serve();
    assert_eq!(input, Some(CASCADE));
    assert_eq!(pair.slave.acknowledge(), 0x2F);
    assert_eq!([pair.master.isr(), pair.slave.isr()], [0x04, 0]);
}

#[test]
fn an_edge_asks_once_and_a_level_as_long_as_it_lasts() {
    let mut pair = programmed(1);
    pair.set_elcr(0, 0xFF);
    pair.set_elcr(1, 0xFF);
    assert_eq!([pair.elcr(0), pair.elcr(1)], [0xF8, 0xDE], "0, 1, 2, 8 and 13 are edges");
    raise(&mut pair, &[1, 11]);
    assert_eq!(pair.acknowledge().vector, 0x21);
    pair.write(0, 0, 0x20);
    for _ in 0..2 {
        assert_eq!(pair.acknowledge().vector, 0x2B);
        pair.write(1, 0, 0x20);
        pair.write(0, 0, 0x20);
    }
    pair.set_line(11, false);
    assert!(!pair.output());
}

#[test]
fn automatic_eoi_leaves_nothing_in_service() {
    let mut pair = programmed(3);
    raise(&mut pair, &[9, 10]);
    assert_eq!(pair.acknowledge().vector, 0x29);
    assert_eq!([pair.master.isr(), pair.slave.isr()], [0, 0]);
    assert_eq!(pair.acknowledge().vector, 0x2A);
    assert!(!pair.output());
}

#[test]
fn rotation_gives_the_served_the_lowest_priority() {
    let mut pair = programmed(1);
    raise(&mut pair, &[3, 6]);
    assert_eq!(pair.acknowledge().vector, 0x23);
    // Rotate on non-specific EOI: now 4 is highest, 3 lowest.
    pair.write(0, 0, 0xA0);
    raise(&mut pair, &[1]);
    assert_eq!(pair.acknowledge().vector, 0x26);
    pair.write(0, 0, 0x20);
    // Set priority: 0 lowest, so 1 is highest.
    pair.write(0, 0, 0xC0);
    raise(&mut pair, &[0]);
    assert_eq!(pair.acknowledge().vector, 0x21);
    pair.write(0, 0, 0xE1);
    pair.set_line(1, false);
    raise(&mut pair, &[1]);
    assert_eq!(pair.acknowledge().vector, 0x20, "specific rotation: 1 is lowest");
}

#[test]
fn rotation_on_automatic_eoi() {
    let mut pair = programmed(3);
    pair.write(0, 0, 0x80);
    raise(&mut pair, &[0, 1]);
    assert_eq!(pair.acknowledge().vector, 0x20);
    pair.set_line(0, false);
    raise(&mut pair, &[0]);
    assert_eq!([pair.acknowledge().vector, pair.acknowledge().vector], [0x21, 0x20]);
}

#[test]
fn special_mask_lets_lower_priorities_in() {
    let mut pair = programmed(1);
    raise(&mut pair, &[3]);
    pair.acknowledge();
    raise(&mut pair, &[6]);
    assert!(!pair.output());
    pair.write(0, 1, 0x08);
    assert!(!pair.output(), "masked, but still in service");
    pair.write(0, 0, 0x68);
    assert_eq!(pair.acknowledge().vector, 0x26);
    // A non-specific EOI does not touch a masked level in special mask mode.
    pair.write(0, 0, 0x20);
    assert_eq!(pair.master.isr(), 0x08);
    pair.write(0, 0, 0x48);
    assert!(!pair.output());
}

#[test]
fn special_fully_nested_lets_the_slave_nest_in_itself() {
    let mut pair = programmed(1);
    raise(&mut pair, &[12]);
    pair.acknowledge();
    raise(&mut pair, &[9]);
    assert!(!pair.output());
    let mut pair = programmed(0x11);
    raise(&mut pair, &[12]);
    pair.acknowledge();
    raise(&mut pair, &[3]);
    assert!(!pair.output(), "lower than the slave");
    raise(&mut pair, &[9]);
    assert_eq!(pair.acknowledge().vector, 0x29);
}

#[test]
fn a_poll_acknowledges() {
    let mut pair = programmed(1);
    pair.write(0, 0, 0x0C);
    assert_eq!(pair.read(0, 0), 0x00);
    raise(&mut pair, &[4]);
    pair.write(0, 0, 0x0C);
    assert_eq!(pair.read(0, 0), 0x84);
    assert_eq!(pair.master.isr(), 0x10);
    assert_eq!(pair.read(0, 0), 0x00, "one read only; then the IRR");
}
