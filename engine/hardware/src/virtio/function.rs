//! A virtio device as a PCI function: what every kind of device shares. Virtio 1.2 §4.1.
//!
//! Base address register 0 decodes 32 KiB of memory: 0x0000 common configuration, 0x1000 interrupt cause,
//! 0x2000 the kind's own configuration, 0x3000 notifications (four bytes a queue), 0x4000 MSI-X table, 0x5000
//! MSI-X pending bits. Interrupts by MSI-X, or by INTA. Left out: the legacy interface (§4.1.4.10; every driver
//! of the last ten years speaks the modern one), notification data, queue reset, shared memory regions.

use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::chain::{Chain, Violation};
use super::queue::Queue;
use super::transport::{COMMON_BYTES, Effect, Transport, cause};
use crate::access::{At, Width};
use crate::bus::{Bus, WindowSpec};
use crate::device::{Device, LoadError, Shared, decode, encode, shared};
use crate::line::{Line, Messages};
use crate::memory::Memory;
use crate::pci::{BarWindows, ConfigSpace, Function, MsiX};

/// The vendor of all virtio devices; device ids are 0x1040 and the kind's number.
pub const VENDOR: u16 = 0x1AF4;
const FIRST_DEVICE_ID: u16 = 0x1040;
/// The register that decodes everything.
const BAR: usize = 0;
const BAR_BYTES: u32 = 0x8000;

/// Where things lie in it.
mod region {
    pub const COMMON: u64 = 0x0000;
    pub const CAUSE: u64 = 0x1000;
    pub const KIND: u64 = 0x2000;
    pub const NOTIFY: u64 = 0x3000;
    pub const MSIX_TABLE: u64 = 0x4000;
    pub const MSIX_PENDING: u64 = 0x5000;
}

/// Bytes from one queue's notification register to the next.
const NOTIFY_STRIDE: u64 = 4;
/// Vendor capability id, and its kinds of §4.1.4.
const VENDOR_CAPABILITY: u8 = 0x09;
const COMMON_CFG: u8 = 1;
const NOTIFY_CFG: u8 = 2;
const ISR_CFG: u8 = 3;
const DEVICE_CFG: u8 = 4;
const PCI_CFG: u8 = 5;

/// What a kind of device is to PCI and to drivers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Device type number, §5.
    pub number: u16,
    /// 24 bits: PCI base class, sub-class, programming interface.
    pub class_code: u32,
}

/// One kind of device: a block device, a balloon ... Called with the device's lock held.
pub trait Kind: Send + 'static {
    /// What it is.
    const IDENTITY: Identity;
    /// What is saved of it.
    type State: Clone + PartialEq + Serialize + DeserializeOwned;

    /// Feature bits it offers, without those of every device.
    fn features(&self) -> u64;
    /// The largest size of each of its queues.
    fn queue_sizes(&self) -> Vec<u16>;
    /// Its configuration, as the driver reads it now.
    fn config(&self) -> Vec<u8>;
    /// The driver writes its configuration. `value` has 1, 2, 4 or 8 bytes.
    fn write_config(&mut self, _offset: usize, _value: &[u8]) {}
    /// The driver says that there is something in `queue`, or there may be, for the driver just got ready.
    fn notified(&mut self, queue: u16, io: &mut Io) -> Result<(), Violation>;
    /// Guest time has come to where the kind asked to be called, or its alarm was set by someone else.
    fn advance(&mut self, _io: &mut Io) -> Result<(), Violation> {
        Ok(())
    }
    /// Back to power-on. What was given to it by the host stays.
    fn reset(&mut self);
    /// Whether nothing of what the driver asked is still being done elsewhere.
    fn is_idle(&self) -> bool {
        true
    }
    /// What is to be saved.
    fn state(&self) -> Self::State;
    /// Takes a saved state over, or says why not; then nothing has changed.
    fn set_state(&mut self, state: Self::State) -> Result<(), &'static str>;
}

/// What a kind works on while it is called: guest memory and its queues.
pub struct Io<'a> {
    /// Guest memory.
    pub memory: &'a Arc<Memory>,
    queues: &'a mut [Queue],
    features: u64,
    live: bool,
    config_changed: bool,
}

