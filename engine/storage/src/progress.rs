//! How long work tells how far it is, and hears whether to go on.

/// Called with how much is done, and of how much; answers whether to go on.
pub type Progress<'a> = &'a mut dyn FnMut(u64, u64) -> bool;
