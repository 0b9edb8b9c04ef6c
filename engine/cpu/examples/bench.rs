//! Speed of the software CPU: small guest loops on a flat machine, in guest instructions per microsecond of
//! CPU time of this thread (best of three). `cargo run --release -p cpu --example bench [name]`

use std::cell::Cell;
use std::sync::Arc;

use cpu::soft::{CpuModel, SoftCpu};
use cpu::{GuestBus, HostPage, Pins, Registers, RunLimit, Segment, Stop};
use iced_x86::code_asm::*;

const MEMORY: usize = 160 << 20;
const CODE: u64 = 0x10_0000;
const DATA: u64 = 0x200_0000;
const TABLES: u64 = 0x1000;
const STACK: u64 = 0x8_0000;

struct Flat {
    memory: *mut u8,
    asked: Cell<u64>,
}

impl GuestBus for Flat {
    fn page(&self, address: u64) -> HostPage {
        let offset = address & !0xFFF;
        if offset as usize >= MEMORY {
            return HostPage::DEVICE;
        }
        // SAFETY: inside the allocation.
        let host = unsafe { self.memory.add(offset as usize) };
        HostPage { read: host, write: host, offset }
    }
    fn map_generation(&self) -> u64 {
        0
    }
    fn read(&self, _: u64, _: usize) -> u64 {
        0
    }
    fn write(&self, _: u64, _: usize, _: u64) {}
    fn port_in(&self, _: u16, _: usize) -> u32 {
        0
    }
    fn port_out(&self, _: u16, _: usize, _: u32) {
        self.asked.set(self.asked.get() + 1);
    }
    fn acknowledge_interrupt(&self) -> Option<u8> {
        None
    }
    fn timestamp(&self) -> u64 {
        0
    }
    fn timestamp_hz(&self) -> u64 {
        1_000_000_000
    }
    fn read_apic_msr(&self, _: u32) -> Option<u64> {
        None
    }
    fn write_apic_msr(&self, _: u32, _: u64) -> bool {
        false
    }
    fn task_priority(&self) -> u8 {
        0
    }
    fn set_task_priority(&self, _: u8) {}
}

impl Flat {
    fn put(&self, address: u64, bytes: &[u8]) {
        assert!(address as usize + bytes.len() <= MEMORY);
        // SAFETY: inside the allocation.
        unsafe { self.memory.add(address as usize).copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) }
    }
}

fn thread_seconds() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the structure is ours.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

/// Flat 64-bit code at `CODE`, identity-mapped with 2 MiB pages.
fn long_mode(bus: &Flat) -> Registers {
    bus.put(TABLES, &(0x2000u64 | 7).to_le_bytes());
    bus.put(0x2000, &(0x3000u64 | 7).to_le_bytes());
    for page in 0..512u64 {
        bus.put(0x3000 + 8 * page, &(page << 21 | 0x87).to_le_bytes());
    }
    let mut registers = Registers::reset();
    let flat = |attributes| Segment { selector: 8, base: 0, limit: u32::MAX, attributes, unusable: false };
    registers.segments = [flat(0xC093); 6];
    registers.segments[1] = flat(0xA09B);
    registers.cr0 = 0x8000_0011;
    registers.cr3 = TABLES;
    registers.cr4 = 0x620;
    registers.efer = 0x500;
    registers.rip = CODE;
    registers.general = [0; 16];
    registers.general[4] = STACK;
    registers
}

type Build = fn(&mut CodeAssembler) -> Result<(), IcedError>;

fn integer(a: &mut CodeAssembler) -> Result<(), IcedError> {
    let mut top = a.create_label();
    a.mov(ecx, 20_000_000)?;
    a.mov(eax, 1)?;
    a.set_label(&mut top)?;
    a.mov(edx, eax)?;
    a.shl(edx, 5)?;
    a.xor(eax, edx)?;
    a.add(eax, ecx)?;
    a.lea(ebx, eax + edx * 2 + 7)?;
    a.and(ebx, 0xFFFF)?;
    a.sub(edx, ebx)?;
    a.add(esi, edx)?;
    a.dec(ecx)?;
    a.jnz(top)
}