impl Io<'_> {
    /// The features agreed on.
    pub fn has(&self, feature: u64) -> bool {
        self.features & feature != 0
    }

    /// Whether a driver is at work.
    pub fn is_live(&self) -> bool {
        self.live
    }

    /// Takes the next chain of `queue`.
    pub fn take(&mut self, queue: u16) -> Result<Option<Chain>, Violation> {
        match self.queues.get_mut(usize::from(queue)).filter(|_| self.live) {
            Some(queue) => queue.take(self.memory),
            None => Ok(None),
        }
    }

    /// Leaves the last `count` chains taken from `queue` with the driver after all.
    pub fn put_back(&mut self, queue: u16, count: u16) {
        if let Some(queue) = self.queues.get_mut(usize::from(queue)).filter(|_| self.live) {
            queue.put_back(count);
        }
    }

    /// Gives the chain at `head` of `queue` back, with `written` bytes written.
    pub fn give_back(&mut self, queue: u16, head: u16, written: u32) {
        if let Some(queue) = self.queues.get_mut(usize::from(queue)).filter(|_| self.live) {
            queue.give_back(self.memory, head, written);
        }
    }

    /// The driver is to be told that the configuration changed.
    pub fn config_changed(&mut self) {
        self.config_changed = true;
    }
}

/// The registers of PCI and of the transport.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Chip {
    config: ConfigSpace,
    msix: MsiX,
    transport: Transport,
    /// The driver asked for a reset, and what it had asked for before is still being done.
    resetting: bool,
}

#[derive(Serialize, Deserialize)]
struct Saved<S> {
    chip: Chip,
    kind: S,
}

/// A virtio device on the board.
pub struct VirtioPci<K: Kind> {
    name: String,
    kind: K,
    chip: Chip,
    /// Offset of the capability that reaches the memory through configuration space.
    pci_access: u8,
    memory: Arc<Memory>,
    line: Line,
    messages: Messages,
    windows: BarWindows,
    violation: Option<Violation>,
}

impl<K: Kind> VirtioPci<K> {
    /// A device on no bus, called `name`. `line` is its INTA.
    pub fn new(name: &str, kind: K, memory: Arc<Memory>, line: Line, messages: Messages) -> VirtioPci<K> {
        let transport = Transport::new(kind.features(), &kind.queue_sizes());
        let (config, msix, pci_access) = configuration(K::IDENTITY, &kind);
        let chip = Chip { config, msix, transport, resetting: false };
        let windows = BarWindows::unconnected();
        VirtioPci {
            name: name.to_owned(),
            kind,
            chip,
            pci_access,
            memory,
            line,
            messages,
            windows,
            violation: None,
        }
    }

    /// Puts it on `bus`. Its PCI function goes to the root by `Root::attach`.
    pub fn install(self, bus: &Arc<Bus>) -> Shared<VirtioPci<K>> {
        let device = shared(self);
        let spec = WindowSpec::memory(BAR_BYTES.into(), Width::Dword);
        let window = bus.add(&device, 0, spec, None);
        let mut windows = BarWindows::new(bus.clone());
        windows.add(BAR, 0, window);
        let mut locked = device.lock();
        windows.follow(&locked.chip.config);
        locked.windows = windows;
        drop(locked);
        device
    }

    /// The kind of device behind the transport.
    pub fn kind(&self) -> &K {
        &self.kind
    }

    /// Whether a driver is at work.
    pub fn is_live(&self) -> bool {
        self.chip.transport.is_live()
    }

    /// The features the driver and the device agreed on.
    pub fn features(&self) -> u64 {
        self.chip.transport.features()
    }

    /// What the driver did wrong last, for the inspector: the device needs a reset since.
    pub fn violation(&self) -> Option<Violation> {
        self.violation
    }

    /// The host's side acts on the device: `act` may use the queues, and the driver is told.
    pub fn with<R>(&mut self, act: impl FnOnce(&mut K, &mut Io) -> Result<R, Violation>) -> Option<R> {
        let result = self.enter(act);
        self.settle();
        result
    }

    fn enter<R>(&mut self, act: impl FnOnce(&mut K, &mut Io) -> Result<R, Violation>) -> Option<R> {
        let live = self.chip.transport.is_live() && !self.chip.resetting;
        let features = self.chip.transport.features();
        let queues = &mut self.chip.transport.queues;
        let mut io = Io { memory: &self.memory, queues, features, live, config_changed: false };
        let result = act(&mut self.kind, &mut io);
        if io.config_changed {
            self.chip.transport.next_generation();
            if live {
                self.interrupt(self.chip.transport.config_vector(), cause::CONFIG);
            }
        }
        match result {
            Ok(result) => Some(result),
            Err(violation) => {
                self.fail(violation);
                None
            }
        }
    }

