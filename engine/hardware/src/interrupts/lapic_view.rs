//! What a local APIC holds, register by register, to be looked at. Source: Intel SDM volume 3, table 11-1.

use serde::Serialize;

/// A local APIC at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LapicView {
    /// Its number.
    pub id: u32,
    /// "off", "xAPIC" or "x2APIC".
    pub mode: &'static str,
    /// Whether software has enabled it (spurious-interrupt vector register, bit 8).
    pub is_enabled: bool,
    /// Task priority.
    pub tpr: u8,
    /// Processor priority.
    pub ppr: u8,
    /// Logical destination.
    pub ldr: u32,
    /// Destination format.
    pub dfr: u32,
    /// Spurious-interrupt vector.
    pub svr: u32,
    /// Error status.
    pub esr: u32,
    /// Interrupt command.
    pub icr: u64,
    /// Local vector table: timer, thermal sensor, performance counters, LINT0, LINT1, error.
    pub lvt: [u32; 6],
    /// Vectors that are requested (IRR), lowest first.
    pub requested: Vec<u8>,
    /// Vectors that are being served (ISR).
    pub in_service: Vec<u8>,
    /// Vectors that are level triggered (TMR).
    pub level_triggered: Vec<u8>,
    /// The timer's mode ([`super::TimerMode::name`]).
    pub timer_mode: &'static str,
    /// What its timer counts down from.
    pub timer_initial: u32,
    /// Where it is.
    pub timer_current: u32,
    /// Divide configuration.
    pub timer_divide: u32,
    /// The time-stamp counter's value at which it fires, in that mode.
    pub tsc_deadline: u64,
}
