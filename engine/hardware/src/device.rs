//! What every device is to the bus, to the clock and to saved state.

use std::sync::Arc;

use parking_lot::Mutex;
use serde::{Serialize, de::DeserializeOwned};

use crate::access::{At, Width};

/// A device on the board: an adapter around a chip.
///
/// Every method is called with the device's lock held, from any thread. Guest input must never panic
/// and never make memory grow without bound.
pub trait Device: Send {
    /// Short stable name: counters, saved state and the inspector use it ("8254", "8042", "ide0").
    fn name(&self) -> &str;

    /// Reads at `at`. Bits above `width` are ignored.
    fn read(&mut self, at: At, width: Width) -> u64;

    /// Writes `value` (bits above `width` are zero) at `at`.
    fn write(&mut self, at: At, width: Width, value: u64);

    /// The device as one that takes calls, if it does: see [`crate::Bus::call`].
    fn calls(&mut self) -> Option<&mut dyn Calls> {
        None
    }

    /// Back to the state of power-on; wires stay. The outputs are derived anew.
    fn reset(&mut self);

    /// An alarm of this device fired: guest time is now at least the deadline asked for.
    fn advance(&mut self) {}

    /// The chip's state, self-describing (MessagePack with field names).
    fn save(&self) -> Vec<u8>;

    /// Takes over a state made by [`Device::save`]; on error nothing has changed.
    fn load(&mut self, state: &[u8]) -> Result<(), LoadError>;
}

/// A device whose port sees the general registers of the CPU that reads it.
pub trait Calls {
    /// An IN of 32 bits: EAX, EBX, ECX and EDX before it, which become those after it.
    fn call(&mut self, registers: &mut [u32; 4]);
}

/// A saved state that does not fit the device.
#[derive(Debug, thiserror::Error)]
#[error("the saved state of {device} cannot be read: {reason}")]
pub struct LoadError {
    /// The device's name.
    pub device: String,
    /// What is wrong with the bytes.
    pub reason: String,
}

/// A device as the bus, the clock and its wires hold it.
pub type Shared<T> = Arc<Mutex<T>>;

/// Puts a device behind its lock.
pub fn shared<T>(device: T) -> Shared<T> {
    Arc::new(Mutex::new(device))
}

/// Encodes a chip's state for [`Device::save`].
pub fn encode<T: Serialize>(state: &T) -> Vec<u8> {
    rmp_serde::to_vec_named(state).expect("a chip's state is plain data")
}

/// Decodes a chip's state for [`Device::load`].
pub fn decode<T: DeserializeOwned>(device: &str, bytes: &[u8]) -> Result<T, LoadError> {
    rmp_serde::from_slice(bytes)
        .map_err(|error| LoadError { device: device.to_owned(), reason: error.to_string() })
}
