//! [`cpu::registers::Fpu`] to and from the XSAVE area. Source: Intel SDM 1, §13.4.1 (legacy region),
//! §13.4.2 (header), §13.4.3 (extended region, standard format).

use cpu::registers::Fpu;
use kvm_bindings::kvm_xsave;

/// Offset of XSTATE_BV.
const XSTATE_BV: usize = 512;
/// Offset of the high halves of YMM0 to YMM15; CPUID leaf 0xD, subleaf 2 gives it on every processor.
const YMM_HIGH: usize = 576;
const STACK: usize = 32;
const XMM: usize = 160;

/// The components an [`Fpu`] holds: x87, SSE, AVX.
pub const X87_SSE: u64 = 0b011;
/// AVX.
pub const AVX: u64 = 0b100;

fn bytes_of(area: &kvm_xsave) -> Vec<u8> {
    area.region.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

/// Reads the XSAVE area.
pub fn from_kvm(area: &kvm_xsave) -> Fpu {
    let bytes = bytes_of(area);
    let mut fpu = Fpu {
        control: u16_at(&bytes, 0),
        status: u16_at(&bytes, 2),
        tags: bytes[4],
        opcode: u16_at(&bytes, 6),
        instruction: u64_at(&bytes, 8),
        data: u64_at(&bytes, 16),
        mxcsr: u32::from_le_bytes(bytes[24..28].try_into().expect("four bytes")),
        ..Fpu::default()
    };
    for (index, register) in fpu.stack.iter_mut().enumerate() {
        register.copy_from_slice(&bytes[STACK + 16 * index..][..10]);
    }
    let has_avx = u64_at(&bytes, XSTATE_BV) & AVX != 0;
    for (index, register) in fpu.ymm.iter_mut().enumerate() {
        let low = XMM + 16 * index;
        register[..2].copy_from_slice(&[u64_at(&bytes, low), u64_at(&bytes, low + 8)]);
        if has_avx {
            let high = YMM_HIGH + 16 * index;
            register[2..].copy_from_slice(&[u64_at(&bytes, high), u64_at(&bytes, high + 8)]);
        }
    }
    fpu
}

/// Writes into the XSAVE area, leaving the other components. `avx` says whether the guest has AVX.
pub fn to_kvm(fpu: &Fpu, avx: bool, area: &mut kvm_xsave) {
    let mut bytes = bytes_of(area);
    let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    put(0, &fpu.control.to_le_bytes());
    put(2, &fpu.status.to_le_bytes());
    put(4, &[fpu.tags, 0]);
    put(6, &fpu.opcode.to_le_bytes());
    put(8, &fpu.instruction.to_le_bytes());
    put(16, &fpu.data.to_le_bytes());
    put(24, &fpu.mxcsr.to_le_bytes());
    for (index, register) in fpu.stack.iter().enumerate() {
        put(STACK + 16 * index, register);
        put(STACK + 16 * index + 10, &[0; 6]);
    }
    for (index, register) in fpu.ymm.iter().enumerate() {
        for (word, value) in register.iter().enumerate() {
            match word {
                0 | 1 => put(XMM + 16 * index + 8 * word, &value.to_le_bytes()),
                _ if avx => put(YMM_HIGH + 16 * index + 8 * (word - 2), &value.to_le_bytes()),
                _ => {}
            }
        }
    }
    let present = u64_at(&bytes, XSTATE_BV) | X87_SSE | if avx { AVX } else { 0 };
    bytes[XSTATE_BV..XSTATE_BV + 8].copy_from_slice(&present.to_le_bytes());
    for (word, chunk) in area.region.iter_mut().zip(bytes.chunks_exact(4)) {
        *word = u32::from_le_bytes(chunk.try_into().expect("four bytes"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_survives() {
        let mut fpu = Fpu { control: 0x27F, status: 0x3800, tags: 0x81, opcode: 0x7FF, ..Fpu::default() };
        (fpu.instruction, fpu.data, fpu.mxcsr) = (0x1122_3344_5566, 0x8877_6655_4433, 0x1FA0);
        for (index, register) in fpu.stack.iter_mut().enumerate() {
            *register = std::array::from_fn(|byte| (16 * index + byte) as u8);
        }
        for (index, register) in fpu.ymm.iter_mut().enumerate() {
            *register = std::array::from_fn(|word| (index as u64) << 32 | word as u64 | 1 << 63);
        }
        let mut area = kvm_xsave::default();
        to_kvm(&fpu, true, &mut area);
        assert_eq!(area.region[128], 7, "XSTATE_BV");
        assert_eq!(area.region[6], 0x1FA0, "MXCSR is at byte 24 of the FXSAVE area");
        assert_eq!(from_kvm(&area), fpu);
    }

    #[test]
    fn without_avx_the_high_halves_are_left_alone() {
        let mut fpu = Fpu::default();
        fpu.ymm[3] = [1, 2, 3, 4];
        let mut area = kvm_xsave::default();
        to_kvm(&fpu, false, &mut area);
        assert_eq!(from_kvm(&area).ymm[3], [1, 2, 0, 0]);
    }
}
