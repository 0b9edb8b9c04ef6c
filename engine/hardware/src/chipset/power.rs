//! Power management function of the Intel PIIX4 (82371AB), PCI 8086:7113, on a board with a PIIX3.
//!
//! 82371AB datasheet (290562), §7. Its ports: a block of 64 at the address in register 0x40 (enabled by
//! 0x80 bit 0; SeaBIOS puts it at 0x600), the SMBus host at the address in 0x90 (enabled by 0xD2 bit 0),
//! APM control and status at 0xB2 and 0xB3, and the GPE block at 0xAFE0, which the board adds. One
//! line: the system control interrupt, level, ISA 9.
//!
//! There is no system management mode. The APM control port takes over what an SMI handler would do
//! with the values the ACPI tables name (0xF1 enables ACPI, 0xF0 disables it), and DEVACTB bit 25
//! (SMI on APM writes) is set from reset on: SeaBIOS takes that as "SMM is set up already" and does
//! not wait for an SMI. Left out: SMBus slaves (every transfer ends in a device error), throttling,
//! device monitors and timers of §7.2 from 0x0C on (kept as plain registers where writable).

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::access::{At, Width};
use crate::alarm::Alarm;
use crate::bus::{Bus, WindowId, WindowSpec};
use crate::clock::{Clock, Nanoseconds, ticks_at, time_of_tick};
use crate::device::{Device, LoadError, Shared, decode, encode, shared};
use crate::line::Line;
use crate::pci::{ConfigSpace, Function};
use crate::requests::{Request, Requests};
use crate::timers::{TickCounts, Ticks};

/// The power management timer's frequency, ACPI 6.4 §4.8.2.1.
pub const TIMER_HZ: u64 = 3_579_545;
/// Bits of the timer that are counted in: FADT's TMR_VAL_EXT says 24.
pub const TIMER_BITS: u32 = 24;
/// Counts after which its top bit changes.
pub const TIMER_TURN: u64 = 1 << (TIMER_BITS - 1);
/// What that takes, in nanoseconds.
const TIMER_TURN_NS: u64 = TIMER_TURN * 1_000_000_000 / TIMER_HZ;
/// First port of the general-purpose event block.
pub const GPE_BLOCK: u16 = 0xAFE0;
/// Length of the general-purpose event block: two status, two enable bytes.
pub const GPE_BLOCK_LENGTH: u8 = 4;
/// The APM control port; ACPI calls it SMI_CMD.
pub const SMI_COMMAND: u16 = 0xB2;
/// Written to [`SMI_COMMAND`]: the system takes over power management.
pub const ACPI_ENABLE: u8 = 0xF1;
/// Written to [`SMI_COMMAND`]: the system gives it back.
pub const ACPI_DISABLE: u8 = 0xF0;
/// SLP_TYP of S5, soft off (82371AB §7.2.3).
pub const SLEEP_TYPE_S5: u8 = 0;
/// SLP_TYP of S3, suspend to RAM.
pub const SLEEP_TYPE_S3: u8 = 1;

const PM_PORTS: u64 = 64;
const SMBUS_PORTS: u64 = 16;

mod window {
    pub const PM: u8 = 0;
    pub const SMBUS: u8 = 1;
    pub const APM: u8 = 2;
    pub const GPE: u8 = 3;
}

/// Bits of the PM1 status and enable registers, ACPI 6.4 tables 4.11 and 4.12.
pub mod pm1 {
    /// The timer's top bit changed.
    pub const TIMER: u16 = 1 << 0;
    /// The firmware released the global lock.
    pub const GLOBAL: u16 = 1 << 5;
    /// The power button was pressed.
    pub const POWER_BUTTON: u16 = 1 << 8;
    /// The real-time clock's alarm.
    pub const RTC: u16 = 1 << 10;
    /// The machine woke.
    pub const WAKE: u16 = 1 << 15;
    /// Events that can interrupt.
    pub const EVENTS: u16 = TIMER | GLOBAL | POWER_BUTTON | RTC;
    pub(super) const STATUS: u16 = EVENTS | 1 << 4 | WAKE;
}

/// PM1 control: ACPI rules (SCI), not the firmware (SMI).
const SCI_ENABLE: u16 = 1 << 0;
/// PM1 control: bits that stay as written; SLP_EN and GBL_RLS act and read as zero.
const CONTROL_KEPT: u16 = 0x1C02;
const SLEEP_ENABLE: u16 = 1 << 13;

