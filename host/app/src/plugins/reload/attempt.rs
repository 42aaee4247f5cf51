//! What a reload remembers: of the attempt under way, of what was refused, and of what served.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use witgate_core::Generation;

use super::handle::Refusal;
use crate::plugins::candidate::{Plugins, Wanted};
use crate::plugins::status::{Cause, Phases};

/// The plug-ins of a generation that served.
#[derive(Clone)]
pub(super) struct Kept {
    /// The last generation that served them.
    pub(super) generation: Generation,
    pub(super) plugins: Plugins,
}

/// Why the folder is not what serves.
pub(super) struct Pin {
    /// What stood in the folder at the rollback; none where it could not be read.
    pub(super) folder: Option<Wanted>,
    pub(super) since: String,
}

/// A candidate that was refused.
pub(super) struct Refused<C> {
    /// The plug-ins that are wanted and do not serve; none where the folder holds what serves, or could not be read.
    pub(super) wanted: Option<Wanted>,
    /// The configuration that is wanted and is not in force; none where what is wanted is, or could not be read.
    configuration: Option<Arc<C>>,
    pub(super) refusal: Refusal,
    pause: Duration,
    pub(super) retry_at: Instant,
}

impl<C> Refused<C> {
    pub(super) fn new(wanted: Option<Wanted>, configuration: Option<Arc<C>>, refusal: Refusal) -> Self {
        Self { wanted, configuration, refusal, pause: RETRY_PAUSE_MIN, retry_at: Instant::now() }
    }

    /// Whether it was made of these.
    pub(super) fn is_of(&self, wanted: Option<&Wanted>, configuration: Option<&Arc<C>>) -> bool {
        let same_configuration = match (&self.configuration, configuration) {
            (None, None) => true,
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (None, Some(_)) | (Some(_), None) => false,
        };
        same_configuration && self.wanted.as_ref() == wanted
    }

    /// With the time of the next try: where the same was refused before, and was only tried again, a longer one.
    pub(super) fn after(self, before: Option<Self>, cause: Cause) -> Self {
        let pause = match (&before, cause) {
            (Some(refused), Cause::Retry) => (refused.pause * 2).min(RETRY_PAUSE_MAX),
            (Some(refused), Cause::Start | Cause::Changed | Cause::Asked | Cause::Rollback) => refused.pause,
            (None, _) => RETRY_PAUSE_MIN,
        };
        Self { pause, retry_at: Instant::now() + pause, ..self }
    }
}

/// A reload under way: why it happens, and how long its phases took so far.
pub(super) struct Attempt {
    pub(super) cause: Cause,
    pub(super) phases: Phases,
}

impl Attempt {
    pub(super) fn of(cause: Cause) -> Self {
        Self { cause, phases: Phases::default() }
    }

    pub(super) async fn settled<T>(&mut self, work: impl Future<Output = T>) -> T {
        timed(&mut self.phases.settle, work).await
    }

    /// Counts as a part of the scan.
    pub(super) async fn delivered<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut took = Duration::ZERO;
        let output = timed(&mut took, work).await;
        self.phases.scan += took;
        output
    }

    pub(super) async fn scanned<T>(&mut self, work: impl Future<Output = T>) -> T {
        timed(&mut self.phases.scan, work).await
    }

    pub(super) async fn loaded<T>(&mut self, work: impl Future<Output = T>) -> T {
        timed(&mut self.phases.load, work).await
    }

    pub(super) async fn built<T>(&mut self, work: impl Future<Output = T>) -> T {
        timed(&mut self.phases.build, work).await
    }
}

async fn timed<T>(took: &mut Duration, work: impl Future<Output = T>) -> T {
    let begun = Instant::now();
    let output = work.await;
    *took += begun.elapsed(); // a phase may come again
    output
}

/// When a candidate that was refused is tried again, and how much more rarely in the end.
const RETRY_PAUSE_MIN: Duration = Duration::from_secs(10);
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(300);
