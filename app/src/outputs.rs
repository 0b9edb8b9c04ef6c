//! Files the app writes at the end of something: under a temporary name first, then renamed, so that
//! whoever waits for the file never reads half of it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use display::Frame;

/// Whether a file could be written at `path`: told before a run, so that it does not fail at its end.
pub fn check_writable(path: &Path) -> Result<(), String> {
    if path.is_dir() {
        return Err(format!("{}: this is a folder, not a file to write", path.display()));
    }
    let folder = folder_of(path);
    if !folder.is_dir() {
        return Err(format!("{}: there is no folder {} to write it in", path.display(), folder.display()));
    }
    Ok(())
}

/// Writes `bytes` at `path` in one step.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), String> {
    write_with(path, |file| file.write_all(bytes))
}

/// Writes at `path` in one step what `write` writes. What exists and is no regular file (a pipe, a device) is
/// written to as it is.
pub fn write_with<T>(path: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<T>) -> Result<T, String> {
    let told = |error: io::Error| format!("{}: {error}", path.display());
    let written = |file: File| {
        let mut file = BufWriter::new(file);
        let result = write(&mut file)?;
        file.flush().map(|()| result)
    };
    if path.exists() && !path.is_file() {
        return OpenOptions::new().write(true).open(path).and_then(written).map_err(told);
    }
    let name = path.file_name().ok_or_else(|| format!("{}: this names no file", path.display()))?;
    let mut temporary_name = std::ffi::OsString::from(".");
    temporary_name.push(name);
    temporary_name.push(format!(".{}.part", std::process::id()));
    let temporary = folder_of(path).join(temporary_name);
    let written = File::create(&temporary)
        .and_then(written)
        .and_then(|result| fs::rename(&temporary, path).map(|()| result));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written.map_err(told)
}

/// Writes a frame as a PNG.
pub fn write_png(path: &Path, frame: &Frame) -> Result<(), String> {
    write_whole(path, &png(frame).map_err(|reason| format!("{}: {reason}", path.display()))?)
}

/// A frame as a PNG file's bytes.
pub fn png(frame: &Frame) -> Result<Vec<u8>, String> {
    if frame.width == 0 || frame.height == 0 {
        return Err("the machine has not shown a picture yet".to_owned());
    }
    let mut rgb = Vec::with_capacity(frame.pixels.len() * 3);
    for pixel in &frame.pixels {
        rgb.extend_from_slice(&pixel.to_be_bytes()[1..]);
    }
    let picture = image::RgbImage::from_raw(frame.width, frame.height, rgb)
        .ok_or_else(|| "the picture is incomplete".to_owned())?;
    let mut bytes = std::io::Cursor::new(Vec::new());
    picture.write_to(&mut bytes, image::ImageFormat::Png).map_err(|error| error.to_string())?;
    Ok(bytes.into_inner())
}

fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_nothing_else_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("stats.json");
        write_whole(&path, b"one").unwrap();
        write_whole(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_folder_or_a_path_without_one_is_told_beforehand() {
        let folder = tempfile::tempdir().unwrap();
        assert!(check_writable(folder.path()).unwrap_err().contains("folder"));
        assert!(
            check_writable(&folder.path().join("no/such.png")).unwrap_err().contains("there is no folder")
        );
        assert!(check_writable(&folder.path().join("new.png")).is_ok());
    }

    #[test]
    fn a_device_is_written_to_not_replaced() {
        write_whole(Path::new("/dev/null"), b"x").unwrap();
        assert!(!Path::new("/dev/null").is_file());
    }

    #[test]
    fn a_frame_becomes_a_png_of_its_colours() {
        let frame = Frame { width: 2, height: 1, pixels: vec![0x00FF_0000, 0x0000_80FF], serial: 1 };
        let read = image::load_from_memory(&png(&frame).unwrap()).unwrap().to_rgb8();
        assert_eq!(read.into_raw(), [255, 0, 0, 0, 128, 255]);
        assert!(png(&Frame::default()).is_err());
    }
}
