//! A profile: the RON file a user edits, which says what a machine is made of.

mod devices;
mod size;

use std::path::{Path, PathBuf};

pub use devices::{DiskBus, DisplayAdapter, MAX_DISKS, Network, Nic, Paravirtual};
pub use hardware::timers::LostTicks;
use network::Mac;
use serde::{Deserialize, Serialize};
pub use size::Size;

use crate::backend::{Backend, InterruptMode};
use crate::resources::Throttles;
use crate::scheduler::Allotment;
use crate::sound::{Audio, SoundCards};

/// What a machine is made of. Every field but the name has a default, unknown fields are errors.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// The machine's name, as its card shows it.
    pub name: String,
    /// Who executes the guest's instructions.
    #[serde(default)]
    pub backend: Backend,
    /// Where the interrupt controllers live (KVM only).
    #[serde(default)]
    pub interrupts: InterruptMode,
    /// The CPU the guest sees, by name (`cpu::CpuModel`).
    #[serde(default)]
    pub model: cpu::CpuModel,
    /// Number of virtual CPUs.
    #[serde(default = "one")]
    pub cpus: u32,
    /// Memory.
    #[serde(default)]
    pub memory: Size,
    /// What the machine finds at power-on.
    #[serde(default)]
    pub firmware: Firmware,
    /// CD-ROM image.
    #[serde(default)]
    pub cdrom: Option<PathBuf>,
    /// Hard disk images, in order.
    #[serde(default)]
    pub disks: Vec<PathBuf>,
    /// What the hard disks hang on.
    #[serde(default)]
    pub disk_bus: DiskBus,
    /// Floppy image.
    #[serde(default)]
    pub floppy: Option<PathBuf>,
    /// The display adapter.
    #[serde(default)]
    pub display: DisplayAdapter,
    /// What the network card's cable leads to.
    #[serde(default)]
    pub network: Network,
    /// Which network card.
    #[serde(default)]
    pub nic: Nic,
    /// The card's address; without one, it is made from the machine's name and stays the same.
    #[serde(default)]
    pub mac: Option<Mac>,
    /// Its sound devices.
    #[serde(default)]
    pub sound: SoundCards,
    /// Where its sound goes; by default to the host's sound device if it is shown in a window.
    #[serde(default)]
    pub audio: Option<Audio>,
    /// Writes to disks go to an overlay that is thrown away at the end.
    #[serde(default)]
    pub snapshot: bool,
    /// What is put straight into memory instead of being booted by firmware.
    #[serde(default)]
    pub direct: Option<Direct>,
    /// Whether writing to port 0xF4 ends the run.
    #[serde(default)]
    pub debug_exit: bool,
    /// Time is counted in instructions and nothing comes from the host's clock or entropy: the same input gives the
    /// same run.
    #[serde(default)]
    pub deterministic: Option<Deterministic>,
    /// Its part of the host's processors.
    #[serde(default)]
    pub processor: Allotment,
    /// Memory it has at power-on, if that is less than all it can have: its balloon is asked to hold the rest.
    #[serde(default)]
    pub memory_now: Option<Size>,
    /// What transfers and the policy leave it of memory at least; a quarter of it, if not said otherwise.
    #[serde(default)]
    pub memory_floor: Option<Size>,
    /// What it may take of the host's disks and network at most.
    #[serde(default)]
    pub throttles: Throttles,
    /// What becomes of timer ticks that could not be told one by one.
    #[serde(default)]
    pub lost_ticks: LostTicks,
    /// Whether it has an HPET beside the older timers. Systems that know one use it in their place.
    #[serde(default)]
    pub hpet: bool,
    /// Devices that only virtual machines have.
    #[serde(default)]
    pub paravirtual: Paravirtual,
}

/// What a deterministic machine has instead of the host's entropy and calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deterministic {
    /// What RDRAND and RDSEED are made from.
    #[serde(default)]
    pub seed: u64,
    /// What the real-time clock says at power-on, in seconds since 1970 (UTC).
    #[serde(default = "year_2000")]
    pub start_seconds: u64,
}

