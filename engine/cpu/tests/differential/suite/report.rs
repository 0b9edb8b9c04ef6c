//! What was run, what agreed, what was covered, what differed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use iced_x86::Code;

use super::case::Mode;

/// Ways of one excuse that are told.
const WAYS: usize = 40;

/// How a case went, but for differences.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tally {
    /// Ran to its end, and all agreed.
    Agreed,
    /// Ended in an exception before that, the same one.
    AgreedOnFault,
}

/// The totals of one group.
#[derive(Clone, Debug, Default)]
pub struct Group {
    /// What it is called.
    pub name: &'static str,
    /// Cases that ran to their end.
    pub agreed: u64,
    /// Cases that ended in the same exception.
    pub faulted: u64,
    /// Numbers of the cases that differ.
    pub differing: Vec<u64>,
    /// Differences by what they are about: how many, and the first in full.
    pub shown: BTreeMap<String, (u64, String)>,
    /// Forms that ran to their end with agreement, by mode.
    pub covered: BTreeMap<Mode, BTreeSet<u16>>,
    /// Forms that only ever ended in an exception.
    pub only_faulted: BTreeMap<Mode, BTreeSet<u16>>,
    /// Cases that differ where they may: reason, and how many differ in which way.
    pub excused: BTreeMap<&'static str, BTreeMap<String, u64>>,
    /// Cases nobody could judge: why, how many.
    pub refused: BTreeMap<String, u64>,
    /// Why the group did not run.
    pub skipped: Option<String>,
}

impl Group {
    /// An empty one.
    pub fn new(name: &'static str) -> Group {
        Group { name, ..Group::default() }
    }

    /// Counts a case.
    pub fn count(&mut self, tally: Tally) {
        match tally {
            Tally::Agreed => self.agreed += 1,
            Tally::AgreedOnFault => self.faulted += 1,
        }
    }

    /// Counts a difference that is none, and in which way it was one.
    pub fn excuse(&mut self, reason: &'static str, way: String) {
        *self.excused.entry(reason).or_default().entry(way).or_default() += 1;
    }

    /// Counts a case nobody can judge.
    pub fn refuse(&mut self, reason: &str) {
        *self.refused.entry(reason.to_owned()).or_default() += 1;
    }

    /// Notes the forms of a case that agreed.
    pub fn cover(&mut self, mode: Mode, codes: impl Iterator<Item = Code>, ran: bool) {
        let set = if ran { &mut self.covered } else { &mut self.only_faulted };
        set.entry(mode).or_default().extend(codes.map(|code| code as u16));
    }

    /// Notes a difference about something; the first of each is kept in full.
    pub fn differ(&mut self, case: u64, about: &str, what: &str) {
        self.differing.push(case);
        let first = || (0, format!("{} case {case}:\n{what}", self.name));
        self.shown.entry(about.to_owned()).or_insert_with(first).0 += 1;
    }

    /// Cases in all.
    pub fn cases(&self) -> u64 {
        let excused: u64 = self.excused.values().flat_map(BTreeMap::values).sum();
        let refused: u64 = self.refused.values().sum();
        self.agreed + self.faulted + excused + refused + self.differing.len() as u64
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(reason) = &self.skipped {
            return write!(f, "{:18} skipped: {reason}", self.name);
        }
        let (cases, agreed, faulted) = (self.cases(), self.agreed, self.faulted);
        write!(f, "{:18} {cases:>10} cases: {agreed} agree, {faulted} agree on an exception, ", self.name)?;
        write!(f, "{} differ", self.differing.len())?;
        for (reason, count) in &self.refused {
            write!(f, "\n    {count} not judged: {reason}")?;
        }
        for (reason, ways) in &self.excused {
            write!(f, "\n    {} differ where they may: {reason}", ways.values().sum::<u64>())?;
            let mut ways: Vec<_> = ways.iter().collect();
            ways.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
            for (way, count) in ways.iter().take(WAYS) {
                write!(f, "\n        {count} {way}")?;
            }
            if let Some(others) = ways.get(WAYS..).filter(|others| !others.is_empty()) {
                let count: u64 = others.iter().map(|(_, count)| **count).sum();
                write!(f, "\n        {count} in {} other ways", others.len())?;
            }
        }
        Ok(())
    }
}
