//! The instruction a system case tries, and what it finds in registers and on the stack.

use super::random::Random;
use super::system::{CODE, Guest, Kind, any_selector};

/// What system cases are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topic {
    /// Segment loads, LAR, LSL, VERR, VERW, LLDT, LTR.
    Segments,
    /// Far jumps, calls, returns, IRET, gates, task switches, SYSCALL and SYSENTER.
    Transfers,
    /// INT n and exceptions through gates.
    Interrupts,
    /// Control, debug and model-specific registers, descriptor-table registers.
    Control,
}

/// Puts the code of a case at [`CODE`].
pub fn write(guest: &mut Guest, topic: Topic, random: &mut Random) {
    let code = match topic {
        Topic::Segments => segments(guest, random),
        Topic::Transfers => transfers(guest, random),
        Topic::Interrupts => interrupts(guest, random),
        Topic::Control => control(guest, random),
    };
    guest.put(CODE, &code);
}

fn prefixed(guest: &Guest, random: &mut Random, code: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    match random.below(6) {
        0 => bytes.push(0x66),
        1 if guest.kind == Kind::Long => bytes.push(0x48),
        _ => {}
    }
    bytes.extend_from_slice(code);
    bytes
}

fn segments(guest: &mut Guest, random: &mut Random) -> Vec<u8> {
    let selector = if random.one_in(12) { random.next() as u16 } else { any_selector(random) };
    guest.registers.general[0] = guest.registers.general[0] & !0xFFFF | u64::from(selector);
    let forms: [&[u8]; 17] = [
        &[0x8E, 0xC0],
        &[0x8E, 0xC8],
        &[0x8E, 0xD0],
        &[0x8E, 0xD8],
        &[0x8E, 0xE0],
        &[0x8E, 0xE8],
        &[0x0F, 0x02, 0xC8],
        &[0x0F, 0x03, 0xC8],
        &[0x0F, 0x00, 0xE0],
        &[0x0F, 0x00, 0xE8],
        &[0x0F, 0x00, 0xD0],
        &[0x0F, 0x00, 0xD8],
        &[0x0F, 0x00, 0xC0],
        &[0x0F, 0x00, 0xC8],
        &[0x63, 0xC8],
        &[0x50, 0x0F, 0xA1],
        &[0x50, 0x0F, 0xA9],
    ];
    let form = random.pick(&forms);
    if form[0] == 0x50 { form.to_vec() } else { prefixed(guest, random, form) }
}

/// A place to go to: code, or nowhere.
fn offset(random: &mut Random) -> u32 {
    if random.one_in(10) { random.value() as u32 } else { CODE as u32 + 0x100 + random.below(64) as u32 }
}

fn push_frame(guest: &mut Guest, words: &[u64], bytes: usize) {
    let mut at = guest.registers.general[4];
    for word in words {
        guest.put(at, &word.to_le_bytes()[..bytes]);
        at += bytes as u64;
    }
}

