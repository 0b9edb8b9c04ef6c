//! The contract every device keeps, as tests: call [`check`] with a way to make the device.
//!
//! 1. Reset equals new: after any use, `reset` gives the state of a device just made.
//! 2. Save, disturb, load gives the same state, in the same device and in a new one.
//! 3. Any value at any offset, width and window never panics; neither does a damaged saved state,
//!    which is either refused (and then nothing has changed) or safe to use.
//!
//! A device whose memory outlives a reset (battery-backed CMOS) calls [`survives`] and [`saves`] and
//! tests its reset itself. Make the device with a manual clock, so that time stands still.

use crate::access::{At, Width};
use crate::device::Device;

/// The whole contract.
pub fn check<D: Device>(make: impl Fn() -> D) {
    resets(&make);
    saves(&make);
    survives(&make);
}

/// Reset equals new.
pub fn resets<D: Device>(make: impl Fn() -> D) {
    let new = make().save();
    for seed in 1..=8 {
        let mut device = make();
        Guest::new(seed).disturb(&mut device, 500);
        device.reset();
        assert!(device.save() == new, "{}: reset does not equal new (seed {seed})", device.name());
    }
}

/// Save, disturb, load gives the same.
pub fn saves<D: Device>(make: impl Fn() -> D) {
    for seed in 1..=8 {
        let mut device = make();
        let mut guest = Guest::new(seed);
        guest.disturb(&mut device, 500);
        let saved = device.save();
        guest.disturb(&mut device, 500);
        device.load(&saved).expect("a device loads what it saved");
        assert!(device.save() == saved, "{}: load does not restore (seed {seed})", device.name());
        let mut other = make();
        other.load(&saved).expect("a new device loads what another saved");
        assert!(other.save() == saved, "{}: a new device differs (seed {seed})", device.name());
    }
}

/// Nothing a guest or a damaged file says makes the device panic.
pub fn survives<D: Device>(make: impl Fn() -> D) {
    for seed in 100..=104 {
        Guest::new(seed).disturb(&mut make(), 5_000);
    }
    for seed in 200..=299 {
        let mut device = make();
        let mut guest = Guest::new(seed);
        guest.disturb(&mut device, 50);
        let before = device.save();
        let mut damaged = before.clone();
        guest.damage(&mut damaged);
        match device.load(&damaged) {
            Ok(()) => guest.disturb(&mut device, 200),
            Err(_) => assert!(device.save() == before, "{}: a refused load changed it", device.name()),
        }
    }
    assert!(make().load(&[]).is_err() || make().save().is_empty(), "an empty state is no state");
}

/// A guest that does anything, the same each time for one seed.
struct Guest(u64);

impl Guest {
    fn new(seed: u64) -> Guest {
        Guest(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// xorshift64*, by Vigna.
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, end: u64) -> u64 {
        (self.next() >> 16) % end
    }

    fn at(&mut self) -> At {
        // Most accesses hit the first registers; windows are at most 16 MiB long.
        let reach = [4, 16, 0x100, 0x1000, 0x1_0000, 0x100_0000][self.below(6) as usize];
        At { window: self.below(8) as u8, offset: self.below(reach), cpu: self.below(3) as usize }
    }

    fn disturb<D: Device>(&mut self, device: &mut D, accesses: usize) {
        for _ in 0..accesses {
            let at = self.at();
            let width = [Width::Byte, Width::Word, Width::Dword, Width::Qword][self.below(4) as usize];
            match self.below(16) {
                0 => device.advance(),
                1..=5 => {
                    device.read(at, width);
                }
                _ => {
                    let value = if self.below(2) == 0 { self.next() } else { self.below(256) };
                    device.write(at, width, value & width.ones());
                }
            }
        }
    }

    fn damage(&mut self, state: &mut Vec<u8>) {
        if state.is_empty() {
            return;
        }
        for _ in 0..=self.below(4) {
            let at = self.below(state.len() as u64) as usize;
            state[at] = self.next() as u8;
        }
        if self.below(8) == 0 {
            let end = self.below(state.len() as u64) as usize;
            state.truncate(end);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::{LoadError, decode, encode};

    /// A register file that breaks the contract in the way its `fault` says.
    struct Latch {
        value: u8,
        fault: u8,
    }

    impl Device for Latch {
        fn name(&self) -> &str {
            "latch"
        }
        fn read(&mut self, _at: At, _width: Width) -> u64 {
            self.value.into()
        }
        fn write(&mut self, at: At, _width: Width, value: u64) {
            assert!(self.fault != 3 || at.offset < 0x1000, "no such register");
            self.value = value as u8;
        }
        fn reset(&mut self) {
            if self.fault != 1 {
                self.value = 0;
            }
        }
        fn save(&self) -> Vec<u8> {
            encode(&self.value)
        }
        fn load(&mut self, state: &[u8]) -> Result<(), LoadError> {
            let value = decode("latch", state)?;
            if self.fault != 2 {
                self.value = value;
            }
            Ok(())
        }
    }

    #[test]
    fn a_good_device_passes() {
        check(|| Latch { value: 0, fault: 0 });
    }

    #[test]
    #[should_panic(expected = "reset does not equal new")]
    fn a_forgotten_reset_is_found() {
        check(|| Latch { value: 0, fault: 1 });
    }

    #[test]
    #[should_panic(expected = "load does not restore")]
    fn a_forgotten_load_is_found() {
        check(|| Latch { value: 0, fault: 2 });
    }

    #[test]
    #[should_panic(expected = "no such register")]
    fn a_panicking_register_is_found() {
        check(|| Latch { value: 0, fault: 3 });
    }
}
