//! A minute of something, newest at the right.

use egui::{Align2, Color32, FontId, Pos2, Sense, Stroke, Ui, pos2, vec2};

use super::super::samples::KEPT;
use super::super::theme;

/// Height of what is written above the lines.
const LEGEND: f32 = 17.0;

/// Draws `lines` from 0 to `most`, which is written as `top`; a bound is a line across.
pub fn show(ui: &mut Ui, lines: &[(&[f64], Color32)], most: f64, bound: Option<f64>, top: &str) {
    let colours = theme::colours();
    let (area, _) = ui.allocate_exact_size(vec2(ui.available_width(), 60.0), Sense::hover());
    let painter = ui.painter();
    painter.rect_filled(area, 3.0, colours.field);
    let height = area.height() - LEGEND - 2.0;
    let y = |value: f64| area.bottom() - 2.0 - (value / most.max(1e-9)).clamp(0.0, 1.0) as f32 * height;
    for part in [0.25, 0.5, 0.75, 1.0] {
        painter.hline(area.x_range(), y(most * part), Stroke::new(1.0, colours.grid));
    }
    let step = area.width() / KEPT as f32;
    for (values, colour) in lines {
        let first = area.right() - step * values.len().saturating_sub(1) as f32;
        let point = |(n, value): (usize, &f64)| pos2(first + step * n as f32, y(*value));
        let points: Vec<Pos2> = values.iter().enumerate().map(point).collect();
        if points.len() > 1 {
            painter.with_clip_rect(area).line(points, Stroke::new(1.5, *colour));
        }
    }
    if let Some(bound) = bound {
        painter.hline(area.x_range(), y(bound), Stroke::new(1.0, colours.warn));
    }
    let font = FontId::proportional(10.5);
    let (left, right) = (area.left_top() + vec2(6.0, 3.0), area.right_top() + vec2(-6.0, 3.0));
    painter.text(left, Align2::LEFT_TOP, top, font.clone(), colours.weak);
    painter.text(right, Align2::RIGHT_TOP, "last minute", font, colours.weak);
}
