//! `vitrine run`: checks everything, starts the machine, and watches it with or without a window.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use engine::library::Library;
use engine::resources::Resources;
use engine::scheduler::Scheduler;
use engine::session::{Ending, Outlets, RunState};
use engine::sound::Output;

use super::arguments::{RunArguments, Serial};
use super::player::{self, Player, Script};
use super::serial::{Matcher, OutFile, SerialLog, Terminal};
use super::watch::{Verdict, Watch};
use super::{console, script, serial, several, status, target};
use crate::control::parts::capture_file;
use crate::control::{debug, gdb, saved};
use crate::running::Running;
use crate::running::launch::{Beginning, launch};
use crate::window;
use crate::{interrupt, outputs, report};

/// How long a machine may take to switch off at the end.
const SWITCH_OFF: Duration = Duration::from_secs(3);
/// How often a window that shows a machine's end looks for an interrupt.
const LINGER: Duration = Duration::from_millis(100);

/// Runs a machine; the exit status, or what kept it from starting.
pub fn run(arguments: &RunArguments) -> Result<u8, String> {
    if let Some(workers) = arguments.workers {
        Scheduler::global_with(workers as usize);
    }
    if let Some(percent) = arguments.overcommit {
        Resources::global().set_overcommit_percent(percent);
    }
    let target = match &arguments.targets[..] {
        [] => None,
        [one] => Some(one.as_path()),
        _ => return several::run(arguments),
    };
    let library = Library::of_user();
    let profile = match &arguments.resume {
        Some(name) => target::saved(&library, target, name, &arguments.machine)?,
        None => target::resolve(&library, target, &arguments.machine)?,
    };
    let mut watch = watch(arguments)?;
    check_outputs(arguments)?;
    if !arguments.headless {
        window::check_display()?;
    }
    let waker: window::WakerSlot = Arc::default();
    let (mut outlets, files) = outlets(arguments, &mut watch, &waker);
    let on_stage =
        profile.deterministic.is_some().then(|| player::perform(&mut watch, &mut outlets)).flatten();
    if arguments.headless && profile.audio.is_none() {
        outlets.sound = Some(Output::none());
    }
    outlets.capture = arguments.capture.as_deref().map(capture_file).transpose()?;
    let machine = launch(&profile, &beginning(arguments), outlets)?;
    if let Some(address) = arguments.gdb {
        let at = gdb::start(&*machine, address, arguments.gdb_i386).inspect_err(|_| machine.power_off())?;
        console::tell(&gdb::told(at));
    }
    if let Some(on_stage) = on_stage {
        on_stage(&machine);
    }
    if let Some(problem) = machine.sound().problem {
        console::tell(&format!("no sound: {problem}"));
    }
    for file in &files {
        file.ensure().inspect_err(|_| machine.power_off())?;
    }
    let terminal = (arguments.serial == Serial::Stdio).then(|| Terminal::attach(machine.clone()));
    watch.interrupted.extend(terminal.iter().map(|terminal| terminal.wants_end.clone()));
    watch.interrupted.push(interrupt::flag());
    watch.tells_notes = arguments.headless;
    let verdict = if arguments.headless {
        watch.run(&*machine)
    } else {
        in_window(watch, &machine, &waker, arguments.machine.debug_exit)?
    };
    finish(arguments, &machine, &files, verdict, terminal)
}

/// From where it starts.
pub(super) fn beginning(arguments: &RunArguments) -> Beginning {
    match &arguments.resume {
        Some(name) => Beginning::Snapshot(name.clone()),
        None if arguments.fresh => Beginning::Anew,
        None => Beginning::Usual,
    }
}

/// What ends the run. A script is read whole here, so that an error in it starts nothing.
pub(super) fn watch(arguments: &RunArguments) -> Result<Watch, String> {
    let player = match &arguments.script {
        None => None,
        Some(path) => {
            let text =
                std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
            let lines = script::parse(&text).map_err(|error| format!("{}: {error}", path.display()))?;
            Some(Script::Here(Player::new(lines)))
        }
    };
    Ok(Watch {
        until_screen: arguments.until_screen.clone(),
        timeout: arguments.timeout.map(Duration::from_secs_f64),
        player,
        ..Watch::default()
    })
}

pub(super) fn check_outputs(arguments: &RunArguments) -> Result<(), String> {
    let serial = match &arguments.serial {
        Serial::File(path) => Some(path),
        Serial::None | Serial::Stdio => None,
    };
    [serial, arguments.debugcon.as_ref(), arguments.screenshot.as_ref(), arguments.stats.as_ref()]
        .into_iter()
        .flatten()
        .try_for_each(|path| outputs::check_writable(path))
}

