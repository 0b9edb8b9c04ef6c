//! A guest on the host's KVM.

use cpu::registers::segment;
use cpu::soft::model::{CpuModel, Live, Model};
use cpu::{Registers, Segment, Table};
use kvm_bindings::*;
use kvm_ioctls::{Kvm, VcpuExit, VcpuFd, VmFd};

use super::bus::Bus;
use super::system::{BYTES, Guest};

/// How a guest ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// HLT.
    Halted,
    /// Shut down (triple fault).
    Shutdown,
}

/// KVM as an oracle.
pub struct Oracle {
    vcpu: VcpuFd,
    _vm: VmFd,
    memory: Bus,
}

/// Exits to devices before a guest is given up.
const PATIENCE: usize = 64;

const MSRS: [u32; 9] =
    [0x174, 0x175, 0x176, 0xC000_0081, 0xC000_0082, 0xC000_0083, 0xC000_0084, 0xC000_0102, 0x277];

fn msr_values(registers: &Registers) -> [u64; 9] {
    let m = &registers.msrs;
    [
        m.sysenter_cs,
        m.sysenter_esp,
        m.sysenter_eip,
        m.star,
        m.lstar,
        m.cstar,
        m.fmask,
        m.kernel_gs_base,
        m.pat,
    ]
}

fn text(what: &'static str) -> impl Fn(kvm_ioctls::Error) -> String {
    move |error| format!("{what}: {error}")
}

fn cpuid() -> Result<CpuId, String> {
    let model = Model::new(CpuModel::Host, 0, 1, 1_000_000_000);
    let live = Live { apic_enabled: false, os_xsave: false, xcr0: 1, limit_leaves: false };
    let leaves = (0..=0x16u32).chain(0x8000_0000..=0x8000_0008);
    let entries = leaves.flat_map(|leaf| {
        let count = if leaf == 0xD { 3 } else { 1 };
        (0..count).map(move |index| (leaf, index))
    });
    let entries: Vec<_> = entries
        .map(|(function, index)| {
            let [eax, ebx, ecx, edx] = model.cpuid(function, index, live);
            let indexed = matches!(function, 4 | 7 | 0xB | 0xD);
            let flags = if indexed { KVM_CPUID_FLAG_SIGNIFCANT_INDEX } else { 0 };
            kvm_cpuid_entry2 { function, index, flags, eax, ebx, ecx, edx, ..Default::default() }
        })
        .collect();
    CpuId::from_entries(&entries).map_err(|error| format!("{error:?}"))
}

impl Oracle {
    /// Opens KVM; `Err` says why there is none.
    pub fn new() -> Result<Oracle, String> {
        let kvm = Kvm::new().map_err(text("/dev/kvm"))?;
        let vm = kvm.create_vm().map_err(text("KVM makes no machine"))?;
        // only some Intel processors need it; others may refuse
        let _ = vm.set_tss_address(0xFEDF_D000);
        let memory = Bus::new(BYTES / 4096);
        let region = kvm_userspace_memory_region {
            memory_size: BYTES as u64,
            userspace_addr: memory.address(),
            ..Default::default()
        };
        // SAFETY: the memory lives as long as the machine, in `Oracle`.
        unsafe { vm.set_user_memory_region(region) }.map_err(text("KVM takes no memory"))?;
        let vcpu = vm.create_vcpu(0).map_err(text("KVM makes no processor"))?;
        vcpu.set_cpuid2(&cpuid()?).map_err(text("KVM refuses the CPUID"))?;
        Ok(Oracle { vcpu, _vm: vm, memory })
    }

    /// The guest's memory.
    pub fn memory(&mut self) -> &mut [u8] {
        self.memory.memory()
    }

    /// Runs a guest to its end; `Err` says why that is not possible here.
    pub fn run(&mut self, guest: &Guest) -> Result<(End, Registers), String> {
        self.memory.memory().copy_from_slice(&guest.memory);
        self.load(&guest.registers)?;
        let mut interruptions = 0;
        for _ in 0..PATIENCE {
            let end = match self.vcpu.run() {
                Ok(VcpuExit::Hlt) => End::Halted,
                Ok(VcpuExit::Shutdown) => End::Shutdown,
                Ok(VcpuExit::IoIn(_, data)) => {
                    data.fill(0xFF);
                    continue;
                }
                Ok(VcpuExit::MmioRead(_, data)) => {
                    data.fill(0xFF);
                    continue;
                }
                Ok(VcpuExit::IoOut(..) | VcpuExit::MmioWrite(..)) => continue,
                Ok(VcpuExit::InternalError) => return Err("KVM cannot emulate it".into()),
                Ok(other) => return Err(format!("KVM exits with {other:?}")),
                Err(error) if error.errno() == libc::EINTR && interruptions == 0 => {
                    interruptions += 1; // the timer's, by chance
                    continue;
                }
                Err(error) if error.errno() == libc::EINTR => return Err("the guest never ends".into()),
                Err(error) => return Err(format!("KVM: {error}")),
            };
            return Ok((end, self.store(&guest.registers)?));
        }
        Err("the guest goes round in circles".into())
    }

