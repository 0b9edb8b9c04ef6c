//! The memory balloon: takes pages from the guest and gives them back to the host. Virtio 1.2 §5.5.
//!
//! Queues: inflate, deflate, then, of those negotiated, statistics and free page reporting. Features:
//! statistics, reporting. What is inflated or reported is punched out of the machine's memfd at once; a page
//! the guest takes back reads as zeros. Left out: deflating when out of memory, by which the guest, not the
//! monitor, would say how much it has; free page hints and page poison, which serve live migration; without
//! them a guest that poisons pages does not report them.

use serde::{Deserialize, Serialize};

use super::chain::{Chain, Violation};
use super::function::{Identity, Io, Kind};
use crate::memory::{Memory, PAGE};

/// Feature bits, §5.5.3.
mod feature {
    pub const STATISTICS: u64 = 1 << 1;
    pub const REPORTING: u64 = 1 << 5;
}

/// Where the driver writes how many pages it has given, §5.5.4.
const ACTUAL: usize = 4;
/// Most page numbers of one request; Linux sends 256.
const PAGES_AT_ONCE_MAX: usize = 1 << 16;
/// Bytes of one statistic: a tag of 16 and a value of 64 bits, packed.
const STATISTIC_BYTES: usize = 10;
/// Most bytes looked at in one report.
const REPORT_MAX_BYTES: usize = 64 * STATISTIC_BYTES;

/// What the guest says of its memory, §5.5.6.3; `None` for what it did not say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statistics {
    /// Swapped in since start.
    pub swapped_in_bytes: Option<u64>,
    /// Swapped out since start.
    pub swapped_out_bytes: Option<u64>,
    /// Page faults that waited for a disk.
    pub major_faults: Option<u64>,
    /// Page faults that did not.
    pub minor_faults: Option<u64>,
    /// Not used for anything.
    pub free_bytes: Option<u64>,
    /// What the guest manages.
    pub total_bytes: Option<u64>,
    /// What new programs could have without swapping.
    pub available_bytes: Option<u64>,
    /// Disk caches, which can be given up.
    pub caches_bytes: Option<u64>,
    /// How many reports there were before this one: a new number is a new report.
    pub number: u64,
}

/// What is saved.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    target_pages: u32,
    actual_pages: u32,
    /// The driver's buffer for statistics, which the device keeps until it wants new ones.
    kept: Option<u16>,
    statistics: Option<Statistics>,
}

/// The device.
#[derive(Default)]
pub struct Balloon {
    state: State,
    reported_bytes: u64,
}

/// What a queue is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Inflate,
    Deflate,
    Statistics,
    Reporting,
}

impl Balloon {
    /// An empty balloon.
    pub fn new() -> Balloon {
        Balloon::default()
    }

    /// Asks the guest to give (or take back) memory until the balloon holds `bytes`.
    pub fn set_target_bytes(&mut self, bytes: u64, io: &mut Io) {
        let pages = (bytes / PAGE).min(u64::from(u32::MAX)) as u32;
        if pages != self.state.target_pages {
            self.state.target_pages = pages;
            io.config_changed();
        }
    }

    /// What the balloon shall hold.
    pub fn target_bytes(&self) -> u64 {
        u64::from(self.state.target_pages) * PAGE
    }

    /// What it holds, as the driver says.
    pub fn actual_bytes(&self) -> u64 {
        u64::from(self.state.actual_pages) * PAGE
    }

    /// Free pages that the guest reported and that were given back to the host, in all.
    pub fn reported_bytes(&self) -> u64 {
        self.reported_bytes
    }

    /// The guest's last report.
    pub fn statistics(&self) -> Option<&Statistics> {
        self.state.statistics.as_ref()
    }

    /// Asks the guest for a new report. Says whether it will make one.
    pub fn ask_statistics(&mut self, io: &mut Io) -> bool {
        let Some(head) = self.state.kept.take() else { return false };
        io.give_back(2, head, 0);
        io.has(feature::STATISTICS)
    }

    /// Queues are numbered without those whose feature was not negotiated, as all drivers do.
    fn role(queue: u16, io: &Io) -> Option<Role> {
        let optional = [(feature::STATISTICS, Role::Statistics), (feature::REPORTING, Role::Reporting)];
        let there = optional.into_iter().filter(|(feature, _)| io.has(*feature)).map(|(_, role)| role);
        [Role::Inflate, Role::Deflate].into_iter().chain(there).nth(queue.into())
    }

