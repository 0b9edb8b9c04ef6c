//! What devices hand to others: a thread that does a disk's work, and an outlet that two devices share.

use std::sync::{Arc, mpsc};
use std::thread;

use hardware::Jobs;
use parking_lot::Mutex;

use crate::session::ByteOutlet;

/// A thread that does one device's jobs, in order. It ends when the device is gone.
pub fn start(name: &str) -> Jobs {
    // The device bounds how many jobs it hands out.
    let (give, take) = mpsc::channel::<hardware::jobs::Job>();
    let work = move || take.into_iter().for_each(|job| job());
    thread::Builder::new().name(name.to_owned()).spawn(work).expect("the host has room for a thread");
    let give = Mutex::new(give);
    Jobs::new(move |job| {
        // The thread ends only after this sender is gone.
        let _ = give.lock().send(job);
    })
}

/// Where serial output goes, for the serial port and for a console without an outlet of its own.
pub struct SerialOutlet(Arc<Mutex<Option<ByteOutlet>>>);

impl SerialOutlet {
    /// Shares `outlet`; without one, what is sent is lost.
    pub fn new(outlet: Option<ByteOutlet>) -> SerialOutlet {
        SerialOutlet(Arc::new(Mutex::new(outlet)))
    }

    /// Another end of it.
    pub fn another(&self) -> ByteOutlet {
        let shared = self.0.clone();
        Box::new(move |bytes| {
            if let Some(outlet) = &mut *shared.lock() {
                outlet(bytes);
            }
        })
    }
}
