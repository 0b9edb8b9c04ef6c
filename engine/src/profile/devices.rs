//! Which devices a machine has, as a profile and the command line name them.

use std::fmt;
use std::str::FromStr;

use hardware::ahci;
use network::Forward;
use serde::{Deserialize, Serialize};

/// Most hard disks a machine may have on IDE (with a CD-ROM, one fewer).
pub const MAX_DISKS: usize = 4;

/// Controllers for hard disks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum DiskBus {
    /// The PIIX3's IDE channels: every system knows them.
    #[default]
    Ide,
    /// An AHCI controller (serial ATA); the CD-ROM drive is on it too.
    Ahci,
    /// Virtio block devices: fastest, for systems with drivers.
    Virtio,
}

/// Virtio devices beside the disks. A system without drivers for them does not miss them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Paravirtual {
    /// Random numbers from the host.
    pub entropy: bool,
    /// Memory the guest gives back.
    pub balloon: bool,
    /// A console beside the serial port; what it says goes where the serial port's output goes.
    pub console: bool,
    /// A pointer with absolute coordinates.
    pub tablet: bool,
    /// A keyboard beside the PS/2 one, for systems without a driver for that.
    pub keyboard: bool,
}

impl Paravirtual {
    /// None of them.
    pub const NONE: Paravirtual =
        Paravirtual { entropy: false, balloon: false, console: false, tablet: false, keyboard: false };
}

impl Paravirtual {
    /// Each with its name on the command line.
    pub fn each(&mut self) -> [(&'static str, &mut bool); 5] {
        [
            ("entropy", &mut self.entropy),
            ("balloon", &mut self.balloon),
            ("console", &mut self.console),
            ("tablet", &mut self.tablet),
            ("keyboard", &mut self.keyboard),
        ]
    }
}

impl FromStr for Paravirtual {
    type Err = String;

    /// Names with commas between them, or `none`.
    fn from_str(text: &str) -> Result<Paravirtual, String> {
        let mut devices = Paravirtual::NONE;
        for name in text.split(',').filter(|_| text != "none") {
            let mut each = devices.each();
            let Some((_, is_there)) = each.iter_mut().find(|(known, _)| *known == name) else {
                let known = each.map(|(name, _)| name).join(", ");
                return Err(format!("'{name}' is no such device; there are none, {known}"));
            };
            **is_there = true;
        }
        Ok(devices)
    }
}

impl Default for Paravirtual {
    fn default() -> Paravirtual {
        Paravirtual { entropy: true, balloon: true, console: true, tablet: true, keyboard: false }
    }
}

impl FromStr for DiskBus {
    type Err = String;

    fn from_str(text: &str) -> Result<DiskBus, String> {
        match text.to_ascii_lowercase().as_str() {
            "ide" => Ok(DiskBus::Ide),
            "ahci" => Ok(DiskBus::Ahci),
            "virtio" => Ok(DiskBus::Virtio),
            other => Err(format!("'{other}' is no disk bus; there are ide, ahci and virtio")),
        }
    }
}

impl DiskBus {
    /// Most hard disks on it, beside a CD-ROM or not.
    pub const fn room(self, cdrom: bool) -> usize {
        match self {
            DiskBus::Ide => MAX_DISKS - cdrom as usize,
            // There is always a CD-ROM drive.
            DiskBus::Ahci => ahci::PORTS - 1,
            DiskBus::Virtio => 8,
        }
    }
}

/// What the network card's cable leads to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Network {
    /// There is no card.
    None,
    /// The world, by the host's own sockets.
    Nat {
        /// Ports of the host that lead to ports of the guest.
        #[serde(default)]
        forwards: Vec<Forward>,
        /// Whether the gateway's address leads to the host's loopback, and so to services that trust
        /// everyone on this host.
        #[serde(default)]
        host_loopback: bool,
    },
    /// The switch of this name, which all machines that name it share.
    Switch(String),
    /// This tap interface of the host.
    Tap(String),
}

impl Default for Network {
    fn default() -> Network {
        Network::Nat { forwards: Vec::new(), host_loopback: false }
    }
}

/// As the command line writes it.
impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Network::None => f.write_str("none"),
            Network::Nat { .. } => f.write_str("nat"),
            Network::Switch(name) => write!(f, "switch:{name}"),
            Network::Tap(name) => write!(f, "tap:{name}"),
        }
    }
}

impl FromStr for Network {
    type Err = String;

    /// `nat`, `none`, `switch:NAME` or `tap:NAME`.
    fn from_str(text: &str) -> Result<Network, String> {
        match (text, text.split_once(':')) {
            ("nat", _) => Ok(Network::default()),
            ("none", _) => Ok(Network::None),
            (_, Some(("switch", name))) if !name.is_empty() => Ok(Network::Switch(name.to_owned())),
            (_, Some(("tap", name))) if !name.is_empty() => Ok(Network::Tap(name.to_owned())),
            _ => Err("write nat, none, switch:NAME or tap:NAME".to_owned()),
        }
    }
}

/// Which display adapters the guest sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum DisplayAdapter {
    /// A VGA, which every system knows.
    #[default]
    Vga,
    /// Virtio's GPU beside it: what it shows is shown as soon as a driver has it show something, and the
    /// guest hears when the window has another size.
    VirtioGpu,
}

impl FromStr for DisplayAdapter {
    type Err = String;

    fn from_str(text: &str) -> Result<DisplayAdapter, String> {
        match text {
            "vga" => Ok(DisplayAdapter::Vga),
            "virtio-gpu" => Ok(DisplayAdapter::VirtioGpu),
            _ => Err("write vga or virtio-gpu".to_owned()),
        }
    }
}

/// Which network card the guest sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Nic {
    /// Intel 82540EM, which most systems know.
    #[default]
    E1000,
    /// Virtio's: fastest, for systems with a driver.
    Virtio,
    /// NE2000 on PCI (Realtek RTL8029), for systems older than the E1000.
    Ne2000,
    /// NE2000 on ISA, at port 0x300 and interrupt 3, for systems that know no PCI.
    Ne2000Isa,
}

impl FromStr for Nic {
    type Err = String;

    fn from_str(text: &str) -> Result<Nic, String> {
        match text {
            "e1000" => Ok(Nic::E1000),
            "virtio" => Ok(Nic::Virtio),
            "ne2000" => Ok(Nic::Ne2000),
            "ne2000-isa" => Ok(Nic::Ne2000Isa),
            _ => Err("write e1000, virtio, ne2000 or ne2000-isa".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn virtual_devices_are_listed_by_name() {
        assert_eq!("none".parse(), Ok(Paravirtual::NONE));
        assert_eq!("entropy,balloon,console,tablet".parse(), Ok(Paravirtual::default()));
        assert_eq!("keyboard".parse(), Ok(Paravirtual { keyboard: true, ..Paravirtual::NONE }));
        assert!("mouse".parse::<Paravirtual>().unwrap_err().contains("tablet"));
    }
}
