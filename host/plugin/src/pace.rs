//! Who runs when: a guest that computes for long takes turns with others of its plug-in.
//!
//! A runtime's thread serves whoever is ready, in turn. If every guest that spins were ready all the time, each other
//! request would wait for a slice of each of them, and a plug-in with 64 calls in flight would slow the whole gate down. So
//! a guest that has used up its first slice waits for one of its plug-in's few turns, and gives it back after
//! each slice. Short calls never get to know of this.
//!
//! A turn is for computing alone: who waits in a host call gives it back too.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::call_clock::CallClock;

/// The clock of one call, and its turn.
pub(crate) struct Pace {
    pub(crate) clock: CallClock,
    turns: Arc<Semaphore>,
    held: Mutex<Option<OwnedSemaphorePermit>>,
}

impl Pace {
    /// Begins now; `turns` are those of the plug-in.
    pub(crate) const fn begin(clock: CallClock, turns: Arc<Semaphore>) -> Self {
        Self { clock, turns, held: Mutex::new(None) }
    }

    /// Ends a slice: lets everybody else run, and comes back with the next turn.
    pub(crate) fn next_turn(self: &Arc<Self>) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        self.clock.yields();
        self.rest();
        let pace = Arc::clone(self);
        Box::pin(async move {
            // Tokio's own yield: the task goes to the back, and timers and sockets get their turn.
            tokio::task::yield_now().await;
            // Never closed, so this cannot fail.
            let turn = Arc::clone(&pace.turns).acquire_owned().await.ok();
            pace.hold(turn);
            pace.clock.resumes();
        })
    }

    /// Gives the turn back, if it has one.
    pub(crate) fn rest(&self) {
        self.hold(None);
    }

    fn hold(&self, turn: Option<OwnedSemaphorePermit>) {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = turn;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: no more compute at once than there are turns, and waiting for one does not count. Method: one turn, two calls.
    #[tokio::test]
    async fn turns_go_round() {
        let turns = Arc::new(Semaphore::new(1));
        let [one, other] = [(); 2].map(|()| Arc::new(Pace::begin(CallClock::begin(), Arc::clone(&turns))));
        one.next_turn().await;
        let mut waiting = one.next_turn();
        other.next_turn().await; // it was given back
        let first_poll = futures_poll(&mut waiting).await;
        assert!(first_poll.is_pending());
        let taken = one.clock.taken();
        assert_eq!(one.clock.taken(), taken, "its time stands still");
        other.rest();
        waiting.await;
        assert_eq!(turns.available_permits(), 0);
        drop(one);
        assert_eq!(turns.available_permits(), 1, "a call that ends leaves its turn");
    }

    /// Polls until past the yield, and once more.
    async fn futures_poll(future: &mut Pin<Box<dyn Future<Output = ()> + Send>>) -> std::task::Poll<()> {
        for _ in 0..2 {
            if std::future::poll_fn(|cx| std::task::Poll::Ready(future.as_mut().poll(cx))).await.is_ready() {
                return std::task::Poll::Ready(());
            }
        }
        std::task::Poll::Pending
    }
}
