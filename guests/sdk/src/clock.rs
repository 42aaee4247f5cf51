//! What time it is: for strategies that deal with expiring tokens and sign things.
//!
//! While a plug-in is configured the clock stands still. In native tests the time is that of
//! [`testing::at_time`](crate::testing::at_time), and 0 without it.

/// Seconds since the Unix epoch.
#[cfg(target_family = "wasm")]
pub fn now() -> u64 {
    crate::bindings::outgoing::wasi::clocks::wall_clock::now().seconds
}

/// Seconds since the Unix epoch.
#[cfg(not(target_family = "wasm"))]
pub fn now() -> u64 {
    crate::testing::time()
}

/// A time as RFC 3339 writes it, `2026-01-31T12:00:00Z`, in seconds since the Unix epoch, as
/// [`Grant::expires_at`](crate::Grant::expires_at) takes it. None for another text, and for a time before the epoch.
///
/// A fraction of a second is dropped, so that nothing is taken for good longer than it is.
///
/// ```
/// assert_eq!(witgate_sdk::clock::rfc3339("2026-01-31T12:00:00Z"), Some(1_769_860_800));
/// ```
pub fn rfc3339(text: &str) -> Option<u64> {
    let (date, time) = text.split_once(['T', 't'])?;
    let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
    let offset_at = time.find(['Z', 'z', '+', '-'])?;
    let (time, offset) = time.split_at(offset_at);
    let time = match time.split_once('.') {
        Some((time, fraction)) if is_digits(fraction) => time,
        Some(_) => return None,
        None => time,
    };
    let [hour, minute, second] = numbers(time, ':', [2, 2, 2])?;
    let offset_minutes = match offset.split_at(1) {
        ("Z" | "z", "") => 0,
        (sign, offset) => {
            let [hours, minutes] = numbers(offset, ':', [2, 2])?;
            let minutes = (hours < 24 && minutes < 60).then_some(hours * 60 + minutes)?;
            if sign == "-" { -minutes } else { minutes }
        }
    };
    // A leap second is the last of its minute, again.
    let in_range = (1..=12).contains(&month)
        && (1..=days_in(year, month)).contains(&day)
        && hour < 24
        && minute < 60
        && second <= 60;
    let seconds = ((days_before(year, month, day) * 24 + hour) * 60 + minute - offset_minutes) * 60 + second.min(59);
    if in_range { u64::try_from(seconds).ok() } else { None }
}

/// Numbers of exactly these many digits each, between `separator`s.
fn numbers<const N: usize>(text: &str, separator: char, digits: [usize; N]) -> Option<[i64; N]> {
    let mut parts = text.split(separator);
    let mut numbers = [0; N];
    for (number, digits) in numbers.iter_mut().zip(digits) {
        let part = parts.next().filter(|part| part.len() == digits && is_digits(part))?;
        *number = part.parse().ok()?;
    }
    parts.next().is_none().then_some(numbers)
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Days from the epoch to this one, in the calendar as it is now.
const fn days_before(year: i64, month: i64, day: i64) -> i64 {
    // Years begin in March here, so that a leap day is a year's last.
    let year = if month > 2 { year } else { year - 1 };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + day_of_year - 719_468
}

const fn days_in(year: i64, month: i64) -> i64 {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a time is read as it is meant, or not at all. Method: rows; the numbers are those of `date -d … +%s`.
    #[test]
    fn a_time_is_read_or_refused() {
        check("1970-01-01T00:00:00Z", Some(0));
        check("2000-02-29T00:00:00Z", Some(951_782_400));
        check("2024-12-31T23:59:59Z", Some(1_735_689_599));
        check("2100-03-01T00:00:00Z", Some(4_107_542_400));
        check("2026-01-31T12:00:00.999Z", Some(1_769_860_800));
        check("2026-01-31t12:00:00z", Some(1_769_860_800));
        check("2026-01-31T13:30:00+01:30", Some(1_769_860_800));
        check("2026-01-31T10:30:00-01:30", Some(1_769_860_800));
        check("2016-12-31T23:59:60Z", Some(1_483_228_799));
        for wrong in [
            "",
            "T",
            "TZ",
            "tomorrow",
            "1769860800",
            "2026-01-31",
            "2026-01-31T12:00:00",
            "2026-01-31 12:00:00Z",
            "2026-1-31T12:00:00Z",
            "2026-02-29T12:00:00Z",
            "2100-02-29T12:00:00Z",
            "2026-13-01T12:00:00Z",
            "2026-00-01T12:00:00Z",
            "2026-01-00T12:00:00Z",
            "2026-01-31T24:00:00Z",
            "2026-01-31T12:60:00Z",
            "2026-01-31T12:00:61Z",
            "2026-01-31T12:00:00.Z",
            "2026-01-31T12:00:00.xZ",
            "2026-01-31T12:00:00ZZ",
            "2026-01-31T12:00:00+1",
            "2026-01-31T12:00:00+25:00",
            "+026-01-31T12:00:00Z",
            "2026-01-31T12:00:00Z ",
            "20260131T120000Z",
            "1969-12-31T23:59:59Z",
            "äöüß-01-31T12:00:00Z",
        ] {
            check(wrong, None);
        }
    }

    #[track_caller]
    fn check(text: &str, expected: Option<u64>) {
        assert_eq!(rfc3339(text), expected, "{text}");
    }
}
