//! National Semiconductor PC16550D UART: the chip.
//!
//! PC16550D datasheet (TL/C/8652). Eight registers; one interrupt output, gated on a PC by OUT2. With
//! the FIFOs off it is a 16450. Sending takes no time: THR is always empty again before the next
//! access. Receiving is as fast as the host gives and the guest reads. Left out: DMA mode signals,
//! and parity errors (the far end always sends as the port is set).

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::clock::Nanoseconds;

/// Depth of the receive FIFO.
pub const FIFO_BYTES: usize = 16;
/// The crystal; divided by 16 it is the highest baud rate.
const CRYSTAL_HZ: u64 = 1_843_200;

/// Interrupt enable bits, table II.
mod enable {
    pub const RECEIVED: u8 = 1 << 0;
    pub const TRANSMITTER: u8 = 1 << 1;
    pub const LINE_STATUS: u8 = 1 << 2;
    pub const MODEM: u8 = 1 << 3;
}

/// Line status bits, §8.4.
pub mod line_status {
    /// A byte is there.
    pub const DATA_READY: u8 = 1 << 0;
    /// A byte was lost.
    pub const OVERRUN: u8 = 1 << 1;
    /// No stop bit.
    pub const FRAMING: u8 = 1 << 3;
    /// The line was held at space.
    pub const BREAK: u8 = 1 << 4;
    /// The transmitter takes a byte.
    pub const THR_EMPTY: u8 = 1 << 5;
    /// The transmitter is idle.
    pub const IDLE: u8 = 1 << 6;
    /// A byte with an error is in the FIFO.
    pub const FIFO_ERROR: u8 = 1 << 7;
    pub(super) const ERRORS: u8 = 0x1E;
}

/// Modem control bits, §8.7.
mod modem_control {
    pub const DTR: u8 = 1 << 0;
    pub const RTS: u8 = 1 << 1;
    pub const OUT1: u8 = 1 << 2;
    pub const OUT2: u8 = 1 << 3;
    pub const LOOP: u8 = 1 << 4;
}

/// Modem status bits, §8.8: the levels; the changes are four bits below.
pub mod modem_status {
    /// Clear to send.
    pub const CTS: u8 = 1 << 4;
    /// Data set ready.
    pub const DSR: u8 = 1 << 5;
    /// Ring.
    pub const RING: u8 = 1 << 6;
    /// Carrier.
    pub const CARRIER: u8 = 1 << 7;
}

const DIVISOR_LATCH: u8 = 1 << 7;
const SET_BREAK: u8 = 1 << 6;
const FIFO_ENABLE: u8 = 1 << 0;
const CLEAR_RECEIVER: u8 = 1 << 1;

/// Interrupt sources, highest first (table III); the value is what IIR reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Source {
    /// An error or break.
    LineStatus = 0x06,
    /// Data at the trigger level.
    Received = 0x04,
    /// Data below it, for four character times.
    Timeout = 0x0C,
    /// The transmitter became empty.
    Transmitter = 0x02,
    /// A modem line changed.
    Modem = 0x00,
}

/// The registers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Uart {
    interrupt_enable: u8,
    fifo_enabled: bool,
    /// FCR bits 7 and 6.
    trigger: u8,
    line_control: u8,
    modem_control: u8,
    scratch: u8,
    divisor: u16,
    overrun: bool,
    /// The transmitter interrupt is pending: set when THR empties, cleared by reading it in IIR.
    transmitter: bool,
    /// What the far end drives on the modem lines, in the places of [`modem_status`].
    modem_lines: u8,
    modem_changes: u8,
    /// Bytes received, each with its error bits.
    received: VecDeque<(u8, u8)>,
    timeout_at: Option<Nanoseconds>,
    timed_out: bool,
}

impl Default for Uart {
    fn default() -> Uart {
        Uart {
            interrupt_enable: 0,
            fifo_enabled: false,
            trigger: 0,
            line_control: 0,
            modem_control: 0,
            scratch: 0,
            divisor: 12,
            overrun: false,
            transmitter: false,
            modem_lines: modem_status::CTS | modem_status::DSR | modem_status::CARRIER,
            modem_changes: 0,
            received: VecDeque::new(),
            timeout_at: None,
            timed_out: false,
        }
    }
}

