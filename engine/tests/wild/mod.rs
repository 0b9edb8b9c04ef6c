//! A guest gone wild on a whole board: any access, drivers that are almost right, time, input, resets and damaged saved
//! states, the same for one seed. Nothing may panic, and nothing may grow.

mod cards;
mod desktop;
mod disks;
mod guest;
mod random;
mod states;
mod timers;

use std::collections::BTreeMap;

use engine::Profile;
use engine::machine::Bare;
use engine::profile::{DiskBus, DisplayAdapter, Nic};

use guest::Guest;
use random::Random;

/// What came of a case.
pub struct Played {
    /// Accesses made.
    pub accesses: u64,
    /// The devices of its board.
    pub devices: Vec<String>,
    /// What devices did of what they were asked: drivers that are never right find nothing.
    pub done: BTreeMap<&'static str, u64>,
}

/// Boards that have, together, every device there is.
const BOARDS: [(DiskBus, Nic, DisplayAdapter, u32); 5] = [
    (DiskBus::Ide, Nic::E1000, DisplayAdapter::Vga, 1),
    (DiskBus::Ahci, Nic::Virtio, DisplayAdapter::VirtioGpu, 2),
    (DiskBus::Virtio, Nic::E1000, DisplayAdapter::Vga, 4),
    (DiskBus::Ide, Nic::Ne2000, DisplayAdapter::VirtioGpu, 1),
    (DiskBus::Ahci, Nic::Ne2000Isa, DisplayAdapter::Vga, 1),
];

fn profile(board: usize) -> Profile {
    let (disk_bus, nic, display, cpus) = BOARDS[board];
    let hpet = cpus < 4;
    let mut profile =
        Profile { disk_bus, nic, display, cpus, hpet, debug_exit: true, ..Profile::new("wild") };
    profile.paravirtual.keyboard = true;
    profile.sound = "speaker,ac97,sb16,virtio".parse().expect("sound cards there are");
    profile
}

/// Plays so many episodes of a seed's case; every few of them, states are saved and loaded.
pub fn play(seed: u64, episodes: u32) -> Played {
    let board = (seed % BOARDS.len() as u64) as usize;
    let bare = Bare::build(&profile(board)).expect("a board in memory");
    let devices = bare.save().into_iter().map(|(name, _)| name).collect();
    let mut guest = Guest::new(bare, Random::new(seed));
    guest.note(format!("seed {seed}, {:?}", BOARDS[board]));
    guest.bare.set_up_pci();
    guest.fill_ram();
    for n in 0..episodes {
        match guest.random.below(24) {
            0 => guest.save_disturb_load(),
            1 => guest.load_damaged(),
            _ => guest.episode(),
        }
        if n % 32 == 31 {
            guest.fill_ram();
        }
    }
    guest.bare.settle();
    Played { accesses: guest.accesses, devices, done: std::mem::take(&mut guest.done) }
}

impl Guest {
    /// Some accesses that belong together.
    fn episode(&mut self) {
        match self.random.below(45) {
            0..=7 => self.poke_about(),
            8..=11 => self.poke_by_index(),
            12 => self.poke_configuration(),
            13..=15 => self.drive_ide(),
            16..=18 => self.drive_ahci(),
            19..=21 => self.drive_floppy(),
            22..=24 => self.drive_e1000(),
            25..=26 => self.drive_ac97(),
            27..=28 => self.drive_sb16(),
            29 => self.drive_fw_cfg(),
            30..=34 => self.drive_virtio(),
            40 => self.drive_ne2000(),
            41 | 42 => self.drive_gpu(),
            43 => self.call_vmware(),
            44 => self.drive_hpet(),
            35 => self.hear_from_outside(),
            36 => self.take_interrupts(),
            37 | 38 => self.let_time_pass(),
            _ if self.random.one_in(4) => {
                self.note("reset".to_owned());
                self.bare.settle();
                self.bare.reset();
                self.bare.set_up_pci();
            }
            _ => {
                self.note("firmware sets PCI up".to_owned());
                self.bare.set_up_pci();
            }
        }
    }
}
