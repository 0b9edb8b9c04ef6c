//! `vitrine disk`: images as files.

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use engine::resources::amount;
use storage::Format;
use storage::job::{self, Info, JobError, NewDisk};

use super::arguments::DiskCommand;
use super::{console, status};

/// Does what a `disk` command says.
pub fn disk(command: &DiskCommand) -> Result<u8, String> {
    let done = match command {
        DiskCommand::Create { file, size, format, backing, fixed } => {
            let length_bytes = size.map(|size| size.bytes());
            let backing = backing.as_deref().map(|backing| named_from(file, backing));
            job::create(file, &NewDisk { format: *format, length_bytes, is_fixed: *fixed, backing })
        }
        DiskCommand::Info { file, json } => {
            let info = job::info(file).map_err(|error| error.to_string())?;
            console::say(&if *json { as_json(&info) } else { as_text(&info) });
            return Ok(status::SUCCESS);
        }
        DiskCommand::Convert { from, to, format, size, fixed } => {
            let length_bytes = size.map(|size| size.bytes());
            let new = NewDisk { format: *format, length_bytes, is_fixed: *fixed, backing: None };
            with_progress("converted", |progress| job::convert(from, to, &new, progress))
        }
        DiskCommand::Resize { file, size, shrink } => job::resize(file, size.bytes(), *shrink),
        DiskCommand::Check { file, repair } => return check(file, *repair),
        DiskCommand::Merge { file } => with_progress("merged", |progress| job::merge(file, progress)),
    };
    match done {
        Ok(()) => Ok(status::SUCCESS),
        Err(error) => failed(&error),
    }
}

/// How a new image at `file` names `backing`, which is named from here: an image finds it from its own folder.
fn named_from(file: &Path, backing: &Path) -> std::path::PathBuf {
    match file.parent() {
        Some(folder) if folder != Path::new("") && backing.parent() == Some(folder) => {
            backing.file_name().unwrap_or(backing.as_os_str()).into()
        }
        Some(folder) if folder != Path::new("") => crate::boot::absolute(backing),
        _ => backing.to_owned(),
    }
}

fn check(file: &Path, repair: bool) -> Result<u8, String> {
    let findings = match with_progress("looked through", |progress| job::check(file, repair, progress)) {
        Ok(findings) => findings,
        Err(error) => return failed(&error),
    };
    for damage in &findings.damage {
        console::say(&format!("damaged: {damage}"));
    }
    if findings.damaged > findings.damage.len() as u64 {
        console::say(&format!("damaged: {} places in all", findings.damaged));
    }
    if findings.leaked_bytes > 0 {
        console::say(&format!("{} bytes of the file are used by nothing", findings.leaked_bytes));
    }
    if findings.is_sound() {
        // Nothing of a raw image can be wrong, so nothing can be said of it either.
        let is_raw = matches!(storage::image::format(file), Ok(Format::Raw));
        let verdict = if is_raw { "a raw image has no tables to check" } else { "sound" };
        console::say(&format!("{}: {verdict}", file.display()));
        return Ok(status::SUCCESS);
    }
    Err(format!("{} is damaged", file.display()))
}

/// Runs a job that Ctrl-C cancels, and shows on a terminal how far it is.
fn with_progress<T>(
    done_word: &str,
    job: impl FnOnce(&mut dyn FnMut(u64, u64) -> bool) -> Result<T, JobError>,
) -> Result<T, JobError> {
    let interrupted: std::sync::Arc<AtomicBool> = crate::interrupt::flag();
    let shows = std::io::stderr().is_terminal();
    let mut shown = None;
    let result = job(&mut |done, total| {
        let percent = (u128::from(done) * 100 / u128::from(total.max(1))) as u64;
        if shows && shown != Some(percent) {
            shown = Some(percent);
            let _ = write!(std::io::stderr(), "\r{percent:3} % {done_word}");
        }
        !interrupted.load(Ordering::Acquire)
    });
    if shown.is_some() {
        let _ = writeln!(std::io::stderr());
    }
    result
}

/// The end of a job that was not done: the job itself knows what an interrupted one leaves behind.
fn failed(error: &JobError) -> Result<u8, String> {
    if error.is_interruption() {
        console::tell(&error.to_string());
        return Ok(status::INTERRUPTED);
    }
    Err(error.to_string())
}

fn as_text(info: &Info) -> String {
    let mut lines = vec![
        format!("{}: {}", info.path.display(), info.format.name()),
        format!("length     {} bytes ({})", info.length_bytes, amount::bytes(info.length_bytes)),
        format!("file       {} bytes, takes {}", info.file_bytes, amount::bytes(info.allocated_bytes)),
    ];
    if let Some(unit) = info.unit_bytes {
        lines.push(format!("allocates  {} at a time", amount::bytes(unit)));
    }
    if let Some(backing) = &info.backing {
        let format = info.backing_format.as_ref().map_or(String::new(), |format| format!(" ({format})"));
        lines.push(format!("based on   {backing}{format}"));
    }
    lines.extend(info.notes.iter().map(|note| format!("note       {note}")));
    lines.join("\n")
}

fn as_json(info: &Info) -> String {
    let json = serde_json::json!({
        "path": info.path.to_string_lossy(),
        "format": info.format.word(),
        "length_bytes": info.length_bytes,
        "file_bytes": info.file_bytes,
        "allocated_bytes": info.allocated_bytes,
        "unit_bytes": info.unit_bytes,
        "backing": info.backing,
        "backing_format": info.backing_format,
        "writable": !matches!(info.format, Format::Vhdx | Format::Vmdk),
        "notes": info.notes,
    });
    serde_json::to_string_pretty(&json).expect("plain values are always JSON")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_finds_what_it_is_based_on_from_its_own_folder() {
        let named = |file: &str, backing: &str| named_from(Path::new(file), Path::new(backing));
        assert_eq!(named("top.qcow2", "base.img"), Path::new("base.img"));
        assert_eq!(named("vm/top.qcow2", "vm/base.img"), Path::new("base.img"));
        assert!(named("vm/top.qcow2", "base.img").is_absolute());
    }

    #[test]
    fn every_interruption_has_its_status() {
        let cut = JobError::MergeCut { overlay: "top.qcow2".into(), base: "base.img".into() };
        assert_eq!(failed(&cut), Ok(status::INTERRUPTED));
        assert_eq!(failed(&JobError::Cancelled), Ok(status::INTERRUPTED));
        assert!(failed(&JobError::NotMade(Format::Vmdk)).is_err());
    }

    #[test]
    fn a_disk_is_made_looked_at_and_made_longer() {
        use engine::profile::Size;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("disk.qcow2");
        let create = DiskCommand::Create {
            file: file.clone(),
            size: Some(Size::mib(10)),
            format: Format::Qcow2,
            backing: None,
            fixed: false,
        };
        assert_eq!(disk(&create), Ok(status::SUCCESS));
        assert!(disk(&create).unwrap_err().contains("exists already"));
        let resize = |size, shrink| disk(&DiskCommand::Resize { file: file.clone(), size, shrink });
        assert_eq!(resize(Size::mib(20), false), Ok(status::SUCCESS));
        assert!(resize(Size::mib(5), false).unwrap_err().contains("--shrink"));
        assert_eq!(disk(&DiskCommand::Check { file: file.clone(), repair: true }), Ok(status::SUCCESS));
        let json = as_json(&job::info(&file).unwrap());
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(
            (value["format"].as_str(), value["length_bytes"].as_u64()),
            (Some("qcow2"), Some(20 << 20))
        );
    }
}
