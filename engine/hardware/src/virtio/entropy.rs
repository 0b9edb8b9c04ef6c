//! The entropy device: random bytes from the host. Virtio 1.2 §5.4.
//!
//! Queue 0 takes empty buffers. No configuration, no features.

use super::chain::Violation;
use super::function::{Identity, Io, Kind};

/// The most bytes given for one buffer; a driver asks again for more.
const GIVEN_AT_ONCE_BYTES: u32 = 1 << 16;

/// Where random bytes come from: fills the whole slice.
pub type Source = Box<dyn FnMut(&mut [u8]) + Send>;

/// The device.
pub struct Entropy {
    source: Source,
    given_bytes: u64,
}

impl Entropy {
    /// A device that gives what `source` gives.
    pub fn new(source: Source) -> Entropy {
        Entropy { source, given_bytes: 0 }
    }

    /// Bytes given to drivers so far.
    pub fn given_bytes(&self) -> u64 {
        self.given_bytes
    }
}

impl Kind for Entropy {
    const IDENTITY: Identity = Identity { number: 4, class_code: 0xFF_0000 };
    type State = ();

    fn features(&self) -> u64 {
        0
    }

    fn queue_sizes(&self) -> Vec<u16> {
        vec![64]
    }

    fn config(&self) -> Vec<u8> {
        Vec::new()
    }

    fn notified(&mut self, queue: u16, io: &mut Io) -> Result<(), Violation> {
        while let Some(chain) = io.take(queue)? {
            if chain.writable.is_empty() {
                return Err(Violation::Request("a buffer to fill"));
            }
            let length = chain.writable.length().min(GIVEN_AT_ONCE_BYTES);
            let mut bytes = vec![0; length as usize];
            (self.source)(&mut bytes);
            chain.writable.write(io.memory, 0, &bytes);
            self.given_bytes += u64::from(length);
            io.give_back(queue, chain.head, length);
        }
        Ok(())
    }

    fn reset(&mut self) {}

    fn state(&self) {}

    fn set_state(&mut self, (): ()) -> Result<(), &'static str> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Rig;
    use super::*;
    use crate::line::{Line, Messages};
    use crate::memory::Memory;
    use crate::virtio::VirtioPci;

    fn counting() -> Entropy {
        let mut next = 0u8;
        Entropy::new(Box::new(move |bytes| {
            bytes.iter_mut().for_each(|byte| {
                *byte = next;
                next = next.wrapping_add(1);
            });
        }))
    }

    #[test]
    fn buffers_are_filled() {
        let mut rig = Rig::start(counting(), 0);
        let head = rig.submit(0, &[], &[3, 2]);
        assert_eq!(rig.queues[0].used(), [(head, 5)]);
        assert_eq!(rig.queues[0].written(head), [0, 1, 2, 3, 4]);
        assert_eq!(rig.vectors(), [1]);
    }

    #[test]
    fn a_buffer_that_cannot_be_filled_is_a_violation() {
        let mut rig = Rig::start(counting(), 0);
        rig.submit(0, &[b"?"], &[]);
        assert_eq!(rig.status(), 0x4F, "needs reset");
        assert_eq!(rig.vectors(), [0], "the configuration interrupt tells");
        rig.submit(0, &[], &[8]);
        assert!(rig.queues[0].used().is_empty(), "nothing is done until the reset");
        rig.write(20, crate::Width::Byte, 0);
        rig.negotiate(1 << 32);
        let head = rig.submit(0, &[], &[8]);
        assert_eq!(rig.queues[0].used(), [(head, 8)]);
    }

    #[test]
    fn contract() {
        crate::contract::check(|| {
            let memory = Memory::new(1 << 20, 0).unwrap();
            VirtioPci::new("entropy", counting(), memory, Line::unconnected(), Messages::unconnected())
        });
    }
}
