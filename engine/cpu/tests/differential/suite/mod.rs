//! Differential tests of the software CPU: random code, judged by the host's own processor.

mod bus;
mod case;
mod catalogue;
mod descriptors;
mod encode;
mod excuses;
mod forms;
mod fuzz;
mod generate;
mod host;
mod host_group;
mod kvm;
mod kvm_gaps;
mod manual;
mod manual_returns;
mod masks;
mod random;
mod registers;
mod report;
mod silicon;
mod software;
mod system;
mod system_code;
mod system_group;
mod system_tables;
mod uncovered;
mod walk_group;
mod walker;
mod window;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;

use iced_x86::Code;

use self::case::Mode;
use self::catalogue::Catalogue;
use self::host_group::{Bench, GROUPS};
use self::report::Group;
use self::system_group::SystemBench;

/// Differences of one group that are shown in full.
const SHOWN: usize = 12;

/// Differences of one group whose numbers are listed.
const LISTED: usize = 100;

/// At most so many cases of each group on KVM, where each takes a machine a run.
const KVM_CASES: u64 = 5_000;

/// What to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Cases in each group.
    pub cases: u64,
    /// Seed.
    pub seed: u64,
    /// Only groups whose name begins so.
    pub only: Option<String>,
    /// Only this case, told in full.
    pub case: Option<u64>,
}

impl Options {
    /// The cases to run, and whether to tell all about them.
    fn numbers(&self) -> (Range<u64>, bool) {
        match self.case {
            Some(case) => (case..case + 1, true),
            None => (0..self.cases, false),
        }
    }

    fn wants(&self, name: &str) -> bool {
        self.only.as_ref().is_none_or(|only| name.starts_with(only.as_str()))
    }
}

/// Names of forms by the reason why no case ran them to their end.
type Missing = BTreeMap<&'static str, Vec<String>>;

/// Totals of everything that ran.
#[derive(Debug, Default)]
pub struct Report {
    groups: Vec<Group>,
    /// How many forms the software CPU offers a case ran to its end, by mode, and which none did, by reason.
    uncovered: Vec<(Mode, usize, Missing)>,
    seed: u64,
}

/// Runs the groups that `options` name.
pub fn run(options: &Options) -> Report {
    let mut report = Report { seed: options.seed, ..Report::default() };
    silicon::harness::prepare();
    host::signals::install();
    host::signals::serve_thread();
    run_silicon(options, &mut report);
    run_on_host(options, &mut report);
    run_on_kvm(options, &mut report);
    run_alone(options, &mut report);
    if options.only.is_none() {
        note_coverage(&mut report);
    }
    report
}

fn run_silicon(options: &Options, report: &mut Report) {
    for (name, unmasked) in [("silicon", false), ("silicon-unmasked", true)] {
        if !options.wants(name) || options.case.is_some() {
            continue;
        }
        let runs = (options.cases / 20_000).max(8) as usize;
        let passes = if options.cases < 100_000 { 2 } else { 8 };
        let totals = silicon::harness::compare(options.seed, passes, passes, runs, unmasked);
        let mut group = Group::new(name);
        group.faulted = totals.exceptions;
        group.agreed = totals.runs - totals.exceptions;
        group.covered.insert(Mode::Bits64, totals.covered);
        for (number, (form, (first, count))) in totals.differences.iter().enumerate() {
            group.differ(number as u64, form, &format!("{form}: {count} differ, first {first}"));
        }
        report.add(group);
    }
}

fn run_on_host(options: &Options, report: &mut Report) {
    let wanted: Vec<_> = GROUPS.iter().filter(|group| options.wants(group.name)).collect();
    if wanted.is_empty() {
        return;
    }
    let mut bench = match Bench::new() {
        Ok(bench) => bench,
        Err(reason) => {
            let skipped = |name| Group { skipped: Some(reason.clone()), ..Group::new(name) };
            return wanted.iter().for_each(|group| report.add(skipped(group.name)));
        }
    };
    for group in wanted {
        let mut totals = Group::new(group.name);
        let (cases, verbose) = options.numbers();
        for number in cases {
            bench.run(group, options.seed, number, verbose, &mut totals);
        }
        report.add(totals);
    }
    if options.only.is_none() {
        report.add(bench.absent(options.seed));
    }
}

