//! The byte copy behind a 101: opaque, both ways, and sure to end.
//!
//! A tunnel outlives the task of its client's connection, so it keeps what that one kept: the drain's watcher (with the
//! client's place at the listener) and the place in flight. It ends when one side is done and the other has had its
//! grace, when nothing passes, when it is old, or when the gate goes down.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, split};
use tokio::time::{Instant, timeout};

use crate::body::OnClose;
use crate::decision::CloseReason;
use crate::drain::Watcher;
use crate::limits::Limits;
use crate::upstream::InFlight;

/// What is read at once, in each direction; also the most that a tunnel holds.
const COPY_BYTES: usize = 16 * 1024;

/// What an upgraded connection needs to end well.
pub(crate) struct Tunnel {
    pub(crate) drain: Watcher,
    pub(crate) on_close: OnClose,
}

/// Copies until one side is done, idle, or cut. Owns its place in flight to the end.
pub(super) async fn tie(
    downstream: OnUpgrade,
    upstream: OnUpgrade,
    tunnel: Tunnel,
    in_flight: InFlight,
    limits: Limits,
) {
    let Tunnel { mut drain, on_close } = tunnel;
    let bytes_down = AtomicU64::new(0);
    let reason = tokio::select! {
        reason = copy_both(downstream, upstream, &bytes_down, &limits) => reason,
        () = drain.cut() => CloseReason::Drained,
        () = tokio::time::sleep(limits.upgrade_lifetime) => CloseReason::LifetimeReached,
    };
    on_close(reason, bytes_down.load(Ordering::Relaxed));
    drop(in_flight);
}

async fn copy_both(downstream: OnUpgrade, upstream: OnUpgrade, bytes_down: &AtomicU64, limits: &Limits) -> CloseReason {
    // The API server has answered 101 already; the client gets its 101 at once or is gone.
    let upgraded = timeout(limits.header_timeout, async { tokio::try_join!(downstream, upstream) }).await;
    let Ok(Ok((downstream, upstream))) = upgraded else { return CloseReason::ClientClosed };
    let (down_read, down_write) = split(TokioIo::new(downstream));
    let (up_read, up_write) = split(TokioIo::new(upstream));
    let bytes_up = AtomicU64::new(0);
    let activity = Activity::new(limits.upgrade_idle_timeout);
    let mut up = std::pin::pin!(copy(down_read, up_write, &activity, &bytes_up));
    let mut down = std::pin::pin!(copy(up_read, down_write, &activity, bytes_down));
    tokio::select! {
        ended = up.as_mut() => match ended {
            Ok(()) => {
                let _ = timeout(limits.half_close_grace, down).await;
                CloseReason::ClientClosed
            }
            Err(Broken::Source) => CloseReason::ClientClosed,
            Err(Broken::Sink) => CloseReason::UpstreamFailed,
            Err(Broken::Stuck) => CloseReason::IdleTimeout,
        },
        ended = down.as_mut() => match ended {
            Ok(()) => {
                let _ = timeout(limits.half_close_grace, up).await;
                CloseReason::Completed
            }
            Err(Broken::Source) => CloseReason::UpstreamFailed,
            Err(Broken::Sink) => CloseReason::ClientClosed,
            Err(Broken::Stuck) => CloseReason::IdleTimeout,
        },
        () = activity.ceases() => CloseReason::IdleTimeout,
    }
}

/// Why one direction ended other than by its source's end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Broken {
    /// What is read from broke off.
    Source,
    /// What is written to does not take any more.
    Sink,
    /// What is written to took nothing for as long as a tunnel may be idle, whatever the other direction did.
    Stuck,
}

/// One direction, each part written and flushed before the next is read. Passes the end on.
async fn copy<R, W>(mut from: R, mut to: W, activity: &Activity, count: &AtomicU64) -> Result<(), Broken>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut buffer = vec![0; COPY_BYTES];
    loop {
        let length = from.read(&mut buffer).await.map_err(|_| Broken::Source)?;
        let mut part = buffer.get(..length).unwrap_or_default();
        if part.is_empty() {
            return activity.within_limit(to.shutdown()).await;
        }
        while !part.is_empty() {
            let written = activity.within_limit(to.write(part)).await?;
            if written == 0 {
                return Err(Broken::Sink);
            }
            count.fetch_add(written as u64, Ordering::Relaxed);
            activity.note();
            part = part.get(written..).unwrap_or_default();
        }
        activity.within_limit(to.flush()).await?;
    }
}

/// When bytes were last taken, in either direction.
struct Activity {
    started: Instant,
    last_ms: AtomicU64,
    idle_limit: Duration,
}

impl Activity {
    fn new(idle_limit: Duration) -> Self {
        Self { started: Instant::now(), last_ms: AtomicU64::new(0), idle_limit }
    }

    fn note(&self) {
        let now = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_ms.store(now, Ordering::Relaxed);
    }

    /// Ends when nothing was taken for as long as that may be.
    async fn ceases(&self) {
        loop {
            let until = self.started + Duration::from_millis(self.last_ms.load(Ordering::Relaxed)) + self.idle_limit;
            if until <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(until).await;
        }
    }

    async fn within_limit<T>(&self, write: impl Future<Output = std::io::Result<T>>) -> Result<T, Broken> {
        match timeout(self.idle_limit, write).await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(_)) => Err(Broken::Sink),
            Err(_) => Err(Broken::Stuck),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;

    use super::*;

    /// Goal: a direction ends as it should. Method: a source that ends, and a sink that takes all, breaks, or takes no more.
    #[tokio::test(start_paused = true)]
    async fn a_direction_ends_with_its_source_or_its_sink() {
        check(b"all of it", 1024, true, Ok(())).await;
        check(b"more than fits", 4, true, Err(Broken::Stuck)).await;
        check(b"nobody reads", 1024, false, Err(Broken::Sink)).await;
    }

    async fn check(source: &'static [u8], room: usize, reader_stays: bool, expected: Result<(), Broken>) {
        let (sink, reader) = duplex(room);
        let reader = reader_stays.then_some(reader);
        let activity = Activity::new(Duration::from_secs(5));
        let count = AtomicU64::new(0);
        assert_eq!(copy(source, sink, &activity, &count).await, expected);
        let taken = if reader.is_some() { source.len().min(room) } else { 0 };
        assert_eq!(count.load(Ordering::Relaxed), taken as u64);
    }

    /// Goal: only progress counts as activity. Method: a note in between moves the end by as much.
    #[tokio::test(start_paused = true)]
    async fn activity_ceases_after_the_last_note() {
        let activity = Activity::new(Duration::from_secs(5));
        let noting = async {
            tokio::time::sleep(Duration::from_secs(3)).await;
            activity.note();
        };
        tokio::join!(activity.ceases(), noting);
        assert_eq!(activity.started.elapsed().as_secs(), 8);
    }
}
