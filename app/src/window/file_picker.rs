//! Choosing a file inside the window: works on every desktop and in every test.

use std::fs;
use std::path::{Path, PathBuf};

use egui::{Modal, RichText, ScrollArea, Ui};
use engine::resources::amount;

use super::theme;

/// Something in the folder.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Item {
    /// False for folders, so that they come first.
    is_file: bool,
    name: String,
    bytes: u64,
}

/// An open picker.
pub struct FilePicker {
    title: String,
    folder: PathBuf,
    items: Result<Vec<Item>, String>,
    chosen: Option<String>,
    takes_folders: bool,
}

/// What came of showing it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// Nothing yet.
    Open,
    /// This file, or folder.
    File(PathBuf),
    /// None.
    Cancelled,
}

impl FilePicker {
    /// In the folder of `near`, else in the home folder; `title` says what the file is for.
    pub fn new(title: impl Into<String>, near: &Path) -> FilePicker {
        let start = match near.parent() {
            Some(folder) if folder.is_dir() && !folder.as_os_str().is_empty() => folder.to_owned(),
            _ => {
                std::env::var_os("HOME").map(PathBuf::from).filter(|home| home.is_dir()).unwrap_or("/".into())
            }
        };
        FilePicker {
            title: title.into(),
            items: read(&start),
            folder: start,
            chosen: None,
            takes_folders: false,
        }
    }

    /// A folder can be chosen too, if `is_so`: it is offered to the guest as a disk.
    pub fn or_folder(self, is_so: bool) -> FilePicker {
        FilePicker { takes_folders: is_so, ..self }
    }

    fn go(&mut self, folder: PathBuf) {
        self.items = read(&folder);
        self.folder = folder;
        self.chosen = None;
    }

    /// Shows it over the page.
    pub fn show(&mut self, ctx: &egui::Context) -> Choice {
        let mut choice = Choice::Open;
        let modal = Modal::new(egui::Id::new("file-picker")).show(ctx, |ui| {
            ui.set_width(560.0);
            ui.label(RichText::new(&self.title).strong().size(17.0));
            ui.horizontal(|ui| {
                let parent = self.folder.parent().map(Path::to_owned);
                if ui.add_enabled(parent.is_some(), egui::Button::new("Up")).clicked()
                    && let Some(parent) = parent
                {
                    self.go(parent);
                }
                let path = RichText::new(self.folder.display().to_string()).color(theme::colours().weak);
                ui.add(egui::Label::new(path).truncate());
            });
            self.list(ui, &mut choice);
            ui.separator();
            ui.horizontal(|ui| {
                let choose = egui::Button::new("Choose").fill(theme::colours().accent);
                if ui.add_enabled(self.chosen.is_some(), choose).clicked()
                    && let Some(name) = &self.chosen
                {
                    choice = Choice::File(self.folder.join(name));
                }
                let this = "The guest sees what is in this folder as a disk that it can read";
                if self.takes_folders && ui.button("This folder").on_hover_text(this).clicked() {
                    choice = Choice::File(self.folder.clone());
                }
                if ui.button("Cancel").clicked() {
                    choice = Choice::Cancelled;
                }
            });
        });
        if modal.should_close() && choice == Choice::Open { Choice::Cancelled } else { choice }
    }

    fn list(&mut self, ui: &mut Ui, choice: &mut Choice) {
        let mut into = None;
        let area =
            ScrollArea::vertical().max_height(360.0).min_scrolled_height(360.0).auto_shrink([false; 2]);
        area.show(ui, |ui| match &self.items {
            Err(reason) => {
                ui.label(RichText::new(reason).color(theme::colours().bad));
            }
            Ok(items) if items.is_empty() => {
                ui.label(RichText::new("This folder is empty.").color(theme::colours().weak));
            }
            Ok(items) => {
                for item in items {
                    let text = match item.is_file {
                        false => format!("🗀 {}", item.name),
                        true => format!("{}   {}", item.name, amount::bytes(item.bytes)),
                    };
                    let is_chosen = self.chosen.as_deref() == Some(&item.name);
                    let response = ui.selectable_label(is_chosen, text);
                    if response.clicked() && item.is_file {
                        self.chosen = Some(item.name.clone());
                    } else if response.clicked() {
                        into = Some(self.folder.join(&item.name));
                    }
                    if response.double_clicked() && item.is_file {
                        *choice = Choice::File(self.folder.join(&item.name));
                    }
                }
            }
        });
        if let Some(folder) = into {
            self.go(folder);
        }
    }
}

fn read(folder: &Path) -> Result<Vec<Item>, String> {
    let entries = fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut items: Vec<Item> = entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let data = fs::metadata(entry.path()).ok()?;
            (!name.starts_with('.')).then_some(Item { is_file: !data.is_dir(), name, bytes: data.len() })
        })
        .collect();
    items.sort();
    Ok(items)
}
