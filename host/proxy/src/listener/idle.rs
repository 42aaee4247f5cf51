//! How long a connection has had nothing to do.
//!
//! HTTP/2 needs it: a client that answers PINGs, or has not even begun, would keep its
//! place for ever. A request counts from its head to the end of its answer's body.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::sync::watch;
use tokio::time::timeout;
use witgate_core::BoxError;

use crate::body::Body;

/// The requests that one connection has under way.
#[derive(Clone, Debug)]
pub(super) struct Activity(Arc<watch::Sender<usize>>);

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
        Self(Arc::new(watch::Sender::new(0)))
    }

    /// For one more request.
    pub(super) fn enter(&self) -> Place {
        self.0.send_modify(|count| *count += 1);
        Place(self.clone())
    }

    /// Ends when no request was under way for `limit`, without a break.
    pub(super) async fn none_for(&self, limit: Duration) {
        let mut count = self.0.subscribe();
        loop {
            // The sender lives as long as `self`.
            let _ = count.wait_for(|count| *count == 0).await;
            if timeout(limit, count.changed()).await.is_err() {
                return;
            }
        }
    }
}

impl Place {
    /// Never over: the connection counts as busy to its end.
    pub(super) fn for_ever(self) -> Self {
        self.0.0.send_modify(|count| *count += 1);
        self
    }

    pub(super) const fn held_by(self, body: Body) -> Counted {
        Counted { body, _place: self }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.0.send_modify(|count| *count -= 1);
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
        assert!(timeout(LIMIT * 1000, activity.none_for(LIMIT)).await.is_err());
    }
}
