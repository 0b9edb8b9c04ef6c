//! A machine's part of the host's processors.

use egui::Ui;
use engine::resources::Goods;
use engine::scheduler::{DEFAULT_SHARES, MOST_SHARES};

use super::super::action::Action;
use super::super::chrome;
use super::super::setting;
use super::parcel::{self, Offers};
use super::{Column, graph};

/// Shows what it uses, and lets one change what it may.
pub fn show(ui: &mut Ui, column: &Column<'_>, offers: &mut Offers, asked: &mut Vec<Action>) {
    let Column { own, history, .. } = column;
    let allotment = own.machine.allotment();
    chrome::heading(ui, "Processor");
    let most = 100.0 * own.machine.cpus() as f64;
    let cap = allotment.cap_percent.map(f64::from);
    let used = history.rates(|point| point.ran * 100.0);
    graph::show(ui, &[(&used, column.colour)], most, cap, &format!("{most:.0} %"));
    chrome::figure(ui, "used, % of a host CPU", &format!("{:.1}", history.rate(|point| point.ran) * 100.0));
    if let Some(report) = column.report {
        chrome::figure(ui, "its shares are worth, %", &format!("{:.1}", report.entitled_percent));
        chrome::figure(ui, "had to wait for a CPU, %", &format!("{:.1}", report.rates.waiting_percent));
    }
    ui.horizontal_wrapped(|ui| {
        setting::field(ui, own.id, ("shares", "shares"), &allotment.shares.to_string(), asked);
        for (text, shares) in
            [("½", allotment.shares / 2), ("1:1", DEFAULT_SHARES), ("×2", allotment.shares * 2)]
        {
            let action = Action::set(own.id, "shares", shares.clamp(1, MOST_SHARES));
            action.widget(ui, egui::Button::new(text), true, asked);
        }
    });
    ui.horizontal_wrapped(|ui| {
        let written = |cap: Option<u32>| cap.map_or("none".to_owned(), |cap| cap.to_string());
        setting::field(ui, own.id, ("cap", "cap, %"), &written(allotment.cap_percent), asked);
        for cap in [None, Some(75), Some(50), Some(25), Some(10)] {
            let button = egui::Button::selectable(allotment.cap_percent == cap, written(cap));
            Action::set(own.id, "cap", written(cap)).widget(ui, button, true, asked);
        }
    });
    let reserved = allotment.reservation_percent.to_string();
    ui.horizontal(|ui| setting::field(ui, own.id, ("reservation", "reserved, %"), &reserved, asked));
    let goods = |shares| Goods::Shares(u32::try_from(shares).unwrap_or(u32::MAX));
    parcel::give(ui, column, &mut offers.shares, " shares", goods, asked);
}
