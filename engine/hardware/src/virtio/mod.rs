//! Virtio 1.2 devices over PCI: the transport that all share, and each kind behind it.
//!
//! [`function`] is the PCI function, [`transport`] its common registers, [`queue`] and [`chain`] the rings;
//! a kind of device implements [`Kind`]. A guest that breaks the rules of the rings gets its device set to
//! "needs reset" and nothing else happens.

pub mod balloon;
pub mod block;
pub mod chain;
pub mod console;
pub mod entropy;
pub mod function;
pub mod gpu;
pub mod input;
pub mod net;
pub mod queue;
pub mod sound;
#[cfg(test)]
pub mod testing;
pub mod transport;

pub use balloon::Balloon;
pub use block::Block;
pub use chain::{Buffer, Chain, Violation};
pub use console::Console;
pub use entropy::Entropy;
pub use function::{Identity, Io, Kind, VirtioPci};
pub use gpu::Gpu;
pub use input::Input;
pub use net::Net;
pub use sound::Sound;
