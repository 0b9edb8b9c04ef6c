//! Waveforms and counts of the 8254 datasheet, tick by tick.

use super::*;

/// The output at each of `ticks`, as the datasheet draws it: `#` high, `_` low.
fn wave(counter: &mut Counter, ticks: std::ops::Range<Tick>) -> String {
    ticks
        .map(|t| {
            counter.advance(t);
            if counter.output(t) { '#' } else { '_' }
        })
        .collect()
}

fn counts(counter: &mut Counter, ticks: std::ops::Range<Tick>) -> Vec<u16> {
    ticks
        .map(|t| {
            counter.advance(t);
            counter.value(t)
        })
        .collect()
}

/// A counter in `mode`, least significant byte only, programmed at tick 0.
fn programmed(mode: u8, count: u8, gate: bool) -> Counter {
    let mut counter = Counter::new(gate);
    counter.control(0x10 | mode << 1, 0);
    counter.write(count, 0);
    counter
}

#[test]
fn mode_0_rises_n_plus_1_ticks_after_the_write() {
    // Datasheet figure 15: CW = 10, LSB = 4.
    let mut counter = programmed(0, 4, true);
    assert_eq!(counter.next_edge(0), Some(5));
    assert_eq!(counts(&mut counter.clone(), 1..8), [4, 3, 2, 1, 0, 0xFFFF, 0xFFFE]);
    assert_eq!(wave(&mut counter, 0..9), "_____####");
    assert_eq!(counter.next_edge(8), None);
    // A new count sets the output low again.
    assert!(!counter.write(2, 9));
    assert_eq!(wave(&mut counter, 9..14), "___##");
}

#[test]
fn mode_0_is_held_by_its_gate() {
    let mut counter = programmed(0, 3, true);
    counter.advance(2);
    counter.set_gate(false, 2);
    assert_eq!(counts(&mut counter, 2..5), [2, 2, 2]);
    assert_eq!(counter.next_edge(4), None);
    counter.set_gate(true, 5);
    assert_eq!(counts(&mut counter.clone(), 5..9), [2, 1, 0, 0xFFFF]);
    assert_eq!(wave(&mut counter, 5..9), "__##");
}

#[test]
fn a_low_gate_does_not_keep_a_count_from_being_loaded() {
    // Datasheet, mode 0: "if an initial count is written while GATE = 0, it will still be loaded on the next CLK".
    for mode in [0, 2, 3, 4] {
        let mut counter = programmed(mode, 4, false);
        counter.latch_status(0);
        assert_eq!(counter.read(0) & 0x40, 0x40, "mode {mode}");
        counter.advance(1);
        counter.latch_status(1);
        assert_eq!(counter.read(1) & 0x40, 0, "mode {mode}");
    }
}

#[test]
fn mode_0_stops_at_the_first_byte_of_two() {
    let mut counter = Counter::new(true);
    counter.control(0x30, 0);
    counter.write(3, 0);
    counter.write(0, 0);
    assert_eq!(wave(&mut counter, 0..6), "____##");
    counter.write(5, 6);
    assert_eq!(wave(&mut counter, 6..30), "_".repeat(24));
    counter.write(0, 30);
    assert_eq!(wave(&mut counter, 30..37), "______#");
}

#[test]
fn mode_1_is_a_retriggerable_one_shot() {
    // Datasheet figure 16: CW = 12, LSB = 3.
    let mut counter = programmed(1, 3, false);
    assert_eq!(wave(&mut counter, 0..4), "####");
    counter.set_gate(true, 4);
    assert_eq!(counter.next_edge(4), Some(5));
    assert_eq!(wave(&mut counter, 4..10), "#___##");
    counter.set_gate(false, 10);
    counter.set_gate(true, 10);
    assert_eq!(wave(&mut counter, 10..12), "#_");
    counter.set_gate(false, 12);
    counter.advance(12);
    counter.set_gate(true, 12);
    assert_eq!(wave(&mut counter, 12..18), "____##", "triggered again while low");
}

#[test]
fn mode_2_is_low_for_one_tick_in_n() {
    // Datasheet figure 17: CW = 14, LSB = 3.
    let mut counter = programmed(2, 3, true);
    assert_eq!(counts(&mut counter.clone(), 1..8), [3, 2, 1, 3, 2, 1, 3]);
    assert_eq!(wave(&mut counter, 0..11), "###_##_##_#");
    assert_eq!(counter.next_edge(10), Some(12));
    assert_eq!(counter.next_rise(10), Some(13));
}

#[test]
fn mode_2_takes_a_new_count_at_the_end_of_its_period() {
    let mut counter = programmed(2, 4, true);
    counter.advance(6);
    counter.write(5, 6);
    assert_eq!(counter.next_rise(6), Some(9));
    assert_eq!(counts(&mut counter, 7..16), [2, 1, 5, 4, 3, 2, 1, 5, 4]);
}

#[test]
fn mode_2_gate_low_forces_the_output_high_and_restarts() {
    let mut counter = programmed(2, 3, true);
    assert_eq!(wave(&mut counter, 0..4), "###_");
    assert!(counter.set_gate(false, 3), "the output rises with the falling gate");
    assert_eq!(wave(&mut counter, 3..8), "#####");
    counter.set_gate(true, 8);
    assert_eq!(wave(&mut counter, 8..15), "###_##_");
}

