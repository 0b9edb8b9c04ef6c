//! The software CPU's live state: hot fields first, everything else behind, one heap allocation that never
//! moves. [`Registers`] is made from it and put into it by `convert.rs`; arithmetic flags are kept lazily
//! as a result and a carry vector (`flags.rs`).

use std::ptr::NonNull;
use std::sync::Arc;

use crate::bus::GuestBus;
use crate::pins::Pins;
use crate::registers::{Event, Msrs, Segment, Table, segment};

use super::blocks::Blocks;
use super::code_watch::{CodeWatch, Member};
use super::dispatch::{Outcome, WORK};
use super::fault::{Fallible, Fault};
use super::model::{CpuModel, Model};
use super::monitor::Monitor;
use super::page_cache::PageCache;
use super::spaces::Parked;
use super::tlb::TlbSet;
use super::translations::Translations;
use super::vector::Vector;

/// The bits of [`Cpu::mode`]: all that a decoded block depends on besides its bytes and address.
pub mod mode {
    /// Default operand and address size is 32 bits (CS.D).
    pub const CODE_32: u32 = 1 << 0;
    /// 64-bit mode (EFER.LMA and CS.L).
    pub const LONG: u32 = 1 << 1;
    /// The stack pointer is ESP (SS.B); in 64-bit mode it is RSP whatever this says.
    pub const STACK_32: u32 = 1 << 2;
    /// Current privilege level is 3.
    pub const USER: u32 = 1 << 3;
    /// Real mode (CR0.PE clear).
    pub const REAL: u32 = 1 << 4;
    /// Virtual-8086 mode.
    pub const VIRTUAL_8086: u32 = 1 << 5;
    /// CS, DS, ES and SS have base 0, limit 4 GiB, and allow reading and (data) writing.
    pub const FLAT: u32 = 1 << 6;
    /// SSE instructions are usable (CR0.EM clear, CR4.OSFXSR set).
    pub const SSE: u32 = 1 << 7;
    /// AVX instructions are usable (CR4.OSXSAVE, XCR0).
    pub const AVX: u32 = 1 << 8;
    /// CR0.TS is set.
    pub const TASK_SWITCHED: u32 = 1 << 9;
    /// CR0.EM is set.
    pub const EMULATE_FPU: u32 = 1 << 10;
}

/// RFLAGS bits.
pub mod flag {
    /// Carry.
    pub const CF: u64 = 1;
    /// Parity.
    pub const PF: u64 = 1 << 2;
    /// Auxiliary carry.
    pub const AF: u64 = 1 << 4;
    /// Zero.
    pub const ZF: u64 = 1 << 6;
    /// Sign.
    pub const SF: u64 = 1 << 7;
    /// Trap.
    pub const TF: u64 = 1 << 8;
    /// Interrupt enable.
    pub const IF: u64 = 1 << 9;
    /// Direction.
    pub const DF: u64 = 1 << 10;
    /// Overflow.
    pub const OF: u64 = 1 << 11;
    /// I/O privilege level (two bits).
    pub const IOPL: u64 = 3 << 12;
    /// Nested task.
    pub const NT: u64 = 1 << 14;
    /// Resume.
    pub const RF: u64 = 1 << 16;
    /// Virtual-8086 mode.
    pub const VM: u64 = 1 << 17;
    /// Alignment check.
    pub const AC: u64 = 1 << 18;
    /// Virtual interrupt.
    pub const VIF: u64 = 1 << 19;
    /// Virtual interrupt pending.
    pub const VIP: u64 = 1 << 20;
    /// CPUID is there.
    pub const ID: u64 = 1 << 21;
    /// What IRET restores at any privilege.
    pub const RETURN: u64 = CF | PF | AF | ZF | SF | TF | DF | OF | NT | RF | AC | ID;
    /// Every flag there is.
    pub const ALL: u64 = RETURN | IF | IOPL | VM | VIF | VIP;
    /// The six flags that arithmetic sets.
    pub const ARITHMETIC: u64 = CF | PF | AF | ZF | SF | OF;
}

/// The x87, SSE and AVX state in the host's own (non-compacted) XSAVE layout.
#[derive(Clone, Debug)]
#[repr(C, align(64))]
pub struct FpuArea {
    /// 512 bytes of FXSAVE area, 64 bytes of header, 256 bytes of upper YMM halves.
    pub bytes: [u8; 832],
}

