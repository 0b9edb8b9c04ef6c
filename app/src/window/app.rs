//! The app: which page is shown, and where every action is carried out.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use egui::{Modal, RichText, Ui, ViewportCommand};

use engine::library::Library;

use super::action::Action;
use super::capture::SharedCapture;
use super::console_page::Console;
use super::draft::Draft;
use super::file_picker::{Choice, FilePicker};
use super::machines::{Entry, Id, Machines, Standing};
use super::notices::Notices;
use super::{WakerSlot, library_page, new_machine_page, theme};
use crate::running::{Running, Starter};

/// How often the library is read again while it is shown.
const REFRESH: Duration = Duration::from_secs(2);
/// How long the keys of a chord are held.
const HOLD: Duration = Duration::from_millis(60);

/// What the window shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Page {
    /// All machines.
    Library,
    /// The form for a new one.
    NewMachine,
    /// One machine's screen.
    Console(Id),
}

/// The app.
pub struct App {
    page: Page,
    machines: Machines,
    console: Console,
    draft: Draft,
    picker: Option<FilePicker>,
    deleting: Option<Id>,
    /// The user closed the window while machines run.
    closing: bool,
    /// The window may close.
    quits: bool,
    notices: Notices,
    capture: SharedCapture,
    /// What the host's pointer was last told: hidden and held, or free.
    held_pointer: bool,
    refreshed: f64,
    slot: WakerSlot,
}

impl App {
    /// On the library page.
    pub fn new(library: Library, starter: Starter, slot: WakerSlot, capture: SharedCapture) -> App {
        let waker = super::waker(&slot);
        App {
            slot,
            page: Page::Library,
            machines: Machines::new(library, starter, waker),
            console: Console::default(),
            draft: Draft::default(),
            picker: None,
            deleting: None,
            closing: false,
            quits: false,
            notices: Notices::default(),
            capture,
            held_pointer: false,
            refreshed: 0.0,
        }
    }

    /// Shows a machine that runs already; closing the window then ends its run.
    pub fn give(&mut self, machine: Arc<dyn Running>) {
        let id = self.machines.give(machine);
        self.open(id);
    }

    /// What is shown.
    #[cfg(test)]
    pub fn page(&self) -> Page {
        self.page
    }

    /// The machines.
    #[cfg(test)]
    pub fn machines(&mut self) -> &mut Machines {
        &mut self.machines
    }

    /// The whole window.
    pub fn show(&mut self, ui: &mut Ui) {
        let ctx = ui.ctx().clone();
        let now = ctx.input(|input| input.time);
        let before = self.shown_standing();
        for note in self.machines.poll() {
            self.notices.tell(note);
        }
        self.grab_when_started(before);
        self.follow_the_console();
        if let Some(shown) = self.slot.get() {
            shown.set_hurried(self.page != Page::Library);
        }
        let mut asked = Vec::new();
        self.shortcuts(&ctx, &mut asked);
        match self.page {
            Page::Library => {
                if now - self.refreshed > REFRESH.as_secs_f64() {
                    self.refreshed = now;
                    self.machines.refresh();
                }
                ctx.request_repaint_after(REFRESH);
                library_page::show(ui, &mut self.machines, &mut asked);
            }
            Page::NewMachine => {
                let machines = &self.machines;
                new_machine_page::show(ui, &mut self.draft, |name| machines.is_taken(name), &mut asked);
            }
            Page::Console(id) => match self.machines.get_mut(id) {
                Some(entry) => self.console.show(ui, entry, &self.capture, &mut asked),
                None => self.page = Page::Library,
            },
        }
        self.dialogs(&ctx, &mut asked);
        self.drops(&ctx);
        for action in asked {
            self.carry_out(action, &ctx);
        }
        self.close_request(&ctx);
        self.hold_pointer(&ctx);
        self.notices.show(&ctx);
    }

    /// The keyboard is the guest's only while its console is shown and it runs.
    fn follow_the_console(&mut self) {
        let is_shown = match self.page {
            Page::Console(id) => self
                .machines
                .get(id)
                .is_some_and(|entry| matches!(entry.standing(), Standing::Running | Standing::Paused)),
            Page::Library | Page::NewMachine => false,
        };
        if !is_shown {
            self.capture.lock().release();
        }
    }