impl Uart {
    /// Reads register `offset` (0 to 7).
    pub fn read(&mut self, offset: u8, now: Nanoseconds) -> u8 {
        self.advance(now);
        match offset & 7 {
            0 if self.latch() => self.divisor as u8,
            1 if self.latch() => (self.divisor >> 8) as u8,
            0 => self.take_received(now),
            1 => self.interrupt_enable,
            2 => self.identify(),
            3 => self.line_control,
            4 => self.modem_control,
            5 => self.take_line_status(),
            6 => {
                let status = self.modem_levels() | self.modem_changes;
                self.modem_changes = 0;
                status
            }
            _ => self.scratch,
        }
    }

    /// Writes register `offset` (0 to 7); gives the byte that goes out on the line, if one does.
    pub fn write(&mut self, offset: u8, value: u8, now: Nanoseconds) -> Option<u8> {
        self.advance(now);
        match offset & 7 {
            0 if self.latch() => self.divisor = self.divisor & 0xFF00 | u16::from(value),
            1 if self.latch() => self.divisor = self.divisor & 0x00FF | u16::from(value) << 8,
            0 => return self.send(value, now),
            1 => {
                // THR is empty: enabling its interrupt raises it at once.
                if value & !self.interrupt_enable & enable::TRANSMITTER != 0 {
                    self.transmitter = true;
                }
                self.interrupt_enable = value & 0x0F;
            }
            2 => self.control_fifo(value),
            3 => {
                let breaks = value & !self.line_control & SET_BREAK != 0;
                self.line_control = value;
                if breaks && self.loops() {
                    self.receive_break(now);
                }
            }
            4 => {
                let before = self.modem_levels();
                self.modem_control = value & 0x1F;
                self.note_modem_changes(before);
            }
            7 => self.scratch = value,
            _ => {}
        }
        None
    }

    fn latch(&self) -> bool {
        self.line_control & DIVISOR_LATCH != 0
    }

    fn loops(&self) -> bool {
        self.modem_control & modem_control::LOOP != 0
    }

    fn word_mask(&self) -> u8 {
        0xFF >> (3 - (self.line_control & 3))
    }

    /// The byte leaves at once; [`Uart::sent`] says so.
    fn send(&mut self, value: u8, now: Nanoseconds) -> Option<u8> {
        self.transmitter = false;
        let value = value & self.word_mask();
        if !self.loops() {
            return Some(value);
        }
        self.receive(value, 0, now);
        self.sent();
        None
    }

    /// The transmitter is empty again.
    pub fn sent(&mut self) {
        self.transmitter = true;
    }

    fn control_fifo(&mut self, value: u8) {
        let enable = value & FIFO_ENABLE != 0;
        // §8.5: bit 0 changing clears the FIFOs; the other bits count only while it is one.
        if enable != self.fifo_enabled || (enable && value & CLEAR_RECEIVER != 0) {
            self.received.clear();
            self.timeout_at = None;
            self.timed_out = false;
        }
        self.fifo_enabled = enable;
        self.trigger = if enable { value >> 6 } else { 0 };
    }

    fn take_received(&mut self, now: Nanoseconds) -> u8 {
        let byte = self.received.pop_front().map_or(0, |(byte, _)| byte);
        self.timed_out = false;
        self.restart_timeout(now);
        byte
    }

    fn take_line_status(&mut self) -> u8 {
        let status = self.line_status();
        self.overrun = false;
        if let Some(front) = self.received.front_mut() {
            front.1 = 0;
        }
        status
    }

    fn line_status(&self) -> u8 {
        let front = self.received.front();
        let mut status = line_status::THR_EMPTY | line_status::IDLE | front.map_or(0, |(_, errors)| *errors);
        if front.is_some() {
            status |= line_status::DATA_READY;
        }
        if self.overrun {
            status |= line_status::OVERRUN;
        }
        if self.fifo_enabled && self.received.iter().any(|(_, errors)| *errors != 0) {
            status |= line_status::FIFO_ERROR;
        }
        status
    }

