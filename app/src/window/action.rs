//! Everything a person can do, in one enum: its text, its tooltip, its shortcut. Pages only ask for
//! actions; the app carries them out in one place.

use egui::{Key, KeyboardShortcut, Modifiers};

use super::chord::Chord;
use super::machines::Id;
use super::picture::Scaling;

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
    /// Choose a file for the form.
    Browse,
    /// Start a machine and show it.
    Start(Id),
    /// Show a machine.
    Open(Id),
    /// Ask whether to delete a machine.
    AskDelete(Id),
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
    /// Show or hide the registers.
    ToggleRegisters,
    /// Close the window although machines run.
    Quit,
}

impl Action {
    /// What the button or menu entry says.
    pub fn text(&self) -> &'static str {
        match self {
            Action::ShowLibrary => "⏴ Machines",
            Action::NewMachine => "New machine",
            Action::CreateAndStart => "Create and start",
            Action::Create => "Create",
            Action::Browse => "Browse…",
            Action::Start(_) => "Start",
            Action::Open(_) => "Open",
            Action::AskDelete(_) | Action::Delete(_) => "Delete",
            Action::Pause(_) => "Pause",
            Action::Resume(_) => "Resume",
            Action::Reset(_) => "Reset",
            Action::PowerButton(_) => "Power button",
            Action::PowerOff(_) => "Power off",
            Action::Screenshot(_) => "Screenshot",
            Action::Send(_, chord) => chord.text(),
            Action::Release => "Release",
            Action::Scale(scaling) => scaling.text(),
            Action::ToggleRegisters => "Registers",
            Action::Quit => "Switch off and close",
        }
    }

    /// What it does, in a sentence.
    pub fn tooltip(&self) -> &'static str {
        match self {
            Action::ShowLibrary => "Back to all machines; this one goes on running",
            Action::NewMachine => "Make a machine: what it boots, memory, CPUs",
            Action::CreateAndStart => "Save the machine and switch it on",
            Action::Create => "Save the machine and leave it off",
            Action::Browse => "Choose a file",
            Action::Start(_) => "Switch the machine on",
            Action::Open(_) => "Show the machine's screen",
            Action::AskDelete(_) => "Delete the machine; images outside its folder stay",
            Action::Delete(_) => "Delete it now; this cannot be undone",
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
            Action::ToggleRegisters => "Show all registers while the machine runs",
            Action::Quit => "Switch all machines off and close the window",
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
            _ => return None,
        };
        Some(KeyboardShortcut::new(modifiers, key))
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
        let text = egui::RichText::new(self.text()).color(egui::Color32::WHITE).strong();
        let button = egui::Button::new(text).fill(super::theme::ACCENT);
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
