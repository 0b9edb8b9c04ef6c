//! The loops of `tests/bench/bench.asm`, and what their speed is told in.

/// What a repetition is.
#[derive(Clone, Copy, Debug)]
pub enum Unit {
    /// So many instructions.
    Instructions(u64),
    /// So many bytes.
    Bytes(u64),
    /// One of what the loop is about.
    Operation,
}

impl Unit {
    /// Repetitions a second, as one reads them.
    pub fn tell(self, rate: f64) -> String {
        match self {
            Unit::Instructions(each) => format!("{:.0} MIPS", rate * each as f64 * 1e-6),
            Unit::Bytes(each) => format!("{:.2} GB/s", rate * each as f64 * 1e-9),
            Unit::Operation => format!("{:.3} µs", 1e6 / rate),
        }
    }
}

/// A loop.
#[derive(Debug)]
pub struct Loop {
    /// Its name in the table.
    pub name: &'static str,
    /// Its number in the guest.
    pub number: u32,
    /// Repetitions that take even the slowest some tenths of a second.
    pub count: u64,
    /// What a repetition is.
    pub unit: Unit,
}

const fn instructions(name: &'static str, number: u32, count: u64, each: u64) -> Loop {
    Loop { name, number, count, unit: Unit::Instructions(each) }
}

const fn operation(name: &'static str, number: u32, count: u64) -> Loop {
    Loop { name, number, count, unit: Unit::Operation }
}

/// All loops.
pub const LOOPS: [Loop; 14] = [
    instructions("integer", 1, 3_000_000, 10),
    instructions("memory walk, 4 MiB", 2, 50, 65_536 * 7),
    instructions("4 MiB stride", 3, 50_000, 32 * 4),
    instructions("calls and returns", 4, 100, 10_946 * 4 + 10_945 * 13),
    instructions("indirect calls", 5, 3_000_000, 7),
    Loop { name: "REP MOVSB", number: 6, count: 200, unit: Unit::Bytes(65_536) },
    instructions("SSE", 7, 1_000_000, 12),
    instructions("x87", 8, 1_000_000, 8),
    operation("sieve below 65,536", 9, 50),
    instructions("loop across a page end", 10, 3_000_000, 7),
    operation("INT and IRET", 11, 500_000),
    operation("self-modifying code", 12, 100_000),
    operation("CR3 reload and 16 pages", 13, 50_000),
    operation("page fault", 14, 100_000),
];
