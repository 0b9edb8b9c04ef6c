//! The cache of decoded blocks: at most 32 instructions of one page (or one that straddles two), known by
//! where their bytes are in memory, their address and the mode; and what drops them when bytes change.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use iced_x86::Instruction;

use super::branch::{breakpoint, jump_slot};
use super::code_watch::{Notices, granules};
use super::decode::Collected;
use super::fault::{ColdHandler, Fallible, Fault};
use super::mwait::LINE;
use super::op::Op;
use super::select::{Draft, IS_COLD};
use super::state::{Cpu, flag, mode};
use super::tlb::{EMPTY, ENTRIES, WATCHED, slot};
use super::vector::Form;
use crate::pins::Signal;
use crate::registers::segment;

/// Entries of the jump cache.
pub const JUMPS: usize = 4096;
/// Ops kept before everything is dropped (48 bytes each).
const MOST_OPS: usize = 600_000;
/// Work of decoding one instruction.
const DECODING: u64 = 32;
/// Instructions in a block.
const LONGEST: usize = 32;
/// No second page.
pub(super) const NONE: u64 = u64::MAX;

/// An instruction without a handler of its own, with who executes it.
#[derive(Clone, Copy, Debug)]
pub struct Cold {
    /// As decoded.
    pub instruction: Instruction,
    /// Who executes it.
    pub handler: ColdHandler,
    /// Its stub, once it was needed.
    pub form: Option<Form>,
}

/// Where an indirect jump last found its target.
#[derive(Clone, Copy, Debug)]
pub(super) struct Jump {
    pub(super) rip: u64,
    pub(super) key: u64,
    pub(super) code_base: u64,
    pub(super) op: *const Op,
}

const NO_JUMP: Jump = Jump { rip: 0, key: 0, code_base: 0, op: std::ptr::null() };

/// What a block is known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    offset: u64,
    rip: u64,
    base: u64,
    mode: u32,
}

/// Multiplies and folds: keys are addresses.
#[derive(Default)]
struct Fold(u64);

impl Hasher for Fold {
    fn finish(&self) -> u64 {
        self.0 ^ self.0 >> 29
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(u64::from(byte));
        }
    }

    fn write_u32(&mut self, value: u32) {
        self.write_u64(u64::from(value));
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = (self.0.rotate_left(23) ^ value).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }
}

type Map<K, V> = HashMap<K, V, BuildHasherDefault<Fold>>;

#[derive(Debug)]
struct Block {
    key: Key,
    /// Memory offset of the page its last bytes are in, if that is another one.
    second: u64,
    bytes: u64,
    instructions: u8,
    /// The granules it has bytes in, of its page and of the second one.
    granules: [u64; 2],
    ops: *mut [Op],
    colds: *mut [Cold],
    /// Exits of other blocks linked to this one.
    incoming: Vec<*mut Op>,
}

impl Block {
    fn holds(&self, op: *const Op) -> bool {
        (self.first()..self.first().wrapping_add(self.ops.len())).contains(&op)
    }

    fn first(&self) -> *const Op {
        self.ops as *const Op
    }

    /// Whether it has bytes in these granules of a page.
    fn overlaps(&self, page: u64, granules: u64) -> bool {
        let in_first = if self.key.offset & !0xFFF == page { self.granules[0] } else { 0 };
        let in_second = if self.second == page { self.granules[1] } else { 0 };
        (in_first | in_second) & granules != 0
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: both came from boxes in `Cpu::place_block`, and the dispatcher, which drops blocks, runs none.
        unsafe {
            drop(Box::from_raw(self.ops));
            drop(Box::from_raw(self.colds));
        }
    }
}

/// All decoded blocks of one vCPU.
#[derive(Debug)]
pub struct Blocks {
    /// Drop every block before the next one runs.
    pub(super) flush_requested: bool,
    /// The jump cache ([`JUMPS`] entries).
    pub(super) jumps: *mut Jump,
    /// Linear addresses to stop before: the monitor's.
    pub(super) breakpoints: Vec<u64>,
    table: Map<Key, u32>,
    slab: Vec<Option<Block>>,
    free: Vec<u32>,
    pages: Map<u64, Vec<u32>>,
    graveyard: Vec<Block>,
    single: Option<Block>,
    ops: usize,
    /// Linear pages (hashed) that links and jumps of the present key lead to.
    reached: [u64; 64],
    pub(super) scratch: Scratch,
}

/// What building a block needs, kept to be used again.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    pub(super) instructions: Vec<Instruction>,
    ops: Vec<Op>,
    colds: Vec<Cold>,
}

