//! Screenshots: a frame as a PNG file, whole or not there at all.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::frame::Frame;

/// A screenshot that could not be written.
#[derive(Debug, thiserror::Error)]
#[error("the picture cannot be written to {}: {source}", path.display())]
pub struct ImageError {
    /// Where it should have gone.
    pub path: PathBuf,
    /// Why it did not.
    pub source: ImageErrorKind,
}

/// Why a screenshot could not be written.
#[derive(Debug, thiserror::Error)]
pub enum ImageErrorKind {
    /// The guest has not shown anything yet.
    #[error("there is no frame yet")]
    Empty,
    /// The file could not be made, written or renamed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The frame could not be encoded.
    #[error(transparent)]
    Encoding(#[from] png::EncodingError),
}

/// Writes `frame` as a PNG file at `path`: under a temporary name beside it, then renamed.
pub fn write_png(frame: &Frame, path: &Path) -> Result<(), ImageError> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(".{}.part", std::process::id()));
    let temporary = PathBuf::from(temporary);
    let written = write_whole(frame, &temporary).and_then(|()| Ok(fs::rename(&temporary, path)?));
    written.map_err(|source| {
        // Nothing is lost when the remains cannot be removed; the first error is the one to show.
        let _ = fs::remove_file(&temporary);
        ImageError { path: path.to_owned(), source }
    })
}

fn write_whole(frame: &Frame, path: &Path) -> Result<(), ImageErrorKind> {
    if frame.pixels.is_empty() {
        return Err(ImageErrorKind::Empty);
    }
    let mut file = BufWriter::new(File::create(path)?);
    encode_png(frame, &mut file)?;
    file.flush()?;
    Ok(())
}

/// Encodes `frame` as PNG, 8 bits of red, green and blue.
pub fn encode_png(frame: &Frame, to: impl Write) -> Result<(), png::EncodingError> {
    let mut encoder = png::Encoder::new(to, frame.width, frame.height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let mut bytes = Vec::with_capacity(frame.pixels.len() * 3);
    for &pixel in &frame.pixels {
        let [_, red, green, blue] = pixel.to_be_bytes();
        bytes.extend([red, green, blue]);
    }
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&bytes)?;
    writer.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_png_read_back_has_the_same_pixels() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("screen.png");
        let frame = Frame { width: 3, height: 2, pixels: (0..6).map(|n| n * 0x2A_1507).collect(), serial: 1 };
        write_png(&frame, &path).unwrap();
        let decoder = png::Decoder::new(io::BufReader::new(File::open(&path).unwrap()));
        let mut reader = decoder.read_info().unwrap();
        let mut bytes = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut bytes).unwrap();
        assert_eq!((info.width, info.height), (3, 2));
        let pixels: Vec<u32> = bytes.chunks(3).map(|c| u32::from_be_bytes([0, c[0], c[1], c[2]])).collect();
        assert_eq!(pixels, frame.pixels);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing temporary is left");
    }

    #[test]
    fn an_error_names_the_file_and_the_reason() {
        let folder = tempfile::tempdir().unwrap();
        let frame = Frame { width: 1, height: 1, pixels: vec![0], serial: 1 };
        let error = write_png(&frame, &folder.path().join("missing/screen.png")).unwrap_err();
        let message = error.to_string();
        assert!(message.contains("missing/screen.png") && message.contains("No such file"), "{message}");
        let error = write_png(&Frame::default(), &folder.path().join("screen.png")).unwrap_err();
        assert!(error.to_string().contains("no frame yet"));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
