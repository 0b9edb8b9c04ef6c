//! The port and memory buses: find the device, split the access to the widths it knows, count, trace.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use crate::access::{At, Width};
use crate::device::{Device, Shared};
use crate::histogram::{Histogram, Summary};

/// One of the two address spaces a CPU can reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Space {
    /// I/O ports, 0 to 0xFFFF.
    Port,
    /// Guest-physical memory that is not RAM or ROM.
    Memory,
}

/// A window a device claims, and the widths it understands natively.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowSpec {
    /// Port or memory.
    pub space: Space,
    /// Length in bytes.
    pub length: u64,
    /// Narrower accesses are widened: a read takes its part, a write is shifted into place.
    pub narrowest: Width,
    /// Wider and unaligned accesses are split.
    pub widest: Width,
}

impl WindowSpec {
    /// Ports of a chip with an 8-bit data bus.
    pub const fn ports(length: u64) -> WindowSpec {
        WindowSpec { space: Space::Port, length, narrowest: Width::Byte, widest: Width::Byte }
    }

    /// Device memory that takes accesses of any width up to `widest`.
    pub const fn memory(length: u64, widest: Width) -> WindowSpec {
        WindowSpec { space: Space::Memory, length, narrowest: Width::Byte, widest }
    }

    /// The same window with other native widths.
    pub const fn widths(mut self, narrowest: Width, widest: Width) -> WindowSpec {
        self.narrowest = narrowest;
        self.widest = widest;
        self
    }
}

/// Handle of a window on the bus; PCI moves windows by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WindowId(usize);

/// The window that claims an address, by its place in [`Bus::counts`], and the offset in it.
pub type Place = (usize, u64);

/// One access, as the trace sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traced {
    /// Port or memory.
    pub space: Space,
    /// The address the guest used.
    pub address: u64,
    /// Width of the guest's access, before splitting.
    pub width: Width,
    /// The value read or written.
    pub value: u64,
    /// Whether the guest wrote.
    pub write: bool,
    /// Which vCPU.
    pub cpu: usize,
    /// Where it fell, if into anybody's window.
    pub window: Option<Place>,
}

/// Counters of one window: the statistics and the inspector read them.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct WindowCount {
    /// The device's name.
    pub device: String,
    /// Which of the device's windows.
    pub number: u8,
    /// Port or memory.
    pub space: Space,
    /// Where the window lies now, if it is mapped.
    pub base: Option<u64>,
    /// Length in bytes.
    pub length: u64,
    /// Guest reads.
    pub reads: u64,
    /// Guest writes.
    pub writes: u64,
    /// Host time that the reads took, in nanoseconds, reckoned from one in eight.
    pub read_ns: u64,
    /// Host time that the writes took.
    pub write_ns: u64,
}

struct Window {
    name: String,
    device: Shared<dyn Device>,
    number: u8,
    spec: WindowSpec,
    reads: AtomicU64,
    writes: AtomicU64,
    bytes: AtomicU64,
    /// Host time of those reads and writes that were timed, in nanoseconds.
    read_ns: AtomicU64,
    write_ns: AtomicU64,
    /// How long accesses took, in host nanoseconds: of one access in [`TIMED`].
    times: Histogram,
}

#[derive(Clone, Default)]
struct Table {
    windows: Vec<Arc<Window>>,
    bases: Vec<Option<u64>>,
    /// Sorted (base, end, window) per space. A later mapping of the same address wins over an earlier.
    ports: Vec<(u64, u64, usize)>,
    memory: Vec<(u64, u64, usize)>,
}

/// One access in so many is timed: reading the host's clock takes as long as many an access.
const TIMED: u64 = 8;

/// The buses of one machine.
#[derive(Default)]
pub struct Bus {
    table: ArcSwap<Table>,
    changing: Mutex<()>,
    unclaimed_reads: AtomicU64,
    unclaimed_writes: AtomicU64,
}

