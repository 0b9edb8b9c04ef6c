//! Network cards: the device's end of a [`network::Link`].

pub mod checksum;
pub mod e1000;
pub mod ne2000;

pub use e1000::E1000;
pub use ne2000::{Ne2000, Rtl8029};
