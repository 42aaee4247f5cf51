//! The time, read once for each caller and handed down, so that what depends on it can be tested without waiting.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// One moment on both clocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Now {
    /// For waits and ages; never jumps.
    pub(super) monotonic: Instant,
    /// For what a token says of itself.
    pub(super) unix_seconds: u64,
}

impl Now {
    /// This moment. A wall clock before 1970 reads as the far future: every token has expired then.
    pub(super) fn read() -> Self {
        let unix_seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(u64::MAX, |since| since.as_secs());
        Self { monotonic: Instant::now(), unix_seconds }
    }
}

#[cfg(test)]
impl Now {
    /// This moment, moved on by `seconds` on both clocks.
    pub(super) fn after(self, seconds: u64) -> Self {
        let moved = std::time::Duration::from_secs(seconds);
        Self { monotonic: self.monotonic + moved, unix_seconds: self.unix_seconds + seconds }
    }
}
