//! The pages clicked through by label, with machines that are only pretended.

mod debugging;
mod form;
mod resources;
mod saving;
mod screen;

use std::path::Path;
use std::sync::Arc;

use egui::accesskit::Role;
use egui_kittest::kittest::Queryable;
use egui_kittest::{Harness, Node};
use engine::library::Library;
use engine::session::{Ending, RunState};
use winit::keyboard::KeyCode;

use super::app::App;
use super::capture::{Heard, SharedCapture};
use super::machines::Standing;
use super::page::Page;
use crate::boot;
use crate::running::fake::{Deed, Fake};
use crate::running::{Running, Starter};

/// A window over a library of its own, whose machines are all `fake`.
struct Window<'a> {
    harness: Harness<'a, App>,
    capture: SharedCapture,
    fake: Arc<Fake>,
    folder: tempfile::TempDir,
}

impl<'a> Window<'a> {
    fn new() -> Self {
        Window::prepared(|_| {})
    }

    fn prepared(prepare: impl FnOnce(&Library)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let library = Library::at(folder.path());
        prepare(&library);
        let fake = Fake::new("fake");
        fake.set_frame(320, 200, 0x0020_60A0);
        let given = fake.clone();
        let starter: Starter = Arc::new(move |_, _, _| {
            given.set_state(RunState::Running);
            Ok(given.clone() as Arc<dyn Running>)
        });
        let capture = SharedCapture::default();
        let shared = capture.clone();
        let builder = Harness::builder().with_size(egui::vec2(1180.0, 780.0));
        let harness = builder.build_eframe(move |creation| {
            crate::window::theme::apply(&creation.egui_ctx);
            App::new(library, starter, super::WakerSlot::default(), shared)
        });
        let mut window = Window { harness, capture, fake, folder };
        window.harness.run_steps(2);
        window
    }

    fn steps(&mut self) {
        self.harness.run_steps(4);
    }

    #[track_caller]
    fn click(&mut self, label: &str) {
        self.harness.get_by_label(label).click();
        self.steps();
    }