fn walk(a: &mut CodeAssembler) -> Result<(), IcedError> {
    let (mut outer, mut top) = (a.create_label(), a.create_label());
    a.mov(r8d, 200)?;
    a.set_label(&mut outer)?;
    a.mov(edi, DATA as u32)?;
    a.mov(ecx, 65536)?;
    a.set_label(&mut top)?;
    a.mov(rax, qword_ptr(rdi))?;
    a.add(rax, rcx)?;
    a.mov(qword_ptr(rdi), rax)?;
    a.add(rdx, qword_ptr(rdi + 8))?;
    a.add(rdi, 64)?;
    a.sub(ecx, 1)?;
    a.jnz(top)?;
    a.dec(r8d)?;
    a.jnz(outer)
}

fn stride(a: &mut CodeAssembler) -> Result<(), IcedError> {
    let (mut outer, mut top) = (a.create_label(), a.create_label());
    a.mov(r8d, 400_000)?;
    a.set_label(&mut outer)?;
    a.mov(edi, 0x40_0000)?;
    a.mov(ecx, 32)?;
    a.set_label(&mut top)?;
    a.add(eax, dword_ptr(rdi))?;
    a.add(rdi, 0x40_0040)?;
    a.dec(ecx)?;
    a.jnz(top)?;
    a.dec(r8d)?;
    a.jnz(outer)
}

fn calls(a: &mut CodeAssembler) -> Result<(), IcedError> {
    let (mut fib, mut small, mut start) = (a.create_label(), a.create_label(), a.create_label());
    a.jmp(start)?;
    a.set_label(&mut fib)?;
    a.cmp(edi, 2)?;
    a.jl(small)?;
    a.push(rbx)?;
    a.push(rdi)?;
    a.dec(edi)?;
    a.call(fib)?;
    a.mov(ebx, eax)?;
    a.pop(rdi)?;
    a.sub(edi, 2)?;
    a.call(fib)?;
    a.add(eax, ebx)?;
    a.pop(rbx)?;
    a.ret()?;
    a.set_label(&mut small)?;
    a.mov(eax, edi)?;
    a.ret()?;
    a.set_label(&mut start)?;
    a.mov(edi, 32)?;
    a.call(fib)
}

fn indirect(a: &mut CodeAssembler) -> Result<(), IcedError> {
    let (mut top, mut start) = (a.create_label(), a.create_label());
    let mut targets: Vec<_> = (0..4).map(|_| a.create_label()).collect();
    a.jmp(start)?;
    for (index, target) in targets.iter_mut().enumerate() {
        a.set_label(target)?;
        a.add(eax, index as i32 + 1)?;
        a.ret()?;
    }
    a.set_label(&mut start)?;
    a.mov(r9d, DATA as u32)?;
    for (index, target) in targets.iter().enumerate() {
        a.lea(rax, ptr(*target))?;
        a.mov(qword_ptr(r9 + 8 * index as i32), rax)?;
    }
    a.mov(ecx, 5_000_000)?;
    a.set_label(&mut top)?;
    a.mov(edx, ecx)?;
    a.and(edx, 3)?;
    a.call(qword_ptr(r9 + rdx * 8))?;
    a.dec(ecx)?;
    a.jnz(top)
}

fn copy(a: &mut CodeAssembler) -> Result<(), IcedError> {
    let mut top = a.create_label();
    a.mov(r8d, 4000)?;
    a.set_label(&mut top)?;
    a.mov(esi, DATA as u32)?;
    a.mov(edi, DATA as u32 + 0x40000)?;
    a.mov(ecx, 65536)?;
    a.rep().movsb()?;
    a.dec(r8d)?;
    a.jnz(top)
}

