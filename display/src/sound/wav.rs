//! A WAV file of the guest's sound: second n of the file is second n of guest time.
//!
//! Microsoft, *Multimedia Programming Interface and Data Specifications 1.0*: RIFF, 16-bit PCM, two channels. The file
//! is whole at any moment: samples are written first, then the header that counts them. Long silence is a hole in
//! the file and takes no room on the disk.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::{Health, RATE_HZ, Sink, Stereo};

const HEADER_BYTES: u64 = 44;
/// Left and right, 16 bits each.
const SAMPLE_BYTES: u64 = 4;
/// The most samples whose bytes a RIFF header can count: six hours.
const DATA_MAX_BYTES: u64 = (u32::MAX as u64 - HEADER_BYTES) / SAMPLE_BYTES * SAMPLE_BYTES;
/// Samples are written in pieces of this length: a tenth of a second.
const PIECE_BYTES: usize = 19_200;

/// The file, being written.
pub struct WavFile {
    file: File,
    name: String,
    /// Bytes of samples in the file, and those that wait to be written behind them.
    data_bytes: u64,
    waiting: Vec<u8>,
    failure: Option<String>,
}

impl WavFile {
    /// A new file, or an old one made empty.
    pub fn create(path: &Path) -> std::io::Result<WavFile> {
        let name = path.display().to_string();
        let mut wav =
            WavFile { file: File::create(path)?, name, data_bytes: 0, waiting: Vec::new(), failure: None };
        wav.write_out()?;
        Ok(wav)
    }

    /// Writes what waits, and the header that counts it.
    fn write_out(&mut self) -> std::io::Result<()> {
        self.file.write_all_at(&self.waiting, HEADER_BYTES + self.data_bytes)?;
        self.data_bytes += self.waiting.len() as u64;
        self.waiting.clear();
        self.file.write_all_at(&header(self.data_bytes as u32), 0)
    }

    fn flush(&mut self) {
        if self.failure.is_none()
            && let Err(error) = self.write_out()
        {
            self.fail(&error.to_string());
        }
    }

    fn fail(&mut self, reason: &str) {
        self.failure = Some(format!("{}: {reason}", self.name));
        self.waiting = Vec::new();
    }

    fn has_room(&mut self, samples: u64) -> bool {
        let after = self.data_bytes + self.waiting.len() as u64 + samples.saturating_mul(SAMPLE_BYTES);
        if after > DATA_MAX_BYTES && self.failure.is_none() {
            self.flush();
            self.fail("a WAV file holds 4 GiB at most");
        }
        self.failure.is_none()
    }
}

/// The RIFF header of `data_bytes` of samples.
fn header(data_bytes: u32) -> [u8; HEADER_BYTES as usize] {
    const PCM: u16 = 1;
    let mut bytes = Vec::with_capacity(HEADER_BYTES as usize);
    bytes.extend(b"RIFF");
    bytes.extend((data_bytes + HEADER_BYTES as u32 - 8).to_le_bytes());
    bytes.extend(b"WAVEfmt ");
    bytes.extend(16_u32.to_le_bytes());
    bytes.extend([PCM, 2].map(u16::to_le_bytes).concat());
    bytes.extend([RATE_HZ, RATE_HZ * SAMPLE_BYTES as u32].map(u32::to_le_bytes).concat());
    bytes.extend([SAMPLE_BYTES as u16, 16].map(u16::to_le_bytes).concat());
    bytes.extend(b"data");
    bytes.extend(data_bytes.to_le_bytes());
    bytes.try_into().expect("the fields are 44 bytes")
}

impl Sink for WavFile {
    fn play(&mut self, samples: &[Stereo]) {
        if !self.has_room(samples.len() as u64) {
            return;
        }
        for value in samples.iter().flatten() {
            let value = (value * 32_767.0).round() as i16;
            self.waiting.extend(value.to_le_bytes());
        }
        if self.waiting.len() >= PIECE_BYTES {
            self.flush();
        }
    }

    fn silence(&mut self, samples: u64) {
        if !self.has_room(samples) {
            return;
        }
        self.flush();
        let after = self.data_bytes + samples * SAMPLE_BYTES;
        match self.file.set_len(HEADER_BYTES + after) {
            Ok(()) => {
                self.data_bytes = after;
                self.flush();
            }
            Err(error) => self.fail(&error.to_string()),
        }
    }

    fn rest(&mut self) {
        self.flush();
    }

    fn health(&self) -> Health {
        Health { failure: self.failure.clone(), ..Health::default() }
    }
}

impl Drop for WavFile {
    fn drop(&mut self) {
        self.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &Path) -> (u32, Vec<i16>) {
        let bytes = std::fs::read(path).unwrap();
        let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        assert_eq!(
            (&bytes[..4], &bytes[8..16], &bytes[36..40]),
            (&b"RIFF"[..], &b"WAVEfmt "[..], &b"data"[..])
        );
        assert_eq!((word(4), word(24), word(28)), (bytes.len() as u32 - 8, 48_000, 192_000));
        let samples = bytes[44..].chunks(2).map(|pair| i16::from_le_bytes([pair[0], pair[1]])).collect();
        (word(40), samples)
    }

    #[test]
    fn the_file_is_whole_at_any_moment() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sound.wav");
        let mut wav = WavFile::create(&path).unwrap();
        assert_eq!(read(&path), (0, vec![]));
        wav.silence(2);
        wav.play(&[[1.0, -1.0], [0.5, 0.0]]);
        assert_eq!(read(&path), (8, vec![0; 4]), "what waits is not counted");
        wav.rest();
        let all = vec![0, 0, 0, 0, 32_767, -32_767, 16_384, 0];
        assert_eq!(read(&path), (16, all.clone()));
        wav.play(&[[0.0; 2]; 5_000]);
        assert_eq!(read(&path).0, 16 + 20_000, "a long piece is written at once");
        drop(wav);
        assert_eq!(read(&path).1[..8], all);
    }

    #[test]
    fn silence_takes_no_room_and_four_gigabytes_are_the_end() {
        use std::os::unix::fs::MetadataExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sound.wav");
        let mut wav = WavFile::create(&path).unwrap();
        wav.silence(48_000 * 3_600 * 6);
        wav.play(&[[0.5; 2]; 10]);
        wav.rest();
        assert!(wav.health().failure.is_none());
        assert!(std::fs::metadata(&path).unwrap().blocks() * 512 < 1 << 20, "the silence is a hole");
        wav.silence(48_000 * 3_600);
        assert!(wav.health().failure.unwrap().contains("4 GiB"));
        wav.play(&[[0.5; 2]; 10]);
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 44 + 4 * (48_000 * 3_600 * 6 + 10));
    }

    #[test]
    fn a_disk_that_is_full_is_told() {
        let mut wav = WavFile::create(Path::new("/dev/full")).err();
        assert!(wav.take().is_some());
    }
}
