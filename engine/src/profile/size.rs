//! Amounts of memory and room on disks, as people write them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An amount of memory, written as `256M` or `1G`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(u64);

impl Size {
    /// `mib` mebibytes.
    pub const fn mib(mib: u64) -> Size {
        Size(mib << 20)
    }

    /// `bytes` bytes.
    pub const fn of_bytes(bytes: u64) -> Size {
        Size(bytes)
    }

    /// In bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl Default for Size {
    fn default() -> Size {
        Size::mib(256)
    }
}

impl FromStr for Size {
    type Err = String;

    /// A whole number with an optional `K`, `M` or `G`; without one, mebibytes.
    fn from_str(text: &str) -> Result<Size, String> {
        let text = text.trim();
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let unit: u64 = match text[digits.len()..].to_ascii_uppercase().as_str() {
            "" | "M" | "MB" | "MIB" => 1 << 20,
            "K" | "KB" | "KIB" => 1 << 10,
            "G" | "GB" | "GIB" => 1 << 30,
            other => return Err(format!("'{other}' is no unit of memory; write for example 256M or 1G")),
        };
        let number: u64 =
            digits.parse().map_err(|_| format!("'{text}' is no size; write for example 256M or 1G"))?;
        number.checked_mul(unit).map(Size).ok_or_else(|| format!("'{text}' is too large"))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            n if n.is_multiple_of(1 << 30) => write!(f, "{}G", n >> 30),
            n if n.is_multiple_of(1 << 20) => write!(f, "{}M", n >> 20),
            n => write!(f, "{}K", n >> 10),
        }
    }
}

impl fmt::Debug for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.to_string())
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Size, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_as_people_write_them() {
        assert_eq!("256M".parse::<Size>().unwrap(), Size::mib(256));
        assert_eq!("1g".parse::<Size>().unwrap(), Size::mib(1024));
        assert_eq!("64".parse::<Size>().unwrap(), Size::mib(64));
        assert!("12 bananas".parse::<Size>().is_err());
        assert!("99999999999G".parse::<Size>().is_err());
    }
}