/// The bit of a linear page in [`Blocks::reached`].
fn reach_bit(linear: u64) -> (usize, u64) {
    let hashed = linear >> 12 ^ linear >> 24;
    ((hashed >> 6 & 63) as usize, 1 << (hashed & 63))
}

impl Blocks {
    /// No blocks.
    pub fn new() -> Blocks {
        Blocks {
            flush_requested: false,
            jumps: Box::into_raw(vec![NO_JUMP; JUMPS].into_boxed_slice()) as *mut Jump,
            breakpoints: Vec::new(),
            table: Map::default(),
            slab: Vec::new(),
            free: Vec::new(),
            pages: Map::default(),
            graveyard: Vec::new(),
            single: None,
            ops: 0,
            reached: [0; 64],
            scratch: Scratch::default(),
        }
    }

    /// No link or jump made so far is followed any more.
    pub(super) fn forget_reached(&mut self) {
        self.reached = [0; 64];
    }

    /// Whether a link or jump that is still followed may lead to this linear page.
    pub(super) fn may_reach(&self, linear: u64) -> bool {
        let (word, bit) = reach_bit(linear);
        self.reached[word] & bit != 0
    }

    fn jumps(&mut self) -> &mut [Jump] {
        // SAFETY: allocated in `new` with this length, owned, and borrowed through `self`.
        unsafe { std::slice::from_raw_parts_mut(self.jumps, JUMPS) }
    }

    /// Takes a block out of use. It may be the running one: it is freed later.
    fn retire(&mut self, id: u32) {
        let Some(mut block) = self.slab[id as usize].take() else { return };
        self.table.remove(&block.key);
        for page in [block.key.offset & !0xFFF, block.second] {
            if let Some(list) = self.pages.get_mut(&page) {
                list.retain(|&other| other != id);
            }
        }
        for exit in block.incoming.drain(..) {
            // SAFETY: exits of live blocks: a retired block has taken its own off these lists.
            unsafe {
                (*exit).disp = 0;
                (*exit).extra = std::ptr::null();
            }
        }
        for index in 0..block.ops.len() {
            let op = (block.ops as *mut Op).wrapping_add(index);
            // SAFETY: as above. Only exits have a link key and the linked block's number.
            let (is_exit, linked, target) =
                unsafe { ((*op).length == 0, !(*op).extra.is_null(), (*op).rip as usize) };
            if is_exit && linked {
                if let Some(Some(target)) = self.slab.get_mut(target) {
                    target.incoming.retain(|&exit| exit != op);
                }
                // SAFETY: as above.
                unsafe {
                    (*op).disp = 0;
                    (*op).extra = std::ptr::null();
                }
            }
        }
        let (rip, first) = (block.key.rip, block.first());
        let jump = &mut self.jumps()[jump_slot(rip)];
        if jump.op == first {
            *jump = NO_JUMP;
        }
        self.free.push(id);
        self.graveyard.push(block);
    }

    /// Drops everything. Only while no block runs.
    fn flush(&mut self) {
        self.flush_requested = false;
        self.jumps().fill(NO_JUMP);
        self.table.clear();
        self.slab.clear();
        self.free.clear();
        self.pages.clear();
        self.graveyard.clear();
        self.ops = 0;
    }

    fn retire_granules(&mut self, page: u64, granules: u64) {
        let is_hit =
            |id: u32| self.slab[id as usize].as_ref().is_some_and(|block| block.overlaps(page, granules));
        let Some(list) = self.pages.get(&page) else { return };
        let hit: Vec<u32> = list.iter().copied().filter(|&id| is_hit(id)).collect();
        hit.into_iter().for_each(|id| self.retire(id));
    }
}

impl Drop for Blocks {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this length.
        drop(unsafe { Box::from_raw(std::ptr::slice_from_raw_parts_mut(self.jumps, JUMPS)) });
    }
}

impl Cpu {
    /// Must be called by every store that did not go through a direct write entry, after it was made: `bytes`
    /// at memory offset `offset` (inside one page) changed. Drops overwritten code.
    pub fn code_written(&mut self, offset: u64, bytes: u64) {
        let granules = self.watch.wrote(offset, offset + bytes);
        if granules != 0 {
            self.blocks.retire_granules(offset & !0xFFF, granules);
            self.line_written(offset & !0xFFF, granules);
            self.overwritten = !self.leave_block;
            self.leave_block = true;
        }
    }

