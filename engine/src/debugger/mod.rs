//! Stopping a machine where a person wants: conditions, steps, and the way back.
//!
//! A vCPU, a bus or a timer that meets something asks the [`Lookout`], which counts, and says stop: nothing of the
//! machine runs on, the supervisor holds it and tells its owner why ([`Stopped`]). All is set while the machine is
//! held, so that every vCPU looks for the same.

mod condition;
pub mod gdb;
mod history;
mod lookout;
mod plan;
mod stopped;
pub mod words;

pub use condition::{Access, Condition, ExitKind, InterruptSource, MOST_CONDITIONS, StopCondition};
pub use history::{GRID, History, HistoryLimits};
pub use lookout::{CpuWatch, Lookout, Watching};
pub use plan::{CpuDebug, Goal, stack_pointer};
pub use stopped::{Met, Stopped};