fn transfers(guest: &mut Guest, random: &mut Random) -> Vec<u8> {
    let (selector, offset) = (any_selector(random), offset(random));
    let wide = random.one_in(2);
    let native_wide = guest.kind.bits() != 16;
    let prefix: &[u8] = if wide != native_wide { &[0x66] } else { &[] };
    let bytes = if wide { 4 } else { 2 };
    match random.below(8) {
        0 | 1 if guest.kind != Kind::Long => {
            let opcode = random.pick(&[0x9A, 0xEA]);
            [prefix, &[opcode], &offset.to_le_bytes()[..bytes], &selector.to_le_bytes()].concat()
        }
        0..=2 => {
            // through memory at [BX], [EBX] or [RBX]
            guest.registers.general[3] = 0xD100;
            let pointer = [&offset.to_le_bytes()[..bytes], &selector.to_le_bytes()].concat();
            guest.put(0xD100, &pointer);
            let modrm = random.pick(&[0x18, 0x28]) | if guest.kind.bits() == 16 { 7 } else { 3 };
            [prefix, &[0xFF, modrm]].concat()
        }
        3 | 4 => {
            let selector =
                if random.one_in(3) { any_selector(random) } else { random.pick(&[0x08, 0x1B, 0x0B, 0x1B]) };
            let stack =
                if random.one_in(3) { any_selector(random) } else { random.pick(&[0x23, 0x10, 0x23]) };
            let frame = [offset.into(), selector.into(), 0x9A00 + random.below(64), stack.into()];
            push_frame(guest, &frame, bytes);
            if random.one_in(2) {
                [prefix, &[0xCB]].concat()
            } else {
                push_frame(guest, &[offset.into(), selector.into()], bytes);
                [prefix, &[0xCA, 0, 0]].concat()
            }
        }
        5 | 6 => {
            let is_quad = guest.kind == Kind::Long && random.one_in(2);
            let bytes = if is_quad { 8 } else { bytes };
            let selector =
                if random.one_in(3) { any_selector(random) } else { random.pick(&[0x08, 0x1B, 0x1B]) };
            let stack =
                if random.one_in(3) { any_selector(random) } else { random.pick(&[0x23, 0x10, 0x23]) };
            let mut flags = random.next() & 0x7CD5 | 2;
            if random.one_in(4) {
                flags |= 1 << 17;
            }
            let data =
                |random: &mut Random| if random.one_in(4) { any_selector(random) } else { 0x23 }.into();
            let frame = [
                u64::from(offset),
                selector.into(),
                flags,
                0x9A00 + random.below(64),
                stack.into(),
                data(random),
                data(random),
                data(random),
                data(random),
            ];
            push_frame(guest, &frame, bytes);
            if random.one_in(8) {
                guest.registers.rflags |= 1 << 14;
                guest.put(0x5400, &any_selector(random).to_le_bytes());
            }
            let rex: &[u8] = if is_quad { &[0x48] } else { prefix };
            [rex, &[0xCF]].concat()
        }
        _ => {
            let sysret: &[u8] = &[0x48, 0x0F, 0x07];
            guest.registers.general[1] = CODE + 0x180;
            guest.registers.general[2] = CODE + 0x1C0;
            random.pick(&[&[0x0F, 0x05], &[0x0F, 0x34], &[0x0F, 0x35], &[0x0F, 0x07], sysret]).to_vec()
        }
    }
}

fn interrupts(guest: &mut Guest, random: &mut Random) -> Vec<u8> {
    guest.registers.general[1] = 0;
    match random.below(8) {
        0 => vec![0xCC],
        1 if guest.kind != Kind::Long => vec![0xCE],
        2 => vec![0x0F, 0x0B],
        3 => vec![0xF7, 0xF1],
        4 => vec![0xF1],
        _ => vec![0xCD, random.pick(&[0, 3, 4, 8, 13, 14]) | random.next() as u8 & 0x3F],
    }
}

/// Instructions of ring 0 and I/O that need nothing but what RBX and RDX name.
const PLAIN: [&[u8]; 30] = [
    &[0x0F, 0x01, 0x3B], // INVLPG
    &[0x0F, 0x01, 0x3F],
    &[0x0F, 0x08],                   // INVD
    &[0x0F, 0x09],                   // WBINVD
    &[0xFA],                         // CLI
    &[0xFB],                         // STI
    &[0xF4],                         // HLT
    &[0x0F, 0x01, 0xCA],             // CLAC
    &[0x0F, 0x01, 0xCB],             // STAC
    &[0x0F, 0x01, 0xF8],             // SWAPGS
    &[0x66, 0x0F, 0x38, 0x82, 0x03], // INVPCID
    &[0x66, 0x0F, 0x38, 0x82, 0x07],
    &[0xE4, 0x93], // IN and OUT
    &[0xE5, 0x93],
    &[0x66, 0xE5, 0x93],
    &[0xE6, 0x93],
    &[0xE7, 0x93],
    &[0x66, 0xE7, 0x93],
    &[0xEC],
    &[0xED],
    &[0x66, 0xED],
    &[0xEE],
    &[0xEF],
    &[0x66, 0xEF],
    &[0x6C], // INS and OUTS
    &[0x6D],
    &[0x66, 0x6D],
    &[0x6E],
    &[0x6F],
    &[0x66, 0x6F],
];

