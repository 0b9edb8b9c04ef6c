//! What the guest's monitor is: pictures a video adapter scans out, frames made of them, and their
//! exchange with whoever shows them. Knows nothing of machines.

pub mod frame;
pub mod picture;

pub use frame::Frame;
pub use picture::{Attributes, Picture, Pixels, Text};