    /// Whether the block of this op, a store that is complete, may go on although it was to be left.
    pub(super) fn may_go_on(&mut self, op: *const Op) -> bool {
        let masked = if self.system_flags & flag::IF == 0 { Signal::Interrupt as u32 } else { 0 };
        std::mem::take(&mut self.overwritten)
            && self.pins.word() & !masked == 0
            && self.pending.is_none()
            && !self.blocks.graveyard.iter().any(|block| block.holds(op))
    }

    /// Whether the page of this memory offset holds cached code, so that stores must call
    /// [`Self::code_written`] instead of getting a direct write entry.
    pub fn holds_code(&self, offset: u64) -> bool {
        self.watch.code_granules(offset) != 0
    }

    /// Host address of a value in a page with cached code, if that is known without a walk. The store through it
    /// must be followed by [`Self::watched_written`].
    #[inline]
    pub(super) fn watched_hit<T>(&mut self, linear: u64) -> Option<*mut T> {
        // SAFETY: `tlb` points into `tlbs`.
        let set = unsafe { &mut *self.tlb };
        let index = slot(linear);
        let entry = &mut set.write[index];
        let page = linear.wrapping_add(size_of::<T>() as u64 - 1) & !0xFFF;
        if entry.tag != page | WATCHED {
            return None;
        }
        if self.watch.code_granules(set.write_offset[index]) == 0 {
            entry.tag = page; // no code there any more
        }
        Some(linear.wrapping_add(entry.addend) as *mut T)
    }

    /// After a store at [`Self::watched_hit`].
    #[inline]
    pub(super) fn watched_written<T>(&mut self, linear: u64) {
        // SAFETY: `tlb` points into `tlbs`.
        let offset = unsafe { (&(*self.tlb).write_offset)[slot(linear)] };
        self.code_written(offset | linear & 0xFFF, size_of::<T>() as u64);
    }

    /// Hears what others did to code (Signal::CodeChanged). Between blocks only.
    pub(super) fn hear_of_code(&mut self) {
        let Notices { written, guarded, everything } = self.watch.notices();
        if everything {
            self.line_lost();
            self.blocks.flush_requested = true;
            self.all_tlb_sets().for_each(|set| set.write.iter_mut().for_each(|entry| entry.tag = EMPTY));
        }
        for (page, granules) in written {
            self.blocks.retire_granules(page, granules);
            self.line_written(page, granules);
        }
        for page in guarded {
            if self.drop_write_entries(page) {
                // it was writable here until now: what the other one decoded may be old
                self.watch.may_have_written(page);
                self.blocks.retire_granules(page, u64::MAX);
            }
        }
    }

    /// From now on every store to a line (memory offset, 64 bytes) is told, this processor's own too.
    pub(super) fn watch_line(&mut self, line: u64) {
        if self.watch.mark(line, line + LINE) {
            self.drop_write_entries(line & !0xFFF);
        }
    }

    /// Takes away direct write access to a page; whether there was any.
    fn drop_write_entries(&mut self, page: u64) -> bool {
        let mut any = false;
        for set in self.all_tlb_sets().filter(|set| !set.is_empty()) {
            for index in 0..ENTRIES {
                let tag = set.write[index].tag;
                if set.write_offset[index] == page && tag & 0xFFF == 0 {
                    set.write[index].tag = tag | WATCHED;
                    any = true;
                }
            }
        }
        any
    }

    /// Base of CS as addresses see it.
    #[inline]
    pub(super) fn code_base(&self) -> u64 {
        if self.mode & mode::LONG != 0 { 0 } else { self.segments[segment::CS].base }
    }

    /// Linear address of an offset in CS.
    #[inline]
    pub(super) fn code_linear(&self, rip: u64) -> u64 {
        if self.mode & mode::LONG != 0 { rip } else { self.code_base().wrapping_add(rip) & 0xFFFF_FFFF }
    }

    /// Housekeeping before a block runs: nothing runs now, so blocks can be freed.
    /// True if any were.
    pub(super) fn tidy_blocks(&mut self) -> bool {
        if self.blocks.flush_requested || self.blocks.ops > MOST_OPS {
            self.blocks.flush();
            self.vector.drop_stale_forms();
            return true;
        }
        if self.blocks.graveyard.is_empty() {
            return false;
        }
        let dead: usize = self.blocks.graveyard.drain(..).map(|block| block.ops.len()).sum();
        self.blocks.ops = self.blocks.ops.saturating_sub(dead);
        true
    }

