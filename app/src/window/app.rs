//! The app: which page is shown, and where every action is carried out.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use egui::{Modal, RichText, Ui, ViewportCommand};

use engine::library::Library;
use engine::profile::Direct;
use engine::resources::{Goods, Resources};

use super::action::Action;
use super::capture::SharedCapture;
use super::console_page::Console;
use super::devices_page::DevicesPage;
use super::draft::Draft;
use super::errands::Errands;
use super::exits_page::ExitsPage;
use super::file_picker::{Choice, FilePicker};
use super::inspector_page::{InspectorPage, Surroundings};
use super::machines::{Entry, Id, Machines, Standing};
use super::notices::Notices;
use super::page::{self, Page, RAIL};
use super::resources_page::{Holder, ResourcesPage};
use super::samples::Sampler;
use super::snapshots_page::{self, SnapshotsPage};
use super::timers_page::{Neighbour, TimersPage};
use super::trace_page::TracePage;
use super::{WakerSlot, chrome, library_page, new_machine_page, theme};
use crate::control::saved::SnapshotRequest;
use crate::control::{self, Command, SymbolsAction};
use crate::running::launch::Beginning;
use crate::running::{Running, Starter};

/// How often the library is read again while it is shown.
const REFRESH: Duration = Duration::from_secs(2);
/// How long the keys of a chord are held.
const HOLD: Duration = Duration::from_millis(60);

/// What a file is chosen for.
#[derive(Clone, Copy)]
enum Picked {
    /// The form for a new machine.
    Draft,
    /// Names of addresses in a machine.
    Symbols(Id),
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
    devices: DevicesPage,
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
            devices: DevicesPage::default(),
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
            self.machines.refresh();
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
            Page::Devices => self.devices.show(ui, entry, machine, asked),
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

