//! Saved states that come back as they were, and damaged ones that are refused or safe.

use super::guest::Guest;
use super::random::Random;

/// No device's state is longer than this, whatever a guest did.
const STATE_MAX_BYTES: usize = 1 << 20;
/// But for the GPU, whose state holds its pictures.
const PICTURES_MAX_BYTES: usize = hardware::virtio::gpu::PIXELS_MAX_BYTES as usize;
/// MessagePack's marks of unsigned and signed numbers of 1, 2, 4 and 8 bytes.
const NUMBERS: std::ops::RangeInclusive<u8> = 0xCC..=0xD3;

impl Guest {
    /// Every state is bounded, and comes back after whatever happens next.
    pub fn save_disturb_load(&mut self) {
        let saved = self.bare.save();
        for (name, state) in &saved {
            let pictures = if name == "virtio-gpu" { PICTURES_MAX_BYTES } else { 0 };
            assert!(state.len() <= STATE_MAX_BYTES + pictures, "{name} has a state of {} bytes", state.len());
        }
        let now = self.bare.now_ns();
        for _ in 0..3 {
            self.episode();
        }
        self.bare.settle();
        self.bare.set_now(now);
        self.note("all states are loaded".to_owned());
        self.bare.load(&saved).expect("a device loads what it saved");
        for ((name, before), after) in saved.iter().zip(self.bare.states()) {
            assert!(*before == after, "{name}: load does not restore{}", difference(before, &after));
        }
    }

    /// One device is given a damaged state: it refuses it and is as it was, or lives with it.
    pub fn load_damaged(&mut self) {
        self.bare.settle();
        let saved = self.bare.save();
        let mut damaged = saved.clone();
        let victim = self.random.below(saved.len() as u64) as usize;
        damage(&mut damaged[victim].1, &mut self.random);
        let name = &saved[victim].0;
        self.note(format!("{name} is given a damaged state"));
        match self.bare.load(&damaged) {
            Ok(()) => {
                for _ in 0..6 {
                    self.episode();
                }
                self.bare.settle();
                self.note("the good states are loaded".to_owned());
                self.bare.load(&saved).expect("what was saved can be loaded again");
            }
            Err(_) => {
                let (before, after) = (&saved[victim].1, &self.bare.states()[victim]);
                assert!(before == after, "{name}: a refused load changed it{}", difference(before, after));
            }
        }
    }
}

/// Where two states differ.
fn difference(before: &[u8], after: &[u8]) -> String {
    let at = before.iter().zip(after).take_while(|(before, after)| before == after).count();
    let part = |state: &[u8]| {
        String::from_utf8_lossy(&state[at.saturating_sub(60)..state.len().min(at + 20)]).into_owned()
    };
    format!(" at byte {at}: {:?} became {:?}", part(before), part(after))
}

/// Changes some bytes: any, or those of a number.
fn damage(state: &mut Vec<u8>, random: &mut Random) {
    if state.is_empty() {
        return;
    }
    for _ in 0..1 + random.below(6) {
        let at = random.below(state.len() as u64) as usize;
        let number = state[at..].iter().position(|byte| NUMBERS.contains(byte));
        match number {
            Some(found) if !random.one_in(4) => {
                let start = at + found + 1;
                let width = 1 << (state[start - 1] & 3);
                let bytes = random.value().to_be_bytes();
                for (byte, new) in state[start..].iter_mut().zip(&bytes[8 - width..]) {
                    *byte = *new;
                }
            }
            _ => state[at] = random.value() as u8,
        }
    }
    if random.one_in(20) {
        let end = random.below(state.len() as u64) as usize;
        state.truncate(end);
    }
}
