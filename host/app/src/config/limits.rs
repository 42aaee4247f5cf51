//! The data plane's limits that an operator may set; what is not given keeps its default.

use std::ops::RangeInclusive;
use std::time::Duration;

use witgate_proxy::limits::Limits;

use super::section::Section;

/// What a wait may be: long enough to be one, short enough to end within a day.
const WAIT_MS: RangeInclusive<u64> = 1..=86_400_000;

/// How long a gate that stops still takes requests.
const DRAIN_DELAY_MS: RangeInclusive<u64> = 0..=60_000;

/// How many of a thing there may be; connections are bounded by the process' file descriptors anyway.
const COUNT: RangeInclusive<usize> = 1..=1_000_000;

/// RFC 9113 advises 100 at least; one is enough for a test.
const STREAMS: RangeInclusive<usize> = 1..=10_000;

/// `listener`, `upstream`, `upgrade` and `drain`. Where a problem was reported the default stands in: a problem refuses the file anyway.
pub(super) fn limits(section: &Section<'_>) -> Limits {
    let mut limits = Limits::default();
    if let Some(listener) = section.optional("listener").and_then(|field| field.section()) {
        set(&mut limits.header_read_timeout, &listener, "headerReadTimeoutMs");
        set(&mut limits.handshake_timeout, &listener, "handshakeTimeoutMs");
        set(&mut limits.idle_timeout, &listener, "idleTimeoutMs");
        set_count(&mut limits.connections_max, &listener, "connectionsMax");
        if let Some(given) = listener.optional("streamsMax").and_then(|field| field.count(STREAMS)) {
            limits.streams_max = u32::try_from(given).unwrap_or(u32::MAX);
        }
        listener.refuse_rest();
    }
    if let Some(upstream) = section.optional("upstream").and_then(|field| field.section()) {
        set(&mut limits.connect_timeout, &upstream, "connectTimeoutMs");
        set(&mut limits.header_timeout, &upstream, "headerTimeoutMs");
        set(&mut limits.body_idle_timeout, &upstream, "idleTimeoutMs");
        set(&mut limits.pool_idle_timeout, &upstream, "poolIdleTimeoutMs");
        set_count(&mut limits.pool_idle_max, &upstream, "poolIdleMax");
        set_count(&mut limits.identities_max, &upstream, "identitiesMax");
        set_count(&mut limits.in_flight_max, &upstream, "inFlightMax");
        upstream.refuse_rest();
    }
    if let Some(upgrade) = section.optional("upgrade").and_then(|field| field.section()) {
        set(&mut limits.upgrade_idle_timeout, &upgrade, "idleTimeoutMs");
        set(&mut limits.upgrade_lifetime, &upgrade, "lifetimeMs");
        set(&mut limits.half_close_grace, &upgrade, "halfCloseGraceMs");
        upgrade.refuse_rest();
    }
    if let Some(drain) = section.optional("drain").and_then(|field| field.section()) {
        set(&mut limits.drain_deadline, &drain, "deadlineMs");
        if let Some(given) = drain.optional("delayMs").and_then(|field| field.milliseconds(DRAIN_DELAY_MS)) {
            limits.drain_delay = given;
        }
        drain.refuse_rest();
    }
    limits
}

fn set(limit: &mut Duration, section: &Section<'_>, key: &'static str) {
    if let Some(given) = section.optional(key).and_then(|field| field.milliseconds(WAIT_MS)) {
        *limit = given;
    }
}

fn set_count(limit: &mut usize, section: &Section<'_>, key: &'static str) {
    if let Some(given) = section.optional(key).and_then(|field| field.count(COUNT)) {
        *limit = given;
    }
}
