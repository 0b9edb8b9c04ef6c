//! Names and times as old file systems write them.

use std::collections::HashSet;

/// A name in at most 8 and 3 capital letters, digits and a few signs, unlike all in `taken`; and whether it is
/// the very name that was asked for.
pub fn short_name(name: &str, taken: &mut HashSet<(String, String)>) -> ((String, String), bool) {
    let (stem, extension) = match name.rfind('.').filter(|at| *at > 0) {
        Some(at) => (&name[..at], &name[at + 1..]),
        None => (name, ""),
    };
    let (clean_stem, clean_extension) = (clean(stem), clean(extension));
    let fits = clean_stem.len() <= 8 && clean_extension.len() <= 3;
    let is_exact = fits && clean_stem == stem && clean_extension == extension && !stem.is_empty();
    let extension: String = clean_extension.chars().take(3).collect();
    let plain = (clean_stem.chars().take(8).collect::<String>(), extension.clone());
    if fits && !plain.0.is_empty() && is_exact && taken.insert(plain.clone()) {
        return (plain, true);
    }
    let mut number = 1;
    loop {
        let tail = format!("~{number}");
        let stem: String = clean_stem.chars().take(8 - tail.len()).collect();
        let short = (stem + &tail, extension.clone());
        if taken.insert(short.clone()) {
            return (short, false);
        }
        number += 1;
    }
}

fn clean(part: &str) -> String {
    let letter = |c: char| match c.to_ascii_uppercase() {
        c @ ('A'..='Z' | '0'..='9' | '_' | '-' | '!' | '#' | '$' | '%' | '&' | '@' | '^' | '~') => c,
        _ => '_',
    };
    part.chars().filter(|c| !matches!(c, '.' | ' ')).map(letter).collect()
}

/// A moment, in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    pub year: i64,
    pub month: u8,
    pub day: u8,
    pub hour: u8,
    pub minute: u8,
    pub second: u8,
}

impl Moment {
    /// From seconds since 1970, within 1980 to 2107, which is what FAT can say.
    pub fn of(seconds: i64) -> Moment {
        let seconds = seconds.clamp(315_532_800, 4_354_819_199);
        let (days, second) = (seconds / 86_400, seconds % 86_400);
        // Days to a date: years that start in March, in eras of 400 years (Hinnant, "chrono-compatible
        // low-level date algorithms").
        let shifted = days + 719_468;
        let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * day_of_year + 2) / 153;
        let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
        Moment {
            year: era * 400 + year_of_era + i64::from(month <= 2),
            month: month as u8,
            day: (day_of_year - (153 * shifted_month + 2) / 5 + 1) as u8,
            hour: (second / 3600) as u8,
            minute: (second / 60 % 60) as u8,
            second: (second % 60) as u8,
        }
    }

    /// As FAT has it: time, date.
    pub fn fat(self) -> (u16, u16) {
        let time = u16::from(self.hour) << 11 | u16::from(self.minute) << 5 | (u16::from(self.second) / 2);
        let date = ((self.year - 1980) as u16) << 9 | u16::from(self.month) << 5 | u16::from(self.day);
        (time, date)
    }

    /// As a directory record of ECMA-119 has it (9.1.5).
    pub fn iso(self) -> [u8; 7] {
        [(self.year - 1900) as u8, self.month, self.day, self.hour, self.minute, self.second, 0]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_are_of_eight_and_three_and_never_twice() {
        let mut taken = HashSet::new();
        let mut short = |name: &str| {
            let ((stem, extension), is_exact) = short_name(name, &mut taken);
            (format!("{stem}.{extension}"), is_exact)
        };
        assert_eq!(short("README.TXT"), ("README.TXT".into(), true));
        assert_eq!(short("readme.txt"), ("README~1.TXT".into(), false));
        assert_eq!(short("A long name.html"), ("ALONGN~1.HTM".into(), false));
        assert_eq!(short("A long name.htmx"), ("ALONGN~2.HTM".into(), false));
        assert_eq!(short(".profile"), ("PROFIL~1.".into(), false));
        assert_eq!(short("é"), ("_~1.".into(), false));
    }

    #[test]
    fn dates_of_leap_years_and_bounds() {
        let of = |seconds| {
            let moment = Moment::of(seconds);
            (moment.year, moment.month, moment.day, moment.hour, moment.minute, moment.second)
        };
        assert_eq!(of(0), (1980, 1, 1, 0, 0, 0));
        assert_eq!(of(951_782_399), (2000, 2, 28, 23, 59, 59));
        assert_eq!(of(951_782_400), (2000, 2, 29, 0, 0, 0));
        assert_eq!(of(1_767_225_599), (2025, 12, 31, 23, 59, 59));
        assert_eq!(Moment::of(951_782_400).fat(), (0, 20 << 9 | 2 << 5 | 29));
    }
}
