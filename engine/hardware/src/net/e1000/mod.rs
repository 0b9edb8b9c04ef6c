//! Intel 82540EM gigabit Ethernet controller ("e1000"), 8086:100E.
//!
//! PCI/PCI-X Family of Gigabit Ethernet Controllers Software Developer's Manual (Intel 317453, "SDM"), with
//! the Marvell 88E1011 PHY and a 93C46 EEPROM. Registers: 128 KiB of memory at base address register 0, and
//! 8 ports at register 2 that reach the same; interrupt INTA.
//!
//! Frames wait on the [`network::Link`] until the guest gives descriptors, as in the card's FIFO, and what
//! the link cannot take waits in the ring: nothing is lost in between. A TCP segment that the driver asks to
//! be cut is cut only if the far end does not take it whole.
//!
//! Left out: flash, MSI, power management and wake-up, flow control (there is nothing to pause), loopback,
//! writing the EEPROM, interrupt delay timers (the throttle, ITR, is there), the frame check sequence's
//! value (it reads as zero).

mod adapter;
mod chip;
mod eeprom;
mod filter;
mod phy;
mod receive;
mod statistics;
mod transmit;

pub use adapter::E1000;

/// Register offsets, SDM table 13-2.
mod register {
    pub const CTRL: u64 = 0x0000;
    pub const CTRL_ALIAS: u64 = 0x0004;
    pub const STATUS: u64 = 0x0008;
    pub const EECD: u64 = 0x0010;
    pub const EERD: u64 = 0x0014;
    pub const CTRL_EXT: u64 = 0x0018;
    pub const MDIC: u64 = 0x0020;
    pub const FCAL: u64 = 0x0028;
    pub const FCAH: u64 = 0x002C;
    pub const FCT: u64 = 0x0030;
    pub const VET: u64 = 0x0038;
    pub const ICR: u64 = 0x00C0;
    pub const ITR: u64 = 0x00C4;
    pub const ICS: u64 = 0x00C8;
    pub const IMS: u64 = 0x00D0;
    pub const IMC: u64 = 0x00D8;
    pub const RCTL: u64 = 0x0100;
    pub const FCTTV: u64 = 0x0170;
    pub const TXCW: u64 = 0x0178;
    pub const TCTL: u64 = 0x0400;
    pub const TIPG: u64 = 0x0410;
    pub const AIT: u64 = 0x0458;
    pub const LEDCTL: u64 = 0x0E00;
    pub const PBA: u64 = 0x1000;
    pub const FCRTL: u64 = 0x2160;
    pub const FCRTH: u64 = 0x2168;
    pub const RDBAL: u64 = 0x2800;
    pub const RDBAH: u64 = 0x2804;
    pub const RDLEN: u64 = 0x2808;
    pub const RDH: u64 = 0x2810;
    pub const RDT: u64 = 0x2818;
    pub const RDTR: u64 = 0x2820;
    pub const RXDCTL: u64 = 0x2828;
    pub const RADV: u64 = 0x282C;
    pub const TXDMAC: u64 = 0x3000;
    pub const TDBAL: u64 = 0x3800;
    pub const TDBAH: u64 = 0x3804;
    pub const TDLEN: u64 = 0x3808;
    pub const TDH: u64 = 0x3810;
    pub const TDT: u64 = 0x3818;
    pub const TIDV: u64 = 0x3820;
    pub const TXDCTL: u64 = 0x3828;
    pub const TADV: u64 = 0x382C;
    pub const TSPMT: u64 = 0x3830;
    pub const STATISTICS: u64 = 0x4000;
    pub const STATISTICS_LAST: u64 = 0x40FC;
    pub const RXCSUM: u64 = 0x5000;
    pub const MTA: u64 = 0x5200;
    pub const MTA_LAST: u64 = 0x53FC;
    pub const RAL0: u64 = 0x5400;
    pub const RA_LAST: u64 = 0x547C;
    pub const VFTA: u64 = 0x5600;
    pub const VFTA_LAST: u64 = 0x57FC;
    pub const WUC: u64 = 0x5800;
    pub const WUFC: u64 = 0x5808;
    pub const WUS: u64 = 0x5810;
    pub const MANC: u64 = 0x5820;
    pub const IPAV: u64 = 0x5838;
}

/// Interrupt causes, SDM §13.4.17.
mod cause {
    /// A transmit descriptor was written back.
    pub const TXDW: u32 = 1 << 0;
    /// The transmit ring ran empty.
    pub const TXQE: u32 = 1 << 1;
    /// The link's state changed.
    pub const LSC: u32 = 1 << 2;
    /// Few receive descriptors are left.
    pub const RXDMT0: u32 = 1 << 4;
    /// Frames wait, and there are no receive descriptors.
    pub const RXO: u32 = 1 << 6;
    /// Frames came.
    pub const RXT0: u32 = 1 << 7;
    /// An access to the PHY is done.
    pub const MDAC: u32 = 1 << 9;
    /// All there are.
    pub const ALL: u32 = 0x1_FFFF;
}

/// Bytes of a descriptor of either ring.
const DESCRIPTOR_BYTES: u32 = 16;
/// Shortest frame, without its check sequence: shorter ones are padded (IEEE 802.3 §3.2.8).
const SHORTEST_FRAME: usize = 60;
/// Length of a VLAN tag.
const VLAN_TAG: usize = 4;

#[cfg(test)]
mod tests;
