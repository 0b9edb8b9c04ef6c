//! Whole-machine tests: how a test gets a machine on each backend, and what it waits for.

pub mod answering;
pub mod assembler;
pub mod initramfs;
pub mod installer;
pub mod linux;
pub mod sound;
pub mod ticks;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use engine::backend::{Backend, InterruptMode};
use engine::profile::{Direct, Profile};
use engine::{Ending, Outlets, Session};

/// A backend with its interrupt mode: every whole-machine test runs on each that the host offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Platform {
    /// Who executes instructions.
    pub backend: Backend,
    /// Where the interrupt controllers live.
    pub interrupts: InterruptMode,
}

/// The software CPU.
pub const SOFT: Platform = Platform { backend: Backend::Soft, interrupts: InterruptMode::Glass };

/// KVM with the interrupt controllers in `interrupts`.
pub const fn kvm(interrupts: InterruptMode) -> Platform {
    Platform { backend: Backend::Kvm, interrupts }
}

/// The software CPU and, where the host has it, KVM in all three modes; says what is left out.
pub fn platforms() -> Vec<Platform> {
    let mut platforms = vec![SOFT];
    match engine::backend::kvm::host::Host::open() {
        Ok(_) => {
            platforms.extend([InterruptMode::Glass, InterruptMode::Split, InterruptMode::Kernel].map(kvm))
        }
        Err(problem) => println!("skipped: KVM: {problem}"),
    }
    platforms
}

/// A guest file that a distribution's package installs; says what is skipped when it is not there.
pub fn installed(path: &str, package: &str) -> Option<PathBuf> {
    let found = Path::new(path).is_file();
    if !found {
        println!("skipped: {path} is not installed (package {package})");
    }
    found.then(|| PathBuf::from(path))
}

/// A machine under test.
pub struct Guest {
    session: Session,
    platform: Platform,
    serial: Arc<Mutex<Vec<u8>>>,
    console: Arc<Mutex<Vec<u8>>>,
    virtio_console: Arc<Mutex<Vec<u8>>>,
}

impl Guest {
    /// Starts `profile` on `platform`.
    pub fn start(mut profile: Profile, platform: Platform) -> Guest {
        profile.backend = platform.backend;
        profile.interrupts = platform.interrupts;
        let [serial, console, virtio_console] = std::array::from_fn(|_| Arc::new(Mutex::new(Vec::new())));
        let keep = |to: &Arc<Mutex<Vec<u8>>>| {
            let to = to.clone();
            Box::new(move |bytes: &[u8]| to.lock().unwrap().extend_from_slice(bytes)) as Box<_>
        };
        let outlets = Outlets {
            serial: Some(keep(&serial)),
            console: Some(keep(&virtio_console)),
            debug_console: Some(keep(&console)),
            ..Outlets::default()
        };
        let session = Session::start(&profile, outlets)
            .unwrap_or_else(|error| panic!("{platform:?}: the machine does not start: {error}"));
        Guest { session, platform, serial, console, virtio_console }
    }

    /// Starts a flat program from `tests/guests` (already assembled) on `platform`.
    pub fn flat(code: &[u8], platform: Platform) -> Guest {
        Guest::flat_in(Profile::new("test"), code, platform)
    }

    /// Starts a flat program in the machine of `profile`, on `platform`.
    pub fn flat_in(mut profile: Profile, code: &[u8], platform: Platform) -> Guest {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(file.path(), code).expect("room for a small file");
        profile.direct = Some(Direct::Flat(file.path().to_owned()));
        profile.debug_exit = true;
        Guest::start(profile, platform)
    }

    /// The session itself.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// What the guest has sent on its serial port.
    pub fn serial(&self) -> String {
        String::from_utf8_lossy(&self.serial.lock().unwrap()).into_owned()
    }

    /// What the guest has sent on its virtio console.
    pub fn virtio_console(&self) -> String {
        String::from_utf8_lossy(&self.virtio_console.lock().unwrap()).into_owned()
    }

    /// What the guest has written to the debug console.
    pub fn debug_console(&self) -> String {
        String::from_utf8_lossy(&self.console.lock().unwrap()).into_owned()
    }

    /// The same, byte by byte.
    pub fn debug_console_bytes(&self) -> Vec<u8> {
        self.console.lock().unwrap().clone()
    }

    /// Waits until the screen shows `text`.
    pub fn wait_screen(&self, text: &str, seconds: u64) {
        self.wait_until(seconds, &format!("{text:?} on the screen"), || {
            self.session.screen_text().is_some_and(|screen| screen.contains(text))
        });
    }

    /// Waits until `done`; fails with the last screen when it does not come.
    pub fn wait_until(&self, seconds: u64, what: &str, done: impl Fn() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(seconds);
        while !done() {
            let ended = self.session.wait(Duration::from_millis(20));
            if ended.is_some() && done() {
                return;
            }
            assert!(
                ended.is_none() && Instant::now() < deadline,
                "{:?}: waited for {what}; the run: {:?}; the screen:\n{}\nserial: {}\ndebug console: {}",
                self.platform,
                self.session.state(),
                self.session.screen_text().unwrap_or_default(),
                self.serial(),
                self.debug_console(),
            );
        }
    }

    /// Waits for the end by the debug-exit port; fails with the check that failed and the registers.
    pub fn wait_pass(&self, seconds: u64) {
        let ending = self.wait_end(seconds);
        if ending == Ending::DebugExit(0) {
            return;
        }
        let registers = self.session.registers(0);
        let words = registers.as_ref().map(|r| r.general.map(|word| format!("{word:x}")).join(" "));
        let [check, got] = [0, 5].map(|index| registers.as_ref().map_or(0, |r| r.general[index]));
        panic!(
            "{:?}: {ending:?}: check {check} failed with EAX {got:#x}\nregisters: {}\nflags: {:x?}\ndebug console: {}\nserial: {}",
            self.platform,
            words.unwrap_or_default(),
            registers.map(|r| r.rflags),
            self.debug_console(),
            self.serial(),
        );
    }

    /// Waits for the end of the run.
    pub fn wait_end(&self, seconds: u64) -> Ending {
        self.session.wait(Duration::from_secs(seconds)).unwrap_or_else(|| {
            panic!(
                "{:?}: the guest did not end; the screen:\n{}",
                self.platform,
                self.session.screen_text().unwrap_or_default()
            )
        })
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.session.power_off();
        self.session.wait(Duration::from_secs(5));
    }
}