    /// The device needs a reset, §2.1.2.
    fn fail(&mut self, violation: Violation) {
        self.violation = Some(violation);
        if self.chip.transport.fail() {
            self.interrupt(self.chip.transport.config_vector(), cause::CONFIG);
        }
    }

    fn interrupt(&mut self, vector: u16, cause: u8) {
        if self.chip.msix.is_enabled(&self.chip.config) {
            self.chip.msix.raise(vector);
        } else {
            self.chip.transport.add_cause(cause);
        }
    }

    /// Derives all outputs from the state: a reset that can end, interrupts of queues, messages, the line.
    fn settle(&mut self) {
        if self.chip.resetting && self.kind.is_idle() {
            self.reset_by_driver();
        }
        for n in 0..self.chip.transport.queues.len() {
            let queue = &mut self.chip.transport.queues[n];
            let vector = queue.vector;
            if queue.wants_interrupt(&self.memory) {
                self.interrupt(vector, cause::QUEUE);
            }
        }
        let Chip { config, msix, transport, .. } = &mut self.chip;
        msix.send(config, self.messages.port());
        let by_pin = !msix.is_enabled(config) && !config.interrupts_disabled();
        self.line.set(by_pin && transport.has_cause());
    }

    fn reset_by_driver(&mut self) {
        self.chip.resetting = false;
        self.chip.transport.reset();
        self.kind.reset();
        self.violation = None;
    }

    fn write_common(&mut self, offset: u64, width: Width, value: u64) {
        if self.chip.resetting {
            return;
        }
        let vectors = self.chip.msix.vectors();
        match self.chip.transport.write(offset, width, value, vectors, &self.memory) {
            Effect::None => {}
            // What a driver says before it is ready is not heard, but what it has offered by then counts.
            Effect::Start => {
                let queues = self.chip.transport.queues.len() as u16;
                self.enter(|kind, io| (0..queues).try_for_each(|queue| kind.notified(queue, io)));
            }
            // The status reads as before until `settle` finds the device idle: only then may the driver use
            // the memory of its rings for something else, §4.1.4.3.1.
            Effect::Reset => self.chip.resetting = true,
            Effect::Wrong(violation) => self.fail(violation),
        }
    }

    fn read_kind(&self, offset: u64, width: Width) -> u64 {
        let config = self.kind.config();
        (0..width.bytes()).fold(0, |value, n| {
            let byte = config.get((offset + n) as usize).copied().unwrap_or(0);
            value | u64::from(byte) << (8 * n)
        })
    }

    fn read_memory(&mut self, offset: u64, width: Width) -> u64 {
        match offset & !0xFFF {
            region::COMMON => self.chip.transport.read(offset, width),
            region::CAUSE if offset == region::CAUSE => self.chip.transport.take_cause().into(),
            region::KIND => self.read_kind(offset - region::KIND, width),
            region::MSIX_TABLE => self.chip.msix.read_table(offset - region::MSIX_TABLE, width),
            region::MSIX_PENDING => self.chip.msix.read_pending(offset - region::MSIX_PENDING, width),
            _ => 0,
        }
    }

    fn write_memory(&mut self, offset: u64, width: Width, value: u64) {
        match offset & !0xFFF {
            region::COMMON => self.write_common(offset, width, value),
            region::KIND => {
                let bytes = value.to_le_bytes();
                let offset = (offset - region::KIND) as usize;
                self.kind.write_config(offset, &bytes[..width.bytes() as usize]);
            }
            region::NOTIFY => {
                let queue = (offset - region::NOTIFY) / NOTIFY_STRIDE;
                if queue < self.chip.transport.queues.len() as u64 {
                    self.enter(|kind, io| kind.notified(queue as u16, io));
                }
            }
            region::MSIX_TABLE => self.chip.msix.write_table(offset - region::MSIX_TABLE, width, value),
            _ => {}
        }
    }

    /// The access that the PCI configuration access capability describes, §4.1.4.9.
    fn indirect_access(&self) -> Option<(u64, Width)> {
        let config = &self.chip.config;
        let width = Width::from_bytes(config.dword(self.pci_access + 12) as usize)?;
        let offset = u64::from(config.dword(self.pci_access + 8));
        let good = config.byte(self.pci_access + 4) == BAR as u8
            && width <= Width::Dword
            && offset.is_multiple_of(width.bytes())
            && offset < u64::from(BAR_BYTES);
        good.then_some((offset, width))
    }

    fn touches_data(&self, offset: u8) -> bool {
        (self.pci_access + 16..self.pci_access + 20).contains(&offset)
    }
}

