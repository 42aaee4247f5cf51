//! A query's `now` as people write it: for policies that know of office hours. A policy has no other clock.
//!
//! ```
//! use witgate_sdk::calendar::{Utc, Weekday};
//!
//! let now = Utc::at(1_769_860_800);
//! assert_eq!(now.to_string(), "2026-01-31T12:00:00Z");
//! assert_eq!((now.weekday, now.hour), (Weekday::Saturday, 12));
//! ```

use std::fmt;

/// A second in Coordinated Universal Time, in the calendar as it is now.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Utc {
    /// Such as 2026.
    pub year: u64,
    /// 1 to 12.
    pub month: u8,
    /// Of the month: 1 to 31.
    pub day: u8,
    /// Of the week.
    pub weekday: Weekday,
    /// 0 to 23.
    pub hour: u8,
    /// 0 to 59.
    pub minute: u8,
    /// 0 to 59.
    pub second: u8,
}

/// A day of the week, from Monday on.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
#[expect(missing_docs, reason = "the names say all")]
pub enum Weekday {
    Monday,
    Tuesday,
    Wednesday,
    Thursday,
    Friday,
    Saturday,
    Sunday,
}

impl Utc {
    /// So many seconds after the Unix epoch. Beyond the year 9999 it is the last second of that year.
    pub const fn at(seconds: u64) -> Self {
        let seconds = if seconds > LAST { LAST } else { seconds };
        let (days, second_of_day) = (seconds / 86_400, seconds % 86_400);
        // Years begin in March here, so that a leap day is a year's last; 400 of them are an era. Howard Hinnant's algorithm.
        let shifted = days + 719_468;
        let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
        let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let march_month = (5 * day_of_year + 2) / 153;
        let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
        Self {
            year: era * 400 + year_of_era + if month <= 2 { 1 } else { 0 },
            month: month as u8,
            day: (day_of_year - (153 * march_month + 2) / 5 + 1) as u8,
            weekday: Weekday::ALL[((days + 3) % 7) as usize], // the epoch was a Thursday
            hour: (second_of_day / 3_600) as u8,
            minute: (second_of_day / 60 % 60) as u8,
            second: (second_of_day % 60) as u8,
        }
    }

    /// Minutes since midnight.
    pub const fn minute_of_day(self) -> u16 {
        self.hour as u16 * 60 + self.minute as u16
    }
}

/// As RFC 3339 writes it.
impl fmt::Display for Utc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { year, month, day, weekday: _, hour, minute, second } = self;
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
    }
}

impl Weekday {
    /// From Monday to Sunday.
    pub const ALL: [Self; 7] =
        [Self::Monday, Self::Tuesday, Self::Wednesday, Self::Thursday, Self::Friday, Self::Saturday, Self::Sunday];
}

/// In English: `Monday`.
impl fmt::Display for Weekday {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

/// The end of the year 9999, after which the form above has no place for the year.
const LAST: u64 = 253_402_300_799;

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the calendar is the one of everybody else. Method: rows; the texts are those of `date -u -d @N`.
    #[test]
    fn a_second_has_its_name() {
        check(0, "Thursday 1970-01-01T00:00:00Z");
        check(951_782_400, "Tuesday 2000-02-29T00:00:00Z");
        check(951_868_799, "Tuesday 2000-02-29T23:59:59Z");
        check(951_868_800, "Wednesday 2000-03-01T00:00:00Z");
        check(1_735_689_599, "Tuesday 2024-12-31T23:59:59Z");
        check(1_735_689_600, "Wednesday 2025-01-01T00:00:00Z");
        check(4_107_542_400, "Monday 2100-03-01T00:00:00Z");
        check(LAST, "Friday 9999-12-31T23:59:59Z");
        check(u64::MAX, "Friday 9999-12-31T23:59:59Z");
    }

    /// Goal: the same, for every day of eight centuries. Method: what it writes, the reader of times reads back.
    #[test]
    fn what_is_written_is_read_back() {
        for day in 0..300_000_u64 {
            let seconds = day * 86_400 + day % 86_400;
            assert_eq!(crate::clock::rfc3339(&Utc::at(seconds).to_string()), Some(seconds));
        }
    }

    #[track_caller]
    fn check(seconds: u64, expected: &str) {
        let at = Utc::at(seconds);
        assert_eq!(format!("{} {at}", at.weekday), expected);
    }
}
