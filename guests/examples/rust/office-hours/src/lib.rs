//! Outside office hours, looking is all that anybody may do.
//!
//! A policy of denials only: within the hours, and for what it has no rule about, it is silent.

use serde::Deserialize;
use witgate_sdk::{ActionClass, Decision, Policy, PolicyQuery, UserInfo};

/// The settings, as they are written.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
struct Settings {
    days: Vec<String>,
    hours: String,
    utc_offset: String,
    exempt_groups: Vec<String>,
}

/// What `configure` made of them.
struct OfficeHours {
    days: [bool; 7],
    /// Minutes of the day.
    open: i64,
    close: i64,
    offset_seconds: i64,
    exempt_groups: Vec<String>,
    shown: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            days: DAYS.iter().take(5).map(|&day| day.to_owned()).collect(),
            hours: "09:00-17:00".to_owned(),
            utc_offset: "+00:00".to_owned(),
            exempt_groups: Vec::new(),
        }
    }
}

impl Policy for OfficeHours {
    type Settings = Settings;

    fn configure(settings: Settings) -> Result<Self, Vec<String>> {
        let Settings { days, hours, utc_offset, exempt_groups } = settings;
        let mut faults = Vec::new();
        let mut check = |key: &str, given: String, expected: &str| {
            faults.push(format!("{key}: {given}; expected {expected}"));
        };
        let on = days_of(&days);
        if on.is_none() {
            check("days", format!("{days:?}"), "a list of mon, tue, wed, thu, fri, sat, sun");
        }
        let times = hours_of(&hours);
        if times.is_none() {
            check("hours", format!("{hours:?}"), "two times that differ, such as 09:00-17:00");
        }
        let offset = offset_of(&utc_offset);
        if offset.is_none() {
            check("utcOffset", format!("{utc_offset:?}"), "a time zone's offset, such as +01:00");
        }
        let (Some(days), Some((open, close)), Some(offset_seconds)) = (on, times, offset) else { return Err(faults) };
        let shown_days: Vec<_> = DAYS.iter().zip(days).filter_map(|(&day, on)| on.then_some(day)).collect();
        let shown = format!("{} {}-{} (UTC{utc_offset})", shown_days.join(" "), clock(open), clock(close));
        Ok(Self { days, open, close, offset_seconds, exempt_groups, shown })
    }

    fn handle(&self, query: &PolicyQuery, user: Option<&UserInfo>) -> Decision {
        let (Some(request), Some(user)) = (&query.request, user) else { return Decision::NoOpinion };
        let class = request.action_class;
        if class == ActionClass::Read || user.groups.iter().any(|group| self.exempt_groups.contains(group)) {
            return Decision::NoOpinion;
        }
        let local = i64::try_from(query.now).unwrap_or(i64::MAX).saturating_add(self.offset_seconds);
        // The first day of the epoch was a Thursday.
        let day = usize::try_from((local.div_euclid(DAY_SECONDS) + 3).rem_euclid(7)).unwrap_or_default();
        let time = local.rem_euclid(DAY_SECONDS) / 60;
        if self.is_open(day, time) {
            return Decision::NoOpinion;
        }
        let now = format!("{} {}", DAYS.get(day).unwrap_or(&""), clock(time));
        Decision::Deny(format!("office hours are {}; it is {now}, and `{class}` waits", self.shown))
    }
}

witgate_sdk::export_policy!(OfficeHours);

impl OfficeHours {
    /// Hours that end before they begin go on into the next day, and belong to the day on which they began.
    fn is_open(&self, day: usize, time: i64) -> bool {
        let opens = |day: usize| self.days.get(day % 7).copied().unwrap_or(false);
        if self.open < self.close {
            return opens(day) && (self.open..self.close).contains(&time);
        }
        (opens(day) && time >= self.open) || (opens(day + 6) && time < self.close)
    }
}

fn clock(minutes: i64) -> String {
    format!("{:02}:{:02}", minutes / 60, minutes % 60)
}

fn days_of(days: &[String]) -> Option<[bool; 7]> {
    let known = days.iter().all(|day| DAYS.contains(&day.as_str()));
    (known && !days.is_empty()).then(|| DAYS.map(|day| days.iter().any(|given| given == day)))
}

/// `09:00-17:00`, in minutes of the day.
fn hours_of(hours: &str) -> Option<(i64, i64)> {
    let (open, close) = hours.split_once('-')?;
    let (open, close) = (minutes_of(open)?, minutes_of(close)?);
    (open < DAY_MINUTES && close <= DAY_MINUTES && open != close).then_some((open, close))
}

/// `+01:00`, in seconds.
fn offset_of(offset: &str) -> Option<i64> {
    let (sign, time) = match offset.strip_prefix('-') {
        Some(time) => (-1, time),
        None => (1, offset.strip_prefix('+')?),
    };
    let minutes = minutes_of(time)?;
    (minutes < 15 * 60).then_some(sign * minutes * 60)
}

/// `09:00`, in minutes.
fn minutes_of(time: &str) -> Option<i64> {
    let two = |text: &str| -> Option<i64> {
        let digits = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        if digits { text.parse().ok() } else { None }
    };
    let (hours, minutes) = time.split_once(':')?;
    let (hours, minutes) = (two(hours)?, two(minutes)?);
    (minutes < 60).then_some(hours * 60 + minutes)
}

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
const DAY_SECONDS: i64 = 86_400;
const DAY_MINUTES: i64 = 24 * 60;

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: settings that are not understood are refused by name. Method: a row a fault; `office-hours.test.yaml` has the rest.
    #[test]
    fn faults_are_named() {
        check("{}", "mon tue wed thu fri 09:00-17:00 (UTC+00:00)");
        check(
            r#"{"days":["sun","sat"],"hours":"22:00-06:00","utcOffset":"-03:30"}"#,
            "sat sun 22:00-06:00 (UTC-03:30)",
        );
        check(r#"{"hours":"9-17"}"#, "hours: \"9-17\"; expected two times that differ, such as 09:00-17:00");
        check(
            r#"{"hours":"08:00-08:00"}"#,
            "hours: \"08:00-08:00\"; expected two times that differ, such as 09:00-17:00",
        );
        check(
            r#"{"hours":"24:00-08:00"}"#,
            "hours: \"24:00-08:00\"; expected two times that differ, such as 09:00-17:00",
        );
        check(r#"{"days":[]}"#, "days: []; expected a list of mon, tue, wed, thu, fri, sat, sun");
        check(
            r#"{"days":["monday"],"utcOffset":"CET"}"#,
            "days: [\"monday\"]; expected a list of mon, tue, wed, thu, fri, sat, sun | \
             utcOffset: \"CET\"; expected a time zone's offset, such as +01:00",
        );
    }

    #[track_caller]
    fn check(settings: &str, expected: &str) {
        let settings = witgate_sdk::macro_support::parse(settings);
        let got = match settings.and_then(OfficeHours::configure) {
            Ok(policy) => policy.shown,
            Err(faults) => faults.join(" | "),
        };
        assert_eq!(got, expected);
    }
}
