//! The host's interval timer: ends slices, so that control always comes back to the monitor, and ends the
//! rest of machines that were at their cap.

use super::Scheduler;

/// Body of the timer thread: sleeps until the first slice or rest is over, or for ever while there is none.
pub fn keep(scheduler: &Scheduler) {
    let mut state = scheduler.state.lock();
    loop {
        let now_ns = scheduler.now_ns();
        let woken = state.end_rests(now_ns);
        for entity in woken {
            scheduler.tell_workers(&state, &entity);
        }
        let mut running = std::mem::take(&mut state.running);
        for slice in &mut running {
            let (granted_ns, why) = state.slice_of(&slice.entity);
            slice.entity.ends_at(slice.timed_from_ns + granted_ns, why);
            if slice.entity.end_if_due(now_ns) {
                // Should the kick be missed, another follows.
                slice.timed_from_ns = now_ns;
            }
        }
        let slices = running.iter().map(|slice| slice.timed_from_ns + state.slice_of(&slice.entity).0).min();
        state.running = running;
        state.timer_ns = slices.into_iter().chain(state.first_rest_end()).min();
        match state.timer_ns {
            None => scheduler.sooner.wait(&mut state),
            Some(timer_ns) => {
                scheduler.sooner.wait_until(&mut state, scheduler.instant(timer_ns));
            }
        }
    }
}
