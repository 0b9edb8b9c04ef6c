//! Intel PIIX3 (82371SB) PCI-to-ISA bridge, PCI 8086:7000: interrupt routing and reset control.
//!
//! 82371SB datasheet (290550), §2.2. PIRQ route registers 0x60 to 0x63 lead the four PCI interrupt
//! wires to ISA lines; port 0xCF9 is reset control. The 8254, 8237, 8259 and ELCR ports are devices of
//! their own. Left out: ISA timing, X-bus chip selects, SMI sources, MBIRQ/MBDMA steering (kept, no effect).

use std::sync::Arc;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::access::{At, Width};
use crate::bus::WindowSpec;
use crate::device::{Device, LoadError, decode, encode};
use crate::layout::irq;
use crate::line::{Line, LineSink};
use crate::pci::{ConfigSpace, Function};
use crate::requests::{Request, Requests};

/// The reset control port. Map it after the PCI root's window, which it lies in.
pub const RESET_CONTROL: u64 = 0xCF9;
/// The window of the reset control port.
pub const WINDOW: WindowSpec = WindowSpec::ports(1);

const PIRQ_ROUTE: u8 = 0x60;
/// PIRQ route register: not routed.
const NOT_ROUTED: u8 = 1 << 7;
/// Lines a PIRQ can be routed to, 82371SB §2.2.9: not 0, 1, 2, 8 and 13.
const ROUTABLE: u16 = 0b1101_1110_1111_1000;

/// Which of PIRQA (0) to PIRQD (3) pin `pin` (1 INTA to 4 INTD) of a device is wired to.
/// Slot 1 starts at PIRQA and each slot is turned by one, as on QEMU's boards: SeaBIOS fills in
/// interrupt lines, and our ACPI tables describe routes, by the same rule.
pub const fn pirq_of(device: u8, pin: u8) -> usize {
    (device as usize + pin as usize + 2) & 3
}

/// Where the PCI interrupt pins of all devices come together.
///
/// As a [`LineSink`]: number device × 4 + pin − 1 is an INTx wire; [`PciInterrupts::SCI`] is the
/// ACPI interrupt, which shares ISA line 9 with whatever is routed there.
pub struct PciInterrupts {
    state: Mutex<Wires>,
    isa: Vec<Line>,
}

#[derive(Default)]
struct Wires {
    /// One bit per INTx wire.
    asserted: u128,
    sci: bool,
    /// The ISA line of each PIRQ, if routed.
    routes: [Option<u8>; 4],
}

impl PciInterrupts {
    /// Number of the ACPI system control interrupt's wire.
    pub const SCI: u32 = 128;

    /// Drives ISA lines `isa`, 0 to 15.
    pub fn new(isa: Vec<Line>) -> Arc<PciInterrupts> {
        assert_eq!(isa.len(), 16, "the ISA bus has 16 interrupt lines");
        Arc::new(PciInterrupts { state: Mutex::default(), isa })
    }

    /// The line of `pin` (1 INTA to 4 INTD) of `device`.
    pub fn line(self: &Arc<Self>, device: u8, pin: u8) -> Line {
        assert!(device < 32 && (1..=4).contains(&pin));
        Line::new(self.clone(), u32::from(device) * 4 + u32::from(pin) - 1)
    }

    /// The line of the system control interrupt.
    pub fn sci_line(self: &Arc<Self>) -> Line {
        Line::new(self.clone(), Self::SCI)
    }

    /// The ISA line each PIRQ leads to, for the inspector.
    pub fn routes(&self) -> [Option<u8>; 4] {
        self.state.lock().routes
    }

    fn route(&self, routes: [Option<u8>; 4]) {
        let mut wires = self.state.lock();
        let before = std::mem::replace(&mut wires.routes, routes);
        for isa in before.into_iter().chain(routes).flatten() {
            self.drive(&wires, isa);
        }
    }

    /// Drives one ISA line with the OR of everything that leads to it.
    fn drive(&self, wires: &Wires, isa: u8) {
        self.isa[usize::from(isa)].set(wires.level(isa));
    }
}

impl Wires {
    fn pirq(&self, pirq: usize) -> bool {
        // INTx wires of one PIRQ repeat every four devices; masks for PIRQA by (device & 3, pin).
        (0..16).any(|n| {
            let (device, pin) = (n / 4, n % 4 + 1);
            pirq_of(device, pin) == pirq
                && self.asserted & (0x0001_0001_0001_0001_0001_0001_0001_0001 << n) != 0
        })
    }

    fn level(&self, isa: u8) -> bool {
        (u32::from(isa) == irq::SCI && self.sci)
            || (0..4).any(|pirq| self.routes[pirq] == Some(isa) && self.pirq(pirq))
    }
}

