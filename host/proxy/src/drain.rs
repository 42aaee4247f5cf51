//! Going down without breaking what is under way.
//!
//! Every connection, stream and upgrade holds a [`Watcher`]; the gate is drained when
//! none is left. Connections stop taking requests at once, watches end spread over
//! time so that their clients do not all come back at the same moment, and whatever is
//! left at the deadline is cut.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, watch};
use witgate_core::BoxFuture;

/// How far the shutdown has come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Phase {
    Serving,
    /// No new requests; watches end within `stream_window`.
    Draining {
        stream_window: Duration,
    },
    /// Everything ends now.
    Cut,
}

/// The side that shuts down.
#[derive(Debug)]
pub struct Drain(watch::Sender<Phase>);

/// The side of whoever has something under way. The gate waits for it to be dropped.
#[derive(Clone, Debug)]
pub struct Watcher {
    phase: watch::Receiver<Phase>,
    /// The connection's place at the listener: an upgrade outlives the connection's task and keeps it.
    _place: Option<Arc<OwnedSemaphorePermit>>,
}

impl Default for Drain {
    fn default() -> Self {
        Self(watch::Sender::new(Phase::Serving))
    }
}

impl Drain {
    /// For one more connection.
    pub fn watcher(&self) -> Watcher {
        Watcher { phase: self.0.subscribe(), _place: None }
    }

    /// Whether the shutdown has begun.
    pub fn has_begun(&self) -> bool {
        *self.0.borrow() != Phase::Serving
    }

    /// Ends everything: politely until `deadline`, then by cutting. Returns whether nothing had to be cut.
    pub async fn run(&self, deadline: Duration) -> bool {
        self.0.send_replace(Phase::Draining { stream_window: deadline / 2 });
        if tokio::time::timeout(deadline, self.0.closed()).await.is_ok() {
            return true;
        }
        self.0.send_replace(Phase::Cut);
        // Cutting takes no waiting on anybody; the limit is for a task that is not polled any more.
        let _ = tokio::time::timeout(CUT_TIMEOUT, self.0.closed()).await;
        false
    }
}

/// How long tasks may take to notice that they are cut.
const CUT_TIMEOUT: Duration = Duration::from_secs(2);

impl Watcher {
    /// Keeps `place` taken until the last copy is dropped.
    #[must_use]
    pub fn holding(&self, place: OwnedSemaphorePermit) -> Self {
        Self { phase: self.phase.clone(), _place: Some(Arc::new(place)) }
    }

    /// Ends when the shutdown begins.
    pub async fn begun(&mut self) {
        self.reached(|phase| phase != &Phase::Serving).await;
    }

    /// Ends when whatever is left is cut.
    pub async fn cut(&mut self) {
        self.reached(|phase| phase == &Phase::Cut).await;
    }

    /// Ends when a stream should: at `share` (0 to 255) of the window after the shutdown began.
    pub fn stream_end(mut self, share: u8) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            self.begun().await;
            let phase = *self.phase.borrow();
            if let Phase::Draining { stream_window } = phase {
                let wait = stream_window / 255 * u32::from(share);
                let _ = tokio::time::timeout(wait, self.cut()).await;
            }
        })
    }

    async fn reached(&mut self, is_there: fn(&Phase) -> bool) {
        // An error means that the `Drain` itself is gone: then there is nothing left to wait for.
        let _ = self.phase.wait_for(is_there).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a drain ends when the last watcher is gone, and not before. Method: one watcher, dropped when told.
    #[tokio::test(start_paused = true)]
    async fn a_drain_waits_for_the_last_watcher() {
        let drain = Drain::default();
        let mut watcher = drain.watcher();
        let work = async move {
            watcher.begun().await;
            tokio::time::advance(Duration::from_secs(3)).await;
            drop(watcher);
        };
        let (clean, ()) = tokio::join!(drain.run(Duration::from_secs(10)), work);
        assert!(clean);
    }

    /// Goal: a connection's place is free when nothing of it is left, and not before. Method: two copies, dropped in turn.
    #[test]
    fn a_place_is_kept_until_the_last_copy_is_gone() {
        let places = Arc::new(tokio::sync::Semaphore::new(1));
        let place = Arc::clone(&places).try_acquire_owned().unwrap();
        let connection = Drain::default().watcher().holding(place);
        let upgraded = connection.clone();
        drop(connection);
        assert_eq!(places.available_permits(), 0, "the upgrade outlives its connection's task");
        drop(upgraded);
        assert_eq!(places.available_permits(), 1);
    }

    /// Goal: whatever is left at the deadline is cut. Method: a watcher that only ends when cut.
    #[tokio::test(start_paused = true)]
    async fn what_is_left_at_the_deadline_is_cut() {
        let drain = Drain::default();
        let mut watcher = drain.watcher();
        let work = async move { watcher.cut().await };
        let (clean, ()) = tokio::join!(drain.run(Duration::from_secs(10)), work);
        assert!(!clean);
    }

    /// Goal: streams end spread over half of the deadline. Method: the first, the middle and the last share.
    #[tokio::test(start_paused = true)]
    async fn streams_end_one_after_the_other() {
        let drain = Drain::default();
        let started = tokio::time::Instant::now();
        let ends = [0_u8, 128, 255].map(|share| {
            let end = drain.watcher().stream_end(share);
            async move {
                end.await;
                started.elapsed().as_secs()
            }
        });
        let (_, ends) = tokio::join!(drain.run(Duration::from_secs(20)), join_all(ends));
        assert_eq!(ends, [0, 5, 10]);
    }

    use futures_util::future::join_all;
}
