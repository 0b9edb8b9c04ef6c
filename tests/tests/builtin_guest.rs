//! The built-in guest on every backend: its screen, its clock, its keyboard, its graphics, its end.

use engine::profile::{Direct, Profile};
use engine::{Ending, Key};
use machine_tests::{Guest, Platform, platforms};

fn start(platform: Platform) -> Guest {
    let mut profile = Profile::new("built-in");
    profile.direct = Some(Direct::BuiltIn("vitrine".to_owned()));
    Guest::start(profile, platform)
}

fn press(guest: &Guest, key: Key) {
    guest.session().key(key, true);
    guest.session().key(key, false);
}

/// The number its page shows after `label`.
fn number(guest: &Guest, label: &str) -> Option<u64> {
    let screen = guest.session().screen_text()?;
    let line = screen.lines().find(|line| line.contains(label))?;
    line.split(label).nth(1)?.split_whitespace().next()?.parse().ok()
}

/// The number of 8254 interrupts its page shows.
fn ticks(guest: &Guest) -> Option<u64> {
    number(guest, "Ticks")
}

#[test]
fn its_clock_is_driven_by_the_8254() {
    for platform in platforms() {
        let guest = start(platform);
        guest.wait_screen("Clock", 10);
        guest.wait_until(20, "a hundred ticks", || ticks(&guest).is_some_and(|n| n >= 100));
        guest.wait_screen("00:00:01", 20);
    }
}

#[test]
fn what_is_typed_arrives_and_f4_switches_off() {
    for platform in platforms() {
        let guest = start(platform);
        guest.wait_screen("Typed", 10);
        let text = "a virtual machine one can see through";
        guest.session().type_text(text);
        guest.wait_until(20, "the typed words", || {
            let screen = guest.session().screen_text().unwrap_or_default();
            screen.lines().any(|line| line.contains("Typed") && line.contains(text))
        });
        // The answer to the guest's own command, and two of each key: none came twice, and none got lost.
        let codes = 1 + 2 * text.len() as u64;
        guest.wait_until(20, "all scan codes", || number(&guest, "Keyboard") == Some(codes));
        press(&guest, Key::F4);
        assert_eq!(guest.wait_end(20), Ending::PoweredOff, "{platform:?}");
    }
}

#[test]
fn graphics_come_and_go() {
    for platform in platforms() {
        let guest = start(platform);
        guest.wait_screen("Clock", 10);
        press(&guest, Key::F1);
        guest.wait_until(30, "a picture of many colours", || {
            let frame = guest.session().frame();
            let mut colours = frame.pixels.clone();
            colours.sort_unstable();
            colours.dedup();
            guest.session().screen_text().is_none() && colours.len() > 64
        });
        press(&guest, Key::F1);
        guest.wait_screen("Clock", 30);
    }
}

#[test]
fn reset_starts_it_again() {
    for platform in platforms() {
        let guest = start(platform);
        guest.wait_until(20, "fifty ticks", || ticks(&guest).is_some_and(|n| n >= 50));
        press(&guest, Key::F3);
        guest.wait_until(20, "a restart", || ticks(&guest).is_some_and(|n| n < 50));
    }
}

#[test]
fn pause_stops_its_clock_and_resume_lets_it_go_on() {
    for platform in platforms() {
        let guest = start(platform);
        guest.wait_until(20, "ten ticks", || ticks(&guest).is_some_and(|n| n >= 10));
        guest.session().pause();
        guest.wait_until(5, "the pause", || guest.session().state() == engine::RunState::Paused);
        let paused_at = ticks(&guest);
        std::thread::sleep(std::time::Duration::from_millis(100));
        assert_eq!(ticks(&guest), paused_at, "{platform:?}");
        guest.session().resume();
        guest.wait_until(20, "more ticks", || ticks(&guest) > paused_at.map(|n| n + 5));
    }
}
