//! A vCPU whose access to a disk takes longer than the disk may be used: it gives its worker back and rests, instead of
//! sleeping on it.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::entity::{Entity, Next};

thread_local! {
    /// Whom this worker runs.
    static RUNNING: RefCell<Option<Arc<Entity>>> = const { RefCell::new(None) };
    /// Until when it shall rest after this slice.
    static REST: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Ends the slice of the vCPU that runs on this thread, and lets it rest for `pause`; `false` on a thread that runs
/// none, which may sleep itself.
pub fn rest_current(pause: Duration) -> bool {
    RUNNING.with_borrow(|running| {
        let Some(entity) = running else { return false };
        let until = Instant::now() + pause;
        REST.set(Some(REST.get().map_or(until, |earlier| earlier.max(until))));
        entity.run.kick();
        true
    })
}

/// Runs a slice; what came of it, and until when the entity shall rest.
pub(super) fn while_running(entity: &Arc<Entity>, slice: impl FnOnce() -> Next) -> (Next, Option<Instant>) {
    RUNNING.set(Some(entity.clone()));
    let next = slice();
    RUNNING.set(None);
    (next, REST.take())
}
