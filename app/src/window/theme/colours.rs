//! The themes' colours, read from RON: one file for each theme, one token for each purpose.

use std::cell::Cell;
use std::sync::OnceLock;

use egui::Color32;
use serde::{Deserialize, Deserializer};

/// Which theme.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shade {
    /// Light text on dark.
    #[default]
    Dark,
    /// Dark text on light.
    Light,
}

/// One colour for each purpose.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Colours {
    /// Behind everything.
    #[serde(deserialize_with = "colour")]
    pub background: Color32,
    /// Bars and side panels.
    #[serde(deserialize_with = "colour")]
    pub panel: Color32,
    /// Cards and pop-ups.
    #[serde(deserialize_with = "colour")]
    pub card: Color32,
    /// Buttons at rest.
    #[serde(deserialize_with = "colour")]
    pub button: Color32,
    /// Thin lines.
    #[serde(deserialize_with = "colour")]
    pub line: Color32,
    /// Text.
    #[serde(deserialize_with = "colour")]
    pub text: Color32,
    /// Text that stands out.
    #[serde(deserialize_with = "colour")]
    pub strong: Color32,
    /// Text of less weight.
    #[serde(deserialize_with = "colour")]
    pub weak: Color32,
    /// What is to be clicked first, and what is chosen.
    #[serde(deserialize_with = "colour")]
    pub accent: Color32,
    /// Text on the accent.
    #[serde(deserialize_with = "colour")]
    pub on_accent: Color32,
    /// Running.
    #[serde(deserialize_with = "colour")]
    pub good: Color32,
    /// Paused, and values that have just changed.
    #[serde(deserialize_with = "colour")]
    pub warn: Color32,
    /// Crashed, lost, and problems under a field.
    #[serde(deserialize_with = "colour")]
    pub bad: Color32,
    /// Inside fields of text.
    #[serde(deserialize_with = "colour")]
    pub field: Color32,
    /// Around the guest's screen.
    #[serde(deserialize_with = "colour")]
    pub screen: Color32,
    /// Lines of graphs.
    #[serde(deserialize_with = "colour")]
    pub grid: Color32,
    /// Machines, timers and chips side by side.
    #[serde(deserialize_with = "all")]
    pub series: Vec<Color32>,
}

impl Colours {
    /// The colour of the `index`th thing in a graph.
    pub fn of(&self, index: usize) -> Color32 {
        self.series[index % self.series.len()]
    }
}

fn read(text: &str) -> Colours {
    ron::from_str(text).expect("a test reads every theme")
}

/// The colours of a theme.
pub fn of(shade: Shade) -> &'static Colours {
    static DARK: OnceLock<Colours> = OnceLock::new();
    static LIGHT: OnceLock<Colours> = OnceLock::new();
    match shade {
        Shade::Dark => DARK.get_or_init(|| read(include_str!("dark.ron"))),
        Shade::Light => LIGHT.get_or_init(|| read(include_str!("light.ron"))),
    }
}

thread_local! {
    /// A window lives on one thread.
    static SHADE: Cell<Shade> = const { Cell::new(Shade::Dark) };
}

/// The colours of the theme this thread's window wears.
pub fn colours() -> &'static Colours {
    of(SHADE.get())
}

/// Which theme that is.
pub fn shade() -> Shade {
    SHADE.get()
}

/// Chooses the theme of this thread's window.
pub fn set_shade(shade: Shade) {
    SHADE.set(shade);
}

fn parse(text: &str) -> Option<Color32> {
    let digits = text.strip_prefix('#').filter(|digits| digits.len() == 6)?;
    let value = u32::from_str_radix(digits, 16).ok()?;
    Some(Color32::from_rgb((value >> 16) as u8, (value >> 8) as u8, value as u8))
}

fn colour<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Color32, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse(&text).ok_or_else(|| serde::de::Error::custom(format!("'{text}' is no colour; write #rrggbb")))
}

fn all<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Color32>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    let colours: Option<Vec<Color32>> = texts.iter().map(|text| parse(text)).collect();
    let some = colours.filter(|colours| !colours.is_empty());
    some.ok_or_else(|| serde::de::Error::custom("these are no colours; write #rrggbb"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Relative luminance. Source: WCAG 2.1.
    fn luminance(colour: Color32) -> f64 {
        let part = |value: u8| {
            let value = f64::from(value) / 255.0;
            if value <= 0.03928 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
        };
        0.2126 * part(colour.r()) + 0.7152 * part(colour.g()) + 0.0722 * part(colour.b())
    }

    fn contrast(a: Color32, b: Color32) -> f64 {
        let (a, b) = (luminance(a), luminance(b));
        (a.max(b) + 0.05) / (a.min(b) + 0.05)
    }

    #[test]
    fn text_can_be_read_in_every_theme() {
        for shade in [Shade::Dark, Shade::Light] {
            let colours = of(shade);
            for behind in [colours.background, colours.panel, colours.card] {
                assert!(contrast(colours.text, behind) > 7.0, "{shade:?}: text");
                for (name, on) in [
                    ("weak", colours.weak),
                    ("good", colours.good),
                    ("warn", colours.warn),
                    ("bad", colours.bad),
                ] {
                    assert!(contrast(on, behind) > 4.0, "{shade:?}: {name} {:.1}", contrast(on, behind));
                }
            }
            assert!(contrast(colours.on_accent, colours.accent) > 3.0, "{shade:?}: buttons");
            let graph = colours.series.iter().all(|series| contrast(*series, colours.panel) > 3.0);
            assert!(graph && colours.series.len() == 8, "{shade:?}: graphs");
        }
    }

    #[test]
    fn what_is_no_colour_is_refused() {
        assert_eq!(parse("#102030"), Some(Color32::from_rgb(0x10, 0x20, 0x30)));
        assert!(parse("102030").is_none() && parse("#1020").is_none() && parse("#10203g").is_none());
    }
}
