//! The ACPI tables: RSDP, RSDT, XSDT, FADT with FACS, DSDT, MADT, and HPET where there is one.
//!
//! ACPI 6.4 §5.2; the fixed hardware is the PIIX4 of `chipset/power.rs`. Addresses and checksums are
//! left to the linker/loader script, which SeaBIOS runs (or [`Tables::place`] without firmware). The
//! FADT is of revision 3 (ACPI 2.0), the newest that systems of every age take. Left out: S4,
//! docking, thermal zones.

use std::collections::BTreeMap;

use acpi_tables::fadt::{FADTBuilder, Flags, PmProfile};
use acpi_tables::gas::{AccessSize, AddressSpace, GAS};
use acpi_tables::madt::{EnabledStatus, IoApic, ProcessorLocalApic};
use acpi_tables::sdt::Sdt;
use acpi_tables::{Aml, facs::FACS};

use crate::chipset::piix3::RESET_CONTROL;
use crate::chipset::power::{ACPI_DISABLE, ACPI_ENABLE, GPE_BLOCK, GPE_BLOCK_LENGTH, SMI_COMMAND};
use crate::firmware::dsdt;
use crate::firmware::fw_cfg::FwCfg;
use crate::firmware::loader::{Script, Zone};
use crate::layout::{PM_BASE, address, irq};
use crate::timers::hpet;

/// The file with all tables but the RSDP.
pub const TABLES_FILE: &str = "etc/acpi/tables";
/// The file with the RSDP.
pub const RSDP_FILE: &str = "etc/acpi/rsdp";
/// The file with the script.
pub const LOADER_FILE: &str = "etc/table-loader";

const OEM: [u8; 6] = *b"VITRIN";
const OEM_TABLE: [u8; 8] = *b"VITRINPC";
const HEADER_BYTES: usize = 36;
const CHECKSUM: usize = 9;
/// Length of a FADT of revision 3, ACPI 2.0 table 5-8.
const FADT_BYTES: usize = 244;
const RSDP_BYTES: usize = 36;

/// What the tables say of the board.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Board {
    /// CPUs, at least one; local APIC ids count from 0.
    pub cpus: u8,
    /// RAM below 4 GiB.
    pub low_ram_bytes: u64,
    /// Serial ports: 0, 1 or 2.
    pub serial_ports: u8,
    /// Whether there is a floppy controller.
    pub floppy: bool,
    /// Whether the machine can suspend to RAM (S3).
    pub suspend: bool,
    /// Whether there is an HPET.
    pub hpet: bool,
}

impl Board {
    /// Where base address registers may place memory, as SeaBIOS decides it: start and end.
    pub fn pci_window(&self) -> (u64, u64) {
        let start = if self.low_ram_bytes <= 0x8000_0000 { 0x8000_0000 } else { address::LOW_RAM_END };
        (start, address::PCI_WINDOW_END)
    }
}

/// The files for the firmware.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tables {
    /// All tables but the RSDP, in one file.
    pub tables: Vec<u8>,
    /// The root pointer.
    pub rsdp: Vec<u8>,
    /// How to link them.
    pub script: Script,
}

impl Tables {
    /// The tables of `board`.
    pub fn new(board: &Board) -> Tables {
        Builder::default().build(board)
    }

    /// Gives the files to the firmware.
    pub fn give_to(&self, firmware: &mut FwCfg) {
        firmware.add_file(TABLES_FILE, self.tables.clone());
        firmware.add_file(RSDP_FILE, self.rsdp.clone());
        firmware.add_file(LOADER_FILE, self.script.encode());
    }

    /// Links the tables for address `tables_at` (a multiple of 64): the finished tables and RSDP.
    pub fn place(&self, tables_at: u32, rsdp_at: u32) -> (Vec<u8>, Vec<u8>) {
        let mut files = BTreeMap::from([
            (TABLES_FILE.to_owned(), (tables_at, self.tables.clone())),
            (RSDP_FILE.to_owned(), (rsdp_at, self.rsdp.clone())),
        ]);
        self.script.place(&mut files);
        let mut take = |name| files.remove(name).expect("both files are there").1;
        (take(TABLES_FILE), take(RSDP_FILE))
    }
}

#[derive(Default)]
struct Builder {
    tables: Vec<u8>,
    script: Script,
}

