//! Between gdb and the machine while it runs: whichever speaks first.

use std::marker::PhantomData;
use std::net::TcpStream;
use std::time::Duration;

use gdbstub::common::{Signal, Tid};
use gdbstub::conn::{Connection, ConnectionExt};
use gdbstub::stub::MultiThreadStopReason;
use gdbstub::stub::run_blocking::{BlockingEventLoop, Event, WaitForStopReasonError};
use gdbstub::target::Target;
use gdbstub::target::ext::base::reverse_exec::ReplayLogPosition;

use super::bits::Bits;
use super::target::{Peer, Set, thread_of};
use crate::debugger::{Met, Stopped};
use crate::session::{Ending, RunState};

/// Longest wait for the machine before gdb is looked at again.
const LOOK: Duration = Duration::from_millis(10);
/// Longest wait for a machine that was told to pause.
const PAUSE: Duration = Duration::from_secs(30);

/// The loop.
pub struct Loop<A>(PhantomData<A>);

type Reason<A> = MultiThreadStopReason<<A as gdbstub::arch::Arch>::Usize>;

impl<A: Bits> BlockingEventLoop for Loop<A>
where
    Reason<A>: gdbstub::stub::IntoStopReason<Peer<A>>,
{
    type Target = Peer<A>;
    type Connection = TcpStream;
    type StopReason = Reason<A>;

    fn wait_for_stop_reason(
        target: &mut Peer<A>,
        connection: &mut TcpStream,
    ) -> Result<
        Event<Self::StopReason>,
        WaitForStopReasonError<<Peer<A> as Target>::Error, <TcpStream as Connection>::Error>,
    > {
        loop {
            let stopped = target.session.wait_stop(LOOK);
            match target.session.state() {
                RunState::Running => {}
                RunState::Paused => return Ok(Event::TargetStopped(reason(target, stopped))),
                RunState::Ended(ending) => return Ok(Event::TargetStopped(end(&ending))),
            }
            if connection.peek().map_err(WaitForStopReasonError::Connection)?.is_some() {
                let byte = ConnectionExt::read(connection).map_err(WaitForStopReasonError::Connection)?;
                return Ok(Event::IncomingData(byte));
            }
        }
    }

    fn on_interrupt(target: &mut Peer<A>) -> Result<Option<Self::StopReason>, String> {
        target.session.pause();
        target.session.wait_stop(PAUSE);
        Ok(Some(MultiThreadStopReason::SignalWithThread { tid: thread_of(0), signal: Signal::SIGINT }))
    }
}

fn end<Address>(ending: &Ending) -> MultiThreadStopReason<Address> {
    match ending {
        Ending::PoweredOff => MultiThreadStopReason::Exited(0),
        Ending::DebugExit(value) => MultiThreadStopReason::Exited(*value),
        Ending::Crashed(_) | Ending::Failed(_) => MultiThreadStopReason::Terminated(Signal::SIGABRT),
    }
}

fn reason<A: Bits>(peer: &Peer<A>, stopped: Option<Stopped>) -> Reason<A> {
    let Some(stopped) = stopped else {
        return MultiThreadStopReason::SignalWithThread { tid: thread_of(0), signal: Signal::SIGINT };
    };
    let tid: Tid = thread_of(stopped.cpu.unwrap_or(0));
    let set = peer.sets.iter().find(|(_, _, id)| stopped.conditions.contains(id));
    match (&stopped.met, set) {
        (Met::Executing { .. }, Some((_, Set::Hardware, _))) => MultiThreadStopReason::HwBreak(tid),
        (Met::Executing { .. }, Some(_)) => MultiThreadStopReason::SwBreak(tid),
        (_, Some((at, Set::Watch(kind, _), _))) => {
            MultiThreadStopReason::Watch { tid, kind: *kind, addr: A::shown(*at) }
        }
        (Met::Began, _) => MultiThreadStopReason::ReplayLog { tid: Some(tid), pos: ReplayLogPosition::Begin },
        _ => MultiThreadStopReason::SignalWithThread { tid, signal: Signal::SIGTRAP },
    }
}
