//! Which register states a processor can be in: what MOV to control registers and WRMSR would refuse is refused of a
//! person too. Source: Intel SDM 3A, §2.5 (control registers), §9.8.5 (entering IA-32e mode); SDM 4, table 2-2 (EFER).

use crate::Registers;

const CR0_PE: u64 = 1;
const CR0_NW: u64 = 1 << 29;
const CR0_CD: u64 = 1 << 30;
const CR0_PG: u64 = 1 << 31;
const CR0_DEFINED: u64 = 0xE005_003F;
const CR4_PAE: u64 = 1 << 5;
const CR4_PCIDE: u64 = 1 << 17;
/// Bits 0 to 14, 16 to 18 and 20 to 24.
const CR4_DEFINED: u64 = 0x01F7_7FFF;
const EFER_LME: u64 = 1 << 8;
const EFER_LMA: u64 = 1 << 10;
/// SCE, LME, LMA, NXE, and AMD's SVME, LMSLE, FFXSR, TCE.
const EFER_DEFINED: u64 = 0xFD01;

impl Registers {
    /// Whether a processor can be in this state.
    ///
    /// # Errors
    /// The first thing that cannot be, in words.
    pub fn check_possible(&self) -> Result<(), String> {
        let long = self.efer & EFER_LMA != 0;
        let canonical = |address: u64| (address as i64) << 16 >> 16 == address as i64;
        let defined = [
            ("CR0", self.cr0, CR0_DEFINED),
            ("CR4", self.cr4, CR4_DEFINED),
            ("EFER", self.efer, EFER_DEFINED),
            ("CR8", self.cr8, 0xF),
            ("DR6", self.debug[4], u64::from(u32::MAX)),
            ("DR7", self.debug[5], u64::from(u32::MAX)),
        ];
        for (name, value, defined) in defined {
            if value & !defined != 0 {
                return Err(format!(
                    "{name} cannot be {value:#x}: bits {:#x} are reserved",
                    value & !defined
                ));
            }
        }
        let has_all = |value: u64, bits: u64| value & bits == bits;
        let wrong = [
            (
                has_all(self.cr0, CR0_PG) && self.cr0 & CR0_PE == 0,
                "paging (CR0.PG) needs protected mode (CR0.PE)",
            ),
            (has_all(self.cr0, CR0_NW) && self.cr0 & CR0_CD == 0, "CR0.NW needs CR0.CD"),
            (
                long != (has_all(self.efer, EFER_LME) && has_all(self.cr0, CR0_PG)),
                "long mode is active (EFER.LMA) exactly when EFER.LME and CR0.PG are set",
            ),
            (long && self.cr4 & CR4_PAE == 0, "long mode needs CR4.PAE"),
            (has_all(self.cr4, CR4_PCIDE) && !long, "CR4.PCIDE needs long mode"),
            (long && !canonical(self.rip), "RIP is no canonical address"),
        ];
        wrong.into_iter().find(|(is_so, _)| *is_so).map_or(Ok(()), |(_, what)| Err(what.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_processor_can_hold_is_named() {
        let reset = Registers::reset();
        assert_eq!(reset.check_possible(), Ok(()));
        let wrong = |change: &dyn Fn(&mut Registers)| {
            let mut registers = reset.clone();
            change(&mut registers);
            registers.check_possible().unwrap_err()
        };
        assert!(wrong(&|r| r.cr0 = u64::MAX).contains("CR0"));
        assert!(wrong(&|r| r.cr4 = 0xFFFF_FFFF).contains("CR4"));
        assert!(wrong(&|r| r.efer = 0xFFFF_FFFF).contains("EFER"));
        assert!(wrong(&|r| r.cr0 = CR0_PG).contains("protected mode"));
        assert!(wrong(&|r| r.efer = EFER_LMA).contains("EFER.LMA"));
        let mut long = reset.clone();
        (long.cr0, long.cr4, long.efer) = (CR0_PG | CR0_PE | 0x10, CR4_PAE, EFER_LME | EFER_LMA);
        assert_eq!(long.check_possible(), Ok(()));
        long.rip = 1 << 47;
        assert!(long.check_possible().unwrap_err().contains("RIP"));
    }
}
