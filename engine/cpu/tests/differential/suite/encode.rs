//! One random encoding of a template: prefixes, registers, addressing, displacement, immediate.

use iced_x86::{Code, Decoder, DecoderOptions, Instruction, OpKind, Register};

use super::case::Mode;
use super::forms::Template;
use super::random::Random;
use super::registers::{Start, base};
use super::window::{self, BASE, BYTES};

/// An instruction, and where in the window its memory operand is if registers are as at the start.
pub struct Encoded {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// The same decoded.
    pub instruction: Instruction,
    /// Offset of the operand in the window.
    pub operand: Option<usize>,
    /// Where the immediate is: offset and bytes.
    pub immediate: Option<(usize, usize)>,
}

const SEGMENTS: [u8; 6] = [0x26, 0x2E, 0x36, 0x3E, 0x64, 0x65];

/// Encodes; `None` if chance made something else of it.
pub fn encode(
    template: &Template,
    code: Code,
    start: &Start,
    mode: Mode,
    ip: u64,
    random: &mut Random,
) -> Option<Encoded> {
    let mut bytes = prefixes(template, random);
    let rex = if mode == Mode::Bits64 && random.one_in(2) { random.below(8) as u8 } else { 0 };
    let vvvv = if random.one_in(3) { 0 } else { random.below(16) as u8 };
    let mut modrm = template.modrm.unwrap_or(0);
    let mut tail = Vec::new();
    if template.is_memory() {
        modrm = modrm & 0x38 | (random.below(3) as u8) << 6 | address(start, rex, random);
        tail.push(random.next() as u8 & 0xC0 | random.below(8) as u8 | address(start, rex, random) << 3);
        if random.one_in(2) {
            tail[0] = tail[0] & 0xF8 | address(start, rex, random);
        }
    }
    bytes.extend(template.head(mode, rex, vvvv, modrm));
    if bytes.len() + 1 > 15 {
        return None;
    }
    bytes.extend(&tail);
    let near = random.one_in(3);
    bytes.extend((0..14).map(|n| if near && n > 0 { 0 } else { random.next() as u8 }));
    let mut decoder = Decoder::with_ip(mode.bits(), &bytes, ip, DecoderOptions::NONE);
    let mut instruction = decoder.decode();
    if instruction.code() != code {
        return None;
    }
    let offsets = decoder.get_constant_offsets(&instruction);
    bytes.truncate(instruction.len());
    if offsets.immediate_size() > 0 && random.one_in(2) {
        let value = random.value().to_le_bytes();
        let at = offsets.immediate_offset();
        bytes[at..at + offsets.immediate_size()].copy_from_slice(&value[..offsets.immediate_size()]);
    }
    let mut operand = operand(&instruction, start, mode);
    if let Some(linear) = operand
        && offsets.displacement_size() >= 2
        && !random.one_in(12)
    {
        let wanted = BASE + window::data_offset(random);
        let at = offsets.displacement_offset();
        let place = &mut bytes[at..at + offsets.displacement_size()];
        let mut displacement = [0; 8];
        displacement[..place.len()].copy_from_slice(place);
        let new = u64::from_le_bytes(displacement).wrapping_add(wanted.wrapping_sub(linear));
        place.copy_from_slice(&new.to_le_bytes()[..place.len()]);
        operand = Some(wanted);
    }
    instruction = Decoder::with_ip(mode.bits(), &bytes, ip, DecoderOptions::NONE).decode();
    if instruction.code() != code || instruction.len() != bytes.len() {
        return None;
    }
    let operand = operand.map(|linear| linear.wrapping_sub(BASE)).filter(|&at| at < BYTES as u64);
    let immediate =
        (offsets.immediate_size() > 0).then(|| (offsets.immediate_offset(), offsets.immediate_size()));
    Some(Encoded { bytes, instruction, operand: operand.map(|at| at as usize), immediate })
}

fn prefixes(template: &Template, random: &mut Random) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(30);
    if random.one_in(6) {
        bytes.push(random.pick(&SEGMENTS));
    }
    if random.one_in(8) {
        bytes.push(0x67);
    }
    let lock = if template.is_memory() && template.vex.is_none() { 8 } else { 200 };
    if random.one_in(lock) {
        bytes.push(0xF0);
    }
    if random.one_in(60) {
        bytes.push(random.pick(&[0x66, 0xF2, 0xF3, 0x66]));
    }
    bytes
}

/// A base register's three bits: one that is a pointer, mostly.
fn address(start: &Start, rex: u8, random: &mut Random) -> u8 {
    for _ in 0..6 {
        let register = random.below(8) as u8;
        if start.pointers >> (register | (rex & 1) << 3) & 1 != 0 {
            return register;
        }
    }
    random.below(8) as u8
}

/// Linear address of the memory operand with registers as at the start.
pub fn operand(instruction: &Instruction, start: &Start, mode: Mode) -> Option<u64> {
    let at = (0..instruction.op_count()).find(|&n| instruction.op_kind(n) == OpKind::Memory)?;
    instruction.virtual_address(at, 0, |register, _, _| {
        if register.is_segment_register() {
            let index = register as usize - Register::ES as usize;
            return Some(base(mode, &start.selectors, &start.bases, index));
        }
        let value = register
            .is_gpr()
            .then(|| start.general[register.full_register() as usize - Register::RAX as usize])?;
        Some(match register.size() {
            2 => value & 0xFFFF,
            4 => value & 0xFFFF_FFFF,
            _ => value,
        })
    })
}