/// One vCPU while it lives.
#[repr(C, align(64))]
pub struct Cpu {
    /// RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8 to R15.
    pub general: [u64; 16],
    /// Always 0: the base or index an address does not have.
    pub(super) zero: u64,
    /// Offset of the next instruction; exact whenever a cold instruction or the dispatcher runs.
    pub rip: u64,
    /// The last arithmetic result, sign-extended (see `flags.rs`).
    pub(super) result: u64,
    /// Carry vector of the last arithmetic instruction (see `flags.rs`).
    pub(super) carries: u64,
    /// Instructions left before the dispatcher must be returned to.
    pub(super) budget: i64,
    /// Units of work left before the next control point.
    pub(super) work: i64,
    /// [`Cpu::mode`], and above it (from bit 32) a count of translation flushes: what links between pages
    /// and the jump cache are valid for. Changed by `update_mode` and [`Cpu::translations_changed`].
    pub(super) jump_key: u64,
    /// The TLB set of the current privilege. Changed by `update_mode`.
    pub(super) tlb: *mut TlbSet,
    /// RFLAGS without the six arithmetic flags. Bit 1 is set.
    pub system_flags: u64,
    /// ES, CS, SS, DS, FS, GS.
    pub segments: [Segment; 6],
    /// What the current code depends on: [`mode`] bits. Changed by `update_mode`.
    pub mode: u32,
    /// Current privilege level (0 in real mode, 3 in virtual-8086 mode).
    pub cpl: u8,
    /// Interrupts are held off for one instruction.
    pub interrupt_shadow: bool,
    /// By STI, which holds off less than MOV SS and POP SS do: debug traps and instruction breakpoints come.
    pub(super) shadow_of_sti: bool,
    /// NMIs are held off until IRET.
    pub nmi_blocked: bool,
    /// HLT or MWAIT was executed and nothing has woken the vCPU.
    pub halted: bool,
    /// It was MWAIT: a store to the monitored line wakes it too. Says nothing unless halted.
    pub(super) waits_for_write: bool,
    /// Memory offset of the line MONITOR armed, until it is stored to.
    pub(super) monitored: Option<u64>,
    /// The running block was overwritten, a device touched or a pin possibly moved: the core goes to the
    /// dispatcher after the current instruction. Anyone may set it.
    pub leave_block: bool,
    /// `leave_block` was set because some block was overwritten; if that is another one, the running one goes on.
    pub(super) overwritten: bool,
    /// LDTR.
    pub ldtr: Segment,
    /// TR.
    pub tr: Segment,
    /// GDTR.
    pub gdtr: Table,
    /// IDTR.
    pub idtr: Table,
    /// CR0.
    pub cr0: u64,
    /// CR2.
    pub cr2: u64,
    /// CR3.
    pub cr3: u64,
    /// CR4.
    pub cr4: u64,
    /// CR8 as last seen (the local APIC, behind the bus, has the truth).
    pub cr8: u64,
    /// EFER.
    pub efer: u64,
    /// XCR0.
    pub xcr0: u64,
    /// DR0 to DR3, DR6, DR7. After a change of DR7 or an address: [`Cpu::breakpoints_changed`].
    pub debug: [u64; 6],
    /// Model-specific registers.
    pub msrs: Msrs,
    /// x87, SSE and AVX state.
    pub fpu: Box<FpuArea>,
    /// An event to deliver before the next instruction.
    pub pending: Option<Event>,
    /// TLB sets: user, supervisor, supervisor with EFLAGS.AC overriding SMAP, and one that is never filled,
    /// for user code whose every access is checked for alignment.
    pub tlbs: [Box<TlbSet>; 4],
    /// User TLB sets of other address spaces, the one longest away first.
    pub(super) parked: Vec<Parked>,
    /// PAE page-directory-pointer registers, loaded with CR3.
    pub pdptes: [u64; 4],
    /// CR3 was set from outside: the PDPTEs are read when next needed.
    pub(super) pdptes_stale: bool,
    /// What the TLB sets are refilled from.
    pub(super) translations: Translations,
    /// Backing of physical pages lately walked through.
    pub(super) pages: PageCache,
    /// What CPUID says, and which features are offered.
    pub model: Model,
    /// Input pins.
    pub pins: Arc<Pins>,
    /// Number of this vCPU in its machine.
    pub id: u32,
    /// Instructions executed since creation (up to date outside the core).
    pub(super) instructions: u64,
    /// Interrupts and exceptions delivered since creation.
    pub(super) deliveries: u64,
    /// PAUSEs since the last offer to let others run.
    pub(super) pauses: u32,
    /// It is such an offer that ended the last chain.
    pub(super) yields: bool,
    /// Devices are touched, and the time is asked for, only where [`Cpu::steps`] is known.
    pub(super) is_exact: bool,
    /// It is known now: no chain of blocks runs, or one need not know.
    pub(super) is_counted: bool,
    /// Decoded code.
    pub(super) blocks: Blocks,
    /// This vCPU's place among those that watch the machine's code pages.
    pub(super) watch: Member,
    /// What the last chain of blocks ended with.
    pub(super) outcome: Outcome,
    /// Host-instruction stubs.
    pub(super) vector: Vector,
    /// What the monitor wants to be told.
    pub(super) monitor: Monitor,
    bus: Option<NonNull<dyn GuestBus>>,
}

