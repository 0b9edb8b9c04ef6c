//! What a network card's cable leads to. Knows neither devices nor vCPUs: all it sees are Ethernet frames
//! on a [`Link`].

pub mod cable;
pub mod link;
pub mod mac;
pub mod nat;

pub use cable::{Capacity, End, cable};
pub use link::{Counts, Flow, Link, Waker};
pub use mac::Mac;
pub use nat::{Forward, Nat, NatCounts, NatError, Options as NatOptions, Subnet};
