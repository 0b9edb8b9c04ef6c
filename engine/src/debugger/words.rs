//! Conditions as people write them: `execute 0x7c00`, `data 0x500 4 write`, `port 0x60 read`, `exception #PF`.

use cpu::ModeKind;

use super::condition::{Access, Condition, ExitKind, InterruptSource};
use crate::inspect::exception;

/// How a condition is written.
pub const FORMS: &str = "execute ADDRESS | data ADDRESS BYTES [read|write|access] | \
physical ADDRESS BYTES [read|write|access] | port N[-M] [read|write|access] | \
interrupt [VECTOR] [hardware|instruction] | exception [VECTOR|#PF] [error CODE] | \
mode [real|protected|virtual-8086|long] | timer NAME | exit port|device-memory|interrupt|halt";

/// Reads a condition; `resolve` knows addresses, and names if there are symbols.
pub fn condition(words: &[&str], resolve: &dyn Fn(&str) -> Result<u64, String>) -> Result<Condition, String> {
    let unknown = || format!("'{}' is no condition; write one of: {FORMS}", words.join(" "));
    let (&kind, rest) = words.split_first().ok_or_else(unknown)?;
    match (kind, rest) {
        ("execute", [address]) => Ok(Condition::Execute { address: resolve(address)? }),
        ("data" | "physical", [start, bytes, access @ ..]) => {
            let (start, bytes, access) = (resolve(start)?, number(bytes)?, access_of(access, Access::Write)?);
            if bytes == 0 || start.checked_add(bytes - 1).is_none() {
                return Err(format!("{bytes} bytes at {start:#x} are no range of memory"));
            }
            Ok(match kind {
                "data" => Condition::Data { start, bytes, access },
                _ => Condition::Physical { start, bytes, access },
            })
        }
        ("port", [ports, access @ ..]) => {
            let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
            let port = |text| {
                number(text).and_then(|port| u16::try_from(port).map_err(|_| format!("{text} is no port")))
            };
            let (first, last) = (port(first)?, port(last)?);
            if first > last {
                return Err(format!("ports run upwards: {last:#x}-{first:#x}"));
            }
            Ok(Condition::Port { first, last, access: access_of(access, Access::Any)? })
        }
        ("interrupt", rest) => {
            let (source, rest) = match rest.split_last() {
                Some((&"hardware", rest)) => (InterruptSource::Hardware, rest),
                Some((&"instruction", rest)) => (InterruptSource::Instruction, rest),
                _ => (InterruptSource::Any, rest),
            };
            Ok(Condition::Interrupt { vector: optional_vector(rest)?, source })
        }
        ("exception", rest) => {
            let (rest, error_code) = match rest {
                [rest @ .., "error", code] => {
                    (rest, Some(u32::try_from(number(code)?).map_err(|_| unknown())?))
                }
                rest => (rest, None),
            };
            let vector = optional_vector(rest)?;
            if let Some(vector @ 32..) = vector {
                return Err(format!(
                    "exceptions are 0 to 31, not {vector}; `interrupt {vector}` is what you mean"
                ));
            }
            Ok(Condition::Exception { vector, error_code })
        }
        ("mode", []) => Ok(Condition::Mode { to: None }),
        ("mode", [to]) => {
            let to = match *to {
                "real" => ModeKind::Real,
                "protected" => ModeKind::Protected,
                "virtual-8086" => ModeKind::Virtual8086,
                "long" => ModeKind::Long,
                _ => return Err(unknown()),
            };
            Ok(Condition::Mode { to: Some(to) })
        }
        ("timer", [_, ..]) => Ok(Condition::Timer { name: rest.join(" ") }),
        ("exit", [exit]) => {
            let exit = match *exit {
                "port" => ExitKind::Port,
                "device-memory" => ExitKind::DeviceMemory,
                "interrupt" => ExitKind::Interrupt,
                "halt" => ExitKind::Halt,
                _ => return Err(unknown()),
            };
            Ok(Condition::Exit { exit })
        }
        _ => Err(unknown()),
    }
}

fn access_of(words: &[&str], default: Access) -> Result<Access, String> {
    match words {
        [] => Ok(default),
        ["read"] => Ok(Access::Read),
        ["write"] => Ok(Access::Write),
        ["access"] => Ok(Access::Any),
        other => Err(format!("'{}': write read, write or access", other.join(" "))),
    }
}

fn optional_vector(words: &[&str]) -> Result<Option<u8>, String> {
    let [word] = words else {
        return if words.is_empty() { Ok(None) } else { Err(format!("'{}' is no vector", words.join(" "))) };
    };
    let named = (0..32).find(|vector| exception::short(*vector).eq_ignore_ascii_case(word));
    let vector = match named {
        Some(vector) => Some(vector),
        None => number(word).ok().and_then(|vector| u8::try_from(vector).ok()),
    };
    vector.map(Some).ok_or_else(|| format!("'{word}' is no vector: 0 to 255, or a name such as #PF"))
}

/// A number: 0x for hexadecimal, else decimal.
pub fn number(text: &str) -> Result<u64, String> {
    let digits = text.replace('_', "");
    let parsed = match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => digits.parse(),
    };
    parsed.map_err(|_| format!("'{text}' is no number; write for example 0x7c00 or 512"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Condition, String> {
        condition(&text.split_whitespace().collect::<Vec<_>>(), &number)
    }

    #[test]
    fn what_is_shown_can_be_written_again() {
        for text in [
            "execute 0x7c00",
            "data 0x500 4 write",
            "physical 0xb8000 4000 access",
            "port 0x60 read",
            "port 0x40-0x43 access",
            "interrupt",
            "interrupt 0x8 hardware",
            "interrupt 0x10 instruction",
            "exception",
            "exception #PF error 0x2",
            "exception #UD",
            "mode",
            "mode long",
            "timer 8254 channel 0",
            "exit halt",
        ] {
            assert_eq!(read(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_what_would() {
        for text in
            ["", "execute", "data 0 0", "data 0xffffffffffffffff 2", "port 0x10000", "port 9-8", "mode odd"]
        {
            assert!(read(text).is_err(), "{text}");
        }
        assert!(read("interrupt 300").unwrap_err().contains("0 to 255"));
        assert!(read("jump 5").unwrap_err().contains("execute ADDRESS"));
    }
}
