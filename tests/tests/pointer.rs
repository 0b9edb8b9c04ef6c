//! Linux's own PS/2 driver finds VMware's pointer behind the mouse, and hears where the host's pointer is.

use engine::profile::{Paravirtual, Profile};
use machine_tests::linux::Linux;
use machine_tests::{Guest, SOFT};

/// Seconds a Linux guest has; many tests share the host.
const PATIENCE: u64 = 900;

/// Where the host's pointer goes, to and fro: with the button up, and down. 15 bits across and down.
const PLACES: [(u16, u16); 2] = [(0x2000, 0x5000), (0x2100, 0x5200)];

/// The device with two absolute axes; then sixteen bit words of each event read from it.
const SCRIPT: &str = "
until [ \"$node\" ]; do
  sleep 1
  for event in /sys/class/input/event*/device; do
    [ $(cat $event/capabilities/abs) = 3 ] || continue
    node=/dev/input/$(basename $(dirname $event))
    echo found $(cat $event/name) axes $(cat $event/capabilities/abs)
  done
done
echo 'to be read'
dd if=$node bs=24 count=12 2>/dev/null | od -v -An -tu2 -w24
echo finished
";

#[test]
fn linux_hears_of_a_click_where_it_was_made() {
    let Some(linux) = Linux::of("amd64", &["evdev", "psmouse"], SCRIPT, &[]) else { return };
    let mut profile = Profile::new("pointer");
    profile.paravirtual = Paravirtual::NONE;
    linux.boot_in(&mut profile, "");
    let guest = Guest::start(profile, SOFT);
    guest.wait_until(PATIENCE, "a driver", || guest.session().takes_pointer());
    guest.wait_until(PATIENCE, "the reader", || guest.serial().contains("to be read"));
    // The reader opens the device some time after it says so: the pointer wanders until something came.
    let told = || -> Vec<[u16; 4]> {
        let serial = guest.serial();
        let (_, after) = serial.split_once("to be read").expect("it was said");
        let events = after.lines().map(|line| -> Vec<u16> {
            line.split_whitespace().map_while(|word| word.parse().ok()).collect()
        });
        // After two times of eight bytes each: type, code, value.
        events.filter_map(|words| words.get(8..)?.try_into().ok()).collect()
    };
    // No faster than a guest on a busy host reads, and for as long as it takes.
    let step = std::cell::Cell::new(0_u32);
    guest.wait_until(PATIENCE, "events", || {
        step.set(step.get() + 1);
        // Both axes move each time: Linux says nothing of one that stands still, and what it said
        // before the reader had opened the device is lost.
        let pressed = u8::from(step.get().is_multiple_of(2));
        let (x, y) = PLACES[usize::from(pressed)];
        guest.session().pointer(x, y, 0, pressed);
        std::thread::sleep(std::time::Duration::from_millis(200));
        guest.serial().contains("finished")
    });
    let (events, serial) = (told(), guest.serial());
    assert!(serial.contains("VMMouse axes 3"), "{serial}");
    let values = |kind: u16, code: u16| -> Vec<u16> {
        events.iter().filter(|event| event[..2] == [kind, code]).map(|event| event[2]).collect()
    };
    let (key, absolute) = (1, 3);
    assert_eq!(events.len(), 12, "{serial}");
    // From 15 bits to 16.
    let wide = |value: u16| ((u32::from(value) * 0xFFFF + 0x3FFF) / 0x7FFF) as u16;
    for (code, places) in [(0, PLACES.map(|(x, _)| wide(x))), (1, PLACES.map(|(_, y)| wide(y)))] {
        let told = values(absolute, code);
        assert!(told.len() >= 2, "each axis, as often as it moved: {events:?}");
        assert!(told.iter().all(|value| places.contains(value)), "axis {code}: {events:?}");
        assert!(told.windows(2).all(|pair| pair[0] != pair[1]), "to and fro: {events:?}");
    }
    let left = values(key, 0x110);
    assert!(!left.is_empty() && left.windows(2).all(|pair| pair[0] != pair[1]), "down and up: {events:?}");
}
