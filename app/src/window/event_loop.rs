//! The window's event loop: eframe's, with an ear in front of it that hears physical keys and raw mouse
//! motion first. egui's own key events know neither modifiers as keys nor the numeric keypad.

use eframe::{EframeWinitApplication, UserEvent};
use winit::application::ApplicationHandler;
use winit::event::{
    DeviceEvent, DeviceId, ElementState, MouseButton, MouseScrollDelta, StartCause, WindowEvent,
};
use winit::event_loop::ActiveEventLoop;
use winit::keyboard::PhysicalKey;
use winit::window::WindowId;

use super::WakerSlot;
use super::capture::{Heard, SharedCapture};

/// Points of fine scrolling that make a notch of a wheel.
const POINTS_PER_NOTCH: f64 = 40.0;

/// The ear, and eframe behind it.
pub struct Ear<'a> {
    /// Everything that is not the guest's goes there.
    pub eframe: EframeWinitApplication<'a>,
    /// Who has keyboard and mouse.
    pub capture: SharedCapture,
    /// To show who has them.
    pub waker: WakerSlot,
}

impl Ear<'_> {
    /// Whether the guest took it.
    fn hear(&self, heard: Heard) -> bool {
        let mut capture = self.capture.lock();
        let before = (capture.has_keyboard(), capture.has_mouse());
        let taken = capture.hear(heard);
        let changed = before != (capture.has_keyboard(), capture.has_mouse());
        drop(capture);
        if changed && let Some(shown) = self.waker.get() {
            shown.ctx.request_repaint();
        }
        taken
    }

    fn is_the_guests(&self, event: &WindowEvent) -> bool {
        match event {
            WindowEvent::KeyboardInput { event, is_synthetic, .. } => {
                let pressed = event.state == ElementState::Pressed;
                match event.physical_key {
                    // Keys that were down already when the focus came are not pressed now.
                    _ if *is_synthetic && pressed => self.capture.lock().has_keyboard(),
                    PhysicalKey::Code(code) => self.hear(Heard::Key { code, pressed }),
                    PhysicalKey::Unidentified(_) => self.capture.lock().has_keyboard(),
                }
            }
            WindowEvent::MouseInput { state, button, .. } => {
                let bit = match button {
                    MouseButton::Left => 1,
                    MouseButton::Right => 2,
                    MouseButton::Middle => 4,
                    MouseButton::Back | MouseButton::Forward | MouseButton::Other(_) => 0,
                };
                self.hear(Heard::Button(bit, *state == ElementState::Pressed))
            }
            WindowEvent::MouseWheel { delta, .. } => self.hear(Heard::Wheel(match delta {
                MouseScrollDelta::LineDelta(_, lines) => -f64::from(*lines),
                MouseScrollDelta::PixelDelta(pixels) => -pixels.y / POINTS_PER_NOTCH,
            })),
            WindowEvent::CursorMoved { .. } => self.capture.lock().has_mouse(),
            WindowEvent::Focused(true) => {
                // eframe hears of it too, so this is not the guest's alone.
                self.hear(Heard::FocusGained);
                false
            }
            WindowEvent::Focused(false) => self.hear(Heard::FocusLost),
            _ => false,
        }
    }
}

impl ApplicationHandler<UserEvent> for Ear<'_> {
    fn resumed(&mut self, event_loop: &ActiveEventLoop) {
        self.eframe.resumed(event_loop);
    }

    fn window_event(&mut self, event_loop: &ActiveEventLoop, window_id: WindowId, event: WindowEvent) {
        if !self.is_the_guests(&event) {
            self.eframe.window_event(event_loop, window_id, event);
        }
    }

    fn new_events(&mut self, event_loop: &ActiveEventLoop, cause: StartCause) {
        self.eframe.new_events(event_loop, cause);
    }

    fn user_event(&mut self, event_loop: &ActiveEventLoop, event: UserEvent) {
        self.eframe.user_event(event_loop, event);
    }

    fn device_event(&mut self, event_loop: &ActiveEventLoop, device_id: DeviceId, event: DeviceEvent) {
        if let DeviceEvent::MouseMotion { delta: (dx, dy) } = event
            && self.hear(Heard::Motion(dx, dy))
        {
            return;
        }
        self.eframe.device_event(event_loop, device_id, event);
    }

    fn about_to_wait(&mut self, event_loop: &ActiveEventLoop) {
        self.eframe.about_to_wait(event_loop);
    }

    fn suspended(&mut self, event_loop: &ActiveEventLoop) {
        self.eframe.suspended(event_loop);
    }

    fn exiting(&mut self, event_loop: &ActiveEventLoop) {
        self.eframe.exiting(event_loop);
    }

    fn memory_warning(&mut self, event_loop: &ActiveEventLoop) {
        self.eframe.memory_warning(event_loop);
    }
}