    fn shortcuts(&self, ctx: &egui::Context, asked: &mut Vec<Action>) {
        let is_busy = self.picker.is_some() || self.deleting.is_some() || self.closing;
        if is_busy || self.capture.lock().has_keyboard() {
            return;
        }
        let mut offered = vec![Action::NewMachine];
        if self.page != Page::Library {
            offered.push(Action::ShowLibrary);
        }
        if let Page::Console(id) = self.page {
            offered.extend([Action::ToggleRegisters, Action::Screenshot(id)]);
            offered.push(match self.machines.get(id).map(Entry::standing) {
                Some(Standing::Paused) => Action::Resume(id),
                _ => Action::Pause(id),
            });
        }
        for action in offered {
            if let Some(shortcut) = action.shortcut()
                && ctx.input_mut(|input| input.consume_shortcut(&shortcut))
            {
                asked.push(action);
            }
        }
    }

    fn carry_out(&mut self, action: Action, ctx: &egui::Context) {
        let machine = |id: Id| self.machines.get(id).and_then(|entry| entry.machine().cloned());
        match action {
            Action::ShowLibrary => {
                self.capture.lock().release();
                self.machines.refresh();
                self.page = Page::Library;
            }
            Action::NewMachine => {
                self.draft = Draft::default();
                self.page = Page::NewMachine;
            }
            Action::Create | Action::CreateAndStart => self.create(action == Action::CreateAndStart),
            Action::Browse => {
                self.picker = Some(FilePicker::new(std::path::Path::new(self.draft.boot.trim())));
            }
            Action::Start(id) => {
                self.machines.start(id);
                self.open(id);
            }
            Action::Open(id) => self.open(id),
            Action::AskDelete(id) => self.deleting = Some(id),
            Action::Delete(id) => {
                if let Err(reason) = self.machines.delete(id) {
                    self.notices.warn(reason);
                }
            }
            Action::Pause(id) => machine(id).iter().for_each(|machine| machine.pause()),
            Action::Resume(id) => machine(id).iter().for_each(|machine| machine.resume()),
            Action::Reset(id) => machine(id).iter().for_each(|machine| machine.reset()),
            Action::PowerButton(id) => machine(id).iter().for_each(|machine| machine.press_power_button()),
            Action::PowerOff(id) => machine(id).iter().for_each(|machine| machine.power_off()),
            Action::Screenshot(id) => match self.machines.screenshot(id) {
                Ok(path) => self.notices.tell(format!("Screenshot kept: {}", path.display())),
                Err(reason) => self.notices.warn(reason),
            },
            Action::Send(id, chord) => {
                machine(id).into_iter().for_each(|machine| send(machine, chord.keys()))
            }
            Action::Release => self.capture.lock().release(),
            Action::Scale(scaling) => self.console.scaling = scaling,
            Action::ToggleRegisters => self.console.shows_registers = !self.console.shows_registers,
            Action::Quit => {
                self.quits = true;
                ctx.send_viewport_cmd(ViewportCommand::Close);
            }
        }
    }

    fn open(&mut self, id: Id) {
        self.console.registers.restart();
        self.page = Page::Console(id);
        let machine = self.machines.get(id).and_then(|entry| entry.machine().cloned());
        if let Some(machine) = machine {
            self.capture.lock().grab(&machine, false);
        }
    }

    fn create(&mut self, starts: bool) {
        self.draft.tried = true;
        let machines = &self.machines;
        let Ok(profile) = self.draft.profile(|name| machines.is_taken(name)) else { return };
        match self.machines.create(&profile) {
            Ok(id) if starts => {
                self.machines.start(id);
                self.open(id);
            }
            Ok(_) => self.page = Page::Library,
            Err(reason) => self.notices.warn(reason),
        }
    }

    fn dialogs(&mut self, ctx: &egui::Context, asked: &mut Vec<Action>) {
        if let Some(picker) = &mut self.picker {
            match picker.show(ctx) {
                Choice::Open => {}
                Choice::Cancelled => self.picker = None,
                Choice::File(path) => {
                    self.draft.take_file(&path);
                    self.picker = None;
                }
            }
        }
        if let Some(id) = self.deleting {
            let name = self.machines.get(id).map(|entry| entry.name.clone()).unwrap_or_default();
            let title = format!("Delete {name}?");
            let text = "Its folder goes, with everything in it. Images elsewhere stay.";
            if question(ctx, &title, text, Action::Delete(id), asked) {
                self.deleting = None;
            }
        }
        if self.closing {
            let title = match self.machines.alive() {
                1 => "A machine is running".to_owned(),
                count => format!("{count} machines are running"),
            };
            let text = "Closing the window switches them off; unsaved work in the guests is lost.";
            if question(ctx, &title, text, Action::Quit, asked) {
                self.closing = false;
            }
        }
    }