    /// The block at `rip`, found, or decoded now. `Err` is the fetch's fault.
    pub(super) fn find_block(&mut self) -> Fallible<*const Op> {
        let (rip, jump_key) = (self.rip, self.jump_key);
        let code_base = self.segments[segment::CS].base;
        let index = jump_slot(rip);
        let jump = self.blocks.jumps()[index];
        if jump.rip == rip && jump.key == jump_key && jump.code_base == code_base {
            return Ok(jump.op);
        }
        let id = self.find_in_table(rip)?;
        let Some(id) = id else { return self.single_block() };
        let block = self.blocks.slab[id as usize].as_ref().expect("the table has live blocks");
        let (op, last) = (block.first(), rip.wrapping_add(block.bytes - 1));
        for rip in [rip, last] {
            let (word, bit) = reach_bit(self.code_linear(rip));
            self.blocks.reached[word] |= bit;
        }
        self.blocks.jumps()[index] = Jump { rip, key: self.jump_key, code_base, op };
        Ok(op)
    }

    /// Whether the block at `rip` has at most so many instructions.
    pub(super) fn is_block_within(&mut self, instructions: u64) -> bool {
        // A fetch that faults does so again when the instruction is run.
        let Ok(Some(id)) = self.find_in_table(self.rip) else { return false };
        let block = self.blocks.slab[id as usize].as_ref().expect("the table has live blocks");
        u64::from(block.instructions) <= instructions
    }

    /// The block at `rip`; `None` if it cannot be cached.
    fn find_in_table(&mut self, rip: u64) -> Fallible<Option<u32>> {
        let long = self.mode & mode::LONG != 0;
        if !long && rip > u64::from(self.segments[segment::CS].limit) {
            return Err(Fault::general_protection(0));
        }
        let linear = self.code_linear(rip);
        let page = linear & !0xFFF;
        // SAFETY: `tlb` points into `tlbs`.
        let mut entry = unsafe { (&(*self.tlb).code)[slot(linear)] };
        if entry.tag != page {
            let place = self.translate_code(linear)?;
            if place.host.read.is_null() {
                return Ok(None);
            }
            // SAFETY: as above.
            entry = unsafe { (&(*self.tlb).code)[slot(linear)] };
        }
        if entry.tag != page || !self.watch.watch().can_watch(entry.offset) {
            return Ok(None);
        }
        let key = Key { offset: entry.offset | linear & 0xFFF, rip, base: self.code_base(), mode: self.mode };
        if let Some(&id) = self.blocks.table.get(&key) {
            let block = self.blocks.slab[id as usize].as_ref().expect("the table has live blocks");
            let (second, bytes) = (block.second, block.bytes);
            if !long && rip + bytes - 1 > u64::from(self.segments[segment::CS].limit) {
                return Ok(None);
            }
            if second == NONE {
                return Ok(Some(id));
            }
            // A fault there is at the page's first byte.
            let next = self.translate_code(self.code_linear(rip + bytes - 1) & !0xFFF)?;
            if next.host.offset == second {
                return Ok(Some(id));
            }
            self.blocks.retire(id);
        }
        self.build(key, entry.host).map(Some)
    }

    /// Decodes from page bytes at `host`.
    fn build(&mut self, key: Key, host: *const u8) -> Fallible<u32> {
        let collected = loop {
            let collected = self.collect(key.rip, host, LONGEST)?;
            // first watch, then look again: a store between the two is seen by one of them
            let start = key.offset;
            let in_first = collected.bytes.min(0x1000 - (start & 0xFFF));
            let mut fresh = self.watch.mark(start, start + in_first);
            if fresh {
                self.drop_write_entries(start & !0xFFF);
            }
            if collected.second != NONE {
                let more = self.watch.mark(collected.second, collected.second + collected.bytes - in_first);
                if more {
                    self.drop_write_entries(collected.second);
                }
                fresh |= more;
            }
            if !fresh {
                break collected;
            }
            let again = self.collect(key.rip, host, LONGEST)?;
            if again.bytes == collected.bytes && again.instructions == collected.instructions {
                break again;
            }
        };
        self.worked(collected.instructions.len() as u64 * DECODING);
        let block = self.place_block(key, collected, false);
        let blocks = &mut self.blocks;
        blocks.ops += block.ops.len();
        let second = block.second;
        let id = blocks.free.pop().unwrap_or_else(|| {
            blocks.slab.push(None);
            (blocks.slab.len() - 1) as u32
        });
        blocks.slab[id as usize] = Some(block);
        blocks.table.insert(key, id);
        blocks.pages.entry(key.offset & !0xFFF).or_default().push(id);
        if second != NONE {
            blocks.pages.entry(second).or_default().push(id);
        }
        Ok(id)
    }

