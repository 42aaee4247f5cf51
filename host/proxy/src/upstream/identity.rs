//! Whom the gate is to one API server: a TLS configuration and a pool for each.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use rustls::ClientConfig;
use witgate_core::{BoxError, Credential, Digest, PrivateKeyPair};

use super::pool::Pool;
use super::{Http2, ServerTrust};
use crate::limits::Limits;
use crate::tls;
use crate::workers::{PerWorker, processors};

/// All identities of one cluster.
pub(super) struct Identities {
    verification: tls::ServerVerification,
    /// Bearer and anonymous callers: their identity is in a header, so they share connections.
    shared: Arc<Identity>,
    /// One for each client certificate, the longest unused first.
    by_certificate: Mutex<VecDeque<Known>>,
    http2: Http2,
    limits: Limits,
}

/// The identity of one client certificate.
struct Known {
    certificate: Digest,
    identity: Arc<Identity>,
    last_used: Instant,
}

/// One identity.
#[derive(Debug)]
pub(super) struct Identity {
    pub(super) tls: TlsConfigs,
    http2: Http2,
    limits: Limits,
    /// A connection is used at the worker where it was made.
    pools: PerWorker<Pool>,
}

/// The same identity with and without HTTP/2: an upgrade needs HTTP/1.1.
#[derive(Debug)]
pub(super) struct TlsConfigs {
    pub(super) any_protocol: Arc<ClientConfig>,
    pub(super) http1_only: Arc<ClientConfig>,
}

/// Why a credential cannot be used to connect. Holds no part of it.
#[derive(Debug, thiserror::Error)]
pub enum UnusableCredential {
    /// The certificate or key does not parse, or they do not belong together.
    #[error("the client certificate or its key cannot be used")]
    ClientCertificate(#[source] BoxError),
    /// A client certificate for a server without TLS.
    #[error("a client certificate needs an https URL")]
    NotSecure,
    /// A token that is no header value.
    #[error("the token cannot be a header's value")]
    Token,
}

impl Identities {
    pub(super) fn new(trust: ServerTrust, http2: Http2, limits: Limits) -> Result<Self, String> {
        let verification = tls::ServerVerification::new(trust)?;
        let config = verification.client_config(None).map_err(|error| error.to_string())?;
        let shared = Arc::new(Identity::new(config, http2, &limits));
        Ok(Self { verification, shared, by_certificate: Mutex::default(), http2, limits })
    }

    /// The identity of `credential`, made where it is new.
    pub(super) fn of(&self, credential: &Credential) -> Result<Arc<Identity>, UnusableCredential> {
        match credential {
            Credential::BearerToken(_) | Credential::Anonymous => Ok(Arc::clone(&self.shared)),
            Credential::X509ClientCertificate(pair) => self.of_certificate(pair),
        }
    }

    fn of_certificate(&self, pair: &PrivateKeyPair) -> Result<Arc<Identity>, UnusableCredential> {
        let key = fingerprint(pair);
        if let Some(identity) = self.known(&key) {
            return Ok(identity);
        }
        // Parsing the key is slow enough to do it outside the lock; two requests may do it at once, and one is kept.
        let config = self.verification.client_config(Some(pair)).map_err(UnusableCredential::ClientCertificate)?;
        let identity = Arc::new(Identity::new(config, self.http2, &self.limits));
        let mut identities = self.by_certificate.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = identities.iter().find(|known| known.certificate == key) {
            return Ok(Arc::clone(&known.identity));
        }
        let now = Instant::now();
        self.forget_unused(&mut identities, now);
        if identities.len() >= self.limits.identities_max {
            identities.pop_front();
        }
        identities.push_back(Known { certificate: key, identity: Arc::clone(&identity), last_used: now });
        Ok(identity)
    }

    fn known(&self, key: &Digest) -> Option<Arc<Identity>> {
        let mut identities = self.by_certificate.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let index = identities.iter().rposition(|known| known.certificate == *key)?;
        let known = identities.remove(index)?;
        let identity = Arc::clone(&known.identity);
        identities.push_back(Known { last_used: now, ..known });
        self.forget_unused(&mut identities, now);
        Some(identity)
    }

    /// A certificate that was rotated is not seen again. Requests in flight keep what they use; what rests closes.
    fn forget_unused(&self, identities: &mut VecDeque<Known>, now: Instant) {
        let is_unused = |known: &Known| now.duration_since(known.last_used) >= self.limits.pool_idle_timeout;
        while identities.front().is_some_and(is_unused) {
            identities.pop_front();
        }
    }
}

impl fmt::Debug for Identities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identities")
    }
}

