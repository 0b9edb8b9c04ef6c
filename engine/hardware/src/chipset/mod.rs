//! The chipset: host bridge, ISA bridge, power management, A20 gate, and the system ROM.

pub mod a20;
pub mod i440fx;
pub mod piix3;
pub mod power;
pub mod rom;

#[cfg(test)]
mod tests;