fn plain(guest: &mut Guest, random: &mut Random) -> Vec<u8> {
    let general = &mut guest.registers.general;
    general[0] = general[0] & !0xFFFF_FFFF | random.below(5); // a kind of INVPCID
    (general[3], general[6], general[7]) = (0xD100, 0xD140, 0xD180);
    general[2] = 0x93;
    let context = if random.one_in(3) { random.below(2) << 12 } else { 0 };
    guest.put(0xD100, &context.to_le_bytes());
    guest.put(0xD108, &random.value().to_le_bytes());
    random.pick(&PLAIN).to_vec()
}

fn control(guest: &mut Guest, random: &mut Random) -> Vec<u8> {
    if random.one_in(3) {
        return plain(guest, random);
    }
    let register = random.pick(&[0u8, 0, 0, 2, 3, 4, 4, 4, 8, 1, 5]);
    let modrm = 0xC0 | (register & 7) << 3;
    let rex: &[u8] = if register >= 8 && guest.kind == Kind::Long { &[0x44] } else { &[] };
    match random.below(12) {
        0..=3 => {
            let now = match register {
                0 => guest.registers.cr0,
                3 => guest.registers.cr3,
                4 => guest.registers.cr4,
                _ => random.value(),
            };
            let flip = |random: &mut Random| {
                let bits = if random.one_in(4) { 64 } else { 32 };
                1u64 << random.below(bits)
            };
            let value = now ^ flip(random) ^ if random.one_in(2) { flip(random) } else { 0 };
            guest.registers.general[0] = value;
            [rex, &[0x0F, 0x22, modrm]].concat()
        }
        4 => [rex, &[0x0F, 0x20, modrm]].concat(),
        5 => {
            guest.registers.general[0] = random.value();
            if random.one_in(2) {
                guest.registers.general[0] &= 0xFFFF_FFFF;
            }
            vec![0x0F, 0x23, 0xC0 | (random.below(8) as u8) << 3]
        }
        6 => vec![0x0F, 0x21, 0xC0 | (random.below(8) as u8) << 3],
        7 => random.pick(&[&[0x0F, 0x01, 0xF0], &[0x0F, 0x01, 0xE0], &[0x0F, 0x06, 0x90]]).to_vec(),
        8 | 9 => {
            let msrs = [
                0x174,
                0x175,
                0x176,
                0x277,
                0xC000_0080,
                0xC000_0081,
                0xC000_0082,
                0xC000_0083,
                0xC000_0084,
                0xC000_0100,
                0xC000_0101,
                0xC000_0102,
                0x1234_5678,
            ];
            guest.registers.general[1] = random.pick(&msrs);
            let value = random.value();
            guest.registers.general[0] = value & 0xFFFF_FFFF;
            guest.registers.general[2] = if random.one_in(2) { value >> 32 } else { value >> 63 };
            vec![0x0F, random.pick(&[0x30, 0x32, 0x30])]
        }
        10 => {
            guest.registers.general[3] = 0xD100;
            let bytes: [u8; 10] = std::array::from_fn(|_| random.next() as u8);
            guest.put(0xD100, &bytes);
            let field = random.pick(&[0x10u8, 0x18, 0x00, 0x08]);
            vec![0x0F, 0x01, field | if guest.kind.bits() == 16 { 7 } else { 3 }]
        }
        _ => {
            guest.registers.general[1] = random.pick(&[0, 0, 0, 1]);
            guest.registers.general[0] = random.below(16);
            guest.registers.general[2] = 0;
            vec![0x0F, 0x01, random.pick(&[0xD1, 0xD0])]
        }
    }
}