fn sieve(a: &mut CodeAssembler) -> Result<(), IcedError> {
    let (mut again, mut outer, mut inner, mut next) =
        (a.create_label(), a.create_label(), a.create_label(), a.create_label());
    a.mov(r8d, 40)?;
    a.mov(r9d, DATA as u32)?;
    a.set_label(&mut again)?;
    a.mov(rdi, r9)?;
    a.mov(ecx, 65536)?;
    a.mov(eax, 1)?;
    a.rep().stosb()?;
    a.mov(ebx, 2)?;
    a.set_label(&mut outer)?;
    a.cmp(byte_ptr(r9 + rbx), 0)?;
    a.je(next)?;
    a.lea(edx, rbx + rbx)?;
    a.set_label(&mut inner)?;
    a.mov(byte_ptr(r9 + rdx), 0)?;
    a.add(edx, ebx)?;
    a.cmp(edx, 65536)?;
    a.jb(inner)?;
    a.set_label(&mut next)?;
    a.inc(ebx)?;
    a.cmp(ebx, 32768)?;
    a.jb(outer)?;
    a.dec(r8d)?;
    a.jnz(again)
}

fn patch(a: &mut CodeAssembler) -> Result<(), IcedError> {
    let (mut top, mut target) = (a.create_label(), a.create_label());
    a.mov(ecx, 500_000)?;
    a.lea(rdi, ptr(target))?;
    a.jmp(top)?;
    a.set_label(&mut top)?;
    a.mov(dword_ptr(rdi + 1), ecx)?;
    a.jmp(target)?;
    a.db(&[0x90; 96])?;
    a.set_label(&mut target)?;
    a.mov(eax, 0x1234_5678)?;
    a.add(edx, eax)?;
    a.dec(ecx)?;
    a.jnz(top)
}

fn neighbours(a: &mut CodeAssembler) -> Result<(), IcedError> {
    let (mut top, mut data) = (a.create_label(), a.create_label());
    a.mov(ecx, 3_000_000)?;
    a.lea(rdi, ptr(data))?;
    a.set_label(&mut top)?;
    a.add(dword_ptr(rdi), ecx)?;
    a.mov(dword_ptr(rdi + 8), ecx)?;
    a.dec(ecx)?;
    a.jnz(top)?;
    a.hlt()?;
    a.db(&[0; 128])?;
    a.set_label(&mut data)?;
    a.db(&[0; 16])?;
    Ok(())
}

fn straddling(a: &mut CodeAssembler) -> Result<(), IcedError> {
    let (mut top, mut start) = (a.create_label(), a.create_label());
    a.jmp(start)?;
    a.db(&[0x90; 4096 - 20])?;
    a.set_label(&mut start)?;
    a.mov(ecx, 10_000_000)?;
    a.set_label(&mut top)?;
    a.add(eax, 0x1234_5678)?;
    a.xor(edx, 0x1234_5678)?;
    a.add(esi, edx)?;
    a.dec(ecx)?;
    a.jnz(top)
}

fn ports(a: &mut CodeAssembler) -> Result<(), IcedError> {
    let mut top = a.create_label();
    a.mov(ecx, 2_000_000)?;
    a.set_label(&mut top)?;
    a.out(0x80, al)?;
    a.dec(ecx)?;
    a.jnz(top)
}

fn doubles(a: &mut CodeAssembler) -> Result<(), IcedError> {
    let mut top = a.create_label();
    a.mov(ecx, 1_000_000)?;
    a.mov(edi, DATA as u32)?;
    a.mov(eax, 3)?;
    a.cvtsi2sd(xmm0, eax)?;
    a.movapd(xmm1, xmm0)?;
    a.set_label(&mut top)?;
    a.mulsd(xmm1, xmm0)?;
    a.addsd(xmm1, xmm0)?;
    a.movsd_2(qword_ptr(rdi), xmm1)?;
    a.divsd(xmm1, xmm0)?;
    a.addsd(xmm1, qword_ptr(rdi))?;
    a.sqrtsd(xmm1, xmm1)?;
    a.dec(ecx)?;
    a.jnz(top)
}

