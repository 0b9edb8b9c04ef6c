//! Random integer instructions, run by the host processor itself and by the software CPU, side by side:
//! registers, memory and every defined flag must agree. The seed is fixed; CASES in the environment runs more.

use std::arch::asm;
use std::cell::Cell;
use std::sync::Arc;

use cpu::soft::{CpuModel, SoftCpu};
use cpu::{GuestBus, HostPage, Pins, Registers, RunLimit, Segment, Stop};
use iced_x86::{Decoder, DecoderOptions, Instruction, Mnemonic, Register, RflagsBits};

const CODE: u64 = 0x10_0000;
const DATA: u64 = 0x1000_0000;
const DATA_BYTES: usize = 0x3000;
const MIDDLE: u64 = DATA + 0x1800;
const BASE: usize = 15; // the register memory operands are based on; no operand otherwise

struct Machine {
    low: *mut u8,
    data: *mut u8,
    ticks: Cell<u64>,
}

const LOW_BYTES: usize = 0x20_0000;

impl GuestBus for Machine {
    fn page(&self, address: u64) -> HostPage {
        let offset = address & !0xFFF;
        // SAFETY: both inside their allocations.
        let host = unsafe {
            if (offset as usize) < LOW_BYTES {
                self.low.add(offset as usize)
            } else if (DATA..DATA + DATA_BYTES as u64).contains(&offset) {
                self.data.add((offset - DATA) as usize)
            } else {
                return HostPage::DEVICE;
            }
        };
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
    fn port_out(&self, _: u16, _: usize, _: u32) {}
    fn acknowledge_interrupt(&self) -> Option<u8> {
        None
    }
    fn timestamp(&self) -> u64 {
        self.ticks.replace(self.ticks.get() + 1)
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

/// What the trampoline loads and stores: RAX to R15 in encoding order, then flags, then where to call.
#[repr(C)]
#[derive(Clone, Debug, PartialEq)]
struct State {
    general: [u64; 16],
    flags: u64,
    code: u64,
}

/// # Safety
/// The code returns, keeps RSP, and touches no memory but the data pages.
unsafe fn run_native(state: &mut State) {
    // SAFETY: all registers the code may change are saved here or given up below.
    unsafe {
        asm!(
            "push rbx", "push rbp", "push rdi",
            "push qword ptr [rdi + 128]", "popfq",
            "mov rax, [rdi + 136]", "push rax",
            "mov rax, [rdi]", "mov rcx, [rdi + 8]", "mov rdx, [rdi + 16]", "mov rbx, [rdi + 24]",
            "mov rbp, [rdi + 40]", "mov rsi, [rdi + 48]",
            "mov r8, [rdi + 64]", "mov r9, [rdi + 72]", "mov r10, [rdi + 80]", "mov r11, [rdi + 88]",
            "mov r12, [rdi + 96]", "mov r13, [rdi + 104]", "mov r14, [rdi + 112]", "mov r15, [rdi + 120]",
            "mov rdi, [rdi + 56]",
            "call qword ptr [rsp]",
            "push rdi", "mov rdi, [rsp + 16]",
            "mov [rdi], rax", "mov [rdi + 8], rcx", "mov [rdi + 16], rdx", "mov [rdi + 24], rbx",
            "mov [rdi + 40], rbp", "mov [rdi + 48], rsi",
            "mov [rdi + 64], r8", "mov [rdi + 72], r9", "mov [rdi + 80], r10", "mov [rdi + 88], r11",
            "mov [rdi + 96], r12", "mov [rdi + 104], r13", "mov [rdi + 112], r14", "mov [rdi + 120], r15",
            "pop rax", "mov [rdi + 56], rax",
            "pushfq", "pop qword ptr [rdi + 128]", "cld",
            "pop rax", "pop rdi", "pop rbp", "pop rbx",
            in("rdi") state,
            out("rax") _, out("rcx") _, out("rdx") _, out("rsi") _, out("r8") _, out("r9") _,
            out("r10") _, out("r11") _, out("r12") _, out("r13") _, out("r14") _, out("r15") _,
        );
    }
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, bound: u64) -> u64 {
        (self.next() >> 32) % bound
    }

    fn chance(&mut self, one_in: u64) -> bool {
        self.below(one_in) == 0
    }

    /// A value with edges more often than chance has them.
    fn value(&mut self) -> u64 {
        match self.below(8) {
            0 => self.below(4),
            1 => u64::MAX - self.below(3),
            2 => (1 << [7, 8, 15, 16, 31, 32, 63][self.below(7) as usize]) - self.below(2),
            3 => self.below(256),
            4 => self.next() & 0xFFFF_FFFF,
            _ => self.next(),
        }
    }
}

/// How an opcode goes on.
#[derive(Clone, Copy)]
enum Rest {
    None,
    /// ModRM, reg field free; immediate bytes (4: by operand size).
    Modrm(usize),
    /// ModRM with this reg field.
    Group(u8, usize),
    Immediate(usize),
}

fn opcodes() -> Vec<(Vec<u8>, Rest)> {
    let mut list: Vec<(Vec<u8>, Rest)> = Vec::new();
    let mut add = |bytes: &[u8], rest: Rest| list.push((bytes.to_vec(), rest));
    for alu in 0..8u8 {
        for form in 0..4 {
            add(&[alu * 8 + form], Rest::Modrm(0));
        }
        add(&[alu * 8 + 4], Rest::Immediate(1));
        add(&[alu * 8 + 5], Rest::Immediate(4));
        add(&[0x80], Rest::Group(alu, 1));
        add(&[0x81], Rest::Group(alu, 4));
        add(&[0x83], Rest::Group(alu, 1));
        for _ in 0..2 {
            add(&[0xC0], Rest::Group(alu, 1));
            add(&[0xC1], Rest::Group(alu, 1));
            add(&[0xD0], Rest::Group(alu, 0));
            add(&[0xD1], Rest::Group(alu, 0));
            add(&[0xD2], Rest::Group(alu, 0));
            add(&[0xD3], Rest::Group(alu, 0));
        }
    }
    for group in 2..8u8 {
        add(&[0xF6], Rest::Group(group, 0));
        add(&[0xF7], Rest::Group(group, 0));
    }
    add(&[0xF6], Rest::Group(0, 1));
    add(&[0xF7], Rest::Group(0, 4));
    for opcode in [0xFE, 0xFF] {
        add(&[opcode], Rest::Group(0, 0));
        add(&[opcode], Rest::Group(1, 0));
    }
    for opcode in [0x63, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8A, 0x8B, 0x8D] {
        add(&[opcode], Rest::Modrm(0));
    }
    for opcode in [0x90, 0x91, 0x95, 0x98, 0x99, 0xF5, 0xF8, 0xF9, 0x9E, 0x9F] {
        add(&[opcode], Rest::None);
    }
    for opcode in [0xA8, 0xB0, 0xB3, 0xB7] {
        add(&[opcode], Rest::Immediate(1));
    }
    add(&[0xA9], Rest::Immediate(4));
    add(&[0x69], Rest::Modrm(4));
    add(&[0x6B], Rest::Modrm(1));
    add(&[0xC6], Rest::Group(0, 1));
    add(&[0xC7], Rest::Group(0, 4));
    for opcode in (0x40..0x50).chain(0x90..0xA0) {
        add(&[0x0F, opcode], Rest::Modrm(0));
    }
    for opcode in
        [0xA3, 0xAB, 0xB3, 0xBB, 0xA5, 0xAD, 0xAF, 0xB0, 0xB1, 0xB6, 0xB7, 0xBE, 0xBF, 0xBC, 0xBD, 0xC0, 0xC1]
    {
        add(&[0x0F, opcode], Rest::Modrm(0));
    }
    for opcode in [0xA4, 0xAC] {
        add(&[0x0F, opcode], Rest::Modrm(1));
    }
    for group in 4..8 {
        add(&[0x0F, 0xBA], Rest::Group(group, 1));
    }
    for opcode in [0xC8, 0xCB, 0xCF] {
        add(&[0x0F, opcode], Rest::None);
    }
    add(&[0x0F, 0xC7], Rest::Group(1, 0));
    for opcode in [0xB8, 0xBC, 0xBD] {
        add(&[0xF3, 0x0F, opcode], Rest::Modrm(0));
    }
    add(&[0x0F, 0x38, 0xF0], Rest::Modrm(0));
    add(&[0x0F, 0x38, 0xF1], Rest::Modrm(0));
    add(&[0xF2, 0x0F, 0x38, 0xF0], Rest::Modrm(0));
    add(&[0xF2, 0x0F, 0x38, 0xF1], Rest::Modrm(0));
    add(&[0x66, 0x0F, 0x38, 0xF6], Rest::Modrm(0));
    add(&[0xF3, 0x0F, 0x38, 0xF6], Rest::Modrm(0));
    // VEX: the map and the prefix stand for the two bytes that follow C4
    for (map, prefix, opcode) in [
        (2, 0, 0xF2),
        (2, 0, 0xF5),
        (2, 2, 0xF5),
        (2, 3, 0xF5),
        (2, 3, 0xF6),
        (2, 0, 0xF7),
        (2, 1, 0xF7),
        (2, 2, 0xF7),
        (2, 3, 0xF7),
    ] {
        add(&[0xC4, map, prefix, opcode], Rest::Modrm(0));
    }
    for group in 1..4 {
        add(&[0xC4, 2, 0, 0xF3], Rest::Group(group, 0));
    }
    add(&[0xC4, 3, 3, 0xF0], Rest::Modrm(1));
    list
}

/// One instruction at `ip`, or nothing if it is not fit for the test.
fn generate(random: &mut Random, list: &[(Vec<u8>, Rest)], ip: u64) -> Option<(Vec<u8>, Instruction)> {
    let (opcode, rest) = &list[random.below(list.len() as u64) as usize];
    let mut bytes = Vec::new();
    let memory = random.chance(3);
    let vex = opcode[0] == 0xC4;
    let (wide, narrow) = (random.chance(3), random.chance(5));
    let (reg_high, base_high) = (random.chance(2), memory || random.chance(2));
    if vex {
        let (map, prefix) = (opcode[1], opcode[2]);
        let vector = random.below(16) as u8;
        bytes.push(0xC4);
        bytes.push(u8::from(!reg_high) << 7 | 0x40 | u8::from(!base_high) << 5 | map);
        bytes.push(u8::from(wide) << 7 | (!vector & 15) << 3 | prefix);
        bytes.push(opcode[3]);
    } else {
        if random.chance(6) && memory {
            bytes.push(0xF0);
        }
        if narrow && opcode[0] != 0x66 {
            bytes.push(0x66);
        }
        let mut opcode = &opcode[..];
        if matches!(opcode[0], 0x66 | 0xF2 | 0xF3) {
            bytes.push(opcode[0]);
            opcode = &opcode[1..];
        }
        if wide || reg_high || base_high || random.chance(2) {
            bytes.push(0x40 | u8::from(wide) << 3 | u8::from(reg_high) << 2 | u8::from(base_high));
        }
        bytes.extend_from_slice(opcode);
    }
    let reg = match rest {
        Rest::Group(reg, _) => *reg,
        _ => random.below(8) as u8,
    };
    let immediate = match *rest {
        Rest::None => 0,
        Rest::Modrm(bytes) | Rest::Group(_, bytes) | Rest::Immediate(bytes) => bytes,
    };
    if matches!(rest, Rest::Modrm(_) | Rest::Group(..)) {
        if memory {
            bytes.extend([0x47 | reg << 3, random.below(64) as u8 & !15]);
        } else {
            bytes.push(0xC0 | reg << 3 | random.below(8) as u8);
        }
    }
    let immediate = if immediate == 4 && narrow && !wide { 2 } else { immediate };
    bytes.extend_from_slice(&random.value().to_le_bytes()[..immediate]);
    let mut decoder = Decoder::with_ip(64, &bytes, ip, DecoderOptions::NONE);
    let instruction = decoder.decode();
    if instruction.is_invalid() || instruction.len() != bytes.len() {
        return None;
    }
    let fit = (0..instruction.op_count()).all(|operand| {
        instruction.op_kind(operand) != iced_x86::OpKind::Register
            || !matches!(instruction.op_register(operand).full_register(), Register::RSP | Register::R15)
    });
    let undefined_result = match instruction.mnemonic() {
        Mnemonic::Bswap => instruction.op0_register().size() == 2,
        Mnemonic::Bsf | Mnemonic::Bsr => true,
        Mnemonic::Shld | Mnemonic::Shrd => narrow && !wide,
        // a register bit offset reaches far
        Mnemonic::Bt | Mnemonic::Bts | Mnemonic::Btr | Mnemonic::Btc => {
            memory && instruction.op1_kind() == iced_x86::OpKind::Register
        }
        _ => false,
    };
    (fit && !undefined_result).then_some((bytes, instruction))
}

fn flat(attributes: u16) -> Segment {
    Segment { selector: 8, base: 0, limit: u32::MAX, attributes, unusable: false }
}

fn long_mode(machine: &Machine) -> Registers {
    let put = |address: u64, value: u64| {
        // SAFETY: inside low memory.
        unsafe { machine.low.add(address as usize).cast::<u64>().write_unaligned(value) }
    };
    put(0x1000, 0x2007);
    put(0x2000, 0x3007);
    for page in 0..512 {
        put(0x3000 + 8 * page, page << 21 | 0x87);
    }
    let mut registers = Registers::reset();
    registers.segments = [flat(0xC093); 6];
    registers.segments[1] = flat(0xA09B);
    registers.cr0 = 0x8000_0011;
    registers.cr3 = 0x1000;
    registers.cr4 = 0x620;
    registers.efer = 0x500;
    registers.idtr.limit = 0;
    registers
}

fn map(address: u64, bytes: usize, protection: i32) -> *mut u8 {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    let fixed = if address != 0 { libc::MAP_FIXED_NOREPLACE } else { 0 };
    // SAFETY: fresh memory, nothing replaced.
    let place = unsafe { libc::mmap(address as *mut _, bytes, protection, flags | fixed, -1, 0) };
    assert_ne!(place, libc::MAP_FAILED);
    place.cast()
}

const ARITHMETIC: u64 = 0x8D5;

fn undefined_flags(instruction: &Instruction) -> u64 {
    let bits = instruction.rflags_undefined();
    [
        (RflagsBits::CF, 1),
        (RflagsBits::PF, 4),
        (RflagsBits::AF, 0x10),
        (RflagsBits::ZF, 0x40),
        (RflagsBits::SF, 0x80),
        (RflagsBits::OF, 0x800),
    ]
    .into_iter()
    .filter(|(theirs, _)| bits & theirs != 0)
    .fold(0, |all, (_, ours)| all | ours)
}

struct Bench {
    machine: Machine,
    native_data: *mut u8,
    native_code: *mut u8,
    registers: Registers,
    cpu: SoftCpu,
}

impl Bench {
    fn new(data: u64) -> Bench {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let machine =
            Machine { low: map(0, LOW_BYTES, access), data: map(0, DATA_BYTES, access), ticks: Cell::new(0) };
        Bench {
            registers: long_mode(&machine),
            machine,
            native_data: map(data, DATA_BYTES, access),
            native_code: map(0, 0x1000, access | libc::PROT_EXEC),
            cpu: SoftCpu::new(CpuModel::Host, Arc::new(Pins::new()), 0),
        }
    }

    /// Runs `code` both ways from the same state and compares.
    fn compare(&mut self, code: &[u8], state: &State, masked: u64, random: &mut Random, what: &str) -> bool {
        for at in 0..DATA_BYTES / 8 {
            let value = random.next();
            // SAFETY: both are `DATA_BYTES` long.
            unsafe {
                self.native_data.cast::<u64>().add(at).write(value);
                self.machine.data.cast::<u64>().add(at).write(value);
            }
        }
        // SAFETY: the code is a few dozen bytes.
        unsafe {
            let low = self.machine.low.add(CODE as usize);
            low.copy_from_nonoverlapping(code.as_ptr(), code.len());
            low.add(code.len()).write(0xF4);
            self.native_code.copy_from_nonoverlapping(code.as_ptr(), code.len());
            self.native_code.add(code.len()).write(0xC3);
        }
        self.cpu.code_watch().wrote(CODE..CODE + 4096);
        self.registers.general = state.general;
        self.registers.rflags = state.flags;
        self.registers.rip = CODE;
        self.cpu.set_registers(&self.registers);
        let stop = self.cpu.run(&self.machine, RunLimit { instructions: 100_000 });
        if let Stop::Shutdown(records) = &stop {
            // a division that does not fit, or CRC32 on a model without SSE4.2
            let vector = records[0].vector;
            assert!(vector == 0 || vector == 6 && what.contains("crc32"), "{what} raised {vector}");
            return false;
        }
        assert_eq!(stop, Stop::Halted, "{what}");
        let soft = self.cpu.registers();
        let mut native = state.clone();
        native.code = self.native_code as u64;
        // SAFETY: generated code that keeps to the data pages.
        unsafe { run_native(&mut native) };
        native.general[4] = soft.general[4];
        let differs =
            soft.general != native.general || (soft.rflags ^ native.flags) & (ARITHMETIC & !masked) != 0;
        assert!(
            !differs,
            "{what}\nbefore {state:x?}\nsoft   {:x?} flags {:x}\nnative {:x?} flags {:x} (ignoring {masked:x})",
            soft.general,
            soft.rflags & ARITHMETIC,
            native.general,
            native.flags & ARITHMETIC,
        );
        // SAFETY: as above.
        let (ours, theirs) = unsafe {
            (
                std::slice::from_raw_parts(self.machine.data, DATA_BYTES),
                std::slice::from_raw_parts(self.native_data, DATA_BYTES),
            )
        };
        let at = ours.iter().zip(theirs).position(|(a, b)| a != b);
        assert_eq!(at, None, "{what}: memory differs; before {state:x?}");
        true
    }
}

fn cases() -> u64 {
    std::env::var("CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(60_000)
}

fn random_state(random: &mut Random) -> State {
    let mut general = [0; 16];
    general.iter_mut().for_each(|value| *value = random.value());
    general[BASE] = MIDDLE;
    general[4] = 0x8_0000;
    State { general, flags: random.next() & ARITHMETIC | 2, code: 0 }
}

fn integer_instructions_agree_with_the_host() {
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    let mut bench = Bench::new(DATA);
    let list = opcodes();
    let mut compared = 0;
    for _ in 0..cases() {
        let state = random_state(&mut random);
        let (mut code, mut what, mut masked) = (Vec::new(), String::new(), 0);
        for _ in 0..1 + random.below(5) {
            if masked != 0 {
                code.extend([0x48, 0x01, 0xC9]); // ADD RCX, RCX: all flags defined again
                masked = 0;
            }
            let made = generate(&mut random, &list, CODE + code.len() as u64);
            let Some((bytes, instruction)) = made else { continue };
            masked = undefined_flags(&instruction);
            what += &format!("{instruction} {bytes:02x?}; ");
            code.extend(bytes);
            if masked == 0 && random.chance(3) {
                // Jcc over an ADD
                let condition = random.below(16) as u8;
                code.extend([0x70 | condition, 4, 0x48, 0x83, 0xC2, 5]);
                what += &format!("j{condition:x}; ");
            }
        }
        if bench.compare(&code, &state, masked, &mut random, &what) {
            compared += 1;
        }
    }
    assert!(compared > cases() / 2, "only {compared} cases were compared");
}

fn string_instructions_agree_with_the_host() {
    let mut random = Random(0x0123_4567_89AB_CDEF);
    let mut bench = Bench::new(DATA);
    for _ in 0..cases() / 10 {
        let mut state = random_state(&mut random);
        state.flags |= random.below(2) << 10;
        state.general[1] = random.below(120);
        let near = random.below(0x1000);
        state.general[6] = MIDDLE - 0x800 + near;
        state.general[7] =
            MIDDLE - 0x800 + if random.chance(2) { near + random.below(40) } else { random.below(0x1000) };
        if random.chance(4) {
            state.general[0] = 0; // something to find
        }
        let mut code = Vec::new();
        match random.below(3) {
            0 => code.push(0xF3),
            1 => code.push(0xF2),
            _ => {}
        }
        match random.below(4) {
            0 => code.push(0x66),
            1 => code.push(0x48),
            _ => {}
        }
        let opcode = [0xA4, 0xA5, 0xA6, 0xA7, 0xAA, 0xAB, 0xAC, 0xAD, 0xAE, 0xAF][random.below(10) as usize];
        code.push(opcode);
        let mut what = format!("{code:02x?}");
        let instruction = Decoder::with_ip(64, &code, CODE, DecoderOptions::NONE).decode();
        what += &instruction.to_string();
        bench.compare(&code, &state, 0, &mut random, &what);
    }
}

// One test: both use the same fixed address.
#[test]
fn the_software_cpu_agrees_with_the_host() {
    integer_instructions_agree_with_the_host();
    // SAFETY: the pages were mapped by the first part, which is over.
    unsafe { libc::munmap(DATA as *mut _, DATA_BYTES) };
    string_instructions_agree_with_the_host();
}