#[test]
fn mode_3_halves_even_and_odd_counts() {
    // Datasheet figure 18: CW = 16, LSB = 4, then LSB = 5.
    let mut even = programmed(3, 4, true);
    assert_eq!(counts(&mut even.clone(), 1..9), [4, 2, 4, 2, 4, 2, 4, 2]);
    assert_eq!(wave(&mut even, 1..11), "##__##__##");
    let mut odd = programmed(3, 5, true);
    assert_eq!(counts(&mut odd.clone(), 1..11), [4, 2, 0, 4, 2, 4, 2, 0, 4, 2]);
    assert_eq!(wave(&mut odd, 1..12), "###__###__#");
}

#[test]
fn mode_3_takes_a_new_count_at_the_end_of_its_half_period() {
    let mut counter = programmed(3, 8, true);
    counter.advance(2);
    counter.write(4, 2);
    assert_eq!(counter.next_edge(2), Some(5));
    assert_eq!(counter.next_rise(2), Some(7), "a low half of the new length");
    assert_eq!(wave(&mut counter, 1..14), "####__##__##_");
}

#[test]
fn mode_4_strobes_once() {
    // Datasheet figure 19: CW = 18, LSB = 3.
    let mut counter = programmed(4, 3, true);
    assert_eq!(counter.next_edge(0), Some(4));
    assert_eq!(counter.next_rise(0), Some(5));
    assert_eq!(wave(&mut counter, 0..10), "####_#####");
}

#[test]
fn mode_5_strobes_after_its_trigger() {
    // Datasheet figure 20: CW = 1A, LSB = 3.
    let mut counter = programmed(5, 3, false);
    assert_eq!(wave(&mut counter, 0..4), "####");
    counter.set_gate(true, 4);
    assert_eq!(wave(&mut counter, 4..12), "####_###");
    assert_eq!(counter.next_edge(11), None);
}

#[test]
fn zero_is_the_longest_count_in_both_codes() {
    let mut binary = programmed(2, 0, true);
    binary.advance(1);
    assert_eq!((binary.value(1), binary.next_rise(1)), (0, Some(1 + 65_536)));
    let mut bcd = Counter::new(true);
    bcd.control(0x35, 0);
    bcd.write(0, 0);
    bcd.write(0, 0);
    bcd.advance(2);
    assert_eq!((bcd.value(1), bcd.value(2), bcd.next_rise(2)), (0, 0x9999, Some(10_001)));
    bcd.control(0x31, 10);
    bcd.write(0x34, 10);
    bcd.write(0x12, 10);
    assert_eq!(bcd.next_rise(10), Some(11 + 1234));
    assert_eq!(counts(&mut bcd, 1244..1247), [0x0001, 0x0000, 0x9999]);
}

#[test]
fn a_latch_holds_until_both_bytes_are_read() {
    let mut counter = Counter::new(true);
    counter.control(0x34, 0);
    counter.write(0x34, 0);
    counter.write(0x12, 0);
    counter.latch_count(1);
    counter.latch_count(50);
    assert_eq!([counter.read(60), counter.read(70)], [0x34, 0x12]);
    assert_eq!([counter.read(0x35), counter.read(0x36)], [0x00, 0x11], "live, byte by byte");
}

#[test]
fn status_tells_output_null_count_and_control_word() {
    let mut counter = Counter::new(true);
    counter.control(0x36, 0);
    counter.latch_status(0);
    assert_eq!(counter.read(0), 0b1111_0110, "no count yet");
    counter.write(0, 0);
    counter.write(1, 0);
    counter.latch_status(0);
    counter.latch_count(0);
    assert_eq!(counter.read(0), 0b1111_0110, "not loaded yet");
    assert_eq!([counter.read(0), counter.read(0)], [0x00, 0x01]);
    counter.advance(1);
    counter.latch_status(1);
    assert_eq!(counter.read(1), 0b1011_0110);
    // A new count is null until the end of the half period.
    counter.write(0, 2);
    counter.write(2, 2);
    counter.advance(3);
    counter.latch_status(3);
    assert_eq!(counter.read(3), 0b1111_0110);
    counter.advance(129);
    counter.latch_status(129);
    assert_eq!(counter.read(129), 0b0011_0110, "loaded, in the low half");
}

/// The closed forms against the obvious way: looking at the output of every tick.
#[test]
fn edges_agree_with_the_output_at_every_tick() {
    let mut seed = 0x1234_5678_u32;
    let mut random = |below: u32| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 16) % below
    };
    for _ in 0..2_000 {
        let mut counter = programmed(random(6) as u8, random(12) as u8 + 1, random(4) != 0);
        let mut t = 0;
        for _ in 0..6 {
            match random(3) {
                0 => drop(counter.set_gate(!counter.gate(), t)),
                1 => drop(counter.write(random(12) as u8 + 1, t)),
                _ => {}
            }
            let end = t + Tick::from(random(40));
            let mut slow = counter.clone();
            let (mut rises, mut edges) = (0, Vec::new());
            for tick in t + 1..=end {
                let before = slow.output(tick - 1);
                slow.advance(tick);
                let after = slow.output(tick);
                if before != after {
                    edges.push((tick, after));
                    rises += u64::from(after);
                }
            }
            let first = counter.next_edge(t).filter(|&edge| edge <= end);
            assert_eq!(first, edges.first().map(|edge| edge.0), "{counter:?} at {t} until {end}");
            let first = counter.next_rise(t).filter(|&edge| edge <= end);
            assert_eq!(first, edges.iter().find(|edge| edge.1).map(|edge| edge.0), "{counter:?} at {t}");
            assert_eq!(counter.advance(end), rises, "{slow:?}");
            assert_eq!(counter, slow);
            t = end;
        }
    }
}