    fn capacity(&self) -> usize {
        if self.fifo_enabled { FIFO_BYTES } else { 1 }
    }

    /// How many bytes the receiver takes now. None in loopback: its input is disconnected.
    pub fn room(&self) -> usize {
        if self.loops() { 0 } else { self.capacity().saturating_sub(self.received.len()) }
    }

    /// Whether the guest has read everything.
    pub fn is_drained(&self) -> bool {
        self.received.is_empty()
    }

    /// A byte arrives, with error bits; one too many is lost and said so.
    pub fn receive(&mut self, byte: u8, errors: u8, now: Nanoseconds) {
        if self.received.len() >= self.capacity() {
            self.overrun = true;
            if !self.fifo_enabled {
                // §8.4: without FIFO the new byte overwrites the old.
                self.received.clear();
                self.received.push_back((byte & self.word_mask(), errors & line_status::ERRORS));
            }
            return;
        }
        self.received.push_back((byte & self.word_mask(), errors & line_status::ERRORS));
        self.restart_timeout(now);
    }

    /// The far end holds the line at space.
    pub fn receive_break(&mut self, now: Nanoseconds) {
        self.receive(0, line_status::BREAK | line_status::FRAMING, now);
    }

    fn restart_timeout(&mut self, now: Nanoseconds) {
        let waits = self.fifo_enabled && !self.received.is_empty();
        self.timeout_at = waits.then(|| now.saturating_add(4 * self.character_ns()));
    }

    /// What the crystal's frequency is divided by, and by 16: 0 is the largest.
    fn divided_by(&self) -> u64 {
        if self.divisor == 0 { 0x1_0000 } else { u64::from(self.divisor) }
    }

    /// How long one character takes.
    pub fn character_ns(&self) -> u64 {
        let divisor = self.divided_by();
        let data = 5 + u64::from(self.line_control & 3);
        let parity = u64::from(self.line_control >> 3 & 1);
        let stop = 1 + u64::from(self.line_control >> 2 & 1);
        (1 + data + parity + stop) * divisor * 16 * 1_000_000_000 / CRYSTAL_HZ
    }

    /// Bits per second.
    pub fn baud(&self) -> u64 {
        CRYSTAL_HZ / 16 / self.divided_by()
    }

    /// Modem lines as the chip sees them: the far end's, or its own outputs in loopback (§8.7).
    fn modem_levels(&self) -> u8 {
        if !self.loops() {
            return self.modem_lines;
        }
        let own = |bit: u8, line: u8| if self.modem_control & bit != 0 { line } else { 0 };
        own(modem_control::RTS, modem_status::CTS)
            | own(modem_control::DTR, modem_status::DSR)
            | own(modem_control::OUT1, modem_status::RING)
            | own(modem_control::OUT2, modem_status::CARRIER)
    }

    fn note_modem_changes(&mut self, before: u8) {
        let after = self.modem_levels();
        let changed = before ^ after;
        // Ring counts only when it ends (TERI).
        let counted = changed & !modem_status::RING | before & !after & modem_status::RING;
        self.modem_changes |= counted >> 4;
    }

    /// The far end sets its modem lines, as bits of [`modem_status`].
    pub fn set_modem_lines(&mut self, lines: u8) {
        let before = self.modem_levels();
        self.modem_lines = lines & 0xF0;
        self.note_modem_changes(before);
    }

    /// The modem lines the guest drives: (data terminal ready, request to send).
    pub fn terminal_lines(&self) -> (bool, bool) {
        (self.modem_control & modem_control::DTR != 0, self.modem_control & modem_control::RTS != 0)
    }