    /// Until the machine that is being built on its thread is there.
    fn wait_for_start(&mut self) {
        for _ in 0..1000 {
            self.harness.step();
            let id = self.shown();
            if self.harness.state_mut().machines().get(id).unwrap().standing() != Standing::Starting {
                return self.steps();
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        panic!("the machine never started");
    }

    /// The machine on the console.
    fn shown(&self) -> super::machines::Id {
        assert_eq!(self.harness.state().page(), Page::Console, "no console is shown");
        self.harness.state().current().expect("a machine is chosen")
    }

    fn standing(&mut self) -> Standing {
        let id = self.shown();
        self.harness.state_mut().machines().get(id).unwrap().standing()
    }

    fn shows(&self, label: &str) -> bool {
        self.harness.query_all_by_label(label).next().is_some()
    }

    fn shows_part(&self, part: &str) -> bool {
        self.harness.query_all_by_label_contains(part).next().is_some()
    }

    fn field<'s>(&'s self, title: &'s str) -> Node<'s> {
        self.harness.get_by_role_and_label(Role::TextInput, title)
    }

    fn library(&self) -> Library {
        Library::at(self.folder.path())
    }

    fn program(&self, name: &str) -> String {
        let path = self.folder.path().join(name);
        std::fs::write(&path, [0xEB, 0xFE, 0, 0]).unwrap();
        path.display().to_string()
    }

    fn drop_file(&mut self, path: &str) {
        let file = egui::DroppedFile { path: Some(path.into()), ..egui::DroppedFile::default() };
        self.harness.input_mut().dropped_files.push(file);
        self.harness.step();
        self.harness.input_mut().dropped_files.clear();
        self.harness.step();
    }

    /// Opens the console of the built-in guest.
    fn try_it(&mut self) {
        self.click("Try it");
        self.wait_for_start();
    }
}

fn saved(library: &Library, name: &str) {
    let mut profile = boot::machine_for_builtin(engine::builtin::names()[0]);
    profile.name = name.to_owned();
    library.create(&profile, None).unwrap();
}

#[test]
fn a_first_run_is_one_click_to_a_running_guest() {
    let mut window = Window::new();
    assert!(window.shows("You have no machines yet"));
    window.try_it();
    assert_eq!(window.standing(), Standing::Running);
    assert!(window.shows("Screen of vitrine"));
    assert!(window.capture.lock().has_keyboard(), "the keyboard goes to the guest at once");
    assert!(!window.capture.lock().has_mouse(), "the mouse does not, before a click");
}

#[test]
fn the_library_shows_each_machine_and_deletes_only_after_a_question() {
    let mut window = Window::prepared(|library| saved(library, "Old faithful"));
    assert!(window.shows("Old faithful") && !window.shows("You have no machines yet"));
    window.click("More ⏷");
    window.click("Delete");
    assert!(window.shows("Delete Old faithful?"));
    window.click("Cancel");
    assert!(window.library().load("Old faithful").is_ok());
    window.click("More ⏷");
    window.click("Delete");
    let buttons: Vec<_> = window.harness.get_all_by_label("Delete").collect();
    buttons.last().unwrap().click();
    window.steps();
    assert!(window.library().load("Old faithful").is_err());
    assert!(window.shows("You have no machines yet"));
}

#[test]
fn a_damaged_profile_is_a_card_that_says_so() {
    let window = Window::prepared(|library| {
        saved(library, "odd");
        std::fs::write(library.folder("odd").join(engine::library::PROFILE_FILE), "(colour: 3)").unwrap();
    });
    assert!(window.shows("damaged") && window.shows_part("cannot be read"));
}

#[test]
fn the_consoles_buttons_reach_the_machine() {
    let mut window = Window::new();
    window.try_it();
    window.click("Pause");
    assert_eq!(window.standing(), Standing::Paused);
    window.click("Resume");
    window.click("Reset");
    window.click("Power ⏷");
    window.click("Power button");
    window.click("Power ⏷");
    window.click("Power off");
    assert_eq!(
        window.fake.deeds(),
        [Deed::Pause, Deed::Resume, Deed::Reset, Deed::PowerButton, Deed::PowerOff]
    );
    assert!(window.shows("The machine is off"));
    assert!(!window.capture.lock().has_keyboard(), "a machine that is off has no use for the keyboard");
}

#[test]
fn keys_and_mouse_are_captured_and_released() {
    let mut window = Window::new();
    window.try_it();
    window.click("Screen of vitrine");
    assert!(window.capture.lock().has_mouse());
    let key = |pressed| Heard::Key { code: KeyCode::KeyV, pressed };
    assert!(window.capture.lock().hear(key(true)));
    assert!(window.capture.lock().hear(Heard::Motion(3.0, 4.0)));
    window.steps();
    window.click("Release (right Ctrl)");
    assert!(!window.capture.lock().has_keyboard());
    assert!(!window.capture.lock().hear(key(true)));
    let deeds = window.fake.deeds();
    assert!(
        matches!(deeds[..], [Deed::Key(a, true), Deed::Mouse(3, 4, 0, 0), Deed::Key(b, false)] if a == b),
        "{deeds:?}"
    );
}

#[test]
fn the_send_key_menu_presses_keys_together() {
    let mut window = Window::new();
    window.try_it();
    window.click("Send keys ⏷");
    window.click("Ctrl+Alt+Delete");
    for _ in 0..1000 {
        if window.fake.deeds().len() == 6 {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    let deeds = window.fake.deeds();
    let pressed: Vec<bool> = deeds.iter().map(|deed| matches!(deed, Deed::Key(_, true))).collect();
    assert_eq!(pressed, [true, true, true, false, false, false]);
}

#[test]
fn registers_are_live_and_changes_are_marked() {
    let mut window = Window::new();
    window.try_it();
    window.click("Register panel");
    assert!(window.shows("RAX") && window.shows("CR3") && window.shows("real mode"));
    assert!(!window.shows("00000000deadbeef"));
    window.fake.set_registers(|registers| {
        registers.general[0] = 0xDEAD_BEEF;
        registers.cr0 |= 1;
    });
    window.steps();
    assert!(window.shows("00000000deadbeef") && window.shows("protected mode, 16-bit"));
    assert_eq!(window.fake.deeds(), [], "looking at registers does nothing to the machine");
    window.click("Register panel");
    assert!(!window.shows("RAX"));
}

#[test]
fn a_crash_shows_its_report_instead_of_an_empty_screen() {
    let mut window = Window::new();
    window.try_it();
    window.fake.set_state(RunState::Ended(Ending::Crashed(Box::new(Fake::crash()))));
    window.steps();
    assert!(window.shows_part("The guest crashed") && window.shows_part("#GP general protection"));
    assert!(window.shows("ud2"));
    window.fake.set_state(RunState::Ended(Ending::Failed("the disk went away".into())));
    window.steps();
    assert!(window.shows("the disk went away"));
}

#[test]
fn a_screenshot_is_kept_and_its_place_told() {
    let mut window = Window::new();
    window.try_it();
    window.click("Screenshot");
    assert!(window.shows_part("Screenshot kept"));
    let kept: Vec<_> =
        std::fs::read_dir(window.folder.path().join("screenshots")).unwrap().flatten().collect();
    let picture = image::open(kept[0].path()).unwrap().to_rgb8();
    assert_eq!(
        (kept.len(), picture.dimensions(), picture.get_pixel(7, 7).0),
        (1, (320, 200), [0x20, 0x60, 0xA0])
    );
}

#[test]
fn scaling_is_chosen_from_a_menu() {
    let mut window = Window::new();
    window.try_it();
    let size = |window: &Window<'_>| window.harness.get_by_label("Screen of vitrine").rect().size();
    assert_eq!(size(&window), egui::vec2(960.0, 600.0));
    window.click("Scale ⏷");
    window.click("1:1");
    assert_eq!(size(&window), egui::vec2(320.0, 200.0));
    window.click("Scale ⏷");
    window.click("Fit");
    assert!(size(&window).x > 960.0);
}

#[test]
fn the_library_shows_a_running_machine_and_leads_back_to_it() {
    let mut window = Window::new();
    window.try_it();
    window.click("Machines");
    assert!(!window.capture.lock().has_keyboard());
    assert!(window.shows("running"));
    window.click("Open");
    assert_eq!(window.standing(), Standing::Running);
    assert!(window.capture.lock().has_keyboard());
}

#[test]
fn closing_the_window_asks_while_machines_run_but_not_for_the_one_it_was_opened_for() {
    fn request_close(window: &mut Window<'_>) -> bool {
        let viewport = window.harness.input_mut().viewports.entry(egui::ViewportId::ROOT).or_default();
        viewport.events.push(egui::ViewportEvent::Close);
        window.harness.step();
        for viewport in window.harness.input_mut().viewports.values_mut() {
            viewport.events.clear();
        }
        let output = window.harness.output();
        let commands = output.viewport_output.values().flat_map(|viewport| &viewport.commands);
        let is_held = commands.into_iter().any(|command| *command == egui::ViewportCommand::CancelClose);
        window.steps();
        is_held
    }
    let mut window = Window::new();
    let given = Fake::new("given") as Arc<dyn Running>;
    window.harness.state_mut().give(given);
    window.steps();
    assert!(!request_close(&mut window), "its run is over with the window");
    window.click("Machines");
    window.click("Try it");
    window.wait_for_start();
    assert!(request_close(&mut window));
    assert!(window.shows("A machine is running"));
    window.click("Cancel");
    assert!(!window.shows("A machine is running"));
}

/// Renders the window; `None`, with the reason on stderr, where there is no graphics driver at all. With
/// VITRINE_PICTURES set to a folder, the picture is kept there.
fn picture(window: &mut Window<'_>, name: &str) -> Option<image::RgbaImage> {
    match window.harness.render() {
        Err(reason) => {
            eprintln!("skipped: pages cannot be drawn here: {reason}");
            None
        }
        Ok(picture) => {
            if let Some(folder) = std::env::var_os("VITRINE_PICTURES") {
                picture.save(Path::new(&folder).join(format!("{name}.png"))).unwrap();
            }
            Some(picture)
        }
    }
}

#[test]
fn the_guests_picture_is_drawn_pixel_for_pixel() {
    let mut window = Window::new();
    window.try_it();
    let rect = window.harness.get_by_label("Screen of vitrine").rect();
    let Some(picture) = picture(&mut window, "console") else { return };
    let at = |x: f32, y: f32| picture.get_pixel(x as u32, y as u32).0;
    let guest = [0x20, 0x60, 0xA0, 0xFF];
    assert_eq!(at(rect.left(), rect.top()), guest);
    assert_eq!(at(rect.right() - 1.0, rect.bottom() - 1.0), guest);
    assert_ne!(at(rect.right() + 1.0, rect.center().y), guest);
    assert_ne!(at(rect.center().x, rect.top() - 2.0), guest);
}

#[test]
fn every_page_can_be_drawn() {
    let mut window = Window::prepared(|library| {
        saved(library, "Old faithful");
        saved(library, "A machine with a name that is far too long for its card");
        saved(library, "odd");
        std::fs::write(library.folder("odd").join(engine::library::PROFILE_FILE), "(colour: 3)").unwrap();
    });
    if picture(&mut window, "library").is_none() {
        return;
    }
    window.click("New machine");
    picture(&mut window, "new-machine");
    window.click("Create and start");
    picture(&mut window, "new-machine-problems");
    window.click("Browse…");
    picture(&mut window, "file-picker");
    window.click("Cancel");
    window.click("Machines");
    window.try_it();
    window.click("Register panel");
    window.fake.set_registers(|registers| registers.general[3] = 0x1234);
    window.harness.run_steps(1);
    picture(&mut window, "registers");
    window.click("Send keys ⏷");
    picture(&mut window, "send-keys");
    window.click("Ctrl+Alt+Delete");
    window.fake.set_state(RunState::Ended(Ending::Crashed(Box::new(Fake::crash()))));
    window.steps();
    picture(&mut window, "crash");
    window.fake.set_state(RunState::Ended(Ending::PoweredOff));
    window.steps();
    picture(&mut window, "off");
}

/// A machine as the instrument pages like it: with counters, timers, edges and something said.
fn furnish(fake: &Fake) {
    use engine::machine::{Edge, Timer};
    let mut stats = engine::stats::Stats { wall_seconds: 12.0, guest_seconds: 12.0, ..Default::default() };
    (stats.exits.port, stats.exits.memory_write, stats.exits.halt) = (120_400, 3_300, 1_204);
    stats.timers.guest = vec![Timer {
        name: "8254 channel 0".into(),
        mode: "2, rate generator".into(),
        period_ns: Some(1e6),
        next_ns: None,
        raised: 1204,
        delivered: 1200,
        merged: 4,
        replayed: 0,
        owed: 0,
        withdrawn: 0,
        acknowledged: None,
        lateness: Default::default(),
    }];
    fake.set_stats(stats);
    let now_ns = engine::scheduler::Scheduler::global().now_ns();
    let edge = |n: u64| Edge {
        alarm: 0,
        host_ns: now_ns.saturating_sub(n * 1_000_000),
        guest_ns: n,
        late_ns: 40_000 * (n % 5),
    };
    fake.add_edges(&(0..90).rev().map(edge).collect::<Vec<_>>());
}

fn say(fake: &Fake, port: u64, value: u64, write: bool) {
    let (lane, base) = if port < 0x100 { (0, 0x40) } else { (1, 0x3F8) };
    fake.trace().access(hardware::bus::Traced {
        space: hardware::Space::Port,
        address: port,
        width: hardware::Width::Byte,
        value,
        write,
        cpu: 0,
        window: Some((lane, port - base)),
    });
}

#[test]
fn the_rail_leads_to_every_page_and_pages_without_a_machine_say_what_to_do() {
    let mut window = Window::new();
    for page in super::page::RAIL {
        window.click(page.text());
        assert_eq!(window.harness.state().page(), page);
    }
    assert!(window.shows("No machine runs"));
    window.click("Registers");
    assert!(window.shows("No machine is chosen"));
    window.click("All machines");
    assert_eq!(window.harness.state().page(), Page::Library);
    window.try_it();
    for page in super::page::RAIL {
        window.click(page.text());
        assert!(!window.shows("No machine is chosen") && !window.shows("No machine runs"), "{page:?}");
    }
}

#[test]
fn the_conversation_is_recorded_read_and_exported() {
    let mut window = Window::new();
    window.try_it();
    window.click("Trace");
    assert!(window.shows("The trace is off"));
    window.harness.get_all_by_label("Record").last().unwrap().click();
    window.steps();
    assert!(window.fake.trace().is_on());
    assert!(window.shows_part("vitrine ctl vitrine trace on"), "the click is a command");
    say(&window.fake, 0x43, 0x34, true);
    (0..1204).for_each(|_| say(&window.fake, 0x3FD, 0x60, false));
    window.steps();
    assert!(window.shows("8254: channel 0, mode 2, low then high byte"));
    window.click("16550: status 0x60, can take a byte, idle, read 1,204 times");
    assert!(window.shows("Bits of the value"));
    window.click("accesses only");
    window.click("Export");
    let kept: Vec<_> = std::fs::read_dir(window.folder.path().join("traces")).unwrap().flatten().collect();
    let json: serde_json::Value = serde_json::from_slice(&std::fs::read(kept[0].path()).unwrap()).unwrap();
    assert!(json["traceEvents"].as_array().unwrap().len() >= 3);
    window.click("Clear");
    assert!(!window.shows_part("read 1,204 times"));
    window.click("Stop recording");
    assert!(!window.fake.trace().is_on());
}

#[test]
fn the_inspector_explains_compares_and_edits() {
    let mut window = Window::new();
    window.try_it();
    window.fake.set_memory(0x7C00, &[0xB8, 0x34, 0x12, 0xF4]);
    window.fake.set_registers(|registers| {
        registers.segments[1].base = 0;
        registers.rip = 0x7C00;
    });
    window.click("Registers");
    assert!(window.shows("real mode, paging off, interrupts off"));
    assert!(window.shows("mov ax,1234h"));
    window.click("Bits");
    assert!(window.shows("paging is off: linear addresses are physical"));
    for tab in ["GDT", "IDT", "TSS", "Page walk", "Memory"] {
        window.click(tab);
    }
    window.click("Compare");
    assert!(window.shows_part("Choose a second state"));
    window.click("Keep this moment");
    window.fake.set_registers(|registers| registers.general[0] = 0x77);
    window.steps();
    assert!(window.shows("0000000000000077") && window.shows("rax") && window.shows("0x77"));
    assert!(window.shows("1 value differs"));
    window.click("Pause");
    assert_eq!(window.fake.deeds(), [Deed::Pause]);
    let field = window.harness.get_all_by_role(Role::TextInput).next().unwrap();
    field.focus();
    window.harness.run_steps(1);
    window.harness.get_all_by_role(Role::TextInput).next().unwrap().type_text("rax=0x55");
    window.steps();
    window.click("Set");
    assert_eq!(window.fake.registers(0).unwrap().general[0], 0x55);
    assert!(window.shows_part("vitrine ctl vitrine set rax=0x55"));
}

#[test]
fn time_and_shares_are_controls() {
    let mut window = Window::new();
    window.try_it();
    furnish(&window.fake);
    window.click("Timers");
    assert!(window.shows("Timer scope") && window.shows("8254 channel 0") && window.shows("1204"));
    window.click("0.25×");
    assert_eq!(window.fake.time_rate(), 0.25);
    assert!(window.shows_part("vitrine ctl vitrine set time=0.25"));
    window.click("Hold");
    window.click("Run");
    window.click("Resources");
    window.click("25");
    window.click("×2");
    let allotment = window.fake.allotment();
    assert_eq!((allotment.cap_percent, allotment.shares), (Some(25), 2 * engine::scheduler::DEFAULT_SHARES));
}

#[test]
fn an_arrow_of_the_lens_is_clicked() {
    let mut window = Window::new();
    window.try_it();
    furnish(&window.fake);
    window.click("Exits");
    window.harness.get_by_label_contains("halts: ").click();
    window.steps();
    assert!(window.shows_part("HLT with no interrupt pending"));
}

#[test]
fn the_other_theme_is_put_on() {
    let mut window = Window::new();
    window.click("Light");
    assert_eq!(crate::window::theme::shade(), crate::window::theme::Shade::Light);
    window.click("Dark");
    assert_eq!(crate::window::theme::shade(), crate::window::theme::Shade::Dark);
}

#[test]
fn every_instrument_can_be_drawn() {
    let mut window = Window::new();
    window.try_it();
    furnish(&window.fake);
    window.fake.set_trace(true);
    say(&window.fake, 0x43, 0x34, true);
    say(&window.fake, 0x40, 0x9C, true);
    say(&window.fake, 0x40, 0x2E, true);
    for page in super::page::RAIL {
        window.click(page.text());
        if picture(&mut window, &format!("{page:?}").to_lowercase()).is_none() {
            return;
        }
    }
    window.click("Light");
    window.click("Timers");
    picture(&mut window, "timers-light");
    window.click("Dark");
}
