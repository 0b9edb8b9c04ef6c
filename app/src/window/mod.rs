//! The window. (stub)
use std::sync::{Arc, OnceLock};
use crate::running::Running;
pub type WakerSlot = Arc<OnceLock<egui::Context>>;
pub struct Launched { pub machine: Arc<dyn Running>, pub waker: WakerSlot }
pub fn check_display() -> Result<(), String> { Err("there is no display; --headless".into()) }
pub fn waker(_slot: &WakerSlot) -> Arc<dyn Fn() + Send + Sync> { Arc::new(|| {}) }
pub fn close(_slot: &WakerSlot) {}
pub fn open(_launched: Option<Launched>) -> Result<u8, String> { Err("there is no display; --headless".into()) }
