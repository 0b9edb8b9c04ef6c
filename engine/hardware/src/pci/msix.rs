//! MSI-X of one PCI function: the vector table, the pending bits, and who may send what.
//!
//! PCI Local Bus Specification 3.0, §6.8.2. Left out: messages to addresses that are no local APIC's
//! (a device could write RAM by them); they are dropped by the [`MessagePort`].

use serde::{Deserialize, Serialize};

use crate::access::Width;
use crate::line::MessagePort;
use crate::pci::ConfigSpace;

/// Capability id, PCI 3.0 appendix H.
const CAPABILITY: u8 = 0x11;
/// Message control bits, §6.8.2.3.
const ENABLE: u16 = 1 << 15;
const FUNCTION_MASK: u16 = 1 << 14;
/// Vector control: this vector is masked, §6.8.2.9.
const MASKED: u32 = 1;
/// Bytes of one entry of the table.
const ENTRY_BYTES: u64 = 16;
/// The most vectors a function here has: their pending bits are one qword.
pub const MAX_VECTORS: usize = 64;

/// One entry of the table: message address, upper address, data, vector control.
type Entry = [u32; 4];

/// The table and the pending bits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MsiX {
    entries: Vec<Entry>,
    pending: u64,
    capability: u8,
}

impl MsiX {
    /// `vectors` entries, all masked; adds the capability to `config`. The table lies at `table` and the
    /// pending bits at `pending` in what base address register `bar` decodes.
    pub fn new(vectors: usize, config: &mut ConfigSpace, bar: u8, table: u32, pending: u32) -> MsiX {
        assert!((1..=MAX_VECTORS).contains(&vectors) && (table | pending).is_multiple_of(8) && bar < 6);
        let mut body = Vec::with_capacity(10);
        body.extend((vectors as u16 - 1).to_le_bytes());
        body.extend((table | u32::from(bar)).to_le_bytes());
        body.extend((pending | u32::from(bar)).to_le_bytes());
        let capability = config.add_capability(CAPABILITY, &body);
        config.set_byte_writable(capability + 3, ((ENABLE | FUNCTION_MASK) >> 8) as u8);
        MsiX { entries: vec![[0, 0, 0, MASKED]; vectors], pending: 0, capability }
    }

    /// Number of vectors.
    pub fn vectors(&self) -> usize {
        self.entries.len()
    }

    /// Whether the function interrupts by messages rather than by its pin.
    pub fn is_enabled(&self, config: &ConfigSpace) -> bool {
        self.control(config) & ENABLE != 0
    }

    fn control(&self, config: &ConfigSpace) -> u16 {
        config.word(self.capability + 2)
    }

    /// A guest reads the table.
    pub fn read_table(&self, offset: u64, width: Width) -> u64 {
        let dword = |at: u64| match self.entries.get((at / ENTRY_BYTES) as usize) {
            Some(entry) => u64::from(entry[(at % ENTRY_BYTES / 4) as usize]),
            None => 0,
        };
        let aligned = offset & !3;
        let value = dword(aligned) | dword(aligned + 4) << 32;
        value >> (8 * (offset - aligned)) & width.ones()
    }

    /// A guest writes the table: aligned dwords and qwords, as §6.8.2 demands; others have no effect.
    pub fn write_table(&mut self, offset: u64, width: Width, value: u64) {
        if width < Width::Dword || !offset.is_multiple_of(width.bytes()) {
            return;
        }
        for n in 0..width.bytes() / 4 {
            let at = offset + 4 * n;
            if let Some(entry) = self.entries.get_mut((at / ENTRY_BYTES) as usize) {
                let field = (at % ENTRY_BYTES / 4) as usize;
                let writable = [!3, u32::MAX, u32::MAX, MASKED][field];
                entry[field] = (value >> (32 * n)) as u32 & writable;
            }
        }
    }

    /// A guest reads the pending bits.
    pub fn read_pending(&self, offset: u64, width: Width) -> u64 {
        if offset >= 8 { 0 } else { self.pending >> (8 * offset) & width.ones() }
    }

