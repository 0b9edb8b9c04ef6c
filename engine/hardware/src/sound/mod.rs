//! Sound devices: each plays into a source of `display`'s mixer, at guest time.

pub mod ac97;
pub mod loudspeaker;
pub mod opl3;
pub mod pace;
mod pcm;
pub mod sb16;
pub mod speaker;
#[cfg(test)]
pub mod testing;

pub use ac97::Ac97;
pub use loudspeaker::Loudspeaker;
pub use pace::Pace;
pub use sb16::{Sb16, Sockets};
pub use speaker::Speaker;

/// The longest a device that sounds waits before it plays what has sounded: the mixer counts on it.
pub const PERIOD_NS: u64 = 10_000_000;
