//! What a guest can see of the system half, tested on a flat machine.

mod control;
mod core;
mod interrupts;
mod machine;
mod memory;
mod paging;
mod tasks;
mod transfers;
