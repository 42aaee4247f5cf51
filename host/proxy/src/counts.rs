//! What the data plane counts: requests, streams, and what goes wrong on the way up.
//!
//! Every label has a fixed set of values, or is a cluster that the configuration names, so what is counted stays bounded
//! whatever callers send. Each place is there before the first request: counting is one addition, without a lock.
//! Nothing here knows who reads it.

use std::sync::Arc;
use std::time::Duration;

use witgate_core::{ActionClass, Counter, Gauge, Histogram};

use crate::decision::{CloseReason, Outcome};
use crate::route::Route;
use crate::upstream::{Upstream, UpstreamError};

/// What all requests of one gate come to, beside those that a cluster counts for itself.
#[derive(Debug, Default)]
pub struct GateCounts {
    elsewhere: RequestCounts,
    decisions: Decisions,
    connections_open: Arc<Gauge>,
    connections: Counter,
}

impl GateCounts {
    /// Requests that are about no cluster of the configuration: lists of clusters, unknown callers, unknown names.
    pub const fn elsewhere(&self) -> &RequestCounts {
        &self.elsewhere
    }

    /// Decisions about requests to clusters, by what was to be done.
    pub const fn decisions(&self) -> &Decisions {
        &self.decisions
    }

    /// Connections of clients that are open now.
    pub fn connections_open(&self) -> u64 {
        self.connections_open.read()
    }

    /// Connections of clients that were taken.
    pub fn connections(&self) -> u64 {
        self.connections.read()
    }

    /// One more connection of a client, until it is dropped.
    pub(crate) fn enter_connection(&self) -> OpenConnection {
        self.connections.increment();
        self.connections_open.enter();
        OpenConnection(Arc::clone(&self.connections_open))
    }
}

/// A connection of a client that is open.
pub(crate) struct OpenConnection(Arc<Gauge>);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.leave();
    }
}

/// What one cluster's requests come to.
#[derive(Debug, Default)]
pub struct ClusterCounts {
    requests: RequestCounts,
    upstream_errors: [Counter; ErrorKind::ALL.len()],
    long_lived: [LongLivedCounts; LongLived::ALL.len()],
}

impl ClusterCounts {
    /// Requests that named this cluster, refused ones too.
    pub const fn requests(&self) -> &RequestCounts {
        &self.requests
    }

    /// Requests that the API server did not answer, by why.
    pub fn upstream_errors(&self) -> impl Iterator<Item = (ErrorKind, u64)> + '_ {
        ErrorKind::ALL.into_iter().zip(self.upstream_errors.iter().map(Counter::read))
    }

    /// Streams and upgrades.
    pub fn long_lived(&self) -> impl Iterator<Item = (LongLived, &LongLivedCounts)> {
        LongLived::ALL.into_iter().zip(&self.long_lived)
    }

    pub(crate) fn failed(&self, error: &UpstreamError) {
        if let Some(counter) = self.upstream_errors.get(ErrorKind::of(error) as usize) {
            counter.increment();
        }
    }
}

/// Requests by route, decision and code, with how long their answers took to begin.
#[derive(Debug)]
pub struct RequestCounts {
    by_label: Box<[Counter]>,
    duration: Histogram,
}

impl Default for RequestCounts {
    fn default() -> Self {
        let places = RouteKind::ALL.len() * OUTCOMES.len() * CODES.len();
        Self {
            by_label: std::iter::repeat_with(Counter::default).take(places).collect(),
            duration: Histogram::new(REQUEST_BOUNDS_US),
        }
    }
}

impl RequestCounts {
    pub(crate) fn count(&self, route: RouteKind, outcome: Outcome, status: Option<u16>, took: Duration) {
        let index = (route as usize * OUTCOMES.len() + outcome as usize) * CODES.len() + code_index(status);
        if let Some(counter) = self.by_label.get(index) {
            counter.increment();
        }
        self.duration.observe(took);
    }

    /// How many there were of each that there were; the code is `none` where the client left before there was one, and `5xx`
    /// and so on where it is an unusual one.
    pub fn read(&self) -> impl Iterator<Item = (RouteKind, Outcome, &'static str, u64)> + '_ {
        let labels = RouteKind::ALL.into_iter().flat_map(|route| {
            OUTCOMES.into_iter().flat_map(move |outcome| CODES.iter().map(move |(_, code)| (route, outcome, *code)))
        });
        let counts = self.by_label.iter().map(Counter::read);
        labels
            .zip(counts)
            .filter(|(_, count)| *count > 0)
            .map(|((route, outcome, code), count)| (route, outcome, code, count))
    }

    /// From a request's head to the head of its answer.
    pub const fn duration(&self) -> &Histogram {
        &self.duration
    }
}

/// Decisions by verb, kind of act and outcome.
#[derive(Debug)]
pub struct Decisions(Box<[Counter]>);

impl Default for Decisions {
    fn default() -> Self {
        let places = VERBS.len() * CLASSES.len() * OUTCOMES.len();
        Self(std::iter::repeat_with(Counter::default).take(places).collect())
    }
}

impl Decisions {
    pub(crate) fn count(&self, verb: &str, class: &str, outcome: Outcome) {
        let verb = VERBS.iter().position(|known| *known == verb).unwrap_or(VERBS.len() - 1);
        let class = CLASSES.iter().position(|known| known.as_str() == class).unwrap_or_default();
        if let Some(counter) = self.0.get((verb * CLASSES.len() + class) * OUTCOMES.len() + outcome as usize) {
            counter.increment();
        }
    }

