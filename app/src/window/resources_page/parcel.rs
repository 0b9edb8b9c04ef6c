//! Giving: an amount that is dragged to another machine's column, or given by a button.

use egui::{DragValue, Frame, Margin, RichText, Sense, Stroke, Ui, vec2};
use engine::resources::{Goods, Resource, amount};

use super::super::action::Action;
use super::super::machines::Id;
use super::super::theme;
use super::Column;

/// Something that is dragged from one column to another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Parcel {
    /// Who gives.
    pub from: Id,
    /// What.
    pub goods: Goods,
}

/// How much of each is offered, in the unit of its field.
pub struct Offers {
    /// In MiB.
    pub memory: u64,
    /// Shares.
    pub shares: u64,
    /// Accesses per second.
    pub disk_operations: u64,
    /// In MiB per second.
    pub disk_bytes: u64,
    /// In MiB per second.
    pub network_bytes: u64,
}

impl Default for Offers {
    fn default() -> Offers {
        Offers { memory: 64, shares: 256, disk_operations: 100, disk_bytes: 10, network_bytes: 1 }
    }
}

/// What `own` can give to others: the amount, a parcel to drag, and a button for each of them.
pub fn give(
    ui: &mut Ui,
    column: &Column<'_>,
    amount: &mut u64,
    unit: &str,
    goods: impl Fn(u64) -> Goods,
    asked: &mut Vec<Action>,
) {
    let Column { own, all, .. } = column;
    if all.len() < 2 {
        return;
    }
    ui.horizontal_wrapped(|ui| {
        ui.spacing_mut().item_spacing = vec2(6.0, 5.0);
        let value = DragValue::new(amount).range(1..=1_u64 << 20).suffix(unit);
        ui.add(value).on_hover_text("How much to give: drag, or click and type");
        let goods = goods(*amount);
        parcel(ui, Parcel { from: own.id, goods });
        for other in all.iter().filter(|other| other.id != own.id) {
            let text = format!("Give {} to {}", written(goods), other.name);
            let action = Action::Move { from: own.id, to: other.id, goods };
            action.widget(ui, egui::Button::new(text).truncate(), true, asked);
        }
    });
}

/// What can be dragged; on its way, it says what it is.
fn parcel(ui: &mut Ui, parcel: Parcel) {
    let colours = theme::colours();
    let kind = std::mem::discriminant(&parcel.goods);
    let id = ui.make_persistent_id(("parcel", parcel.from, kind));
    let text = if ui.ctx().is_being_dragged(id) { written(parcel.goods) } else { "drag".to_owned() };
    let shown = ui.dnd_drag_source(id, parcel, |ui| {
        ui.spacing_mut().item_spacing.x = 6.0;
        ui.spacing_mut().interact_size.y = 18.0;
        let frame = Frame::new()
            .fill(colours.card)
            .stroke(Stroke::new(1.0, colours.accent))
            .corner_radius(6)
            .inner_margin(Margin::symmetric(8, 4));
        frame.show(ui, |ui| {
            ui.horizontal(|ui| {
                grip(ui);
                ui.label(RichText::new(text).color(colours.text));
            });
        });
    });
    let text = format!("Drag {} to another machine's column", written(parcel.goods));
    shown.response.on_hover_text(text);
}

/// Six dots: something to take hold of.
fn grip(ui: &mut Ui) {
    let (rect, _) = ui.allocate_exact_size(vec2(7.0, 14.0), Sense::hover());
    for (column, row) in [(0, 0), (1, 0), (0, 1), (1, 1), (0, 2), (1, 2)] {
        let at = rect.left_top() + vec2(1.5 + 4.0 * column as f32, 3.0 + 4.0 * row as f32);
        ui.painter().circle_filled(at, 1.2, theme::colours().weak);
    }
}

/// An amount as short as it is still understood.
fn written(goods: Goods) -> String {
    match goods {
        Goods::Memory(bytes) => amount::bytes(bytes),
        Goods::Shares(1) => "1 share".to_owned(),
        Goods::Shares(shares) => format!("{shares} shares"),
        Goods::DiskOperations(accesses) => Resource::DiskOperations.write(accesses.into()),
        Goods::DiskBytes(bytes) => Resource::DiskBytes.write(bytes),
        Goods::NetworkBytes(bytes) => Resource::NetworkBytes.write(bytes),
    }
}
