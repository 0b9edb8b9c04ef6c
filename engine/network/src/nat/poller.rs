//! The host's sockets and the link's waker, waited for together (epoll, edge-triggered).

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};

/// Whose descriptor is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Token {
    /// The doorbell.
    Bell,
    /// A TCP connection, by number.
    Tcp(u64),
    /// A UDP flow, by number.
    Udp(u64),
    /// An ICMP echo flow, by number.
    Echo(u64),
    /// A port forward's socket, by number.
    Forward(u64),
    /// The host's interface.
    Tap,
}

/// Bits of a token's number; a number is never used twice.
const NUMBER_BITS: u32 = 56;

impl Token {
    fn to_bits(self) -> u64 {
        let (kind, number) = match self {
            Token::Bell => (0, 0),
            Token::Tcp(number) => (1, number),
            Token::Udp(number) => (2, number),
            Token::Echo(number) => (3, number),
            Token::Forward(number) => (4, number),
            Token::Tap => (5, 0),
        };
        kind << NUMBER_BITS | number
    }

    fn from_bits(bits: u64) -> Token {
        let number = bits & ((1 << NUMBER_BITS) - 1);
        match bits >> NUMBER_BITS {
            1 => Token::Tcp(number),
            2 => Token::Udp(number),
            3 => Token::Echo(number),
            4 => Token::Forward(number),
            5 => Token::Tap,
            _ => Token::Bell,
        }
    }
}

/// What became possible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ready {
    /// Whose.
    pub token: Token,
    /// Something can be read, or the end, or an error.
    pub readable: bool,
    /// There is room to write, or an error.
    pub writable: bool,
}

/// Wakes the one who waits, from any thread.
#[derive(Clone)]
pub struct Bell(Arc<BellState>);

struct BellState {
    descriptor: OwnedFd,
    /// Rung and not yet heard: ringing again costs nothing.
    rung: AtomicBool,
}

impl Bell {
    /// Rings.
    pub fn ring(&self) {
        if !self.0.rung.swap(true, Ordering::AcqRel) {
            // An eventfd's write fails only if its counter is full, and then it has been rung.
            let _ = rustix::io::write(&self.0.descriptor, &1_u64.to_ne_bytes());
        }
    }

    fn hear(&self) {
        // In this order: whoever finds it rung in between has its work seen, since we look after this.
        let _ = rustix::io::read(&self.0.descriptor, &mut [0; 8]);
        self.0.rung.swap(false, Ordering::AcqRel);
    }
}

/// What is waited for.
pub struct Poller {
    epoll: OwnedFd,
    bell: Bell,
}

/// Events taken at once.
const BATCH: usize = 256;

impl Poller {
    /// A poller that waits for its bell only.
    pub fn new() -> io::Result<Poller> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let descriptor = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
        let bell = Bell(Arc::new(BellState { descriptor, rung: AtomicBool::new(false) }));
        let poller = Poller { epoll, bell };
        let data = EventData::new_u64(Token::Bell.to_bits());
        epoll::add(&poller.epoll, &poller.bell.0.descriptor, data, EventFlags::IN)?;
        Ok(poller)
    }

    /// Its bell.
    pub fn bell(&self) -> Bell {
        self.bell.clone()
    }

    /// Waits for `descriptor` too, until it is closed. Each change is told once: whoever is told reads
    /// or writes until the host says "would block".
    pub fn add(&self, descriptor: impl AsFd, token: Token) -> io::Result<()> {
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        Ok(epoll::add(&self.epoll, descriptor, EventData::new_u64(token.to_bits()), flags)?)
    }

    /// Waits, at most `timeout`, and gives what is ready.
    pub fn wait(&self, timeout: Option<Duration>, ready: &mut Vec<Ready>) {
        ready.clear();
        let timeout = timeout.map(|timeout| Timespec {
            tv_sec: timeout.as_secs().min(3600) as i64,
            tv_nsec: timeout.subsec_nanos().into(),
        });
        let mut events = [const { MaybeUninit::<Event>::uninit() }; BATCH];
        let waited = epoll::wait(&self.epoll, &mut events, timeout.as_ref());
        // Interrupted by a signal: nothing is ready, and the caller comes back.
        let Ok((events, _)) = waited else { return };
        for event in events {
            let (flags, data) = (event.flags, event.data);
            let token = Token::from_bits(data.u64());
            if token == Token::Bell {
                self.bell.hear();
            }
            let any = |bits: EventFlags| flags.intersects(bits);
            let failed = any(EventFlags::ERR | EventFlags::HUP);
            ready.push(Ready {
                token,
                readable: failed || any(EventFlags::IN | EventFlags::RDHUP),
                writable: failed || any(EventFlags::OUT),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bell_wakes_once_per_round() {
        let poller = Poller::new().unwrap();
        let bell = poller.bell();
        let mut ready = Vec::new();
        std::thread::scope(|scope| {
            scope.spawn(|| (0..100).for_each(|_| bell.ring()));
            while ready.is_empty() {
                poller.wait(None, &mut ready);
            }
        });
        assert_eq!(ready[0].token, Token::Bell);
        bell.ring();
        poller.wait(Some(Duration::from_secs(5)), &mut ready);
        poller.wait(Some(Duration::ZERO), &mut ready);
        assert_eq!(ready, []);
    }

    #[test]
    fn tokens_come_back_as_they_went() {
        for token in
            [Token::Bell, Token::Tcp(7), Token::Udp(1 << 40), Token::Echo(0), Token::Forward(3), Token::Tap]
        {
            assert_eq!(Token::from_bits(token.to_bits()), token);
        }
    }
}
