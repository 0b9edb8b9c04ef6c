//! What the board tells the firmware: the `fw_cfg` interface and the tables that go through it.

pub mod acpi;
pub mod boot;
pub mod cmos;
pub mod dsdt;
pub mod fw_cfg;
pub mod linux;
pub mod loader;
pub mod smbios;

pub use fw_cfg::FwCfg;
