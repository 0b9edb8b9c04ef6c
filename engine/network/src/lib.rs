//! What a network card's cable leads to. Knows neither devices nor vCPUs: all it sees are Ethernet frames
//! on a [`Link`].

pub mod cable;
pub mod link;
pub mod mac;

pub use cable::{Capacity, End, cable};
pub use link::{Counts, Flow, Link, Waker};
pub use mac::Mac;