fn bytes(a: &mut CodeAssembler) -> Result<(), IcedError> {
    let mut top = a.create_label();
    a.mov(ecx, 1_000_000)?;
    a.mov(edi, DATA as u32)?;
    a.pxor(xmm0, xmm0)?;
    a.set_label(&mut top)?;
    a.movdqu(xmm1, xmmword_ptr(rdi))?;
    a.pcmpeqb(xmm1, xmm0)?;
    a.pmovmskb(eax, xmm1)?;
    a.paddb(xmm2, xmm1)?;
    a.movdqa(xmmword_ptr(rdi + 64), xmm2)?;
    a.dec(ecx)?;
    a.jnz(top)
}

fn x87(a: &mut CodeAssembler) -> Result<(), IcedError> {
    let mut top = a.create_label();
    a.mov(ecx, 1_000_000)?;
    a.mov(edi, DATA as u32)?;
    a.fninit()?;
    a.fld1()?;
    a.fldpi()?;
    a.set_label(&mut top)?;
    a.fmul_2(st0, st1)?;
    a.fadd_2(st0, st1)?;
    a.fst(qword_ptr(rdi))?;
    a.fld(qword_ptr(rdi))?;
    a.fsqrt()?;
    a.fstp(st1)?;
    a.dec(ecx)?;
    a.jnz(top)
}

fn main() {
    let wanted = std::env::args().nth(1);
    let layout = std::alloc::Layout::from_size_align(MEMORY, 1 << 21).expect("a size");
    // SAFETY: the size is not zero.
    let bus = Flat { memory: unsafe { std::alloc::alloc_zeroed(layout) }, asked: Cell::new(0) };
    let loops: [(&str, Build); 14] = [
        ("integer", integer),
        ("walk 4 MiB", walk),
        ("stride 4 MiB", stride),
        ("calls", calls),
        ("indirect calls", indirect),
        ("rep movsb", copy),
        ("sieve", sieve),
        ("self-modifying", patch),
        ("data by code", neighbours),
        ("straddling pages", straddling),
        ("out", ports),
        ("vector doubles", doubles),
        ("vector bytes", bytes),
        ("x87", x87),
    ];
    println!("{:18} {:>12} {:>9} {:>9}", "loop", "instructions", "seconds", "MIPS");
    for (name, build) in loops {
        if wanted.as_ref().is_some_and(|wanted| !name.contains(wanted.as_str())) {
            continue;
        }
        let mut best = f64::MAX;
        let mut executed = 0;
        for _ in 0..3 {
            let mut assembler = CodeAssembler::new(64).expect("64 bits");
            build(&mut assembler).and_then(|()| assembler.hlt()).expect("it assembles");
            bus.put(CODE, &assembler.assemble(CODE).expect("it assembles"));
            let mut cpu = SoftCpu::new(CpuModel::X86_64V1, Arc::new(Pins::new()), 0);
            cpu.set_registers(&long_mode(&bus));
            let before = thread_seconds();
            let stop = cpu.run(&bus, RunLimit::NONE);
            best = best.min(thread_seconds() - before);
            assert_eq!(stop, Stop::Halted, "{name}");
            executed = cpu.instructions();
        }
        let mips = executed as f64 / best * 1e-6;
        print!("{name:18} {executed:12} {best:9.3} {mips:9.1}");
        match name {
            "rep movsb" => println!("  {:.0} MB/s", 4000.0 * 65536.0 / best * 1e-6),
            "self-modifying" => println!("  {:.3} us each", best / 500_000.0 * 1e6),
            _ => println!(),
        }
    }
}
