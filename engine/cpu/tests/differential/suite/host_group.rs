//! Groups of cases that the host's own processor judges.

use std::collections::BTreeMap;
use std::fmt::Write;

use iced_x86::Code;

use super::case::{Case, Item, Mode, Outcome};
use super::catalogue::Catalogue;
use super::descriptors::{CODE_16, CODES_32};
use super::encode::encode;
use super::excuses::{excuse, excuse_with_memory};
use super::forms::Template;
use super::generate::{Plan, generate};
use super::host::{Host, Ran, signals};
use super::masks::ARITHMETIC;
use super::random::Random;
use super::registers::Start;
use super::report::{Group, Tally};
use super::software::Software;
use super::window::{self, RIGHTS};

/// Code that was not looked at may be what no maker's processors do alike.
const ASTRAY: &str =
    "it leads into the middle of an instruction, to its own code in another mode, or to code it changed";

/// Both processors, and windows that are equal between cases.
pub struct Bench {
    host: Host,
    software: Software,
    pristine: Vec<u8>,
    catalogues: BTreeMap<Mode, Catalogue>,
}

/// Plan and mode of a group.
#[derive(Clone, Copy)]
pub struct HostGroup {
    /// What it is called.
    pub name: &'static str,
    plan: Plan,
    mode: Mode,
}

const fn group(name: &'static str, plan: Plan, mode: Mode) -> HostGroup {
    HostGroup { name, plan, mode }
}

/// All of them.
pub const GROUPS: [HostGroup; 12] = [
    group("single64", Plan::Single, Mode::Bits64),
    group("single32", Plan::Single, Mode::Bits32),
    group("single16", Plan::Single, Mode::Bits16),
    group("sequence64", Plan::Sequence, Mode::Bits64),
    group("sequence32", Plan::Sequence, Mode::Bits32),
    group("sequence16", Plan::Sequence, Mode::Bits16),
    group("strings64", Plan::Strings, Mode::Bits64),
    group("strings32", Plan::Strings, Mode::Bits32),
    group("strings16", Plan::Strings, Mode::Bits16),
    group("transfers64", Plan::Transfers, Mode::Bits64),
    group("transfers32", Plan::Transfers, Mode::Bits32),
    group("transfers16", Plan::Transfers, Mode::Bits16),
];

impl Bench {
    /// Prepares this process; `Err` says why it cannot.
    pub fn new() -> Result<Bench, String> {
        let host = Host::new()?;
        let pristine = window::pristine(&mut Random::new(0x5EED));
        let catalogues = [Mode::Bits64, Mode::Bits32, Mode::Bits16].map(|mode| (mode, Catalogue::new(mode)));
        let mut bench =
            Bench { host, software: Software::new(), pristine, catalogues: BTreeMap::from(catalogues) };
        bench.host.window().copy_from_slice(&bench.pristine);
        bench.software.window().copy_from_slice(&bench.pristine);
        Ok(bench)
    }

    /// Runs one case of a group and says how it went.
    pub fn run(&mut self, group: &HostGroup, seed: u64, number: u64, verbose: bool, into: &mut Group) {
        signals::begin(number);
        let mut random = Random::of_case(seed, group.name, number);
        let Some(case) = generate(&self.catalogues[&group.mode], group.plan, &mut random) else {
            return into.refuse("chance made no case");
        };
        if verbose {
            println!("{case}");
        }
        self.prepare(&case);
        let theirs = self.host.run(&case);
        let ours = self.software.run(&case);
        let verdict = match (theirs, ours) {
            (Ran::Refused(reason), _) => Verdict::Refused(reason),
            (_, None) => Verdict::Refused("it goes round and round"),
            (Ran::Ended(theirs), Some(ours)) => self.judge(&case, theirs, ours, verbose),
        };
        self.restore(&case, matches!(verdict, Verdict::Agreed(_)));
        match verdict {
            Verdict::Refused(reason) => into.refuse(reason),
            Verdict::Excused(reason, way) => into.excuse(reason, way),
            Verdict::Agreed(rip) => {
                let ran = case.item_at(rip).is_none();
                if group.plan != Plan::Sequence {
                    into.cover(case.mode, case.codes(), ran);
                }
                into.count(if ran { Tally::Agreed } else { Tally::AgreedOnFault });
            }
            Verdict::Differ(what) => {
                let about = case.codes().next().map(|code| format!("{code:?}")).unwrap_or_default();
                let about = if case.items.len() == 1 { about } else { "sequence".into() };
                into.differ(number, &about, &format!("{case}{what}"));
            }
        }
    }

