//! Port forwards: what comes to a port of the host goes to a port of the guest.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, UdpSocket};
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// What a forward carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Connections.
    Tcp,
    /// Datagrams.
    Udp,
}

/// A port forward, written `tcp:2222:22` or `udp:0.0.0.0:5353:53`: protocol, the host's address (its
/// loopback if not named) and port, the guest's port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forward {
    /// What it carries.
    pub protocol: Protocol,
    /// Where the host listens; port 0 lets it choose one.
    pub host: SocketAddrV4,
    /// Where the guest listens.
    pub guest_port: u16,
}

impl fmt::Display for Forward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.protocol {
            Protocol::Tcp => "tcp:",
            Protocol::Udp => "udp:",
        })?;
        if *self.host.ip() != Ipv4Addr::LOCALHOST {
            write!(f, "{}:", self.host.ip())?;
        }
        write!(f, "{}:{}", self.host.port(), self.guest_port)
    }
}

impl FromStr for Forward {
    type Err = String;

    fn from_str(text: &str) -> Result<Forward, String> {
        let wrong =
            || format!("'{text}' is no port forward; write tcp:HOSTPORT:GUESTPORT or udp:HOSTPORT:GUESTPORT");
        let parts: Vec<&str> = text.split(':').collect();
        let (protocol, address, host_port, guest_port) = match parts[..] {
            [protocol, host, guest] => (protocol, "127.0.0.1", host, guest),
            [protocol, address, host, guest] => (protocol, address, host, guest),
            _ => return Err(wrong()),
        };
        let protocol = match protocol {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            _ => return Err(wrong()),
        };
        let address: Ipv4Addr = address.parse().map_err(|_| wrong())?;
        let host = SocketAddrV4::new(address, host_port.parse().map_err(|_| wrong())?);
        let guest_port = guest_port.parse().ok().filter(|port| *port != 0).ok_or_else(wrong)?;
        Ok(Forward { protocol, host, guest_port })
    }
}

impl Serialize for Forward {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Forward {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Forward, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A forward whose socket listens.
#[derive(Clone)]
pub struct Listening {
    /// What listens.
    pub socket: Socket,
    /// The guest's port.
    pub guest_port: u16,
}

/// The host's socket of a forward.
#[derive(Clone)]
pub enum Socket {
    /// Of connections.
    Tcp(Arc<TcpListener>),
    /// Of datagrams.
    Udp(Arc<UdpSocket>),
}

impl Listening {
    /// Listens.
    pub fn start(forward: &Forward) -> io::Result<Listening> {
        let socket = match forward.protocol {
            Protocol::Tcp => {
                let listener = TcpListener::bind(forward.host)?;
                listener.set_nonblocking(true)?;
                Socket::Tcp(Arc::new(listener))
            }
            Protocol::Udp => {
                let socket = UdpSocket::bind(forward.host)?;
                socket.set_nonblocking(true)?;
                Socket::Udp(Arc::new(socket))
            }
        };
        Ok(Listening { socket, guest_port: forward.guest_port })
    }

    /// Where it listens.
    pub fn address(&self) -> io::Result<SocketAddr> {
        match &self.socket {
            Socket::Tcp(listener) => listener.local_addr(),
            Socket::Udp(socket) => socket.local_addr(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forwards_read_as_they_are_written() {
        for text in ["tcp:2222:22", "udp:0.0.0.0:5353:53", "tcp:192.0.2.1:0:80"] {
            assert_eq!(text.parse::<Forward>().unwrap().to_string(), text);
        }
        assert_eq!("tcp:127.0.0.1:1:2".parse::<Forward>().unwrap().to_string(), "tcp:1:2");
        for wrong in
            ["", "tcp:22", "sctp:1:2", "tcp:1:0", "tcp:1:70000", "tcp:localhost:1:2", "tcp:1:2:3:4:5"]
        {
            assert!(wrong.parse::<Forward>().is_err(), "{wrong}");
        }
    }
}
