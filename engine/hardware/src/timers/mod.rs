//! Timers that are chips of their own: the 8254 and the real-time clock.

pub mod calendar;
pub mod counter;
pub mod lost_ticks;
pub mod pit;
pub mod rtc;

pub use lost_ticks::{LostTicks, TickCounts, Ticks};
pub use pit::Pit;
pub use rtc::Rtc;
