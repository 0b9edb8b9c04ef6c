//! What the monitor wants to be told of, looked at where nothing is fast: watched pages have no TLB entries, and
//! deliveries and mode changes are rare.

use super::interrupt::Cause;
use super::state::Cpu;
use super::tlb::TlbSet;
use super::walk::{Access, Privilege};
use crate::notice::{Interest, Mode, Notice, Source};

const PAGE: u64 = 0x1000;

/// Notices kept of one instruction; a long REP may make more.
const MOST: usize = 8;

/// The monitor's wishes and what is to be told.
#[derive(Debug, Default)]
pub struct Monitor {
    interest: Interest,
    notices: Vec<Notice>,
    mode: Option<Mode>,
    /// The breakpoint to be passed by what runs next.
    pub(super) passes: Option<u64>,
}

impl Monitor {
    pub(super) fn has_notices(&self) -> bool {
        !self.notices.is_empty()
    }

    pub(super) fn take_notices(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.notices)
    }

    /// What was noticed will happen again, or was the monitor's own doing.
    pub(super) fn forget_notices(&mut self) {
        self.notices.clear();
        self.mode = None;
    }

    /// Whether accesses to a page must be looked at one by one.
    pub(super) fn watches_page(&self, linear: u64, physical: u64) -> bool {
        let page = |physical_watch: bool| if physical_watch { physical } else { linear } & !(PAGE - 1);
        self.interest.data.iter().any(|watch| {
            let page = page(watch.physical);
            *watch.range.start() <= page | (PAGE - 1) && page <= *watch.range.end()
        })
    }

    pub(super) fn watches_data(&self) -> bool {
        !self.interest.data.is_empty()
    }
}

impl Cpu {
    /// Replaces what is to be told.
    pub(super) fn set_interest(&mut self, interest: &Interest) {
        self.monitor.interest = interest.clone();
        self.monitor.forget_notices();
        self.all_tlb_sets().for_each(TlbSet::clear); // watched pages must not be there
    }

    fn notice(&mut self, notice: Notice) {
        if self.monitor.notices.len() < MOST {
            self.monitor.notices.push(notice);
        }
        self.leave_block = true;
    }

    /// After an access, where the TLB had no entry.
    pub(super) fn notice_access(&mut self, linear: u64, bytes: u64, write: bool) {
        let linear = self.wrap_linear(linear);
        let is_meant = |watch: &crate::notice::DataWatch| if write { watch.writes } else { watch.reads };
        for index in 0..self.monitor.interest.data.len() {
            let watch = &self.monitor.interest.data[index];
            if !is_meant(watch) {
                continue;
            }
            let (range, physical) = (watch.range.clone(), watch.physical);
            let hit = (0..bytes).any(|n| {
                let byte = self.wrap_linear(linear.wrapping_add(n));
                match physical {
                    false => range.contains(&byte),
                    true => self.memory_address(byte).is_some_and(|address| range.contains(&address)),
                }
            });
            if hit {
                self.notice(Notice::Access { watch: index, linear, bytes, write: Some(write) });
            }
        }
    }

    /// Guest-physical address of a byte of memory that was just accessed; `None` for devices.
    fn memory_address(&mut self, linear: u64) -> Option<u64> {
        let known = |cpu: &mut Cpu, privilege| cpu.translate(linear, Access::Read, privilege).ok();
        let before = self.cr2;
        let place = known(self, self.privilege()).or_else(|| known(self, Privilege::Supervisor));
        self.cr2 = before;
        place.filter(|place| !place.host.read.is_null()).map(|place| place.physical)
    }

    /// After a delivery; `from` is where it returns to.
    pub(super) fn notice_delivery(&mut self, vector: u8, error_code: Option<u32>, cause: Cause, from: u64) {
        let interest = &self.monitor.interest;
        let (wanted, source) = match cause {
            Cause::External if vector == 2 => (&interest.interrupts, Source::Nmi),
            Cause::External => (&interest.interrupts, Source::Controller),
            Cause::Exception => (&interest.exceptions, Source::Exception),
            Cause::Software | Cause::SoftwareException | Cause::Icebp => {
                (&interest.interrupts, Source::Instruction)
            }
        };
        if wanted.has(vector) {
            let address = (cause == Cause::Exception && vector == 14).then_some(self.cr2);
            self.notice(Notice::Delivery { vector, error_code, address, source, from });
        }
    }

    /// Whether deliveries are looked at.
    pub(super) fn notices_deliveries(&self) -> bool {
        !self.monitor.interest.exceptions.is_empty() || !self.monitor.interest.interrupts.is_empty()
    }

    /// After anything that may have changed the mode.
    #[inline]
    pub(super) fn notice_mode(&mut self) {
        if self.monitor.interest.modes {
            self.compare_mode();
        }
    }

    #[cold]
    fn compare_mode(&mut self) {
        let now = Mode::of(self.cr0, self.efer, self.system_flags);
        if let Some(before) = self.monitor.mode.replace(now)
            && before != now
        {
            self.notice(Notice::Mode { before, after: now });
        }
    }

    /// Before a run: what the mode is.
    pub(super) fn know_mode(&mut self) {
        if self.monitor.interest.modes && self.monitor.mode.is_none() {
            self.monitor.mode = Some(Mode::of(self.cr0, self.efer, self.system_flags));
        }
    }
}
