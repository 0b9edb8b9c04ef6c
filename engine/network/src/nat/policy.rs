//! Who is who in the guest's network, and where a guest may connect to.

use std::net::{Ipv4Addr, SocketAddr};

/// The addresses of the NAT's network, 10.0.2.0/24 unless told otherwise: the ones people know from other
/// monitors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subnet {
    /// First three bytes of all addresses.
    pub prefix: [u8; 3],
}

impl Default for Subnet {
    fn default() -> Subnet {
        Subnet { prefix: [10, 0, 2] }
    }
}

/// Last byte of the first address that is leased.
const FIRST_LEASE: u8 = 15;
/// Last byte of the last one.
const LAST_LEASE: u8 = 254;

impl Subnet {
    const fn address(self, host: u8) -> Ipv4Addr {
        let [a, b, c] = self.prefix;
        Ipv4Addr::new(a, b, c, host)
    }

    /// The router, which is also the name of the host.
    pub const fn gateway(self) -> Ipv4Addr {
        self.address(2)
    }

    /// The DNS proxy.
    pub const fn dns(self) -> Ipv4Addr {
        self.address(3)
    }

    /// The netmask of all.
    pub const fn mask(self) -> Ipv4Addr {
        Ipv4Addr::new(255, 255, 255, 0)
    }

    /// To all of them.
    pub const fn broadcast(self) -> Ipv4Addr {
        self.address(255)
    }

    /// The address the first guest gets.
    pub const fn first_guest(self) -> Ipv4Addr {
        self.address(FIRST_LEASE)
    }

    /// The addresses that are leased, in order.
    pub fn leases(self) -> impl Iterator<Item = Ipv4Addr> {
        (FIRST_LEASE..=LAST_LEASE).map(move |host| self.address(host))
    }

    /// Whether it is one of the NAT's own addresses.
    pub fn is_own(self, address: Ipv4Addr) -> bool {
        address == self.gateway() || address == self.dns()
    }

    /// Whether it lies in this network.
    pub fn contains(self, address: Ipv4Addr) -> bool {
        address.octets()[..3] == self.prefix
    }

    /// Whether a guest may call itself so.
    pub fn is_guest(self, address: Ipv4Addr) -> bool {
        self.contains(address) && !self.is_own(address) && !matches!(address.octets()[3], 0 | 255)
    }
}

/// Where a guest's packet to somewhere goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// To this address of the world, or of the host itself.
    Host(SocketAddr),
    /// To the DNS proxy.
    Dns,
    /// Nowhere.
    Refused,
}

/// Which destinations are open.
#[derive(Clone, Copy, Debug, Default)]
pub struct Policy {
    /// The NAT's network.
    pub subnet: Subnet,
    /// Whether the gateway's address leads to the host's loopback (127.0.0.1), where services listen that
    /// trust everyone on the same machine. Off unless the user says so.
    pub host_loopback: bool,
}

impl Policy {
    /// Where a packet to `address` and `port` goes.
    ///
    /// Refused are addresses that must not leave a network (RFC 6890): loopback, unspecified, link-local
    /// (also where clouds keep their credentials), groups, reserved ones, and the NAT's own network.
    pub fn destination(&self, address: Ipv4Addr, port: u16) -> Destination {
        if address == self.subnet.gateway() && self.host_loopback {
            return Destination::Host((Ipv4Addr::LOCALHOST, port).into());
        }
        if address == self.subnet.dns() && port == 53 {
            return Destination::Dns;
        }
        if self.subnet.contains(address) || !is_routable(address) {
            return Destination::Refused;
        }
        Destination::Host((address, port).into())
    }
}

fn is_routable(address: Ipv4Addr) -> bool {
    let first = address.octets()[0];
    !address.is_loopback() && !address.is_link_local() && first != 0 && first < 224
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to(policy: &Policy, address: &str) -> Destination {
        policy.destination(address.parse().unwrap(), 80)
    }

    #[test]
    fn the_hosts_loopback_is_closed_unless_opened() {
        let closed = Policy::default();
        assert_eq!(to(&closed, "10.0.2.2"), Destination::Refused);
        let open = Policy { host_loopback: true, ..closed };
        assert_eq!(to(&open, "10.0.2.2"), Destination::Host("127.0.0.1:80".parse().unwrap()));
        for policy in [closed, open] {
            for never in [
                "127.0.0.1",
                "127.9.9.9",
                "0.0.0.0",
                "0.0.0.1",
                "10.0.2.77",
                "10.0.2.255",
                "169.254.169.254",
                "224.0.0.251",
                "255.255.255.255",
                "240.0.0.1",
            ] {
                assert_eq!(to(&policy, never), Destination::Refused, "{never}");
            }
        }
    }

    #[test]
    fn the_world_is_open_and_dns_has_its_port() {
        let policy = Policy::default();
        assert_eq!(to(&policy, "192.0.2.7"), Destination::Host("192.0.2.7:80".parse().unwrap()));
        assert_eq!(to(&policy, "10.0.3.2"), Destination::Host("10.0.3.2:80".parse().unwrap()));
        assert_eq!(policy.destination(Ipv4Addr::new(10, 0, 2, 3), 53), Destination::Dns);
        assert_eq!(policy.destination(Ipv4Addr::new(10, 0, 2, 3), 80), Destination::Refused);
    }

    #[test]
    fn a_guest_cannot_call_itself_anything() {
        let subnet = Subnet::default();
        for wrong in ["10.0.2.0", "10.0.2.2", "10.0.2.3", "10.0.2.255", "10.0.3.15", "127.0.0.1"] {
            assert!(!subnet.is_guest(wrong.parse().unwrap()), "{wrong}");
        }
        assert!(subnet.leases().all(|address| subnet.is_guest(address)));
    }
}
