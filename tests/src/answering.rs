//! Linux guests that stay alive and answer on the serial line: for tests that move memory between them.

use std::cell::Cell;

use engine::profile::{Network, Profile};

use crate::linux::{Linux, VIRTIO};
use crate::{Guest, SOFT};

/// Answers a line with what was asked for and a final "done".
const SCRIPT: &str = "
mount -t tmpfs -o size=100% none /tmp
stty -echo 2>/dev/null
echo ready
while read question; do
  case $question in
    memory) cat /proc/meminfo ;;
    fill) dd if=/dev/zero of=/tmp/fill bs=1M count=300 2>/dev/null ;;
    empty) rm -f /tmp/fill ;;
    spin) nice -n 19 sh -c 'while :; do :; done' & ;;
    end) break ;;
  esac
  echo done $question
done
";

/// Seconds a Linux guest has; many tests share the host.
const PATIENCE: u64 = 900;

/// A guest that answers.
pub struct Answering {
    /// The guest.
    pub guest: Guest,
    asked: Cell<usize>,
}

impl Answering {
    /// Boots `profile` with the kernel of a package, on the software CPU; with a balloon driver unless `balloon` is
    /// false. `None` where the packages are not installed.
    pub fn start(mut profile: Profile, balloon: bool) -> Option<Answering> {
        let modules = if balloon { [&VIRTIO[..], &["virtio_balloon"]].concat() } else { Vec::new() };
        let linux = Linux::with(&modules, SCRIPT)?;
        profile.network = Network::None;
        linux.boot_in(&mut profile, "quiet");
        let guest = Guest::start(profile, SOFT);
        Some(Answering { guest, asked: Cell::new(0) })
    }

    /// Waits until it is ready to be asked.
    pub fn wait_ready(&self) {
        self.guest.wait_until(PATIENCE, "the guest to be ready", || self.guest.serial().contains("ready"));
        if let Some(balloon) = self.guest.session().balloon() {
            let settled = || !balloon.is_driven() || balloon.actual_bytes() == balloon.target_bytes();
            self.guest.wait_until(PATIENCE, "its balloon", settled);
        }
    }

    /// What it says to `question`.
    pub fn ask(&self, question: &str) -> String {
        self.asked.set(self.guest.serial().len());
        self.guest.session().send_serial(format!("{question}\n").as_bytes());
        let answer = || self.guest.serial().split_off(self.asked.get());
        self.guest.wait_until(PATIENCE, question, || answer().contains(&format!("done {question}")));
        answer()
    }

    /// A line of its `/proc/meminfo`, in bytes.
    pub fn memory(&self, field: &str) -> u64 {
        let told = self.ask("memory");
        let found = engine::resources::host::meminfo_bytes(&told, field);
        found.unwrap_or_else(|| panic!("{field} is missing: {told}"))
    }
}
