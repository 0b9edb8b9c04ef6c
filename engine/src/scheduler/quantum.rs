//! The host's interval timer: ends slices, so that control always comes back to the monitor.

use std::time::{Duration, Instant};

use super::{QUANTUM, Scheduler};

/// Longest slice while nobody waits: samples are taken and commands seen at least this often.
const UNCONTENDED: Duration = Duration::from_millis(20);

/// Body of the timer thread.
pub fn keep(scheduler: &Scheduler) {
    let mut state = scheduler.state.lock();
    loop {
        if state.running.is_empty() {
            scheduler.started.wait(&mut state);
            continue;
        }
        let quantum = if state.contended() { QUANTUM } else { UNCONTENDED };
        let now = Instant::now();
        for (entity, begun) in &mut state.running {
            if now.duration_since(*begun) >= quantum {
                entity.preempt();
                *begun = now;
            }
        }
        // Contention may begin while this sleeps, so it never sleeps longer than the short quantum.
        let next = state.running.iter().map(|(_, begun)| *begun + QUANTUM).min().expect("not empty");
        let sleep = next.max(now + QUANTUM / 5);
        scheduler.started.wait_until(&mut state, sleep);
    }
}
