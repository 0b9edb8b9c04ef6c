//! Timers that are chips of their own: the 8254 and the real-time clock.

pub mod calendar;
pub mod counter;
pub mod pit;
pub mod rtc;

pub use pit::{Pit, PitCounts};
pub use rtc::{Rtc, RtcCounts};
