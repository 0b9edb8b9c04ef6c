//! Compressed clusters. Sources: RFC 1951 (deflate, without a zlib header), RFC 8878 (Zstandard).

use std::io::Read;
use std::path::PathBuf;

use flate2::{Decompress, FlushDecompress};
use ruzstd::decoding::StreamingDecoder;

use super::header::{Compression, Header};
use crate::disk::DiskError;
use crate::store::Store;

/// The cluster inflated last: guests read in smaller pieces than clusters.
#[derive(Default)]
pub struct Inflated {
    host: Option<u64>,
    bytes: Vec<u8>,
}

impl Inflated {
    /// The content of the compressed cluster at `host`.
    pub fn get(
        &mut self,
        store: &dyn Store,
        header: &Header,
        host: u64,
        length_bytes: u64,
    ) -> Result<&[u8], DiskError> {
        if self.host != Some(host) {
            self.host = None;
            let mut packed = vec![0; length_bytes as usize];
            store.read_at(host, &mut packed)?;
            self.bytes.resize(header.cluster_bytes() as usize, 0);
            let inflated = match header.compression {
                Compression::Zlib => inflate(&packed, &mut self.bytes),
                Compression::Zstd => decode_zstd(&packed, &mut self.bytes),
            };
            inflated.map_err(|reason| DiskError::Damaged {
                path: PathBuf::from(store.path()),
                what: format!("the compressed data at byte {host} {reason}"),
            })?;
            self.host = Some(host);
        }
        Ok(&self.bytes)
    }

    /// Forgets it: its place may be used for something else.
    pub fn clear(&mut self) {
        self.host = None;
    }
}

/// Fills `out`; what follows in `packed` is the next cluster's.
fn inflate(packed: &[u8], out: &mut [u8]) -> Result<(), String> {
    let mut inflater = Decompress::new(false);
    inflater.decompress(packed, out, FlushDecompress::Finish).map_err(|error| error.to_string())?;
    if inflater.total_out() == out.len() as u64 { Ok(()) } else { Err("ends too early".to_owned()) }
}

/// The same for Zstandard, whose decoder bounds its window to 100 MiB.
fn decode_zstd(packed: &[u8], out: &mut [u8]) -> Result<(), String> {
    let mut decoder = StreamingDecoder::new(packed).map_err(|error| error.to_string())?;
    decoder.read_exact(out).map_err(|error| error.to_string())
}