impl Default for Deterministic {
    fn default() -> Deterministic {
        Deterministic { seed: 0, start_seconds: year_2000() }
    }
}

/// What the machine finds at power-on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Firmware {
    /// SeaBIOS as the distribution installs it; none for programs and kernels put straight into memory.
    #[default]
    Auto,
    /// Nothing: the machine starts with what [`Profile::direct`] names.
    None,
    /// This image.
    Image(PathBuf),
}

/// A program or kernel put straight into memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Direct {
    /// A guest that comes with Vitrine, by name.
    BuiltIn(String),
    /// Raw code at 0x7C00, entered in real mode as a BIOS enters a boot sector.
    Flat(PathBuf),
    /// A kernel (bzImage, multiboot or ELF) with its command line.
    Kernel {
        /// The kernel file.
        image: PathBuf,
        /// Initial ramdisk, or first multiboot module.
        #[serde(default)]
        initrd: Option<PathBuf>,
        /// Kernel command line.
        #[serde(default)]
        append: String,
    },
}

/// Smallest and largest memory a machine may have.
pub const MEMORY_LIMITS: (Size, Size) = (Size::mib(1), Size::mib(64 * 1024));
/// Most virtual CPUs a machine may have.
pub const MAX_CPUS: u32 = 8;
const fn year_2000() -> u64 {
    946_684_800
}
/// Longest name of a host's interface (IFNAMSIZ, with its final zero, is 16).
const LONGEST_INTERFACE_NAME: usize = 15;

const fn one() -> u32 {
    1
}

/// A field of a profile that cannot be, and why. The window shows it under the field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct Problem {
    /// The field's name in the profile.
    pub field: &'static str,
    /// What is wrong, and what to do.
    pub reason: String,
}

impl Profile {
    /// A machine with all defaults.
    pub fn new(name: impl Into<String>) -> Profile {
        Profile {
            name: name.into(),
            backend: Backend::Auto,
            interrupts: InterruptMode::default(),
            model: cpu::CpuModel::default(),
            cpus: 1,
            memory: Size::default(),
            firmware: Firmware::Auto,
            cdrom: None,
            disks: Vec::new(),
            disk_bus: DiskBus::default(),
            floppy: None,
            display: DisplayAdapter::default(),
            network: Network::default(),
            nic: Nic::default(),
            mac: None,
            sound: SoundCards::default(),
            audio: None,
            snapshot: false,
            direct: None,
            debug_exit: false,
            deterministic: None,
            processor: Allotment::default(),
            memory_now: None,
            memory_floor: None,
            throttles: Throttles::default(),
            lost_ticks: LostTicks::default(),
            hpet: false,
            paravirtual: Paravirtual::default(),
        }
    }

    /// Reads a profile from RON.
    pub fn from_ron(text: &str) -> Result<Profile, String> {
        ron::from_str(text).map_err(|error| error.to_string())
    }

    /// Writes it as RON, as a person would lay it out.
    pub fn to_ron(&self) -> String {
        ron::ser::to_string_pretty(self, ron::ser::PrettyConfig::new()).expect("a profile is plain data")
    }

