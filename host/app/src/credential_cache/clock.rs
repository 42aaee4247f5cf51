//! The time: read once for each step, and a value, so that expiry is tested without waiting.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// Reads the time.
pub(super) type Clock = Arc<dyn Fn() -> Now + Send + Sync>;

/// One moment on both clocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Now {
    /// For pauses and ages; never jumps.
    pub(super) monotonic: Instant,
    /// For what a credential says of itself: since the Unix epoch.
    pub(super) unix: Duration,
}

/// The clocks of this machine. A wall clock before 1970 reads as the far future: every credential has expired then.
pub(super) fn system() -> Clock {
    Arc::new(|| Now {
        monotonic: Instant::now(),
        unix: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::MAX),
    })
}