/// The registers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Chip {
    /// PCI configuration space.
    pub config: ConfigSpace,
    /// PM1 status.
    pub status: u16,
    /// PM1 enable.
    pub enable: u16,
    /// PM1 control.
    pub control: u16,
    /// How many times the timer's top bit had changed when last looked at.
    timer_turns: u64,
    /// The other registers of the PM block that can be written, 0x0C to 0x3F.
    scratch: Vec<u8>,
    /// General-purpose event status and enable.
    pub gpe: [u8; 4],
    /// APM control and status.
    pub apm: [u8; 2],
    /// SMBus host registers.
    smbus: [u8; 8],
}

impl Chip {
    fn new() -> Chip {
        let mut config = ConfigSpace::new(0x8086, 0x7113, 0x06_8000, 0x03).interrupt_pin(1);
        config.set_word(0x06, 0x0280);
        config.set_byte(0x3C, 9);
        config.set_dword(0x40, 1);
        config.set_writable(0x40, 0x0000_FFC0);
        config.set_writable(0x48, 0x03FF_FFFF); // count B
        config.set_writable(0x54, 0xFFFF_FFFF); // device activity A
        config.set_dword(0x58, APM_MAKES_SMI);
        config.set_writable(0x58, 0xFFFF_FFFF); // device activity B
        for resource in [0x5C, 0x60, 0x64, 0x68, 0x6C, 0x70, 0x74, 0x78, 0x7C] {
            config.set_writable(resource, 0xFFFF_FFFF);
        }
        config.set_byte_writable(0x80, 0x01);
        config.set_dword(0x90, 1);
        config.set_writable(0x90, 0x0000_FFF0);
        config.set_byte_writable(0xD2, 0x0F);
        config.set_byte_writable(0xD3, 0xFF);
        config.set_byte_writable(0xD4, 0xFF);
        config.set_byte_writable(0xD5, 0xFF);
        Chip {
            config,
            status: 0,
            enable: 0,
            control: 0,
            timer_turns: 0,
            scratch: vec![0; PM_PORTS as usize],
            gpe: [0; 4],
            apm: [0; 2],
            smbus: [0; 8],
        }
    }

    /// Where the PM block lies.
    pub fn pm_base(&self) -> Option<u64> {
        let base = u64::from(self.config.word(0x40) & 0xFFC0);
        (base != 0 && self.config.byte(0x80) & 1 != 0).then_some(base)
    }

    /// Where the SMBus host lies.
    pub fn smbus_base(&self) -> Option<u64> {
        let base = u64::from(self.config.word(0x90) & 0xFFF0);
        (base != 0 && self.config.byte(0xD2) & 1 != 0).then_some(base)
    }

    /// Notes the timer's overflow up to `now`; how often that was.
    fn advance(&mut self, now: Nanoseconds) -> u64 {
        // ACPI 6.4 §4.8.3.1.1: TMR_STS is set when the top bit (23) changes either way.
        let turns = ticks_at(now, TIMER_HZ) / TIMER_TURN;
        let passed = turns.saturating_sub(self.timer_turns);
        if turns != self.timer_turns {
            self.timer_turns = turns;
            self.status |= pm1::TIMER;
        }
        passed
    }

    /// Whether the timer's overflow interrupts.
    pub fn timer_interrupts(&self) -> bool {
        self.control & SCI_ENABLE != 0 && self.enable & pm1::TIMER != 0
    }

    /// When the timer will next want an interrupt.
    pub fn next_deadline(&self) -> Option<Nanoseconds> {
        let wanted = self.enable & !self.status & pm1::TIMER != 0;
        wanted.then(|| time_of_tick((self.timer_turns + 1) * TIMER_TURN, TIMER_HZ))
    }

    /// Level of the system control interrupt.
    pub fn interrupt(&self) -> bool {
        let fixed = self.status & self.enable & pm1::EVENTS != 0;
        let general = self.gpe[0] & self.gpe[2] | self.gpe[1] & self.gpe[3] != 0;
        self.control & SCI_ENABLE != 0 && (fixed || general)
    }

