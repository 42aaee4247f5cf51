//! The data plane's limits that an operator may set; what is not given keeps its default.

use std::ops::RangeInclusive;
use std::time::Duration;

use witgate_proxy::limits::Limits;

use super::section::Section;

/// What a wait may be: long enough to be one, short enough to end within a day.
const WAIT_MS: RangeInclusive<u64> = 1..=86_400_000;

/// `upstream` and `drain`. Where a problem was reported the default stands in: a problem refuses the file anyway.
pub(super) fn limits(section: &Section<'_>) -> Limits {
    let mut limits = Limits::default();
    if let Some(upstream) = section.optional("upstream").and_then(|field| field.section()) {
        set(&mut limits.connect_timeout, &upstream, "connectTimeoutMs");
        set(&mut limits.header_timeout, &upstream, "headerTimeoutMs");
        set(&mut limits.body_idle_timeout, &upstream, "idleTimeoutMs");
        upstream.refuse_rest();
    }
    if let Some(drain) = section.optional("drain").and_then(|field| field.section()) {
        set(&mut limits.drain_deadline, &drain, "deadlineMs");
        drain.refuse_rest();
    }
    limits
}

fn set(limit: &mut Duration, section: &Section<'_>, key: &'static str) {
    if let Some(given) = section.optional(key).and_then(|field| field.milliseconds(WAIT_MS)) {
        *limit = given;
    }
}
