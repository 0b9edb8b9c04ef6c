//! Exit decoding from hand-made run areas: needs no KVM.

use kvm_bindings::*;

use crate::backend::kvm::exit::{Exit, decode};

fn area(reason: u32, fill: impl FnOnce(&mut kvm_run__bindgen_ty_1)) -> kvm_run {
    let mut run = kvm_run { exit_reason: reason, ..Default::default() };
    fill(&mut run.__bindgen_anon_1);
    run
}

#[test]
fn each_exit_is_decoded() {
    let io = kvm_run__bindgen_ty_1__bindgen_ty_4 {
        direction: KVM_EXIT_IO_OUT as u8,
        size: 2,
        port: 0x1F0,
        count: 256,
        data_offset: 4096,
    };
    let mut mmio = kvm_run__bindgen_ty_1__bindgen_ty_6 {
        phys_addr: 0xB_8000,
        data: [7, 0, 0, 0, 0, 0, 0, 0],
        len: 3,
        is_write: 1,
    };
    let read = kvm_run__bindgen_ty_1__bindgen_ty_6 { is_write: 0, len: 200, ..mmio };
    mmio.len = 3;
    let table = [
        (
            area(KVM_EXIT_IO, |d| d.io = io),
            Exit::Port { port: 0x1F0, size: 2, count: 256, write: true, offset: 4096 },
        ),
        (
            area(KVM_EXIT_MMIO, |d| d.mmio = mmio),
            Exit::MemoryWrite { address: 0xB_8000, size: 3, data: [7, 0, 0, 0, 0, 0, 0, 0] },
        ),
        (area(KVM_EXIT_MMIO, |d| d.mmio = read), Exit::MemoryRead { address: 0xB_8000, size: 8 }),
        (
            area(KVM_EXIT_X86_WRMSR, |d| (d.msr.index, d.msr.data) = (0x1B, 5)),
            Exit::WriteMsr { index: 0x1B, value: 5 },
        ),
        (area(KVM_EXIT_X86_RDMSR, |d| d.msr.index = 0x802), Exit::ReadMsr { index: 0x802 }),
        (area(KVM_EXIT_HLT, |_| ()), Exit::Halt),
        (area(KVM_EXIT_IRQ_WINDOW_OPEN, |_| ()), Exit::InterruptWindow),
        (area(KVM_EXIT_SET_TPR, |_| ()), Exit::PriorityLowered),
        (area(KVM_EXIT_SHUTDOWN, |_| ()), Exit::Shutdown),
        (area(KVM_EXIT_INTR, |_| ()), Exit::Interrupted),
        (area(KVM_EXIT_IOAPIC_EOI, |d| d.eoi.vector = 0x31), Exit::EndOfInterrupt { vector: 0x31 }),
        (
            area(KVM_EXIT_FAIL_ENTRY, |d| {
                (d.fail_entry.hardware_entry_failure_reason, d.fail_entry.cpu) = (0x8000_0021, 1);
            }),
            Exit::EntryFailed { reason: 0x8000_0021, cpu: 1 },
        ),
        (area(KVM_EXIT_HYPERV, |_| ()), Exit::Unexpected { reason: KVM_EXIT_HYPERV }),
    ];
    for (run, exit) in table {
        assert_eq!(decode(&run), exit);
    }
}

#[test]
fn an_emulation_failure_carries_the_instruction() {
    let run = area(KVM_EXIT_INTERNAL_ERROR, |d| {
        let mut data = [0; 16];
        data[..2].copy_from_slice(&[1, u64::from_le_bytes([3, 0x0F, 0x0B, 0x90, 0, 0, 0, 0])]);
        d.internal =
            kvm_run__bindgen_ty_1__bindgen_ty_13 { suberror: KVM_INTERNAL_ERROR_EMULATION, ndata: 3, data };
    });
    let Exit::InternalError { suberror, instruction, data } = decode(&run) else { panic!("not decoded") };
    assert_eq!((suberror, instruction, data.len()), (1, vec![0x0F, 0x0B, 0x90], 3));
    // A count that no kernel gives is no reason to read on.
    let run = area(KVM_EXIT_INTERNAL_ERROR, |d| (d.internal.suberror, d.internal.ndata) = (3, u32::MAX));
    assert!(matches!(decode(&run), Exit::InternalError { data, .. } if data.len() == 16));
}

#[test]
fn accesses_wait_for_their_completion_and_nothing_else_does() {
    assert!(Exit::MemoryRead { address: 0, size: 1 }.is_incomplete());
    assert!(Exit::WriteMsr { index: 0, value: 0 }.is_incomplete());
    assert!(!Exit::Halt.is_incomplete());
    assert!(!Exit::Interrupted.is_incomplete());
}