    fn read_pm(&self, offset: u8, now: Nanoseconds) -> u8 {
        let word = |value: u16| value.to_le_bytes()[usize::from(offset & 1)];
        match offset {
            0x00..0x02 => word(self.status),
            0x02..0x04 => word(self.enable),
            0x04..0x06 => word(self.control),
            0x08..0x0C => {
                let ticks = ticks_at(now, TIMER_HZ) as u32 & 0x00FF_FFFF;
                ticks.to_le_bytes()[usize::from(offset & 3)]
            }
            0x0C..0x40 => self.scratch[usize::from(offset)],
            _ => 0,
        }
    }

    fn write_pm(&mut self, offset: u8, value: u8) -> Option<Request> {
        let shift = 8 * u32::from(offset & 1);
        let (new, lane) = (u16::from(value) << shift, 0xFFu16 << shift);
        match offset {
            0x00..0x02 => self.status &= !(new & pm1::STATUS),
            0x02..0x04 => self.enable = self.enable & !lane | new & pm1::EVENTS,
            0x04..0x06 => {
                // SCI_EN too: an ACPI-only guest may set it where firmware never did.
                let kept = CONTROL_KEPT | SCI_ENABLE;
                self.control = self.control & !lane | new & kept;
                if new & SLEEP_ENABLE != 0 {
                    return self.sleep();
                }
            }
            // GPEN, PCNTRL, GLBEN, GLBCTL, DEVCTL, GPO: 82371AB §7.2.
            0x0E..0x14 | 0x20..0x24 | 0x28..0x30 | 0x34..0x38 => self.scratch[usize::from(offset)] = value,
            _ => {}
        }
        None
    }

    fn sleep(&mut self) -> Option<Request> {
        match (self.control >> 10 & 7) as u8 {
            SLEEP_TYPE_S5 => Some(Request::PowerOff),
            SLEEP_TYPE_S3 => Some(Request::Suspend),
            _ => None,
        }
    }

    fn write_apm(&mut self, offset: usize, value: u8) {
        self.apm[offset & 1] = value;
        match (offset, value) {
            (0, ACPI_ENABLE) => self.control |= SCI_ENABLE,
            (0, ACPI_DISABLE) => self.control &= !SCI_ENABLE,
            _ => {}
        }
    }

    fn write_gpe(&mut self, offset: usize, value: u8) {
        match offset {
            0 | 1 => self.gpe[offset] &= !value,
            _ => self.gpe[offset & 3] = value,
        }
    }

    fn write_smbus(&mut self, offset: usize, value: u8) {
        match offset {
            // SMBHSTSTS, 82371AB §7.3.1: ones clear.
            0 => self.smbus[0] &= !(value & 0x1E),
            // SMBHSTCNT §7.3.3: START makes a transfer, which no slave answers: device error, and
            // the interrupt bit that says it is over.
            2 => {
                self.smbus[2] = value & 0x1F;
                if value & 0x40 != 0 {
                    self.smbus[0] |= 0x04;
                }
            }
            1 | 3..8 => self.smbus[offset] = value,
            _ => {}
        }
    }
}

/// DEVACTB: a write to the APM control port makes an SMI.
const APM_MAKES_SMI: u32 = 1 << 25;

/// The function on the board.
pub struct PowerManagement {
    chip: Chip,
    windows: Option<(Arc<Bus>, WindowId, WindowId)>,
    clock: Clock,
    alarm: Alarm,
    sci: Line,
    requests: Requests,
    /// What became of the timer's overflows, while they interrupted.
    ticks: Ticks,
}

impl PowerManagement {
    /// The function, its ports on `bus`.
    pub fn install(
        bus: &Arc<Bus>,
        clock: Clock,
        alarm: Alarm,
        sci: Line,
        requests: Requests,
    ) -> Shared<PowerManagement> {
        let device = shared(PowerManagement::unplugged(clock, alarm, sci, requests));
        let block = |length| WindowSpec::ports(length).widths(Width::Byte, Width::Dword);
        let pm = bus.add(&device, window::PM, block(PM_PORTS), None);
        let smbus = bus.add(&device, window::SMBUS, WindowSpec::ports(SMBUS_PORTS), None);
        bus.add(&device, window::APM, WindowSpec::ports(2), Some(SMI_COMMAND.into()));
        let gpe = WindowSpec::ports(GPE_BLOCK_LENGTH.into());
        bus.add(&device, window::GPE, gpe, Some(GPE_BLOCK.into()));
        device.lock().windows = Some((bus.clone(), pm, smbus));
        device
    }