    fn carry_out(&mut self, action: Action, ctx: &egui::Context) {
        let machine = |id: Id| self.machines.get(id).and_then(|entry| entry.machine().cloned());
        let name = |id: Id| self.machines.get(id).map(|entry| entry.name.clone()).unwrap_or_default();
        if let Some(said) = action.command(name) {
            let options =
                if matches!(action, Action::ExportTrace(_)) { self.trace.options() } else { String::new() };
            self.said = Some(format!("{said}{options}"));
        }
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
                let near = std::path::Path::new(self.draft.boot.trim());
                let picker = FilePicker::new("Choose what the machine boots", near);
                self.picker = Some((picker, Picked::Draft));
            }
            Action::BrowseSymbols(id) => {
                let near = self.symbols_near(id);
                let picker = FilePicker::new("Choose a file with names of addresses", &near);
                self.picker = Some((picker, Picked::Symbols(id)));
            }
            Action::Start(id) | Action::Continue(id) => self.start(id, Beginning::Usual),
            Action::StartAnew(id) => self.start(id, Beginning::Anew),
            Action::StartFrom(id, name) => self.start(id, Beginning::Snapshot(name)),
            Action::ShowSnapshots(id) => {
                self.current = Some(id);
                self.page = Page::Snapshots;
            }
            Action::Open(id) => self.open(id),
            Action::Ask(action) => self.asking = Some(*action),
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
            Action::Show(page) => self.turn_to(page),
            Action::Watch(id) => {
                self.current = Some(id);
                self.trace.restart();
            }
            Action::ToggleTheme => {
                theme::set_shade(match theme::shade() {
                    theme::Shade::Dark => theme::Shade::Light,
                    theme::Shade::Light => theme::Shade::Dark,
                });
                theme::apply(ctx);
            }
            Action::Copy(text) => ctx.copy_text(text),
            Action::Trace(id, on) => {
                self.current = Some(id);
                machine(id).iter().for_each(|machine| machine.set_trace(on));
            }
            Action::ClearTrace(id) => {
                machine(id).iter().for_each(|machine| machine.trace().clear());
                self.trace.clear();
            }
            Action::ExportTrace(id) => self.export(id),
            Action::Do(id, command @ (Command::Snapshot { .. } | Command::Suspend)) => {
                let (states, machine) = (self.machines.states(id), machine(id));
                self.errands.ask(move || snapshots_page::errand(&states?, machine, &command));
            }
            Action::Do(id, command) => {
                let (name, Some(machine)) = (name(id), machine(id)) else { return };
                match command.may_wait() {
                    true => self
                        .errands
                        .ask(move || control::perform(&name, &*machine, &command).map(|answer| answer.text)),
                    false => self.told(control::perform(&name, &*machine, &command)),
                }
            }
            Action::Move { from, to, goods } => self.transfer(from, to, goods),
            Action::Undo(number) => self.told(Resources::global().undo(number)),
            Action::CancelMove(number) => self.told(Resources::global().cancel(number)),
            Action::Policy(on) => Resources::global().set_policy(on),
            Action::Quit => {
                self.quits = true;
                ctx.send_viewport_cmd(ViewportCommand::Close);
            }
        }
    }

    /// To a page of the rail.
    fn turn_to(&mut self, page: Page) {
        match (page, self.current) {
            (Page::Library, _) => {
                self.machines.refresh();
                self.page = page;
            }
            (Page::Console, Some(id)) if self.page != Page::Console => self.open(id),
            _ => self.page = page,
        }
    }

    /// Where names of addresses of a machine are likely to lie: beside what it boots.
    fn symbols_near(&self, id: Id) -> PathBuf {
        let profile = self.machines.get(id).and_then(|entry| entry.profile.as_ref().ok());
        match profile.and_then(|profile| profile.direct.as_ref()) {
            Some(Direct::Kernel { image, .. }) => image.clone(),
            Some(Direct::Flat(program)) => program.clone(),
            Some(Direct::BuiltIn(_)) | None => PathBuf::new(),
        }
    }

    /// Tells why something was not done.
    fn told<T>(&mut self, done: Result<T, impl ToString>) {
        if let Err(reason) = done {
            self.notices.warn(reason.to_string());
        }
    }

    /// Moves part of the host from one machine to another, as `vitrine ctl move` does.
    fn transfer(&mut self, from: Id, to: Id, goods: Goods) {
        let seat = |id| self.machines.get(id).and_then(Entry::machine).and_then(|machine| machine.id());
        let (Some(donor), Some(receiver)) = (seat(from), seat(to)) else { return };
        self.told(Resources::global().transfer(donor, receiver, goods));
    }

    /// Writes what the trace page shows for Perfetto, beside the machine's screenshots.
    fn export(&mut self, id: Id) {
        let written = self.machines.output(id, "traces", "json").and_then(|path| {
            let machine = self.machines.get(id).and_then(Entry::machine).ok_or("the machine is off")?;
            let told = |error: std::io::Error| format!("{}: {error}", path.display());
            let mut file = std::io::BufWriter::new(std::fs::File::create(&path).map_err(told)?);
            let (name, filter) = (&machine.profile().name, self.trace.filter());
            let count = engine::trace::export(&machine.trace(), name, &filter, &mut file).map_err(told)?;
            std::io::Write::flush(&mut file).map_err(told)?;
            Ok((path, count))
        });
        match written {
            Ok((path, count)) => self.notices.tell(format!("{count} events kept: {}", path.display())),
            Err(reason) => self.notices.warn(reason),
        }
    }

    fn open(&mut self, id: Id) {
        self.console.registers.restart();
        if self.current != Some(id) {
            self.trace.restart();
        }
        self.current = Some(id);
        self.page = Page::Console;
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
            Ok(id) if starts => self.start(id, Beginning::Usual),
            Ok(_) => self.page = Page::Library,
            Err(reason) => self.notices.warn(reason),
        }
    }

    fn dialogs(&mut self, ctx: &egui::Context, asked: &mut Vec<Action>) {
        if let Some((picker, picked)) = &mut self.picker {
            let (choice, picked) = (picker.show(ctx), *picked);
            if choice != Choice::Open {
                self.picker = None;
            }
            match (choice, picked) {
                (Choice::File(path), Picked::Draft) => self.draft.take_file(&path),
                (Choice::File(path), Picked::Symbols(id)) => {
                    asked.push(Action::Do(id, Command::Symbols { action: SymbolsAction::Load { path } }));
                }
                (Choice::Open | Choice::Cancelled, _) => {}
            }
        }
        if let Some(action) = &self.asking {
            let (title, text) = self.in_question(action);
            if question(ctx, &title, text, action.clone(), asked) {
                self.asking = None;
            }
        }
        if self.closing {
            let title = match self.machines.alive() {
                1 => "A machine is running".to_owned(),
                count => format!("{count} machines are running"),
            };
            let text = "Closing the window suspends machines of the library, which go on at their next start, and switches \
                        all others off.";
            if question(ctx, &title, text, Action::Quit, asked) {
                self.closing = false;
            }
        }
    }

    /// What is asked before `action`: the question, and what becomes of it.
    fn in_question(&self, action: &Action) -> (String, &'static str) {
        let name = |id: &Id| self.machines.get(*id).map(|entry| entry.name.clone()).unwrap_or_default();
        match action {
            Action::Delete(id) => (
                format!("Delete {}?", name(id)),
                "Its folder goes, with everything in it. Images elsewhere stay.",
            ),
            Action::StartAnew(id) => {
                (format!("Start {} anew?", name(id)), "The state it was suspended in is given up.")
            }
            Action::Do(_, Command::Snapshot { what: SnapshotRequest::Restore { name } }) => (
                format!("Go back to “{name}”?"),
                "What the machine did since then is given up, on its disks too.",
            ),
            Action::Do(_, Command::Snapshot { what: SnapshotRequest::Delete { name } }) => {
                (format!("Delete the snapshot “{name}”?"), "The machine goes on as it is.")
            }
            other => (format!("{}?", other.text()), other.tooltip()),
        }
    }

    fn start(&mut self, id: Id, beginning: Beginning) {
        self.machines.start(id, beginning);
        self.open(id);
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
                Ok(id) => self.start(id, Beginning::Usual),
                Err(reason) => self.notices.warn(reason),
            }
        }
        if ctx.input(|input| !input.raw.hovered_files.is_empty()) {
            let painter =
                ctx.layer_painter(egui::LayerId::new(egui::Order::Foreground, egui::Id::new("drop")));
            let rect = ctx.content_rect();
            painter.rect_filled(rect, 0.0, theme::colours().background.gamma_multiply(0.85));
            let text = if self.page == Page::NewMachine {
                "Drop it: this is what the machine boots"
            } else {
                "Drop it: it becomes a machine and starts"
            };
            let font = egui::FontId::proportional(26.0);
            painter.text(rect.center(), egui::Align2::CENTER_CENTER, text, font, theme::colours().text);
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

/// Asks before something that cannot be undone. True when the question is answered.
fn question(ctx: &egui::Context, title: &str, text: &str, yes: Action, asked: &mut Vec<Action>) -> bool {
    let count = asked.len();
    let mut is_answered = false;
    let modal = Modal::new(egui::Id::new(title)).show(ctx, |ui| {
        ui.set_width(380.0);
        ui.label(RichText::new(title).strong().size(17.0));
        ui.label(RichText::new(text).color(theme::colours().weak));
        ui.add_space(8.0);
        ui.horizontal(|ui| {
            let button = egui::Button::new(RichText::new(yes.text()).color(theme::colours().background))
                .fill(theme::colours().bad);
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
