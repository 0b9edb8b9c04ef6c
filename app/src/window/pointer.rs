//! The pointer over a guest's screen, for guests that hear where it is: theirs follows, and nothing is captured.

use egui::{Event, MouseWheelUnit, PointerButton, Pos2, Rect, Response, Ui};

use crate::running::Running;

/// Coordinates of the guest's screen run from 0 to this.
const AXIS_MAX: f32 = 0x7FFF as f32;
/// Points of fine scrolling that make a notch of a wheel.
const POINTS_PER_NOTCH: f32 = 40.0;

/// Who heard of the pointer, and what.
#[derive(Default)]
pub struct Pointer {
    place: (u16, u16),
    buttons: u8,
    /// Parts of a notch that the guest was not told yet.
    rest: f32,
}

impl Pointer {
    /// Tells `machine` what the pointer did over its screen, which is at `rect` and answered `response`.
    pub fn follow(&mut self, ui: &Ui, response: &Response, rect: Rect, machine: &dyn Running) {
        let is_over = response.contains_pointer();
        ui.input(|input| {
            for event in &input.events {
                self.hear(event, is_over, rect, machine);
            }
        });
        if is_over {
            // The guest draws its own.
            ui.ctx().set_cursor_icon(egui::CursorIcon::None);
        }
    }

    /// Buttons begin over the screen and may be let go outside.
    fn hear(&mut self, event: &Event, is_over: bool, rect: Rect, machine: &dyn Running) {
        let (place, buttons) = (self.place, self.buttons);
        let mut notches = 0;
        match *event {
            Event::PointerMoved(at) if is_over || buttons != 0 => self.place = on_screen(at, rect),
            Event::PointerButton { pos, button, pressed, .. } if is_over || !pressed => {
                self.place = if is_over || buttons != 0 { on_screen(pos, rect) } else { place };
                let bit = bit_of(button);
                self.buttons = if pressed { buttons | bit } else { buttons & !bit };
            }
            Event::WindowFocused(false) => self.buttons = 0,
            Event::MouseWheel { unit, delta, .. } if is_over => {
                self.rest -= match unit {
                    MouseWheelUnit::Point => delta.y / POINTS_PER_NOTCH,
                    MouseWheelUnit::Line | MouseWheelUnit::Page => delta.y,
                };
                notches = self.rest.trunc() as i32;
                self.rest -= notches as f32;
            }
            _ => {}
        }
        if (self.place, self.buttons, 0) != (place, buttons, notches) {
            machine.pointer(self.place.0, self.place.1, notches, self.buttons);
        }
    }
}

fn bit_of(button: PointerButton) -> u8 {
    match button {
        PointerButton::Primary => 1,
        PointerButton::Secondary => 2,
        PointerButton::Middle => 4,
        PointerButton::Extra1 | PointerButton::Extra2 => 0,
    }
}

/// Where `at` is on the guest's screen.
fn on_screen(at: Pos2, rect: Rect) -> (u16, u16) {
    let part = (at - rect.min) / rect.size();
    let along = |part: f32| (part.clamp(0.0, 1.0) * AXIS_MAX).round() as u16;
    (along(part.x), along(part.y))
}

#[cfg(test)]
mod tests {
    use egui::{Modifiers, pos2, vec2};

    use super::*;
    use crate::running::fake::{Deed, Fake};

    const RECT: Rect = Rect { min: pos2(100.0, 50.0), max: pos2(300.0, 150.0) };

    fn button(pos: Pos2, pressed: bool) -> Event {
        Event::PointerButton { pos, button: PointerButton::Secondary, pressed, modifiers: Modifiers::NONE }
    }

    #[test]
    fn places_are_parts_of_the_screen() {
        assert_eq!(on_screen(RECT.min, RECT), (0, 0));
        assert_eq!(on_screen(RECT.center(), RECT), (0x4000, 0x4000));
        assert_eq!(on_screen(pos2(1e9, -1e9), RECT), (0x7FFF, 0));
    }

    #[test]
    fn a_button_pressed_over_the_screen_may_be_let_go_outside_and_no_other_is_heard() {
        let (fake, mut pointer) = (Fake::new("x"), Pointer::default());
        let (inside, outside) = (RECT.max, pos2(0.0, 0.0));
        pointer.hear(&button(outside, true), false, RECT, &*fake);
        pointer.hear(&button(outside, false), false, RECT, &*fake);
        pointer.hear(&Event::PointerMoved(outside), false, RECT, &*fake);
        assert_eq!(fake.deeds(), []);
        pointer.hear(&Event::PointerMoved(inside), true, RECT, &*fake);
        pointer.hear(&button(inside, true), true, RECT, &*fake);
        pointer.hear(&Event::PointerMoved(outside), false, RECT, &*fake);
        pointer.hear(&button(outside, false), false, RECT, &*fake);
        let expected = [(0x7FFF, 0x7FFF, 0), (0x7FFF, 0x7FFF, 2), (0, 0, 2), (0, 0, 0)];
        assert_eq!(fake.deeds(), expected.map(|(x, y, buttons)| Deed::Pointer(x, y, 0, buttons)));
    }

    #[test]
    fn fine_scrolling_adds_up_to_notches() {
        let (fake, mut pointer) = (Fake::new("x"), Pointer::default());
        let wheel = |unit, y| Event::MouseWheel {
            unit,
            delta: vec2(0.0, y),
            phase: egui::TouchPhase::Move,
            modifiers: Modifiers::NONE,
        };
        pointer.hear(&wheel(MouseWheelUnit::Line, -1.0), true, RECT, &*fake);
        pointer.hear(&wheel(MouseWheelUnit::Point, 20.0), true, RECT, &*fake);
        pointer.hear(&wheel(MouseWheelUnit::Point, 20.0), true, RECT, &*fake);
        assert_eq!(fake.deeds(), [Deed::Pointer(0, 0, 1, 0), Deed::Pointer(0, 0, -1, 0)]);
    }
}
