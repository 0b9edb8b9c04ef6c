//! What a worker does for the vCPU it runs, on its own thread: ends its slice when its time is up; and lets it rest,
//! instead of sleeping on a disk that it may not use faster.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::entity::{Entity, Next};

thread_local! {
    /// Whom this worker runs, and where the scheduler's time begins.
    static RUNNING: RefCell<Option<(Arc<Entity>, Instant)>> = const { RefCell::new(None) };
    /// Until when it shall rest after this slice.
    static REST: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Ends the slice of the vCPU that runs on this thread, and lets it rest for `pause`; `false` on a thread that runs
/// none, which may sleep itself.
pub fn rest_current(pause: Duration) -> bool {
    RUNNING.with_borrow(|running| {
        let Some((entity, _)) = running else { return false };
        let until = Instant::now() + pause;
        REST.set(Some(REST.get().map_or(until, |earlier| earlier.max(until))));
        entity.run.kick();
        true
    })
}

/// Ends the slice of the vCPU that runs on this thread if its time is up, with no other thread's help.
pub fn control_point() {
    RUNNING.with_borrow(|running| {
        if let Some((entity, epoch)) = running {
            entity.end_if_due(epoch.elapsed().as_nanos() as u64);
        }
    });
}

/// Runs a slice; what came of it, and until when the entity shall rest.
pub(super) fn while_running(
    entity: &Arc<Entity>,
    epoch: Instant,
    slice: impl FnOnce() -> Next,
) -> (Next, Option<Instant>) {
    RUNNING.set(Some((entity.clone(), epoch)));
    let next = slice();
    RUNNING.set(None);
    (next, REST.take())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::super::{Account, Allotment, Run, SliceEnd};
    use super::*;

    /// Comes by a control point again and again until it is kicked; there is no other thread.
    #[derive(Default)]
    struct Alone {
        kicks: AtomicU64,
        points: AtomicU64,
    }

    impl Run for Alone {
        fn run_slice(&self) -> Next {
            while self.kicks.load(Ordering::Relaxed) == 0 && self.points.load(Ordering::Relaxed) < 1000 {
                self.points.fetch_add(1, Ordering::Relaxed);
                control_point();
            }
            Next::Ready
        }

        fn kick(&self) {
            self.kicks.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_slice_ends_at_the_first_control_point_after_its_time_with_nobodys_help() {
        for (ends_ns, points, cut) in [(0, 1, Some(SliceEnd::Cap)), (u64::MAX, 1000, None)] {
            let alone = Arc::new(Alone::default());
            let entity = Entity::new(alone.clone(), &Arc::new(Account::new(Allotment::default())));
            entity.ends_at(ends_ns, SliceEnd::Cap);
            let (next, _) = while_running(&entity, Instant::now(), || alone.run_slice());
            assert_eq!((next, alone.points.load(Ordering::Relaxed)), (Next::Ready, points));
            assert_eq!(entity.status(|status| status.cut), cut);
            assert_eq!(entity.slices().1, u64::from(cut.is_some()), "counted once");
        }
        control_point(); // whoever runs nobody ends nothing
    }
}
