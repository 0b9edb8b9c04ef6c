//! Register states by the names of their parts: what differs between two, and changing one part.

use cpu::Registers;
use serde::Serialize;
use serde_json::Value;

const GENERAL: [&str; 16] = [
    "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14",
    "r15",
];
const SEGMENTS: [&str; 6] = ["es", "cs", "ss", "ds", "fs", "gs"];
const DEBUG: [&str; 6] = ["dr0", "dr1", "dr2", "dr3", "dr6", "dr7"];

/// One value that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Which register, or part of one: "rax", "cs.base", "fpu.ymm[3][0]".
    pub name: String,
    /// Its value in the first state.
    pub first: String,
    /// In the second.
    pub second: String,
}

/// Every value of the complete state that differs, in the order of the state.
pub fn differences(first: &Registers, second: &Registers) -> Vec<Difference> {
    let tree = |registers: &Registers| serde_json::to_value(registers).unwrap_or(Value::Null);
    let mut found = Vec::new();
    compare(String::new(), &tree(first), &tree(second), &mut found);
    found
}

fn compare(path: String, first: &Value, second: &Value, found: &mut Vec<Difference>) {
    if first == second {
        return;
    }
    match (first, second) {
        (Value::Object(a), Value::Object(b)) => {
            for (key, value) in a {
                let name = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                compare(name, value, b.get(key).unwrap_or(&Value::Null), found);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (index, (one, other)) in a.iter().zip(b).enumerate() {
                compare(element(&path, index), one, other, found);
            }
        }
        _ => found.push(Difference { name: path, first: shown(first), second: shown(second) }),
    }
}

/// Gives the part of this name, as [`differences`] names it (a segment's name is its selector), another value. False if
/// there is no such part.
///
/// # Errors
/// If the part is too narrow for the value.
pub fn assign(registers: &mut Registers, name: &str, value: u64) -> Result<bool, String> {
    let name = if SEGMENTS.contains(&name) || matches!(name, "ldtr" | "tr") {
        format!("{name}.selector")
    } else {
        name.to_owned()
    };
    let Ok(mut tree) = serde_json::to_value(&*registers) else { return Ok(false) };
    let Some(part) = find(String::new(), &mut tree, &name) else { return Ok(false) };
    *part = match part {
        Value::Bool(_) if value < 2 => Value::Bool(value == 1),
        _ => Value::from(value),
    };
    *registers = serde_json::from_value(tree).map_err(|_| format!("{name} cannot be {value:#x}"))?;
    Ok(true)
}

fn find<'a>(path: String, tree: &'a mut Value, name: &str) -> Option<&'a mut Value> {
    match tree {
        Value::Object(parts) => parts.iter_mut().find_map(|(key, part)| {
            find(if path.is_empty() { key.clone() } else { format!("{path}.{key}") }, part, name)
        }),
        Value::Array(parts) => {
            let mut parts = parts.iter_mut().enumerate();
            parts.find_map(|(index, part)| find(element(&path, index), part, name))
        }
        // What is not there (an event that is pending) is more than a number.
        Value::Number(_) | Value::Bool(_) if path == name => Some(tree),
        _ => None,
    }
}

fn element(path: &str, index: usize) -> String {
    let name = match path {
        "general" => GENERAL.get(index),
        "segments" => SEGMENTS.get(index),
        "debug" => DEBUG.get(index),
        _ => None,
    };
    name.map_or_else(|| format!("{path}[{index}]"), |name| (*name).to_owned())
}

fn shown(value: &Value) -> String {
    value.as_u64().map_or_else(|| value.to_string(), |number| format!("{number:#x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_changed_by_the_name_under_which_it_differs() {
        let first = Registers::reset();
        for name in ["rbx", "cs.base", "dr7", "msrs.star", "fpu.ymm[2][1]", "idtr.limit", "cr2", "halted"] {
            let mut second = first.clone();
            assert_eq!(assign(&mut second, name, 1), Ok(true), "{name}");
            let found = differences(&first, &second);
            assert!(found.len() == 1 && found[0].name == name, "{name}: {found:?}");
        }
        let mut second = first.clone();
        assert_eq!(assign(&mut second, "es", 0x10), Ok(true));
        assert_eq!(second.segments[0].selector, 0x10);
        assert!(assign(&mut second, "es", 0x1_0000).unwrap_err().contains("es.selector"));
        assert_eq!(assign(&mut second, "general", 1), Ok(false));
        assert_eq!(assign(&mut second, "rflag", 1), Ok(false));
    }

    #[test]
    fn only_what_differs_is_told_by_its_name() {
        let first = Registers::reset();
        let mut second = first.clone();
        assert!(differences(&first, &second).is_empty());
        second.general[3] = 5;
        second.segments[1].base = 0x7C00;
        second.debug[5] = 0x401;
        second.fpu.ymm[2][1] = 9;
        second.msrs.star = 1;
        let names: Vec<String> = differences(&first, &second).into_iter().map(|found| found.name).collect();
        let mut expected = ["rbx", "cs.base", "dr7", "msrs.star", "fpu.ymm[2][1]"];
        let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
        names.sort_unstable();
        expected.sort_unstable();
        assert_eq!(names, expected);
        let rbx = differences(&first, &second).into_iter().find(|found| found.name == "rbx").unwrap();
        assert_eq!((rbx.first.as_str(), rbx.second.as_str()), ("0x0", "0x5"));
    }
}
