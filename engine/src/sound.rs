//! The machine's sound: which cards it has, where it goes, and the handle to volume, mute and lamp.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use display::sound::Mixer;
pub use display::sound::{Output, SoundStatus, SourceStatus};
use hardware::Clock;
use serde::{Deserialize, Serialize};

/// A sound device of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SoundCard {
    /// The PC's loudspeaker: beeps, on every system.
    Speaker,
    /// Intel's AC'97, which most systems of the last twenty years know.
    Ac97,
    /// The Sound Blaster 16 with OPL3, which DOS and its games know.
    Sb16,
    /// Virtio's, for systems with a driver.
    Virtio,
}

impl SoundCard {
    /// All there are.
    pub const ALL: [SoundCard; 4] = [SoundCard::Speaker, SoundCard::Ac97, SoundCard::Sb16, SoundCard::Virtio];

    /// Its name on the command line, and its source's in the mixer.
    pub const fn name(self) -> &'static str {
        match self {
            SoundCard::Speaker => "speaker",
            SoundCard::Ac97 => "ac97",
            SoundCard::Sb16 => "sb16",
            SoundCard::Virtio => "virtio",
        }
    }
}

/// The sound devices of a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SoundCards(Vec<SoundCard>);

impl SoundCards {
    /// No sound devices.
    pub const NONE: SoundCards = SoundCards(Vec::new());

    /// Puts `card` in, or takes it out.
    pub fn set(&mut self, card: SoundCard, is_in: bool) {
        self.0 = SoundCard::ALL
            .into_iter()
            .filter(|other| if *other == card { is_in } else { self.has(*other) })
            .collect();
    }

    /// Whether `card` is among them.
    pub fn has(&self, card: SoundCard) -> bool {
        self.0.contains(&card)
    }
}

impl Default for SoundCards {
    /// What every system knows.
    fn default() -> SoundCards {
        SoundCards(vec![SoundCard::Speaker, SoundCard::Ac97])
    }
}

impl fmt::Display for SoundCards {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_slice() {
            [] => f.write_str("none"),
            cards => f.write_str(&cards.iter().map(|card| card.name()).collect::<Vec<_>>().join(",")),
        }
    }
}

impl FromStr for SoundCards {
    type Err = String;

    /// Names with commas between them, or `none`.
    fn from_str(text: &str) -> Result<SoundCards, String> {
        if text == "none" {
            return Ok(SoundCards::NONE);
        }
        let card = |name: &str| {
            SoundCard::ALL.into_iter().find(|card| card.name() == name).ok_or_else(|| {
                let names = SoundCard::ALL.map(SoundCard::name).join(", ");
                format!("'{name}' is no sound device; there are none, {names}")
            })
        };
        text.split(',').map(card).collect::<Result<_, _>>().map(SoundCards)
    }
}

/// Where a machine's sound goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Audio {
    /// The host's sound device.
    Host,
    /// Nowhere; the guest does not notice.
    None,
    /// A WAV file, whose seconds are those of guest time.
    Wav(PathBuf),
}

impl FromStr for Audio {
    type Err = String;

    fn from_str(text: &str) -> Result<Audio, String> {
        match (text, text.strip_prefix("wav:")) {
            ("host", _) => Ok(Audio::Host),
            ("none", _) => Ok(Audio::None),
            (_, Some(path)) if !path.is_empty() => Ok(Audio::Wav(path.into())),
            _ => Err("write host, none or wav:PATH".to_owned()),
        }
    }
}

/// The handle to a running machine's sound: volume, mute, and what the lamp shows.
#[derive(Clone)]
pub struct Sound {
    mixer: Arc<Mixer>,
    clock: Clock,
}

/// What the statistics tell of sound.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SoundStats {
    /// Where it goes.
    pub output: String,
    /// Why nothing can be heard.
    pub problem: Option<String>,
    /// How often the host wanted samples while sound was on and there were none.
    pub underruns: u64,
    /// Samples lost because the host or the mixer was late.
    pub dropped: u64,
}

impl Sound {
    pub(crate) fn new(mixer: Arc<Mixer>, clock: Clock) -> Sound {
        Sound { mixer, clock }
    }

    /// Where it goes and why it cannot be heard (the lamp), whether something sounds, volumes, mutes, levels,
    /// underruns. Cheap: once a picture is fine.
    pub fn status(&self) -> SoundStatus {
        self.mixer.status()
    }

    /// Sets the volume, 0 to 1, of the source of that name ("speaker"), or with `None` of the whole machine. Says
    /// whether there is such a source.
    pub fn set_volume(&self, source: Option<&str>, volume: f32) -> bool {
        self.mixer.set_volume(source, volume)
    }

    /// Mutes or unmutes a source, or with `None` the whole machine. The guest does not notice. Says whether there
    /// is such a source.
    pub fn set_muted(&self, source: Option<&str>, muted: bool) -> bool {
        self.mixer.set_muted(source, muted)
    }

    /// Guest time stands still.
    pub(crate) fn rest(&self) {
        self.mixer.rest(self.clock.now());
    }

    /// The machine has ended.
    pub(crate) fn close(&self) {
        self.mixer.close(self.clock.now());
    }

    pub(crate) fn set_time_rate(&self, rate: f64) {
        self.mixer.set_time_rate(rate);
    }

    pub(crate) fn stats(&self) -> SoundStats {
        let SoundStatus { output, problem, underruns, dropped, .. } = self.status();
        SoundStats { output, problem, underruns, dropped }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cards_and_outputs_read_as_people_write_them() {
        for text in ["none", "speaker", "ac97,speaker", "sb16,virtio"] {
            assert_eq!(text.parse::<SoundCards>().unwrap().to_string(), text);
        }
        assert!("speaker,trumpet".parse::<SoundCards>().unwrap_err().contains("trumpet"));
        assert!(SoundCards::default().has(SoundCard::Speaker) && !SoundCards::NONE.has(SoundCard::Speaker));
        assert_eq!("wav:a b.wav".parse(), Ok(Audio::Wav("a b.wav".into())));
        assert_eq!(("host".parse(), "none".parse()), (Ok(Audio::Host), Ok(Audio::None)));
        assert!("wav:".parse::<Audio>().is_err() && "loud".parse::<Audio>().is_err());
    }
}
