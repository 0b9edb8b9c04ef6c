//! Every device of every board against a guest gone wild, for as long as you like: nothing may panic, hang or grow.
//!
//! `cargo run --release -p engine --example board_fuzz -- SECONDS [FIRST SEED]` plays a case for each seed from there on;
//! `board_fuzz case SEED` plays one again. On a failure it tells the seed and what the guest did last.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::catch_unwind;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

#[path = "../tests/wild/mod.rs"]
mod wild;

use wild::Played;

const EPISODES: u32 = 150;
/// Every so many cases one is longer, so that what grows inside of one machine is seen.
const LONG_EVERY: u64 = 64;
const LONG_EPISODES: u32 = 6_000;
/// Cases until the process has what it needs for good.
const SETTLED_AFTER: u64 = 3 * LONG_EVERY;
/// It may not grow by more than that afterwards: a GPU's pictures, 96 MiB of them, pass through its heap.
const GROWTH_MAX_BYTES: u64 = 128 << 20;
/// CPU time of a case after which it is taken to hang.
const HANG: Duration = Duration::from_secs(120);
const REPORT_EVERY: Duration = Duration::from_secs(300);

/// The case that is played now, and the CPU time, in nanoseconds, at which it began.
static CASE: AtomicU64 = AtomicU64::new(0);
static BEGUN_NS: AtomicU64 = AtomicU64::new(0);
/// A thread of a device has panicked, which is not seen by who waits for it.
static PANICKED: AtomicBool = AtomicBool::new(false);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |n: usize| arguments.get(n).and_then(|text| text.parse::<u64>().ok());
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        PANICKED.store(true, Ordering::SeqCst);
        tell(panic);
    }));
    std::thread::spawn(watch);
    match (arguments.first().map(String::as_str), number(0), number(1)) {
        (Some("case"), _, Some(seed)) => println!("{} accesses, nothing broke", play(seed).accesses),
        (_, Some(seconds), first) => run(Duration::from_secs(seconds), first.unwrap_or(1)),
        _ => {
            eprintln!("usage: board_fuzz SECONDS [FIRST SEED] | board_fuzz case SEED");
            std::process::exit(2);
        }
    }
}

/// What has been done so far.
struct Tally {
    first: u64,
    next: u64,
    accesses: u64,
    devices: BTreeSet<String>,
    done: BTreeMap<&'static str, u64>,
    settled_bytes: u64,
    most_bytes: u64,
}

fn run(longest: Duration, first: u64) {
    let begun = Instant::now();
    let (devices, done) = (BTreeSet::new(), BTreeMap::new());
    let mut tally = Tally { first, next: first, accesses: 0, devices, done, settled_bytes: 0, most_bytes: 0 };
    let mut reported = begun;
    while begun.elapsed() < longest {
        let played = play(tally.next);
        tally.next += 1;
        tally.accesses += played.accesses;
        tally.devices.extend(played.devices);
        for (what, count) in played.done {
            *tally.done.entry(what).or_default() += count;
        }
        let cases = tally.next - first;
        if cases >= SETTLED_AFTER && cases.is_multiple_of(16) {
            tally.weigh(resident_bytes());
        }
        if reported.elapsed() > REPORT_EVERY {
            reported = Instant::now();
            tally.tell();
        }
    }
    tally.tell();
    println!("done by devices: {:?}", tally.done);
    println!("{} devices: {}", tally.devices.len(), tally.devices.into_iter().collect::<Vec<_>>().join(", "));
}

impl Tally {
    fn weigh(&mut self, now_bytes: u64) {
        if self.settled_bytes == 0 {
            self.settled_bytes = now_bytes;
        }
        self.most_bytes = self.most_bytes.max(now_bytes);
        if now_bytes > self.settled_bytes + GROWTH_MAX_BYTES {
            fail(&format!(
                "after seed {}: grown from {} to {now_bytes} bytes",
                self.next - 1,
                self.settled_bytes
            ));
        }
    }

    fn tell(&self) {
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        println!(
            "seeds {} to {}: {} accesses, {:.0} s of CPU time; heap {:.1} MiB once settled, {:.1} MiB at most",
            self.first,
            self.next - 1,
            self.accesses,
            cpu_time().as_secs_f64(),
            mib(self.settled_bytes),
            mib(self.most_bytes),
        );
    }
}

/// Plays the case of a seed.
fn play(seed: u64) -> Played {
    CASE.store(seed, Ordering::SeqCst);
    BEGUN_NS.store(cpu_time().as_nanos() as u64, Ordering::SeqCst);
    let episodes = if seed.is_multiple_of(LONG_EVERY) { LONG_EPISODES } else { EPISODES };
    match catch_unwind(|| wild::play(seed, episodes)) {
        Ok(played) if !PANICKED.load(Ordering::SeqCst) => played,
        _ => fail(&format!("seed {seed}: panicked; again: board_fuzz case {seed}")),
    }
}

fn fail(what: &str) -> ! {
    println!("{what}");
    std::process::exit(1);
}

/// Ends the process when a case takes too long.
fn watch() {
    loop {
        std::thread::sleep(Duration::from_secs(5));
        let used = cpu_time().saturating_sub(Duration::from_nanos(BEGUN_NS.load(Ordering::SeqCst)));
        if used > HANG {
            fail(&format!("seed {}: hangs", CASE.load(Ordering::SeqCst)));
        }
    }
}

/// What this process has used.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Anonymous memory that is resident: the heap and stacks, not guests' memory.
fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kibibytes = status.lines().find_map(|line| line.strip_prefix("RssAnon:")?.trim().strip_suffix("kB"));
    kibibytes.and_then(|number| number.trim().parse::<u64>().ok()).unwrap_or_default() << 10
}
