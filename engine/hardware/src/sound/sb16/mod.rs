//! Creative Sound Blaster 16 (CT1740, DSP 4.05, mixer CT1745) with a YMF262 (OPL3).
//!
//! *Sound Blaster Series Hardware Programming Guide*, Creative, 1994 ("HPG"). Ports: 0x220-0x22F (FM, mixer, DSP),
//! 0x330-0x331 (MPU-401), 0x388-0x38B (FM). Lines: IRQ 5 (the mixer can choose 9, 7 or 10). DMA: channels 1 and 5
//! (0, 3, 6 and 7 can be chosen). Samples of 8 and 16 bits, mono and stereo, single-cycle and auto-initialised, high
//! speed, direct, silence; one transfer at a time.
//! Left out: ADPCM, recording anything but silence, the CSP, MIDI (what is sent is lost), full duplex, the mixer's tone
//! controls, gains and switches (kept, not heard), the joystick.

mod adapter;
mod dsp;
mod mixer;
mod mpu401;
mod transfer;

pub use adapter::{Sb16, Sockets};

#[cfg(test)]
mod tests;