impl Bus {
    /// Buses with nothing on them.
    pub fn new() -> Arc<Bus> {
        Arc::new(Bus::default())
    }

    /// Adds window `number` of `device`, at `base` or unmapped.
    pub fn add<T: Device + 'static>(
        &self,
        device: &Shared<T>,
        number: u8,
        spec: WindowSpec,
        base: Option<u64>,
    ) -> WindowId {
        let name = device.lock().name().to_owned();
        let device: Shared<dyn Device> = device.clone();
        self.change(|table| {
            table.windows.push(Arc::new(Window {
                name,
                device,
                number,
                spec,
                reads: AtomicU64::new(0),
                writes: AtomicU64::new(0),
                bytes: AtomicU64::new(0),
                read_ns: AtomicU64::new(0),
                write_ns: AtomicU64::new(0),
                times: Histogram::default(),
            }));
            table.bases.push(base);
            WindowId(table.windows.len() - 1)
        })
    }

    /// Moves a window to `base`, or takes it off the bus. May be called from within an access.
    pub fn place(&self, window: WindowId, base: Option<u64>) {
        self.change(|table| table.bases[window.0] = base);
    }

    /// Takes everything off the buses. Devices hold the bus on which they place their windows, and it holds them: whoever
    /// made the machine does this at its end, or all of it stays in memory for good.
    pub fn clear(&self) {
        self.change(|table| *table = Table::default());
    }

    fn change<R>(&self, change: impl FnOnce(&mut Table) -> R) -> R {
        let _one_at_a_time = self.changing.lock();
        let mut table = Table::clone(&self.table.load());
        let result = change(&mut table);
        table.index();
        self.table.store(Arc::new(table));
        result
    }

    /// A guest reads. What nobody claims reads as ones.
    pub fn read(&self, space: Space, address: u64, width: Width, cpu: usize) -> u64 {
        self.read_placed(space, address, width, cpu).0
    }

    /// The same, telling where it fell.
    pub fn read_placed(&self, space: Space, address: u64, width: Width, cpu: usize) -> (u64, Option<Place>) {
        let table = self.table.load();
        let place = table.place(space, address);
        let value = match place.map(|(id, offset)| (&*table.windows[id], offset)) {
            Some((window, offset)) if offset + width.bytes() <= window.spec.length => {
                let nth = window.reads.fetch_add(1, Ordering::Relaxed);
                window.timed(nth, width, &window.read_ns, || window.read(offset, width, cpu))
            }
            Some(_) => bytes_of(width, |n| table.read_byte(space, address.wrapping_add(n), cpu)),
            None if table.any_in(space, address, width) => {
                bytes_of(width, |n| table.read_byte(space, address.wrapping_add(n), cpu))
            }
            None => {
                self.unclaimed_reads.fetch_add(1, Ordering::Relaxed);
                width.ones()
            }
        };
        (value, place)
    }

    /// Where an access to this address falls.
    pub fn place_of(&self, space: Space, address: u64) -> Option<Place> {
        self.table.load().place(space, address)
    }

    /// A guest reads 32 bits from a port whose device sees EAX, EBX, ECX and EDX; tells where it fell. `None` if there is
    /// no such device: then it is a read like any other.
    pub fn call(&self, port: u64, registers: &mut [u32; 4]) -> Option<Place> {
        let table = self.table.load();
        let place = table.place(Space::Port, port)?;
        let window = &table.windows[place.0];
        let mut device = window.device.lock();
        let calls = device.calls()?;
        let nth = window.reads.fetch_add(1, Ordering::Relaxed);
        window.timed(nth, Width::Dword, &window.read_ns, || calls.call(registers));
        Some(place)
    }

    /// A guest writes. What nobody claims is dropped.
    pub fn write(&self, space: Space, address: u64, width: Width, value: u64, cpu: usize) {
        let value = value & width.ones();
        let table = self.table.load();
        match table.find(space, address) {
            Some((window, offset)) if offset + width.bytes() <= window.spec.length => {
                let nth = window.writes.fetch_add(1, Ordering::Relaxed);
                window.timed(nth, width, &window.write_ns, || window.write(offset, width, value, cpu));
            }
            None if !table.any_in(space, address, width) => {
                self.unclaimed_writes.fetch_add(1, Ordering::Relaxed);
            }
            _ => {
                for n in 0..width.bytes() {
                    table.write_byte(space, address.wrapping_add(n), (value >> (8 * n)) & 0xFF, cpu);
                }
            }
        }
    }

    /// The counters of every window, in the order they were added.
    pub fn counts(&self) -> Vec<WindowCount> {
        let table = self.table.load();
        let count = |(window, base): (&Arc<Window>, &Option<u64>)| WindowCount {
            device: window.name.clone(),
            number: window.number,
            space: window.spec.space,
            base: *base,
            length: window.spec.length,
            reads: window.reads.load(Ordering::Relaxed),
            writes: window.writes.load(Ordering::Relaxed),
            read_ns: window.read_ns.load(Ordering::Relaxed) * TIMED,
            write_ns: window.write_ns.load(Ordering::Relaxed) * TIMED,
        };
        table.windows.iter().zip(&table.bases).map(count).collect()
    }

    /// For each device, over all its windows: its name, the bytes moved by accesses, and how long these took, in host
    /// nanoseconds.
    pub fn times(&self) -> Vec<(String, u64, Summary)> {
        let table = self.table.load();
        let mut devices: Vec<(&str, u64, Histogram)> = Vec::new();
        for window in &table.windows {
            let at = devices.iter().position(|(name, ..)| *name == window.name).unwrap_or_else(|| {
                devices.push((&window.name, 0, Histogram::default()));
                devices.len() - 1
            });
            devices[at].1 += window.bytes.load(Ordering::Relaxed);
            devices[at].2.add(&window.times);
        }
        devices.into_iter().map(|(name, bytes, times)| (name.to_owned(), bytes, times.summary())).collect()
    }

    /// Accesses that nobody claimed: (reads, writes).
    pub fn unclaimed(&self) -> (u64, u64) {
        (self.unclaimed_reads.load(Ordering::Relaxed), self.unclaimed_writes.load(Ordering::Relaxed))
    }
}