    /// The function wants to interrupt by `vector`. It is sent by the next [`MsiX::send`] that may.
    pub fn raise(&mut self, vector: u16) {
        if usize::from(vector) < self.entries.len() {
            self.pending |= 1 << vector;
        }
    }

    /// Sends what is pending and not masked. While MSI-X is off nothing can be pending.
    pub fn send(&mut self, config: &ConfigSpace, port: &dyn MessagePort) {
        let control = self.control(config);
        if control & ENABLE == 0 {
            self.pending = 0;
        }
        if self.pending == 0 || control & FUNCTION_MASK != 0 {
            return;
        }
        for (vector, [low, high, data, vector_control]) in self.entries.iter().enumerate() {
            if self.pending >> vector & 1 != 0 && vector_control & MASKED == 0 {
                self.pending &= !(1 << vector);
                port.send(u64::from(*high) << 32 | u64::from(*low), *data);
            }
        }
    }

    /// Whether a loaded state fits in the place of `now`.
    pub fn is_valid(&self, now: &MsiX) -> bool {
        let beyond = u64::MAX.checked_shl(self.entries.len() as u32).unwrap_or(0);
        self.entries.len() == now.entries.len()
            && self.capability == now.capability
            && self.pending & beyond == 0
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::line::testing::SentMessages;

    fn function() -> (ConfigSpace, MsiX, Arc<SentMessages>) {
        let mut config = ConfigSpace::new(0x1AF4, 0x1042, 0x01_0000, 1).bar_memory(0, 0x8000, false);
        let msix = MsiX::new(3, &mut config, 0, 0x4000, 0x5000);
        (config, msix, Arc::default())
    }

    fn control(config: &mut ConfigSpace, msix: &MsiX, value: u16) {
        config.write(msix.capability + 2, Width::Word, value.into());
    }

    #[test]
    fn the_capability_says_where_the_table_is() {
        let (mut config, msix, _) = function();
        let at = config.byte(0x34);
        assert_eq!(config.byte(at), 0x11);
        assert_eq!(config.word(at + 2), 2, "three vectors");
        assert_eq!((config.dword(at + 4), config.dword(at + 8)), (0x4000, 0x5000));
        control(&mut config, &msix, 0xFFFF);
        assert_eq!(config.word(at + 2), 0xC002, "only enable and mask can be written");
    }

    #[test]
    fn a_masked_vector_waits_and_is_sent_once() {
        let (mut config, mut msix, sent) = function();
        control(&mut config, &msix, ENABLE);
        msix.write_table(16, Width::Qword, 0x1_FEE0_1003);
        msix.write_table(24, Width::Dword, 0x42);
        msix.raise(1);
        msix.send(&config, &*sent);
        assert_eq!(msix.read_pending(0, Width::Qword), 2);
        msix.write_table(28, Width::Dword, 0);
        control(&mut config, &msix, ENABLE | FUNCTION_MASK);
        msix.send(&config, &*sent);
        assert!(sent.take().is_empty(), "the whole function is masked");
        control(&mut config, &msix, ENABLE);
        msix.send(&config, &*sent);
        msix.send(&config, &*sent);
        assert_eq!(sent.take(), [(0x1_FEE0_1000, 0x42)], "the low two address bits are zero");
        assert_eq!(msix.read_pending(0, Width::Byte), 0);
    }

    #[test]
    fn nothing_waits_while_it_is_off_and_unknown_vectors_are_none() {
        let (mut config, mut msix, sent) = function();
        msix.write_table(12, Width::Dword, 0);
        msix.raise(0);
        msix.raise(3);
        msix.raise(0xFFFF);
        msix.send(&config, &*sent);
        control(&mut config, &msix, ENABLE);
        msix.send(&config, &*sent);
        assert!(sent.take().is_empty());
        assert_eq!(msix.read_table(12, Width::Dword), 0);
        assert_eq!(msix.read_table(28, Width::Byte), 1);
        assert_eq!(msix.read_table(48, Width::Dword), 0, "past the end");
    }
}
