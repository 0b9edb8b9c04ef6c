//! A tap interface of the host: its network stack, or a bridge, is at the other end of the cable.
//!
//! Linux, Documentation/networking/tuntap.rst. Making one needs the right to configure the network
//! (CAP_NET_ADMIN); one that root made for a user (`ip tuntap add dev NAME mode tap user WHO`) does not.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
use smoltcp::phy::{Medium, TunTapInterface};

use crate::link::{LONGEST_FRAME, Link};
use crate::nat::poller::{Bell, Poller, Token};

/// Frames moved one way before the other has its turn.
const TURN: usize = 256;

/// Why a tap cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum TapError {
    /// The host does not let us.
    #[error(
        "the tap interface {name} cannot be used: {source}; ask root for one of your own: \
         ip tuntap add dev {name} mode tap user $USER && ip link set {name} up"
    )]
    NotAllowed {
        /// Its name.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// Something else.
    #[error("the tap interface {name} cannot be used: {source}")]
    Host {
        /// Its name.
        name: String,
        /// Why.
        source: io::Error,
    },
}

/// A tap with its thread. Dropping it lets the interface go.
pub struct Tap {
    name: String,
    stop: Arc<AtomicBool>,
    bell: Bell,
    thread: Option<JoinHandle<()>>,
}

impl Tap {
    /// Takes the interface `name` and plugs `link` into it.
    pub fn open(name: &str, link: Arc<dyn Link>) -> Result<Tap, TapError> {
        let fail = |source: io::Error| {
            let name = name.to_owned();
            match source.kind() {
                ErrorKind::PermissionDenied => TapError::NotAllowed { name, source },
                _ => TapError::Host { name, source },
            }
        };
        let file = attach(name).map_err(fail)?;
        let poller = Poller::new().map_err(fail)?;
        poller.add(&file, Token::Tap).map_err(fail)?;
        let (bell, stop) = (poller.bell(), Arc::new(AtomicBool::new(false)));
        let (ringer, stopped) = (bell.clone(), stop.clone());
        link.set_waker(Arc::new(move || ringer.ring()));
        let body = move || carry(&file, &*link, &poller, &stopped);
        let thread = std::thread::Builder::new().name("tap".into()).spawn(body).map_err(fail)?;
        Ok(Tap { name: name.to_owned(), stop, bell, thread: Some(thread) })
    }

    /// The interface's name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        self.bell.ring();
        if let Some(thread) = self.thread.take() {
            // A panic in it has been reported where it happened.
            let _ = thread.join();
        }
    }
}

/// Opens the interface. smoltcp gives a descriptor's number only; a second descriptor of the same file is
/// ours to wait for, and to move to another thread.
fn attach(name: &str) -> io::Result<File> {
    let interface = TunTapInterface::new(name, Medium::Ethernet)?;
    let this = pidfd_open(getpid(), PidfdFlags::empty())?;
    Ok(File::from(pidfd_getfd(this, interface.as_raw_fd(), PidfdGetfdFlags::empty())?))
}

/// The thread: moves frames both ways until it is told to stop.
fn carry(mut tap: &File, link: &dyn Link, poller: &Poller, stop: &AtomicBool) {
    let (mut ready, mut frame, mut buffer) = (Vec::new(), Vec::new(), vec![0; LONGEST_FRAME]);
    let mut busy = true;
    loop {
        poller.wait(busy.then_some(std::time::Duration::ZERO), &mut ready);
        if stop.load(Ordering::Acquire) {
            return;
        }
        busy = true;
        for _ in 0..TURN {
            match tap.read(&mut buffer) {
                Ok(length) => link.send(&buffer[..length]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // Nothing waits; or the interface is down or gone, and says so when it is back.
                Err(_) => {
                    busy = false;
                    break;
                }
            }
        }
        for _ in 0..TURN {
            if !link.receive(&mut frame) {
                break;
            }
            // What the host does not take is lost, as on any wire.
            let _ = tap.write(&frame);
        }
        busy |= link.has_frame();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cable::{Capacity, cable};

    #[test]
    fn a_tap_opens_or_says_why_not() {
        let (near, far) = cable(Capacity::default());
        match Tap::open("vitrinetest0", far) {
            Ok(tap) => {
                near.send(&[0xFF; 60]);
                drop(tap);
                assert!(near.is_abandoned(), "its thread has ended");
            }
            Err(error) => {
                let text = error.to_string();
                println!("skipped: {text}");
                assert!(text.contains("vitrinetest0"), "{text}");
            }
        }
    }
}
