//! The DSDT: what the operating system cannot find out by itself about the board.
//!
//! ACPI 6.4 §19. The PCI root with its windows and interrupt routes, the four routable PCI interrupt
//! links of the PIIX3, the ISA devices, the processors, and the sleep states.

use acpi_tables::aml::{
    AddressSpace, AddressSpaceCacheable, And, Arg, CreateDWordField, Device, EISAName, Field,
    FieldAccessType, FieldEntry, FieldLockRule, FieldUpdateRule, IO, If, Interrupt, Memory32Fixed, Method,
    Name, OpRegion, OpRegionSpace, Or, Package, PackageBuilder, Path, ResourceTemplate, Return, Scope, Store,
    ZERO,
};
use acpi_tables::{Aml, AmlSink};

use crate::chipset::piix3::pirq_of;
use crate::chipset::power::{SLEEP_TYPE_S3, SLEEP_TYPE_S5};
use crate::firmware::acpi::Board;
use crate::layout::{address, irq};
use crate::timers::hpet;

/// ISA lines the firmware may route PCI interrupts to.
pub const PCI_LINES: [u32; 3] = [5, 10, 11];

/// Bytes that are AML already.
struct Raw(Vec<u8>);

impl Aml for Raw {
    fn to_aml_bytes(&self, sink: &mut dyn AmlSink) {
        sink.vec(&self.0);
    }
}

fn bytes(aml: &dyn Aml) -> Vec<u8> {
    let mut bytes = Vec::new();
    aml.to_aml_bytes(&mut bytes);
    bytes
}

fn path(name: &str) -> Path {
    Path::new(name)
}

/// A port range, §19.6.64.
fn ports(first: u16, count: u8) -> Raw {
    Raw(bytes(&IO::new(first, first, 1, count)))
}

/// An edge-triggered ISA line (small IRQ descriptor without flags, §6.4.2.1).
fn line(number: u32) -> Raw {
    let mask = (1u16 << number).to_le_bytes();
    Raw(vec![0x22, mask[0], mask[1]])
}

/// An 8-bit ISA DMA channel (§6.4.2.2).
fn dma(channel: u8) -> Raw {
    Raw(vec![0x2A, 1 << channel, 0])
}

/// The body of the DSDT, after its header.
pub fn body(board: &Board) -> Vec<u8> {
    let mut body = Vec::new();
    sleep_states(board, &mut body);
    let mut devices = [pci_root(board), processors(board)].concat();
    if board.hpet {
        devices.extend(event_timer());
    }
    body.extend(Scope::raw(path("\\_SB_"), devices));
    body
}

fn sleep_states(board: &Board, body: &mut Vec<u8>) {
    let mut state = |name: &str, sleep_type: u8| {
        // PM1a and PM1b sleep types; there is no PM1b.
        let package = Package::new(vec![&sleep_type, &sleep_type, &ZERO, &ZERO]);
        Name::new(path(name), &package).to_aml_bytes(body);
    };
    if board.suspend {
        state("_S3_", SLEEP_TYPE_S3);
    }
    state("_S5_", SLEEP_TYPE_S5);
}

/// Processor objects (§19.6.108 of ACPI 5.1): every system knows these; newer ones know devices too.
fn processors(board: &Board) -> Vec<u8> {
    let mut all = Vec::new();
    for id in 0..board.cpus {
        all.extend_from_slice(&[0x5B, 0x83, 11]);
        all.extend_from_slice(format!("CP{id:02X}").as_bytes());
        all.push(id);
        all.extend_from_slice(&[0; 5]);
    }
    all
}

fn pci_root(board: &Board) -> Vec<u8> {
    let uncached = AddressSpaceCacheable::NotCacheable;
    let (start, end) = board.pci_window();
    let (start, last) = (start as u32, (end - 1) as u32);
    let video_end = address::EXPANSION_ROMS as u32 - 1;
    let buses = AddressSpace::new_bus_number(0u16, 0xFF);
    let config_ports = ports(0xCF8, 8);
    let low_ports = AddressSpace::new_io(0u16, 0x0CF7, None);
    let high_ports = AddressSpace::new_io(0x0D00u16, 0xFFFF, None);
    let video = AddressSpace::new_memory(uncached, true, address::VGA_WINDOW as u32, video_end, None);
    let window = AddressSpace::new_memory(uncached, true, start, last, None);
    let resources =
        ResourceTemplate::new(vec![&buses, &config_ports, &low_ports, &high_ports, &video, &window]);
    let mut routes = PackageBuilder::new();
    for device in 0..32u8 {
        for pin in 1..=4u8 {
            let slot = u32::from(device) << 16 | 0xFFFF;
            let link = path(LINKS[pirq_of(device, pin)]);
            routes.add_element(&Package::new(vec![&slot, &(pin - 1), &link, &ZERO]));
        }
    }
    // The links come first: the routes name them.
    let mut all: Vec<u8> = (0..4).flat_map(interrupt_link).collect();
    all.extend(bytes(&Device::new(
        path("PCI0"),
        vec![
            &Name::new(path("_HID"), &EISAName::new("PNP0A03")),
            &Name::new(path("_ADR"), &ZERO),
            &Name::new(path("_UID"), &ZERO),
            &Name::new(path("_CRS"), &resources),
            &Name::new(path("_PRT"), &routes),
            &Raw(isa_bridge(board)),
        ],
    )));
    all
}