impl Table {
    fn index(&mut self) {
        for space in [Space::Port, Space::Memory] {
            let mut ranges: Vec<(u64, u64, usize)> = Vec::new();
            for (id, base) in self.bases.iter().enumerate() {
                let spec = &self.windows[id].spec;
                if let Some(base) = base.filter(|_| spec.space == space) {
                    lay_over(&mut ranges, (base, base.saturating_add(spec.length), id));
                }
            }
            match space {
                Space::Port => self.ports = ranges,
                Space::Memory => self.memory = ranges,
            }
        }
    }

    fn ranges(&self, space: Space) -> &[(u64, u64, usize)] {
        match space {
            Space::Port => &self.ports,
            Space::Memory => &self.memory,
        }
    }

    fn find(&self, space: Space, address: u64) -> Option<(&Window, u64)> {
        self.place(space, address).map(|(id, offset)| (&*self.windows[id], offset))
    }

    fn place(&self, space: Space, address: u64) -> Option<Place> {
        let ranges = self.ranges(space);
        let found = ranges.partition_point(|range| range.1 <= address);
        let &(base, _, id) = ranges.get(found)?;
        let offset = address.checked_sub(self.bases[id]?)?;
        (base <= address).then_some((id, offset))
    }

    fn any_in(&self, space: Space, address: u64, width: Width) -> bool {
        (1..width.bytes()).any(|n| self.find(space, address.wrapping_add(n)).is_some())
    }

