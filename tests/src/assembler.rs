//! The guests in `tests/guests`: where they are, and what nasm makes of their sources.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The folder of the guests' sources and binaries.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("guests")
}

/// The assembled guest `name`, as it is checked in.
pub fn binary(name: &str) -> Vec<u8> {
    let path = folder().join(name).with_extension("bin");
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The names of all guests that have a source, sorted.
pub fn names() -> Vec<String> {
    let entries = std::fs::read_dir(folder()).expect("the folder of the guests");
    let paths = entries.map(|entry| entry.expect("an entry of the folder").path());
    let sources = paths.filter(|path| path.extension().is_some_and(|extension| extension == "asm"));
    let mut names: Vec<String> =
        sources.map(|path| path.file_stem().unwrap_or_default().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// What nasm makes of the source of `name`; `None`, and a printed reason, when nasm is not installed.
pub fn assemble(name: &str) -> Option<Vec<u8>> {
    let output = tempfile::NamedTempFile::new().expect("a temporary file");
    let run = Command::new("nasm")
        .current_dir(folder())
        .args(["-f", "bin", "-Wno-error=all", "-o"])
        .arg(output.path())
        .arg(format!("{name}.asm"))
        .output();
    match run {
        Err(error) => {
            println!("skipped: nasm does not start ({error}); package nasm");
            None
        }
        Ok(run) => {
            let complaints = String::from_utf8_lossy(&run.stderr);
            assert!(run.status.success(), "nasm refuses {name}.asm:\n{complaints}");
            Some(std::fs::read(output.path()).expect("what nasm wrote"))
        }
    }
}
