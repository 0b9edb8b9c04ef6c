//! Decoding of KVM exits, and serving of ports, memory and MSRs through the bus: free functions that
//! need no guest. Source: Linux `Documentation/virt/kvm/api.rst`, section 5 (the kvm_run structure).

use cpu::GuestBus;
use kvm_bindings::*;

/// What KVM_RUN came back with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exit {
    /// IN, OUT, INS or OUTS: `count` units of `size` bytes at `offset` in the run area.
    Port {
        /// Port number.
        port: u16,
        /// Bytes a unit: 1, 2 or 4.
        size: usize,
        /// Units; more than one for a string instruction.
        count: usize,
        /// Whether the guest writes.
        write: bool,
        /// Where the data lies, from the start of the run area.
        offset: usize,
    },
    /// A read of memory without a slot; the answer goes into the run area.
    MemoryRead {
        /// Guest-physical address.
        address: u64,
        /// Bytes: 1 to 8.
        size: usize,
    },
    /// A write to memory without a writable slot.
    MemoryWrite {
        /// Guest-physical address.
        address: u64,
        /// Bytes: 1 to 8.
        size: usize,
        /// What is written, in the low bytes.
        data: [u8; 8],
    },
    /// RDMSR the kernel leaves to us.
    ReadMsr {
        /// Register number.
        index: u32,
    },
    /// WRMSR the kernel leaves to us.
    WriteMsr {
        /// Register number.
        index: u32,
        /// EDX:EAX.
        value: u64,
    },
    /// HLT, with no local APIC in the kernel.
    Halt,
    /// The guest can take an interrupt now.
    InterruptWindow,
    /// The task priority was lowered.
    PriorityLowered,
    /// A step was made, or a hardware breakpoint reached.
    Debug {
        /// Exception vector: 1 (#DB) or 3 (#BP).
        exception: u32,
        /// Linear address of the next instruction.
        address: u64,
        /// Debug status.
        dr6: u64,
    },
    /// A level-triggered interrupt of this vector was ended in the kernel's local APIC.
    EndOfInterrupt {
        /// Vector.
        vector: u8,
    },
    /// Triple fault.
    Shutdown,
    /// A system event with no device behind it: shutdown, reset or crash.
    SystemEvent {
        /// KVM_SYSTEM_EVENT_*.
        kind: u32,
    },
    /// The processor refused the guest state.
    EntryFailed {
        /// The hardware's reason.
        reason: u64,
        /// Host CPU.
        cpu: u32,
    },
    /// The kernel gave up.
    InternalError {
        /// KVM_INTERNAL_ERROR_*.
        suberror: u32,
        /// What the kernel tells about it.
        data: Vec<u64>,
        /// The instruction's bytes, when the kernel has them.
        instruction: Vec<u8>,
    },
    /// A signal, or another reason to look at the pins.
    Interrupted,
    /// An exit this backend never asks for.
    Unexpected {
        /// KVM_EXIT_*.
        reason: u32,
    },
}

impl Exit {
    /// Whether the instruction is only completed by the next KVM_RUN.
    pub fn is_incomplete(&self) -> bool {
        matches!(
            self,
            Exit::Port { .. }
                | Exit::MemoryRead { .. }
                | Exit::MemoryWrite { .. }
                | Exit::ReadMsr { .. }
                | Exit::WriteMsr { .. }
        )
    }
}