    /// The function on no bus, for tests.
    pub fn unplugged(clock: Clock, alarm: Alarm, sci: Line, requests: Requests) -> PowerManagement {
        PowerManagement {
            chip: Chip::new(),
            windows: None,
            clock,
            alarm,
            sci,
            requests,
            ticks: Ticks::default(),
        }
    }

    /// The registers, for the inspector.
    pub fn chip(&self) -> &Chip {
        &self.chip
    }

    /// What became of the timer's overflows since the machine was built, while they interrupted.
    pub fn counts(&self) -> TickCounts {
        self.ticks.counts()
    }

    /// Someone presses the power button: what happens is up to the guest.
    pub fn press_power_button(&mut self) {
        self.chip.status |= pm1::POWER_BUTTON;
        self.settle();
    }

    /// Whether the guest listens to the power button.
    pub fn hears_power_button(&self) -> bool {
        self.chip.control & SCI_ENABLE != 0 && self.chip.enable & pm1::POWER_BUTTON != 0
    }

    /// Raises general-purpose event `number` (0 to 15).
    pub fn raise_general_event(&mut self, number: usize) {
        if number < 16 {
            self.chip.gpe[number / 8] |= 1 << (number % 8);
        }
        self.settle();
    }

    /// The machine comes back from S3 (after its reset): the firmware and the system see why.
    pub fn wake(&mut self) {
        self.chip.status |= pm1::WAKE | pm1::POWER_BUTTON;
        self.settle();
    }

    /// The timer counts on to `now`. Its status bit is the request, and the guest takes it by clearing that.
    fn count(&mut self, now: Nanoseconds) {
        let pending = self.chip.status & pm1::TIMER != 0;
        let came = self.chip.advance(now);
        let told = if self.chip.timer_interrupts() { came } else { 0 };
        self.ticks.settle(told, pending, TIMER_TURN_NS);
    }

    fn settle(&mut self) {
        self.count(self.clock.now());
        self.sci.set(self.chip.interrupt());
        self.alarm.set(self.chip.next_deadline());
    }

    fn place(&self) {
        if let Some((bus, pm, smbus)) = &self.windows {
            bus.place(*pm, self.chip.pm_base());
            bus.place(*smbus, self.chip.smbus_base());
        }
    }
}

impl Function for PowerManagement {
    fn config_read(&mut self, offset: u8, width: Width) -> u32 {
        self.chip.config.read(offset, width)
    }

    fn config_write(&mut self, offset: u8, width: Width, value: u32) {
        let before = (self.chip.pm_base(), self.chip.smbus_base());
        self.chip.config.write(offset, width, value);
        if before != (self.chip.pm_base(), self.chip.smbus_base()) {
            self.place();
        }
    }
}

impl Device for PowerManagement {
    fn name(&self) -> &str {
        "piix4-pm"
    }

    fn read(&mut self, at: At, width: Width) -> u64 {
        let now = self.clock.now();
        self.count(now);
        let value = (0..width.bytes().min(4)).fold(0, |value, n| {
            let offset = (at.offset + n) as usize;
            let byte = match at.window {
                window::PM => self.chip.read_pm(offset as u8 & 0x3F, now),
                window::SMBUS => self.chip.smbus.get(offset).copied().unwrap_or(0),
                window::APM => self.chip.apm[offset & 1],
                _ => self.chip.gpe[offset & 3],
            };
            value | u64::from(byte) << (8 * n)
        });
        self.settle();
        value
    }

    fn write(&mut self, at: At, width: Width, value: u64) {
        self.count(self.clock.now());
        let mut request = None;
        for n in 0..width.bytes().min(4) {
            let (offset, byte) = ((at.offset + n) as usize, (value >> (8 * n)) as u8);
            match at.window {
                window::PM => request = self.chip.write_pm(offset as u8 & 0x3F, byte).or(request),
                window::SMBUS => self.chip.write_smbus(offset, byte),
                window::APM => self.chip.write_apm(offset, byte),
                _ => self.chip.write_gpe(offset & 3, byte),
            }
        }
        self.settle();
        if let Some(request) = request {
            self.requests.ask(request);
        }
    }

