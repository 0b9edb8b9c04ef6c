//! Long runs of bytes in a saved state, as bytes and not as lists of numbers.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Blob(pub Vec<u8>);

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Blob, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Blob;

            fn expecting(&self, formatter: &mut std::fmt::Formatter) -> std::fmt::Result {
                formatter.write_str("bytes")
            }

            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Blob, E> {
                Ok(Blob(bytes.to_vec()))
            }

            fn visit_byte_buf<E: de::Error>(self, bytes: Vec<u8>) -> Result<Blob, E> {
                Ok(Blob(bytes))
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, mut bytes: A) -> Result<Blob, A::Error> {
                let mut blob = Vec::new();
                while let Some(byte) = bytes.next_element()? {
                    blob.push(byte);
                }
                Ok(Blob(blob))
            }
        }
        deserializer.deserialize_byte_buf(Visitor)
    }
}

/// Cells of four planes as bytes, for `#[serde(with)]`.
pub mod cells {
    use super::*;

    /// Plane 0 to 3 of the first cell, of the next, and so on.
    pub fn serialize<S: Serializer>(cells: &[u32], serializer: S) -> Result<S::Ok, S::Error> {
        Blob(cells.iter().flat_map(|cell| cell.to_le_bytes()).collect()).serialize(serializer)
    }

    /// The reverse.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u32>, D::Error> {
        let Blob(bytes) = Blob::deserialize(deserializer)?;
        let (cells, rest) = bytes.as_chunks::<4>();
        if !rest.is_empty() {
            return Err(de::Error::custom("video memory is not whole cells of four planes"));
        }
        Ok(cells.iter().map(|cell| u32::from_le_bytes(*cell)).collect())
    }
}
