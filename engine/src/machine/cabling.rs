//! What the network card's cable leads to, built from the profile.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use network::{
    Capacity, Capture, Conditions, Counts, Link, Nat, NatCounts, NatOptions, Recorder, Shaper, Switch, Tap,
    cable,
};
use parking_lot::Mutex;
use serde::Serialize;

use super::StartError;
use crate::profile::{self, Profile};

/// The switches of this process, by name. A switch lives as long as a machine is plugged in.
static SWITCHES: Mutex<BTreeMap<String, Weak<Switch>>> = Mutex::new(BTreeMap::new());

/// The cable from the card: it can be captured, made bad, and pulled, while in use.
pub struct Network {
    recorder: Arc<Recorder>,
    shaper: Arc<Shaper>,
    line: Mutex<Line>,
    /// As the user left it; at the machine's end the link goes down without that.
    plugged: AtomicBool,
    leads_to: String,
    far: Mutex<Far>,
}

/// What the user makes of the line, and what the machine may take of the host's network.
#[derive(Default)]
struct Line {
    conditions: Conditions,
    bytes_per_second: Option<u64>,
}

impl Line {
    /// The narrower of the two.
    fn as_shaped(&self) -> Conditions {
        let bound = self.bytes_per_second.map(|bytes| bytes.saturating_mul(8).max(1));
        let own = Some(self.conditions.bits_per_second).filter(|bits| *bits > 0);
        let bits_per_second = [bound, own].into_iter().flatten().min().unwrap_or(0);
        Conditions { bits_per_second, ..self.conditions }
    }
}

/// What is at the far end and goes away with the machine. (A switch is held by the cable itself.)
enum Far {
    Nat(Nat),
    Switch,
    Tap(Tap),
    /// The machine has ended; these are a NAT's last counts.
    Gone(Option<NatCounts>),
}

/// What has passed over the cable.
#[derive(Clone, Debug, Serialize)]
pub struct NetworkStats {
    /// What the cable leads to.
    pub leads_to: String,
    /// Whether it is plugged in.
    pub plugged: bool,
    /// What the line is like, beside the bound on its data.
    pub line: Conditions,
    /// Frames and bytes, as the card sees them.
    pub link: Counts,
    /// What the NAT did, if there is one.
    pub nat: Option<NatCounts>,
}

impl Network {
    /// Plugs in the cable `profile` asks for, if any. On an error nothing is left behind.
    pub fn build(profile: &Profile, capture: Option<Capture>) -> Result<Option<Network>, StartError> {
        let (near, far): (Arc<dyn Link>, Far) = match &profile.network {
            profile::Network::None => return Ok(None),
            profile::Network::Nat { forwards, host_loopback } => {
                let (near, end) = cable(Capacity::default());
                let mut options = NatOptions { forwards: forwards.clone(), ..NatOptions::default() };
                options.policy.host_loopback = *host_loopback;
                options.host_name = profile.name.clone();
                (near, Far::Nat(Nat::start(end, options).map_err(network_error)?))
            }
            profile::Network::Switch(name) => (switch(name).connect(), Far::Switch),
            profile::Network::Tap(name) => {
                let (near, end) = cable(Capacity::default());
                (near, Far::Tap(Tap::open(name, end).map_err(network_error)?))
            }
        };
        let leads_to = match &far {
            Far::Tap(tap) => format!("tap:{}", tap.name()),
            _ => profile.network.to_string(),
        };
        let seed = u64::from_le_bytes(std::array::from_fn(|n| *profile.mac_address().0.get(n).unwrap_or(&0)));
        let shaper = Arc::new(Shaper::new(near, seed));
        let recorder = Arc::new(Recorder::new(shaper.clone()));
        recorder.set_capture(capture);
        let network = Network {
            recorder,
            shaper,
            line: Mutex::default(),
            plugged: AtomicBool::new(true),
            leads_to,
            far: Mutex::new(far),
        };
        network.set_bytes_per_second(profile.throttles.network_bytes.map(|size| size.bytes()));
        Ok(Some(network))
    }

    /// The card's end of the cable.
    pub fn link(&self) -> Arc<dyn Link> {
        self.recorder.clone()
    }

    /// Captures what passes, or ends that.
    pub fn set_capture(&self, capture: Option<Capture>) {
        self.recorder.set_capture(capture);
    }

    /// What the user has made of the line.
    pub fn conditions(&self) -> Conditions {
        self.line.lock().conditions
    }

    /// Makes the line slow, bad or perfect.
    pub fn set_conditions(&self, conditions: Conditions) {
        let mut line = self.line.lock();
        line.conditions = conditions;
        self.shaper.set_conditions(line.as_shaped());
    }

    /// What may pass in each direction at most; the line's own conditions hold too.
    pub fn set_bytes_per_second(&self, bound: Option<u64>) {
        let mut line = self.line.lock();
        if line.bytes_per_second != bound {
            line.bytes_per_second = bound;
            self.shaper.set_conditions(line.as_shaped());
        }
    }

    /// Plugs the cable in or out.
    pub fn set_plugged(&self, plugged: bool) {
        self.plugged.store(plugged, Ordering::Relaxed);
        self.recorder.set_up(plugged);
    }

    /// Whether the cable is plugged in.
    pub fn is_plugged(&self) -> bool {
        self.plugged.load(Ordering::Relaxed)
    }

    /// What has passed.
    pub fn stats(&self) -> NetworkStats {
        NetworkStats {
            leads_to: self.leads_to.clone(),
            plugged: self.is_plugged(),
            line: self.conditions(),
            link: self.recorder.counts(),
            nat: self.far.lock().nat_counts(),
        }
    }

    /// Ends what is at the far end: its sockets and ports are free again. For good.
    pub fn close(&self) {
        self.recorder.set_up(false);
        self.recorder.set_capture(None);
        let mut far = self.far.lock();
        let last = far.nat_counts();
        *far = Far::Gone(last);
    }
}

impl Far {
    fn nat_counts(&self) -> Option<NatCounts> {
        match self {
            Far::Nat(nat) => Some(nat.counts()),
            Far::Gone(last) => *last,
            Far::Switch | Far::Tap(_) => None,
        }
    }
}

fn switch(name: &str) -> Arc<Switch> {
    let mut switches = SWITCHES.lock();
    switches.retain(|_, switch| switch.strong_count() > 0);
    switches.get(name).and_then(Weak::upgrade).unwrap_or_else(|| {
        let switch = Switch::new();
        switches.insert(name.to_owned(), Arc::downgrade(&switch));
        switch
    })
}

fn network_error(error: impl std::fmt::Display) -> StartError {
    StartError::Network(error.to_string())
}