// SAFETY: the raw pointers are `tlb` (into `tlbs`, owned), those inside TLB and blocks (owned, or host memory
// of the machine, usable from every thread while the machine lives) and `bus`, which is only set inside `run`.
unsafe impl Send for Cpu {}

impl Cpu {
    /// A vCPU after RESET.
    pub fn new(pins: Arc<Pins>, id: u32, watch: &Arc<CodeWatch>) -> Box<Cpu> {
        let watch = watch.join(pins.clone());
        let mut cpu = Box::new(Cpu {
            general: [0; 16],
            zero: 0,
            rip: 0,
            result: 0,
            carries: 0,
            budget: 0,
            work: WORK,
            jump_key: 1 << 32,
            tlb: std::ptr::null_mut(),
            system_flags: 2,
            segments: [Segment::default(); 6],
            mode: 0,
            cpl: 0,
            interrupt_shadow: false,
            shadow_of_sti: false,
            nmi_blocked: false,
            halted: false,
            waits_for_write: false,
            monitored: None,
            leave_block: false,
            overwritten: false,
            ldtr: Segment::default(),
            tr: Segment::default(),
            gdtr: Table::default(),
            idtr: Table::default(),
            cr0: 0,
            cr2: 0,
            cr3: 0,
            cr4: 0,
            cr8: 0,
            efer: 0,
            xcr0: 1,
            debug: [0; 6],
            msrs: Msrs::default(),
            fpu: Box::new(FpuArea { bytes: [0; 832] }),
            pending: None,
            tlbs: std::array::from_fn(|_| TlbSet::new()),
            parked: Vec::new(),
            pdptes: [0; 4],
            pdptes_stale: false,
            translations: Translations::new(),
            pages: PageCache::default(),
            model: Model::new(CpuModel::X86_64V1, id, 1, 1_000_000_000),
            pins,
            id,
            instructions: 0,
            deliveries: 0,
            pauses: 0,
            yields: false,
            is_exact: false,
            is_counted: true,
            blocks: Blocks::new(),
            watch,
            outcome: Outcome::NOTHING,
            vector: Vector::new(),
            monitor: Monitor::default(),
            bus: None,
        });
        cpu.set_registers(&crate::registers::Registers::reset());
        cpu
    }

    /// The rest of the machine.
    ///
    /// # Panics
    /// Outside of `run` (no instruction executes there).
    #[inline]
    pub fn bus(&self) -> &dyn GuestBus {
        let bus = self.bus.expect("the bus is known while the vCPU runs");
        // SAFETY: `with_bus` sets it for exactly the time its borrow lasts.
        unsafe { bus.as_ref() }
    }

    /// Instructions completed and events delivered before the instruction that is being executed.
    pub(super) fn steps(&self) -> u64 {
        self.instructions + self.deliveries
    }

    /// Must be called before an instruction touches a device or asks the bus for anything that changes with time,
    /// and before it has changed anything. Where the number of steps so far is not known, the instruction is
    /// begun again where it is.
    #[inline]
    pub fn count_exactly(&mut self) -> Fallible<()> {
        if !self.is_exact {
            return Ok(());
        }
        if !self.is_counted {
            return Err(Fault::uncounted());
        }
        self.bus().reached(self.steps());
        Ok(())
    }