    /// The highest pending interrupt.
    pub fn pending(&self) -> Option<Source> {
        let enabled = |bit| self.interrupt_enable & bit != 0;
        let trigger = if self.fifo_enabled { [1, 4, 8, 14][usize::from(self.trigger & 3)] } else { 1 };
        if enabled(enable::LINE_STATUS) && self.line_status() & line_status::ERRORS != 0 {
            Some(Source::LineStatus)
        } else if enabled(enable::RECEIVED) && self.received.len() >= trigger {
            Some(Source::Received)
        } else if enabled(enable::RECEIVED) && self.timed_out {
            Some(Source::Timeout)
        } else if enabled(enable::TRANSMITTER) && self.transmitter {
            Some(Source::Transmitter)
        } else if enabled(enable::MODEM) && self.modem_changes != 0 {
            Some(Source::Modem)
        } else {
            None
        }
    }

    fn identify(&mut self) -> u8 {
        let source = self.pending();
        if source == Some(Source::Transmitter) {
            self.transmitter = false;
        }
        let fifos = if self.fifo_enabled { 0xC0 } else { 0x00 };
        fifos | source.map_or(0x01, |source| source as u8)
    }

    /// The interrupt line as the PC wires it: gated by OUT2, whose pin is off in loopback.
    pub fn interrupt(&self) -> bool {
        let gate = self.modem_control & (modem_control::OUT2 | modem_control::LOOP) == modem_control::OUT2;
        gate && self.pending().is_some()
    }

    /// Notes a character timeout.
    pub fn advance(&mut self, now: Nanoseconds) {
        if self.timeout_at.is_some_and(|at| at <= now) {
            self.timeout_at = None;
            self.timed_out = !self.received.is_empty();
        }
    }

    /// When the timeout will interrupt.
    pub fn next_deadline(&self) -> Option<Nanoseconds> {
        self.timeout_at.filter(|_| self.interrupt_enable & enable::RECEIVED != 0)
    }

