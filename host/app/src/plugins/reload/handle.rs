//! Asking for a reload or a rollback, and what comes back.

use std::fmt;

use tokio::sync::{mpsc, oneshot};
use tracing::{debug, info};
use witgate_core::Generation;

use crate::plugins::Problem;

/// Asks for reloads and rollbacks; cheap to clone.
#[derive(Clone)]
pub(crate) struct ReloadHandle {
    pub(super) requests: mpsc::Sender<Request>,
}

pub(super) enum Request {
    Reload(Reply),
    /// To this generation, or to the one before what serves.
    Rollback(Option<Generation>, Reply),
}

pub(super) type Reply = oneshot::Sender<Result<Generation, ReloadError>>;

/// Why a candidate does not serve.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Refusal {
    /// What is wrong; never empty.
    pub(crate) problems: Vec<Problem>,
}

impl Refusal {
    pub(super) fn of_folder(text: String) -> Self {
        Self { problems: vec![Problem::of_folder(text)] }
    }

    /// The configuration as it stands in its file cannot be used.
    pub(super) fn of_configuration(text: String) -> Self {
        Self { problems: text.lines().map(|line| Problem::of_folder(line.to_owned())).collect() }
    }

    /// Both; what both say is said once.
    pub(super) fn and(mut self, other: Self) -> Self {
        for problem in other.problems {
            if !self.problems.contains(&problem) {
                self.problems.push(problem);
            }
        }
        self
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<_> = self.problems.iter().map(|problem| problem.text.as_str()).collect();
        f.write_str(&texts.join("; "))
    }
}

impl std::error::Error for Refusal {}

/// Why a reload or rollback that was asked for published nothing.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum ReloadError {
    /// The candidate does not serve; the last good generation does.
    #[error("refused, and the last good generation serves on: {0}")]
    Refused(Refusal),
    /// There is no such generation to roll back to.
    #[error("{} is not kept; kept are {}", wanted_generation(.wanted), generations(.kept))]
    NotKept {
        /// The one that was asked for; none for the one before what serves.
        wanted: Option<Generation>,
        /// Those that there are.
        kept: Vec<Generation>,
    },
    /// More wait for a reload than may.
    #[error("{REQUESTS_MAX} wait for a reload already")]
    Full,
    /// The gate is stopping.
    #[error("nobody reloads any more: the gate is stopping")]
    Stopped,
}

fn wanted_generation(wanted: &Option<Generation>) -> String {
    wanted.map_or_else(|| "a generation before the one that serves".to_owned(), |wanted| format!("generation {wanted}"))
}

fn generations(kept: &[Generation]) -> String {
    let kept: Vec<_> = kept.iter().map(ToString::to_string).collect();
    if kept.is_empty() { "none".to_owned() } else { kept.join(", ") }
}

impl ReloadHandle {
    /// Asks for a reload of what stands in the folder now, settled or not, and waits for the generation that serves after
    /// it. What was refused is tried again, changed or not, and a rollback is over.
    ///
    /// # Errors
    /// When the candidate is refused, when too many wait, and when the gate is stopping.
    pub(crate) async fn reload_now(&self) -> Result<Generation, ReloadError> {
        self.ask(Request::Reload).await
    }

    /// Lets the plug-ins of an earlier generation serve once more, as a new generation, and waits for it. None is the
    /// generation before the one whose plug-ins serve: asked for again, it goes further back.
    ///
    /// # Errors
    /// When that generation is not kept, when its plug-ins do not fit the clusters any more, when too many wait, and when the
    /// gate is stopping.
    pub(crate) async fn rollback(&self, to: Option<Generation>) -> Result<Generation, ReloadError> {
        self.ask(|reply| Request::Rollback(to, reply)).await
    }

    async fn ask(&self, request: impl FnOnce(Reply) -> Request) -> Result<Generation, ReloadError> {
        let (reply, outcome) = oneshot::channel();
        self.requests.try_send(request(reply)).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => ReloadError::Full,
            mpsc::error::TrySendError::Closed(_) => ReloadError::Stopped,
        })?;
        outcome.await.unwrap_or(Err(ReloadError::Stopped))
    }

    /// Asks for a reload at each SIGHUP; never ends.
    ///
    /// # Errors
    /// When the signal cannot be listened to.
    pub(crate) async fn trigger_on_hangup(self) -> std::io::Result<()> {
        let mut hangups = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup())?;
        while hangups.recv().await.is_some() {
            info!("SIGHUP: the plug-in folder and the configuration are read again");
            // A refusal has its own line in the log.
            match self.reload_now().await {
                Ok(generation) => info!(%generation, "SIGHUP: done"),
                Err(error @ (ReloadError::Refused(_) | ReloadError::NotKept { .. } | ReloadError::Full)) => {
                    debug!(%error, "SIGHUP");
                }
                Err(ReloadError::Stopped) => break,
            }
        }
        Ok(())
    }
}

/// How many may wait for a reload or rollback that they asked for.
pub(super) const REQUESTS_MAX: usize = 64;
