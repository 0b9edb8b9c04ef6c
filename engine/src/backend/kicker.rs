//! The handle with which any thread gets a running vCPU's attention.

use std::fmt;
use std::sync::Arc;

use cpu::{Pins, Signal};

/// Makes a vCPU that is executing guest code look at its [`Pins`]. A backend that polls them needs none.
pub trait Bell: Send + Sync {
    /// After this, the vCPU looks at its pins before it executes guest code for long.
    fn ring(&self);
}

/// Takes control back from one vCPU. Cheap to clone, never blocks for long, and outlives the vCPU.
#[derive(Clone)]
pub struct Kicker {
    pins: Arc<Pins>,
    bell: Option<Arc<dyn Bell>>,
}

impl Kicker {
    /// A kicker for a vCPU that polls `pins` by itself.
    pub fn polled(pins: Arc<Pins>) -> Kicker {
        Kicker { pins, bell: None }
    }

    /// A kicker for a vCPU that looks at `pins` when `bell` rings.
    pub fn with_bell(pins: Arc<Pins>, bell: Arc<dyn Bell>) -> Kicker {
        Kicker { pins, bell: Some(bell) }
    }

    /// The vCPU comes back with [`cpu::Stop::Kicked`], now or, if it is not running, as soon as it runs.
    pub fn kick(&self) {
        self.pins.raise(Signal::Kick);
        self.nudge();
    }

    /// The vCPU looks at its pins. Call it after another signal than [`Signal::Kick`] was raised.
    pub fn nudge(&self) {
        if let Some(bell) = &self.bell {
            bell.ring();
        }
    }

    /// Raises `signal` and makes the vCPU look at it.
    pub fn raise(&self, signal: Signal) {
        self.pins.raise(signal);
        self.nudge();
    }

    /// The pins behind this handle.
    pub fn pins(&self) -> &Arc<Pins> {
        &self.pins
    }
}

impl fmt::Debug for Kicker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Kicker({:#b})", self.pins.word())
    }
}
