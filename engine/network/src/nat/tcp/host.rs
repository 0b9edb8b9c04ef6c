//! The host's half of a TCP connection: a non-blocking socket, and what is known to be possible with it.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

/// A socket that is connecting or connected.
pub struct HostHalf {
    stream: TcpStream,
    connected: bool,
    readable: bool,
    writable: bool,
    ended: bool,
    told_end: bool,
}

impl HostHalf {
    /// Starts to connect to `address`.
    pub fn connect(address: SocketAddr) -> io::Result<HostHalf> {
        let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
        match rustix::net::connect(&socket, &address) {
            Ok(()) | Err(rustix::io::Errno::INPROGRESS) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(HostHalf::new(TcpStream::from(socket), false))
    }

    /// A connection that came to a port forward.
    pub fn accepted(stream: TcpStream) -> io::Result<HostHalf> {
        stream.set_nonblocking(true)?;
        Ok(HostHalf::new(stream, true))
    }

    fn new(stream: TcpStream, connected: bool) -> HostHalf {
        // Without these it works as well, only later.
        let _ = stream.set_nodelay(true);
        let _ = sockopt::set_socket_keepalive(&stream, true);
        HostHalf {
            stream,
            connected,
            readable: connected,
            writable: connected,
            ended: false,
            told_end: false,
        }
    }

    /// The socket, to be waited for.
    pub fn socket(&self) -> &TcpStream {
        &self.stream
    }

    /// The host says that something became possible. An error is the connection's end.
    pub fn ready(&mut self, readable: bool, writable: bool) -> io::Result<()> {
        if !self.connected && writable {
            if let Some(error) = self.stream.take_error()? {
                return Err(error);
            }
            self.connected = true;
        }
        self.readable |= readable;
        self.writable |= writable;
        Ok(())
    }

    /// Whether the far end has answered.
    pub fn is_connected(&self) -> bool {
        self.connected
    }

    /// Whether a read may give something.
    pub fn is_readable(&self) -> bool {
        self.connected && self.readable && !self.ended
    }

    /// Whether the far end has finished.
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// Writes what the socket takes of `data`.
    pub fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let mut written = 0;
        while written < data.len() && self.connected && self.writable {
            match self.stream.write(&data[written..]) {
                Ok(count) => written += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.writable = false,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(written)
    }

    /// Writes what the socket takes of `queue`, and takes it out.
    pub fn write_from(&mut self, queue: &mut VecDeque<u8>) -> io::Result<()> {
        while !queue.is_empty() {
            let (front, _) = queue.as_slices();
            let length = front.len();
            let written = self.write(front)?;
            queue.drain(..written);
            if written < length {
                break;
            }
        }
        Ok(())
    }

    /// Reads into `buffer`; 0 if there is nothing now, or the end ([`HostHalf::has_ended`]).
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.stream.read(buffer) {
                Ok(0) => self.ended = true,
                Ok(count) => return Ok(count),
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.readable = false,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
            return Ok(0);
        }
    }

    /// Tells the far end, once, that no more will come.
    pub fn finish(&mut self) {
        if self.connected && !std::mem::replace(&mut self.told_end, true) {
            // If the far end is gone, reading will say so.
            let _ = self.stream.shutdown(Shutdown::Write);
        }
    }

    /// Ends the connection by a reset, not in order.
    pub fn reset(self) {
        // The reset is sent by the close that follows.
        let _ = sockopt::set_socket_linger(&self.stream, Some(Duration::ZERO));
    }
}