    /// How many there were of each that there were.
    pub fn read(&self) -> impl Iterator<Item = (&'static str, ActionClass, Outcome, u64)> + '_ {
        let labels = VERBS.into_iter().flat_map(|verb| {
            CLASSES.into_iter().flat_map(move |class| OUTCOMES.into_iter().map(move |outcome| (verb, class, outcome)))
        });
        let counts = self.0.iter().map(Counter::read);
        labels
            .zip(counts)
            .filter(|(_, count)| *count > 0)
            .map(|((verb, class, outcome), count)| (verb, class, outcome, count))
    }
}

/// Streams, or upgrades.
#[derive(Debug, Default)]
pub struct LongLivedCounts {
    open: Gauge,
    ends: [Counter; CloseReason::ALL.len()],
    bytes: Counter,
}

impl LongLivedCounts {
    /// How many are open, or being opened.
    pub fn open(&self) -> u64 {
        self.open.read()
    }

    /// How many ended, by why.
    pub fn ends(&self) -> impl Iterator<Item = (CloseReason, u64)> + '_ {
        CloseReason::ALL.into_iter().zip(self.ends.iter().map(Counter::read))
    }

    /// Bytes that those that ended brought down.
    pub fn bytes(&self) -> u64 {
        self.bytes.read()
    }
}

/// One stream or upgrade that is open, or being opened, until it is dropped.
pub(crate) struct OpenStream {
    upstream: Option<Arc<Upstream>>,
    kind: LongLived,
}

impl OpenStream {
    pub(crate) fn enter(upstream: Option<Arc<Upstream>>, kind: LongLived) -> Self {
        let open = Self { upstream, kind };
        if let Some(counts) = open.counts() {
            counts.open.enter();
        }
        open
    }

    pub(crate) fn ended(&self, reason: CloseReason, bytes: u64) {
        let Some(counts) = self.counts() else { return };
        if let Some(counter) = counts.ends.get(reason as usize) {
            counter.increment();
        }
        counts.bytes.add(bytes);
    }

    fn counts(&self) -> Option<&LongLivedCounts> {
        self.upstream.as_ref()?.counts().long_lived.get(self.kind as usize)
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        if let Some(counts) = self.counts() {
            counts.open.leave();
        }
    }
}

/// What lives longer than a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LongLived {
    /// A watch, a log that is followed.
    Stream,
    /// Exec, attach, port-forward.
    Upgrade,
}

impl LongLived {
    const ALL: [Self; 2] = [Self::Stream, Self::Upgrade];

    /// In a word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stream => "stream",
            Self::Upgrade => "upgrade",
        }
    }
}

/// By which route a request came.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RouteKind {
    /// Backstage's proxy.
    BackstageProxy,
    /// Backstage's list of clusters.
    BackstageClusters,
    /// kubectl's.
    Kubernetes,
    /// None that is served.
    Unknown,
}

impl RouteKind {
    const ALL: [Self; 4] = [Self::BackstageProxy, Self::BackstageClusters, Self::Kubernetes, Self::Unknown];

    pub(crate) const fn of(route: &Route<'_>) -> Self {
        match route {
            Route::BackstageProxy { .. } => Self::BackstageProxy,
            Route::BackstageClusters => Self::BackstageClusters,
            Route::Kubernetes { .. } => Self::Kubernetes,
            Route::Unknown => Self::Unknown,
        }
    }

    /// In a word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BackstageProxy => "backstage-proxy",
            Self::BackstageClusters => "backstage-clusters",
            Self::Kubernetes => "kubernetes",
            Self::Unknown => "unknown",
        }
    }
}

/// The kinds of [`UpstreamError`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ErrorKind {
    /// No connection.
    Unreachable,
    /// Not tried: it could not be reached just now.
    Suspended,
    /// No trust by TLS.
    Untrusted,
    /// The connection ended first.
    BrokeOff,
    /// No answer in time.
    Silent,
    /// A redirect.
    Redirected,
    /// Not HTTP.
    Protocol,
    /// It was closing.
    NotSent,
}

impl ErrorKind {
    const ALL: [Self; 8] = [
        Self::Unreachable,
        Self::Suspended,
        Self::Untrusted,
        Self::BrokeOff,
        Self::Silent,
        Self::Redirected,
        Self::Protocol,
        Self::NotSent,
    ];

