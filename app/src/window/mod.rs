//! The window: a rail of pages, from the library to what goes on inside machines.

mod action;
mod app;
mod capture;
mod changes;
mod chord;
mod chrome;
mod console_page;
mod crash_card;
mod devices_form;
mod devices_page;
mod draft;
mod errands;
mod event_loop;
mod exit_view;
mod exits_page;
mod file_picker;
mod fitting;
mod inspector;
mod inspector_page;
mod keyboard;
mod last_passages;
mod library_page;
mod machines;
mod new_machine_page;
mod notices;
mod page;
mod picture;
mod pointer;
mod registers_panel;
mod resources_page;
mod row_list;
mod samples;
mod setting;
mod snapshots_page;
mod stop_draft;
mod stops;
mod theme;
mod timer_view;
mod timers_page;
mod trace_page;
mod trace_view;

#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use eframe::UserEvent;
use engine::library::Library;
use winit::event_loop::EventLoop;

use crate::interrupt;
use crate::running::{Running, engine_starter};
use app::App;
use capture::SharedCapture;
use event_loop::Ear;

/// The window, once there is one: any thread may ask it to draw.
pub struct Shown {
    ctx: egui::Context,
    /// Repaints for a console's sake come at most this often.
    frame_time: Duration,
    hurried: AtomicBool,
}

/// Repaints for the cards of the library come at most this often.
const CARD_TIME: Duration = Duration::from_millis(120);

impl Shown {
    /// Whether a console is in view, which wants every frame; the library's cards do not.
    fn set_hurried(&self, hurried: bool) {
        self.hurried.store(hurried, Ordering::Relaxed);
    }

    fn wake(&self) {
        let hurried = self.hurried.load(Ordering::Relaxed);
        self.ctx.request_repaint_after(if hurried { self.frame_time } else { CARD_TIME });
    }
}

/// Where the window is found once there is one.
pub type WakerSlot = Arc<OnceLock<Shown>>;

/// A machine that was started on the command line and is to be shown.
pub struct Launched {
    /// The machine.
    pub machine: Arc<dyn Running>,
    /// Filled when the window is there.
    pub waker: WakerSlot,
}

/// How often it is looked whether the window is to close.
const LOOK: Duration = Duration::from_millis(100);

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

const NO_GRAPHICS: &str = "the window could not be opened: no graphics driver works on this display; install \
     mesa-vulkan-drivers (Fedora: mesa-vulkan-drivers, Arch: vulkan-swrast), or run machines with --headless";

/// Something that a machine calls when it has a new frame.
pub fn waker(slot: &WakerSlot) -> Arc<dyn Fn() + Send + Sync> {
    let slot = slot.clone();
    Arc::new(move || {
        if let Some(shown) = slot.get() {
            shown.wake();
        }
    })
}

/// Closes the window, from any thread.
pub fn close(slot: &WakerSlot) {
    // The run may be over before its window is there.
    for _ in 0..500 {
        if let Some(shown) = slot.get() {
            shown.ctx.send_viewport_cmd(egui::ViewportCommand::Close);
            shown.ctx.request_repaint();
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Closes the window when Ctrl-C or SIGTERM comes: the session may be about to end.
fn close_when_told(slot: WakerSlot) {
    let told = interrupt::flag();
    std::thread::spawn(move || {
        while !told.load(Ordering::Acquire) {
            std::thread::sleep(LOOK);
        }
        close(&slot);
    });
}

/// Opens the window and stays in it until it is closed.
pub fn open(launched: Option<Launched>) -> Result<u8, String> {
    check_display()?;
    // A machine from the command line has its run, which closes the window when it has seen why.
    let is_of_all = launched.is_none();
    let waker = launched.as_ref().map_or_else(WakerSlot::default, |launched| launched.waker.clone());
    let event_loop = EventLoop::<UserEvent>::with_user_event()
        .build()
        .map_err(|error| display_error(&error.to_string()))?;
    let capture = SharedCapture::default();
    let title =
        launched.as_ref().map_or("Vitrine".to_owned(), |l| format!("{} – Vitrine", l.machine.profile().name));
    let options = eframe::NativeOptions {
        viewport: egui::ViewportBuilder::default()
            .with_title(title)
            .with_app_id("vitrine")
            .with_inner_size([1280.0, 800.0])
            .with_min_inner_size([940.0, 480.0]),
        ..eframe::NativeOptions::default()
    };
    let (slot, shared) = (waker.clone(), capture.clone());
    let make: eframe::AppCreator<'_> = Box::new(move |creation| {
        let shown = Shown {
            ctx: creation.egui_ctx.clone(),
            frame_time: frame_time(creation),
            hurried: AtomicBool::new(true),
        };
        let _ = slot.set(shown);
        theme::apply(&creation.egui_ctx);
        let mut app = App::new(Library::of_user(), engine_starter(), slot, shared);
        app.sample_aside();
        if let Some(launched) = launched {
            app.give(launched.machine);
        }
        Ok(Box::new(app))
    });
    if is_of_all {
        close_when_told(waker.clone());
    }
    let eframe = eframe::create_native("vitrine", options, make, &event_loop);
    let opened = waker.clone();
    let mut ear = Ear { eframe, capture, waker };
    event_loop.run_app(&mut ear).map_err(|error| format!("the window could not be shown: {error}"))?;
    // eframe keeps its own error to itself; without a window, the app was never made.
    if opened.get().is_none() {
        return Err(NO_GRAPHICS.to_owned());
    }
    Ok(0)
}

/// winit's error without the place in its source that it begins with.
fn display_error(error: &str) -> String {
    let reason = error.rsplit(": ").next().unwrap_or(error);
    format!("the display cannot be used: {reason}; with --headless no window is needed")
}

/// 60 pictures a second; where the host's CPU draws them, half as many leave more of it to the guests.
fn frame_time(creation: &eframe::CreationContext<'_>) -> Duration {
    let device = creation.wgpu_render_state.as_ref().map(|state| state.adapter.get_info().device_type);
    Duration::from_millis(if device == Some(eframe::wgpu::DeviceType::Cpu) { 33 } else { 16 })
}
