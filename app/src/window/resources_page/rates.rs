//! What a machine takes of disks and network, and what it may take at most.

use egui::{RichText, Ui};
use engine::profile::Size;
use engine::resources::{Goods, Resource};

use super::super::action::Action;
use super::super::chrome;
use super::super::setting;
use super::super::theme;
use super::Column;
use super::parcel::{self, Offers};

/// Shows the card's contents.
pub fn show(ui: &mut Ui, column: &Column<'_>, offers: &mut Offers, asked: &mut Vec<Action>) {
    let own = column.own;
    let throttles = own.machine.throttles();
    if let Some(report) = column.report {
        let rates = &report.rates;
        chrome::figure(ui, "disk accesses", &format!("{:.0}/s", rates.disk_operations));
        chrome::figure(ui, "disk data", &Resource::DiskBytes.write(rates.disk_bytes as u64));
        chrome::figure(ui, "network data", &Resource::NetworkBytes.write(rates.network_bytes as u64));
    }
    ui.label(RichText::new("At most, each second:").small().color(theme::colours().weak));
    let size = |size: Option<Size>| size.map_or("none".to_owned(), |size| size.to_string());
    let accesses = throttles.disk_operations.map_or("none".to_owned(), |number| number.to_string());
    for (setting, value) in [
        (("disk-iops", "disk accesses"), accesses),
        (("disk-rate", "disk data"), size(throttles.disk_bytes)),
        (("network-rate", "network data"), size(throttles.network_bytes)),
    ] {
        ui.horizontal(|ui| setting::field(ui, own.id, setting, &value, asked));
    }
    // Only what is bounded can be given.
    if throttles.disk_operations.is_some() {
        let goods = |number| Goods::DiskOperations(u32::try_from(number).unwrap_or(u32::MAX));
        parcel::give(ui, column, &mut offers.disk_operations, " accesses/s", goods, asked);
    }
    if throttles.disk_bytes.is_some() {
        let goods = |mib: u64| Goods::DiskBytes(mib << 20);
        parcel::give(ui, column, &mut offers.disk_bytes, " MiB/s, disk", goods, asked);
    }
    if throttles.network_bytes.is_some() {
        let goods = |mib: u64| Goods::NetworkBytes(mib << 20);
        parcel::give(ui, column, &mut offers.network_bytes, " MiB/s, network", goods, asked);
    }
}
