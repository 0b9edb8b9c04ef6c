//! What machines did lately: their counters, looked at ten times a second on a thread of their own, so that neither the
//! window nor a guest waits; and what that looking costs.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use engine::resources::{Report, Resources, Spending};
use engine::stats::{HandlingSeconds, Stats};

use super::machines::Id;
use crate::running::Running;

/// Looks come this often.
pub const PERIOD: Duration = Duration::from_millis(100);
/// Points kept of each machine: a minute.
pub const KEPT: usize = 600;
/// Rates are told over this many points: a second.
const SPAN: usize = 10;

/// The counters at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Point {
    /// Host time since the sampler was made, in seconds.
    pub at: f64,
    /// Guest time in seconds.
    pub guest: f64,
    /// Host time its vCPUs had, in seconds.
    pub ran: f64,
    /// Instructions, where they are counted.
    pub instructions: u64,
    /// IN and OUT.
    pub port: u64,
    /// Reads of device memory.
    pub reads: u64,
    /// Writes of device memory.
    pub writes: u64,
    /// Interrupts taken.
    pub interrupts: u64,
    /// HLT.
    pub halts: u64,
    /// Slices ended by the monitor.
    pub kicks: u64,
    /// Accesses nobody answered.
    pub unclaimed: u64,
    /// Slices.
    pub slices: u64,
    /// Slices that the quantum timer ended.
    pub expiries: u64,
    /// Host time its vCPUs were ready and waited, in seconds.
    pub waited: f64,
    /// Host time that accesses to devices took.
    pub handling: HandlingSeconds,
}

impl Point {
    fn of(at: f64, stats: &Stats) -> Point {
        let exits = &stats.exits;
        Point {
            at,
            guest: stats.guest_seconds,
            ran: stats.vcpu_seconds,
            instructions: stats.instructions.unwrap_or(0),
            port: exits.port,
            reads: exits.memory_read,
            writes: exits.memory_write,
            interrupts: exits.interrupt,
            halts: exits.halt,
            kicks: exits.kick,
            unclaimed: exits.unclaimed.0 + exits.unclaimed.1,
            slices: stats.timers.host_slices,
            expiries: stats.timers.host_quantum_expiries,
            waited: stats.waited_seconds,
            handling: exits.seconds,
        }
    }
}

/// A machine's memory at one moment, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct MemoryPoint {
    /// What its guest sees.
    pub sees: f64,
    /// What its guest uses.
    pub uses: f64,
    /// What the host spends.
    pub spends: f64,
}

impl MemoryPoint {
    fn of(spending: &Spending) -> MemoryPoint {
        let told = |bytes: Option<u64>| bytes.unwrap_or(0) as f64;
        MemoryPoint {
            sees: told(spending.seen_bytes),
            uses: told(spending.used_bytes),
            spends: spending.spent_bytes as f64,
        }
    }
}

/// What one machine did in the last minute.
#[derive(Clone, Default)]
pub struct History {
    /// Oldest first.
    pub points: VecDeque<Point>,
    /// Its memory, oldest first.
    pub memory: VecDeque<MemoryPoint>,
    /// The newest counters.
    pub latest: Arc<Stats>,
    /// Those of about a second before.
    pub earlier: Arc<Stats>,
    /// Counters on their way to becoming `earlier`, with their times.
    recent: VecDeque<Arc<Stats>>,
}

impl History {
    fn push(&mut self, at: f64, stats: Stats) {
        if self.points.len() == KEPT {
            self.points.pop_front();
        }
        self.points.push_back(Point::of(at, &stats));
        self.latest = Arc::new(stats);
        self.recent.push_back(self.latest.clone());
        if self.recent.len() > SPAN + 1 {
            self.recent.pop_front();
        }
        self.earlier = self.recent[0].clone();
    }

    fn push_memory(&mut self, point: MemoryPoint) {
        if self.memory.len() == KEPT {
            self.memory.pop_front();
        }
        self.memory.push_back(point);
    }

    /// How fast a counter counts, per second, over the last second.
    pub fn rate(&self, counter: impl Fn(&Point) -> f64) -> f64 {
        let Some(last) = self.points.back() else { return 0.0 };
        let first = self.points.get(self.points.len().saturating_sub(SPAN + 1)).unwrap_or(last);
        let seconds = last.at - first.at;
        if seconds > 0.0 { (counter(last) - counter(first)) / seconds } else { 0.0 }
    }

    /// The rate at each moment, over a third of a second, oldest first: for graphs.
    pub fn rates(&self, counter: impl Fn(&Point) -> f64) -> Vec<f64> {
        let step = |n: usize| {
            let (first, last) = (&self.points[n - 3], &self.points[n]);
            (counter(last) - counter(first)) / (last.at - first.at).max(1e-6)
        };
        (3..self.points.len()).map(step).collect()
    }

    /// Part of its vCPUs' time that samples of their registers take, 0 to 1.
    pub fn sampling(&self) -> f64 {
        let spent: f64 = self.latest.cpus.iter().map(|cpu| cpu.sampling_seconds).sum();
        if self.latest.vcpu_seconds > 0.0 { spent / self.latest.vcpu_seconds } else { 0.0 }
    }

