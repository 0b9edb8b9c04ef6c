//! Exceptions by name. Source: Intel SDM 3A, table 6-1.

const NAMES: [(&str, &str); 22] = [
    ("#DE", "divide error"),
    ("#DB", "debug exception"),
    ("NMI", ""),
    ("#BP", "breakpoint"),
    ("#OF", "overflow"),
    ("#BR", "bound range exceeded"),
    ("#UD", "invalid opcode"),
    ("#NM", "device not available"),
    ("#DF", "double fault"),
    ("", ""),
    ("#TS", "invalid TSS"),
    ("#NP", "segment not present"),
    ("#SS", "stack-segment fault"),
    ("#GP", "general protection"),
    ("#PF", "page fault"),
    ("", ""),
    ("#MF", "x87 floating-point error"),
    ("#AC", "alignment check"),
    ("#MC", "machine check"),
    ("#XM", "SIMD floating-point exception"),
    ("#VE", "virtualization exception"),
    ("#CP", "control protection"),
];

fn entry(vector: u8) -> Option<(&'static str, &'static str)> {
    NAMES.get(usize::from(vector)).copied().filter(|(short, _)| !short.is_empty())
}

/// "#PF", or "interrupt 0x30" for what is no exception.
pub fn short(vector: u8) -> String {
    entry(vector).map_or_else(|| format!("interrupt {vector:#04x}"), |(short, _)| short.to_owned())
}

/// "#PF page fault", or "interrupt 0x30" for what is no exception.
pub fn name(vector: u8) -> String {
    match entry(vector) {
        Some((short, "")) => short.to_owned(),
        Some((short, long)) => format!("{short} {long}"),
        None => format!("interrupt {vector:#04x}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_manuals() {
        assert_eq!((short(14), name(14)), ("#PF".to_owned(), "#PF page fault".to_owned()));
        assert_eq!((short(2), name(2)), ("NMI".to_owned(), "NMI".to_owned()));
        assert_eq!((short(9), name(0x30)), ("interrupt 0x09".to_owned(), "interrupt 0x30".to_owned()));
    }
}
