//! Seconds since 1970 to calendar fields and back, without time zones (the Gregorian calendar throughout).
//!
//! The day arithmetic follows H. Hinnant, "chrono-compatible low-level date algorithms".

/// Seconds of a day.
pub const DAY_SECONDS: i64 = 86_400;

/// A moment in calendar fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Calendar {
    /// Full year.
    pub year: i64,
    /// 1 to 12.
    pub month: u8,
    /// 1 to 31.
    pub day: u8,
    /// 0 to 23.
    pub hour: u8,
    /// 0 to 59.
    pub minute: u8,
    /// 0 to 59.
    pub second: u8,
}

impl Calendar {
    /// The fields of `seconds` since 1970-01-01 00:00:00.
    pub fn from_seconds(seconds: i64) -> Calendar {
        let (days, of_day) = (seconds.div_euclid(DAY_SECONDS), seconds.rem_euclid(DAY_SECONDS));
        // Days since 0000-03-01, in eras of 400 years.
        let shifted = days + 719_468;
        let era = shifted.div_euclid(146_097);
        let of_era = shifted.rem_euclid(146_097);
        let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * of_year + 2) / 153;
        let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
        Calendar {
            year: era * 400 + year_of_era + i64::from(month <= 2),
            month: month as u8,
            day: (of_year - (153 * shifted_month + 2) / 5 + 1) as u8,
            hour: (of_day / 3600) as u8,
            minute: (of_day / 60 % 60) as u8,
            second: (of_day % 60) as u8,
        }
    }

    /// Seconds since 1970-01-01 00:00:00. Fields out of range run over into the next.
    pub fn to_seconds(self) -> i64 {
        let months = i64::from(self.month) - 3;
        let year = self.year + months.div_euclid(12);
        let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
        let of_year = (153 * months.rem_euclid(12) + 2) / 5 + i64::from(self.day) - 1;
        let of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + of_year;
        let days = era * 146_097 + of_era - 719_468;
        days * DAY_SECONDS
            + i64::from(self.hour) * 3600
            + i64::from(self.minute) * 60
            + i64::from(self.second)
    }

    /// Day of the week of `seconds` since 1970: 1 is Sunday, as the MC146818 counts.
    pub fn weekday(seconds: i64) -> u8 {
        // 1970-01-01 was a Thursday.
        ((seconds.div_euclid(DAY_SECONDS) + 4).rem_euclid(7) + 1) as u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_dates() {
        let leap = Calendar { year: 2000, month: 2, day: 29, hour: 23, minute: 59, second: 59 };
        assert_eq!(leap.to_seconds(), 951_868_799);
        assert_eq!(Calendar::from_seconds(951_868_799), leap);
        assert_eq!(Calendar::weekday(951_868_799), 3, "a Tuesday");
        let epoch = Calendar { year: 1970, month: 1, day: 1, hour: 0, minute: 0, second: 0 };
        assert_eq!((Calendar::from_seconds(0), Calendar::weekday(0)), (epoch, 5));
    }

    #[test]
    fn every_day_of_four_centuries_there_and_back() {
        let mut seconds = -1_000_000_000;
        let mut last = Calendar::from_seconds(seconds);
        for _ in 0..146_097 {
            seconds += DAY_SECONDS;
            let now = Calendar::from_seconds(seconds);
            assert_eq!(now.to_seconds(), seconds);
            let next_day = now.day == last.day + 1 && now.month == last.month;
            assert!(next_day || now.day == 1 && (28..=31).contains(&last.day), "{last:?} then {now:?}");
            last = now;
        }
    }
}
