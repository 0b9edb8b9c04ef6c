//! The chip's two tables: a quarter of a sine as a logarithm, and the exponential back.

/// Both, as they lie in the chip's ROM: 256 entries each.
pub struct Tables {
    /// -log2(sin) of the middle of each 1024th, in 256ths of an octave.
    log_sine: [u16; 256],
    /// 2 to the power of each 256th, 11 bits.
    power: [u16; 256],
}

impl Tables {
    /// Computes them.
    pub fn new() -> Tables {
        let log_sine = std::array::from_fn(|n| {
            let sine = ((n as f64 + 0.5) * std::f64::consts::FRAC_PI_2 / 256.0).sin();
            (-sine.log2() * 256.0).round() as u16
        });
        let power = std::array::from_fn(|n| (2_f64.powf((255 - n) as f64 / 256.0) * 1024.0).round() as u16);
        Tables { log_sine, power }
    }

    /// Wave `wave` at `phase` (10 bits), made softer by `attenuation` (9 bits of 3/16 dB): 13 bits with sign.
    pub fn wave(&self, wave: u8, phase: u32, attenuation: u32) -> i32 {
        const SILENT: u32 = 0x1000;
        let phase = phase & 0x3FF;
        let second_half = phase & 0x200 != 0;
        let sine = |phase: u32| {
            let n = if phase & 0x100 != 0 { !phase } else { phase } & 0xFF;
            u32::from(self.log_sine[n as usize])
        };
        // Datasheet, figure "waveform select".
        let (level, negative) = match wave & 7 {
            0 => (sine(phase), second_half),
            1 => (if second_half { SILENT } else { sine(phase) }, false),
            2 => (sine(phase), false),
            3 => (if phase & 0x100 != 0 { SILENT } else { sine(phase) }, false),
            4 => (if second_half { SILENT } else { sine(2 * phase) }, phase & 0x100 != 0),
            5 => (if second_half { SILENT } else { sine(2 * phase) }, false),
            6 => (0, second_half),
            _ => (if second_half { (!phase & 0x1FF) << 3 } else { phase << 3 }, second_half),
        };
        let level = (level + (attenuation << 3)).min(0x1FFF);
        let value = (u32::from(self.power[(level & 0xFF) as usize]) << 1 >> (level >> 8)).cast_signed();
        if negative { !value } else { value }
    }
}
