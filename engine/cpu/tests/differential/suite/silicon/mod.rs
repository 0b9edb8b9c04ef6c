//! Every vector and x87 form, 64-bit, one at a time with all of its state, pointers and save areas included: on the
//! software CPU's handlers and on the host's own processor.

mod forms;
pub mod harness;
mod native;
pub mod random;
mod software;
