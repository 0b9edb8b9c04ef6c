//! The software CPU: an interpreter over cached decoded blocks.
#![allow(dead_code)] // until the interpreter that uses the state is in

pub mod code_watch;
pub mod fault;
pub mod state;
pub mod tlb;

mod blocks;
mod convert;
mod flags;
