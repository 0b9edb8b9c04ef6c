//! What the monitor promises, shown with a real Debian: `packaging/proof.sh` makes its disk and runs this.

mod durability;
mod network;
mod terminal;

use std::path::PathBuf;
use std::process::ExitCode;

/// Whom a proof runs, and where it leaves its files.
pub struct Workplace {
    /// The monitor.
    pub vitrine: PathBuf,
    /// The disk with Debian; nothing is written to it.
    pub image: PathBuf,
    folder: tempfile::TempDir,
}

impl Workplace {
    /// A file of this name.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A new disk over Debian's.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn overlay(&self, name: &str) -> PathBuf {
        let disk = self.file(&format!("{name}.qcow2"));
        let words = [
            "disk".as_ref(),
            "create".as_ref(),
            "--backing".as_ref(),
            self.image.as_os_str(),
            disk.as_os_str(),
        ];
        let made = std::process::Command::new(&self.vitrine).args(words).status();
        assert!(made.is_ok_and(|status| status.success()), "an overlay can be made");
        disk
    }
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [what, image, rest @ ..] = &words[..] else { return usage() };
    let here = std::env::current_exe().expect("the path of this program");
    let vitrine = here.ancestors().nth(2).map(|folder| folder.join("vitrine")).filter(|path| path.is_file());
    let image = std::fs::canonicalize(image).expect("Debian's disk");
    let workplace = Workplace {
        vitrine: vitrine.expect("vitrine is built first: cargo build --release -p vitrine"),
        folder: tempfile::tempdir_in(image.parent().unwrap_or(&image)).expect("a temporary folder"),
        image,
    };
    let holds = match what.as_str() {
        "durability" => durability::Plan::parse(rest).map(|plan| durability::prove(&workplace, &plan)),
        "network" => Some(network::prove(&workplace, rest)),
        _ => None,
    };
    match holds {
        Some(true) => ExitCode::SUCCESS,
        Some(false) => ExitCode::FAILURE,
        None => usage(),
    }
}

fn usage() -> ExitCode {
    eprintln!(
        "usage: proof durability IMAGE [BUS ...] [--rounds N] [--seed N] | proof network IMAGE [CARD ...]"
    );
    ExitCode::from(2)
}
