//! The machine's drives while it runs: what is in them, and changing it as a hand would.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use hardware::Shared;
use hardware::ahci::AhciController;
use hardware::floppy::FloppyController;
use hardware::ide::{IdeController, Position};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use storage::Disk;
use storage::throttle::Throttle;

use super::StartError;
use super::media::{self, CDROM, FLOPPY, behind};
use super::port::{DriveWork, Port, Tell};

/// Where the CD drive hangs.
pub enum CdDrive {
    Ide(Shared<IdeController>, Position),
    Ahci(Shared<AhciController>, usize),
}

/// All drives of a machine.
pub struct Drives {
    cd: Option<CdDrive>,
    floppy: Shared<FloppyController>,
    throw_away: bool,
    ports: Mutex<Vec<Arc<Port>>>,
    throttle: Arc<Throttle>,
    tell: Tell,
}

/// A drive whose medium can be changed, and what is in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drive {
    /// `cdrom` or `floppy`.
    pub name: String,
    /// What is in it.
    pub medium: Option<PathBuf>,
}

impl CdDrive {
    pub fn insert(&self, disc: Box<dyn Disk>) -> Result<(), String> {
        let done = match self {
            CdDrive::Ide(ide, at) => ide.lock().insert(*at, disc).map_err(|error| error.to_string()),
            CdDrive::Ahci(ahci, port) => ahci.lock().insert(*port, disc).map_err(|error| error.to_string()),
        };
        done.map(drop)
    }

    pub fn eject(&self) -> Result<(), String> {
        let done = match self {
            CdDrive::Ide(ide, at) => ide.lock().eject(*at).map_err(|error| error.to_string()),
            CdDrive::Ahci(ahci, port) => ahci.lock().eject(*port).map_err(|error| error.to_string()),
        };
        done.map(drop)
    }
}

impl Drives {
    /// These drives, with what lies behind `ports` in them.
    pub fn new(
        cd: Option<CdDrive>,
        floppy: Shared<FloppyController>,
        throw_away: bool,
        ports: Vec<Arc<Port>>,
        throttle: Arc<Throttle>,
        tell: Tell,
    ) -> Drives {
        Drives { cd, floppy, throw_away, ports: Mutex::new(ports), throttle, tell }
    }

    /// The ports of everything that is in a drive.
    pub fn ports(&self) -> Vec<Arc<Port>> {
        self.ports.lock().clone()
    }

    /// The drives whose media can be changed.
    pub fn removable(&self) -> Vec<Drive> {
        let ports = self.ports.lock();
        let drive = |name: &str| Drive {
            name: name.to_owned(),
            medium: ports.iter().find(|port| port.name() == name).map(|port| port.named().to_owned()),
        };
        let floppy = (self.floppy.lock().drives() > 0).then(|| drive(FLOPPY));
        self.cd.iter().map(|_| drive(CDROM)).chain(floppy).collect()
    }

    /// Puts a medium into a drive, in place of what was there. The guest sees what a hand at the drive does: a new
    /// disc and its unit attention, or the floppy's disk-change line. On an error nothing has changed.
    pub fn insert(&self, name: &str, path: &Path) -> Result<(), String> {
        let told = |error: StartError| error.to_string();
        let medium = match self.known(name)? {
            CDROM => media::cd(path).map_err(told)?,
            _ => media::floppy(path, self.throw_away).map_err(told)?.0,
        };
        let port = Port::new(name, path, path, medium, self.tell.clone());
        self.leave(name)?;
        self.place(&port)?;
        self.ports.lock().push(port);
        Ok(())
    }

    /// Takes the medium out of a drive, whether or not the guest has locked it.
    pub fn eject(&self, name: &str) -> Result<(), String> {
        self.leave(name)?;
        match (name, &self.cd) {
            (CDROM, Some(cd)) => cd.eject(),
            _ => {
                self.floppy.lock().eject(0);
                Ok(())
            }
        }
    }

    /// Puts what is behind `port` into its drive.
    fn place(&self, port: &Arc<Port>) -> Result<(), String> {
        match (port.name(), &self.cd) {
            (CDROM, Some(cd)) => cd.insert(behind(port, &self.throttle)),
            _ => self
                .floppy
                .lock()
                .insert(0, behind(port, &self.throttle))
                .map(drop)
                .map_err(|error| error.to_string()),
        }
    }

    /// Brings what is in a drive to the host's disk, and forgets it.
    fn leave(&self, name: &str) -> Result<(), String> {
        self.known(name)?;
        let mut ports = self.ports.lock();
        if let Some(at) = ports.iter().position(|port| port.name() == name) {
            ports[at].flush()?;
            ports.remove(at);
        }
        Ok(())
    }

    fn known(&self, name: &str) -> Result<&'static str, String> {
        match name {
            CDROM if self.cd.is_some() => Ok(CDROM),
            FLOPPY if self.floppy.lock().drives() > 0 => Ok(FLOPPY),
            _ => {
                let there: Vec<String> = self.removable().into_iter().map(|drive| drive.name).collect();
                let there = if there.is_empty() { "none".to_owned() } else { there.join(", ") };
                Err(format!("the machine has no drive {name} whose medium can be changed; there is: {there}"))
            }
        }
    }

    /// Puts on the host's disk what a full disk did not take. Says why not.
    pub fn settle(&self) -> Result<(), String> {
        self.ports().iter().try_for_each(|port| port.settle())
    }

    /// Lets go of all media: their files are whole and nobody's. For a machine that is over.
    pub fn close(&self) {
        self.ports().iter().for_each(|port| drop(port.close()));
    }

    /// Why the machine cannot go on, if a disk of the host is full.
    pub fn hindrance(&self) -> Option<String> {
        self.ports().iter().find_map(|port| port.hindrance())
    }

    /// What each drive has done.
    pub fn work(&self) -> Vec<DriveWork> {
        self.ports().iter().map(|port| port.work()).collect()
    }
}