impl Builder {
    fn build(mut self, board: &Board) -> Tables {
        self.script.allocate(RSDP_FILE, 16, Zone::FSegment);
        self.script.allocate(TABLES_FILE, 64, Zone::High);
        let mut facs = Vec::new();
        FACS::new().to_aml_bytes(&mut facs);
        let facs = self.append(&facs);
        let dsdt = self.table(*b"DSDT", 2, &dsdt::body(board));
        let fadt = self.append(&fadt());
        for (field, bytes, target) in [(36, 4, facs), (40, 4, dsdt), (140, 8, dsdt)] {
            self.point(fadt + field, bytes, target);
        }
        self.sum(fadt, FADT_BYTES);
        let madt = self.table(*b"APIC", 1, &madt_body(board));
        let hpet = board.hpet.then(|| self.table(*b"HPET", 1, &hpet_body()));
        let listed: Vec<usize> = [fadt, madt].into_iter().chain(hpet).collect();
        let rsdt = self.append_unsummed(*b"RSDT", &vec![0; 4 * listed.len()]);
        let xsdt = self.append_unsummed(*b"XSDT", &vec![0; 8 * listed.len()]);
        for (n, table) in listed.iter().enumerate() {
            self.point(rsdt + HEADER_BYTES + 4 * n, 4, *table);
            self.point(xsdt + HEADER_BYTES + 8 * n, 8, *table);
        }
        self.sum(rsdt, HEADER_BYTES + 4 * listed.len());
        self.sum(xsdt, HEADER_BYTES + 8 * listed.len());
        let rsdp = self.rsdp(rsdt, xsdt);
        Tables { tables: self.tables, rsdp, script: self.script }
    }

    /// Appends a finished table; gives its offset.
    fn append(&mut self, table: &[u8]) -> usize {
        self.tables.resize(self.tables.len().next_multiple_of(8), 0);
        let offset = self.tables.len();
        self.tables.extend_from_slice(table);
        offset
    }

    fn append_unsummed(&mut self, signature: [u8; 4], body: &[u8]) -> usize {
        let mut table = Sdt::new(signature, HEADER_BYTES as u32, 1, OEM, OEM_TABLE, 1);
        table.append_slice(body);
        self.append(table.as_slice())
    }

    /// Appends a table that needs no linking.
    fn table(&mut self, signature: [u8; 4], revision: u8, body: &[u8]) -> usize {
        let mut table = Sdt::new(signature, HEADER_BYTES as u32, revision, OEM, OEM_TABLE, 1);
        table.append_slice(body);
        self.append(table.as_slice())
    }

    /// Makes the field at `offset` point to the table at `target`.
    fn point(&mut self, offset: usize, bytes: usize, target: usize) {
        let target = (target as u64).to_le_bytes();
        self.tables[offset..offset + bytes].copy_from_slice(&target[..bytes]);
        self.script.add_pointer(TABLES_FILE, TABLES_FILE, offset, bytes as u8);
    }

    fn sum(&mut self, table: usize, length: usize) {
        self.script.add_checksum(TABLES_FILE, table + CHECKSUM, table, length);
    }

    /// §5.2.5.3.
    fn rsdp(&mut self, rsdt: usize, xsdt: usize) -> Vec<u8> {
        let mut rsdp = Vec::with_capacity(RSDP_BYTES);
        rsdp.extend_from_slice(b"RSD PTR \0");
        rsdp.extend_from_slice(&OEM);
        rsdp.push(2);
        rsdp.extend_from_slice(&(rsdt as u32).to_le_bytes());
        rsdp.extend_from_slice(&(RSDP_BYTES as u32).to_le_bytes());
        rsdp.extend_from_slice(&(xsdt as u64).to_le_bytes());
        rsdp.extend_from_slice(&[0; 4]);
        self.script.add_pointer(RSDP_FILE, TABLES_FILE, 16, 4);
        self.script.add_pointer(RSDP_FILE, TABLES_FILE, 24, 8);
        self.script.add_checksum(RSDP_FILE, 8, 0, 20);
        self.script.add_checksum(RSDP_FILE, 32, 0, RSDP_BYTES);
        rsdp
    }
}

