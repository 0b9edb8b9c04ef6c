//! What a guest can see of the system half, tested on a flat machine.

mod control;
mod control_points;
mod core;
mod debugging;
mod exact;
mod features;
mod interrupts;
mod machine;
mod memory;
mod monitor;
mod mwait;
mod paging;
mod silicon;
mod spaces;
mod tasks;
mod transfers;
