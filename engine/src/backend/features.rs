//! What CPUID offers a guest, to be compared with what another processor offers: a guest that has found a feature
//! goes on using it after it was moved. Source: Intel SDM 2A, CPUID; AMD APM 3, appendix E.

use cpu::soft::model::Features;
use cpu::soft::model::feature::{Output, XSAVE_EXTENSIONS, at};
use serde::{Deserialize, Serialize};

/// The words in which features are told, each with the bits that are features of the processor and not of its
/// state (OSXSAVE), its place in the machine (HTT), or repeated from another word (AMD's 0x80000001 EDX).
const WORDS: [(u32, Output, u32); 10] = [
    (1, Output::Ecx, !(1 << 27)),
    (1, Output::Edx, !(1 << 28)),
    (6, Output::Eax, 1 << 2),
    (7, Output::Ebx, !0),
    (7, Output::Ecx, !0),
    (7, Output::Edx, !0),
    (XSAVE_EXTENSIONS, Output::Eax, 0xF),
    (0x8000_0001, Output::Ecx, !0),
    (0x8000_0001, Output::Edx, 0xEE50_0800),
    (0x8000_0007, Output::Edx, 1 << 8),
];

/// The feature words of one processor, in the order of [`WORDS`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer([u32; WORDS.len()]);

impl Offer {
    /// Of a set of known features.
    pub fn of_features(features: Features) -> Offer {
        Offer(WORDS.map(|(leaf, output, bits)| features.word(leaf, output) & bits))
    }

    /// From CPUID; bits 16 and up of what is asked for are the sub-leaf where the leaf is 0xD.
    pub fn of_leaves(leaf: impl Fn(u32, u32) -> [u32; 4]) -> Offer {
        Offer(WORDS.map(|(number, output, bits)| {
            let (number, index) = if number == XSAVE_EXTENSIONS { (0xD, 1) } else { (number, 0) };
            leaf(number, index)[output as usize] & bits
        }))
    }

    /// The names of the features in `needed` that are not here.
    pub fn lacks(&self, needed: &Offer) -> Vec<String> {
        let mut names = Vec::new();
        for (n, (leaf, output, _)) in WORDS.into_iter().enumerate() {
            let missing = needed.0[n] & !self.0[n];
            names.extend((0..32).filter(|bit| missing >> bit & 1 != 0).map(|bit| name(leaf, output, bit)));
        }
        names
    }
}

fn name(leaf: u32, output: Output, bit: u8) -> String {
    match at(leaf, output, bit) {
        Some(feature) => format!("{feature:?}").to_lowercase(),
        None => format!("CPUID {:#x} {} bit {bit}", leaf, format!("{output:?}").to_uppercase()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cpu::CpuModel;

    #[test]
    fn what_is_missing_is_named() {
        let old = Offer::of_features(CpuModel::Pentium3.features());
        let new = Offer::of_features(CpuModel::X86_64V1.features());
        assert_eq!(new.lacks(&old), Vec::<String>::new());
        let lacks = old.lacks(&new);
        assert!(lacks.contains(&"longmode".to_owned()) && lacks.contains(&"sse2".to_owned()), "{lacks:?}");
        let unknown = Offer::of_leaves(|leaf, _| if leaf == 7 { [0, 0, 0, 1 << 26] } else { [0; 4] });
        assert_eq!(old.lacks(&unknown), ["CPUID 0x7 EDX bit 26"]);
    }

    #[test]
    fn a_set_and_its_leaves_offer_the_same() {
        let features = CpuModel::X86_64V3.features();
        let leaf = |leaf, index| {
            let leaf = if index == 1 { XSAVE_EXTENSIONS } else { leaf };
            [Output::Eax, Output::Ebx, Output::Ecx, Output::Edx].map(|output| features.word(leaf, output))
        };
        assert_eq!(Offer::of_leaves(leaf), Offer::of_features(features));
    }
}
