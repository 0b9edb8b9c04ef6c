//! Colours, sizes and text styles, in one place.

mod colours;

use egui::{Context, CornerRadius, FontFamily, FontId, Margin, Stroke, TextStyle, Theme, vec2};

pub use colours::{Shade, colours, set_shade, shade};

/// Width of a card's picture.
pub const CARD_WIDTH: f32 = 272.0;
/// Height of a card's picture.
pub const CARD_PICTURE: f32 = 170.0;
/// Space between cards.
pub const GAP: f32 = 16.0;
/// Width of the register panel.
pub const REGISTERS_WIDTH: f32 = 388.0;

/// Puts the chosen theme on; dark at first, because guests are.
pub fn apply(ctx: &Context) {
    let colours = colours();
    ctx.set_theme(match shade() {
        Shade::Dark => Theme::Dark,
        Shade::Light => Theme::Light,
    });
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
        visuals.panel_fill = colours.background;
        visuals.window_fill = colours.card;
        visuals.window_stroke = Stroke::new(1.0, colours.line);
        visuals.window_corner_radius = CornerRadius::same(8);
        visuals.menu_corner_radius = CornerRadius::same(8);
        visuals.extreme_bg_color = colours.field;
        visuals.faint_bg_color = colours.panel;
        visuals.weak_text_color = Some(colours.weak);
        visuals.hyperlink_color = colours.accent;
        visuals.error_fg_color = colours.bad;
        visuals.warn_fg_color = colours.warn;
        visuals.selection.bg_fill = colours.accent.gamma_multiply(0.75);
        visuals.selection.stroke = Stroke::new(1.0, colours.on_accent);
        let widgets = &mut visuals.widgets;
        for (state, fill, text) in [
            (&mut widgets.noninteractive, colours.card, colours.text),
            (&mut widgets.inactive, colours.button, colours.text),
            (&mut widgets.hovered, colours.button.lerp_to_gamma(colours.strong, 0.10), colours.strong),
            (&mut widgets.active, colours.accent, colours.strong),
            (&mut widgets.open, colours.button, colours.strong),
        ] {
            state.bg_fill = fill;
            state.weak_bg_fill = fill;
            state.fg_stroke = Stroke::new(1.0, text);
            state.corner_radius = CornerRadius::same(6);
            state.expansion = 0.0;
        }
        widgets.noninteractive.bg_stroke = Stroke::new(1.0, colours.line);
        widgets.inactive.bg_stroke = Stroke::new(1.0, colours.line);
        widgets.hovered.bg_stroke = Stroke::new(1.0, colours.accent);
    });
}

/// A field for one line of text.
pub fn text_field(text: &mut String) -> egui::TextEdit<'_> {
    egui::TextEdit::singleline(text).margin(Margin::symmetric(9, 6))
}
