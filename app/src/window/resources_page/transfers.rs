//! Transfers between machines with their stages, and the policy that makes some by itself.

use egui::{ProgressBar, RichText, ScrollArea, Ui};
use engine::resources::{Goods, MachineId, PolicyReport, Report, Transfer, TransferState, amount};

use super::super::action::Action;
use super::super::theme;
use super::super::timer_view::duration;

/// Decisions of the policy in view.
const DECISIONS: usize = 8;
/// Height of the list.
const HEIGHT: f32 = 132.0;

/// The transfers that are kept, newest first.
pub fn show(ui: &mut Ui, transfers: &[Transfer], asked: &mut Vec<Action>) {
    if transfers.is_empty() {
        let text = "Nothing has moved yet. Drag a parcel from one machine's column to another's, or click a Give button.";
        ui.label(RichText::new(text).color(theme::colours().weak));
        return;
    }
    ScrollArea::vertical().id_salt("transfers").max_height(HEIGHT).auto_shrink([false, true]).show(
        ui,
        |ui| {
            transfers.iter().rev().for_each(|transfer| one(ui, transfer, asked));
        },
    );
}

fn one(ui: &mut Ui, transfer: &Transfer, asked: &mut Vec<Action>) {
    let colours = theme::colours();
    let colour = match transfer.state {
        TransferState::Done => colours.good,
        TransferState::Failed => colours.bad,
        TransferState::Cancelled | TransferState::Undone => colours.weak,
        _ => colours.warn,
    };
    ui.horizontal_wrapped(|ui| {
        ui.spacing_mut().interact_size.y = 22.0;
        ui.spacing_mut().button_padding.y = 2.0;
        ui.label(RichText::new(transfer.number.to_string()).monospace().color(colours.weak));
        ui.label(format!("{} from {} to {}", transfer.goods, transfer.donor.name, transfer.receiver.name));
        if !transfer.state.is_over() {
            let bar = ProgressBar::new(transfer.progress() as f32).desired_width(90.0).desired_height(8.0);
            ui.add(bar.fill(colour));
        }
        ui.label(RichText::new(transfer.state.word()).color(colour));
        match transfer.state {
            TransferState::Done if transfer.undone_by.is_none() => {
                Action::Undo(transfer.number).button(ui, asked);
            }
            state if !state.is_over() => {
                Action::CancelMove(transfer.number).button(ui, asked);
            }
            _ => {}
        }
    });
    let mut facts = Vec::new();
    if matches!(transfer.goods, Goods::Memory(_)) {
        facts.push(stages(transfer));
    }
    facts.extend(transfer.reason.clone());
    // What is done speaks for itself.
    if transfer.state != TransferState::Done {
        facts.extend(Some(transfer.outcome.clone()).filter(|outcome| !outcome.is_empty()));
    }
    if matches!(transfer.goods, Goods::Memory(_)) && transfer.state.is_over() {
        let spent = |party: &engine::resources::Party| {
            let (before, after) = (party.spent_before_bytes, party.spent_bytes);
            format!("{} on {} ({} before)", amount::bytes(after), party.name, amount::bytes(before))
        };
        facts.push(format!("the host spends {}, {}", spent(&transfer.donor), spent(&transfer.receiver)));
    }
    if !facts.is_empty() {
        ui.label(RichText::new(facts.join(" · ")).small().color(colours.weak));
    }
}

/// When it came to each stage, from its beginning.
fn stages(transfer: &Transfer) -> String {
    let begun = transfer.times.first().map_or(0, |(_, at_ns)| *at_ns);
    let stage = |(state, at_ns): &(TransferState, u64)| match at_ns - begun {
        0 => state.word().to_owned(),
        passed => format!("{} after {}", state.word(), duration(passed as f64)),
    };
    transfer.times.iter().map(stage).collect::<Vec<_>>().join(" › ")
}

/// The policy: its switch, and what it decided, newest first.
pub fn policy(ui: &mut Ui, policy: &PolicyReport, report: Option<&Report>, asked: &mut Vec<Action>) {
    let colours = theme::colours();
    let button = egui::Button::new("Balance by need").selected(policy.is_on);
    Action::Policy(!policy.is_on).widget(ui, button, true, asked);
    let text = "Moves memory and shares by itself to machines that run short, never below a floor.";
    ui.label(RichText::new(text).small().color(colours.weak));
    let name = |id: MachineId| {
        let named = report.and_then(|report| report.machines.iter().find(|machine| machine.id == id));
        named.map_or("an ended machine", |machine| machine.name.as_str())
    };
    for decision in policy.decisions.iter().rev().take(DECISIONS) {
        let (donor, receiver) = (name(decision.donor), name(decision.receiver));
        ui.label(format!("{} from {donor} to {receiver}", decision.goods));
        let came = match &decision.result {
            Ok(number) => format!("{} (transfer {number})", decision.reason),
            Err(reason) => format!("{} Not done: {reason}", decision.reason),
        };
        ui.label(RichText::new(came).small().color(colours.weak));
    }
    if policy.is_on && policy.decisions.is_empty() {
        ui.label(RichText::new("Nobody runs short.").small().color(colours.weak));
    }
}