    /// Everything that cannot be, field by field. Files are looked at for existence only.
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut problem = |field, reason: String| problems.push(Problem { field, reason });
        if let Err(reason) = check_name(&self.name) {
            problem("name", reason);
        }
        let (least, most) = MEMORY_LIMITS;
        if self.memory < least || self.memory > most {
            problem("memory", format!("{} is outside {least} to {most}", self.memory));
        } else if !self.memory.bytes().is_multiple_of(4096) {
            problem("memory", format!("{} is not a multiple of 4K", self.memory));
        }
        if self.cpus == 0 || self.cpus > MAX_CPUS {
            problem("cpus", format!("{} is outside 1 to {MAX_CPUS}", self.cpus));
        }
        if let Err(error) = self.processor.check(self.cpus) {
            problem("processor", error.to_string());
        }
        let floor = self.memory_floor.unwrap_or(Size::of_bytes(self.memory.bytes() / 4));
        if self.memory_floor.is_some_and(|floor| floor > self.memory) {
            problem("memory_floor", format!("{floor} is more than the machine can have, {}", self.memory));
        }
        if let Some(now) = self.memory_now.filter(|now| *now < floor || *now > self.memory) {
            let reason = format!("{now} is outside {floor} (the floor) to {} (all it can have)", self.memory);
            problem("memory_now", reason);
        }
        if self.memory_now.is_some_and(|now| now < self.memory) && !self.paravirtual.balloon {
            problem("memory_now", "without a balloon a machine has all its memory at once".to_owned());
        }
        if let Err(error) = self.throttles.check() {
            problem("throttles", error.to_string());
        }
        let room = self.disk_bus.room(self.cdrom.is_some());
        if self.disks.len() > room {
            let count = self.disks.len();
            let text = format!("{count} disks do not fit; at most {room} on this bus beside the CD-ROM");
            problem("disks", text);
        }
        if self.deterministic.is_some() && self.backend == Backend::Kvm {
            let reason = "only the software CPU counts instructions; choose the backend soft or auto";
            problem("deterministic", reason.to_owned());
        }
        if self.deterministic.is_some() && self.lost_ticks == LostTicks::Replay {
            // What is owed is not part of a saved state.
            let reason = "a deterministic machine is never late by itself; choose Merge";
            problem("lost_ticks", reason.to_owned());
        }
        if self.deterministic.is_some() && self.disk_bus != DiskBus::Ide {
            let reason = "only IDE disks take their time from the guest's; choose the bus ide";
            problem("disk_bus", reason.to_owned());
        }
        if let Network::Tap(name) = &self.network
            && (name.is_empty() || name.len() > LONGEST_INTERFACE_NAME || name.contains(['/', ' ']))
        {
            problem("network", format!("'{name}' cannot name an interface of the host"));
        }
        if self.network == Network::Switch(String::new()) {
            problem("network", "a switch needs a name, which its machines share".to_owned());
        }
        for (field, path) in self.files() {
            if !path.exists() {
                problem(field, format!("{}: there is no such file", path.display()));
            }
        }
        if self.firmware == Firmware::None && self.direct.is_none() {
            problem("firmware", "without firmware there must be a program or a kernel to start".to_owned());
        }
        problems
    }

    /// The network card's address.
    pub fn mac_address(&self) -> Mac {
        self.mac.unwrap_or_else(|| Mac::for_name(&self.name))
    }

    /// The machine that is built for it: a deterministic one has no device that the host feeds in its own time.
    pub fn as_built(&self) -> Profile {
        let mut built = self.clone();
        if built.deterministic.is_some() {
            built.network = Network::None;
            built.paravirtual = Paravirtual::NONE;
        }
        built
    }

    /// Makes relative paths relative to `folder`.
    pub fn resolve(&mut self, folder: &Path) {
        self.paths_mut().into_iter().for_each(|path| *path = folder.join(&*path));
    }

    /// Names what lies in `folder` from there, so that the folder can be moved.
    pub fn name_from(&mut self, folder: &Path) {
        for path in self.paths_mut() {
            if let Ok(inside) = path.strip_prefix(folder) {
                *path = inside.to_owned();
            }
        }
    }

    fn paths_mut(&mut self) -> Vec<&mut PathBuf> {
        let mut paths: Vec<&mut PathBuf> = self.cdrom.iter_mut().chain(&mut self.disks).collect();
        paths.extend(&mut self.floppy);
        match &mut self.direct {
            Some(Direct::Flat(image)) => paths.push(image),
            Some(Direct::Kernel { image, initrd, .. }) => {
                paths.push(image);
                paths.extend(initrd);
            }
            Some(Direct::BuiltIn(_)) | None => {}
        }
        if let Firmware::Image(image) = &mut self.firmware {
            paths.push(image);
        }
        if let Some(Audio::Wav(path)) = &mut self.audio {
            paths.push(path);
        }
        paths
    }

    /// Every host file the profile names, with the field that names it.
    pub fn files(&self) -> Vec<(&'static str, &Path)> {
        let mut files: Vec<(&'static str, &Path)> = Vec::new();
        files.extend(self.cdrom.iter().map(|p| ("cdrom", p.as_path())));
        files.extend(self.disks.iter().map(|p| ("disks", p.as_path())));
        files.extend(self.floppy.iter().map(|p| ("floppy", p.as_path())));
        match &self.direct {
            Some(Direct::Flat(image)) => files.push(("direct", image)),
            Some(Direct::Kernel { image, initrd, .. }) => {
                files.push(("direct", image));
                files.extend(initrd.iter().map(|p| ("direct", p.as_path())));
            }
            Some(Direct::BuiltIn(_)) | None => {}
        }
        if let Firmware::Image(image) = &self.firmware {
            files.push(("firmware", image));
        }
        files
    }
}