    fn inflate(chain: &Chain, memory: &Memory) -> Result<(), Violation> {
        let length = chain.readable.length() as usize;
        if length > 4 * PAGES_AT_ONCE_MAX {
            return Err(Violation::Request("a bound on its page numbers"));
        }
        let mut bytes = vec![0; length];
        chain.readable.read(memory, 0, &mut bytes);
        let number = |four: &[u8]| u64::from(u32::from_le_bytes([four[0], four[1], four[2], four[3]]));
        let mut pages: Vec<u64> = bytes.chunks_exact(4).map(number).collect();
        pages.sort_unstable();
        pages.dedup();
        // Pages that are no RAM are the driver's error and nobody's loss.
        for run in pages.chunk_by(|page, next| page + 1 == *next) {
            memory.discard(run[0] * PAGE, run.len() as u64 * PAGE);
        }
        Ok(())
    }

    fn report(&mut self, chain: &Chain, memory: &Memory) {
        for (address, length) in chain.writable.pieces() {
            let start = address.next_multiple_of(PAGE);
            let end = (address + u64::from(length)) & !(PAGE - 1);
            if start < end && memory.discard(start, end - start) {
                self.reported_bytes += end - start;
            }
        }
    }

    fn read_statistics(&mut self, chain: &Chain, memory: &Memory) {
        let mut bytes = vec![0; (chain.readable.length() as usize).min(REPORT_MAX_BYTES)];
        chain.readable.read(memory, 0, &mut bytes);
        let number = self.state.statistics.as_ref().map_or(0, |last| last.number.wrapping_add(1));
        let mut statistics = Statistics { number, ..Statistics::default() };
        for entry in bytes.chunks_exact(STATISTIC_BYTES) {
            let mut value = [0; 8];
            value.copy_from_slice(&entry[2..]);
            let field = match u16::from_le_bytes([entry[0], entry[1]]) {
                0 => &mut statistics.swapped_in_bytes,
                1 => &mut statistics.swapped_out_bytes,
                2 => &mut statistics.major_faults,
                3 => &mut statistics.minor_faults,
                4 => &mut statistics.free_bytes,
                5 => &mut statistics.total_bytes,
                6 => &mut statistics.available_bytes,
                7 => &mut statistics.caches_bytes,
                _ => continue, // huge pages, and what later versions add
            };
            *field = Some(u64::from_le_bytes(value));
        }
        self.state.statistics = Some(statistics);
    }
}

impl Kind for Balloon {
    const IDENTITY: Identity = Identity { number: 5, class_code: 0xFF_0000 };
    type State = State;

    fn features(&self) -> u64 {
        feature::STATISTICS | feature::REPORTING
    }

    fn queue_sizes(&self) -> Vec<u16> {
        vec![128; 4]
    }

    /// Target and actual number of pages.
    fn config(&self) -> Vec<u8> {
        [self.state.target_pages.to_le_bytes(), self.state.actual_pages.to_le_bytes()].concat()
    }

    fn write_config(&mut self, offset: usize, value: &[u8]) {
        if offset == ACTUAL
            && let Ok(pages) = value.try_into()
        {
            self.state.actual_pages = u32::from_le_bytes(pages);
        }
    }

    fn notified(&mut self, queue: u16, io: &mut Io) -> Result<(), Violation> {
        let Some(role) = Balloon::role(queue, io) else { return Ok(()) };
        while let Some(chain) = io.take(queue)? {
            match role {
                Role::Inflate => Balloon::inflate(&chain, io.memory)?,
                Role::Deflate => {} // the pages come back when the guest touches them
                Role::Reporting => self.report(&chain, io.memory),
                Role::Statistics => {
                    self.read_statistics(&chain, io.memory);
                    if let Some(head) = self.state.kept.replace(chain.head) {
                        io.give_back(queue, head, 0);
                    }
                    continue;
                }
            }
            io.give_back(queue, chain.head, 0);
        }
        Ok(())
    }

    /// The target is the host's and stays.
    fn reset(&mut self) {
        self.state = State { target_pages: self.state.target_pages, ..State::default() };
    }

    fn state(&self) -> State {
        self.state.clone()
    }

    fn set_state(&mut self, state: State) -> Result<(), &'static str> {
        self.state = state;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Rig;
    use super::*;
    use crate::Width;
    use crate::line::{Line, Messages};
    use crate::virtio::VirtioPci;

    fn fill(rig: &Rig<Balloon>) -> u64 {
        rig.memory.dma_write(0x8_0000, &[0x77; 0x8_0000]);
        rig.memory.spent_bytes()
    }

