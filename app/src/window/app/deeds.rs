//! What is done: where every action is carried out.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use egui::ViewportCommand;
use engine::profile::Direct;
use engine::resources::{Goods, Resources};

use super::super::action::Action;
use super::super::draft::Draft;
use super::super::file_picker::FilePicker;
use super::super::machines::{Entry, Id};
use super::super::page::Page;
use super::super::{devices_page, snapshots_page, theme};
use super::{App, Picked};
use crate::control::{self, Command};
use crate::outputs;
use crate::running::Running;
use crate::running::launch::Beginning;

/// How long the keys of a chord are held.
const HOLD: Duration = Duration::from_millis(60);

impl App {
    /// Carries an action out, and keeps its `vitrine ctl` line.
    pub(super) fn carry_out(&mut self, action: Action, ctx: &egui::Context) {
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
            Action::Settings(id) => {
                if let Some(Ok(profile)) = self.machines.get(id).map(|entry| &entry.profile) {
                    self.draft = Draft::of(id, profile);
                    self.page = Page::NewMachine;
                }
            }
            Action::SaveSettings(_) => self.save_settings(),
            Action::Browse => {
                let title = match self.draft.changes {
                    None => "Choose what the machine boots",
                    Some(_) => "Choose what is in the CD drive",
                };
                let picker =
                    FilePicker::new(title, self.draft.file()).or_folder(self.draft.changes.is_some());
                self.picker = Some((picker, Picked::Draft));
            }
            Action::BrowseDisk => {
                let near =
                    self.draft.profile.disks.last().cloned().unwrap_or_else(|| self.draft.file().to_owned());
                let picker = FilePicker::new("Choose a hard disk", &near).or_folder(true);
                self.picker = Some((picker, Picked::Disk));
            }
            Action::BrowseSymbols(id) => {
                let near = self.symbols_near(id);
                let picker = FilePicker::new("Choose a file with names of addresses", &near);
                self.picker = Some((picker, Picked::Symbols(id)));
            }
            Action::BrowseMedium(id, drive) => {
                let near = self.medium_in(id, &drive).unwrap_or_default();
                let title = format!("Choose what goes into the {} drive", devices_page::name(&drive));
                let picker = FilePicker::new(title, &near).or_folder(drive == "cdrom");
                self.picker = Some((picker, Picked::Medium(id, drive)));
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
    pub(super) fn turn_to(&mut self, page: Page) {
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

    /// What is in a drive of a machine.
    fn medium_in(&self, id: Id, drive: &str) -> Option<PathBuf> {
        let session = self.machines.get(id)?.machine()?.session()?;
        session.drives().into_iter().find(|other| other.name == drive)?.medium
    }

    /// Tells why something was not done.
    pub(super) fn told<T>(&mut self, done: Result<T, impl ToString>) {
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
            let (trace, name, filter) = (machine.trace(), &machine.profile().name, self.trace.filter());
            let count =
                outputs::write_with(&path, |file| engine::trace::export(&trace, name, &filter, file))?;
            Ok((path, count))
        });
        match written {
            Ok((path, count)) => self.notices.tell(format!("{count} events kept: {}", path.display())),
            Err(reason) => self.notices.warn(reason),
        }
    }

    pub(super) fn open(&mut self, id: Id) {
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
        let Ok(wanted) = self.draft.wanted(|name| machines.is_taken(name)) else { return };
        match self.machines.create(&wanted.profile, wanted.new_disk) {
            Ok(id) if starts => self.start(id, Beginning::Usual),
            Ok(_) => self.page = Page::Library,
            Err(reason) => self.notices.warn(reason),
        }
    }

    fn save_settings(&mut self) {
        self.draft.tried = true;
        let Ok(wanted) = self.draft.wanted(|_| false) else { return };
        match self.machines.change(&wanted.profile, wanted.new_disk) {
            Ok(()) => self.page = Page::Library,
            Err(reason) => self.notices.warn(reason),
        }
    }

    pub(super) fn start(&mut self, id: Id, beginning: Beginning) {
        self.machines.start(id, beginning);
        self.open(id);
    }
}

/// Presses keys together and lets them go; on a thread of its own, since they are held for a while.
fn send(machine: Arc<dyn Running>, keys: &'static [hardware::input::Key]) {
    std::thread::spawn(move || {
        keys.iter().for_each(|key| machine.key(*key, true));
        std::thread::sleep(HOLD);
        keys.iter().rev().for_each(|key| machine.key(*key, false));
    });
}