    fn load(&mut self, r: &Registers) -> Result<(), String> {
        let failed = || text("KVM takes no such registers");
        let events = kvm_vcpu_events {
            flags: KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW,
            ..Default::default()
        };
        self.vcpu.set_vcpu_events(&events).map_err(failed())?;
        let mut sregs = self.vcpu.get_sregs().map_err(failed())?;
        let s = |index: usize| to_kvm(&r.segments[index]);
        (sregs.es, sregs.cs, sregs.ss) = (s(segment::ES), s(segment::CS), s(segment::SS));
        (sregs.ds, sregs.fs, sregs.gs) = (s(segment::DS), s(segment::FS), s(segment::GS));
        (sregs.tr, sregs.ldt) = (to_kvm(&r.tr), to_kvm(&r.ldtr));
        let table = |t: Table| kvm_dtable { base: t.base, limit: t.limit, padding: [0; 3] };
        (sregs.gdt, sregs.idt) = (table(r.gdtr), table(r.idtr));
        (sregs.cr0, sregs.cr2, sregs.cr3, sregs.cr4) = (r.cr0, r.cr2, r.cr3, r.cr4);
        (sregs.cr8, sregs.efer) = (r.cr8, r.efer);
        self.vcpu.set_sregs(&sregs).map_err(failed())?;
        let [rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15] = r.general;
        let (rip, rflags) = (r.rip, r.rflags);
        #[rustfmt::skip]
        let regs = kvm_regs {
            rax, rbx, rcx, rdx, rsi, rdi, rsp, rbp, r8, r9, r10, r11, r12, r13, r14, r15, rip, rflags,
        };
        self.vcpu.set_regs(&regs).map_err(failed())?;
        let [d0, d1, d2, d3, dr6, dr7] = r.debug;
        let debug = kvm_debugregs { db: [d0, d1, d2, d3], dr6, dr7, ..Default::default() };
        self.vcpu.set_debug_regs(&debug).map_err(failed())?;
        let entries: Vec<_> = MSRS
            .into_iter()
            .zip(msr_values(r))
            .map(|(index, data)| kvm_msr_entry { index, data, ..Default::default() })
            .collect();
        let msrs = Msrs::from_entries(&entries).map_err(|error| format!("{error:?}"))?;
        self.vcpu.set_msrs(&msrs).map_err(failed())?;
        Ok(())
    }

    fn store(&mut self, before: &Registers) -> Result<Registers, String> {
        let failed = || text("KVM tells no registers");
        let mut r = before.clone();
        let g = self.vcpu.get_regs().map_err(failed())?;
        r.general = [
            g.rax, g.rcx, g.rdx, g.rbx, g.rsp, g.rbp, g.rsi, g.rdi, g.r8, g.r9, g.r10, g.r11, g.r12, g.r13,
            g.r14, g.r15,
        ];
        (r.rip, r.rflags) = (g.rip, g.rflags);
        let s = self.vcpu.get_sregs().map_err(failed())?;
        r.segments = [&s.es, &s.cs, &s.ss, &s.ds, &s.fs, &s.gs].map(from_kvm);
        (r.tr, r.ldtr) = (from_kvm(&s.tr), from_kvm(&s.ldt));
        r.gdtr = Table { base: s.gdt.base, limit: s.gdt.limit };
        r.idtr = Table { base: s.idt.base, limit: s.idt.limit };
        (r.cr0, r.cr2, r.cr3, r.cr4, r.efer) = (s.cr0, s.cr2, s.cr3, s.cr4, s.efer);
        let d = self.vcpu.get_debug_regs().map_err(failed())?;
        r.debug = [d.db[0], d.db[1], d.db[2], d.db[3], d.dr6, d.dr7];
        let entries: Vec<_> =
            MSRS.into_iter().map(|index| kvm_msr_entry { index, ..Default::default() }).collect();
        let mut msrs = Msrs::from_entries(&entries).map_err(|error| format!("{error:?}"))?;
        self.vcpu.get_msrs(&mut msrs).map_err(failed())?;
        let v: Vec<u64> = msrs.as_slice().iter().map(|entry| entry.data).collect();
        let m = &mut r.msrs;
        (m.sysenter_cs, m.sysenter_esp, m.sysenter_eip, m.star) = (v[0], v[1], v[2], v[3]);
        (m.lstar, m.cstar, m.fmask, m.kernel_gs_base, m.pat) = (v[4], v[5], v[6], v[7], v[8]);
        Ok(r)
    }
}

fn to_kvm(s: &Segment) -> kvm_segment {
    let bits = |at: u32, mask: u16| (s.attributes >> at & mask) as u8;
    kvm_segment {
        base: s.base,
        limit: s.limit,
        selector: s.selector,
        type_: bits(0, 15),
        present: bits(7, 1),
        dpl: bits(5, 3),
        db: bits(14, 1),
        s: bits(4, 1),
        l: bits(13, 1),
        g: bits(15, 1),
        avl: bits(12, 1),
        unusable: u8::from(s.unusable),
        padding: 0,
    }
}

fn from_kvm(s: &kvm_segment) -> Segment {
    let parts =
        [(s.type_, 0), (s.s, 4), (s.dpl, 5), (s.present, 7), (s.avl, 12), (s.l, 13), (s.db, 14), (s.g, 15)];
    let attributes = parts.iter().fold(0, |all, &(bits, at)| all | u16::from(bits) << at);
    Segment { selector: s.selector, base: s.base, limit: s.limit, attributes, unusable: s.unusable != 0 }
}