/// What is covered is of everything or of nothing.
fn note_coverage(report: &mut Report) {
    for mode in [Mode::Bits64, Mode::Bits32, Mode::Bits16] {
        let among = |of: fn(&Group) -> &BTreeMap<Mode, BTreeSet<u16>>| -> BTreeSet<u16> {
            let sets = report.groups.iter().filter_map(|group| of(group).get(&mode));
            sets.flat_map(|set| set.iter().copied()).collect()
        };
        let covered = among(|group| &group.covered);
        let faulted = among(|group| &group.only_faulted);
        let all = Catalogue::new(mode).codes();
        let names: Vec<Code> = Code::values().collect();
        let mut missing = Missing::new();
        for &code in all.difference(&covered) {
            let name = names[usize::from(code)];
            let reason = uncovered::reason(name, faulted.contains(&code));
            missing.entry(reason).or_default().push(format!("{name:?}"));
        }
        report.uncovered.push((mode, all.intersection(&covered).count(), missing));
    }
}

fn run_on_kvm(options: &Options, report: &mut Report) {
    let wanted: Vec<_> = system_group::GROUPS.iter().filter(|group| options.wants(group.0)).collect();
    if wanted.is_empty() {
        return;
    }
    let mut bench = match SystemBench::new() {
        Ok(bench) => bench,
        Err(reason) => {
            let skipped = |name| Group { skipped: Some(reason.clone()), ..Group::new(name) };
            return wanted.iter().for_each(|group| report.add(skipped(group.0)));
        }
    };
    for &(name, topic) in wanted {
        let mut totals = Group::new(name);
        let (cases, verbose) = options.numbers();
        let cases = cases.start..cases.end.min(cases.start + KVM_CASES);
        for number in cases {
            bench.run(topic, options.seed, number, verbose, &mut totals);
        }
        report.add(totals);
    }
}

fn run_alone(options: &Options, report: &mut Report) {
    let mut fuzzer = fuzz::Fuzzer::new();
    if options.wants(walk_group::NAME) {
        let mut walks = walk_group::Walks::new();
        let mut totals = Group::new(walk_group::NAME);
        let (cases, verbose) = options.numbers();
        for number in cases {
            walks.run(options.seed, number, verbose, &mut totals);
        }
        report.add(totals);
    }
    for (name, kind) in fuzz::GROUPS.into_iter().filter(|group| options.wants(group.0)) {
        let mut totals = Group::new(name);
        let (cases, verbose) = options.numbers();
        for number in cases {
            fuzzer.run(kind, options.seed, number, verbose, &mut totals);
        }
        report.add(totals);
    }
}

impl Report {
    /// Keeps the totals of a group, and tells them at once: runs may be long.
    fn add(&mut self, group: Group) {
        println!("{group}");
        self.groups.push(group);
    }

    /// Differences from the host's processor and the manual, and whatever fuzzing found.
    pub fn differences(&self) -> usize {
        self.count(|name| !name.starts_with("kvm"))
    }

    /// Differences from KVM: to be read against the manual, since KVM may itself be an emulator with gaps.
    pub fn doubts(&self) -> usize {
        self.count(|name| name.starts_with("kvm"))
    }

    fn count(&self, of: impl Fn(&str) -> bool) -> usize {
        self.groups.iter().filter(|group| of(group.name)).map(|group| group.differing.len()).sum()
    }

    /// Cases in all.
    pub fn cases(&self) -> u64 {
        self.groups.iter().map(Group::cases).sum()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for group in &self.groups {
            for (_, first) in group.shown.values().take(SHOWN) {
                writeln!(f, "{first}")?;
            }
            for (about, (count, _)) in &group.shown {
                writeln!(f, "{}: {count} cases with {about} differ", group.name)?;
            }
            if let Some(case) = group.differing.first() {
                let (name, seed) = (group.name, self.seed);
                let others = &group.differing[..group.differing.len().min(LISTED)];
                writeln!(
                    f,
                    "again: cargo run --release -p cpu --example differential -- --seed {seed} --only {name} --case {case}\n\
                     (cases that differ: {others:?})\n"
                )?;
            }
        }
        for (mode, covered, missing) in &self.uncovered {
            let count: usize = missing.values().map(Vec::len).sum();
            writeln!(f, "{mode:?}: {covered} forms covered, {count} not:")?;
            for (reason, forms) in missing {
                writeln!(f, "    {} ({reason}): {}", forms.len(), forms.join(" "))?;
            }
        }
        let (cases, differences, doubts) = (self.cases(), self.differences(), self.doubts());
        writeln!(
            f,
            "{cases} cases, {differences} differences, and {doubts} from KVM to be read against the manual"
        )
    }
}
