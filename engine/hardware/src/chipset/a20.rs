//! The A20 gate and port 0x92 (PS/2 system control port A: fast A20 and fast INIT).
//!
//! Address bit 20 of the CPU passes through one gate. Port 0x92 bit 1 and the keyboard controller's
//! output port bit 1 both drive it; the one written last wins, so either can close what the other
//! opened, as on QEMU's PCs. Open at power-on, as there. Closed, each odd megabyte of RAM shows the
//! even one below it. Left out: aliasing of the ROM at the top of 4 GiB, of devices, and of RAM
//! above 64 MiB (nothing runs there with the gate closed).

use std::sync::Arc;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::access::{At, Width};
use crate::bus::WindowSpec;
use crate::device::{Device, LoadError, decode, encode};
use crate::memory::{Layer, Mapping, Memory};
use crate::requests::{Request, Requests};

/// The port of [`Port92`].
pub const PORT: u64 = 0x92;
/// The window of [`Port92`].
pub const WINDOW: WindowSpec = WindowSpec::ports(1);

const MIB: u64 = 1 << 20;
/// Where aliasing ends.
const ALIASED_END: u64 = 64 * MIB;

/// The gate: port 0x92 and the keyboard controller each hold it.
pub struct A20Gate {
    open: Mutex<bool>,
    layer: Layer,
    ram_end: u64,
}

impl A20Gate {
    /// The gate, open. Its layer must lie above all others: make it last.
    pub fn new(memory: &Arc<Memory>) -> Arc<A20Gate> {
        let ram_end = memory.low_ram_bytes().min(ALIASED_END);
        Arc::new(A20Gate { open: Mutex::new(true), layer: memory.layer(), ram_end })
    }

    /// Opens (bit 20 passes) or closes the gate.
    pub fn set(&self, open: bool) {
        let mut now = self.open.lock();
        if *now == open {
            return;
        }
        *now = open;
        self.layer.set(if open { Vec::new() } else { self.aliases() });
    }

    /// Whether bit 20 passes.
    pub fn is_open(&self) -> bool {
        *self.open.lock()
    }

    fn aliases(&self) -> Vec<Mapping> {
        (0..self.ram_end / MIB / 2)
            .map(|pair| Mapping::ram((2 * pair + 1) * MIB, (2 * pair + 2) * MIB, 2 * pair * MIB))
            .collect()
    }
}

const INIT: u8 = 1 << 0;
const A20: u8 = 1 << 1;

/// What port 0x92 keeps. The A20 bit is the gate's own state.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Chip {
    /// The byte last written, without the A20 bit.
    value: u8,
    /// The gate, as saved.
    a20: bool,
}

/// Port 0x92.
pub struct Port92 {
    chip: Chip,
    gate: Arc<A20Gate>,
    requests: Requests,
}

impl Port92 {
    /// Port 0x92, at `gate` and at the CPUs' INIT.
    pub fn new(gate: Arc<A20Gate>, requests: Requests) -> Port92 {
        Port92 { chip: Chip::default(), gate, requests }
    }
}

impl Device for Port92 {
    fn name(&self) -> &str {
        "port92"
    }

    fn read(&mut self, _at: At, _width: Width) -> u64 {
        u64::from(self.chip.value | if self.gate.is_open() { A20 } else { 0 })
    }

    fn write(&mut self, _at: At, _width: Width, value: u64) {
        let value = value as u8;
        let init = value & !self.chip.value & INIT != 0;
        self.chip.value = value & !A20;
        self.gate.set(value & A20 != 0);
        if init {
            self.requests.ask(Request::ResetCpus);
        }
    }

    fn reset(&mut self) {
        self.chip = Chip::default();
        self.gate.set(true);
    }

    fn save(&self) -> Vec<u8> {
        encode(&Chip { a20: self.gate.is_open(), ..self.chip.clone() })
    }

    fn load(&mut self, state: &[u8]) -> Result<(), LoadError> {
        self.chip = decode(self.name(), state)?;
        self.chip.value &= !A20;
        self.gate.set(self.chip.a20);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Page;

    type Asked = Arc<Mutex<Vec<Request>>>;

    fn board() -> (Arc<Memory>, Arc<A20Gate>, Port92, Asked) {
        let memory = Memory::new(4 * MIB, 0).unwrap();
        let gate = A20Gate::new(&memory);
        let asked = Arc::new(Mutex::new(Vec::new()));
        let heard = asked.clone();
        let port = Port92::new(gate.clone(), Requests::new(move |request| heard.lock().push(request)));
        (memory, gate, port, asked)
    }

    fn out(port: &mut Port92, value: u64) {
        port.write(At::new(0, 0), Width::Byte, value);
    }

    #[test]
    fn closed_the_second_megabyte_is_the_first() {
        let (memory, gate, mut port, _asked) = board();
        assert_eq!(port.read(At::new(0, 0), Width::Byte), 0x02, "open at power-on");
        out(&mut port, 0x00);
        assert_eq!(memory.page(0x10_0000), Page { read: Some(0), write: Some(0) });
        assert_eq!(memory.page(0x30_5000).read, Some(0x20_5000));
        assert_eq!(memory.page(0x20_0000).read, Some(0x20_0000));
        gate.set(true);
        assert_eq!(memory.page(0x10_0000).read, Some(0x10_0000));
        assert_eq!(port.read(At::new(0, 0), Width::Byte), 0x02, "the port shows the gate");
    }

    #[test]
    fn init_is_asked_on_the_rising_edge_only() {
        let (_memory, _gate, mut port, asked) = board();
        out(&mut port, 0x03);
        out(&mut port, 0x03);
        assert_eq!(*asked.lock(), [Request::ResetCpus]);
        out(&mut port, 0x02);
        out(&mut port, 0x03);
        assert_eq!(asked.lock().len(), 2);
    }

    #[test]
    fn the_gate_is_saved_with_the_port() {
        let (memory, gate, mut port, _asked) = board();
        out(&mut port, 0x00);
        let saved = port.save();
        port.reset();
        assert!(gate.is_open());
        port.load(&saved).unwrap();
        assert_eq!(memory.page(0x10_0000).read, Some(0));
    }

    #[test]
    fn contract() {
        crate::contract::check(|| board().2);
    }
}
