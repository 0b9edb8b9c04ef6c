//! Everything a person can do, in one enum: its text, its tooltip, its shortcut. Pages only ask for
//! actions; the app carries them out in one place.

use egui::{Key, KeyboardShortcut, Modifiers};
use engine::resources::Goods;

use super::chord::Chord;
use super::machines::Id;
use super::page::Page;
use super::picture::Scaling;
use crate::control::saved::SnapshotRequest;
use crate::control::{self, BreakAction, Command, StepArguments};

/// Something to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// To the library.
    ShowLibrary,
    /// To the form for a new machine.
    NewMachine,
    /// Save the machine in the form, and start it.
    CreateAndStart,
    /// Save the machine in the form.
    Create,
    /// To the form for what a saved machine is made of.
    Settings(Id),
    /// Save what the form says of a saved machine.
    SaveSettings(Id),
    /// Choose a file for the form.
    Browse,
    /// Choose a hard disk for the form.
    BrowseDisk,
    /// Choose a file with names of addresses in a machine.
    BrowseSymbols(Id),
    /// Choose a file to put into a drive of a machine.
    BrowseMedium(Id, String),
    /// Start a machine and show it.
    Start(Id),
    /// Start it from this snapshot.
    StartFrom(Id, String),
    /// Start it anew, and give up the state it was suspended in.
    StartAnew(Id),
    /// Continue it where it was suspended.
    Continue(Id),
    /// Show its saved states.
    ShowSnapshots(Id),
    /// Show a machine.
    Open(Id),
    /// Ask before something that cannot be undone.
    Ask(Box<Action>),
    /// Delete a machine.
    Delete(Id),
    /// Stop its time.
    Pause(Id),
    /// Let its time go on.
    Resume(Id),
    /// The reset button.
    Reset(Id),
    /// The power button.
    PowerButton(Id),
    /// Pull the plug.
    PowerOff(Id),
    /// Keep its screen as a PNG.
    Screenshot(Id),
    /// Press keys that the host would keep for itself.
    Send(Id, Chord),
    /// Keyboard and mouse back to the host.
    Release,
    /// How the picture is scaled.
    Scale(Scaling),
    /// Show or hide the registers beside the console.
    ToggleRegisters,
    /// To a page of the rail.
    Show(Page),
    /// What `vitrine ctl` does.
    Do(Id, Command),
    /// Look at this machine on the pages that look at one.
    Watch(Id),
    /// The other theme.
    ToggleTheme,
    /// Text to the clipboard.
    Copy(String),
    /// Switch a machine's trace on or off.
    Trace(Id, bool),
    /// Forget its trace.
    ClearTrace(Id),
    /// Write its trace to a file for Perfetto.
    ExportTrace(Id),
    /// Memory, shares or a rate from one machine to another.
    Move {
        /// Who gives.
        from: Id,
        /// Who gets.
        to: Id,
        /// What.
        goods: Goods,
    },
    /// Take a transfer that is done back.
    Undo(u64),
    /// Call a transfer that is under way off.
    CancelMove(u64),
    /// Switch the policy that balances by need.
    Policy(bool),
    /// Close the window although machines run.
    Quit,
}

/// What a step is, in a sentence.
fn what_a_step_is(step: &StepArguments) -> &'static str {
    match step {
        StepArguments { back: true, .. } => "The way the machine came, to the last register",
        StepArguments { over: true, .. } => "The next instruction, with all that it calls",
        StepArguments { out: true, .. } => "To where this function was called",
        _ => "What the processor does next: an instruction, or the delivery of an interrupt",
    }
}

/// What `ctl set` changes by this key, in a sentence.
pub fn what_set_does(key: &str) -> &'static str {
    match key {
        "time" => "Guest seconds for each host second",
        "shares" => "Its part of the host's processors while machines compete",
        "cap" => "At most this much of a host CPU, even if nobody else wants it",
        "reservation" => "At least this much of a host CPU, before all others",
        "quantum" => "Longest time a virtual CPU keeps a host CPU while others wait; of all machines",
        "ticks" => "What becomes of timer ticks that came too late to be told one by one",
        "overcommit" => "How much of what the host has may be granted to machines",
        "memory" => "What the guest may have now, between its floor and its ceiling, for example 128M",
        "floor" => "What moves and the policy leave it at least, for example 64M",
        "disk-iops" => "Accesses of all its disks in a second, for example 500; none: no bound",
        "disk-rate" => "Data its disks read and write in a second, for example 10M; none: no bound",
        "network-rate" => "Data its network carries in a second each way, for example 1M; none: no bound",
        "network-latency" => "How long each frame is on its way, in milliseconds, for example 30",
        "network-jitter" => "How much longer it may take, in milliseconds: each frame another time",
        "network-loss" => "How many of a hundred frames are lost, for example 1.5",
        _ => "Change these registers of the paused machine",
    }
}

