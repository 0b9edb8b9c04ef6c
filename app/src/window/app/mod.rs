//! The app: which page is shown. What is asked for on it is carried out in `deeds.rs`.

mod deeds;
mod dialogs;

use std::sync::Arc;
use std::time::Duration;

use egui::{Ui, ViewportCommand};

use engine::library::Library;

use super::action::Action;
use super::capture::SharedCapture;
use super::console_page::Console;
use super::draft::Draft;
use super::errands::Errands;
use super::exits_page::ExitsPage;
use super::file_picker::FilePicker;
use super::inspector_page::{InspectorPage, Surroundings};
use super::machines::{Entry, Id, Machines, Standing};
use super::notices::Notices;
use super::page::{self, Page, RAIL};
use super::resources_page::{Holder, ResourcesPage};
use super::samples::Sampler;
use super::snapshots_page::SnapshotsPage;
use super::timers_page::{Neighbour, TimersPage};
use super::trace_page::TracePage;
use super::{WakerSlot, chrome, devices_page, library_page, new_machine_page};
use crate::running::{Running, Starter};

/// How often the library is read again while it is shown.
const REFRESH: Duration = Duration::from_secs(2);

/// What a file is chosen for.
enum Picked {
    /// The form for a new machine.
    Draft,
    /// A hard disk of the machine in the form.
    Disk,
    /// Names of addresses in a machine.
    Symbols(Id),
    /// To be put into this drive of a machine.
    Medium(Id, String),
}