    #[test]
    fn the_target_is_told_and_the_pages_go_back_to_the_host() {
        let mut rig = Rig::start(Balloon::new(), 0);
        fill(&rig);
        rig.device.with(|balloon, io| {
            balloon.set_target_bytes(4 * PAGE + 1, io);
            Ok(())
        });
        assert_eq!(rig.vectors(), [0]);
        assert_eq!(rig.config::<4>(0), [4, 0, 0, 0]);
        let pages: Vec<u8> =
            [0x81u32, 0x80, 0x90, 0x81, 0xFFFF_FFFF].iter().flat_map(|page| page.to_le_bytes()).collect();
        let head = rig.queues[0].offer(&[&pages], &[]);
        let before = rig.memory.spent_bytes();
        rig.notify(0);
        assert_eq!(rig.queues[0].used(), [(head, 0)]);
        assert_eq!(before - rig.memory.spent_bytes(), 3 * PAGE);
        rig.write(0x2004, Width::Dword, 3);
        assert_eq!(rig.device.kind().actual_bytes(), 3 * PAGE);
        rig.submit(1, &[&pages], &[]);
        let mut byte = [1];
        rig.memory.dma_read(0x8_0FFF, &mut byte);
        assert_eq!(byte, [0]);
        rig.memory.dma_read(0x8_2000, &mut byte);
        assert_eq!(byte, [0x77]);
    }

    #[test]
    fn free_pages_that_are_reported_go_back_too() {
        let mut rig = Rig::start(Balloon::new(), 0);
        let before = fill(&rig);
        // Only whole pages are given back.
        let head = rig.submit(3, &[], &[0x3000]);
        assert_eq!(rig.queues[3].used(), [(head, 0)]);
        let given = rig.device.kind().reported_bytes();
        assert!(given == 2 * PAGE || given == 3 * PAGE, "{given}");
        assert!(rig.memory.spent_bytes() <= before);
    }

    #[test]
    fn statistics_are_kept_until_new_ones_are_wanted() {
        let mut rig = Rig::start(Balloon::new(), 0);
        let entry = |tag: u16, value: u64| [&tag.to_le_bytes()[..], &value.to_le_bytes()].concat();
        let first = rig.submit(2, &[&[entry(4, 1000), entry(5, 9000), entry(99, 1)].concat()], &[]);
        assert!(rig.queues[2].used().is_empty());
        let told = rig.device.kind().statistics().unwrap().clone();
        let expected = Statistics { free_bytes: Some(1000), total_bytes: Some(9000), ..Default::default() };
        assert_eq!(told, expected);
        assert_eq!(rig.device.with(|balloon, io| Ok(balloon.ask_statistics(io))), Some(true));
        assert_eq!(rig.queues[2].used(), [(first, 0)]);
        assert_eq!(rig.device.with(|balloon, io| Ok(balloon.ask_statistics(io))), Some(false));
        rig.submit(2, &[&entry(4, 500)], &[]);
        assert_eq!(rig.device.kind().statistics().unwrap().number, 1);
    }

    #[test]
    fn queues_are_counted_without_those_not_negotiated() {
        let mut rig = Rig::start(Balloon::new(), feature::STATISTICS);
        rig.submit(2, &[], &[0x2000]);
        assert!(rig.device.kind().reported_bytes() >= PAGE, "reporting is queue 2 then");
        rig.submit(3, &[], &[0x2000]);
        assert!(rig.queues[3].used().is_empty());
    }

    #[test]
    fn a_reset_keeps_the_target_alone() {
        let mut rig = Rig::start(Balloon::new(), 0);
        rig.device.with(|balloon, io| {
            balloon.set_target_bytes(8 * PAGE, io);
            Ok(())
        });
        rig.write(0x2004, Width::Dword, 7);
        rig.submit(2, &[&[0; 10]], &[]);
        rig.write(20, Width::Byte, 0);
        let balloon = rig.device.kind();
        assert_eq!((balloon.target_bytes(), balloon.actual_bytes()), (8 * PAGE, 0));
        assert!(balloon.statistics().is_none());
        rig.negotiate(1 << 32 | feature::STATISTICS);
        assert_eq!(rig.device.with(|balloon, io| Ok(balloon.ask_statistics(io))), Some(false));
    }

    #[test]
    fn a_flood_of_page_numbers_is_a_violation() {
        let mut rig = Rig::start(Balloon::new(), 0);
        let flood = vec![0; 4 * PAGES_AT_ONCE_MAX / 8];
        let pieces: Vec<&[u8]> = (0..9).map(|_| &flood[..]).collect();
        rig.submit(0, &pieces, &[]);
        assert_eq!(rig.status() & 0x40, 0x40);
    }

    #[test]
    fn contract() {
        crate::contract::check(|| {
            let memory = Memory::new(1 << 20, 0).unwrap();
            VirtioPci::new("balloon", Balloon::new(), memory, Line::unconnected(), Messages::unconnected())
        });
    }
}
