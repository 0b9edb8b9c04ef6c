//! Real windows under Xvfb. `vitrine run` opens one: the guest's picture is on it, the keyboard reaches the guest, and
//! a request to terminate ends the run in order. So it ends the window of all machines: those of the library are
//! suspended.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Ends a child process whatever happens to the test.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn is_installed(tool: &str) -> bool {
    let there = |folder: &Path| folder.join(tool).is_file();
    std::env::var_os("PATH").is_some_and(|path| std::env::split_paths(&path).any(|folder| there(&folder)))
}

/// An X server of its own for this test, and its display; it chooses a free number itself.
fn xvfb() -> (Ended, String) {
    let folder = tempfile::tempdir().unwrap();
    let told = folder.path().join("display");
    let script = "exec Xvfb -displayfd 3 -screen 0 1280x900x24 -nolisten tcp 3>\"$0\"";
    let server = Command::new("sh")
        .args(["-c", script])
        .arg(&told)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let server = Ended(server);
    let number = wait("Xvfb names its display", 20, || {
        std::fs::read_to_string(&told).ok().filter(|text| text.ends_with('\n'))
    });
    (server, format!(":{}", number.trim()))
}

#[track_caller]
fn wait<T>(what: &str, seconds: u64, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < Duration::from_secs(seconds), "in vain: {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn xdotool(display: &str, arguments: &[&str]) -> String {
    let output = Command::new("xdotool").args(arguments).env("DISPLAY", display).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The whole X screen as RGB pixels: `xwd` in its own format, 32 bits a pixel.
fn screen(display: &str) -> Option<(usize, Vec<[u8; 3]>)> {
    let dump =
        Command::new("xwd").args(["-root", "-silent"]).env("DISPLAY", display).output().unwrap().stdout;
    let word = |index: usize| {
        let bytes = dump.get(index * 4..index * 4 + 4)?;
        Some(u32::from_be_bytes(bytes.try_into().ok()?) as usize)
    };
    // XWDFile.h: header size, pixmap width, bits per pixel, bytes per line, number of colours.
    let (header, width, bits, line, colours) = (word(0)?, word(4)?, word(11)?, word(12)?, word(19)?);
    assert_eq!(bits, 32);
    let pixels = dump.get(header + colours * 12..)?;
    let pixels = pixels.chunks_exact(line).flat_map(|row| row[..width * 4].chunks_exact(4));
    Some((width, pixels.map(|pixel| [pixel[2], pixel[1], pixel[0]]).collect()))
}

/// How many pixels of the X screen have this colour.
fn count(display: &str, colour: [u8; 3]) -> usize {
    screen(display).map_or(0, |(_, pixels)| pixels.iter().filter(|pixel| **pixel == colour).count())
}

/// Whether what the tests need is here; said if not.
fn can_show() -> bool {
    let missing = ["Xvfb", "xdotool", "xwd"].into_iter().find(|tool| !is_installed(tool));
    if let Some(tool) = missing {
        eprintln!("skipped: {tool} is not installed");
    }
    missing.is_none()
}

/// Vitrine with a home and a display of its own.
fn vitrine(home: &Path, display: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vitrine"));
    command.env("DISPLAY", display).env_remove("WAYLAND_DISPLAY");
    command.env("VITRINE_HOME", home).env("XDG_RUNTIME_DIR", home);
    command
}

/// A window whose name has this in it.
fn window_named(name: &str, display: &str) -> String {
    wait("a window of this name", 60, || {
        let found = xdotool(display, &["search", "--name", name]);
        found.lines().next().map(str::to_owned)
    })
}

fn ask_to_terminate(run: &mut Ended) -> std::process::ExitStatus {
    assert!(Command::new("kill").arg(run.0.id().to_string()).status().unwrap().success());
    wait("the end", 20, || run.0.try_wait().unwrap())
}

#[test]
fn a_window_that_is_told_to_end_suspends_its_machines_and_asks_nobody() {
    if !can_show() {
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let (_server, display) = xvfb();
    let program = home.path().join("loop.bin");
    std::fs::write(&program, [0xEB, 0xFE, 0, 0]).unwrap();
    let said = |arguments: &[&str]| {
        let output = vitrine(home.path(), &display).args(arguments).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    said(&["create", "loop", program.to_str().unwrap(), "--backend", "soft", "--firmware", "none"]);
    let mut window = Ended(vitrine(home.path(), &display).spawn().unwrap());
    window_named("Vitrine", &display);
    // The picture on the first card starts its machine.
    wait("the machine to run", 60, || {
        xdotool(&display, &["mousemove", "230", "150", "click", "1"]);
        std::thread::sleep(Duration::from_millis(400));
        said(&["ctl", "list"]).contains("loop").then_some(())
    });
    assert!(ask_to_terminate(&mut window).success());
    let list = said(&["list"]);
    assert!(list.lines().any(|line| line.starts_with("loop\t") && line.contains("suspended")), "{list}");
}

#[test]
fn the_guests_picture_is_in_a_real_window_and_the_keyboard_reaches_it() {
    if !can_show() {
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let (_server, display) = xvfb();
    let picture = home.path().join("end.png");
    let run = vitrine(home.path(), &display)
        .args(["run", "vitrine", "--backend", "soft", "--screenshot"])
        .arg(&picture)
        .spawn()
        .unwrap();
    let mut run = Ended(run);
    let window = window_named("vitrine", &display);
    // The bar over the guest's text is in VGA's blue, which nothing else in the window has.
    let blue = [0, 0, 0xAA];
    wait("the guest's blue bar in the window", 60, || (count(&display, blue) > 5000).then_some(()));
    xdotool(&display, &["windowfocus", &window]);
    xdotool(&display, &["mousemove", "590", "420", "click", "1"]);
    // F1 turns the guest's screen to graphics: the bar goes.
    wait("graphics after F1", 60, || {
        xdotool(&display, &["key", "F1"]);
        std::thread::sleep(Duration::from_millis(400));
        (count(&display, blue) < 100).then_some(())
    });
    // F4 switches the guest off; its window stays until it is closed.
    xdotool(&display, &["key", "F4"]);
    std::thread::sleep(Duration::from_millis(500));
    assert!(run.0.try_wait().unwrap().is_none(), "the window must stay until the user has seen the end");
    // Asked to terminate, the run still ends in order: the window closes and the screenshot is written.
    let status = ask_to_terminate(&mut run);
    assert_eq!(status.code(), Some(130), "{status}");
    assert!(image::open(&picture).is_ok(), "the screenshot of the end is written");
}
