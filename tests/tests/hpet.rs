//! Linux keeps time by the HPET, and is ticked by its first comparator in the 8254's place.

use engine::machine::Timer;
use engine::profile::{Network, Paravirtual, Profile};
use machine_tests::linux::Linux;
use machine_tests::{Guest, SOFT};

/// Seconds a Linux guest has; many tests share the host.
const PATIENCE: u64 = 900;

/// Guest seconds between two looks at its clock.
const LASTS: f64 = 30.0;

/// CONFIG_HZ of Debian's kernels.
const TICKS_HZ: f64 = 250.0;

/// Says what keeps time, and then what time it is, as often as it is asked.
const SCRIPT: &str = "
clocks=/sys/devices/system/clocksource/clocksource0
echo offered $(cat $clocks/available_clocksource)
echo chosen $(cat $clocks/current_clocksource)
dmesg | grep -i hpet
stty -echo 2>/dev/null
echo ready
while read question; do
  [ \"$question\" = end ] && break
  echo uptime $(cut -d' ' -f1 /proc/uptime) answered
done
";

/// The guest's uptime in seconds, and the machine's guest time before it was asked and after it answered.
fn ask(guest: &Guest) -> (f64, [f64; 2]) {
    let (heard, guest_seconds) = (guest.serial().len(), || guest.session().stats().guest_seconds);
    let before = guest_seconds();
    guest.session().send_serial(b"time\n");
    guest.wait_until(PATIENCE, "an answer", || guest.serial()[heard..].contains("answered"));
    let after = guest_seconds();
    let serial = guest.serial();
    let uptime = serial[heard..].split_whitespace().skip_while(|word| *word != "uptime").nth(1);
    (uptime.and_then(|word| word.parse().ok()).expect("a number of seconds"), [before, after])
}

fn row(guest: &Guest, name: &str) -> Timer {
    let timers = guest.session().stats().timers.guest;
    timers.into_iter().find(|timer| timer.name == name).expect("the machine has this timer")
}

#[test]
fn linux_keeps_time_by_the_hpet() {
    // Ticks by the HPET for as long as it runs: there is no other timer it would take.
    let Some(linux) = Linux::with(&[], SCRIPT) else { return };
    let mut profile = Profile { hpet: true, network: Network::None, ..Profile::new("hpet") };
    profile.paravirtual = Paravirtual::NONE;
    linux.boot_in(&mut profile, "clocksource=hpet nolapic_timer nohz=off highres=off");
    let guest = Guest::start(profile, SOFT);
    guest.wait_until(PATIENCE, "the guest to be ready", || guest.serial().contains("ready"));
    let serial = guest.serial();
    let said = |word: &str| serial.lines().find(|line| line.starts_with(word)).unwrap_or_default().to_owned();
    assert!(said("offered").contains("hpet"), "{serial}");
    assert_eq!(said("chosen").trim(), "chosen hpet", "{serial}");
    assert!(serial.contains("3 comparators, 64-bit 100.000000 MHz counter"), "{serial}");

    let (first, asked) = ask(&guest);
    let (ticked, replaced) = (row(&guest, "HPET timer 0"), row(&guest, "8254 channel 0"));
    let end = asked[1] + LASTS;
    guest.wait_until(PATIENCE, "time to pass", || guest.session().stats().guest_seconds >= end);
    let ticks = row(&guest, "HPET timer 0").raised - ticked.raised;
    let (second, asked_again) = ask(&guest);

    let (least, most) = (asked_again[0] - asked[1], asked_again[1] - asked[0]);
    let passed = second - first;
    // Within 1 %; the guest shows hundredths of a second.
    assert!(passed > least * 0.99 - 0.02, "{passed} s passed, at least {least} should have");
    assert!(passed < most * 1.01 + 0.02, "{passed} s passed, at most {most} should have");
    assert_eq!((&*ticked.mode, ticked.period_ns), ("periodic, edge", Some(1e9 / TICKS_HZ)));
    assert!(ticks as f64 >= LASTS * TICKS_HZ * 0.99, "{ticks} ticks in {LASTS} s");
    let now = row(&guest, "8254 channel 0");
    assert_eq!(now.delivered, replaced.delivered, "the 8254 interrupts nobody");
    let books = row(&guest, "HPET timer 0");
    assert_eq!(books.raised, books.delivered + books.merged + books.owed + books.withdrawn);
    guest.session().send_serial(b"end\n");
    guest.wait_end(PATIENCE);
}
