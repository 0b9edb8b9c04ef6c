//! The machine in the host's ledger: what it lets be seen of it, and what can be done to its part of the host.

use std::sync::{Arc, Weak};

use hardware::memory::PAGE;

use super::Machine;
use crate::resources::{BalloonReading, Holder, MachineId, Reading, Seat, Throttles};
use crate::scheduler::{Allotment, Scheduler};

impl Machine {
    /// Takes its place in the ledger; before it runs. Its balloon is told what the profile lets it have.
    pub fn take_seat(self: &Arc<Self>, seat: Seat) {
        if let (Some(balloon), Some(now)) = (self.balloon(), self.profile.memory_now) {
            balloon.set_target_bytes((self.profile.memory.bytes() - now.bytes()) / PAGE * PAGE);
        }
        let holder: Weak<dyn Holder> = Arc::downgrade(&(self.clone() as Arc<dyn Holder>));
        seat.sit(holder);
        *self.seat.lock() = Some(seat);
    }

    /// Its number in the ledger, while it has a place there.
    pub fn id(&self) -> Option<MachineId> {
        self.seat.lock().as_ref().map(Seat::id)
    }

    pub(super) fn leave_seat(&self) {
        let seat = self.seat.lock().take();
        drop(seat);
    }
}

impl Holder for Machine {
    fn reading(&self) -> Reading {
        let balloon = self.balloon().map(|balloon| BalloonReading {
            is_driven: balloon.is_driven(),
            target_bytes: balloon.target_bytes(),
            actual_bytes: balloon.actual_bytes(),
            statistics: balloon.statistics(),
        });
        let link = self.network.as_ref().map(|network| network.stats().link).unwrap_or_default();
        let disks = self.board.disk_throttle.counts();
        Reading {
            is_running: self.clock.is_running(),
            balloon,
            spent_bytes: self.memory.spent_bytes(),
            ran_ns: self.account.ran_ns(),
            waited_ns: self.account.waited_ns(),
            disk_operations: disks.operations,
            disk_bytes: disks.bytes,
            network_bytes: link.sent.bytes.max(link.received.bytes),
        }
    }

    fn ask_statistics(&self) {
        if let Some(balloon) = self.balloon().filter(|_| self.clock.is_running()) {
            balloon.ask_statistics();
        }
    }

    fn set_balloon_target(&self, bytes: u64) {
        if let Some(balloon) = self.balloon() {
            balloon.set_target_bytes(bytes);
        }
    }

    fn set_allotment(&self, allotment: Allotment) {
        Scheduler::global().allot(&self.account, allotment);
    }

    fn set_throttles(&self, throttles: Throttles) {
        self.board.disk_throttle.set_rates(disk_rates(&throttles));
        if let Some(network) = &self.network {
            network.set_bytes_per_second(throttles.network_bytes.map(|size| size.bytes()));
        }
        // vCPUs that rest because of an old rate look again.
        Scheduler::global().allot(&self.account, self.account.allotment());
    }
}

/// A machine's throttles as its disks keep them.
pub fn disk_rates(throttles: &Throttles) -> storage::throttle::Rates {
    storage::throttle::Rates {
        operations_per_second: throttles.disk_operations.map(u64::from),
        bytes_per_second: throttles.disk_bytes.map(|size| size.bytes()),
    }
}
