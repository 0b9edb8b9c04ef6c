//! NE2000: a National DP8390 with 16 KiB of memory of its own, as an ISA card and as a PCI one (Realtek RTL8029AS).
//!
//! DP8390D datasheet (National, 1993); RTL8029AS datasheet (Realtek, 1997); the card itself is the one of National's
//! application note AN-729. 32 ports: the DP8390's registers, the data port at 0x10, the reset port at 0x18. ISA: 0x300 and
//! interrupt request 3, as the card's jumpers stood when it was sold; PCI: 10EC:8029, base address register 0, INTA.
//!
//! Frames wait on the [`network::Link`] until the ring has room, and in the card until the link takes them: it never
//! overruns. See `network.md`.

mod card;
mod dp8390;
mod isa;
mod pci;

pub use isa::Ne2000;
pub use pci::Rtl8029;

#[cfg(test)]
mod tests;