    fn read_byte(&self, space: Space, address: u64, cpu: usize) -> u64 {
        let Some((window, offset)) = self.find(space, address) else { return 0xFF };
        window.reads.fetch_add(1, Ordering::Relaxed);
        window.read(offset, Width::Byte, cpu)
    }

    fn write_byte(&self, space: Space, address: u64, value: u64, cpu: usize) {
        if let Some((window, offset)) = self.find(space, address) {
            window.writes.fetch_add(1, Ordering::Relaxed);
            window.write(offset, Width::Byte, value, cpu);
        }
    }
}

impl Window {
    fn at(&self, offset: u64, cpu: usize) -> At {
        At { window: self.number, offset, cpu }
    }

    /// Counts the bytes of the `nth` access, and takes the time of some.
    fn timed<R>(&self, nth: u64, width: Width, spent_ns: &AtomicU64, access: impl FnOnce() -> R) -> R {
        self.bytes.fetch_add(width.bytes(), Ordering::Relaxed);
        if !nth.is_multiple_of(TIMED) {
            return access();
        }
        let begun = Instant::now();
        let done = access();
        let ns = begun.elapsed().as_nanos() as u64;
        self.times.record(ns);
        spent_ns.fetch_add(ns, Ordering::Relaxed);
        done
    }

    fn read(&self, offset: u64, width: Width, cpu: usize) -> u64 {
        let mut device = self.device.lock();
        let mut value = 0;
        for (start, part) in self.spec.parts(offset, width) {
            let shift = 8 * (start - offset);
            let aligned = start & !(self.spec.narrowest.bytes() - 1);
            let native = part.max(self.spec.narrowest);
            let read = device.read(self.at(aligned, cpu), native) >> (8 * (start - aligned));
            value |= (read & part.ones()) << shift;
        }
        value
    }

    fn write(&self, offset: u64, width: Width, value: u64, cpu: usize) {
        let mut device = self.device.lock();
        for (start, part) in self.spec.parts(offset, width) {
            let shift = 8 * (start - offset);
            let aligned = start & !(self.spec.narrowest.bytes() - 1);
            let native = part.max(self.spec.narrowest);
            let written = ((value >> shift) & part.ones()) << (8 * (start - aligned));
            device.write(self.at(aligned, cpu), native, written);
        }
    }
}

impl WindowSpec {
    /// Splits an access into naturally aligned parts of at most the widest native width.
    fn parts(&self, offset: u64, width: Width) -> impl Iterator<Item = (u64, Width)> + use<> {
        let widest = self.widest.bytes();
        let end = offset + width.bytes();
        let mut at = offset;
        std::iter::from_fn(move || {
            let aligned = if at == 0 { 8 } else { 1 << at.trailing_zeros().min(3) };
            let room = 1 << (end - at).checked_ilog2()?;
            let bytes = widest.min(aligned).min(room);
            let part = (at, Width::from_bytes(bytes as usize)?);
            at += bytes;
            Some(part)
        })
    }
}

fn bytes_of(width: Width, mut byte: impl FnMut(u64) -> u64) -> u64 {
    (0..width.bytes()).fold(0, |value, n| value | (byte(n) & 0xFF) << (8 * n))
}

