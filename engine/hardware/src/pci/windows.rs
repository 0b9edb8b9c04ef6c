//! The bus windows of one PCI function, kept where its base address registers say.

use std::sync::Arc;

use crate::bus::{Bus, WindowId};
use crate::pci::ConfigSpace;

/// Windows that follow base address registers. An adapter calls [`BarWindows::follow`] after each
/// configuration write, reset and load.
#[derive(Default)]
pub struct BarWindows(Option<(Arc<Bus>, Vec<BarWindow>)>);

struct BarWindow {
    bar: usize,
    offset: u64,
    window: WindowId,
    placed: Option<u64>,
}

impl BarWindows {
    /// No window on no bus, for a device under construction and for tests.
    pub fn unconnected() -> BarWindows {
        BarWindows(None)
    }

    /// No window yet, on `bus`.
    pub fn new(bus: Arc<Bus>) -> BarWindows {
        BarWindows(Some((bus, Vec::new())))
    }

    /// Lets `window` (not placed) lie `offset` bytes into what register `bar` decodes.
    /// ([`Bus::add`] takes the device's lock: call it before taking the lock to call this.)
    pub fn add(&mut self, bar: usize, offset: u64, window: WindowId) {
        let (_, windows) = self.0.as_mut().expect("windows need a bus");
        windows.push(BarWindow { bar, offset, window, placed: None });
    }

    /// Moves what has to move.
    pub fn follow(&mut self, config: &ConfigSpace) {
        let Some((bus, windows)) = &mut self.0 else { return };
        for window in windows {
            let base = config.bar(window.bar).map(|base| base + window.offset);
            if base != window.placed {
                bus.place(window.window, base);
                window.placed = base;
            }
        }
    }
}
