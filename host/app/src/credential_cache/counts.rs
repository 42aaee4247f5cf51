//! What the caches did since the gate started.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

/// Counts; every cache of every generation adds to the same ones.
#[derive(Debug, Default)]
pub(super) struct Counts {
    hits: AtomicU64,
    misses: AtomicU64,
    refreshes: AtomicU64,
    failures: AtomicU64,
    rejections: AtomicU64,
}

/// The caches' part of `/status`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
pub(crate) struct CacheStatus {
    /// Credentials that are held now.
    pub(crate) entries: usize,
    /// Requests that were spared a call of their strategy.
    pub(crate) hits: u64,
    /// Calls of a strategy that a request waited for.
    pub(crate) misses: u64,
    /// Calls of a strategy ahead of an expiry, which nobody waits for.
    pub(crate) refreshes: u64,
    /// Calls, of both kinds, that brought no credential.
    pub(crate) failures: u64,
    /// Requests that were sent again because the API server answered 401 to a credential that was held.
    pub(crate) rejections: u64,
}

impl Counts {
    pub(super) fn hit(&self) {
        self.hits.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn miss(&self) {
        self.misses.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn refresh(&self) {
        self.refreshes.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn failure(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn rejection(&self) {
        self.rejections.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn status(&self, entries: usize) -> CacheStatus {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        CacheStatus {
            entries,
            hits: read(&self.hits),
            misses: read(&self.misses),
            refreshes: read(&self.refreshes),
            failures: read(&self.failures),
            rejections: read(&self.rejections),
        }
    }
}