/// Whether `name` can name a machine (and its folder).
pub fn check_name(name: &str) -> Result<(), String> {
    if name.trim().is_empty() {
        return Err("a machine needs a name".to_owned());
    }
    if name.len() > 64 {
        return Err("the name is longer than 64 bytes".to_owned());
    }
    let forbidden = |c: char| c == '/' || c == '\\' || c == '\0' || c.is_control();
    if name.contains(forbidden) || name.starts_with('.') || name != name.trim() {
        return Err(format!(
            "'{name}' cannot name a machine: no slashes, no leading dot, no blanks around it"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_survives_ron() {
        let mut profile = Profile::new("Test");
        profile.memory = Size::mib(64);
        profile.direct = Some(Direct::BuiltIn("vitrine".into()));
        profile.deterministic = Some(Deterministic { seed: 7, ..Deterministic::default() });
        assert_eq!(Profile::from_ron(&profile.to_ron()).unwrap(), profile);
    }

    #[test]
    fn only_the_name_is_needed_and_unknown_fields_are_refused() {
        assert_eq!(Profile::from_ron("(name: \"x\")").unwrap(), Profile::new("x"));
        let error = Profile::from_ron("(name: \"x\", memroy: \"1G\")").unwrap_err();
        assert!(error.contains("memroy"), "{error}");
    }

    #[test]
    fn networks_read_as_people_write_them() {
        let tap = Profile::from_ron("(name: \"x\", network: Tap(\"tap0\"))").unwrap();
        assert_eq!(tap.network, "tap:tap0".parse().unwrap());
        for text in ["nat", "none", "switch:lan", "tap:tap0"] {
            assert_eq!(text.parse::<Network>().unwrap().to_string(), text);
        }
        let nat =
            "(name: \"x\", network: Nat(forwards: [\"tcp:2222:22\"]), mac: Some(\"52:56:00:00:00:07\"))";
        let nat = Profile::from_ron(nat).unwrap();
        assert_eq!(Profile::from_ron(&nat.to_ron()).unwrap(), nat);
        assert_eq!(nat.mac_address().to_string(), "52:56:00:00:00:07");
        assert_eq!(Profile::new("x").mac_address(), Mac::for_name("x"));
        assert!("bridge".parse::<Network>().is_err() && "tap:".parse::<Network>().is_err());
        let mut wrong = Profile::new("x");
        wrong.network = Network::Tap("a name that is too long".into());
        assert_eq!(wrong.problems()[0].field, "network");
        wrong.network = Network::Switch(String::new());
        assert_eq!(wrong.problems()[0].field, "network");
    }

    #[test]
    fn impossible_values_are_named_by_field() {
        let mut profile = Profile::new("../up");
        profile.cpus = 0;
        profile.memory = Size::of_bytes(5);
        profile.cdrom = Some("/nonexistent.iso".into());
        profile.deterministic = Some(Deterministic::default());
        profile.backend = Backend::Kvm;
        let fields: Vec<_> = profile.problems().iter().map(|p| p.field).collect();
        assert_eq!(fields, ["name", "memory", "cpus", "deterministic", "cdrom"]);
    }
}
