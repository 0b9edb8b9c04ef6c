//! Small real-mode guests under KVM. Each is skipped, with the reason, where KVM cannot be used.

mod access;
mod board;
mod debugging;
mod decoding;
mod interrupts;
mod kicks;
mod layout;
mod long_mode;
mod state;