impl LineSink for PciInterrupts {
    fn set(&self, number: u32, level: bool) {
        let mut wires = self.state.lock();
        if number == Self::SCI {
            wires.sci = level;
            return self.drive(&wires, irq::SCI as u8);
        }
        let Some(wire) = 1u128.checked_shl(number) else { return };
        wires.asserted = if level { wires.asserted | wire } else { wires.asserted & !wire };
        let pirq = pirq_of((number / 4) as u8, (number % 4) as u8 + 1);
        if let Some(isa) = wires.routes[pirq] {
            self.drive(&wires, isa);
        }
    }
}

/// The registers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Chip {
    /// PCI configuration space.
    pub config: ConfigSpace,
    /// Reset control register: the reset type bit.
    pub reset_control: u8,
}

/// Reset control: hard reset (1) or CPUs only (0), 82371SB §2.5.4.3.
const HARD: u8 = 1 << 1;
/// Reset control: a rising edge resets.
const RESET: u8 = 1 << 2;

impl Chip {
    fn new() -> Chip {
        let mut config = ConfigSpace::new(0x8086, 0x7000, 0x06_0100, 0).multifunction();
        config.set_word(0x04, 0x0007);
        config.set_read_only(0x04, 2);
        config.set_word(0x06, 0x0200);
        // Reset values of 82371SB §2.2.
        for (offset, value, mask) in [
            (0x4C, 0x4D, 0xFF), // ISA I/O recovery timer
            (0x4E, 0x03, 0xFF), // X-bus chip select
            (0x4F, 0x00, 0x01),
            (0x60, NOT_ROUTED, 0x8F),
            (0x61, NOT_ROUTED, 0x8F),
            (0x62, NOT_ROUTED, 0x8F),
            (0x63, NOT_ROUTED, 0x8F),
            (0x69, 0x02, 0xFE), // top of memory
            (0x6A, 0x04, 0x10), // miscellaneous status
            (0x70, 0x80, 0xEF), // motherboard IRQ route
            (0x76, 0x0C, 0x8F), // motherboard DMA
            (0x77, 0x0C, 0x8F),
            (0x82, 0x00, 0x0F), // deterministic latency
            (0xA0, 0x08, 0x1F), // SMI control
            (0xA2, 0x00, 0xFF), // SMI enable
            (0xA3, 0x00, 0x01),
            (0xA8, 0x0F, 0xFF), // fast-off timer
            (0xAC, 0x00, 0xFF), // clock scale
            (0xAE, 0x00, 0xFF),
        ] {
            config.set_byte(offset, value);
            config.set_byte_writable(offset, mask);
        }
        Chip { config, reset_control: 0 }
    }

    /// The ISA line of each PIRQ.
    pub fn routes(&self) -> [Option<u8>; 4] {
        std::array::from_fn(|pirq| {
            let route = self.config.byte(PIRQ_ROUTE + pirq as u8);
            let isa = route & 0xF;
            (route & NOT_ROUTED == 0 && ROUTABLE >> isa & 1 != 0).then_some(isa)
        })
    }

    fn write_reset_control(&mut self, value: u8) -> Option<Request> {
        let rising = value & RESET != 0;
        self.reset_control = value & HARD;
        rising.then_some(if value & HARD != 0 { Request::Reset } else { Request::ResetCpus })
    }
}

/// The bridge on the board. Window 0 is the reset control port.
pub struct Piix3 {
    chip: Chip,
    interrupts: Arc<PciInterrupts>,
    requests: Requests,
}

impl Piix3 {
    /// The bridge, routing `interrupts`.
    pub fn new(interrupts: Arc<PciInterrupts>, requests: Requests) -> Piix3 {
        let bridge = Piix3 { chip: Chip::new(), interrupts, requests };
        bridge.settle();
        bridge
    }

    /// The registers, for the inspector.
    pub fn chip(&self) -> &Chip {
        &self.chip
    }

    fn settle(&self) {
        self.interrupts.route(self.chip.routes());
    }
}

impl Function for Piix3 {
    fn config_read(&mut self, offset: u8, width: Width) -> u32 {
        self.chip.config.read(offset, width)
    }

    fn config_write(&mut self, offset: u8, width: Width, value: u32) {
        self.chip.config.write(offset, width, value);
        self.settle();
    }
}

impl Device for Piix3 {
    fn name(&self) -> &str {
        "piix3"
    }

    fn read(&mut self, _at: At, _width: Width) -> u64 {
        self.chip.reset_control.into()
    }

    fn write(&mut self, _at: At, _width: Width, value: u64) {
        if let Some(request) = self.chip.write_reset_control(value as u8) {
            self.requests.ask(request);
        }
    }

