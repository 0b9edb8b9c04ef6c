//! What a network card's cable leads to. Knows neither devices nor vCPUs: all it sees are Ethernet frames
//! on a [`Link`].

pub mod cable;
pub mod capture;
pub mod link;
pub mod mac;
pub mod nat;
pub mod shaper;
pub mod switch;
pub mod tap;

pub use cable::{Capacity, End, cable};
pub use capture::{Capture, Recorder};
pub use link::{Counts, Flow, Link, Waker};
pub use mac::Mac;
pub use nat::{Forward, Nat, NatCounts, NatError, Options as NatOptions, Subnet};
pub use shaper::{Conditions, Shaper};
pub use switch::Switch;
pub use tap::{Tap, TapError};