    const fn of(error: &UpstreamError) -> Self {
        match error {
            UpstreamError::Unreachable(_) => Self::Unreachable,
            UpstreamError::Suspended { .. } => Self::Suspended,
            UpstreamError::Untrusted(_) => Self::Untrusted,
            UpstreamError::BrokeOff(_) => Self::BrokeOff,
            UpstreamError::Silent(_) => Self::Silent,
            UpstreamError::Redirected(_) => Self::Redirected,
            UpstreamError::Protocol(_) => Self::Protocol,
            UpstreamError::NotSent => Self::NotSent,
        }
    }

    /// In a word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Suspended => "suspended",
            Self::Untrusted => "untrusted",
            Self::BrokeOff => "broke-off",
            Self::Silent => "silent",
            Self::Redirected => "redirected",
            Self::Protocol => "protocol",
            Self::NotSent => "not-sent",
        }
    }
}

fn code_index(status: Option<u16>) -> usize {
    let Some(status) = status else { return 0 };
    let known = CODES.iter().position(|(code, _)| *code == status);
    // The classes stand behind `none`, in their order.
    known.unwrap_or_else(|| usize::from(status / 100).min(5))
}

const OUTCOMES: [Outcome; 2] = [Outcome::Allow, Outcome::Deny];

const CLASSES: [ActionClass; 6] = [
    ActionClass::Read,
    ActionClass::Write,
    ActionClass::Delete,
    ActionClass::Exec,
    ActionClass::Credential,
    ActionClass::Escalate,
];

/// Kubernetes' verbs, of resources and of other paths. The last stands for any other.
const VERBS: [&str; 13] = [
    "get",
    "list",
    "watch",
    "create",
    "update",
    "patch",
    "delete",
    "deletecollection",
    "post",
    "put",
    "head",
    "options",
    "other",
];

/// The codes that are counted each for itself; the first six stand for all others.
const CODES: [(u16, &str); 36] = [
    (0, "none"),
    (1, "1xx"),
    (2, "2xx"),
    (3, "3xx"),
    (4, "4xx"),
    (5, "5xx"),
    (200, "200"),
    (201, "201"),
    (101, "101"),
    (403, "403"),
    (404, "404"),
    (401, "401"),
    (400, "400"),
    (409, "409"),
    (304, "304"),
    (202, "202"),
    (204, "204"),
    (206, "206"),
    (405, "405"),
    (406, "406"),
    (408, "408"),
    (410, "410"),
    (411, "411"),
    (412, "412"),
    (413, "413"),
    (415, "415"),
    (416, "416"),
    (422, "422"),
    (429, "429"),
    (431, "431"),
    (500, "500"),
    (501, "501"),
    (502, "502"),
    (503, "503"),
    (504, "504"),
    (507, "507"),
];

/// From 100 µs, below which the gate's own work lies, to the longest that an API server is waited for.
const REQUEST_BOUNDS_US: &[u64] = &[
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000, 10_000_000, 30_000_000, 60_000_000,
];

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: each code has its place, an unusual one that of its class. Method: rows.
    #[test]
    fn an_unusual_code_is_counted_by_its_class() {
        let check = |status: Option<u16>, expected: &str| {
            let counts = RequestCounts::default();
            counts.count(RouteKind::Kubernetes, Outcome::Deny, status, Duration::ZERO);
            let read: Vec<_> = counts.read().map(|(route, _, code, count)| (route, code, count)).collect();
            assert_eq!(read, [(RouteKind::Kubernetes, expected, 1)]);
        };
        check(None, "none");
        check(Some(200), "200");
        check(Some(299), "2xx");
        check(Some(418), "4xx");
        check(Some(599), "5xx");
        check(Some(999), "5xx");
        check(Some(103), "1xx");
    }

    /// Goal: a verb that nobody knows makes no new label. Method: rows.
    #[test]
    fn verbs_are_of_a_fixed_set() {
        let check = |verb: &str, class: &str, expected: (&str, ActionClass)| {
            let decisions = Decisions::default();
            decisions.count(verb, class, Outcome::Allow);
            assert_eq!(decisions.read().collect::<Vec<_>>(), [(expected.0, expected.1, Outcome::Allow, 1)]);
        };
        check("watch", "exec", ("watch", ActionClass::Exec));
        check("frobnicate", "read", ("other", ActionClass::Read));
    }

    /// Goal: what is counted under a variant is read under it. Method: each list is in the order of its variants.
    #[test]
    fn variants_stand_in_their_order() {
        assert!(ErrorKind::ALL.iter().enumerate().all(|(index, kind)| *kind as usize == index));
        assert!(RouteKind::ALL.iter().enumerate().all(|(index, kind)| *kind as usize == index));
        assert!(CloseReason::ALL.iter().enumerate().all(|(index, reason)| *reason as usize == index));
        assert!(OUTCOMES.iter().enumerate().all(|(index, outcome)| *outcome as usize == index));
    }
}
