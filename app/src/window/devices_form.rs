//! Which devices a machine has: a line for each kind, in the form of a machine.

use egui::{RichText, Ui};
use engine::profile::{DiskBus, DisplayAdapter, Network, Nic, Profile};
use engine::sound::SoundCard;

use super::theme;

/// Shows the lines.
pub fn show(ui: &mut Ui, profile: &mut Profile) {
    egui::Grid::new("devices-form").num_columns(2).spacing([18.0, 8.0]).show(ui, |ui| {
        line(ui, "Disks on", |ui| {
            choice(ui, &mut profile.disk_bus, DiskBus::Ide, "IDE", "Every system knows it");
            let ahci = "Serial ATA, for systems since about 2006; the CD drive is on it too";
            choice(ui, &mut profile.disk_bus, DiskBus::Ahci, "AHCI", ahci);
            choice(
                ui,
                &mut profile.disk_bus,
                DiskBus::Virtio,
                "virtio",
                "Fastest, for systems with its driver",
            );
        });
        line(ui, "Display", |ui| {
            choice(ui, &mut profile.display, DisplayAdapter::Vga, "VGA", "Every system knows it");
            let gpu = "Beside the VGA: the guest's screen takes the window's size, with its driver";
            choice(ui, &mut profile.display, DisplayAdapter::VirtioGpu, "VGA and virtio", gpu);
        });
        line(ui, "Network", |ui| network(ui, &mut profile.network));
        if profile.network != Network::None {
            line(ui, "Network card", |ui| {
                choice(ui, &mut profile.nic, Nic::E1000, "E1000", "Intel's 82540EM, which most systems know");
                choice(ui, &mut profile.nic, Nic::Virtio, "virtio", "Fastest, for systems with its driver");
                choice(
                    ui,
                    &mut profile.nic,
                    Nic::Ne2000,
                    "NE2000",
                    "Realtek's RTL8029, for systems of the nineties",
                );
                let isa = "At port 0x300 and interrupt 3, for systems that know no PCI";
                choice(ui, &mut profile.nic, Nic::Ne2000Isa, "NE2000, ISA", isa);
            });
        }
        line(ui, "Virtio", |ui| {
            for (name, is_there) in profile.paravirtual.each() {
                ui.checkbox(is_there, name)
                    .on_hover_text("For systems with its driver; others do not miss it");
            }
        });
        line(ui, "Timers", |ui| {
            let what = "A high precision event timer beside the 8254, the RTC and those of the CPUs";
            ui.checkbox(&mut profile.hpet, "HPET").on_hover_text(what);
        });
        line(ui, "Sound", |ui| {
            for (card, name) in [
                (SoundCard::Speaker, "loudspeaker"),
                (SoundCard::Ac97, "AC'97"),
                (SoundCard::Sb16, "Sound Blaster 16"),
                (SoundCard::Virtio, "virtio"),
            ] {
                let mut has = profile.sound.has(card);
                if ui.checkbox(&mut has, name).changed() {
                    profile.sound.set(card, has);
                }
            }
        });
    });
}

fn network(ui: &mut Ui, network: &mut Network) {
    let kinds = [
        (Network::default(), "NAT", "The world, by this computer's own connections; no rights needed"),
        (
            Network::Switch("lan".to_owned()),
            "switch",
            "All machines of this window whose switch has the same name",
        ),
        (
            Network::Tap("tap0".to_owned()),
            "tap",
            "An interface of this computer that an administrator has made",
        ),
        (Network::None, "none", "No card"),
    ];
    for (kind, text, what) in kinds {
        let is_chosen = std::mem::discriminant(network) == std::mem::discriminant(&kind);
        if ui.selectable_label(is_chosen, text).on_hover_text(what).clicked() && !is_chosen {
            *network = kind;
        }
    }
    if let Network::Switch(name) | Network::Tap(name) = network {
        ui.add(theme::text_field(name).desired_width(110.0).hint_text("its name"));
    }
}

fn line(ui: &mut Ui, name: &str, contents: impl FnOnce(&mut Ui)) {
    ui.label(RichText::new(name).color(theme::colours().weak));
    ui.horizontal(contents);
    ui.end_row();
}

fn choice<T: PartialEq>(ui: &mut Ui, value: &mut T, this: T, text: &str, what: &str) {
    ui.selectable_value(value, this, text).on_hover_text(what);
}
