//! A serial port on the board: a 16550A at eight ports, its interrupt line, and what is at its far end.
//!
//! Bytes from the host wait in a bounded queue and move on when the guest has emptied the receiver;
//! in between the line falls, so that an edge-triggered controller sees each new burst.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::access::{At, Width};
use crate::alarm::Alarm;
use crate::bus::WindowSpec;
use crate::clock::Clock;
use crate::device::{Device, LoadError, decode, encode};
use crate::line::Line;
use crate::serial::uart16550::Uart;

/// First port of each of the four usual serial ports.
pub const PORTS: [u64; 4] = [0x3F8, 0x2F8, 0x3E8, 0x2E8];
/// The window of a serial port.
pub const WINDOW: WindowSpec = WindowSpec::ports(8);
/// How many bytes from the host may wait.
pub const WAITING_AT_MOST: usize = 4096;

/// Takes each byte the guest sends. Called with the port's lock held: it must not block.
pub type Output = Box<dyn FnMut(u8) + Send>;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct State {
    uart: Uart,
    waiting: VecDeque<u8>,
}

/// The port.
pub struct SerialPort {
    name: String,
    state: State,
    line: Line,
    alarm: Alarm,
    clock: Clock,
    output: Output,
    /// Called when everything waiting has gone to the guest.
    drained: Option<Box<dyn FnMut() + Send>>,
}

impl SerialPort {
    /// Port `name` ("com1") that sends to `output`.
    pub fn new(name: &str, clock: Clock, alarm: Alarm, line: Line, output: Output) -> SerialPort {
        SerialPort {
            name: name.to_owned(),
            state: State::default(),
            line,
            alarm,
            clock,
            output,
            drained: None,
        }
    }

    /// Connects the far end anew.
    pub fn set_output(&mut self, output: Output) {
        self.output = output;
    }

    /// Calls `drained` each time the last waiting byte has gone to the guest.
    pub fn on_drained(&mut self, drained: impl FnMut() + Send + 'static) {
        self.drained = Some(Box::new(drained));
    }

    /// Bytes from the host; gives how many were accepted.
    pub fn push(&mut self, bytes: &[u8]) -> usize {
        let accepted = bytes.len().min(WAITING_AT_MOST - self.state.waiting.len());
        self.state.waiting.extend(&bytes[..accepted]);
        self.settle();
        accepted
    }

    /// The host sends a break.
    pub fn push_break(&mut self) {
        self.state.uart.receive_break(self.clock.now());
        self.settle();
    }

    /// The far end's modem lines, as bits of [`crate::serial::uart16550::modem_status`].
    pub fn set_modem_lines(&mut self, lines: u8) {
        self.state.uart.set_modem_lines(lines);
        self.settle();
    }

    /// The chip, for the inspector.
    pub fn uart(&self) -> &Uart {
        &self.state.uart
    }

    fn settle(&mut self) {
        let uart = &mut self.state.uart;
        uart.advance(self.clock.now());
        self.line.set(uart.interrupt());
        if uart.is_drained() && uart.room() > 0 && !self.state.waiting.is_empty() {
            let burst = uart.room().min(self.state.waiting.len());
            for byte in self.state.waiting.drain(..burst) {
                uart.receive(byte, 0, self.clock.now());
            }
            self.line.set(uart.interrupt());
            if let (true, Some(drained)) = (self.state.waiting.is_empty(), &mut self.drained) {
                drained();
            }
        }
        self.alarm.set(uart.next_deadline());
    }
}

impl Device for SerialPort {
    fn name(&self) -> &str {
        &self.name
    }

    fn read(&mut self, at: At, _width: Width) -> u64 {
        let value = self.state.uart.read(at.offset as u8, self.clock.now());
        self.settle();
        value.into()
    }

    fn write(&mut self, at: At, _width: Width, value: u64) {
        let out = self.state.uart.write(at.offset as u8, value as u8, self.clock.now());
        if let Some(byte) = out {
            // The line falls while THR is full, and rises anew.
            self.settle();
            (self.output)(byte);
            self.state.uart.sent();
        }
        self.settle();
    }

