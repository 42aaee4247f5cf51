//! Every limit of the data plane, with its name, its default and where the number comes from.

use std::time::Duration;

/// How long the gate waits and how much it holds, for one listener and the clusters behind it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// A client's request head, from its first byte to its last, and the time that an idle HTTP/1.1 connection is kept.
    pub header_read_timeout: Duration,
    /// A client's TLS handshake.
    pub handshake_timeout: Duration,
    /// How long an HTTP/2 connection may stand without a request; a client that answers PINGs would keep it for ever.
    pub idle_timeout: Duration,
    /// The header block of a request. 16 KiB is Node's own limit, which Backstage's users know (case B19).
    pub header_bytes_max: usize,
    /// How many headers a request may have.
    pub header_count_max: usize,
    /// Connections that the listener holds at once; further ones wait in the kernel's queue.
    pub connections_max: usize,
    /// Streams that one HTTP/2 connection may have open. The API server's own default is 250 (`golang.org/x/net/http2`).
    pub streams_max: u32,
    /// TCP and TLS to an API server.
    pub connect_timeout: Duration,
    /// From the last byte of the request to the head of the answer. The API server itself gives up
    /// after 60 s (`--request-timeout`), so its answer comes first.
    pub header_timeout: Duration,
    /// Between two bytes of an answer that is not long-running.
    pub body_idle_timeout: Duration,
    /// Between two bytes, in either direction, of an upgraded connection. The kubelet's own default is 4 h
    /// (`--streaming-connection-idle-timeout`).
    pub upgrade_idle_timeout: Duration,
    /// How long an upgraded connection may live.
    pub upgrade_lifetime: Duration,
    /// How long the other direction of an upgraded connection may go on after one has ended.
    pub half_close_grace: Duration,
    /// Requests that one cluster may have in flight, streams included; further ones are refused with 503.
    pub in_flight_max: usize,
    /// How long an unused connection to an API server is kept. Go's client keeps them 90 s, its server closes after 120 s or more.
    pub pool_idle_timeout: Duration,
    /// Unused HTTP/1.1 connections that one identity keeps to one API server.
    pub pool_idle_max: usize,
    /// Identities by client certificate that one cluster keeps connections for; those unused for `pool_idle_timeout` go before.
    pub identities_max: usize,
    /// Connections in a row that could not be made, until a cluster's requests are refused at once.
    pub breaker_failures_max: u32,
    /// How long they are refused at first; then one at a time may try. It doubles with each that fails.
    pub breaker_pause_min: Duration,
    /// How long they are refused at most: an API server that comes back is found as soon.
    pub breaker_pause_max: Duration,
    /// After SIGTERM, how long requests are still taken while `/readyz` fails: a load balancer learns of it with a delay.
    pub drain_delay: Duration,
    /// After that, how long requests may take to finish before they are cut.
    pub drain_deadline: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            header_read_timeout: Duration::from_secs(60),
            handshake_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(5 * 60),
            header_bytes_max: 16 * 1024,
            header_count_max: 100,
            connections_max: 20_000,
            streams_max: 250,
            connect_timeout: Duration::from_secs(10),
            header_timeout: Duration::from_secs(65),
            body_idle_timeout: Duration::from_secs(60),
            upgrade_idle_timeout: Duration::from_secs(4 * 60 * 60),
            upgrade_lifetime: Duration::from_secs(24 * 60 * 60),
            half_close_grace: Duration::from_secs(10),
            in_flight_max: 20_000,
            pool_idle_timeout: Duration::from_secs(60),
            pool_idle_max: 256,
            identities_max: 256,
            breaker_failures_max: 3,
            breaker_pause_min: Duration::from_secs(1),
            breaker_pause_max: Duration::from_secs(10),
            drain_delay: Duration::ZERO,
            drain_deadline: Duration::from_secs(25),
        }
    }
}
