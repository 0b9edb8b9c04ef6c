//! The gdb server: one gdb at a time, beside the window and `ctl`, all of which see the same machine.
//!
//! gdb's breakpoints and watchpoints are conditions of the machine, so no byte of the guest changes. vCPUs are threads,
//! numbered from 1. A step of one lets the others stand; going on lets all go on. What gdb has no word for is
//! `monitor`. Addresses are linear; in real mode `$pc` is the offset in the code segment, as the processor has it. gdb
//! decides by the target description how wide registers are, and asks for it once: x86-64 fits every mode of a 64-bit
//! processor, i386 is for what gdb disassembles as 32 bits.

mod bits;
mod event_loop;
mod memory;
mod monitor;
mod target;

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use gdbstub::stub::GdbStub;
use gdbstub_arch::x86::{X86_64_SSE, X86_SSE};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::session::{RunState, Session, WeakSession};
use bits::Bits;
use event_loop::Loop;
use target::Peer;

/// How often the server looks whether it is to end.
const LOOK: Duration = Duration::from_millis(50);

/// What gdb is told the target is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Description {
    /// 64-bit registers, right in every mode.
    #[default]
    X86_64,
    /// 32-bit registers.
    I386,
}

/// A server. It ends when it is dropped.
pub struct GdbServer {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    closing: AtomicBool,
    connection: Mutex<Option<TcpStream>>,
}

impl GdbServer {
    /// Listens at `address` (port 0: any that is free) for a gdb that is to see `session`.
    pub fn start(session: &Session, address: SocketAddr, description: Description) -> io::Result<GdbServer> {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let shared: Arc<Shared> = Arc::default();
        let (session, flags) = (session.downgrade(), shared.clone());
        let serve = move || accept(&listener, &session, description, &flags);
        thread::Builder::new().name("gdb".into()).spawn(serve)?;
        Ok(GdbServer { address, shared })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for GdbServer {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::Release);
        if let Some(connection) = &*self.shared.connection.lock() {
            // gdb may have gone by itself.
            let _ = connection.shutdown(Shutdown::Both);
        }
    }
}

fn accept(listener: &TcpListener, session: &WeakSession, description: Description, shared: &Shared) {
    while !shared.closing.load(Ordering::Acquire) {
        match listener.accept() {
            Ok((stream, _)) => {
                let Some(session) = session.upgrade() else { return };
                // From a connection that breaks, nothing is left but the next one.
                let _ = stream.set_nonblocking(false);
                *shared.connection.lock() = stream.try_clone().ok();
                match description {
                    Description::X86_64 => converse::<X86_64_SSE>(session, stream),
                    Description::I386 => converse::<X86_SSE>(session, stream),
                }
                *shared.connection.lock() = None;
            }
            Err(_) if session.upgrade().is_none() => return,
            Err(_) => thread::sleep(LOOK),
        }
    }
}

/// Serves one gdb: the machine pauses as it comes, and goes on as it goes if it ran before.
fn converse<A: Bits>(session: Session, stream: TcpStream) {
    let ran = session.state() == RunState::Running;
    session.pause();
    session.wait_stop(Duration::from_secs(30));
    let mut peer = Peer::<A>::new(session.clone());
    // Why the conversation ended matters to gdb alone.
    let _ = GdbStub::new(stream).run_blocking::<Loop<A>>(&mut peer);
    peer.leave();
    if ran && session.state() == RunState::Paused {
        session.resume();
    }
}
