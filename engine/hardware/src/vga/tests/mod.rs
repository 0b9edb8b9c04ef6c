//! What a guest and a person can see of the VGA, chip and card.

mod card;
mod planes;
mod ports;
mod registers;
mod screens;
mod text;

use display::Picture;

use super::scan::{Linear, scan};
use super::*;

/// Linear memory for chip tests: every byte is told by its address.
struct Pattern;

impl Linear for Pattern {
    fn read(&self, address: u64, bytes: &mut [u8]) {
        for (address, byte) in (address..).zip(bytes) {
            *byte = pattern(address);
        }
    }
}

fn pattern(address: u64) -> u8 {
    (address.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8
}

fn picture(vga: &Vga) -> Picture {
    scan(vga, &Pattern, 0)
}

fn set_indexed(vga: &mut Vga, port: u16, first: u8, values: &[u8]) {
    for (index, &value) in (first..=0xFF).zip(values) {
        vga.port_write(port, index);
        vga.port_write(port + 1, value);
    }
}
