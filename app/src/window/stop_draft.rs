//! The form for something to stop at: what is chosen in it becomes the words that `ctl break add` takes.

use engine::debugger::{Condition, words};
use engine::inspect::symbols::Symbols;

/// Kinds of conditions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// An instruction.
    #[default]
    Execute,
    /// Linear memory.
    Data,
    /// Guest-physical memory.
    Physical,
    /// Ports.
    Port,
    /// An interrupt's delivery.
    Interrupt,
    /// An exception's delivery.
    Exception,
    /// A change of the processor's mode.
    Mode,
    /// A timer's tick.
    Timer,
    /// An exit.
    Exit,
}

/// All of them, in the form's order.
pub const KINDS: [Kind; 9] = [
    Kind::Execute,
    Kind::Data,
    Kind::Physical,
    Kind::Port,
    Kind::Interrupt,
    Kind::Exception,
    Kind::Mode,
    Kind::Timer,
    Kind::Exit,
];

impl Kind {
    /// Its word in `ctl break add`.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Execute => "execute",
            Kind::Data => "data",
            Kind::Physical => "physical",
            Kind::Port => "port",
            Kind::Interrupt => "interrupt",
            Kind::Exception => "exception",
            Kind::Mode => "mode",
            Kind::Timer => "timer",
            Kind::Exit => "exit",
        }
    }

    /// What it stops at, in a sentence.
    pub fn meaning(self) -> &'static str {
        match self {
            Kind::Execute => "Before the instruction at a linear address, or at a symbol",
            Kind::Data => "After an instruction accessed these bytes of linear memory",
            Kind::Physical => "After an access to these bytes of guest-physical memory, RAM or a device's",
            Kind::Port => "After IN or OUT at a port, or at a range of ports",
            Kind::Interrupt => "At the handler of an interrupt, once it was delivered",
            Kind::Exception => "At the handler of an exception, once it was delivered",
            Kind::Mode => "When the processor's mode, or paging, has changed",
            Kind::Timer => "At the next tick of a timer of the guest",
            Kind::Exit => "At the next exit of a kind",
        }
    }
}

/// Ways to access, as words.
pub const ACCESSES: [&str; 3] = ["write", "read", "access"];
/// Where interrupts come from; empty: anywhere.
pub const SOURCES: [&str; 3] = ["", "hardware", "instruction"];
/// Modes; empty: any change.
pub const MODES: [&str; 5] = ["", "real", "protected", "virtual-8086", "long"];
/// Kinds of exits.
pub const EXITS: [&str; 4] = ["port", "device-memory", "interrupt", "halt"];

/// What is in the form.
#[derive(Clone, Debug, PartialEq)]
pub struct StopDraft {
    /// Which kind.
    pub kind: Kind,
    /// Address, symbol or ports.
    pub place: String,
    /// Length in bytes.
    pub bytes: String,
    /// One of [`ACCESSES`].
    pub access: &'static str,
    /// Vector; empty: any.
    pub vector: String,
    /// One of [`SOURCES`].
    pub source: &'static str,
    /// Error code; empty: any.
    pub code: String,
    /// One of [`MODES`].
    pub mode: &'static str,
    /// A timer's name.
    pub timer: String,
    /// One of [`EXITS`].
    pub exit: &'static str,
    /// Times it is to be met before the machine stops.
    pub ignore: u64,
}

impl Default for StopDraft {
    fn default() -> StopDraft {
        StopDraft {
            kind: Kind::default(),
            place: String::new(),
            bytes: "4".to_owned(),
            access: ACCESSES[0],
            vector: String::new(),
            source: SOURCES[0],
            code: String::new(),
            mode: MODES[0],
            timer: String::new(),
            exit: EXITS[0],
            ignore: 0,
        }
    }
}

impl StopDraft {
    /// As words.
    pub fn words(&self) -> Vec<String> {
        let mut words = vec![self.kind.word()];
        match self.kind {
            Kind::Execute => words.push(&self.place),
            Kind::Data | Kind::Physical => words.extend([&*self.place, &self.bytes, self.access]),
            Kind::Port => words.extend([&*self.place, self.access]),
            Kind::Interrupt => words.extend([&*self.vector, self.source]),
            Kind::Exception => {
                words.push(&self.vector);
                if !self.code.trim().is_empty() {
                    words.extend(["error", &self.code]);
                }
            }
            Kind::Mode => words.push(self.mode),
            Kind::Timer => words.extend(self.timer.split(' ')),
            Kind::Exit => words.push(self.exit),
        }
        words.into_iter().map(|word| word.trim().to_owned()).filter(|word| !word.is_empty()).collect()
    }

    /// The condition it makes, or what is missing.
    pub fn condition(&self, symbols: &Symbols) -> Result<Condition, String> {
        let missing = match self.kind {
            Kind::Execute | Kind::Data | Kind::Physical if self.place.trim().is_empty() => "an address",
            Kind::Port if self.place.trim().is_empty() => "a port, or a range such as 0x60-0x64",
            Kind::Timer if self.timer.is_empty() => "a timer",
            _ => "",
        };
        if !missing.is_empty() {
            return Err(format!("give {missing}"));
        }
        let all = self.words();
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        words::condition(&all, &|place| symbols.address_of(place))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_the_form_is_a_condition() {
        let draft = StopDraft {
            place: "0x60".into(),
            vector: "14".into(),
            code: "0x2".into(),
            timer: "8254 channel 0".into(),
            mode: "long",
            source: "hardware",
            ..StopDraft::default()
        };
        let written: Vec<String> = KINDS
            .map(|kind| {
                StopDraft { kind, ..draft.clone() }.condition(&Symbols::default()).unwrap().to_string()
            })
            .to_vec();
        assert_eq!(
            written,
            [
                "execute 0x60",
                "data 0x60 4 write",
                "physical 0x60 4 write",
                "port 0x60 write",
                "interrupt 0xe hardware",
                "exception #PF error 0x2",
                "mode long",
                "timer 8254 channel 0",
                "exit port",
            ]
        );
    }

    #[test]
    fn what_is_missing_is_said() {
        let told = |kind| StopDraft { kind, ..StopDraft::default() }.condition(&Symbols::default());
        assert!(told(Kind::Execute).unwrap_err().contains("address"));
        assert!(told(Kind::Port).unwrap_err().contains("0x60-0x64"));
        assert!(told(Kind::Timer).unwrap_err().contains("timer"));
        assert!(told(Kind::Interrupt).is_ok() && told(Kind::Mode).is_ok());
        let named = StopDraft { place: "start".into(), ..StopDraft::default() };
        assert!(named.condition(&Symbols::default()).unwrap_err().contains("symbols"));
    }
}
