//! What the host offers, and the fix for each thing that is missing.

use std::path::Path;

use crate::backend::Backend;
use crate::backend::kvm::{Host, speed};
use crate::firmware::Firmware;

/// One thing looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What it is.
    pub subject: &'static str,
    /// Whether it can be used.
    pub good: bool,
    /// What was found.
    pub found: String,
    /// What to do about it, when something is missing.
    pub fix: Option<String>,
}

impl Finding {
    fn good(subject: &'static str, found: impl Into<String>) -> Finding {
        Finding { subject, good: true, found: found.into(), fix: None }
    }

    fn missing(subject: &'static str, found: impl Into<String>, fix: impl Into<String>) -> Finding {
        Finding { subject, good: false, found: found.into(), fix: Some(fix.into()) }
    }
}

/// Looks at everything; takes some tens of milliseconds.
pub fn examine() -> Vec<Finding> {
    vec![processor(), kvm(), firmware(), screen(), sound()]
}

fn processor() -> Finding {
    let cpus = std::thread::available_parallelism().map_or(1, |n| n.get());
    Finding::good("Software CPU", format!("works everywhere; {cpus} host CPUs to share among machines"))
}

fn kvm() -> Finding {
    if let Err(problem) = Host::open() {
        // The problem's text ends with its fix.
        return Finding::missing("KVM", "not usable; machines run on the software CPU", problem.to_string());
    }
    match speed::choose(Backend::Auto, true) {
        Ok(choice) => {
            let speed = choice.kvm_instructions_per_second.unwrap_or(0) / 1_000_000;
            let found = format!("works, {speed} million instructions a second");
            match choice.reason {
                Some(reason) => Finding::missing(
                    "KVM",
                    found,
                    format!("{reason}; for more, turn on nested virtualization where this host itself runs"),
                ),
                None => Finding::good("KVM", found),
            }
        }
        Err(error) => Finding::missing("KVM", "opens, but runs no machine", error.to_string()),
    }
}

fn firmware() -> Finding {
    match Firmware::installed() {
        Ok(firmware) => Finding::good("Firmware", format!("SeaBIOS, {}", firmware.path.display())),
        Err(error) => Finding::missing("Firmware", "not found", error.to_string()),
    }
}

fn screen() -> Finding {
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    match (set("WAYLAND_DISPLAY"), set("DISPLAY")) {
        (true, _) => Finding::good("Display", "Wayland"),
        (_, true) => Finding::good("Display", "X11"),
        _ => {
            Finding::missing("Display", "none", "start Vitrine on a desktop, or run machines with --headless")
        }
    }
}

fn sound() -> Finding {
    let cards = std::fs::read_to_string("/proc/asound/cards").unwrap_or_default();
    let first =
        cards.lines().next().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("---"));
    match first {
        Some(card) => Finding::good("Sound", card),
        None if Path::new("/proc/asound").exists() => {
            Finding::missing("Sound", "no sound card", "guests run without sound; plug one in to hear them")
        }
        None => Finding::missing("Sound", "the kernel has no sound", "guests run without sound"),
    }
}
