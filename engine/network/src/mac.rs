//! Ethernet addresses.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A 48-bit Ethernet address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// To everyone.
    pub const BROADCAST: Mac = Mac([0xFF; 6]);

    /// An address for whatever has this name: always the same, locally administered, to one receiver.
    pub fn for_name(name: &str) -> Mac {
        // FNV-1a, 64 bits: stable for ever, unlike the standard library's hashers.
        let hash = name.bytes().fold(0xCBF2_9CE4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3)
        });
        let [a, b, c, d, ..] = (hash ^ hash >> 32).to_le_bytes();
        Mac([0x52, 0x56, a, b, c, d])
    }

    /// The destination of a frame, if it is long enough to have one.
    pub fn destination(frame: &[u8]) -> Option<Mac> {
        frame.first_chunk().map(|bytes| Mac(*bytes))
    }

    /// The source of a frame, if it is long enough to have one.
    pub fn source(frame: &[u8]) -> Option<Mac> {
        frame.get(6..)?.first_chunk().map(|bytes| Mac(*bytes))
    }

    /// Whether it addresses a group (broadcast included): bit 0 of the first byte, IEEE 802.3 §3.2.3.
    pub const fn is_group(self) -> bool {
        self.0[0] & 1 != 0
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl FromStr for Mac {
    type Err = String;

    fn from_str(text: &str) -> Result<Mac, String> {
        let wrong = || format!("'{text}' is no Ethernet address; write for example 52:56:00:12:34:56");
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().filter(|part| part.len() == 2).ok_or_else(wrong)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| wrong())?;
        }
        let mac = Mac(bytes);
        match parts.next() {
            None if !mac.is_group() => Ok(mac),
            None => Err(format!("'{text}' addresses a group, not one card")),
            Some(_) => Err(wrong()),
        }
    }
}

impl Serialize for Mac {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Mac {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Mac, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_read_as_people_write_them() {
        let mac: Mac = "52:56:00:ab:CD:ef".parse().unwrap();
        assert_eq!(mac, Mac([0x52, 0x56, 0, 0xAB, 0xCD, 0xEF]));
        assert_eq!(mac.to_string(), "52:56:00:ab:cd:ef");
        for wrong in [
            "",
            "52:56:00:ab:cd",
            "52:56:00:ab:cd:ef:01",
            "5:6:0:a:c:e",
            "zz:56:00:ab:cd:ef",
            "01:00:5e:00:00:01",
        ] {
            assert!(wrong.parse::<Mac>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_name_has_one_address_for_ever() {
        assert_eq!(Mac::for_name("Debian"), Mac::for_name("Debian"));
        assert_ne!(Mac::for_name("Debian"), Mac::for_name("debian"));
        let mac = Mac::for_name("x").0;
        assert_eq!(mac[0] & 3, 2, "locally administered, not a group");
    }
}