    /// Files dropped on the window: what the form boots, or at once a machine of their own.
    fn drops(&mut self, ctx: &egui::Context) {
        let paths: Vec<PathBuf> =
            ctx.input(|input| input.raw.dropped_files.iter().filter_map(|file| file.path.clone()).collect());
        for path in paths {
            if self.page == Page::NewMachine {
                self.draft.take_file(&path);
                continue;
            }
            match self.machines.create_for(&path) {
                Ok(id) => {
                    self.machines.start(id);
                    self.open(id);
                }
                Err(reason) => self.notices.warn(reason),
            }
        }
        if ctx.input(|input| !input.raw.hovered_files.is_empty()) {
            let painter =
                ctx.layer_painter(egui::LayerId::new(egui::Order::Foreground, egui::Id::new("drop")));
            let rect = ctx.content_rect();
            painter.rect_filled(rect, 0.0, theme::BACKGROUND.gamma_multiply(0.85));
            let text = if self.page == Page::NewMachine {
                "Drop it: this is what the machine boots"
            } else {
                "Drop it: it becomes a machine and starts"
            };
            let font = egui::FontId::proportional(26.0);
            painter.text(rect.center(), egui::Align2::CENTER_CENTER, text, font, theme::TEXT);
        }
    }

    fn close_request(&mut self, ctx: &egui::Context) {
        if ctx.input(|input| input.viewport().close_requested()) && !self.quits && self.machines.alive() > 0 {
            ctx.send_viewport_cmd(ViewportCommand::CancelClose);
            self.closing = true;
        }
    }

    /// Hides and holds the host's pointer while the mouse is the guest's.
    fn hold_pointer(&mut self, ctx: &egui::Context) {
        let wanted = self.capture.lock().has_mouse();
        if wanted == self.held_pointer {
            return;
        }
        self.held_pointer = wanted;
        let grab = match (wanted, std::env::var_os("WAYLAND_DISPLAY").is_some()) {
            (false, _) => egui::CursorGrab::None,
            (true, true) => egui::CursorGrab::Locked,
            (true, false) => egui::CursorGrab::Confined,
        };
        ctx.send_viewport_cmd(ViewportCommand::CursorGrab(grab));
        ctx.send_viewport_cmd(ViewportCommand::CursorVisible(!wanted));
    }

    fn shown_standing(&self) -> Option<Standing> {
        match self.page {
            Page::Console(id) => self.machines.get(id).map(Entry::standing),
            Page::Library | Page::NewMachine => None,
        }
    }

    /// A machine that was being built and now runs gets the keyboard if it is in view.
    fn grab_when_started(&mut self, before: Option<Standing>) {
        if let Page::Console(id) = self.page
            && before == Some(Standing::Starting)
            && let Some(machine) = self.machines.get(id).and_then(|entry| entry.machine().cloned())
        {
            self.capture.lock().grab(&machine, false);
        }
    }
}

/// Asks before something that cannot be undone. True when the question is answered.
fn question(ctx: &egui::Context, title: &str, text: &str, yes: Action, asked: &mut Vec<Action>) -> bool {
    let count = asked.len();
    let mut is_answered = false;
    let modal = Modal::new(egui::Id::new(title)).show(ctx, |ui| {
        ui.set_width(380.0);
        ui.label(RichText::new(title).strong().size(17.0));
        ui.label(RichText::new(text).color(theme::WEAK));
        ui.add_space(8.0);
        ui.horizontal(|ui| {
            let button =
                egui::Button::new(RichText::new(yes.text()).color(egui::Color32::BLACK)).fill(theme::BAD);
            yes.widget(ui, button, true, asked);
            is_answered = ui.button("Cancel").clicked();
        });
    });
    is_answered || modal.should_close() || asked.len() > count
}

/// Presses keys together and lets them go; on a thread of its own, since they are held for a while.
fn send(machine: Arc<dyn Running>, keys: &'static [hardware::input::Key]) {
    std::thread::spawn(move || {
        keys.iter().for_each(|key| machine.key(*key, true));
        std::thread::sleep(HOLD);
        keys.iter().rev().for_each(|key| machine.key(*key, false));
    });
}

impl eframe::App for App {
    fn ui(&mut self, ui: &mut Ui, _frame: &mut eframe::Frame) {
        self.show(ui);
    }

    fn on_exit(&mut self) {
        self.capture.lock().release();
        self.machines.power_off_all();
    }
}
