//! Saved states of whole systems: Linux in the midst of its boot, restored again and again; guests that go from one
//! backend to the other and back; a process that is killed while it saves.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use cpu::CpuModel;
use engine::backend::{Backend, InterruptMode};
use engine::profile::{Deterministic, Direct, Network, Profile, Size};
use engine::snapshot::{self, States, Which};
use engine::{Ending, Library, Outlets, RunState, Session};
use machine_tests::linux::Linux;
use machine_tests::{installed, platforms};

type Serial = Arc<Mutex<Vec<u8>>>;

fn outlets(serial: &Serial) -> Outlets {
    let serial = serial.clone();
    let keep = move |bytes: &[u8]| serial.lock().unwrap().extend_from_slice(bytes);
    Outlets { serial: Some(Box::new(keep)), console: Some(Box::new(|_| {})), ..Outlets::default() }
}

fn text(serial: &Serial) -> String {
    String::from_utf8_lossy(&serial.lock().unwrap()).replace('\r', "")
}

fn wait_for(what: &str, done: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(120);
    while !done() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

const SCRIPT: &str = "
    i=0; while [ $i -lt 50 ]; do i=$((i+1)); done; echo COUNTED $i
    dd if=/dev/zero bs=1M count=4 2>/dev/null | sha256sum
    awk 'BEGIN { for (i = 0; i < 5000; i++) s += i * i; print \"AWK\", s }'
    echo STAINS $(cat /proc/sys/kernel/tainted)
    echo ALL DONE";

fn linux() -> Option<(Linux, Profile)> {
    let linux = Linux::with(&[], SCRIPT)?;
    let mut profile = Profile::new("linux");
    profile.backend = Backend::Soft;
    profile.memory = Size::mib(128);
    profile.network = Network::None;
    linux.boot_in(&mut profile, "");
    Some((linux, profile))
}

/// Lines without their times and numbers.
fn untimed(text: &str) -> Vec<String> {
    let line = |line: &str| {
        let line =
            line.strip_prefix('[').and_then(|line| line.split_once("] ")).map_or(line, |(_, rest)| rest);
        let is_measure = |c: char| c.is_ascii_digit() || c == '-';
        line.split(is_measure).filter(|part| !part.is_empty()).collect::<Vec<_>>().join("#")
    };
    text.lines().map(line).collect()
}

#[test]
fn linux_goes_on_from_the_midst_of_its_boot_ten_times_alike() {
    let Some((_linux, profile)) = linux() else { return };
    let home = tempfile::tempdir().unwrap();
    let states = States::of(&Library::at(home.path()), "linux").unwrap();
    let serial = Serial::default();
    let session = Session::start(&profile, outlets(&serial)).unwrap();
    wait_for("it boots", || text(&serial).contains("Memory:"));
    snapshot::take(&session, &states, "boot").unwrap();
    let before = text(&serial);
    assert!(!before.contains("ALL DONE"), "the snapshot is of the boot");
    assert_eq!(session.wait(Duration::from_secs(120)), Some(Ending::PoweredOff));
    let whole = text(&serial);
    let results = |text: &str| -> Vec<String> {
        let from = text.find("COUNTED").unwrap_or(text.len());
        text[from..].lines().filter(|line| !line.starts_with('[')).map(str::to_owned).collect()
    };
    for round in 0..10 {
        let serial = Serial::default();
        let again = snapshot::start(&states, Which::Snapshot("boot"), |_| {}, outlets(&serial)).unwrap();
        assert_eq!(again.wait(Duration::from_secs(120)), Some(Ending::PoweredOff), "round {round}");
        let rest = text(&serial);
        assert_eq!(results(&rest), results(&whole), "round {round}");
        let (rest, whole) = (untimed(&rest), untimed(&whole));
        // The first line may have begun before.
        for line in rest.iter().skip(1) {
            assert!(whole.contains(line), "round {round}: {line:?} is not in the run it was taken from");
        }
        assert!(rest.len() > 50, "round {round}: most of the boot was still to come: {}", rest.len());
    }
}

/// Where time is counted, every byte is the same, times included.
#[test]
fn a_counted_linux_goes_on_to_the_byte() {
    let Some((_linux, mut profile)) = linux() else { return };
    profile.deterministic = Some(Deterministic::default());
    let home = tempfile::tempdir().unwrap();
    let states = States::of(&Library::at(home.path()), "linux").unwrap();
    let serial = Serial::default();
    let session = Session::start(&profile, Outlets { paused: true, ..outlets(&serial) }).unwrap();
    assert!(session.run_to(1 << 29, Duration::from_secs(300)), "{:?}", session.state());
    snapshot::take(&session, &states, "boot").unwrap();
    let before = text(&serial);
    assert!(!before.contains("ALL DONE") && before.contains("Linux version"), "{before}");
    session.resume();
    assert_eq!(session.wait(Duration::from_secs(300)), Some(Ending::PoweredOff));
    let whole = text(&serial);
    for _ in 0..2 {
        let serial = Serial::default();
        let again = snapshot::start(&states, Which::Snapshot("boot"), |_| {}, outlets(&serial)).unwrap();
        assert_eq!(again.wait(Duration::from_secs(300)), Some(Ending::PoweredOff));
        assert!(whole == format!("{before}{}", text(&serial)), "it goes on otherwise");
    }
}

fn has_kvm() -> bool {
    platforms().iter().any(|platform| platform.backend == Backend::Kvm)
}

fn on(backend: Backend) -> impl Fn(&mut Profile) {
    move |profile| (profile.backend, profile.interrupts) = (backend, InterruptMode::Glass)
}

/// Counts at 0x600, and tells each 65,536th on the debug console.
fn counter(folder: &Path) -> Profile {
    let code = [
        0x31, 0xC0, 0x8E, 0xD8, 0xFF, 0x06, 0x00, 0x06, 0x75, 0xFA, 0xFE, 0x06, 0x02, 0x06, 0xA0, 0x02, 0x06,
        0xE6, 0xE9, 0xEB, 0xEF,
    ];
    std::fs::write(folder.join("counter.bin"), code).unwrap();
    let mut profile = Profile::new("counter");
    profile.memory = Size::mib(16);
    profile.network = Network::None;
    profile.model = CpuModel::Pentium3;
    profile.direct = Some(Direct::Flat(folder.join("counter.bin")));
    profile
}

#[test]
fn a_small_guest_goes_to_the_other_backend_and_back() {
    if !has_kvm() {
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let states = States::of(&Library::at(home.path()), "counter").unwrap();
    let told = Serial::default();
    let outlets = || {
        let told = told.clone();
        let keep = move |bytes: &[u8]| told.lock().unwrap().extend_from_slice(bytes);
        Outlets { debug_console: Some(Box::new(keep)), ..Outlets::default() }
    };
    let mut profile = counter(home.path());
    profile.backend = Backend::Soft;
    let mut session = Session::start(&profile, outlets()).unwrap();
    for (round, backend) in [Backend::Kvm, Backend::Soft, Backend::Kvm].into_iter().enumerate() {
        let then = told.lock().unwrap().len();
        wait_for("it counts", || told.lock().unwrap().len() > then + 2);
        session.pause();
        wait_for("it pauses", || session.state() == RunState::Paused);
        let name = format!("round{round}");
        snapshot::take(&session, &states, &name).unwrap();
        session.power_off();
        session.wait(Duration::from_secs(10));
        session = snapshot::start(&states, Which::Snapshot(&name), on(backend), outlets()).unwrap();
    }
    let then = told.lock().unwrap().len();
    wait_for("it counts", || told.lock().unwrap().len() > then + 2);
    session.power_off();
    session.wait(Duration::from_secs(10));
    let told = told.lock().unwrap();
    assert!(told.windows(2).all(|pair| pair[1] == pair[0].wrapping_add(1)), "{told:?}");
}

/// Firmware and GRUB, with timers and interrupts and a keyboard: to KVM at the prompt, and back.
#[test]
fn grub_goes_to_the_other_backend_and_back() {
    let Some(cd) = installed("/usr/lib/grub-rescue/grub-rescue-cdrom.iso", "grub-rescue-pc") else { return };
    if !has_kvm() {
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let states = States::of(&Library::at(home.path()), "grub").unwrap();
    let mut profile = Profile::new("grub");
    profile.backend = Backend::Soft;
    profile.model = CpuModel::Pentium3;
    profile.memory = Size::mib(64);
    profile.cdrom = Some(cd);
    let shows = |session: &Session, text: &str| {
        wait_for(text, || session.screen_text().is_some_and(|screen| screen.contains(text)));
    };
    let mut session = Session::start(&profile, Outlets::default()).unwrap();
    shows(&session, "for a command-line");
    session.type_text("c");
    shows(&session, "grub>");
    for (name, backend) in [("soft", Backend::Kvm), ("kvm", Backend::Soft)] {
        snapshot::take(&session, &states, name).unwrap();
        session.power_off();
        session.wait(Duration::from_secs(10));
        session = snapshot::start(&states, Which::Snapshot(name), on(backend), Outlets::default()).unwrap();
        session.type_text(&format!("echo left {name} with $root\n"));
        shows(&session, &format!("\nleft {name} with "));
    }
    // The CD is read after all of that.
    session.type_text("ls /boot/grub\n");
    shows(&session, "i386-pc");
}

/// Names the folder to the child.
const HOME: &str = "VITRINE_SAVE_TEST_HOME";

/// The child: not a test of its own, so it does nothing unless it is told a folder. It saves again and again, and says
/// which saves are done.
#[test]
fn saver() {
    let Ok(home) = std::env::var(HOME) else { return };
    let home = Path::new(&home);
    let states = States::of(&Library::at(home), "counter").unwrap();
    let mut profile = counter(home);
    profile.backend = Backend::Soft;
    profile.disks = vec![home.join("disk.img")];
    let fronts = states.fronts().unwrap();
    let session = Session::start(&profile, Outlets { fronts, ..Outlets::default() }).unwrap();
    let first = states.names().len();
    for number in first..first + 20 {
        snapshot::take(&session, &states, &format!("{number:03}")).unwrap();
        println!("saved {number:03}");
        std::io::stdout().flush().unwrap();
    }
}

#[test]
fn states_are_whole_or_not_there_after_each_kill() {
    const ROUNDS: u64 = 6;
    let home = tempfile::tempdir().unwrap();
    std::fs::File::create(home.path().join("disk.img")).unwrap().set_len(1 << 20).unwrap();
    let states = States::of(&Library::at(home.path()), "counter").unwrap();
    let mut saved: Vec<String> = Vec::new();
    for round in 0..ROUNDS {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["saver", "--exact", "--nocapture"])
            .env(HOME, home.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut count = 0;
        for line in lines.map_while(Result::ok).filter(|line| line.contains("saved")) {
            saved.push(line.rsplit(' ').next().unwrap().to_owned());
            count += 1;
            if count == 2 {
                // Somewhere in the next save.
                std::thread::sleep(Duration::from_millis(round * 7 % 40));
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        assert!(count >= 2, "round {round}: the child did not come to save");
        let names = states.names();
        assert!(saved.iter().all(|name| names.contains(name)), "round {round}: {saved:?} of {names:?}");
        for name in &names {
            let paused = Outlets { paused: true, ..Outlets::default() };
            let session = snapshot::start(&states, Which::Snapshot(name), |_| {}, paused)
                .unwrap_or_else(|error| panic!("round {round}: {name}: {error}"));
            session.power_off();
            session.wait(Duration::from_secs(10));
        }
    }
}