/// Configuration space, MSI-X, and where the configuration access capability is.
fn configuration(identity: Identity, kind: &impl Kind) -> (ConfigSpace, MsiX, u8) {
    let queues = kind.queue_sizes().len();
    let device = FIRST_DEVICE_ID + identity.number;
    let mut config = ConfigSpace::new(VENDOR, device, identity.class_code, 1)
        .subsystem(VENDOR, 0x40 + identity.number)
        .interrupt_pin(1)
        .bar_memory(BAR, BAR_BYTES, false);
    let mut add = |kind: u8, offset: u64, length: u64, more: &[u8]| {
        let mut body = vec![16 + more.len() as u8, kind, BAR as u8, 0, 0, 0];
        body.extend((offset as u32).to_le_bytes());
        body.extend((length as u32).to_le_bytes());
        body.extend(more);
        config.add_capability(VENDOR_CAPABILITY, &body)
    };
    add(COMMON_CFG, region::COMMON, COMMON_BYTES, &[]);
    add(ISR_CFG, region::CAUSE, 1, &[]);
    if !kind.config().is_empty() {
        add(DEVICE_CFG, region::KIND, 0x1000, &[]);
    }
    let notify = NOTIFY_STRIDE * queues as u64;
    add(NOTIFY_CFG, region::NOTIFY, notify, &(NOTIFY_STRIDE as u32).to_le_bytes());
    let pci_access = add(PCI_CFG, 0, 0, &[0; 4]);
    config.set_byte_writable(pci_access + 4, 0xFF);
    for field in [8, 12, 16] {
        config.set_writable(pci_access + field, u32::MAX);
    }
    // One vector for configuration changes, one a queue.
    let (table, pending) = (region::MSIX_TABLE as u32, region::MSIX_PENDING as u32);
    let msix = MsiX::new(queues + 1, &mut config, BAR as u8, table, pending);
    (config, msix, pci_access)
}

impl<K: Kind> Device for VirtioPci<K> {
    fn name(&self) -> &str {
        &self.name
    }

    fn read(&mut self, at: At, width: Width) -> u64 {
        if at.window != 0 {
            return width.ones();
        }
        let value = self.read_memory(at.offset, width);
        self.settle();
        value
    }

    fn write(&mut self, at: At, width: Width, value: u64) {
        if at.window != 0 {
            return;
        }
        self.write_memory(at.offset, width, value);
        self.settle();
    }

    fn reset(&mut self) {
        (self.chip.config, self.chip.msix, _) = configuration(K::IDENTITY, &self.kind);
        self.reset_by_driver();
        self.windows.follow(&self.chip.config);
        self.settle();
    }

    fn advance(&mut self) {
        self.enter(K::advance);
        self.settle();
    }

    fn save(&self) -> Vec<u8> {
        encode(&Saved { chip: self.chip.clone(), kind: self.kind.state() })
    }

    fn load(&mut self, state: &[u8]) -> Result<(), LoadError> {
        let refused = |reason: &str| LoadError { device: self.name.clone(), reason: reason.to_owned() };
        let Saved::<K::State> { chip, kind } = decode(&self.name, state)?;
        if !self.kind.is_idle() {
            return Err(refused("the device is still at work; drain it first"));
        }
        if !chip.config.same_shape(&self.chip.config)
            || !chip.msix.is_valid(&self.chip.msix)
            || !chip.transport.is_valid(&self.chip.transport, &self.memory)
        {
            return Err(refused("it is of another device, or damaged"));
        }
        self.kind.set_state(kind).map_err(refused)?;
        self.chip = chip;
        self.violation = None;
        self.windows.follow(&self.chip.config);
        self.settle();
        Ok(())
    }
}

impl<K: Kind> Function for VirtioPci<K> {
    fn config_read(&mut self, offset: u8, width: Width) -> u32 {
        if self.touches_data(offset)
            && let Some((at, part)) = self.indirect_access()
        {
            let value = self.read_memory(at, part) as u32;
            self.chip.config.set_dword(self.pci_access + 16, value);
            self.settle();
        }
        self.chip.config.read(offset, width)
    }

    fn config_write(&mut self, offset: u8, width: Width, value: u32) {
        self.chip.config.write(offset, width, value);
        if self.touches_data(offset)
            && let Some((at, part)) = self.indirect_access()
        {
            let value = u64::from(self.chip.config.dword(self.pci_access + 16)) & part.ones();
            self.write_memory(at, part, value);
        }
        self.windows.follow(&self.chip.config);
        self.settle();
    }
}

#[cfg(test)]
#[path = "function_tests.rs"]
mod tests;