    /// Whether a saved state can be this chip's.
    pub fn is_sound(&self) -> bool {
        self.received.len() <= self.capacity() && self.trigger <= 3
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IER: u8 = 1;
    const IIR: u8 = 2;
    const LCR: u8 = 3;
    const MCR: u8 = 4;
    const LSR: u8 = 5;
    const MSR: u8 = 6;

    fn uart(enable: u8) -> Uart {
        let mut uart = Uart::default();
        uart.write(LCR, 0x03, 0);
        uart.write(MCR, 0x08, 0);
        uart.write(IER, enable, 0);
        uart
    }

    #[test]
    fn registers_after_reset() {
        let mut uart = Uart::default();
        let read: Vec<u8> = (1..8).map(|offset| uart.read(offset, 0)).collect();
        assert_eq!(read, [0x00, 0x01, 0x00, 0x00, 0x60, 0xB0, 0x00]);
    }

    #[test]
    fn the_divisor_hides_behind_bit_7_of_lcr() {
        let mut uart = uart(0);
        uart.write(LCR, 0x83, 0);
        uart.write(0, 0x01, 0);
        uart.write(1, 0x00, 0);
        assert_eq!((uart.read(0, 0), uart.read(1, 0), uart.baud()), (1, 0, 115_200));
        uart.write(LCR, 0x03, 0);
        assert_eq!(uart.character_ns(), 86_805, "10 bits at 115200 baud");
    }

    #[test]
    fn without_fifo_it_is_a_16450() {
        let mut uart = uart(enable::RECEIVED | enable::LINE_STATUS);
        uart.receive(b'a', 0, 0);
        assert_eq!((uart.room(), uart.read(IIR, 0)), (0, 0x04));
        uart.receive(b'b', 0, 0);
        assert_eq!(uart.read(IIR, 0), 0x06, "overrun comes first");
        assert_eq!(uart.read(LSR, 0), 0x63);
        assert_eq!(uart.read(LSR, 0), 0x61, "reading clears the error");
        assert_eq!(uart.read(0, 0), b'b');
        assert_eq!((uart.read(IIR, 0), uart.read(LSR, 0)), (0x01, 0x60));
    }

    #[test]
    fn the_fifo_interrupts_at_its_trigger_level() {
        let mut uart = uart(enable::RECEIVED);
        uart.write(2, 0x81, 0); // FIFO on, trigger at 8
        for n in 0..7 {
            uart.receive(n, 0, 0);
        }
        assert_eq!(uart.read(IIR, 0), 0xC1);
        uart.receive(7, 0, 0);
        assert_eq!(uart.read(IIR, 0), 0xC4);
        assert_eq!(uart.read(0, 0), 0);
        assert_eq!(uart.read(IIR, 0), 0xC1, "below the level again");
    }

    #[test]
    fn bytes_below_the_level_interrupt_after_four_characters() {
        let mut uart = uart(enable::RECEIVED);
        uart.write(2, 0xC1, 0);
        uart.receive(b'x', 0, 1000);
        let deadline = uart.next_deadline().unwrap();
        assert_eq!(deadline, 1000 + 4 * uart.character_ns());
        assert_eq!(uart.read(IIR, deadline - 1), 0xC1);
        assert_eq!(uart.read(IIR, deadline), 0xCC);
        assert_eq!(uart.read(0, deadline), b'x');
        assert_eq!((uart.read(IIR, deadline), uart.next_deadline()), (0xC1, None));
    }

    #[test]
    fn a_full_fifo_loses_the_new_byte() {
        let mut uart = uart(0);
        uart.write(2, 0x01, 0);
        for n in 0..17 {
            uart.receive(n, 0, 0);
        }
        assert_eq!(uart.read(LSR, 0), 0x63);
        let read: Vec<u8> = (0..16).map(|_| uart.read(0, 0)).collect();
        assert_eq!(read, (0..16).collect::<Vec<u8>>());
        assert_eq!(uart.read(LSR, 0), 0x60);
    }

    #[test]
    fn the_transmitter_interrupt_is_cleared_by_reading_it() {
        let mut uart = uart(enable::TRANSMITTER);
        assert_eq!(uart.read(IIR, 0), 0x02, "enabling raises it: THR is empty");
        assert_eq!(uart.read(IIR, 0), 0x01);
        assert_eq!(uart.write(0, b'!', 0), Some(b'!'));
        assert!(!uart.interrupt());
        uart.sent();
        assert!(uart.interrupt());
        uart.write(0, b'?', 0);
        assert!(!uart.interrupt(), "writing THR clears it too");
    }

    #[test]
    fn out2_gates_the_line() {
        let mut uart = uart(enable::RECEIVED);
        uart.receive(1, 0, 0);
        assert!(uart.interrupt());
        uart.write(MCR, 0x00, 0);
        assert!(!uart.interrupt());
        assert_eq!(uart.read(IIR, 0), 0x04, "the chip itself still says so");
    }

    #[test]
    fn loopback_turns_outputs_into_inputs() {
        let mut uart = uart(0);
        uart.write(MCR, 0x1A, 0); // as Linux and SeaBIOS test for a UART
        assert_eq!(uart.read(MSR, 0) & 0xF0, 0x90);
        assert_eq!(uart.write(0, 0x5A, 0), None);
        assert_eq!((uart.read(LSR, 0), uart.read(0, 0)), (0x61, 0x5A));
        assert_eq!(uart.room(), 0, "the far end is cut off");
        uart.write(LCR, 0x43, 0);
        assert_eq!(uart.read(LSR, 0) & line_status::BREAK, line_status::BREAK);
    }

    #[test]
    fn modem_changes_are_reported_once() {
        let mut uart = uart(enable::MODEM);
        uart.set_modem_lines(modem_status::CTS | modem_status::RING);
        assert_eq!(uart.read(IIR, 0), 0x00);
        assert_eq!(uart.read(MSR, 0), 0x5A, "DSR and carrier changed; ring only begins");
        assert_eq!((uart.read(MSR, 0), uart.read(IIR, 0)), (0x50, 0x01));
        uart.set_modem_lines(modem_status::CTS);
        assert_eq!(uart.read(MSR, 0), 0x14, "trailing edge of ring");
    }

    #[test]
    fn seven_bit_words_lose_the_eighth() {
        let mut uart = uart(0);
        uart.write(LCR, 0x02, 0);
        assert_eq!(uart.write(0, 0xFF, 0), Some(0x7F));
    }
}
