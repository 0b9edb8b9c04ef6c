//! What the network card's cable leads to, built from the profile.

use std::collections::BTreeMap;
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
    far: Mutex<Option<Far>>,
}

/// What is at the far end and goes away with the machine. (A switch is held by the cable itself.)
enum Far {
    Nat(Nat),
    Switch(String),
    Tap(Tap),
}

/// What has passed over the cable.
#[derive(Clone, Debug, Serialize)]
pub struct NetworkStats {
    /// What the cable leads to; nothing once the machine has ended.
    pub leads_to: Option<String>,
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
            profile::Network::Switch(name) => (switch(name).connect(), Far::Switch(name.clone())),
            profile::Network::Tap(name) => {
                let (near, end) = cable(Capacity::default());
                (near, Far::Tap(Tap::open(name, end).map_err(network_error)?))
            }
        };
        let seed = u64::from_le_bytes(std::array::from_fn(|n| *profile.mac_address().0.get(n).unwrap_or(&0)));
        let shaper = Arc::new(Shaper::new(near, seed));
        let recorder = Arc::new(Recorder::new(shaper.clone()));
        recorder.set_capture(capture);
        Ok(Some(Network { recorder, shaper, far: Mutex::new(Some(far)) }))
    }

    /// The card's end of the cable.
    pub fn link(&self) -> Arc<dyn Link> {
        self.recorder.clone()
    }

    /// Captures what passes, or ends that.
    pub fn set_capture(&self, capture: Option<Capture>) {
        self.recorder.set_capture(capture);
    }

    /// Makes the line slow, bad or perfect.
    pub fn set_conditions(&self, conditions: Conditions) {
        self.shaper.set_conditions(conditions);
    }

    /// Plugs the cable in or out.
    pub fn set_plugged(&self, plugged: bool) {
        self.recorder.set_up(plugged);
    }

    /// What has passed.
    pub fn stats(&self) -> NetworkStats {
        let far = self.far.lock();
        let leads_to = far.as_ref().map(|far| match far {
            Far::Nat(_) => "nat".to_owned(),
            Far::Switch(name) => format!("switch {name}"),
            Far::Tap(tap) => format!("tap {}", tap.name()),
        });
        let nat = match &*far {
            Some(Far::Nat(nat)) => Some(nat.counts()),
            _ => None,
        };
        NetworkStats { leads_to, link: self.recorder.counts(), nat }
    }

    /// Ends what is at the far end: its sockets and ports are free again. For good.
    pub fn close(&self) {
        self.recorder.set_up(false);
        self.recorder.set_capture(None);
        let far = self.far.lock().take();
        drop(far);
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