    /// Accesses per second to each device, by name, most first.
    pub fn devices(&self) -> Vec<(String, f64)> {
        let sum = |stats: &Stats| {
            let mut sums: HashMap<String, u64> = HashMap::new();
            for window in &stats.devices {
                *sums.entry(window.device.clone()).or_default() += window.reads + window.writes;
            }
            sums
        };
        let (now, before) = (sum(&self.latest), sum(&self.earlier));
        let seconds = (self.latest.wall_seconds - self.earlier.wall_seconds).max(1e-3);
        let rate = |(name, count): (String, u64)| {
            let earlier = before.get(&name).copied().unwrap_or(count);
            (name, count.saturating_sub(earlier) as f64 / seconds)
        };
        let mut rates: Vec<(String, f64)> = now.into_iter().map(rate).collect();
        rates.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        rates
    }
}

#[derive(Default)]
struct Books {
    machines: Vec<(Id, std::sync::Weak<dyn Running>)>,
    histories: HashMap<Id, History>,
    /// The host's ledger as it was last seen.
    report: Option<Arc<Report>>,
    /// Host CPU time the last looks took, in seconds per second.
    cost: f64,
    closed: bool,
}

/// Looks at machines.
pub struct Sampler {
    books: Arc<Mutex<Books>>,
    begun: Instant,
    has_thread: bool,
}

impl Default for Sampler {
    fn default() -> Sampler {
        Sampler { books: Arc::default(), begun: Instant::now(), has_thread: false }
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        lock(&self.books).closed = true;
    }
}

impl Sampler {
    /// Looks from now on, on a thread of its own. Without this, [`Sampler::watch`] looks by itself.
    pub fn start(&mut self) {
        self.has_thread = true;
        let (books, begun) = (self.books.clone(), self.begun);
        let look = move || {
            while !lock(&books).closed {
                let (wall, used) = (Instant::now(), thread_time());
                look(&books, begun);
                thread::sleep(PERIOD.saturating_sub(wall.elapsed()));
                let cost = (thread_time() - used).as_secs_f64() / wall.elapsed().as_secs_f64();
                let mut books = lock(&books);
                books.cost += (cost - books.cost) * 0.2;
            }
        };
        thread::Builder::new().name("sampler".into()).spawn(look).expect("the host has room for a thread");
    }

    /// These machines run.
    pub fn watch(&self, machines: &[(Id, Arc<dyn Running>)]) {
        {
            let mut books = lock(&self.books);
            books.machines = machines.iter().map(|(id, machine)| (*id, Arc::downgrade(machine))).collect();
            books.histories.retain(|id, _| machines.iter().any(|(other, _)| other == id));
        }
        if !self.has_thread {
            look(&self.books, self.begun);
        }
    }

    /// What a machine did lately.
    pub fn history(&self, id: Id) -> History {
        lock(&self.books).histories.get(&id).cloned().unwrap_or_default()
    }

    /// The host's ledger as it was last seen.
    pub fn report(&self) -> Option<Arc<Report>> {
        lock(&self.books).report.clone()
    }

    /// Part of a host CPU the looking takes, 0 to 1.
    pub fn cost(&self) -> f64 {
        lock(&self.books).cost
    }
}

fn look(books: &Mutex<Books>, begun: Instant) {
    let machines = lock(books).machines.clone();
    let report = Arc::new(Resources::global().report());
    for (id, machine) in machines {
        let Some(machine) = machine.upgrade() else { continue };
        // Not under the lock: the window must never wait for a machine.
        let stats = machine.stats();
        let at = begun.elapsed().as_secs_f64();
        let seat = machine.id();
        let mut books = lock(books);
        let history = books.histories.entry(id).or_default();
        history.push(at, stats);
        if let Some(one) = report.machines.iter().find(|one| Some(one.id) == seat) {
            history.push_memory(MemoryPoint::of(&one.memory));
        }
    }
    lock(books).report = Some(report);
}

fn lock(books: &Mutex<Books>) -> std::sync::MutexGuard<'_, Books> {
    books.lock().unwrap_or_else(PoisonError::into_inner)
}

fn thread_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

#[cfg(test)]
mod tests {
    use hardware::Space;
    use hardware::bus::WindowCount;

    use super::*;

    fn stats(seconds: f64, port: u64, reads: u64) -> Stats {
        let window = |device: &str, reads| WindowCount {
            device: device.into(),
            number: 0,
            space: Space::Port,
            base: None,
            length: 4,
            reads,
            writes: 0,
            read_ns: 0,
            write_ns: 0,
        };
        let mut stats = Stats { wall_seconds: seconds, ..Stats::default() };
        stats.exits.port = port;
        stats.devices = vec![window("8254", reads / 2), window("8254", reads / 2), window("vga", 7)];
        stats
    }

    #[test]
    fn rates_are_of_the_last_second_and_points_of_the_last_minute() {
        let mut history = History::default();
        assert_eq!(history.rate(|point| point.port as f64), 0.0);
        for n in 0..700_u64 {
            // A hundred a second, then a thousand in the last.
            let port = if n < 690 { 10 * n } else { 6900 + 100 * (n - 689) };
            history.push(n as f64 / 10.0, stats(n as f64 / 10.0, port, 20 * n));
        }
        assert_eq!(history.points.len(), KEPT);
        assert!((history.rate(|point| point.port as f64) - 1010.0).abs() < 5.0);
        assert_eq!(history.rates(|point| point.port as f64).len(), KEPT - 3);
        let devices = history.devices();
        assert_eq!((devices[0].0.as_str(), devices[0].1.round(), devices[1].1), ("8254", 200.0, 0.0));
    }
}