pub(super) fn outlets(
    arguments: &RunArguments,
    watch: &mut Watch,
    waker: &window::WakerSlot,
) -> (Outlets, Vec<OutFile>) {
    let (serial_file, mut sink) = serial::sink(&arguments.serial);
    let log: Arc<SerialLog> = watch.serial.clone();
    let mut matcher = arguments.until_serial.as_ref().map(|text| {
        let (matcher, came) = Matcher::new(text);
        watch.until_serial = Some((text.clone(), came));
        matcher
    });
    let keeps_log = watch.player.is_some();
    let debug_file = arguments.debugcon.as_deref().map(OutFile::new);
    let to_debug = debug_file.clone();
    let outlets = Outlets {
        serial: Some(Box::new(move |bytes| {
            sink(bytes);
            if let Some(matcher) = &mut matcher {
                matcher.push(bytes);
            }
            if keeps_log {
                log.push(bytes);
            }
        })),
        debug_console: to_debug.map(|file| Box::new(move |bytes: &[u8]| file.write(bytes)) as _),
        capture: None,
        waker: (!arguments.headless).then(|| window::waker(waker)),
        paused: arguments.paused,
        history: arguments.history.map(debug::history_limits),
        ..Outlets::default()
    };
    (outlets, serial_file.into_iter().chain(debug_file).collect())
}

/// Shows the machine in a window; whatever ends the run closes it, and so does the user.
fn in_window(
    mut watch: Watch,
    machine: &Arc<dyn Running>,
    waker: &window::WakerSlot,
    debug_exit: bool,
) -> Result<Verdict, String> {
    let verdict: Arc<Mutex<Option<Verdict>>> = Arc::default();
    let (watched, slot, reached) = (machine.clone(), waker.clone(), verdict.clone());
    let closes_at_end = watch.has_conditions() || debug_exit;
    std::thread::spawn(move || {
        let mut end = watch.run(&*watched);
        // Without conditions, a machine that ends by itself stays in view until the user has seen it.
        if !closes_at_end && end != Verdict::Interrupted {
            while !watch.is_interrupted() {
                std::thread::sleep(LINGER);
            }
            end = Verdict::Interrupted;
        }
        *reached.lock().unwrap_or_else(PoisonError::into_inner) = Some(end);
        window::close(&slot);
    });
    let opened = window::open(Some(window::Launched { machine: machine.clone(), waker: waker.clone() }));
    opened.inspect_err(|_| machine.power_off())?;
    let reached = verdict.lock().unwrap_or_else(PoisonError::into_inner).take();
    Ok(reached.unwrap_or_else(|| match machine.state() {
        RunState::Ended(Ending::Crashed(crash)) => Verdict::Crashed(crash),
        RunState::Ended(Ending::Failed(reason)) => Verdict::Failed(reason),
        RunState::Ended(Ending::DebugExit(value)) => Verdict::DebugExit(value),
        RunState::Ended(Ending::PoweredOff) | RunState::Running | RunState::Paused => Verdict::PoweredOff,
    }))
}

/// Writes what was asked for, switches the machine off and says how it went.
pub(super) fn finish(
    arguments: &RunArguments,
    machine: &Arc<dyn Running>,
    files: &[OutFile],
    verdict: Verdict,
    terminal: Option<Terminal>,
) -> Result<u8, String> {
    let mut written: Vec<Result<(), String>> = Vec::new();
    if let Some(path) = &arguments.screenshot {
        written.push(outputs::write_png(path, &machine.frame()));
    }
    let last_screen =
        matches!(verdict, Verdict::TimeOver(_) | Verdict::Failed(_)).then(|| report::screen(&**machine));
    let mut suspended = None;
    if !matches!(machine.state(), RunState::Ended(_)) {
        if is_to_be_suspended(arguments, &**machine) {
            suspended = machine.session().map(|session| saved::suspend(&saved::states_of(session)?, session));
        }
        machine.power_off();
        machine.wait(SWITCH_OFF);
    }
    if let Some(path) = &arguments.stats {
        let json = serde_json::to_string_pretty(&machine.stats()).map_err(|error| error.to_string());
        written.push(json.and_then(|json| outputs::write_whole(path, format!("{json}\n").as_bytes())));
    }
    written.extend(files.iter().map(OutFile::ensure));
    drop(terminal);
    let verdict = match suspended {
        Some(Ok(answer)) => {
            console::tell(&answer.text);
            Verdict::Suspended
        }
        Some(Err(reason)) => {
            written.push(Err(format!("the machine was not saved, and is lost: {reason}")));
            verdict
        }
        None => verdict,
    };
    match &verdict {
        Verdict::Crashed(crash) => {
            console::tell(&format!("{}: {}", machine.profile().name, report::crash(crash)));
        }
        Verdict::TimeOver(reason) | Verdict::Failed(reason) => console::tell(reason),
        Verdict::Interrupted => console::tell("interrupted"),
        Verdict::PoweredOff
        | Verdict::Came(_)
        | Verdict::Played
        | Verdict::Suspended
        | Verdict::DebugExit(_) => {}
    }
    if let Some(screen) = last_screen.filter(|_| verdict != Verdict::Suspended) {
        console::tell_plain(&screen);
    }
    let failures: Vec<String> = written.into_iter().filter_map(Result::err).collect();
    failures.iter().for_each(|failure| console::tell(failure));
    match verdict.status() {
        status::SUCCESS if !failures.is_empty() => Ok(status::ERROR),
        status => Ok(status),
    }
}

/// Whether a machine that runs on is saved as its run ends: where that was asked for, and where a person closes the
/// window of a machine of the library.
fn is_to_be_suspended(arguments: &RunArguments, machine: &dyn Running) -> bool {
    let in_library = || Library::of_user().load(&machine.profile().name).is_ok();
    let is_named = arguments.targets.first().is_some_and(|target| !target.exists());
    arguments.suspend_on_quit || (!arguments.headless && is_named && in_library())
}
