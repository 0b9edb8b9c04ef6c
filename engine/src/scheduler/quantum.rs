//! The host's interval timer: ends slices, so that control always comes back to the monitor.

use std::time::Instant;

use super::Scheduler;

/// Body of the timer thread: sleeps until the first slice is over, or for ever while nothing runs.
pub fn keep(scheduler: &Scheduler) {
    let mut state = scheduler.state.lock();
    loop {
        let now = Instant::now();
        let mut running = std::mem::take(&mut state.running);
        for (entity, begun) in &mut running {
            if now >= *begun + state.slice_of(entity) {
                entity.preempt();
                *begun = now;
            }
        }
        state.running = running;
        state.timer = state.running.iter().map(|(entity, begun)| *begun + state.slice_of(entity)).min();
        match state.timer {
            None => scheduler.sooner.wait(&mut state),
            Some(timer) => {
                scheduler.sooner.wait_until(&mut state, timer);
            }
        }
    }
}