    fn reset(&mut self) {
        self.state = State::default();
        self.settle();
    }

    fn advance(&mut self) {
        self.settle();
    }

    fn save(&self) -> Vec<u8> {
        encode(&self.state)
    }

    fn load(&mut self, state: &[u8]) -> Result<(), LoadError> {
        let state: State = decode(self.name(), state)?;
        if !state.uart.is_sound() || state.waiting.len() > WAITING_AT_MOST {
            let reason = "more bytes than the chip can hold".to_owned();
            return Err(LoadError { device: self.name.clone(), reason });
        }
        self.state = state;
        self.settle();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::line::LineSink;
    use parking_lot::Mutex;
    use std::sync::Arc;

    /// Counts rising edges.
    #[derive(Default)]
    struct Edges(Mutex<(bool, u32)>);

    impl LineSink for Edges {
        fn set(&self, _number: u32, level: bool) {
            let mut state = self.0.lock();
            state.1 += u32::from(level && !state.0);
            state.0 = level;
        }
    }

    fn port() -> (Arc<Edges>, Arc<Mutex<Vec<u8>>>, SerialPort) {
        let (edges, sent) = (Arc::new(Edges::default()), Arc::new(Mutex::new(Vec::new())));
        let sink = sent.clone();
        let mut port = SerialPort::new(
            "com1",
            Clock::manual(),
            Alarm::unconnected(),
            Line::new(edges.clone(), 4),
            Box::new(move |byte| sink.lock().push(byte)),
        );
        out(&mut port, 3, 0x03);
        out(&mut port, 4, 0x0B);
        (edges, sent, port)
    }

    fn out(port: &mut SerialPort, offset: u64, value: u64) {
        port.write(At::new(0, offset), Width::Byte, value);
    }

    fn read(port: &mut SerialPort, offset: u64) -> u8 {
        port.read(At::new(0, offset), Width::Byte) as u8
    }

    #[test]
    fn each_sent_byte_is_one_edge() {
        let (edges, sent, mut port) = port();
        out(&mut port, 1, 0x02);
        assert_eq!(edges.0.lock().1, 1);
        for byte in *b"ok" {
            out(&mut port, 0, byte.into());
        }
        assert_eq!((edges.0.lock().1, sent.lock().as_slice()), (3, &b"ok"[..]));
    }

    #[test]
    fn a_handler_that_reads_one_byte_per_interrupt_gets_all() {
        let (edges, _sent, mut port) = port();
        out(&mut port, 1, 0x01);
        assert_eq!(port.push(b"abc"), 3);
        let mut read_bytes = Vec::new();
        for interrupt in 1..=3 {
            assert_eq!(edges.0.lock().1, interrupt);
            read_bytes.push(read(&mut port, 0));
        }
        assert_eq!((read_bytes.as_slice(), read(&mut port, 5)), (&b"abc"[..], 0x60));
    }

    #[test]
    fn the_host_is_held_back_and_told_when_there_is_room() {
        let (_edges, _sent, mut port) = port();
        let drained = Arc::new(Mutex::new(0));
        let counter = drained.clone();
        port.on_drained(move || *counter.lock() += 1);
        out(&mut port, 2, 0x01);
        let much = vec![7; 2 * WAITING_AT_MOST];
        let accepted = port.push(&much);
        assert_eq!(accepted, WAITING_AT_MOST);
        let mut received = 0;
        while read(&mut port, 5) & 1 != 0 {
            read(&mut port, 0);
            received += 1;
        }
        assert_eq!((received, *drained.lock()), (accepted, 1));
    }

    #[test]
    fn contract() {
        crate::contract::check(|| {
            let mut port = SerialPort::new(
                "com2",
                Clock::manual(),
                Alarm::unconnected(),
                Line::unconnected(),
                Box::new(|_| {}),
            );
            port.reset();
            port
        });
    }
}
