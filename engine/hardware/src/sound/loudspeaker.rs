//! What has the mixer mix, by an alarm in guest time: each 5 ms while something sounds, and never while all is silent.
//!
//! No ports, no lines. It must be the last device of the board: when both are due, sources play before it mixes.

use std::sync::Arc;

use display::sound::Mixer;

use crate::access::{At, Width};
use crate::alarm::Alarm;
use crate::clock::Clock;
use crate::device::{Device, LoadError, Shared, decode, encode, shared};

/// How often it mixes.
const PERIOD_NS: u64 = 5_000_000;

/// The device.
pub struct Loudspeaker {
    mixer: Arc<Mixer>,
    clock: Clock,
    alarm: Alarm,
}

impl Loudspeaker {
    /// Listens to `mixer`. `alarm` must lead to its [`Device::advance`].
    pub fn install(mixer: Arc<Mixer>, clock: Clock, alarm: Alarm) -> Shared<Loudspeaker> {
        let (caller, time) = (alarm.clone(), clock.clone());
        mixer.on_sound(move || caller.set(Some(time.now() + PERIOD_NS)));
        shared(Loudspeaker { mixer, clock, alarm })
    }
}

impl Device for Loudspeaker {
    fn name(&self) -> &str {
        "loudspeaker"
    }

    fn read(&mut self, _at: At, width: Width) -> u64 {
        width.ones()
    }

    fn write(&mut self, _at: At, _width: Width, _value: u64) {}

    fn reset(&mut self) {}

    fn advance(&mut self) {
        let now = self.clock.now();
        if self.mixer.mix(now) {
            self.alarm.set(Some(now + PERIOD_NS));
        }
    }

    fn save(&self) -> Vec<u8> {
        encode(&())
    }

    fn load(&mut self, state: &[u8]) -> Result<(), LoadError> {
        let () = decode(self.name(), state)?;
        self.advance();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use display::sound::Output;

    use super::*;
    use crate::alarm::Alarms;

    #[test]
    fn it_mixes_while_something_sounds_and_then_sleeps() {
        let (clock, alarms) = (Clock::manual(), Alarms::new(|| {}));
        let mixer = Mixer::new(Output::none());
        let speaker = Loudspeaker::install(mixer.clone(), clock.clone(), alarms.alarm());
        let source = mixer.source("card");
        assert_eq!(alarms.next(), None);
        clock.step(10_000_000);
        source.play(0, 48_000, &[[0.5; 2]; 480]);
        let mut mixed = 0;
        while let Some(next) = alarms.next() {
            clock.set(next);
            assert_eq!(alarms.take_due(next).len(), 1);
            speaker.lock().advance();
            mixed += 1;
        }
        assert!((40..60).contains(&mixed), "{mixed}: for 10 ms and the 200 ms after");
        assert!(!mixer.status().sounding);
    }

    #[test]
    fn contract() {
        let mixer = || Mixer::new(Output::none());
        crate::contract::check(|| Loudspeaker {
            mixer: mixer(),
            clock: Clock::manual(),
            alarm: Alarm::unconnected(),
        });
    }
}
