//! What instructions find: targets for branches, frames for returns, values for operands.

use iced_x86::{Code, FlowControl, Instruction, Mnemonic, OpKind, Register};

use super::super::catalogue::is_vector;
use super::super::encode::Encoded;
use super::super::forms::decode;
use super::super::random::Random;
use super::super::window::{BASE, BYTES, CODE, CODE_END, RIGHTS, Rights, STACK, STACK_BYTES};
use super::super::{descriptors, registers, silicon};
use super::{Branch, Builder};

impl Builder<'_> {
    /// Gives branches, returns and operands something to find.
    pub(super) fn aim(&mut self, encoded: &mut Encoded, left: usize, random: &mut Random) {
        let instruction = encoded.instruction;
        match instruction.op0_kind() {
            OpKind::NearBranch16 | OpKind::NearBranch32 | OpKind::NearBranch64 => {
                let Some(immediate) = encoded.immediate else { return };
                let item = self.items.len();
                let target = item + 1 + random.below(left.min(3) as u64 + 1) as usize;
                if is_near(&encoded.bytes, immediate) || !random.one_in(30) {
                    self.branches.push(Branch { item, immediate, target });
                }
                self.joins.push((target, self.undefined));
                return;
            }
            OpKind::FarBranch16 | OpKind::FarBranch32 => {
                let Some((at, _)) = encoded.immediate else { return };
                let (selector, offset) = self.far_target(random);
                let bytes = if instruction.op0_kind() == OpKind::FarBranch16 { 2 } else { 4 };
                if !random.one_in(8) {
                    encoded.bytes[at..at + bytes].copy_from_slice(&offset.to_le_bytes()[..bytes]);
                    let selector_at = encoded.bytes.len() - 2;
                    encoded.bytes[selector_at..].copy_from_slice(&selector.to_le_bytes());
                    encoded.instruction = decode(self.mode, &encoded.bytes, self.ip);
                }
                return;
            }
            _ => {}
        }
        if let Some(at) = encoded.operand {
            self.poke_operand(&instruction, at, random);
        }
        if matches!(instruction.flow_control(), FlowControl::Return) {
            self.poke_frame(&instruction, random);
        }
        if instruction.is_call_near_indirect() | instruction.is_jmp_near_indirect()
            && instruction.op0_kind() == OpKind::Register
            && random.one_in(2)
        {
            let register = instruction.op0_register().full_register() as usize - Register::RAX as usize;
            if register != 4 {
                self.start.general[register] = self.near_target(random);
            }
        }
    }

    fn near_target(&self, random: &mut Random) -> u64 {
        (self.ip & !0xFFF) + random.below(0x1000)
    }

    fn far_target(&self, random: &mut Random) -> (u16, u64) {
        // with a stack base, where a call to 64-bit code pushes is the maker's: before or after the switch
        let stack_base = registers::base(self.mode, &self.start.selectors, &self.start.bases, 2);
        let selector = match random.below(6) {
            0 => Some(random.pick(&descriptors::ANY)).filter(|&any| any != descriptors::CODE_64).unwrap_or(0),
            1 if stack_base == 0 => descriptors::CODE_64,
            2 => descriptors::CODE_16,
            _ => random.pick(&descriptors::CODES_32),
        };
        let linear = BASE + CODE as u64 + random.below(0x1000);
        (selector, linear.wrapping_sub(descriptors::segment(selector).base))
    }

    fn poke(&mut self, at: usize, bytes: &[u8]) {
        if at < BYTES
            && RIGHTS[at >> 12] != Rights::Absent
            && at + bytes.len() <= (at & !0xFFF) + 0x1000
            && !(CODE..CODE_END).contains(&at)
        {
            self.pokes.push((at, bytes.to_vec()));
        }
    }

    fn poke_operand(&mut self, instruction: &Instruction, at: usize, random: &mut Random) {
        use FlowControl::{Call, IndirectBranch, IndirectCall, UnconditionalBranch};
        match instruction.flow_control() {
            IndirectBranch | IndirectCall | UnconditionalBranch | Call => {
                let far = instruction.is_jmp_far_indirect() || instruction.is_call_far_indirect();
                if far {
                    let (selector, offset) = self.far_target(random);
                    let offset_bytes = instruction.memory_size().size() - 2;
                    let mut bytes = offset.to_le_bytes()[..offset_bytes].to_vec();
                    bytes.extend(selector.to_le_bytes());
                    self.poke(at, &bytes);
                } else {
                    let target = self.near_target(random);
                    self.poke(at, &target.to_le_bytes());
                }
            }
            _ if matches!(
                instruction.mnemonic(),
                Mnemonic::Lds
                    | Mnemonic::Les
                    | Mnemonic::Lfs
                    | Mnemonic::Lgs
                    | Mnemonic::Lss
                    | Mnemonic::Mov
                    | Mnemonic::Pop
            ) && random.one_in(2) =>
            {
                let selector = random.pick(&descriptors::ANY).to_le_bytes();
                let size = instruction.memory_size().size();
                let offset = if matches!(instruction.mnemonic(), Mnemonic::Mov | Mnemonic::Pop) {
                    0
                } else {
                    size.saturating_sub(2)
                };
                self.poke(at + offset, &selector);
            }
            _ if is_vector(instruction.code()) => {
                let bytes = silicon::random::lanes(random);
                self.poke(at, &bytes);
            }
            _ if random.one_in(2) => {
                let value = random.value().to_le_bytes();
                self.poke(at, &value);
            }
            _ => {}
        }
    }

    /// Puts a return frame where the stack pointer is at the start.
    fn poke_frame(&mut self, instruction: &Instruction, random: &mut Random) {
        let mnemonic = instruction.mnemonic();
        let is_interrupt = matches!(mnemonic, Mnemonic::Iret | Mnemonic::Iretd | Mnemonic::Iretq);
        let is_far = is_interrupt || mnemonic == Mnemonic::Retf;
        let bytes = match instruction.code() {
            Code::Iretw | Code::Retfw | Code::Retfw_imm16 | Code::Retnw | Code::Retnw_imm16 => 2,
            Code::Iretq | Code::Retfq | Code::Retfq_imm16 | Code::Retnq | Code::Retnq_imm16 => 8,
            _ => 4,
        };
        let (selector, offset) = self.far_target(random);
        let target = if is_far { offset } else { self.near_target(random) };
        let stack_base = registers::base(self.mode, &self.start.selectors, &self.start.bases, 2);
        let stack = self.start.general[4].wrapping_add(stack_base).wrapping_sub(BASE);
        let mut frame = Vec::new();
        let mut word = |value: u64| frame.extend_from_slice(&value.to_le_bytes()[..bytes]);
        word(target);
        if is_far {
            word(u64::from(selector));
        }
        if is_interrupt {
            // not TF: a trap right behind is another test's
            word(random.next() & if random.one_in(3) { 0x3F_7FFF } else { 0xDD7 });
            word(self.start.general[4].wrapping_add(random.below(64)));
            word(u64::from(if random.one_in(4) {
                random.pick(&descriptors::ANY)
            } else {
                random.pick(&descriptors::DATA)
            }));
        }
        if (STACK as u64..(STACK + STACK_BYTES) as u64).contains(&stack) {
            self.poke(stack as usize, &frame);
        }
    }
}

/// Whether a branch as it is might lead into the middle of the case's own code.
fn is_near(bytes: &[u8], (at, size): (usize, usize)) -> bool {
    let mut wide = [if bytes[at + size - 1] >> 7 == 0 { 0 } else { 0xFF }; 8];
    wide[..size].copy_from_slice(&bytes[at..at + size]);
    i64::from_le_bytes(wide).unsigned_abs() < 0x1000
}
