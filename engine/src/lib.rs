//! Profile to machine to session: backends, scheduler, firmware, statistics. Knows no window.

pub mod backend;
pub mod boot;
pub mod builtin;
pub mod debugger;
pub mod doctor;
pub mod firmware;
pub mod inspect;
pub mod library;
pub mod machine;
pub mod profile;
pub mod resources;
pub mod scheduler;
pub mod session;
pub mod snapshot;
pub mod sound;
pub mod stats;
pub mod trace;

pub use ::network;
pub use cpu::Registers;
pub use hardware::input::Key;
pub use library::{Library, LibraryError};
pub use profile::Profile;
pub use session::{Ending, Event, Outlets, RunState, Session};
pub use storage::kind;
