//! Keyboard, mouse, and the 8042 controller between them and the guest.

pub mod controller;
pub mod i8042;
pub mod key;
pub mod keyboard;
pub mod mouse;
pub mod typing;
pub mod vmware;

pub use i8042::I8042;
pub use key::Key;
pub use keyboard::Leds;
pub use vmware::VmwarePointer;