    fn reset(&mut self) {
        self.chip = Chip::new();
        self.settle();
    }

    fn save(&self) -> Vec<u8> {
        encode(&self.chip)
    }

    fn load(&mut self, state: &[u8]) -> Result<(), LoadError> {
        let chip: Chip = decode(self.name(), state)?;
        if !chip.config.same_shape(&self.chip.config) {
            return Err(LoadError { device: self.name().to_owned(), reason: "another bridge".to_owned() });
        }
        self.chip = chip;
        self.chip.reset_control &= HARD;
        self.settle();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    /// Sixteen ISA lines as bits.
    #[derive(Default)]
    struct Isa(AtomicU32);

    impl LineSink for Isa {
        fn set(&self, number: u32, level: bool) {
            if level {
                self.0.fetch_or(1 << number, Ordering::Relaxed);
            } else {
                self.0.fetch_and(!(1 << number), Ordering::Relaxed);
            }
        }
    }

    type Asked = Arc<Mutex<Vec<Request>>>;

    fn board() -> (Arc<Isa>, Arc<PciInterrupts>, Piix3, Asked) {
        let isa = Arc::new(Isa::default());
        let lines = (0..16).map(|n| Line::new(isa.clone(), n)).collect();
        let interrupts = PciInterrupts::new(lines);
        let asked = Arc::new(Mutex::new(Vec::new()));
        let heard = asked.clone();
        let bridge = Piix3::new(interrupts.clone(), Requests::new(move |request| heard.lock().push(request)));
        (isa, interrupts, bridge, asked)
    }

    fn lines(isa: &Isa) -> u32 {
        isa.0.load(Ordering::Relaxed)
    }

    #[test]
    fn slots_take_turns_as_seabios_expects() {
        // SeaBIOS: pci_irqs[(pin - 1 + slot - 1) & 3].
        for device in 0..32u8 {
            for pin in 1..=4u8 {
                assert_eq!(pirq_of(device, pin) as i32, (i32::from(pin) - 1 + i32::from(device) - 1) & 3);
            }
        }
    }

    #[test]
    fn a_wire_reaches_the_line_it_is_routed_to() {
        let (isa, interrupts, mut bridge, _asked) = board();
        let card = interrupts.line(3, 1); // PIRQC
        card.set(true);
        assert_eq!(lines(&isa), 0, "not routed after reset");
        bridge.config_write(0x62, Width::Byte, 11);
        assert_eq!(lines(&isa), 1 << 11);
        bridge.config_write(0x62, Width::Byte, 10);
        assert_eq!(lines(&isa), 1 << 10);
        bridge.config_write(0x62, Width::Byte, 0x8A);
        assert_eq!(lines(&isa), 0);
        bridge.config_write(0x62, Width::Byte, 0x0D);
        assert_eq!(lines(&isa), 0, "line 13 belongs to the coprocessor");
    }

    #[test]
    fn a_shared_line_falls_when_the_last_source_does() {
        let (isa, interrupts, mut bridge, _asked) = board();
        bridge.config_write(0x60, Width::Dword, 0x0B0B_0909);
        let (first, second, sci) = (interrupts.line(3, 1), interrupts.line(4, 1), interrupts.sci_line());
        first.set(true);
        second.set(true);
        first.set(false);
        assert_eq!(lines(&isa), 1 << 11);
        second.set(false);
        assert_eq!(lines(&isa), 0);
        let on_nine = interrupts.line(1, 1);
        on_nine.set(true);
        sci.set(true);
        on_nine.set(false);
        assert_eq!(lines(&isa), 1 << 9);
        sci.set(false);
        assert_eq!(lines(&isa), 0);
    }

    #[test]
    fn reset_control_tells_hard_from_soft() {
        let (_isa, _interrupts, mut bridge, asked) = board();
        for value in [0x02, 0x06, 0x00, 0x04] {
            bridge.write(At::new(0, 0), Width::Byte, value);
        }
        assert_eq!(*asked.lock(), [Request::Reset, Request::ResetCpus]);
    }

    #[test]
    fn state_is_kept_and_routes_again() {
        let (isa, interrupts, mut bridge, _asked) = board();
        bridge.config_write(0x60, Width::Dword, 0x0B0B_0A0A);
        let saved = bridge.save();
        bridge.reset();
        interrupts.line(1, 1).set(true);
        assert_eq!(lines(&isa), 0);
        bridge.load(&saved).unwrap();
        assert_eq!(lines(&isa), 1 << 10);
    }

    #[test]
    fn contract() {
        crate::contract::check(|| board().2);
    }
}
