//! Network cards: the device's end of a [`network::Link`].

pub mod checksum;
pub mod e1000;

pub use e1000::E1000;