    /// Puts code and data of a case into both windows.
    fn prepare(&mut self, case: &Case) {
        self.host.put_code(case.code_at, &case.code());
        self.software.window()[window::CODE..window::CODE_END]
            .copy_from_slice(&self.host.window()[window::CODE..window::CODE_END]);
        for (at, bytes) in &case.pokes {
            self.host.window()[*at..*at + bytes.len()].copy_from_slice(bytes);
            self.software.window()[*at..*at + bytes.len()].copy_from_slice(bytes);
        }
    }

    /// Whether the case leads through code that was not looked at.
    fn goes_astray(&mut self, case: &Case) -> bool {
        self.restore(case, false);
        self.prepare(case);
        self.software.goes_astray(case)
    }

    /// Every form the `host` model does not offer raises #UD, in each mode.
    pub fn absent(&mut self, seed: u64) -> Group {
        let mut group = Group::new("absent");
        let mut random = Random::of_case(seed, "absent", 0);
        for (mode, catalogue) in &self.catalogues {
            for (number, entry) in catalogue.absent.iter().enumerate() {
                let (code, template) = entry.choose(&mut random);
                let Some(case) = absent_case(*mode, code, &template, &mut random) else {
                    group.refuse("chance made no case");
                    continue;
                };
                let at = case.code_at;
                self.software.window()[at..at + 16].fill(0xF4);
                self.software.window()[at..at + case.code().len()].copy_from_slice(&case.code());
                match self.software.run(&case) {
                    Some(end) if end.vector == 6 && end.rip == case.ip() => group.count(Tally::AgreedOnFault),
                    end => {
                        let end = end.map_or_else(String::new, |end| end.to_string());
                        group.differ(number as u64, &format!("{code:?}"), &format!("{case}{end}\n"));
                    }
                }
            }
        }
        let pristine = &self.pristine[window::CODE..window::CODE_END];
        self.software.window()[window::CODE..window::CODE_END].copy_from_slice(pristine);
        group
    }

    fn judge(&mut self, case: &Case, theirs: Outcome, ours: Outcome, verbose: bool) -> Verdict {
        if case.is_astray(theirs.selectors[1], theirs.rip) {
            return Verdict::Refused(ASTRAY);
        }
        let undefined = case.undefined_at(theirs.rip) & ARITHMETIC;
        let rip = theirs.rip;
        let (raw_theirs, raw_ours) = (theirs.clone(), ours.clone());
        let (theirs, ours) = (theirs.normalised(case, undefined), ours.normalised(case, undefined));
        let memory = self.memory_difference();
        if verbose {
            println!("host     {raw_theirs}\nsoftware {raw_ours}");
        }
        if theirs == ours && memory.is_none() {
            return Verdict::Agreed(rip);
        }
        if ours.vector == 14 && self.host.has_more_at(ours.address) {
            return Verdict::Refused("it finds memory of this process");
        }
        let case = &case.with_code(self.software.window());
        if let Some(reason) = excuse_with_memory(case, &theirs, &ours) {
            return Verdict::Excused(reason, way(case, &theirs, &ours));
        }
        if memory.is_none()
            && let Some(reason) = excuse(case, &theirs, &ours)
        {
            return Verdict::Excused(reason, way(case, &theirs, &ours));
        }
        let mut text =
            format!("host     {raw_theirs}\nsoftware {raw_ours}\n(flags ignored: {undefined:#x})\n");
        for n in 0..16 {
            if theirs.general[n] != ours.general[n] {
                let _ =
                    writeln!(text, "  r{n}: host {:#x} software {:#x}", theirs.general[n], ours.general[n]);
            }
        }
        if theirs.flags != ours.flags {
            let _ = writeln!(text, "  flags: host {:#x} software {:#x}", theirs.flags, ours.flags);
        }
        if theirs.fpu != ours.fpu {
            let _ = writeln!(text, "  fpu: host {:x?}\n   software {:x?}", theirs.fpu, ours.fpu);
        }
        if let Some(memory) = memory {
            text += &memory;
        }
        if self.goes_astray(case) {
            return Verdict::Refused(ASTRAY);
        }
        Verdict::Differ(text)
    }