    /// One instruction at `rip`, for single steps and code that cannot be cached.
    pub(super) fn single_block(&mut self) -> Fallible<*const Op> {
        let rip = self.rip;
        if self.mode & mode::LONG == 0 && rip > u64::from(self.segments[segment::CS].limit) {
            return Err(Fault::general_protection(0));
        }
        let mut bytes = [0; 15];
        let count = self.fetch(self.code_linear(rip), &mut bytes)?;
        let (instruction, _) = self.decode_one(rip, bytes, count)?;
        let key = Key { offset: NONE, rip, base: self.code_base(), mode: self.mode };
        let length = instruction.len() as u64;
        let collected = Collected { instructions: vec![instruction], bytes: length, second: NONE };
        let block = self.place_block(key, collected, true);
        let first = block.first();
        self.blocks.single = Some(block);
        Ok(first)
    }

    fn place_block(&mut self, key: Key, collected: Collected, single: bool) -> Block {
        let Scratch { ops, colds, .. } = std::mem::take(&mut self.blocks.scratch);
        let limit = self.last_code_offset();
        let mut draft = Draft::new(key.mode, self.model.features(), limit, ops, colds);
        draft.add(&collected.instructions, single);
        let instructions = collected.instructions.len() as u8;
        let colds = Box::into_raw(Box::<[Cold]>::from(&*draft.colds));
        let mut ops = Box::<[Op]>::from(&*draft.ops);
        self.blocks.scratch =
            Scratch { instructions: collected.instructions, ops: draft.ops, colds: draft.colds };
        for op in &mut ops {
            if op.bytes == IS_COLD {
                op.extra = (colds as *mut Cold).wrapping_add(op.extra as usize) as *const ();
            }
        }
        if !single && self.is_breakpoint(self.code_linear(key.rip)) {
            ops[0].run = breakpoint;
            ops[0].rip = key.rip;
        }
        let start = key.offset & 0xFFF;
        let in_first = collected.bytes.min(0x1000 - start);
        let in_second = collected.bytes - in_first;
        Block {
            key,
            second: collected.second,
            bytes: collected.bytes,
            instructions,
            granules: [
                granules(start, start + in_first),
                if in_second == 0 { 0 } else { granules(0, in_second) },
            ],
            ops: Box::into_raw(ops),
            colds,
            incoming: Vec::new(),
        }
    }

    /// Whether execution is to be looked at before the instruction at this linear address.
    pub(super) fn is_breakpoint(&self, linear: u64) -> bool {
        self.blocks.breakpoints.contains(&linear) || self.debug_hit(linear) != 0
    }

    /// The debug registers (bits 0 to 3) with an enabled execution breakpoint here.
    pub(super) fn debug_hit(&self, linear: u64) -> u64 {
        let control = self.debug[5];
        if control & 0xFF == 0 {
            return 0;
        }
        (0..4)
            .filter(|&n| {
                control >> (2 * n) & 3 != 0 && control >> (16 + 4 * n) & 3 == 0 && self.debug[n] == linear
            })
            .fold(0, |hits, n| hits | 1 << n)
    }

    /// Links an exit to the block that was found where it leads.
    pub(super) fn link(&mut self, exit: *const Op, target: *const Op) {
        let exit = exit as *mut Op;
        // SAFETY: the exit belongs to the block that ran last, and nothing was freed since.
        unsafe {
            if (*exit).extra == target as *const () {
                (*exit).disp = self.jump_key;
                return;
            }
        }
        let linear = self.code_linear(self.rip);
        // SAFETY: `tlb` points into `tlbs`.
        let entry = unsafe { &(&(*self.tlb).code)[slot(linear)] };
        if entry.tag != linear & !0xFFF {
            return;
        }
        let offset = entry.offset | linear & 0xFFF;
        let key = Key { offset, rip: self.rip, base: self.code_base(), mode: self.mode };
        let Some(&id) = self.blocks.table.get(&key) else { return };
        let Some(block) = &mut self.blocks.slab[id as usize] else { return };
        if block.first() != target {
            return;
        }
        block.incoming.push(exit);
        // SAFETY: as above.
        let (old, linked) = unsafe { ((*exit).rip as usize, !(*exit).extra.is_null()) };
        if linked && let Some(Some(old)) = self.blocks.slab.get_mut(old) {
            old.incoming.retain(|&other| other != exit);
        }
        // SAFETY: as above.
        unsafe {
            (*exit).rip = u64::from(id);
            (*exit).extra = target.cast();
            (*exit).disp = self.jump_key;
        }
    }
}