/// §5.2.9.
fn fadt() -> Vec<u8> {
    let base = u32::from(PM_BASE);
    let io = |bits, size, port: u32| GAS::new(AddressSpace::SystemIo, bits, 0, size, port.into());
    let mut fadt = FADTBuilder::new(OEM, OEM_TABLE, 1)
        .preferred_pm_profile(PmProfile::Desktop)
        .gpe_info(GPE_BLOCK.into(), 0, GPE_BLOCK_LENGTH, 0, 0)
        .flag(Flags::Wbinvd)
        .flag(Flags::ProcC1)
        .flag(Flags::SlpButton)
        .flag(Flags::FixRtc)
        .flag(Flags::ResetRegSup);
    fadt.length = (FADT_BYTES as u32).into();
    fadt.major_version = 3;
    fadt.sci_int = (irq::SCI as u16).into();
    fadt.smi_cmd = u32::from(SMI_COMMAND).into();
    fadt.acpi_enable = ACPI_ENABLE;
    fadt.acpi_disable = ACPI_DISABLE;
    fadt.pm1a_evt_blk = base.into();
    fadt.pm1a_cnt_blk = (base + 4).into();
    fadt.pm_tmr_blk = (base + 8).into();
    fadt.pm1_evt_len = 4;
    fadt.pm1_cnt_len = 2;
    fadt.pm_tmr_len = 4;
    fadt.p_lvl2_lat = 0xFFF.into(); // no C2
    fadt.p_lvl3_lat = 0xFFF.into(); // no C3
    fadt.century = 0x32;
    fadt.iapc_boot_arch = 0x0003.into(); // ISA devices, and an 8042
    fadt.reset_reg = io(8, AccessSize::ByteAccess, RESET_CONTROL as u32);
    fadt.reset_value = 0x06;
    fadt.x_pm1a_evt_blk = io(32, AccessSize::WordAccess, base);
    fadt.x_pm1a_cnt_blk = io(16, AccessSize::WordAccess, base + 4);
    fadt.x_pm_tmr_blk = io(32, AccessSize::DwordAccess, base + 8);
    fadt.x_gpe0_blk = io(8 * GPE_BLOCK_LENGTH, AccessSize::ByteAccess, GPE_BLOCK.into());
    let mut bytes = Vec::new();
    fadt.finalize().to_aml_bytes(&mut bytes);
    bytes.truncate(FADT_BYTES);
    bytes
}

/// §5.2.12, after the header.
fn madt_body(board: &Board) -> Vec<u8> {
    let mut body = (address::LOCAL_APIC as u32).to_le_bytes().to_vec();
    body.extend_from_slice(&1u32.to_le_bytes()); // PCAT_COMPAT: there are 8259s too
    for id in 0..board.cpus {
        ProcessorLocalApic::new(id, id, EnabledStatus::Enabled).to_aml_bytes(&mut body);
    }
    IoApic::new(0, address::IOAPIC as u32, 0).to_aml_bytes(&mut body);
    // §5.2.12.5: the 8254 is input 2; SCI and PCI lines are active high and level-triggered.
    let mut overridden = |isa: u8, input: u32, flags: u16| {
        body.extend_from_slice(&[2, 10, 0, isa]);
        body.extend_from_slice(&input.to_le_bytes());
        body.extend_from_slice(&flags.to_le_bytes());
    };
    overridden(0, 2, 0);
    let mut level = dsdt::PCI_LINES.to_vec();
    level.push(irq::SCI);
    level.sort_unstable();
    for line in level {
        overridden(line as u8, line, 0x000D);
    }
    // §5.2.12.7: NMI is LINT1 of every CPU.
    body.extend_from_slice(&[4, 6, 0xFF, 0, 0, 1]);
    body
}

