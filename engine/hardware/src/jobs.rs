//! Where a device's slow work is done: not in the vCPU's access that asked for it.

use std::sync::Arc;

/// One piece of work. It must not take the lock of the device that handed it out.
pub type Job = Box<dyn FnOnce() + Send>;

/// The wire over which a device hands out work. The jobs of one wire are done one after the other, in
/// order. A device bounds how many it has handed out.
#[derive(Clone)]
pub struct Jobs {
    worker: Arc<dyn Fn(Job) + Send + Sync>,
    at_once: bool,
}

impl Jobs {
    /// A wire to `worker`, which does jobs in a thread of its own.
    pub fn new(worker: impl Fn(Job) + Send + Sync + 'static) -> Jobs {
        Jobs { worker: Arc::new(worker), at_once: false }
    }

    /// Work is done in the access that asks for it: for tests, and for runs that must repeat exactly.
    pub fn at_once() -> Jobs {
        Jobs { worker: Arc::new(|job| job()), at_once: true }
    }

    /// Whether a job is over when [`Jobs::hand_out`] returns.
    pub fn are_done_at_once(&self) -> bool {
        self.at_once
    }

    /// Hands out a job.
    pub fn hand_out(&self, job: Job) {
        (self.worker)(job);
    }
}
