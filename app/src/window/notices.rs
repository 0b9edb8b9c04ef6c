//! Notices in the corner: what went well goes away by itself, what did not stays until it is read.

use egui::{Align2, Area, Context, Frame, Id, RichText, Stroke, vec2};

use super::theme;

/// How long good news stay, in seconds.
const STAY_SECONDS: f64 = 6.0;
/// More than these are not shown at once.
const MOST: usize = 5;

struct Notice {
    text: String,
    is_error: bool,
    /// When it was first shown.
    since: Option<f64>,
}

/// All of them.
#[derive(Default)]
pub struct Notices(Vec<Notice>);

impl Notices {
    /// Something worth knowing.
    pub fn tell(&mut self, text: impl Into<String>) {
        self.push(text.into(), false);
    }

    /// Something that did not work.
    pub fn warn(&mut self, text: impl Into<String>) {
        self.push(text.into(), true);
    }

    fn push(&mut self, text: String, is_error: bool) {
        self.0.retain(|notice| notice.text != text);
        if self.0.len() >= MOST {
            self.0.remove(0);
        }
        self.0.push(Notice { text, is_error, since: None });
    }

    /// Shows them over the page.
    pub fn show(&mut self, ctx: &Context) {
        let now = ctx.input(|input| input.time);
        self.0.retain_mut(|notice| {
            let since = *notice.since.get_or_insert(now);
            notice.is_error || now - since < STAY_SECONDS
        });
        if self.0.is_empty() {
            return;
        }
        if self.0.iter().any(|notice| !notice.is_error) {
            ctx.request_repaint_after_secs(0.5);
        }
        let mut dismissed = None;
        let area = Area::new(Id::new("notices")).anchor(Align2::RIGHT_BOTTOM, vec2(-16.0, -56.0));
        area.order(egui::Order::Foreground).show(ctx, |ui| {
            for (index, notice) in self.0.iter().enumerate() {
                let colour = if notice.is_error { theme::colours().bad } else { theme::colours().good };
                Frame::window(ui.style()).stroke(Stroke::new(1.0, colour)).inner_margin(10).show(ui, |ui| {
                    ui.set_max_width(460.0);
                    ui.horizontal_top(|ui| {
                        if ui.small_button("×").on_hover_text("Dismiss").clicked() {
                            dismissed = Some(index);
                        }
                        ui.add(egui::Label::new(RichText::new(&notice.text)).wrap());
                    });
                });
            }
        });
        if let Some(index) = dismissed {
            self.0.remove(index);
        }
    }
}
