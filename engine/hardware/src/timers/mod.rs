//! Timers that are chips of their own: the 8254, the real-time clock and the HPET.

pub mod calendar;
pub mod changeover;
pub mod comparator;
pub mod counter;
pub mod hpet;
pub mod lost_ticks;
pub mod pit;
pub mod rtc;

pub use changeover::Changeover;
pub use hpet::Hpet;
pub use lost_ticks::{LostTicks, TickCounts, Ticks};
pub use pit::Pit;
pub use rtc::Rtc;
