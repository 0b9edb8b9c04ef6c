//! Debian writes and flushes; the monitor is killed at random moments; all that was flushed must be there at the next boot.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::Workplace;
use super::terminal::Terminal;

/// Writes files and their checksums, flushes, and only then says so, on the disk and on the terminal.
const WRITER: &str = "cd /var/tmp; i=$(cat /marker 2>/dev/null || echo 0); while :; do i=$((i+1)); \
    dd if=/dev/urandom of=w$i bs=4k count=$((RANDOM%200+1)) 2>/dev/null; mkdir -p d$((i%7)); cp w$i d$((i%7))/c$i; \
    rm -f d$(((i-30)%7))/c$((i-30)) w$((i-60)); sync; sha256sum w$i d$((i%7))/c$i >> sums; \
    echo $i > /marker; sync; echo FLUSHED $i; done";
/// Every file that was flushed and not deleted since is there, and no file with a checksum has another.
const CHECKER: &str = "cd /var/tmp; m=$(cat /marker 2>/dev/null || echo 0); bad=0; i=$m; \
    while [ $i -gt 0 ] && [ $i -gt $((m-59)) ]; do [ -s w$i ] || bad=1; \
    [ $i -le $((m-29)) ] || [ -s d$((i%7))/c$i ] || bad=1; i=$((i-1)); done; \
    [ $m = 0 ] || sha256sum --ignore-missing --status -c sums || bad=1; echo MARKER $m BAD $bad";
/// What Linux says of errors of the disk or of its file system.
const ERRORS: &str = "dmesg | grep -cE 'EXT4-fs.*error|I/O error|ata[0-9].*(exception|failed)'";
const PARTITION_OFFSET: u64 = 1 << 20;
/// Between the first flush of a round and the kill, in milliseconds.
const SHORTEST_MS: u64 = 500;
const LONGEST_MS: u64 = 15_000;

/// What is to be done.
pub struct Plan {
    rounds: u32,
    seed: u64,
    buses: Vec<String>,
}

impl Plan {
    /// Reads the command line; `None` if it cannot be.
    pub fn parse(words: &[String]) -> Option<Plan> {
        let mut plan = Plan { rounds: 10, seed: 1, buses: Vec::new() };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            match word.as_str() {
                "--rounds" => plan.rounds = words.next()?.parse().ok()?,
                "--seed" => plan.seed = words.next()?.parse().ok()?,
                "ide" | "ahci" | "virtio" => plan.buses.push(word.clone()),
                _ => return None,
            }
        }
        if plan.buses.is_empty() {
            plan.buses = ["ide", "ahci", "virtio"].map(str::to_owned).to_vec();
        }
        Some(plan)
    }
}

/// What became of one bus.
#[derive(Default)]
struct Outcome {
    kills: u32,
    held: u32,
    flushed: u64,
    disk_errors: u64,
    image_clean: bool,
    files_clean: bool,
}

/// Proves it for every bus, and prints a table; says whether all was held.
pub fn prove(workplace: &Workplace, plan: &Plan) -> bool {
    let outcomes: Vec<(&String, Outcome)> =
        plan.buses.iter().map(|bus| (bus, one_bus(workplace, plan, bus))).collect();
    println!("\n| Bus | Kills | Held all | Flushes told | Disk errors in the guest | Image check | e2fsck |");
    println!("|---|---:|---:|---:|---:|---|---|");
    let word = |clean| if clean { "clean" } else { "DAMAGED" };
    for (bus, outcome) in &outcomes {
        let Outcome { kills, held, flushed, disk_errors, image_clean, files_clean } = outcome;
        println!(
            "| {bus} | {kills} | {held} | {flushed} | {disk_errors} | {} | {} |",
            word(*image_clean),
            word(*files_clean)
        );
    }
    outcomes.iter().all(|(_, outcome)| {
        outcome.held == outcome.kills
            && outcome.disk_errors == 0
            && outcome.image_clean
            && outcome.files_clean
    })
}

fn one_bus(workplace: &Workplace, plan: &Plan, bus: &str) -> Outcome {
    let disk = workplace.overlay(bus);
    let options = ["--disk-bus", bus, "--network", "none"];
    let (mut outcome, mut last, mut random) = (Outcome::default(), 0, plan.seed.max(1));
    for round in 0..=plan.rounds {
        let (mut terminal, took) = Terminal::boot(&workplace.vitrine, &disk, &options);
        let found = terminal.ask(CHECKER);
        let (marker, good) = read_check(&found);
        let errors: u64 = terminal.ask(ERRORS).trim().parse().unwrap_or(1);
        outcome.disk_errors += errors;
        let held = good && marker >= last;
        eprintln!(
            "{bus}, boot {} in {:.0} s: told {last}, found {marker}, {}, {errors} disk errors",
            round + 1,
            took.as_secs_f64(),
            if held { "all held" } else { "LOST" },
        );
        if round > 0 {
            outcome.kills += 1;
            outcome.held += u32::from(held);
        }
        if round == plan.rounds {
            outcome.flushed = marker;
            assert!(terminal.power_off(), "the guest switches itself off");
            break;
        }
        terminal.say(WRITER);
        terminal.wait("FLUSHED");
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        std::thread::sleep(Duration::from_millis(SHORTEST_MS + (random >> 33) % (LONGEST_MS - SHORTEST_MS)));
        last = last_flushed(&terminal.kill()).max(last);
    }
    outcome.image_clean =
        ["qemu-img".as_ref(), workplace.vitrine.as_path()].iter().enumerate().all(|(n, program)| {
            let words: &[&str] = if n == 0 { &["check", "-q"] } else { &["disk", "check"] };
            runs(program, words.iter().map(OsStr::new).chain([disk.as_os_str()]))
        });
    outcome.files_clean = check_files(workplace, &disk);
    outcome
}

/// The marker that was found, and whether everything under it was there.
fn read_check(answer: &str) -> (u64, bool) {
    let found = answer.lines().find_map(|line| line.strip_prefix("MARKER ")?.split_once(" BAD "));
    let (marker, bad) = found.unwrap_or(("0", "1"));
    (marker.parse().unwrap_or(0), bad.trim() == "0")
}

/// The last flush that the guest told, by a whole line.
fn last_flushed(heard: &str) -> u64 {
    let whole = heard.rfind('\n').map_or("", |end| &heard[..end]);
    whole.lines().rev().find_map(|line| line.strip_prefix("FLUSHED ")?.parse().ok()).unwrap_or(0)
}

fn check_files(workplace: &Workplace, disk: &Path) -> bool {
    let raw = workplace.file("check.raw");
    let words =
        ["convert", "-O", "raw"].map(OsStr::new).into_iter().chain([disk.as_os_str(), raw.as_os_str()]);
    let file_system = format!("{}?offset={PARTITION_OFFSET}", raw.display());
    let clean = runs(Path::new("qemu-img"), words)
        && runs(Path::new("e2fsck"), ["-f", "-n", &file_system].map(OsStr::new));
    let _ = std::fs::remove_file(raw);
    clean
}

fn runs<'a>(program: &Path, words: impl IntoIterator<Item = &'a OsStr>) -> bool {
    let ran = Command::new(program).args(words).output();
    let ran = ran.unwrap_or_else(|error| panic!("{}: {error}", program.display()));
    if !ran.status.success() {
        eprintln!("{}: {}", program.display(), String::from_utf8_lossy(&ran.stdout));
        eprintln!("{}", String::from_utf8_lossy(&ran.stderr));
    }
    ran.status.success()
}
