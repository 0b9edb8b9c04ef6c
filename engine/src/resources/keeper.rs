//! The keeper: one thread that moves transfers forward and takes a sample of every machine once a second.

use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use super::policy::Sample;
use super::{Looked, Rates, Resources, State, spending};

/// How often transfers under way are looked at.
const TICK: Duration = Duration::from_millis(5);
/// How often machines are sampled.
const SAMPLE: Duration = Duration::from_secs(1);

impl Resources {
    pub(super) fn wake_keeper(&self) {
        self.bell.notify_all();
    }

    /// Starts the thread with the first machine. It ends with the ledger.
    pub(super) fn start_keeper(self: &Arc<Self>) {
        let mut state = self.state.lock();
        if std::mem::replace(&mut state.has_keeper, true) {
            return;
        }
        let resources = Arc::downgrade(self);
        let body = move || keep(&resources);
        thread::Builder::new().name("resources".into()).spawn(body).expect("the host has room for a thread");
    }

    /// Takes a sample of every machine: what it used since the last.
    fn sample(&self) {
        let looked = self.look();
        let mut state = self.state.lock();
        let now_ns = self.now_ns();
        for one in &looked {
            if let Some(member) = state.members.get_mut(&one.id) {
                let passed_ns = now_ns.saturating_sub(member.sampled_ns);
                member.rates = Rates::between(&member.sample, &one.reading, passed_ns);
                member.sample = one.reading.clone();
                member.sampled_ns = now_ns;
            }
        }
        let decisions = if state.policy.is_on { state.decide(&looked, now_ns) } else { Vec::new() };
        drop(state);
        looked.iter().for_each(|one| one.holder.ask_statistics());
        drop(looked);
        for mut decision in decisions {
            let reason = decision.reason.clone();
            let begun = self.begin(decision.donor, decision.receiver, decision.goods, |transfer| {
                transfer.reason = Some(reason);
            });
            decision.result = begun.map_err(|error| error.to_string());
            self.state.lock().policy.log(decision);
        }
    }

    /// Waits for something to do: a while, or for ever while there is no machine.
    fn wait(&self, is_moving: bool) {
        let mut state = self.state.lock();
        if state.members.is_empty() && state.moving.is_empty() {
            self.bell.wait_for(&mut state, SAMPLE * 10);
        } else {
            self.bell.wait_for(&mut state, if is_moving { TICK } else { SAMPLE });
        }
    }
}

impl State {
    /// What the policy wants, of machines that were just sampled.
    fn decide(&mut self, looked: &[Looked], now_ns: u64) -> Vec<super::Decision> {
        let sample = |one: &Looked| {
            let (member, grant) = (self.members.get(&one.id)?, self.ledger.grant(one.id)?);
            let told = one.reading.balloon.as_ref().and_then(|balloon| balloon.statistics.as_ref());
            let can_move = spending::unable(&one.reading).is_none() && !self.is_moving(one.id);
            Some(Sample {
                id: one.id,
                name: member.name.clone(),
                now_bytes: grant.memory.now_bytes,
                floor_bytes: grant.memory.floor_bytes,
                ceiling_bytes: grant.memory.ceiling_bytes,
                available_bytes: told.and_then(|told| told.available_bytes).filter(|_| can_move),
                shares: grant.allotment.shares,
                ran_percent: member.rates.processor_percent,
                waited_percent: member.rates.waiting_percent,
            })
        };
        let samples: Vec<Sample> = looked.iter().filter_map(sample).collect();
        self.policy.decide(&samples, now_ns)
    }
}

fn keep(resources: &Weak<Resources>) {
    let mut sampled_ns = 0;
    while let Some(resources) = resources.upgrade() {
        let is_moving = resources.advance();
        let now_ns = resources.now_ns();
        if now_ns.saturating_sub(sampled_ns) >= SAMPLE.as_nanos() as u64 {
            sampled_ns = now_ns;
            resources.sample();
        }
        resources.wait(is_moving);
    }
}
