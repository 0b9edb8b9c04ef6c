//! A driver of the HPET that is almost right.

use hardware::{Space, Width};

use super::guest::Guest;

impl Guest {
    /// Comparators of all kinds, their halves written alone, while the counter counts, jumps or stands.
    pub fn drive_hpet(&mut self) {
        let Some((space, base)) = self.window("hpet", 0) else { return };
        let general = self.random.mostly(1, 3);
        self.write(space, base + 0x10, Width::Qword, general);
        for _ in 0..1 + self.random.below(6) {
            let timer = base + 0x100 + 0x20 * self.random.below(3);
            let kind = self.random.of(&[0x04, 0x06, 0x0C, 0x0E, 0x4C, 0x14C, 0x14E, 0x104]);
            let route = self.random.of(&[0, 20, 21, 23, 31]) << 9;
            let config = self.random.mostly(kind | route, 12);
            self.write(space, timer, Width::Qword, config);
            let now = self.read(space, base + 0xF0, Width::Qword);
            let ahead = self.random.of(&[0, 1, 50, 5_000, 1 << 20, 1 << 33]);
            let value = self.random.mostly(now.wrapping_add(ahead), 8);
            let width = self.random.of(&[Width::Dword, Width::Qword]);
            self.write(space, timer + 8, width, value);
            self.write(space, timer + 8, width, ahead);
            self.let_time_pass();
            if self.random.one_in(3) {
                let counter = self.random.mostly(u64::MAX - 100, 2);
                self.write(space, base + 0xF0, Width::Qword, counter);
            }
            let status = self.read(Space::Memory, base + 0x20, Width::Dword);
            self.count("HPET levels", status);
            self.write(space, base + 0x20, Width::Dword, status);
        }
    }
}
