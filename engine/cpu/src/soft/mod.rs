//! The software CPU: an interpreter over cached decoded blocks.
#![allow(dead_code)] // until the interpreter that uses the state is in

pub mod code_watch;
pub mod descriptor;
pub mod fault;
pub mod memory;
pub mod model;
pub mod modes;
pub mod operand;
pub mod segmentation;
pub mod stack;
pub mod state;
#[cfg(test)]
pub mod testing;
pub mod tlb;
pub mod translations;
pub mod walk;

mod blocks;
mod convert;
mod flags;
