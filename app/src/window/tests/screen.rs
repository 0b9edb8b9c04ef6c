//! What the window tells a guest that follows the pointer, or the size of its screen.

use egui_kittest::kittest::Queryable;

use super::Window;
use crate::running::fake::Deed;

#[test]
fn where_the_guest_hears_of_the_pointer_a_click_captures_the_keyboard_alone() {
    let mut window = Window::new();
    window.try_it();
    window.fake.set_takes_pointer(true);
    window.steps();
    let screen = window.harness.get_by_label("Screen of vitrine").rect();
    let at = screen.lerp_inside(egui::vec2(0.25, 0.5));
    window.harness.event(egui::Event::PointerMoved(at));
    window.steps();
    for pressed in [true, false] {
        let button = egui::PointerButton::Primary;
        let modifiers = egui::Modifiers::NONE;
        window.harness.event(egui::Event::PointerButton { pos: at, button, pressed, modifiers });
        window.harness.step();
    }
    window.steps();
    let deeds = window.fake.deeds();
    let [Deed::Pointer(x, y, 0, 0), Deed::Pointer(.., 1), Deed::Pointer(.., 0)] = deeds[..] else {
        panic!("{deeds:?}")
    };
    assert!(
        x.abs_diff(0x2000) < 0x80 && y.abs_diff(0x4000) < 0x80,
        "a quarter across, half down: {x:#x} {y:#x}"
    );
    assert!(window.capture.lock().has_keyboard() && !window.capture.lock().has_mouse());
    assert!(window.shows_part("its pointer follows"));
    // Without such a driver a click takes the mouse as well, and the pointer is no more told.
    window.fake.set_takes_pointer(false);
    window.click("Screen of vitrine");
    assert!(window.capture.lock().has_mouse());
    assert_eq!(window.fake.deeds().len(), 3);
}

#[test]
fn the_guests_monitor_is_as_large_as_the_room_for_it() {
    let mut window = Window::new();
    window.try_it();
    window.harness.run_steps(30);
    assert_eq!(window.fake.deeds(), [], "a guest that hears of no size is told none");
    window.fake.set_takes_size(true);
    window.harness.run_steps(30);
    let [Deed::Resize(width, height)] = window.fake.deeds()[..] else { panic!("{:?}", window.fake.deeds()) };
    assert!((700..1180).contains(&width) && (600..780).contains(&height), "{width} x {height}");
    window.click("Register panel");
    window.harness.run_steps(30);
    let [_, Deed::Resize(narrower, same)] = window.fake.deeds()[..] else {
        panic!("{:?}", window.fake.deeds())
    };
    assert!(narrower + 200 < width && same == height, "{narrower} x {same}");
}