/// IA-PC HPET Specification 1.0a, §3.2.4, after the header: the only event timer block.
fn hpet_body() -> Vec<u8> {
    let mut body = hpet::block_id(true).to_le_bytes().to_vec();
    body.extend_from_slice(&[0, 64, 0, 0]); // a memory address of a block 64 bits wide
    body.extend_from_slice(&address::HPET.to_le_bytes());
    body.push(0);
    body.extend_from_slice(&hpet::SHORTEST_WAKE_TICKS.to_le_bytes());
    body.push(0); // what else lies on its page is not protected
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOARD: Board =
        Board { cpus: 2, low_ram_bytes: 512 << 20, serial_ports: 2, floppy: true, suspend: true, hpet: true };
    const AT: u32 = 0x1FFE_0000;

    fn sum(bytes: &[u8]) -> u8 {
        bytes.iter().fold(0, |sum: u8, byte| sum.wrapping_add(*byte))
    }

    fn dword(bytes: &[u8], at: usize) -> u32 {
        u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
    }

    /// The table that a pointer names.
    fn table(tables: &[u8], pointer: u32) -> &[u8] {
        let rest = &tables[(pointer - AT) as usize..];
        &rest[..dword(rest, 4) as usize]
    }

    #[test]
    fn a_system_finds_every_table_and_every_sum_is_zero() {
        let (tables, rsdp) = Tables::new(&BOARD).place(AT, 0xF_5000);
        assert_eq!((&rsdp[..8], sum(&rsdp[..20]), sum(&rsdp)), (&b"RSD PTR "[..], 0, 0));
        let rsdt = table(&tables, dword(&rsdp, 16));
        let xsdt = table(&tables, dword(&rsdp, 24));
        assert_eq!((&rsdt[..4], &xsdt[..4]), (&b"RSDT"[..], &b"XSDT"[..]));
        assert_eq!((sum(rsdt), sum(xsdt)), (0, 0));
        let entries: Vec<u32> = rsdt[36..].chunks(4).map(|entry| dword(entry, 0)).collect();
        let wide: Vec<u32> = xsdt[36..].chunks(8).map(|entry| dword(entry, 0)).collect();
        assert_eq!(entries, wide);
        let names: Vec<&[u8]> = entries.iter().map(|entry| &table(&tables, *entry)[..4]).collect();
        assert_eq!(names, [b"FACP", b"APIC", b"HPET"]);
        for entry in entries {
            assert_eq!(sum(table(&tables, entry)), 0);
        }
    }

    #[test]
    fn the_fadt_names_the_fixed_hardware() {
        let (tables, rsdp) = Tables::new(&BOARD).place(AT, 0xF_5000);
        let fadt = table(&tables, dword(table(&tables, dword(&rsdp, 16)), 36));
        let facs = table(&tables, dword(fadt, 36));
        let dsdt = table(&tables, dword(fadt, 40));
        assert_eq!((&facs[..4], &dsdt[..4], sum(dsdt)), (&b"FACS"[..], &b"DSDT"[..], 0));
        assert!((dword(fadt, 36)).is_multiple_of(64), "a FACS lies on 64 bytes");
        assert_eq!(dword(fadt, 140), dword(fadt, 40), "X_DSDT");
        assert_eq!((fadt[8], fadt[46], fadt[48], fadt[52], fadt[53]), (3, 9, 0xB2, 0xF1, 0xF0));
        assert_eq!((dword(fadt, 56), dword(fadt, 64), dword(fadt, 76)), (0x600, 0x604, 0x608));
        assert_eq!((dword(fadt, 80), fadt[92]), (0xAFE0, 4));
        assert_eq!((fadt[116], dword(fadt, 120), fadt[128]), (1, 0xCF9, 0x06));
    }

    #[test]
    fn the_madt_lists_cpus_and_overrides() {
        let body = madt_body(&BOARD);
        assert_eq!(dword(&body, 0), 0xFEE0_0000);
        assert_eq!(body[8..16], [0, 8, 0, 0, 1, 0, 0, 0]);
        assert_eq!(body[16..24], [0, 8, 1, 1, 1, 0, 0, 0]);
        assert_eq!(body[36..46], [2, 10, 0, 0, 2, 0, 0, 0, 0, 0]);
        let overrides: Vec<(u8, u8)> = body[46..86].chunks(10).map(|entry| (entry[3], entry[8])).collect();
        assert_eq!(overrides, [(5, 0xD), (9, 0xD), (10, 0xD), (11, 0xD)]);
    }

    #[test]
    fn the_hpet_table_says_where_it_is() {
        let (tables, rsdp) = Tables::new(&BOARD).place(AT, 0xF_5000);
        let rsdt = table(&tables, dword(&rsdp, 16));
        let hpet = table(&tables, dword(rsdt, 44));
        assert_eq!((hpet.len(), dword(hpet, 36), hpet[40]), (56, 0x8086_A201, 0));
        assert_eq!((dword(hpet, 44), dword(hpet, 48)), (0xFED0_0000, 0));
        assert_eq!(hpet[52..], [0, 0xD0, 0x07, 0], "number 0, 2000 ticks");
        let without = Tables::new(&Board { hpet: false, ..BOARD });
        assert!(!without.tables.windows(4).any(|bytes| bytes == b"HPET"));
    }

    #[test]
    fn the_dsdt_says_what_is_there_and_not_more() {
        let has = |board: &Board, name: &[u8]| dsdt::body(board).windows(name.len()).any(|part| part == name);
        let keyboard = [0x41, 0xD0, 0x03, 0x03]; // EISA id PNP0303: SeaBIOS looks for it
        assert!(
            has(&BOARD, &keyboard) && has(&BOARD, b"FDC0") && has(&BOARD, b"COM2") && has(&BOARD, b"_S3_")
        );
        let bare = Board { serial_ports: 1, floppy: false, suspend: false, hpet: false, ..BOARD };
        assert!(!has(&bare, b"FDC0") && !has(&bare, b"COM2") && !has(&bare, b"_S3_") && has(&bare, b"_S5_"));
    }
}