    fn memory_difference(&mut self) -> Option<String> {
        let (theirs, ours) = (self.host.window(), self.software.window());
        for (page, rights) in RIGHTS.into_iter().enumerate() {
            let range = page * 4096..(page + 1) * 4096;
            if !rights.writable() || theirs[range.clone()] == ours[range.clone()] {
                continue;
            }
            let first = range.clone().find(|&at| theirs[at] != ours[at]).unwrap_or(range.start);
            let end = (first + 16).min(range.end);
            let (a, b) = (&theirs[first..end], &ours[first..end]);
            return Some(format!("  window[{first:#x}]: host {a:02x?} software {b:02x?}\n"));
        }
        None
    }

    /// Makes both windows as they were.
    fn restore(&mut self, case: &Case, only_dirty: bool) {
        for (page, rights) in RIGHTS.into_iter().enumerate() {
            let poked =
                case.pokes.iter().any(|(at, bytes)| at >> 12 <= page && (at + bytes.len() - 1) >> 12 >= page);
            let range = page * 4096..(page + 1) * 4096;
            let is_stale = poked || !only_dirty || self.software.is_dirty(page);
            if is_stale && (rights.writable() || poked) {
                self.host.window()[range.clone()].copy_from_slice(&self.pristine[range.clone()]);
                self.software.window()[range.clone()].copy_from_slice(&self.pristine[range]);
            }
        }
        self.software.clean();
    }
}

/// One instruction alone, operands in registers where it has any.
fn absent_case(mode: Mode, code: Code, template: &Template, random: &mut Random) -> Option<Case> {
    let start = Start::new(mode, random);
    let code_at = window::CODE;
    let ip = window::BASE + code_at as u64;
    let encoded = (0..20).find_map(|_| encode(template, code, &start, mode, ip, random))?;
    if encoded.instruction.has_lock_prefix() {
        return None; // raises #UD for that alone
    }
    let (bytes, instruction) = (encoded.bytes, encoded.instruction);
    let mut selectors = start.selectors;
    if mode != Mode::Bits64 {
        selectors[1] = if mode == Mode::Bits16 { CODE_16 } else { CODES_32[1] };
    }
    Some(Case {
        mode,
        general: start.general,
        flags: start.flags,
        selectors,
        bases: start.bases,
        fpu: None,
        code_at,
        items: vec![Item { bytes, instruction, undefined: 0 }],
        pokes: Vec::new(),
        undefined_at_end: 0,
    })
}

/// In which way two outcomes differ.
fn way(case: &Case, host: &Outcome, software: &Outcome) -> String {
    let code = case.item_at(software.rip).or_else(|| case.item_at(host.rip));
    let code = code.map(|item| format!("{:?}", item.instruction.code())).unwrap_or_default();
    format!("{code}: host {}, software {}", host.ending(), software.ending())
}

enum Verdict {
    Refused(&'static str),
    /// They differ, and may.
    Excused(&'static str, String),
    /// Ended here.
    Agreed(u64),
    Differ(String),
}
