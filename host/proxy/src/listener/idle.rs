//! How long a connection has had nothing to do.
//!
//! HTTP/2 needs it: a client that answers PINGs, or has not even begun, would keep its
//! place for ever. A request counts from its head to the end of its answer's body.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::time::{Instant, sleep};
use witgate_core::BoxError;

use crate::body::Body;

/// The requests that one connection has under way.
#[derive(Clone, Debug)]
pub(super) struct Activity(Arc<Requests>);

/// Counted without waking anybody: who waits for a connection to rest looks when it could have rested for long enough.
#[derive(Debug)]
struct Requests {
    under_way: AtomicUsize,
    connected_at: Instant,
    /// When the last one was over: nanoseconds after `connected_at`.
    rests_since: AtomicU64,
}

/// One request under way; over when it is dropped.
#[derive(Debug)]
pub(super) struct Place(Activity);

/// An answer's body with its request's place.
#[derive(Debug)]
pub(super) struct Counted {
    body: Body,
    _place: Place,
}

impl Activity {
    pub(super) fn new() -> Self {
        let (under_way, rests_since) = (AtomicUsize::new(0), AtomicU64::new(0));
        Self(Arc::new(Requests { under_way, connected_at: Instant::now(), rests_since }))
    }

    /// For one more request.
    pub(super) fn enter(&self) -> Place {
        self.0.under_way.fetch_add(1, Ordering::AcqRel);
        Place(self.clone())
    }

    /// Ends when no request was under way for `limit`, without a break.
    pub(super) async fn none_for(&self, limit: Duration) {
        loop {
            let rested = self.rested();
            if rested >= limit {
                return;
            }
            sleep(limit.saturating_sub(rested)).await;
        }
    }

    /// For how long no request has been under way.
    fn rested(&self) -> Duration {
        if self.0.under_way.load(Ordering::Acquire) > 0 {
            return Duration::ZERO;
        }
        let since = Duration::from_nanos(self.0.rests_since.load(Ordering::Acquire));
        self.0.connected_at.elapsed().saturating_sub(since)
    }
}

impl Place {
    /// Never over: the connection counts as busy to its end.
    pub(super) fn for_ever(self) -> Self {
        self.0.0.under_way.fetch_add(1, Ordering::AcqRel);
        self
    }

    pub(super) const fn held_by(self, body: Body) -> Counted {
        Counted { body, _place: self }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Activity(requests) = &self.0;
        // Before it is counted as over: who sees none under way sees since when.
        let now = u64::try_from(requests.connected_at.elapsed().as_nanos()).unwrap_or(u64::MAX);
        requests.rests_since.fetch_max(now, Ordering::AcqRel);
        requests.under_way.fetch_sub(1, Ordering::AcqRel);
    }
}

impl http_body::Body for Counted {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Pin::new(&mut self.get_mut().body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    /// Goal: only an unbroken time without requests counts. Method: a stopped clock, and requests in between.
    #[tokio::test(start_paused = true)]
    async fn a_connection_is_idle_after_the_limit_and_not_before() {
        let activity = Activity::new();
        let started = tokio::time::Instant::now();
        let first = activity.enter();
        let idle = tokio::spawn({
            let activity = activity.clone();
            async move { activity.none_for(LIMIT).await }
        });
        tokio::time::sleep(LIMIT * 3).await;
        drop(first);
        tokio::time::sleep(LIMIT / 2).await;
        drop(activity.enter());

        idle.await.unwrap();

        assert_eq!(started.elapsed(), LIMIT * 3 + LIMIT / 2 + LIMIT);
    }

    /// Goal: a tunnel keeps its connection busy after its answer.
    #[tokio::test(start_paused = true)]
    async fn a_place_for_ever_is_never_given_back() {
        let activity = Activity::new();
        drop(activity.enter().for_ever());
        assert!(tokio::time::timeout(LIMIT * 1000, activity.none_for(LIMIT)).await.is_err());
    }
}
