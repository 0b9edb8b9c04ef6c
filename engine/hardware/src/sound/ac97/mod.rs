//! AC'97 sound of the Intel 82801AA (ICH), 8086:2415, with a SigmaTel STAC9700 codec.
//!
//! Intel 82801AA datasheet (290655), chapter 13, and *Audio Codec '97 Revision 2.3*. Ports: 256 of the codec's mixer at base
//! address register 0 (NAM), 64 of the bus masters at register 1 (NABM); interrupt INTA.
//! Three bus masters walk lists of 32 buffers: PCM out is heard, PCM in and microphone bring silence. Rates from 4 to
//! 48 kHz (variable rate audio); master and PCM out volume are heard.
//! Left out: surround and S/PDIF, the modem, the codec's GPIO, wake-up, 3D and tone controls (kept, not heard).

mod adapter;
mod channel;
mod codec;

pub use adapter::Ac97;

#[cfg(test)]
mod tests;
