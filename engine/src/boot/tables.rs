//! The tables firmware leaves below 1 MiB, for kernels that start without firmware: ACPI and SMBIOS, where
//! systems search for them (ACPI 6.4 §5.2.5.1, SMBIOS 3.4 §5.2.1). The memory there must be RAM by now.

use hardware::firmware::{acpi, smbios};

use super::{Image, Piece};

/// All ACPI tables but the root pointer.
const ACPI_TABLES: u32 = 0xE_0000;
/// The root pointer and the SMBIOS entry point, each on a 16-byte boundary of the searched 64 KiB.
const ACPI_ROOT: u32 = 0xF_0000;
const SMBIOS_ENTRY: u32 = 0xF_0040;
const SMBIOS_STRUCTURES: u32 = 0xF_1000;

/// Start and length of what a kernel must not use as plain memory: the extended BIOS data area's place,
/// and the area of these tables.
pub const RESERVED: [(u64, u64); 2] = [(0x9_FC00, 0x400), (ACPI_TABLES as u64, 0x2_0000)];

impl Image {
    /// Adds the tables of the board.
    pub fn add_tables(&mut self, acpi: &acpi::Tables, smbios: &smbios::Tables) {
        let (tables, root) = acpi.place(ACPI_TABLES, ACPI_ROOT);
        for (at, bytes) in &self.root_pointers {
            self.pieces.push(Piece::new(*at, root[..*bytes].to_vec()));
        }
        let pieces = [
            (ACPI_TABLES, tables),
            (ACPI_ROOT, root),
            (SMBIOS_ENTRY, smbios.place(SMBIOS_STRUCTURES)),
            (SMBIOS_STRUCTURES, smbios.structures.clone()),
        ];
        self.pieces.extend(pieces.map(|(at, bytes)| Piece::new(at.into(), bytes)));
    }
}
