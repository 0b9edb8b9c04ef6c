//! What the guest's monitor and loudspeaker are: pictures a video adapter scans out, frames made of them, and their
//! exchange with whoever shows them; sounds, and who hears them. Knows nothing of machines.

pub mod exchange;
pub mod font;
pub mod frame;
pub mod image;
mod line_graphics;
pub mod picture;
pub mod scanout;
pub mod sound;
pub mod text;

pub use exchange::{FrameReader, FrameWriter, exchange};
pub use frame::Frame;
pub use picture::{Attributes, Cursor, Picture, Pixels, Text};
pub use scanout::render;
pub use text::screen_text;
