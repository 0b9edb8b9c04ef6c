//! What the interrupt fabric counts: requests, deliveries and acknowledges, for statistics and inspector.

use super::ioapic::INPUTS;
use crate::timers::TickCounts;

/// Counters since the machine was built; a reset or a restored state does not touch them.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct InterruptCounts {
    /// Rising edges per line (ISA IRQ or I/O APIC input).
    pub raised: [u64; INPUTS],
    /// Per line: served by the 8259A pair, or sent as a message by the I/O APIC.
    pub delivered: [u64; INPUTS],
    /// Per vector: acknowledged by a processor.
    pub acknowledged: Vec<u64>,
    /// Acknowledges that the 8259A pair answered as spurious.
    pub spurious: u64,
    /// Messages from devices (MSI).
    pub messages: u64,
    /// Interprocessor commands sent.
    pub interprocessor: u64,
    /// Per processor: its local APIC's timer.
    pub timers: Vec<TickCounts>,
}

impl InterruptCounts {
    /// Counters for `cpus` processors.
    pub fn new(cpus: usize) -> InterruptCounts {
        InterruptCounts { timers: vec![TickCounts::default(); cpus], ..InterruptCounts::default() }
    }
}

impl Default for InterruptCounts {
    fn default() -> InterruptCounts {
        InterruptCounts {
            raised: [0; INPUTS],
            delivered: [0; INPUTS],
            acknowledged: vec![0; 256],
            spurious: 0,
            messages: 0,
            interprocessor: 0,
            timers: Vec::new(),
        }
    }
}