/// The HPET, which lies beside the PCI root's windows (IA-PC HPET Specification 1.0a, §3.2.1).
fn event_timer() -> Vec<u8> {
    let registers = Memory32Fixed::new(true, address::HPET as u32, hpet::REGISTERS_BYTES as u32);
    bytes(&Device::new(
        path("HPET"),
        vec![
            &Name::new(path("_HID"), &EISAName::new("PNP0103")),
            &Name::new(path("_UID"), &ZERO),
            &Name::new(path("_CRS"), &ResourceTemplate::new(vec![&registers])),
        ],
    ))
}

const LINKS: [&str; 4] = ["LNKA", "LNKB", "LNKC", "LNKD"];

/// One PCI interrupt link: which ISA line PIRQ `n` leads to, and how to change it (§6.2.13).
fn interrupt_link(n: usize) -> Vec<u8> {
    let register = path(&format!("\\_SB_.PCI0.ISA_.PRQ{n}"));
    let off = 0x80u8;
    // Extended interrupt: consumer, level, active high, shared; 3 lines to choose from.
    let mut choice = vec![0x89, 2 + 4 * PCI_LINES.len() as u8, 0, 0x09, PCI_LINES.len() as u8];
    choice.extend(PCI_LINES.iter().flat_map(|line| line.to_le_bytes()));
    let current = bytes(&ResourceTemplate::new(vec![&Interrupt::new(true, false, false, true, 0)]));
    let (buffer, number, wanted) = (path("BUF0"), path("IRQW"), path("PRRI"));
    let (number_at, mask) = (5u8, 0x0Fu8); // of the line in an extended interrupt descriptor
    bytes(&Device::new(
        path(LINKS[n]),
        vec![
            &Name::new(path("_HID"), &EISAName::new("PNP0C0F")),
            &Name::new(path("_UID"), &(n as u8 + 1)),
            &Name::new(path("_PRS"), &ResourceTemplate::new(vec![&Raw(choice)])),
            &Method::new(
                path("_STA"),
                0,
                false,
                vec![
                    &If::new(&And::new(&ZERO, &register, &off), vec![&Return::new(&0x09u8)]),
                    &Return::new(&0x0Bu8),
                ],
            ),
            &Method::new(path("_DIS"), 0, false, vec![&Or::new(&register, &register, &off)]),
            &Method::new(
                path("_CRS"),
                0,
                true,
                vec![
                    &Name::new(path("BUF0"), &Raw(current)),
                    &CreateDWordField::new(&number, &buffer, &number_at),
                    &And::new(&number, &register, &mask),
                    &Return::new(&buffer),
                ],
            ),
            &Method::new(
                path("_SRS"),
                1,
                true,
                vec![&CreateDWordField::new(&wanted, &Arg(0), &number_at), &Store::new(&register, &wanted)],
            ),
        ],
    ))
}

/// The PIIX3: its routing registers, and what sits on the ISA bus.
fn isa_bridge(board: &Board) -> Vec<u8> {
    let slot = 0x0001_0000u32;
    let fields = (0..4).map(|n| FieldEntry::Named([b'P', b'R', b'Q', b'0' + n], 8)).collect();
    let (byte, keep) = (FieldAccessType::Byte, FieldUpdateRule::Preserve);
    bytes(&Device::new(
        path("ISA_"),
        vec![
            &Name::new(path("_ADR"), &slot),
            &OpRegion::new(path("P40C"), OpRegionSpace::PCIConfig, &0x60u8, &0x04u8),
            &Field::new(path("P40C"), byte, FieldLockRule::NoLock, keep, fields),
            &Raw(isa_devices(board)),
        ],
    ))
}

fn isa_devices(board: &Board) -> Vec<u8> {
    let mut all = Vec::new();
    let mut add = |name: &str, id: &str, unique: u8, resources: &[Raw]| {
        let resources = resources.iter().map(|resource| resource as &dyn Aml).collect();
        Device::new(
            path(name),
            vec![
                &Name::new(path("_HID"), &EISAName::new(id)),
                &Name::new(path("_UID"), &unique),
                &Name::new(path("_CRS"), &ResourceTemplate::new(resources)),
            ],
        )
        .to_aml_bytes(&mut all);
    };
    add("PIC_", "PNP0000", 0, &[ports(0x20, 2), ports(0xA0, 2), ports(0x4D0, 2), line(2)]);
    add("DMAC", "PNP0200", 0, &[ports(0x00, 16), ports(0x80, 16), ports(0xC0, 32), dma(4)]);
    add("TIMR", "PNP0100", 0, &[ports(0x40, 4), line(irq::TIMER)]);
    add("SPKR", "PNP0800", 0, &[ports(0x61, 1)]);
    add("RTC_", "PNP0B00", 0, &[ports(0x70, 8), line(irq::RTC)]);
    add("KBD_", "PNP0303", 0, &[ports(0x60, 1), ports(0x64, 1), line(irq::KEYBOARD)]);
    add("MOU_", "PNP0F13", 0, &[line(irq::MOUSE)]);
    if board.floppy {
        let resources = [ports(0x3F2, 4), ports(0x3F7, 1), line(irq::FLOPPY), dma(2)];
        add("FDC0", "PNP0700", 0, &resources);
    }
    let serial = [("COM1", 0x3F8, irq::COM1), ("COM2", 0x2F8, irq::COM2)];
    for (n, (name, base, number)) in (1..).zip(serial).take(usize::from(board.serial_ports)) {
        add(name, "PNP0501", n, &[ports(base, 8), line(number)]);
    }
    all
}
