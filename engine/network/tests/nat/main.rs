//! The NAT as a guest and the host's servers see it.

mod card;
mod guest;
mod hostile;
mod services;
mod streams;

use std::net::Ipv4Addr;
use std::sync::Arc;

use network::{Capacity, End, Nat, NatOptions, cable, nat};

/// A NAT with `options`, and the guest's end of its cable.
fn nat(options: NatOptions) -> (Nat, Arc<End>) {
    let (end, far) = cable(Capacity::default());
    (Nat::start(far, options).expect("a NAT"), end)
}

/// The host's loopback open: the servers of these tests listen there.
fn open() -> NatOptions {
    NatOptions {
        policy: nat::Policy { host_loopback: true, ..nat::Policy::default() },
        resolvers: nat::Resolvers::Fixed(Vec::new()),
        host_name: "test".to_owned(),
        ..NatOptions::default()
    }
}

/// Bytes that show where they belong.
fn pattern(at: u64) -> u8 {
    (at.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8
}

const LOCALHOST: Ipv4Addr = Ipv4Addr::LOCALHOST;
