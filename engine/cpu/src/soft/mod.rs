//! The software CPU: an interpreter over cached decoded blocks.
#![allow(dead_code)] // until the interpreter that uses the state is in

pub mod code_watch;
pub mod control;
pub mod descriptor;
pub mod fault;
pub mod flag_control;
pub mod fpu_control;
pub mod interrupt;
pub mod memory;
pub mod model;
pub mod modes;
pub mod msr;
pub mod operand;
pub mod segmentation;
pub mod stack;
pub mod state;
pub mod syscall;
pub mod system;
pub mod tables;
pub mod task;
#[cfg(test)]
pub mod testing;
pub mod tlb;
pub mod transfer;
pub mod translations;
pub mod walk;

mod blocks;
mod convert;
mod flags;

#[cfg(test)]
mod tests;
