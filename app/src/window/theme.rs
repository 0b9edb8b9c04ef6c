//! Colours, sizes and text styles, in one place.

use egui::{Color32, Context, CornerRadius, FontFamily, FontId, Margin, Stroke, TextStyle, Theme, vec2};

/// Behind everything.
pub const BACKGROUND: Color32 = Color32::from_rgb(0x12, 0x15, 0x1A);
/// Bars and side panels.
pub const PANEL: Color32 = Color32::from_rgb(0x1A, 0x1E, 0x25);
/// Cards and pop-ups.
pub const CARD: Color32 = Color32::from_rgb(0x21, 0x27, 0x30);
/// Buttons at rest.
pub const BUTTON: Color32 = Color32::from_rgb(0x2E, 0x36, 0x42);
/// Thin lines.
pub const LINE: Color32 = Color32::from_rgb(0x36, 0x3E, 0x4A);
/// Text.
pub const TEXT: Color32 = Color32::from_rgb(0xE4, 0xE8, 0xEE);
/// Text of less weight.
pub const WEAK: Color32 = Color32::from_rgb(0x93, 0x9D, 0xAC);
/// What is to be clicked first, and what is chosen.
pub const ACCENT: Color32 = Color32::from_rgb(0x3D, 0x9C, 0xA8);
/// Running.
pub const GOOD: Color32 = Color32::from_rgb(0x62, 0xC0, 0x6E);
/// Paused, and register values that have just changed.
pub const WARN: Color32 = Color32::from_rgb(0xE3, 0xA8, 0x3B);
/// Crashed, and problems under a field.
pub const BAD: Color32 = Color32::from_rgb(0xF0, 0x6A, 0x62);

/// Width of a card's picture.
pub const CARD_WIDTH: f32 = 272.0;
/// Height of a card's picture.
pub const CARD_PICTURE: f32 = 170.0;
/// Space between cards.
pub const GAP: f32 = 16.0;
/// Width of the register panel.
pub const REGISTERS_WIDTH: f32 = 388.0;

/// Puts the theme on; dark, because guests are.
pub fn apply(ctx: &Context) {
    ctx.set_theme(Theme::Dark);
    ctx.all_styles_mut(|style| {
        style.text_styles = [
            (TextStyle::Small, FontId::new(12.0, FontFamily::Proportional)),
            (TextStyle::Body, FontId::new(14.0, FontFamily::Proportional)),
            (TextStyle::Button, FontId::new(14.0, FontFamily::Proportional)),
            (TextStyle::Heading, FontId::new(21.0, FontFamily::Proportional)),
            (TextStyle::Monospace, FontId::new(12.5, FontFamily::Monospace)),
        ]
        .into();
        style.spacing.item_spacing = vec2(8.0, 7.0);
        style.spacing.button_padding = vec2(10.0, 5.0);
        style.spacing.menu_margin = Margin::same(8);
        style.spacing.window_margin = Margin::same(16);
        style.spacing.interact_size.y = 28.0;
        let visuals = &mut style.visuals;
        visuals.override_text_color = None;
        visuals.panel_fill = BACKGROUND;
        visuals.window_fill = CARD;
        visuals.window_stroke = Stroke::new(1.0, LINE);
        visuals.window_corner_radius = CornerRadius::same(8);
        visuals.menu_corner_radius = CornerRadius::same(8);
        visuals.extreme_bg_color = Color32::from_rgb(0x0C, 0x0E, 0x12);
        visuals.faint_bg_color = PANEL;
        visuals.weak_text_color = Some(WEAK);
        visuals.hyperlink_color = ACCENT;
        visuals.error_fg_color = BAD;
        visuals.warn_fg_color = WARN;
        visuals.selection.bg_fill = ACCENT.gamma_multiply(0.75);
        visuals.selection.stroke = Stroke::new(1.0, Color32::WHITE);
        let widgets = &mut visuals.widgets;
        for (state, fill, text) in [
            (&mut widgets.noninteractive, CARD, TEXT),
            (&mut widgets.inactive, BUTTON, TEXT),
            (&mut widgets.hovered, BUTTON.lerp_to_gamma(Color32::WHITE, 0.10), Color32::WHITE),
            (&mut widgets.active, ACCENT, Color32::WHITE),
            (&mut widgets.open, BUTTON, Color32::WHITE),
        ] {
            state.bg_fill = fill;
            state.weak_bg_fill = fill;
            state.fg_stroke = Stroke::new(1.0, text);
            state.corner_radius = CornerRadius::same(6);
            state.expansion = 0.0;
        }
        widgets.noninteractive.bg_stroke = Stroke::new(1.0, LINE);
        widgets.inactive.bg_stroke = Stroke::new(1.0, LINE);
        widgets.hovered.bg_stroke = Stroke::new(1.0, ACCENT);
    });
}

/// A field for one line of text.
pub fn text_field(text: &mut String) -> egui::TextEdit<'_> {
    egui::TextEdit::singleline(text).margin(Margin::symmetric(9, 6))
}
