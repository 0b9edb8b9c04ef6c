//! The resource deck: every machine that runs is a column; what it has, what it uses, and how to give it more or less.

mod graph;
mod host;
mod ledger;
mod memory;
mod parcel;
mod processor;
mod rates;
mod transfers;

use std::sync::Arc;

use egui::{Align, Color32, Frame, Layout, Rect, RichText, Stroke, StrokeKind, Ui, vec2};
use engine::resources::{MachineReport, Report, Resources};

use super::action::Action;
use super::chrome;
use super::exit_view::per_second;
use super::machines::{Id, Standing};
use super::samples::{self, History, Sampler};
use super::theme;
use crate::running::Running;
use parcel::{Offers, Parcel};

/// Least width of a column.
const COLUMN: f32 = 330.0;
/// Most width of a column.
const WIDEST: f32 = 900.0;
/// Space between cards.
const GAP: f32 = 12.0;
/// Narrower than this, cards lie below each other.
const WIDE: f32 = 820.0;

/// A machine on the deck.
pub struct Holder {
    /// Which.
    pub id: Id,
    /// Its name.
    pub name: String,
    /// How it stands.
    pub standing: Standing,
    /// It.
    pub machine: Arc<dyn Running>,
}

/// What a column shows.
struct Column<'a> {
    own: &'a Holder,
    all: &'a [Holder],
    history: &'a History,
    report: Option<&'a MachineReport>,
    colour: Color32,
}

/// What the page remembers.
#[derive(Default)]
pub struct ResourcesPage {
    offers: Offers,
}

impl ResourcesPage {
    /// Shows the page.
    pub fn show(&mut self, ui: &mut Ui, holders: &[Holder], sampler: &Sampler, asked: &mut Vec<Action>) {
        let colours = theme::colours();
        ui.ctx().request_repaint_after(samples::PERIOD);
        let frame = Frame::new().fill(colours.background).inner_margin(14);
        egui::CentralPanel::default().frame(frame).show(ui, |ui| {
            if holders.is_empty() {
                let text = "Start two machines and their processors, memory and I/O stand here side by side, to be \
                            moved from one to the other while both run.";
                let action = Some(Action::ShowLibrary);
                return chrome::empty(ui, "No machine runs", text, action, asked);
            }
            let histories: Vec<History> = holders.iter().map(|holder| sampler.history(holder.id)).collect();
            let report = sampler.report();
            let report = report.as_deref();
            egui::ScrollArea::both().auto_shrink([false; 2]).show(ui, |ui| {
                ui.spacing_mut().item_spacing = vec2(GAP, 10.0);
                chrome::card(ui, "Host", |ui| host::show(ui, holders, &histories, report, asked));
                moves(ui, report, asked);
                self.columns(ui, holders, &histories, report, asked);
                if let Some(report) = report {
                    chrome::card(ui, "The host's ledger", |ui| ledger::show(ui, report));
                }
            });
        });
    }

    fn columns(
        &mut self,
        ui: &mut Ui,
        holders: &[Holder],
        histories: &[History],
        report: Option<&Report>,
        asked: &mut Vec<Action>,
    ) {
        let width = ((ui.available_width() + GAP) / holders.len() as f32 - GAP).clamp(COLUMN, WIDEST);
        ui.horizontal_top(|ui| {
            for (index, (holder, history)) in holders.iter().zip(histories).enumerate() {
                let seat = holder.machine.id();
                let report =
                    report.and_then(|report| report.machines.iter().find(|one| Some(one.id) == seat));
                let colour = theme::colours().of(index);
                let shown = Column { own: holder, all: holders, history, report, colour };
                let column = ui.push_id(holder.id, |ui| {
                    ui.allocate_ui_with_layout(vec2(width, 0.0), Layout::top_down(Align::Min), |ui| {
                        ui.set_width(width);
                        ui.spacing_mut().item_spacing = vec2(8.0, 7.0);
                        self.column(ui, &shown, asked);
                    })
                });
                take_parcel(ui, column.inner.response.rect, holder.id, asked);
            }
        });
    }

    fn column(&mut self, ui: &mut Ui, column: &Column<'_>, asked: &mut Vec<Action>) {
        let (own, offers) = (column.own, &mut self.offers);
        chrome::card(ui, "", |ui| {
            ui.horizontal(|ui| {
                ui.label(RichText::new("■").color(column.colour));
                ui.add(egui::Label::new(RichText::new(&own.name).size(16.0).strong()).truncate());
                let standing = RichText::new(own.standing.text());
                ui.label(standing.color(super::library_page::colour(own.standing)));
            });
            processor::show(ui, column, offers, asked);
        });
        if let Some(report) = column.report {
            chrome::card(ui, "Memory", |ui| memory::show(ui, column, report, offers, asked));
        }
        chrome::card(ui, "Disks and network", |ui| rates::show(ui, column, offers, asked));
        chrome::card(ui, "Exits", |ui| {
            let rate =
                |counter: fn(&samples::Point) -> u64| column.history.rate(|point| counter(point) as f64);
            chrome::figure(ui, "port accesses/s", &per_second(rate(|point| point.port)));
            chrome::figure(ui, "device memory/s", &per_second(rate(|point| point.reads + point.writes)));
            chrome::figure(ui, "interrupts/s", &per_second(rate(|point| point.interrupts)));
        });
    }
}

/// The transfers, and the policy beside them.
fn moves(ui: &mut Ui, report: Option<&Report>, asked: &mut Vec<Action>) {
    let resources = Resources::global();
    let count = if ui.available_width() < WIDE { 1 } else { 2 };
    ui.columns(count, |columns| {
        chrome::card(&mut columns[0], "Transfers", |ui| transfers::show(ui, &resources.transfers(), asked));
        chrome::card(&mut columns[count - 1], "Policy", |ui| {
            transfers::policy(ui, &resources.policy(), report, asked);
        });
    });
}

/// A column takes what is dragged to it from another.
fn take_parcel(ui: &Ui, column: Rect, own: Id, asked: &mut Vec<Action>) {
    let is_over = ui
        .input(|input| input.pointer.latest_pos())
        .is_some_and(|pointer| column.contains(pointer) && ui.clip_rect().contains(pointer));
    let Some(parcel) = egui::DragAndDrop::payload::<Parcel>(ui.ctx()).filter(|parcel| parcel.from != own)
    else {
        return;
    };
    let colours = theme::colours();
    let stroke = Stroke::new(if is_over { 2.0 } else { 1.0 }, colours.accent);
    ui.painter().rect_stroke(column, 8.0, stroke, StrokeKind::Outside);
    if is_over && ui.input(|input| input.pointer.any_released()) {
        egui::DragAndDrop::clear_payload(ui.ctx());
        asked.push(Action::Move { from: parcel.from, to: own, goods: parcel.goods });
    }
}