/// The app.
pub struct App {
    page: Page,
    /// The machine that the pages of one machine look at.
    current: Option<Id>,
    machines: Machines,
    console: Console,
    inspector: InspectorPage,
    timers: TimersPage,
    exits: ExitsPage,
    trace: TracePage,
    snapshots: SnapshotsPage,
    resources: ResourcesPage,
    sampler: Sampler,
    /// The last click as a command.
    said: Option<String>,
    draft: Draft,
    picker: Option<(FilePicker, Picked)>,
    errands: Errands,
    /// What cannot be undone, and is asked about.
    asking: Option<Action>,
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
        let errands = Errands::new({
            let waker = waker.clone();
            move || waker()
        });
        App {
            errands,
            slot,
            page: Page::Library,
            current: None,
            machines: Machines::new(library, starter, waker),
            console: Console::default(),
            inspector: InspectorPage::default(),
            timers: TimersPage::default(),
            exits: ExitsPage::default(),
            trace: TracePage::default(),
            snapshots: SnapshotsPage::default(),
            resources: ResourcesPage::default(),
            sampler: Sampler::default(),
            said: None,
            draft: Draft::default(),
            picker: None,
            asking: None,
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

    /// Looks at machines on a thread of its own, as a window that is really shown should.
    pub fn sample_aside(&mut self) {
        self.sampler.start();
    }

    /// The machine that is looked at.
    #[cfg(test)]
    pub fn current(&self) -> Option<Id> {
        self.current
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
        for outcome in self.errands.poll() {
            self.snapshots.look_again();
            self.machines.look_for_suspended();
            match outcome {
                Ok(text) if text.is_empty() => {}
                Ok(text) => self.notices.tell(text),
                Err(reason) => self.notices.warn(reason),
            }
        }
        self.grab_when_started(before);
        self.follow_the_console();
        if let Some(shown) = self.slot.get() {
            shown.set_hurried(self.page == Page::Console);
        }
        let mut asked = Vec::new();
        self.shortcuts(&ctx, &mut asked);
        self.choose_a_machine();
        self.sampler.watch(&self.running());
        page::rail(ui, self.page, &mut asked);
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
            Page::Console => match self.current.and_then(|id| self.machines.get_mut(id)) {
                Some(entry) => self.console.show(ui, entry, &self.capture, &mut asked),
                None => nothing_runs(ui, self.page, &mut asked),
            },
            _ => self.instruments(ui, &mut asked),
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

    /// The pages that look into machines.
    fn instruments(&mut self, ui: &mut Ui, asked: &mut Vec<Action>) {
        chrome::machine_bar(ui, self.page, &self.machines, self.current, asked);
        let mut cost = format!("watching costs {:.2} % of a host CPU", self.sampler.cost() * 100.0);
        if let Some(id) = self.current {
            let sampling = self.sampler.history(id).sampling() * 100.0;
            cost = format!("{cost} and the guest {sampling:.2} % of its time");
        }
        chrome::command_line(ui, self.said.as_deref(), &cost, asked);
        if self.page == Page::Resources {
            let holders: Vec<Holder> = self.machines.entries().filter_map(holder).collect();
            return self.resources.show(ui, &holders, &self.sampler, asked);
        }
        let entry = self.current.and_then(|id| self.machines.get(id));
        if let (Page::Snapshots, Some(entry)) = (self.page, entry) {
            let states = self.machines.states(entry.id);
            return self.snapshots.show(ui, entry, states, self.errands.is_busy(), asked);
        }
        let (Some(entry), Some(machine)) = (entry, entry.and_then(Entry::machine)) else {
            return nothing_runs(ui, self.page, asked);
        };
        let machine = &**machine;
        let neighbours: Vec<Neighbour> = self
            .machines
            .entries()
            .filter_map(|entry| Some((entry.id, entry.name.clone(), entry.machine()?.clone())))
            .collect();
        match self.page {
            Page::Registers => {
                let latest = self.sampler.history(entry.id).latest;
                let (timers, busy) = (&*latest.timers.guest, self.errands.is_busy());
                let around = Surroundings { machines: &neighbours, timers, busy };
                self.inspector.show(ui, entry, machine, &around, asked);
            }
            Page::Timers => {
                let latest = self.sampler.history(entry.id).latest;
                self.timers.show(ui, entry, machine, &latest, &neighbours, asked);
            }
            Page::Devices => {
                let latest = self.sampler.history(entry.id).latest;
                devices_page::show(ui, entry, machine, &latest, asked);
            }
            Page::Exits => self.exits.show(ui, entry, machine, &self.sampler.history(entry.id), asked),
            _ => {
                let latest = self.sampler.history(entry.id).latest;
                self.trace.show(ui, entry, machine, &latest.devices, asked);
            }
        }
    }

    /// Every machine that is there, running or ended.
    fn running(&self) -> Vec<(Id, Arc<dyn Running>)> {
        self.machines.entries().filter_map(|entry| Some((entry.id, entry.machine()?.clone()))).collect()
    }

    /// Pages of one machine look at the one last opened, else at any that runs.
    fn choose_a_machine(&mut self) {
        let is_there = |id: Id| self.machines.get(id).is_some();
        if !self.current.is_some_and(is_there) {
            self.current = self.machines.entries().find(|entry| entry.is_alive()).map(|entry| entry.id);
        }
    }

    /// The keyboard is the guest's only while its console is shown and it runs.
    fn follow_the_console(&mut self) {
        let is_shown = self
            .shown_standing()
            .is_some_and(|standing| matches!(standing, Standing::Running | Standing::Paused));
        if !is_shown {
            self.capture.lock().release();
        }
    }

    fn shortcuts(&self, ctx: &egui::Context, asked: &mut Vec<Action>) {
        let is_busy = self.picker.is_some() || self.asking.is_some() || self.closing;
        if is_busy || self.capture.lock().has_keyboard() {
            return;
        }
        let mut offered = vec![Action::NewMachine];
        if self.page != Page::Library {
            offered.push(Action::ShowLibrary);
        }
        offered.extend(RAIL.map(Action::Show));
        if let (Page::Console, Some(id)) = (self.page, self.current) {
            offered.extend([Action::ToggleRegisters, Action::Screenshot(id)]);
        }
        if let (true, Some(id)) = (self.page.is_of_a_machine(), self.current) {
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
        let id = self.current.filter(|_| self.page == Page::Console)?;
        self.machines.get(id).map(Entry::standing)
    }

    /// A machine that was being built and now runs gets the keyboard if it is in view.
    fn grab_when_started(&mut self, before: Option<Standing>) {
        if let (Page::Console, Some(id)) = (self.page, self.current)
            && before == Some(Standing::Starting)
            && let Some(machine) = self.machines.get(id).and_then(|entry| entry.machine().cloned())
        {
            self.capture.lock().grab(&machine, false);
        }
    }
}

fn holder(entry: &Entry) -> Option<Holder> {
    let machine = entry.machine().filter(|_| entry.is_alive())?.clone();
    Some(Holder { id: entry.id, name: entry.name.clone(), standing: entry.standing(), machine })
}

/// A page of a machine, and there is none.
fn nothing_runs(ui: &mut Ui, page: Page, asked: &mut Vec<Action>) {
    let text = format!("{}. Start a machine, and look again.", page.tooltip());
    egui::CentralPanel::default().show(ui, |ui| {
        chrome::empty(ui, "No machine is chosen", &text, Some(Action::ShowLibrary), asked);
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