impl Action {
    /// `vitrine ctl set KEY=VALUE`.
    pub fn set(id: Id, key: &str, value: impl std::fmt::Display) -> Action {
        Action::Do(id, Command::Set { changes: vec![format!("{key}={value}")], cpu: 0 })
    }

    /// What the button or menu entry says.
    pub fn text(&self) -> &'static str {
        match self {
            Action::ShowLibrary => "All machines",
            Action::NewMachine => "New machine",
            Action::CreateAndStart => "Create and start",
            Action::Create => "Create",
            Action::Settings(_) => "Settings",
            Action::SaveSettings(_) => "Save",
            Action::Browse => "Browse…",
            Action::BrowseDisk => "Add…",
            Action::BrowseSymbols(_) => "Load symbols…",
            Action::BrowseMedium(..) => "Insert…",
            Action::Start(_) => "Start",
            Action::Open(_) => "Open",
            Action::StartFrom(..) => "Start from here",
            Action::StartAnew(_) => "Start anew",
            Action::Continue(_) => "Continue",
            Action::ShowSnapshots(_) => "Snapshots",
            Action::Ask(action) => action.text(),
            Action::Delete(_) => "Delete",
            Action::Pause(_) => "Pause",
            Action::Resume(_) => "Resume",
            Action::Reset(_) => "Reset",
            Action::PowerButton(_) => "Power button",
            Action::PowerOff(_) => "Power off",
            Action::Screenshot(_) => "Screenshot",
            Action::Send(_, chord) => chord.text(),
            Action::Release => "Release",
            Action::Scale(scaling) => scaling.text(),
            Action::ToggleRegisters => "Register panel",
            Action::Show(page) => page.text(),
            Action::Do(_, Command::Snapshot { what }) => match what {
                SnapshotRequest::Take { .. } => "Take snapshot",
                SnapshotRequest::Restore { .. } => "Go back to it",
                _ => "Delete",
            },
            Action::Do(_, Command::Suspend) => "Suspend",
            Action::Do(_, Command::Eject { .. }) => "Eject",
            Action::Do(_, Command::Set { .. }) => "Set",
            Action::Do(_, Command::Write { .. }) => "Write",
            Action::Do(_, Command::Break { action: BreakAction::Add { .. } }) => "Add",
            Action::Do(_, Command::Break { action: BreakAction::Remove { .. } }) => "Remove",
            Action::Do(..) => "Do",
            Action::Watch(_) => "Watch",
            Action::ToggleTheme => "Theme",
            Action::Copy(_) => "Copy",
            Action::Trace(_, true) => "Record",
            Action::Trace(_, false) => "Stop recording",
            Action::ClearTrace(_) => "Clear",
            Action::ExportTrace(_) => "Export",
            Action::Move { .. } => "Give",
            Action::Undo(_) => "Undo",
            Action::CancelMove(_) => "Cancel",
            Action::Policy(true) => "Balance by need",
            Action::Policy(false) => "Do not balance",
            Action::Quit => "Close",
        }
    }

    /// What it does, in a sentence.
    pub fn tooltip(&self) -> &'static str {
        match self {
            Action::ShowLibrary => "Back to all machines; this one goes on running",
            Action::NewMachine => "Make a machine: what it boots, memory, CPUs",
            Action::CreateAndStart => "Save the machine and switch it on",
            Action::Create => "Save the machine and leave it off",
            Action::Settings(_) => "Change what the machine is made of: memory, CPUs, disks, devices",
            Action::SaveSettings(_) => "Keep this; the machine has it from its next start on",
            Action::Browse => "Choose a file",
            Action::BrowseDisk => {
                "Add an image that is there already, or a folder that the guest can read as a disk"
            }
            Action::BrowseSymbols(_) => "Choose an ELF file such as vmlinux, or a System.map",
            Action::BrowseMedium(..) => "Put another disk into the drive, as a hand would",
            Action::Start(_) => "Switch the machine on",
            Action::Open(_) => "Show the machine's screen",
            Action::StartFrom(..) => {
                "Start the machine as it was then; what its disks hold since is given up"
            }
            Action::StartAnew(_) => "Switch it on anew; the state it was suspended in is given up",
            Action::Continue(_) => "Go on where the machine was suspended",
            Action::ShowSnapshots(_) => "Saved states of this machine",
            Action::Ask(action) => action.tooltip(),
            Action::Delete(_) => "Delete the machine; images outside its folder stay",
            Action::Pause(_) => "Stop the machine's time",
            Action::Resume(_) => "Let the machine's time go on",
            Action::Reset(_) => "Press the machine's reset button; unsaved work in the guest is lost",
            Action::PowerButton(_) => {
                "Press the machine's power button; a system that knows ACPI shuts down by itself"
            }
            Action::PowerOff(_) => "Pull the plug; unsaved work in the guest is lost",
            Action::Screenshot(_) => "Keep the screen as a PNG picture",
            Action::Send(_, _) => "Press these keys in the guest",
            Action::Release => {
                "Give keyboard and mouse back to this computer; right Ctrl alone, or Ctrl+Alt, does the same"
            }
            Action::Scale(scaling) => scaling.tooltip(),
            Action::ToggleRegisters => "Show all registers beside the screen",
            Action::Show(page) => page.tooltip(),
            Action::Do(_, Command::Set { changes, .. }) => {
                what_set_does(changes.first().and_then(|change| change.split('=').next()).unwrap_or_default())
            }
            Action::Do(_, Command::Write { .. }) => "Write these bytes into the paused machine's memory",
            Action::Do(_, Command::Break { action: BreakAction::Add { .. } }) => {
                "Stop the machine the next time this is met"
            }
            Action::Do(_, Command::Break { action: BreakAction::Remove { .. } }) => "Stop here no more",
            Action::Do(_, Command::Step(step)) => what_a_step_is(step),
            Action::Do(_, Command::Continue { .. }) => "Back to the last time a condition was met",
            Action::Do(_, Command::Symbols { .. }) => "Show addresses as numbers again",
            Action::Do(_, Command::History { .. }) => {
                "From now on, so that one can step backwards to here; takes up to 256 MiB"
            }
            Action::Do(_, Command::Snapshot { what }) => match what {
                SnapshotRequest::Take { .. } => {
                    "Save memory, devices and disks under this name; the machine goes on"
                }
                SnapshotRequest::Restore { .. } => "Put the machine back; what it did since is given up",
                _ => "Delete it; with the last one, the disks are put together again",
            },
            Action::Do(_, Command::Suspend) => {
                "Save the machine and switch it off; its next start goes on from here"
            }
            Action::Do(_, Command::Eject { .. }) => "Take the disk out, as a hand would",
            Action::Do(_, Command::Sound { .. }) => "Whether this machine is heard",
            Action::Do(_, Command::Cable { .. }) => "The network cable of this machine",
            Action::Do(..) => "Do it",
            Action::Watch(_) => "Look at this machine",
            Action::ToggleTheme => "Light text on dark, or dark on light",
            Action::Copy(_) => "Copy the command",
            Action::Trace(_, true) => {
                "Take down every access, interrupt, timer edge and slice of this machine"
            }
            Action::Trace(_, false) => "Take down no more; what is here stays",
            Action::ClearTrace(_) => "Forget what was taken down",
            Action::ExportTrace(_) => "Write what the filter shows as JSON for ui.perfetto.dev",
            Action::Move { .. } => "One gets what the other gives, while both run",
            Action::Undo(_) => "Take it back: the receiver gives it to the donor",
            Action::CancelMove(_) => "Call it off; the donor has back what it gave",
            Action::Policy(true) => "Let memory and shares move by themselves to machines that run short",
            Action::Policy(false) => "Let everything stay where it is",
            Action::Quit => "Suspend or switch off all machines, and close the window",
        }
    }

    /// The keys that do it while the guest does not have the keyboard.
    pub fn shortcut(&self) -> Option<KeyboardShortcut> {
        let (modifiers, key) = match self {
            Action::NewMachine => (Modifiers::COMMAND, Key::N),
            Action::ShowLibrary => (Modifiers::COMMAND, Key::L),
            Action::ToggleRegisters => (Modifiers::COMMAND, Key::I),
            Action::Pause(_) | Action::Resume(_) => (Modifiers::COMMAND, Key::P),
            Action::Screenshot(_) => (Modifiers::COMMAND, Key::S),
            Action::Show(page) => (
                Modifiers::COMMAND,
                match page {
                    Page::Library | Page::NewMachine => Key::Num1,
                    Page::Console => Key::Num2,
                    Page::Registers => Key::Num3,
                    Page::Timers => Key::Num4,
                    Page::Exits => Key::Num5,
                    Page::Trace => Key::Num6,
                    Page::Devices => Key::Num7,
                    Page::Snapshots => Key::Num8,
                    Page::Resources => Key::Num9,
                },
            ),
            _ => return None,
        };
        Some(KeyboardShortcut::new(modifiers, key))
    }

    /// How `vitrine ctl` does it; `name` gives a machine's name. `None` for what is only the window's.
    pub fn command(&self, name: impl Fn(Id) -> String) -> Option<String> {
        let quoted = |id: Id| control::quoted(&name(id));
        let (id, words) = match self {
            Action::Start(id) | Action::Continue(id) => return Some(format!("vitrine run {}", quoted(*id))),
            Action::StartAnew(id) => return Some(format!("vitrine run {} --fresh", quoted(*id))),
            Action::StartFrom(id, state) => {
                return Some(format!("vitrine run {} --resume {}", quoted(*id), control::quoted(state)));
            }
            Action::Move { from, to, goods } => {
                let (from, to) = (quoted(*from), quoted(*to));
                return Some(format!(
                    "vitrine ctl move {} from {from} to {to}",
                    control::goods_words(*goods)
                ));
            }
            Action::Undo(number) => return Some(format!("vitrine ctl undo {number}")),
            Action::CancelMove(number) => return Some(format!("vitrine ctl cancel {number}")),
            Action::Policy(on) => {
                return Some(format!("vitrine ctl policy {}", if *on { "on" } else { "off" }));
            }
            Action::Pause(id) => (id, "pause".to_owned()),
            Action::Resume(id) => (id, "resume".to_owned()),
            Action::Reset(id) => (id, "reset".to_owned()),
            Action::PowerButton(id) => (id, "power-button".to_owned()),
            Action::PowerOff(id) => (id, "poweroff".to_owned()),
            Action::Screenshot(id) => (id, "screenshot screen.png".to_owned()),
            Action::Send(id, chord) => {
                (id, format!("keys {}", chord.text().to_lowercase().replace('+', "-")))
            }
            Action::Do(id, command) => (id, command.words()?),
            Action::Trace(id, on) => (id, format!("trace {}", if *on { "on" } else { "off" })),
            Action::ClearTrace(id) => (id, "trace clear".to_owned()),
            Action::ExportTrace(id) => (id, "trace export trace.json".to_owned()),
            _ => return None,
        };
        Some(format!("vitrine ctl {} {words}", quoted(*id)))
    }

    /// A button for it; clicked, it asks for itself.
    pub fn button(self, ui: &mut egui::Ui, asked: &mut Vec<Action>) -> egui::Response {
        let button = egui::Button::new(self.text());
        self.widget(ui, button, true, asked)
    }

    /// A button for it that cannot be clicked unless `enabled`.
    pub fn button_if(self, ui: &mut egui::Ui, enabled: bool, asked: &mut Vec<Action>) -> egui::Response {
        let button = egui::Button::new(self.text());
        self.widget(ui, button, enabled, asked)
    }

    /// The button that is to be clicked first.
    pub fn main_button(self, ui: &mut egui::Ui, enabled: bool, asked: &mut Vec<Action>) -> egui::Response {
        let text = egui::RichText::new(self.text()).color(super::theme::colours().on_accent).strong();
        let button = egui::Button::new(text).fill(super::theme::colours().accent);
        self.widget(ui, button, enabled, asked)
    }

    /// Any button for it, with its tooltip and shortcut.
    pub fn widget(
        self,
        ui: &mut egui::Ui,
        button: egui::Button<'_>,
        enabled: bool,
        asked: &mut Vec<Action>,
    ) -> egui::Response {
        let mut tooltip = self.tooltip().to_owned();
        if let Some(shortcut) = self.shortcut() {
            tooltip = format!("{tooltip} ({})", ui.ctx().format_shortcut(&shortcut));
        }
        let response =
            ui.add_enabled(enabled, button).on_hover_text(&tooltip).on_disabled_hover_text(tooltip);
        if response.clicked() {
            asked.push(self);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_move_names_both_machines_in_its_command() {
        let name = |id: Id| ["debian", "my dos"][id as usize].to_owned();
        let action = Action::Move { from: 0, to: 1, goods: Goods::Shares(256) };
        let expected = "vitrine ctl move shares 256 from debian to 'my dos'";
        assert_eq!(action.command(name).as_deref(), Some(expected));
        assert_eq!(Action::Pause(1).command(name).as_deref(), Some("vitrine ctl 'my dos' pause"));
    }
}
