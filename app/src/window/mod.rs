//! The window: library, new machine, console.

mod action;
mod app;
mod capture;
mod chord;
mod console_page;
mod draft;
mod event_loop;
mod file_picker;
mod keyboard;
mod library_page;
mod machines;
mod new_machine_page;
mod notices;
mod picture;
mod registers;
mod registers_panel;
mod theme;

#[cfg(test)]
mod tests;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use eframe::UserEvent;
use engine::library::Library;
use winit::event_loop::EventLoop;

use crate::running::{Running, engine_starter};
use app::App;
use capture::SharedCapture;
use event_loop::Ear;

/// A repaint for the guest's sake comes at most this often.
const FRAME_TIME: Duration = Duration::from_millis(16);

/// The window's context, once there is a window.
pub type WakerSlot = Arc<OnceLock<egui::Context>>;

/// A machine that was started on the command line and is to be shown.
pub struct Launched {
    /// The machine.
    pub machine: Arc<dyn Running>,
    /// Filled when the window is there.
    pub waker: WakerSlot,
}

/// Whether a window can be opened at all.
pub fn check_display() -> Result<(), String> {
    let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    if is_set("DISPLAY") || is_set("WAYLAND_DISPLAY") || is_set("WAYLAND_SOCKET") {
        return Ok(());
    }
    Err(NO_DISPLAY.to_owned())
}

const NO_DISPLAY: &str = "there is no display to open a window on (neither DISPLAY nor WAYLAND_DISPLAY is set); \
     `vitrine run … --headless` runs a machine without a window";

/// Something that a machine calls when it has a new frame.
pub fn waker(slot: &WakerSlot) -> Arc<dyn Fn() + Send + Sync> {
    let slot = slot.clone();
    Arc::new(move || {
        if let Some(ctx) = slot.get() {
            ctx.request_repaint_after(FRAME_TIME);
        }
    })
}

/// Closes the window, from any thread.
pub fn close(slot: &WakerSlot) {
    // The run may be over before its window is there.
    for _ in 0..500 {
        if let Some(ctx) = slot.get() {
            ctx.send_viewport_cmd(egui::ViewportCommand::Close);
            ctx.request_repaint();
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Opens the window and stays in it until it is closed.
pub fn open(launched: Option<Launched>) -> Result<u8, String> {
    check_display()?;
    let waker = launched.as_ref().map_or_else(WakerSlot::default, |launched| launched.waker.clone());
    let event_loop = EventLoop::<UserEvent>::with_user_event().build().map_err(|error| {
        format!("the display cannot be used: {error}; with --headless no window is needed")
    })?;
    let capture = SharedCapture::default();
    let title =
        launched.as_ref().map_or("Vitrine".to_owned(), |l| format!("{} – Vitrine", l.machine.profile().name));
    let options = eframe::NativeOptions {
        viewport: egui::ViewportBuilder::default()
            .with_title(title)
            .with_app_id("vitrine")
            .with_inner_size([1180.0, 780.0])
            .with_min_inner_size([940.0, 480.0]),
        ..eframe::NativeOptions::default()
    };
    let (slot, shared) = (waker.clone(), capture.clone());
    let make: eframe::AppCreator<'_> = Box::new(move |creation| {
        let _ = slot.set(creation.egui_ctx.clone());
        theme::apply(&creation.egui_ctx);
        let mut app = App::new(Library::of_user(), engine_starter(), self::waker(&slot), shared);
        if let Some(launched) = launched {
            app.give(launched.machine);
        }
        Ok(Box::new(app))
    });
    let eframe = eframe::create_native("vitrine", options, make, &event_loop);
    let mut ear = Ear { eframe, capture, waker };
    event_loop.run_app(&mut ear).map_err(|error| format!("the window could not be shown: {error}"))?;
    Ok(0)
}