/// Puts `top` over sorted ranges, cutting what it covers.
fn lay_over(ranges: &mut Vec<(u64, u64, usize)>, top: (u64, u64, usize)) {
    let mut result = Vec::with_capacity(ranges.len() + 2);
    result.extend(ranges.iter().filter(|r| r.0 < top.0).map(|r| (r.0, r.1.min(top.0), r.2)));
    result.push(top);
    result.extend(ranges.iter().filter(|r| r.1 > top.1).map(|r| (r.0.max(top.1), r.1, r.2)));
    *ranges = result;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::{LoadError, shared};

    /// Remembers every access; reads answer the low byte of the offset, repeated.
    #[derive(Default)]
    struct Recorder(Vec<(u64, Width, Option<u64>)>);

    impl Device for Recorder {
        fn name(&self) -> &str {
            "recorder"
        }
        fn read(&mut self, at: At, width: Width) -> u64 {
            self.0.push((at.offset, width, None));
            (0..width.bytes()).fold(0, |v, n| v | (at.offset + n) << (8 * n))
        }
        fn write(&mut self, at: At, width: Width, value: u64) {
            self.0.push((at.offset, width, Some(value)));
        }
        fn reset(&mut self) {}
        fn save(&self) -> Vec<u8> {
            Vec::new()
        }
        fn load(&mut self, _state: &[u8]) -> Result<(), LoadError> {
            Ok(())
        }
    }

    #[test]
    fn wide_accesses_to_a_byte_chip_are_split() {
        let (bus, device) = (Bus::new(), shared(Recorder::default()));
        bus.add(&device, 0, WindowSpec::ports(4), Some(0x40));
        bus.write(Space::Port, 0x41, Width::Word, 0xBBAA, 0);
        assert_eq!(device.lock().0, [(1, Width::Byte, Some(0xAA)), (2, Width::Byte, Some(0xBB))]);
        assert_eq!(bus.read(Space::Port, 0x40, Width::Dword, 0), 0x0302_0100);
    }

    #[test]
    fn narrow_accesses_to_a_dword_chip_are_widened() {
        let (bus, device) = (Bus::new(), shared(Recorder::default()));
        let spec = WindowSpec::memory(64, Width::Dword).widths(Width::Dword, Width::Dword);
        bus.add(&device, 0, spec, Some(0xFEC0_0000));
        assert_eq!(bus.read(Space::Memory, 0xFEC0_0006, Width::Word, 0), 0x0706);
        bus.write(Space::Memory, 0xFEC0_0005, Width::Byte, 0x12, 0);
        assert_eq!(device.lock().0, [(4, Width::Dword, None), (4, Width::Dword, Some(0x1200))]);
    }

    #[test]
    fn an_access_over_the_end_of_a_window_reads_ones_there() {
        let (bus, device) = (Bus::new(), shared(Recorder::default()));
        bus.add(&device, 0, WindowSpec::ports(2), Some(0x60));
        assert_eq!(bus.read(Space::Port, 0x61, Width::Word, 0), 0xFF01);
        assert_eq!(bus.read(Space::Port, 0x5F, Width::Word, 0), 0x00FF);
        assert_eq!(bus.read(Space::Port, 0x70, Width::Byte, 0), 0xFF);
        assert_eq!(bus.unclaimed(), (1, 0));
    }

    #[test]
    fn a_window_moves_and_the_one_beneath_comes_back() {
        let (bus, below, above) = (Bus::new(), shared(Recorder::default()), shared(Recorder::default()));
        bus.add(&below, 0, WindowSpec::ports(8), Some(0x100));
        let moving = bus.add(&above, 0, WindowSpec::ports(2), Some(0x102));
        bus.read(Space::Port, 0x102, Width::Byte, 0);
        bus.place(moving, None);
        assert_eq!(bus.read(Space::Port, 0x102, Width::Byte, 0), 2);
        assert_eq!((above.lock().0.len(), below.lock().0.len()), (1, 1));
    }

    #[test]
    fn an_access_says_which_window_it_fell_into() {
        let (bus, device) = (Bus::new(), shared(Recorder::default()));
        bus.add(&device, 3, WindowSpec::ports(4), Some(0x40));
        assert_eq!(bus.read_placed(Space::Port, 0x43, Width::Byte, 1), (3, Some((0, 3))));
        assert_eq!(bus.read_placed(Space::Port, 0x99, Width::Byte, 0), (0xFF, None));
        assert_eq!(bus.place_of(Space::Port, 0x42), Some((0, 2)));
        assert_eq!((bus.counts()[0].device.as_str(), bus.counts()[0].number), ("recorder", 3));
    }
}