    fn reset(&mut self) {
        self.chip = Chip::new();
        self.chip.timer_turns = ticks_at(self.clock.now(), TIMER_HZ) / TIMER_TURN;
        self.place();
        self.settle();
    }

    fn advance(&mut self) {
        self.settle();
    }

    fn save(&self) -> Vec<u8> {
        encode(&self.chip)
    }

    fn load(&mut self, state: &[u8]) -> Result<(), LoadError> {
        let chip: Chip = decode(self.name(), state)?;
        let sound = chip.config.same_shape(&self.chip.config)
            && chip.scratch.len() == PM_PORTS as usize
            && chip.timer_turns < 1 << 40;
        if !sound {
            let reason = "registers of another chip".to_owned();
            return Err(LoadError { device: self.name().to_owned(), reason });
        }
        self.chip = chip;
        self.place();
        self.settle();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::Space;
    use crate::line::LineSink;
    use parking_lot::Mutex;
    use std::sync::atomic::{AtomicBool, Ordering};

    #[derive(Default)]
    struct Level(AtomicBool);

    impl LineSink for Level {
        fn set(&self, _number: u32, level: bool) {
            self.0.store(level, Ordering::Relaxed);
        }
    }

    struct Board {
        bus: Arc<Bus>,
        clock: Clock,
        alarms: Arc<crate::Alarms>,
        sci: Arc<Level>,
        asked: Arc<Mutex<Vec<Request>>>,
        power: Shared<PowerManagement>,
    }

    impl Board {
        /// With the PM block at 0x600, as SeaBIOS leaves it.
        fn new() -> Board {
            let (bus, clock, alarms) = (Bus::new(), Clock::manual(), crate::Alarms::new(|| {}));
            let (sci, asked) = (Arc::new(Level::default()), Arc::new(Mutex::new(Vec::new())));
            let heard = asked.clone();
            let requests = Requests::new(move |request| heard.lock().push(request));
            let line = Line::new(sci.clone(), 0);
            let power = PowerManagement::install(&bus, clock.clone(), alarms.alarm(), line, requests);
            power.lock().config_write(0x40, Width::Dword, 0x601);
            power.lock().config_write(0x80, Width::Byte, 0x01);
            Board { bus, clock, alarms, sci, asked, power }
        }

        fn out(&self, port: u64, width: Width, value: u64) {
            self.bus.write(Space::Port, port, width, value, 0);
        }

        fn word(&self, port: u64) -> u64 {
            self.bus.read(Space::Port, port, Width::Word, 0)
        }

        fn sci(&self) -> bool {
            self.sci.0.load(Ordering::Relaxed)
        }
    }

    #[test]
    fn the_blocks_move_with_their_registers() {
        let board = Board::new();
        board.out(0x602, Width::Word, 0x0100);
        assert_eq!(board.word(0x602), 0x0100);
        board.power.lock().config_write(0x40, Width::Dword, 0xB001);
        assert_eq!((board.word(0x602), board.word(0xB002)), (0xFFFF, 0x0100));
        board.power.lock().config_write(0x80, Width::Byte, 0);
        assert_eq!(board.word(0xB002), 0xFFFF);
        board.power.lock().config_write(0x90, Width::Dword, 0x701);
        board.power.lock().config_write(0xD2, Width::Byte, 0x09);
        assert_eq!(board.word(0x700) & 0xFF, 0);
    }

    #[test]
    fn the_timer_runs_at_3_579_545_hz_and_is_read_whole() {
        let board = Board::new();
        board.clock.step(1_000_000_000);
        assert_eq!(board.bus.read(Space::Port, 0x608, Width::Dword, 0), 3_579_545);
        board.clock.step(4_000_000_000);
        assert_eq!(board.bus.read(Space::Port, 0x608, Width::Dword, 0), (5 * 3_579_545) & 0xFF_FFFF);
    }

    #[test]
    fn the_timer_interrupts_when_its_top_bit_changes() {
        let board = Board::new();
        board.out(0xB2, Width::Byte, u64::from(ACPI_ENABLE));
        assert_eq!(board.word(0x604) & 1, 1, "SCI_EN");
        board.out(0x602, Width::Word, pm1::TIMER.into());
        let deadline = board.alarms.next().unwrap();
        assert_eq!(deadline, time_of_tick(1 << 23, TIMER_HZ));
        board.clock.step(deadline - 1);
        board.power.lock().advance();
        assert!(!board.sci());
        board.clock.step(1);
        board.power.lock().advance();
        assert!(board.sci());
        board.out(0x600, Width::Word, pm1::TIMER.into());
        assert!(!board.sci());
        assert_eq!(board.alarms.next(), Some(time_of_tick(2 << 23, TIMER_HZ)));
        board.clock.step(5_000_000_000);
        board.power.lock().advance();
        let counts = board.power.lock().counts();
        assert_eq!((counts.raised, counts.delivered, counts.merged), (3, 2, 1), "two came in five seconds");
    }

    #[test]
    fn the_power_button_interrupts_only_under_acpi() {
        let board = Board::new();
        board.out(0x602, Width::Word, pm1::POWER_BUTTON.into());
        board.power.lock().press_power_button();
        assert!(!board.sci() && !board.power.lock().hears_power_button());
        board.out(0xB2, Width::Byte, u64::from(ACPI_ENABLE));
        assert!(board.sci() && board.power.lock().hears_power_button());
        assert_eq!(board.word(0x600), u64::from(pm1::POWER_BUTTON));
        board.out(0x600, Width::Word, u64::from(pm1::POWER_BUTTON));
        assert!(!board.sci());
        board.out(0xB2, Width::Byte, u64::from(ACPI_DISABLE));
        assert_eq!(board.word(0x604) & 1, 0);
    }

    #[test]
    fn sleep_types_off_and_suspend() {
        let board = Board::new();
        board.out(0x604, Width::Word, 0x0400);
        assert!(board.asked.lock().is_empty(), "SLP_EN not set");
        board.out(0x604, Width::Word, 0x2400);
        board.out(0x604, Width::Word, 0x2000);
        board.out(0x604, Width::Word, 0x3C00);
        assert_eq!(*board.asked.lock(), [Request::Suspend, Request::PowerOff]);
        assert_eq!(board.word(0x604) & 0x2000, 0, "SLP_EN reads as zero");
    }

    #[test]
    fn general_events_interrupt_while_enabled() {
        let board = Board::new();
        board.out(0xB2, Width::Byte, u64::from(ACPI_ENABLE));
        board.power.lock().raise_general_event(9);
        assert!(!board.sci());
        board.out(0xAFE2, Width::Word, 0x0200);
        assert!(board.sci());
        assert_eq!(board.word(0xAFE0), 0x0200);
        board.out(0xAFE0, Width::Word, 0x0200);
        assert!(!board.sci());
    }

    #[test]
    fn seabios_finds_system_management_set_up_already() {
        let board = Board::new();
        assert_eq!(board.power.lock().config_read(0x58, Width::Dword) & APM_MAKES_SMI, APM_MAKES_SMI);
    }

    #[test]
    fn an_smbus_transfer_ends_in_a_device_error() {
        let board = Board::new();
        board.power.lock().config_write(0x90, Width::Dword, 0x701);
        board.power.lock().config_write(0xD2, Width::Byte, 0x01);
        board.out(0x704, Width::Byte, 0xA1);
        board.out(0x702, Width::Byte, 0x48);
        assert_eq!(board.word(0x700) & 0xFF, 0x04);
        board.out(0x700, Width::Byte, 0x04);
        assert_eq!(board.word(0x700) & 0xFF, 0x00);
    }

    #[test]
    fn state_is_kept_with_its_windows_and_line() {
        let board = Board::new();
        board.out(0xB2, Width::Byte, u64::from(ACPI_ENABLE));
        board.out(0x602, Width::Word, pm1::POWER_BUTTON.into());
        board.power.lock().press_power_button();
        let saved = board.power.lock().save();
        board.power.lock().reset();
        assert!(!board.sci());
        assert_eq!(board.word(0x602), 0xFFFF, "not decoded after reset");
        board.power.lock().load(&saved).unwrap();
        assert!(board.sci());
        assert_eq!(board.word(0x602), u64::from(pm1::POWER_BUTTON));
    }

    #[test]
    fn contract() {
        crate::contract::check(|| {
            let (clock, alarm) = (Clock::manual(), Alarm::unconnected());
            let mut power =
                PowerManagement::unplugged(clock, alarm, Line::unconnected(), Requests::unconnected());
            power.config_write(0x40, Width::Dword, 0x601);
            power.reset();
            power
        });
    }
}