/// Decodes the run area.
pub fn decode(run: &kvm_run) -> Exit {
    let detail = &run.__bindgen_anon_1;
    // SAFETY: every field of the union is plain integers, for which any bytes are valid; `exit_reason`
    // says which field the kernel has filled in.
    unsafe {
        match run.exit_reason {
            KVM_EXIT_IO => Exit::Port {
                port: detail.io.port,
                size: usize::from(detail.io.size),
                count: detail.io.count as usize,
                write: u32::from(detail.io.direction) == KVM_EXIT_IO_OUT,
                offset: detail.io.data_offset as usize,
            },
            KVM_EXIT_MMIO => {
                let mmio = detail.mmio;
                let size = (mmio.len as usize).min(mmio.data.len());
                match mmio.is_write {
                    0 => Exit::MemoryRead { address: mmio.phys_addr, size },
                    _ => Exit::MemoryWrite { address: mmio.phys_addr, size, data: mmio.data },
                }
            }
            KVM_EXIT_X86_RDMSR => Exit::ReadMsr { index: detail.msr.index },
            KVM_EXIT_X86_WRMSR => Exit::WriteMsr { index: detail.msr.index, value: detail.msr.data },
            KVM_EXIT_HLT => Exit::Halt,
            KVM_EXIT_IRQ_WINDOW_OPEN => Exit::InterruptWindow,
            KVM_EXIT_SET_TPR => Exit::PriorityLowered,
            KVM_EXIT_DEBUG => {
                let debug = detail.debug.arch;
                Exit::Debug { exception: debug.exception, address: debug.pc, dr6: debug.dr6 }
            }
            KVM_EXIT_IOAPIC_EOI => Exit::EndOfInterrupt { vector: detail.eoi.vector },
            KVM_EXIT_SHUTDOWN => Exit::Shutdown,
            KVM_EXIT_SYSTEM_EVENT => Exit::SystemEvent { kind: detail.system_event.type_ },
            KVM_EXIT_FAIL_ENTRY => Exit::EntryFailed {
                reason: detail.fail_entry.hardware_entry_failure_reason,
                cpu: detail.fail_entry.cpu,
            },
            KVM_EXIT_INTERNAL_ERROR => internal_error(&detail.internal),
            KVM_EXIT_INTR => Exit::Interrupted,
            reason => Exit::Unexpected { reason },
        }
    }
}

fn internal_error(error: &kvm_run__bindgen_ty_1__bindgen_ty_13) -> Exit {
    let data = error.data[..(error.ndata as usize).min(error.data.len())].to_vec();
    let mut instruction = Vec::new();
    // struct emulation_failure: data[0] flags, then insn_size and insn_bytes[15].
    if error.suberror == KVM_INTERNAL_ERROR_EMULATION
        && data.len() >= 3
        && data[0] & u64::from(KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES) != 0
    {
        let bytes: Vec<u8> = data[1..3].iter().flat_map(|word| word.to_le_bytes()).collect();
        instruction = bytes[1..1 + usize::from(bytes[0]).min(15)].to_vec();
    }
    Exit::InternalError { suberror: error.suberror, data, instruction }
}

/// Serves a port access; `data` is `count` units of `size` bytes.
pub fn serve_port(bus: &dyn GuestBus, port: u16, size: usize, write: bool, data: &mut [u8]) {
    for unit in data.chunks_exact_mut(size.clamp(1, 4)) {
        if write {
            let mut value = [0; 4];
            value[..unit.len()].copy_from_slice(unit);
            bus.port_out(port, unit.len(), u32::from_le_bytes(value));
        } else {
            let value = bus.port_in(port, unit.len()).to_le_bytes();
            unit.copy_from_slice(&value[..unit.len()]);
        }
    }
}

/// Reads device memory of any length up to 8: the bus knows only powers of two.
pub fn read_memory(bus: &dyn GuestBus, address: u64, data: &mut [u8]) {
    let mut done = 0;
    while done < data.len() {
        let part = largest_part(data.len() - done);
        let value = bus.read(address.wrapping_add(done as u64), part).to_le_bytes();
        data[done..done + part].copy_from_slice(&value[..part]);
        done += part;
    }
}

/// Writes device memory of any length up to 8.
pub fn write_memory(bus: &dyn GuestBus, address: u64, data: &[u8]) {
    let mut done = 0;
    while done < data.len() {
        let part = largest_part(data.len() - done);
        let mut value = [0; 8];
        value[..part].copy_from_slice(&data[done..done + part]);
        bus.write(address.wrapping_add(done as u64), part, u64::from_le_bytes(value));
        done += part;
    }
}

fn largest_part(bytes: usize) -> usize {
    match bytes {
        8.. => 8,
        4.. => 4,
        2.. => 2,
        _ => 1,
    }
}