    /// Runs `action` with a bus to reach.
    pub fn with_bus<T>(&mut self, bus: &dyn GuestBus, action: impl FnOnce(&mut Cpu) -> T) -> T {
        struct Reset<'a>(&'a mut Cpu);
        impl Drop for Reset<'_> {
            fn drop(&mut self) {
                self.0.take_x87();
                self.0.bus = None;
            }
        }
        // SAFETY: only the lifetime is erased; `Reset` takes the pointer away before the borrow ends,
        // also when `action` unwinds.
        let bus: &'static dyn GuestBus = unsafe { std::mem::transmute(bus) };
        let guard = Reset(self);
        guard.0.bus = Some(NonNull::from(bus));
        action(guard.0)
    }

    /// Must be called after anything that [`Cpu::mode`] is made of has changed: CS, SS, DS, ES, CPL, CR0, CR4,
    /// EFER, XCR0, RFLAGS.VM, RFLAGS.AC.
    pub fn update_mode(&mut self) {
        let mut mode = 0;
        let code = &self.segments[segment::CS];
        let protected = self.cr0 & 1 != 0;
        let virtual_8086 = protected && self.system_flags & flag::VM != 0;
        let long = self.efer & 1 << 10 != 0 && code.is_long() && protected && !virtual_8086;
        let flat = |index: usize| {
            let s = &self.segments[index];
            s.base == 0 && s.limit == u32::MAX && !s.unusable
        };
        // type bit 1: readable code, writable data; bit 3 set is code, bit 2 expand-down data
        let data = |index: usize| flat(index) && self.segments[index].attributes & 0xE == 2;
        if long {
            mode |= mode::LONG | mode::FLAT;
        } else {
            if code.is_big() {
                mode |= mode::CODE_32;
            }
            if self.segments[segment::SS].is_big() {
                mode |= mode::STACK_32;
            }
            if flat(segment::CS)
                && code.attributes & 0xA == 0xA
                && data(segment::DS)
                && data(segment::ES)
                && data(segment::SS)
            {
                mode |= mode::FLAT;
            }
        }
        if !protected {
            mode |= mode::REAL;
        }
        if virtual_8086 {
            mode |= mode::VIRTUAL_8086;
        }
        if self.cpl == 3 {
            mode |= mode::USER;
        }
        let emulate = self.cr0 & 1 << 2 != 0;
        if emulate {
            mode |= mode::EMULATE_FPU;
        }
        if self.cr0 & 1 << 3 != 0 {
            mode |= mode::TASK_SWITCHED;
        }
        if !emulate && self.cr4 & 1 << 9 != 0 {
            mode |= mode::SSE;
        }
        if self.cr4 & 1 << 18 != 0 && self.xcr0 & 6 == 6 && protected && !virtual_8086 {
            mode |= mode::AVX;
        }
        self.mode = mode;
        self.jump_key = self.jump_key & !0xFFFF_FFFF | u64::from(mode);
        let smap = self.cr4 & 1 << 21 != 0;
        let set = match self.cpl {
            3 if self.checks_alignment() => 3,
            3 => 0,
            _ if smap && self.system_flags & flag::AC != 0 => 2,
            _ => 1,
        };
        self.tlb = &raw mut *self.tlbs[set];
        self.notice_mode();
    }

    /// Must be called after any translation was dropped (CR3, INVLPG, paging bits, MapChanged), besides clearing
    /// the TLB sets: links between pages are checked again.
    pub fn translations_changed(&mut self) {
        // 2^32 flushes later a stale link could look fresh: start over with nothing linked.
        match self.jump_key.checked_add(1 << 32) {
            Some(key) => self.jump_key = key,
            None => {
                self.jump_key = self.jump_key & 0xFFFF_FFFF | 1 << 32;
                self.blocks.flush_requested = true;
            }
        }
        self.blocks.forget_reached();
        self.leave_block = true;
    }

    /// Must be called after the debug registers changed.
    pub fn breakpoints_changed(&mut self) {
        self.blocks.flush_requested = true;
        self.leave_block = true;
    }
}
