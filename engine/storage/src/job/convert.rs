//! From one image to a new one of another format. What is zeros takes no room in the new one.

use std::path::Path;

use super::create::fill;
use super::{JobError, NewDisk, failed};
use crate::aside::Aside;
use crate::disk::Disk;
use crate::image::Image;
use crate::pieces::pieces;
use crate::progress::Progress;
use crate::store::Access;

/// How much is read at a time.
const CHUNK: usize = 1 << 20;
/// Zeros are looked for in pieces of this size.
const PIECE: u64 = 64 << 10;

/// Copies the disk in the image `from` into a new image `to`, with all it is based on. The new one appears
/// whole or not at all. `new` says its format; its length, if named, must be that of `from` or more.
pub fn convert(from: &Path, to: &Path, new: &NewDisk, progress: Progress<'_>) -> Result<(), JobError> {
    let mut source = Image::open(from, Access::ReadOnly)?;
    let length_bytes = source.length_bytes();
    let new_bytes = new.length_bytes.unwrap_or(length_bytes);
    if new_bytes < length_bytes {
        return Err(JobError::TooShort { path: from.to_owned(), length_bytes, asked_bytes: new_bytes });
    }
    let (aside, mut file) = Aside::new(to)?;
    let new = NewDisk { length_bytes: Some(new_bytes), ..new.clone() };
    fill(to, &mut file, &new)?;
    drop(file);
    let mut target = Image::open(aside.path(), Access::ReadWrite)?;
    let has_backing = new.backing.is_some();
    let mut buffer = vec![0; CHUNK];
    let mut at = 0;
    while at < length_bytes {
        if !progress(at, length_bytes) {
            return Err(JobError::Cancelled);
        }
        let extent = source.extent(at).map_err(failed(from))?;
        if extent.is_zero {
            if has_backing {
                target.write_zeros(at, extent.length_bytes).map_err(failed(to))?;
            }
            at += extent.length_bytes;
            continue;
        }
        // To the next border of pieces, so that those of zeros are found.
        let aligned = CHUNK as u64 - at % PIECE;
        let bytes = &mut buffer[..extent.length_bytes.min(aligned) as usize];
        source.read_at(at, bytes).map_err(failed(from))?;
        copy(&mut target, at, bytes, has_backing).map_err(failed(to))?;
        at += bytes.len() as u64;
    }
    target.flush().map_err(failed(to))?;
    drop(target);
    progress(length_bytes, length_bytes);
    Ok(aside.finish()?)
}

/// Writes what is not zeros, in runs as long as they are.
fn copy(target: &mut Image, at: u64, bytes: &[u8], has_backing: bool) -> Result<(), crate::DiskError> {
    let mut run = 0..0;
    for piece in pieces(at, bytes.len(), PIECE) {
        let range = piece.range;
        if bytes[range.clone()].iter().all(|byte| *byte == 0) && !has_backing {
            continue;
        }
        if run.end != range.start {
            write(target, at, bytes, &run)?;
            run = range.start..range.start;
        }
        run.end = range.end;
    }
    write(target, at, bytes, &run)
}

fn write(
    target: &mut Image,
    at: u64,
    bytes: &[u8],
    run: &std::ops::Range<usize>,
) -> Result<(), crate::DiskError> {
    if run.is_empty() { Ok(()) } else { target.write_at(at + run.start as u64, &bytes[run.clone()]) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Format;
    use crate::job::{create, resize};

    #[test]
    fn what_cannot_grow_in_place_is_copied_into_something_longer() {
        let folder = tempfile::tempdir().unwrap();
        let (old, new) = (folder.path().join("old.vhd"), folder.path().join("new.vhd"));
        create(&old, &NewDisk::new(Format::Vhd, 2 << 20)).unwrap();
        Image::open(&old, Access::ReadWrite).unwrap().write_at(0, &[5; 512]).unwrap();
        let error = resize(&old, 8 << 20, false).unwrap_err().to_string();
        assert!(error.contains("old.vhd: it has no room") && error.contains("--size"), "{error}");
        let to = |length_bytes| NewDisk::new(Format::Vhd, length_bytes);
        let error = convert(&old, &new, &to(1 << 20), &mut |_, _| true).unwrap_err().to_string();
        assert!(error.contains("old.vhd is 2097152 bytes long") && !new.exists(), "{error}");
        convert(&old, &new, &to(8 << 20), &mut |_, _| true).unwrap();
        let mut image = Image::open(&new, Access::ReadOnly).unwrap();
        let mut bytes = vec![9; 8 << 20];
        image.read_at(0, &mut bytes).unwrap();
        assert!(bytes[..512] == [5; 512] && bytes[512..].iter().all(|byte| *byte == 0));
        assert_eq!(image.length_bytes(), 8 << 20);
    }
}
