//! One event of a trace, small enough that a million of them cost nothing to keep.

use hardware::bus::Traced;
use hardware::{Space, Width};

/// Something that happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// Guest time in nanoseconds.
    pub at_ns: u64,
    /// The vCPU it concerns, or [`Event::NO_CPU`].
    pub cpu: u8,
    /// What.
    pub what: What,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// The guest touched a port or device memory.
    Access {
        /// Port or memory.
        space: Space,
        /// The address.
        address: u64,
        /// Width of the guest's access.
        width: Width,
        /// What was read or written.
        value: u64,
        /// Whether the guest wrote.
        write: bool,
        /// Whose window, or [`Event::NO_LANE`].
        lane: u16,
        /// Offset in that window.
        offset: u32,
    },
    /// An interrupt line rose.
    Raised {
        /// ISA IRQ or I/O APIC input.
        line: u8,
    },
    /// The I/O APIC sent a message for a line.
    Delivered {
        /// The input.
        line: u8,
        /// The vector.
        vector: u8,
    },
    /// A vCPU acknowledged an interrupt.
    Acknowledged {
        /// The vector.
        vector: u8,
    },
    /// A local APIC's timer expired.
    LocalTimer {
        /// Expirations that came too late to be told apart from this one.
        merged: u32,
    },
    /// A device's deadline was kept.
    TimerEdge {
        /// Whose alarm.
        alarm: u8,
        /// How late, in guest nanoseconds.
        late_ns: u64,
    },
    /// A vCPU gave its worker back.
    Slice {
        /// Host time it ran, in nanoseconds.
        ran_ns: u64,
        /// Why it came back.
        end: SliceEnding,
    },
}

/// Why a vCPU came back to the monitor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SliceEnding {
    /// It halted.
    Halted,
    /// It spun and gave way.
    GaveWay,
    /// The monitor wanted control back.
    Taken,
    /// A breakpoint or a step.
    Debugged,
    /// Triple fault.
    Shutdown,
}

impl SliceEnding {
    /// In words.
    pub fn text(self) -> &'static str {
        match self {
            SliceEnding::Halted => "halted",
            SliceEnding::GaveWay => "gave way",
            SliceEnding::Taken => "taken back by the monitor",
            SliceEnding::Debugged => "stopped by the debugger",
            SliceEnding::Shutdown => "shut down",
        }
    }
}

impl Event {
    /// An access at this guest time.
    pub fn access(at_ns: u64, access: &Traced) -> Event {
        let (lane, offset) = access.window.unwrap_or((usize::from(Event::NO_LANE), 0));
        let what = What::Access {
            space: access.space,
            address: access.address,
            width: access.width,
            value: access.value,
            write: access.write,
            lane: lane.min(usize::from(Event::NO_LANE)) as u16,
            offset: offset.min(u64::from(u32::MAX)) as u32,
        };
        Event { at_ns, cpu: Event::cpu(access.cpu), what }
    }

    /// A vCPU's number, as far as it goes.
    pub fn cpu(cpu: usize) -> u8 {
        cpu.min(254) as u8
    }

    /// Concerns no vCPU.
    pub const NO_CPU: u8 = u8::MAX;
    /// Fell into nobody's window.
    pub const NO_LANE: u16 = u16::MAX;
}