impl Identity {
    fn new(config: ClientConfig, http2: Http2, limits: &Limits) -> Self {
        // All pools together keep as many as one would.
        let limits = Limits { pool_idle_max: limits.pool_idle_max.div_ceil(processors().get()), ..*limits };
        Self { tls: TlsConfigs::new(config, http2), http2, limits, pools: PerWorker::new() }
    }

    /// The connections of the worker that asks.
    pub(super) fn pool(&self) -> &Pool {
        self.pools.here(|| Pool::new(self.http2, &self.limits))
    }
}

impl TlsConfigs {
    fn new(http1_only: ClientConfig, http2: Http2) -> Self {
        let mut any_protocol = http1_only.clone();
        any_protocol.alpn_protocols = match http2 {
            Http2::Offered => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
            Http2::Disabled => vec![b"http/1.1".to_vec()],
        };
        let mut http1_only = http1_only;
        http1_only.alpn_protocols = vec![b"http/1.1".to_vec()];
        Self { any_protocol: Arc::new(any_protocol), http1_only: Arc::new(http1_only) }
    }
}

/// Names a certificate with its key; length-delimited, so that no two pairs run into one.
fn fingerprint(pair: &PrivateKeyPair) -> Digest {
    let certificate = pair.certificate.as_bytes();
    let mut bytes = Vec::with_capacity(8 + certificate.len() + pair.key.expose().len());
    bytes.extend_from_slice(&(certificate.len() as u64).to_le_bytes());
    bytes.extend_from_slice(certificate);
    bytes.extend_from_slice(pair.key.expose().as_bytes());
    Digest::of(&bytes)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Goal: one cluster keeps no more identities than it may, the longest unused going first, and a certificate that
    /// is known keeps its connections. Method: the order in which certificates come, and which are new each time.
    #[test]
    fn the_identity_that_was_unused_longest_goes_first() {
        let day = Duration::from_secs(86_400);
        check(2, day, "abab", "new new known known");
        check(2, day, "abca", "new new new new");
        check(2, day, "abacab", "new new known new known new");
        check(1, day, "aaba", "new known new new");
    }

    /// Goal: a certificate that was rotated away is forgotten, though there is room. Method: nothing may be unused for long.
    #[test]
    fn an_unused_identity_is_forgotten() {
        check(9, Duration::from_nanos(1), "abab", "new new new new");
        check(9, Duration::from_nanos(1), "aaa", "new known known");
    }

    #[track_caller]
    fn check(identities_max: usize, pool_idle_timeout: Duration, callers: &str, expected: &str) {
        let limits = Limits { identities_max, pool_idle_timeout, ..Limits::default() };
        let trust = ServerTrust { ca_data: None, skip_tls_verify: true };
        let identities = Identities::new(trust, Http2::Offered, limits).unwrap();
        let pairs: Vec<_> = callers.chars().map(|name| (name, pair(name))).collect();
        let mut seen: Vec<(char, std::sync::Weak<Identity>)> = Vec::new();
        let mut got = Vec::new();
        for (name, pair) in pairs {
            let identity = identities.of(&Credential::X509ClientCertificate(pair)).unwrap();
            let known = seen.iter().any(|(other, weak)| *other == name && weak.as_ptr() == Arc::as_ptr(&identity));
            got.push(if known { "known" } else { "new" });
            seen.push((name, Arc::downgrade(&identity)));
        }
        assert_eq!(got.join(" "), expected, "{callers}");
    }

    /// The same for each name.
    fn pair(name: char) -> PrivateKeyPair {
        static PAIRS: std::sync::Mutex<Vec<(char, String, String)>> = std::sync::Mutex::new(Vec::new());
        let mut pairs = PAIRS.lock().unwrap();
        if !pairs.iter().any(|(known, ..)| *known == name) {
            let key = rcgen::KeyPair::generate().unwrap();
            let certificate = rcgen::CertificateParams::new(vec![name.to_string()]).unwrap().self_signed(&key).unwrap();
            pairs.push((name, certificate.pem(), key.serialize_pem()));
        }
        let (_, certificate, key) = pairs.iter().find(|(known, ..)| *known == name).unwrap();
        PrivateKeyPair { certificate: certificate.clone(), key: key.clone().into() }
    }
}
