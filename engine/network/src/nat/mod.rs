//! User-mode NAT: a guest's packets become the host's ordinary sockets. No privilege is needed.
//!
//! One thread per NAT holds everything ([`router`]); the parts are pure where they can be ([`dhcp`], [`dns`],
//! [`tcp::guest`], [`policy`]). See `README.md` in this crate for addresses, limits and what is left out.

mod dhcp;
mod dns;
mod echo;
mod forward;
mod fragments;
mod policy;
pub(crate) mod poller;
mod resolvers;
mod router;
mod tcp;
mod udp;
mod wire;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use parking_lot::Mutex;

use crate::link::{LONGEST_FRAME, Link};
use forward::Listening;
use poller::{Bell, Poller};
use router::Router;

pub use forward::{Forward, Protocol};
pub use policy::{Destination, Policy, Subnet};
pub use resolvers::Source as Resolvers;
pub use tcp::MAX_CONNECTIONS;
pub use udp::MAX_FLOWS;

/// What a NAT does.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Addresses, and whether the host's loopback is open.
    pub policy: Policy,
    /// Port forwards.
    pub forwards: Vec<Forward>,
    /// Whom the DNS proxy asks.
    pub resolvers: Resolvers,
    /// What guests are told they are called.
    pub host_name: String,
}

/// Why a NAT cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum NatError {
    /// The host lacks something basic.
    #[error("the host gave no event queue or thread for the network: {0}")]
    Host(#[from] io::Error),
    /// A port cannot be listened on.
    #[error(
        "the port forward {forward} cannot be had: {source}; choose another host port, or end what holds it"
    )]
    Forward {
        /// Which one.
        forward: Forward,
        /// Why.
        source: io::Error,
    },
}

/// What a NAT has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct NatCounts {
    /// TCP connections there are.
    pub tcp_connections: usize,
    /// TCP connections begun so far.
    pub tcp_opened: u64,
    /// TCP connections that could not be had.
    pub tcp_failed: u64,
    /// UDP flows there are.
    pub udp_flows: usize,
    /// Packets to where a guest may not go.
    pub refused: u64,
}

enum Order {
    Forward(u64, Listening),
    Unforward(u64),
}

/// What the handle and the thread share.
struct Shared {
    stop: AtomicBool,
    orders: Mutex<Vec<Order>>,
    counts: Mutex<NatCounts>,
}

/// A running NAT. Dropping it ends its thread and all connections.
pub struct Nat {
    shared: Arc<Shared>,
    bell: Bell,
    next_forward: AtomicU64,
    forwards: Mutex<Vec<(u64, Forward, SocketAddr)>>,
    thread: Option<JoinHandle<()>>,
}

impl Nat {
    /// Starts a NAT at the end of `link`. On an error nothing is left running.
    pub fn start(link: Arc<dyn Link>, options: Options) -> Result<Nat, NatError> {
        let poller = Poller::new()?;
        let bell = poller.bell();
        let shared = Arc::new(Shared {
            stop: AtomicBool::new(false),
            orders: Mutex::default(),
            counts: Mutex::default(),
        });
        let mut nat = Nat {
            shared: shared.clone(),
            bell: bell.clone(),
            next_forward: AtomicU64::new(0),
            forwards: Mutex::default(),
            thread: None,
        };
        options.forwards.iter().try_for_each(|forward| nat.forward(*forward).map(drop))?;
        link.set_waker(Arc::new(move || bell.ring()));
        // Segments end here, so nobody needs to cut them.
        link.accept_frames(LONGEST_FRAME);
        let policy = options.policy;
        let wire = wire::Wire::new(link, policy.subnet);
        let leases = dhcp::Leases::new(policy.subnet, &options.host_name, dns::DOMAIN);
        let resolvers = resolvers::Resolvers::new(options.resolvers);
        let router = Router::new(shared, poller, wire, policy, leases, resolvers);
        let thread = std::thread::Builder::new().name("nat".into()).spawn(move || router.run())?;
        nat.thread = Some(thread);
        Ok(nat)
    }

    /// Adds a port forward while it runs; gives where the host listens.
    pub fn forward(&self, forward: Forward) -> Result<SocketAddr, NatError> {
        let fail = |source| NatError::Forward { forward, source };
        let listening = Listening::start(&forward).map_err(fail)?;
        let address = listening.address().map_err(fail)?;
        let number = self.next_forward.fetch_add(1, Ordering::Relaxed);
        self.forwards.lock().push((number, forward, address));
        self.shared.orders.lock().push(Order::Forward(number, listening));
        self.bell.ring();
        Ok(address)
    }

    /// Removes a port forward; connections there are stay.
    pub fn unforward(&self, forward: &Forward) {
        let mut forwards = self.forwards.lock();
        let removed = forwards.extract_if(.., |(_, known, _)| known == forward);
        self.shared.orders.lock().extend(removed.map(|(number, ..)| Order::Unforward(number)));
        self.bell.ring();
    }

    /// The port forwards, and where the host listens for each.
    pub fn forwards(&self) -> Vec<(Forward, SocketAddr)> {
        self.forwards.lock().iter().map(|(_, forward, address)| (*forward, *address)).collect()
    }

    /// What it has done so far.
    pub fn counts(&self) -> NatCounts {
        *self.shared.counts.lock()
    }
}

impl Drop for Nat {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        self.bell.ring();
        if let Some(thread) = self.thread.take() {
            // A panic in it has been reported where it happened.
            let _ = thread.join();
        }
    }
}
