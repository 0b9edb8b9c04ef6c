//! The engine's hand on a guest's memory balloon: resources move memory with it.

use std::sync::Arc;

use hardware::virtio::balloon::Statistics;
use hardware::virtio::{Balloon, VirtioPci};
use hardware::{Memory, Shared};

/// A running machine's balloon. Cheap to clone; usable from any thread.
#[derive(Clone)]
pub struct BalloonHandle {
    device: Shared<VirtioPci<Balloon>>,
    memory: Arc<Memory>,
}

impl BalloonHandle {
    pub(super) fn new(device: Shared<VirtioPci<Balloon>>, memory: Arc<Memory>) -> BalloonHandle {
        BalloonHandle { device, memory }
    }

    /// Whether the guest has a driver at work: without one, no memory can be asked for.
    pub fn is_driven(&self) -> bool {
        self.device.lock().is_live()
    }

    /// Asks the guest to give memory until the balloon holds `bytes`, or to take it back until then. It
    /// does so in its own time; [`BalloonHandle::actual_bytes`] says how far it is.
    pub fn set_target_bytes(&self, bytes: u64) {
        let most = self.memory.ram_bytes();
        self.device.lock().with(|balloon, io| {
            balloon.set_target_bytes(bytes.min(most), io);
            Ok(())
        });
    }

    /// What the balloon shall hold.
    pub fn target_bytes(&self) -> u64 {
        self.device.lock().kind().target_bytes()
    }

    /// What the balloon holds, as the guest says; never more than the machine's memory.
    pub fn actual_bytes(&self) -> u64 {
        self.device.lock().kind().actual_bytes().min(self.memory.ram_bytes())
    }

    /// Free pages the guest has reported and the host got back, in all since power-on. The guest may have
    /// touched them again.
    pub fn reported_bytes(&self) -> u64 {
        self.device.lock().kind().reported_bytes()
    }

    /// Asks the guest for a new report; says whether it will make one. It comes within milliseconds and
    /// has a new [`Statistics::number`].
    pub fn ask_statistics(&self) -> bool {
        self.device.lock().with(|balloon, io| Ok(balloon.ask_statistics(io))).unwrap_or(false)
    }

    /// The guest's last report on its memory.
    pub fn statistics(&self) -> Option<Statistics> {
        self.device.lock().kind().statistics().cloned()
    }

    /// What the host spends on the machine's memory now: RAM that was touched and not given back, ROMs, video.
    pub fn host_spent_bytes(&self) -> u64 {
        self.memory.spent_bytes()
    }

    /// The machine's memory: what it can have at most.
    pub fn memory_bytes(&self) -> u64 {
        self.memory.ram_bytes()
    }
}
