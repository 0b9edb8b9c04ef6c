//! What an overlay holds goes into the image it is based on.

use std::path::Path;

use super::{JobError, failed};
use crate::disk::Disk;
use crate::format::Format;
use crate::image::{Chain, Image, backing_path, told};
use crate::open::OpenError;
use crate::progress::Progress;
use crate::qcow2::{Header, Own, Qcow2};
use crate::store::{Access, HostFile};

/// How much is read at a time.
const CHUNK: u64 = 1 << 20;

/// Writes all that the qcow2 overlay at `path` holds into its backing file, which must be writable and nobody
/// else's backing file. The overlay stays, and shows the same disk as before; it can be removed then. If the
/// work is cut off, doing it again finishes it.
pub fn merge(path: &Path, progress: Progress<'_>) -> Result<(), JobError> {
    let file = HostFile::open(path, Access::ReadOnly)?;
    let format = told(&file)?;
    if format != Format::Qcow2 {
        return Err(JobError::NotOverlay { path: path.to_owned(), format });
    }
    let header = Header::read(&file)?;
    let Some(name) = header.backing_name.clone() else {
        let (path, format) = (path.to_owned(), Format::Qcow2);
        let feature = "no backing file to merge it into".to_owned();
        return Err(OpenError::Unsupported { path, format, feature, advice: "It is whole already" }.into());
    };
    // Without its backing file, it shows what it holds itself.
    let mut overlay = Qcow2::open(Box::new(file), header.clone(), None, false)?;
    let mut backing =
        Chain::default().behind(path, &name, header.backing_format.as_deref(), Access::ReadWrite)?;
    if backing.length_bytes() < header.length_bytes {
        backing.resize(header.length_bytes).map_err(failed(path))?;
    }
    let is_finished = copy(path, &mut overlay, &mut backing, progress)?;
    backing.flush().map_err(failed(path))?;
    if is_finished {
        return Ok(());
    }
    let base = backing_path(path, &name).unwrap_or_else(|| name.into());
    Err(JobError::MergeCut { overlay: path.to_owned(), base })
}

/// Whether it was finished: not if the caller gave up.
fn copy(
    path: &Path,
    overlay: &mut Qcow2,
    backing: &mut Image,
    progress: Progress<'_>,
) -> Result<bool, JobError> {
    let length_bytes = overlay.length_bytes();
    let mut buffer = Vec::new();
    let mut at = 0;
    while at < length_bytes {
        if !progress(at, length_bytes) {
            return Ok(false);
        }
        let (own, run_bytes) = overlay.own(at).map_err(failed(path))?;
        let run_bytes = match own {
            Own::Nothing => run_bytes,
            Own::Zeros => {
                backing.write_zeros(at, run_bytes).map_err(failed(path))?;
                run_bytes
            }
            Own::Data => {
                buffer.resize(run_bytes.min(CHUNK) as usize, 0);
                overlay.read_at(at, &mut buffer).map_err(failed(path))?;
                backing.write_at(at, &buffer).map_err(failed(path))?;
                buffer.len() as u64
            }
        };
        at += run_bytes;
    }
    progress(length_bytes, length_bytes);
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::{self, NewDisk};

    #[test]
    fn what_is_no_overlay_is_told_by_its_format() {
        let folder = tempfile::tempdir().unwrap();
        for format in [Format::Raw, Format::Vdi, Format::Vhd] {
            let path = folder.path().join(format.word());
            job::create(&path, &NewDisk::new(format, 1 << 20)).unwrap();
            let error = merge(&path, &mut |_, _| true).unwrap_err().to_string();
            assert!(error.contains(format.name()) && error.contains("only QCOW2 overlays"), "{error}");
        }
        let path = folder.path().join("whole.qcow2");
        job::create(&path, &NewDisk::new(Format::Qcow2, 1 << 20)).unwrap();
        let error = merge(&path, &mut |_, _| true).unwrap_err().to_string();
        assert!(error.contains("no backing file"), "{error}");
    }

    #[test]
    fn an_interrupted_merge_says_what_it_did_and_is_finished_by_another() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        job::create(&path("base.img"), &NewDisk::new(Format::Raw, 4 << 20)).unwrap();
        job::create(&path("top.qcow2"), &NewDisk::over(Path::new("base.img"))).unwrap();
        let mut top = Image::open(&path("top.qcow2"), Access::ReadWrite).unwrap();
        top.write_at(0, &vec![7; 4 << 20]).unwrap();
        drop(top);
        let error = merge(&path("top.qcow2"), &mut |done, _| done < 2 << 20).unwrap_err();
        assert!(error.is_interruption() && matches!(error, JobError::MergeCut { .. }));
        let text = error.to_string();
        assert!(!text.contains("nothing was changed") && text.contains("base.img holds a part"), "{text}");
        let held =
            |value| std::fs::read(path("base.img")).unwrap().iter().filter(|byte| **byte == value).count();
        assert_eq!((held(7), held(0)), (2 << 20, 2 << 20));
        merge(&path("top.qcow2"), &mut |_, _| true).unwrap();
        assert_eq!(held(7), 4 << 20);
    }
}
