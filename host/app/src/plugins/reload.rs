//! The life of a generation of plug-ins, from a change in the folder to the snapshot that serves.
//!
//! ```text
//! observe ─► settle ─► scan + hash ─► load what differs ─► build ─► publish ─► the old generation drains and drops
//!    ▲          (same as what serves? nothing to do)  │        │       │         (its plug-ins are kept for a while)
//!    └──────────── refused: the last good one serves ─┴────────┘       └─► observe
//! ```
//!
//! A plug-in that is the same, component and sidecar, is not loaded again. Loading compiles (or finds the compiled code
//! of the same bytes), link-checks, configures and self-tests; building, which the caller gives as [`Publish`], makes a snapshot
//! of plug-ins and clusters and tries it. Nothing here knows WebAssembly, clusters or requests.
//!
//! A rollback publishes the plug-ins of an earlier generation once more, as a new one. What serves then differs from the
//! folder and is *pinned*: until the folder changes, or somebody asks for a reload.
//!
//! Promise: a candidate is published whole or not at all, and whatever fails before that changes
//! nothing. A folder that is gone is a failure, never a folder without policies. Generations only count up.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::fmt;
use std::future::pending;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::{debug, error, info, warn};
use witgate_core::{BoxFuture, Digest, Generation};

use super::candidate::{Differences, Plugins, Wanted};
use super::folder;
use super::load::Load;
use super::status::{Cause, LastReload, Phases, Pinned, PluginStatus, ReloadRecord, ReloadResult, ReloadStatus};
use super::watch::settle;
use super::{PluginEntry, Problem};
use crate::trusted_keys::TrustedKeys;

#[cfg(test)]
mod model;
#[cfg(test)]
mod stage;
#[cfg(test)]
mod tests;

/// Turns plug-ins into what serves.
pub(crate) trait Publish: Send + Sync + 'static {
    /// A generation that does not serve yet.
    type Candidate: Send;

    /// Makes a generation of `plugins` and tries it, each cluster's strategy included.
    ///
    /// The error's chain is for operators.
    fn build<'a>(
        &'a self,
        plugins: &'a [PluginEntry],
        generation: Generation,
    ) -> BoxFuture<'a, anyhow::Result<Self::Candidate>>;

    /// Lets it serve every request that begins from now on. It cannot fail.
    fn publish(&self, candidate: Self::Candidate);
}

/// What a reload works with.
pub(crate) struct ReloadParts<L, P> {
    /// The drop-in folder.
    pub(crate) directory: PathBuf,
    /// Who must have signed what stands in it.
    pub(crate) trusted_keys: TrustedKeys,
    /// How many generations that served are kept, to be rolled back to.
    pub(crate) kept_generations_max: usize,
    /// Strategies that are there without a file, by name.
    pub(crate) builtins: &'static [(&'static str, &'static [u8])],
    /// Makes plug-ins callable.
    pub(crate) loader: Arc<L>,
    /// Makes generations of them, and lets them serve.
    pub(crate) publisher: P,
    /// Notified when the folder may have changed; a [`FolderWatch`](super::watch::FolderWatch) does so.
    pub(crate) changed: Arc<Notify>,
    /// Where the outcome is told.
    pub(crate) status: watch::Sender<Arc<ReloadStatus>>,
}

/// Keeps the plug-ins that serve in line with the drop-in folder.
pub(crate) struct Reload<L, P> {
    parts: ReloadParts<L, P>,
    generation: Generation,
    serving: Plugins,
    /// Which generation first served these plug-ins: another than `generation` after a rollback.
    content_of: Generation,
    /// What served before, the oldest first.
    kept: VecDeque<Kept>,
    pinned: Option<Pin>,
    /// Built-ins as they are without a sidecar, kept for when a file that replaces one is removed.
    builtins: Plugins,
    refused: Option<Refused>,
    records: VecDeque<ReloadRecord>,
    records_count: u64,
    notes: Vec<String>,
    requests: mpsc::Receiver<Request>,
    /// A request that was received and must wait for the reload before it.
    next_request: Option<Request>,
    /// Keeps `requests` open when nobody else does.
    _handle: ReloadHandle,
}

/// Asks for reloads and rollbacks; cheap to clone.
#[derive(Clone)]
pub(crate) struct ReloadHandle {
    requests: mpsc::Sender<Request>,
}

enum Request {
    Reload(Reply),
    /// To this generation, or to the one before what serves.
    Rollback(Option<Generation>, Reply),
}

type Reply = oneshot::Sender<Result<Generation, ReloadError>>;

/// Why a candidate does not serve.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Refusal {
    /// What is wrong; never empty.
    pub(crate) problems: Vec<Problem>,
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
    #[error("the plug-ins are refused, and the last good generation serves on: {0}")]
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
            info!("SIGHUP: the plug-in folder is read again");
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

/// What a reload does next.
enum Step {
    Reload(Cause, Vec<Reply>),
    Rollback(Option<Generation>, Reply),
}

impl<L: Load, P: Publish> Reload<L, P> {
    /// Publishes the first generation.
    ///
    /// Unlike a later one it must be good: a gate without its policies must not start.
    ///
    /// # Errors
    /// With everything that is wrong with it.
    pub(crate) async fn start(parts: ReloadParts<L, P>) -> Result<(Self, ReloadHandle), Refusal> {
        let (requests, receiver) = mpsc::channel(REQUESTS_MAX);
        let handle = ReloadHandle { requests };
        let mut reload = Self {
            parts,
            generation: Generation(0),
            serving: Plugins::new(),
            content_of: Generation(0),
            kept: VecDeque::new(),
            pinned: None,
            builtins: Plugins::new(),
            refused: None,
            records: VecDeque::new(),
            records_count: 0,
            notes: Vec::new(),
            requests: receiver,
            next_request: None,
            _handle: handle.clone(),
        };
        let mut attempt = Attempt::of(Cause::Start);
        let wanted = reload.scan(&mut attempt).await?;
        reload.bring_up(wanted, &mut attempt).await?;
        Ok((reload, handle))
    }

    /// Reloads whenever there is a reason to; never ends. Dropping it stops between two steps, so what serves stays whole.
    pub(crate) async fn run(mut self) {
        loop {
            match self.observe().await {
                Step::Reload(cause, mut replies) => {
                    let outcome = self.reload(cause, &mut replies).await;
                    for reply in replies {
                        // Whoever asked may have left.
                        let _ = reply.send(outcome.clone().map_err(ReloadError::Refused));
                    }
                }
                Step::Rollback(to, reply) => {
                    let outcome = self.roll_back(to).await;
                    let _ = reply.send(outcome);
                }
            }
        }
    }

    /// Waits for a reason to reload. All who asked by now are answered by the one reload that follows.
    async fn observe(&mut self) -> Step {
        let retry_at = self.refused.as_ref().map(|refused| refused.retry_at);
        let first = match self.next_request.take() {
            Some(request) => Some(request),
            None => tokio::select! {
                () = self.parts.changed.notified() => None,
                Some(request) = self.requests.recv() => Some(request),
                () = sleep_until(retry_at) => return Step::Reload(Cause::Retry, Vec::new()),
            },
        };
        let (mut cause, mut replies) = match first {
            None => (Cause::Changed, Vec::new()),
            Some(Request::Reload(reply)) => (Cause::Asked, vec![reply]),
            Some(Request::Rollback(to, reply)) => return Step::Rollback(to, reply),
        };
        while let Ok(request) = self.requests.try_recv() {
            match request {
                Request::Reload(reply) => {
                    replies.push(reply);
                    cause = Cause::Asked;
                }
                Request::Rollback(..) => {
                    self.next_request = Some(request);
                    break;
                }
            }
        }
        Step::Reload(cause, replies)
    }

    /// One reload, from settling to its end. Who asks for one while the folder settles is answered by this one too.
    async fn reload(&mut self, mut cause: Cause, replies: &mut Vec<Reply>) -> Result<Generation, Refusal> {
        let mut attempt = Attempt::of(cause);
        // Who asks says that the folder is as it should be.
        if cause != Cause::Asked {
            let settled = settled(self.parts.directory.as_path().into());
            let asked = attempt.settled(async {
                tokio::select! {
                    () = settled => None,
                    Some(request) = self.requests.recv() => Some(request),
                }
            });
            match asked.await {
                None => {}
                Some(Request::Reload(reply)) => {
                    replies.push(reply);
                    cause = Cause::Asked;
                    attempt.cause = cause;
                }
                Some(rollback @ Request::Rollback(..)) => {
                    // First the rollback, then another look at the change.
                    self.next_request = Some(rollback);
                    self.parts.changed.notify_one();
                    return Ok(self.generation);
                }
            }
        }
        let wanted = match self.scan(&mut attempt).await {
            Ok(wanted) => wanted,
            Err(refusal) => return self.refuse(&attempt, None, refusal),
        };
        let is_rolled_back_from = self.pinned.as_ref().is_some_and(|pin| pin.folder.as_ref() == Some(&wanted));
        if is_rolled_back_from && cause != Cause::Asked {
            self.unchanged(&attempt);
            return Ok(self.generation);
        }
        if wanted.serves_already(&self.serving) {
            if self.pinned.take().is_some() {
                info!(generation = %self.generation, "the plug-in folder holds what was rolled back to");
                self.tell();
            }
            self.unchanged(&attempt);
            return Ok(self.generation);
        }
        // What was refused stays refused until it changes, someone asks, or its time to be retried has come.
        if cause == Cause::Changed
            && let Some(refused) = &self.refused
            && refused.wanted.as_ref() == Some(&wanted)
        {
            return Err(refused.refusal.clone());
        }
        match self.bring_up(wanted.clone(), &mut attempt).await {
            Ok(()) => Ok(self.generation),
            Err(refusal) => self.refuse(&attempt, Some(wanted), refusal),
        }
    }

    /// One rollback. It loads nothing: what served before is kept as it was.
    async fn roll_back(&mut self, to: Option<Generation>) -> Result<Generation, ReloadError> {
        if to == Some(self.generation) {
            return Ok(self.generation);
        }
        let index = match to {
            Some(to) => self.kept.iter().position(|kept| kept.generation == to),
            None => self.kept.iter().rposition(|kept| kept.generation < self.content_of),
        };
        let Some(Kept { generation: content_of, plugins }) = index.and_then(|index| self.kept.get(index)).cloned()
        else {
            return Err(ReloadError::NotKept { wanted: to, kept: self.kept_generations() });
        };
        let mut attempt = Attempt::of(Cause::Rollback);
        let folder = self.scan(&mut attempt).await.ok();
        match self.build_and_publish(plugins, content_of, &mut attempt).await {
            Ok(()) => {
                if !folder.as_ref().is_some_and(|folder| folder.serves_already(&self.serving)) {
                    info!(%content_of, "rolled back: pinned until the plug-in folder changes or a reload is asked for");
                    self.pinned = Some(Pin { folder, since: jiff::Timestamp::now().to_string() });
                    self.tell();
                }
                Ok(self.generation)
            }
            Err(refusal) => {
                error!(error = %refusal, %content_of, "rollback refused; what served serves on");
                self.record(&attempt, ReloadResult::Refused, None, Some(refusal.to_string()));
                self.tell();
                Err(ReloadError::Refused(refusal))
            }
        }
    }

    /// Reads the folder and joins it with the built-ins.
    async fn scan(&mut self, attempt: &mut Attempt) -> Result<Wanted, Refusal> {
        let directory = self.parts.directory.clone();
        let trusted_keys = self.parts.trusted_keys.clone();
        let look = tokio::task::spawn_blocking(move || folder::scan(&directory, &trusted_keys));
        let contents = match attempt.scanned(look).await {
            Ok(Ok(contents)) => contents,
            Ok(Err(error)) => return Err(Refusal::of_folder(format!("{:#}", anyhow::Error::new(error)))),
            Err(_) => return Err(Refusal::of_folder("reading the plug-in folder ended without a result".to_owned())),
        };
        let (wanted, notes) = Wanted::join(contents, self.parts.builtins);
        for note in notes.iter().filter(|note| !self.notes.contains(note)) {
            warn!("{note}");
        }
        self.notes = notes;
        Ok(wanted)
    }

    /// Loads, builds and publishes what is wanted, or changes nothing.
    async fn bring_up(&mut self, wanted: Wanted, attempt: &mut Attempt) -> Result<(), Refusal> {
        let generation = self.generation.next();
        let plugins = attempt.loaded(self.load(wanted, generation)).await?;
        self.build_and_publish(plugins, generation, attempt).await
    }

    /// Builds and publishes `plugins`, which `content_of` was the first to serve, or changes nothing.
    async fn build_and_publish(
        &mut self,
        plugins: Plugins,
        content_of: Generation,
        attempt: &mut Attempt,
    ) -> Result<(), Refusal> {
        let generation = self.generation.next();
        let entries: Vec<_> = plugins.values().map(|served| served.entry.clone()).collect();
        let build = tokio::time::timeout(BUILD_DEADLINE, self.parts.publisher.build(&entries, generation));
        let candidate = match attempt.built(build).await {
            Ok(Ok(candidate)) => candidate,
            Ok(Err(error)) => return Err(Refusal::of_folder(format!("{error:#}"))),
            Err(_) => {
                let text = format!("the clusters and plug-ins were not ready within {BUILD_DEADLINE:?}");
                return Err(Refusal::of_folder(text));
            }
        };
        // From here on nothing waits and nothing fails.
        self.parts.publisher.publish(candidate);
        let changes = Differences::between(&self.serving, &plugins).to_string();
        info!(%generation, plugins = plugins.len(), changes, phases = %attempt.phases, "plug-ins published");
        for (name, served) in &plugins {
            if served.print.is_plain_builtin() {
                self.builtins.insert(name.clone(), served.clone());
            }
        }
        let before = std::mem::replace(&mut self.serving, plugins);
        if self.generation != Generation(0) {
            self.kept.push_back(Kept { generation: self.generation, plugins: before });
        }
        // One that serves again is no longer one that served.
        self.kept.retain(|kept| kept.generation != content_of);
        while self.kept.len() > self.parts.kept_generations_max {
            self.kept.pop_front();
        }
        self.generation = generation;
        self.content_of = content_of;
        self.pinned = None;
        self.refused = None;
        self.let_code_go();
        self.record(attempt, ReloadResult::Published, Some(changes), None);
        self.tell();
        Ok(())
    }

    /// Loads what does not serve already, several at once; all that is wrong is told, not the first only.
    async fn load(&self, wanted: Wanted, generation: Generation) -> Result<Plugins, Refusal> {
        let Wanted { plugins: wanted, mut problems } = wanted;
        let at_once = std::thread::available_parallelism().map_or(1, usize::from);
        let slots = Arc::new(Semaphore::new(at_once));
        let mut plugins = Plugins::new();
        let mut loading = JoinSet::new();
        let mut names = HashMap::new();
        for (name, plugin) in wanted {
            let known = [&self.serving, &self.builtins].into_iter().filter_map(|plugins| plugins.get(&name));
            if let Some(same) = known.into_iter().find(|known| known.print == plugin.print) {
                plugins.insert(name, same.clone());
                continue;
            }
            let (loader, slots) = (Arc::clone(&self.parts.loader), Arc::clone(&slots));
            let task = {
                let name = name.clone();
                async move {
                    let _slot = slots.acquire().await;
                    plugin.load(&*loader, &name, generation).await
                }
            };
            names.insert(loading.spawn(task).id(), name);
        }
        while let Some(ended) = loading.join_next_with_id().await {
            match ended {
                Ok((_, Ok(served))) => {
                    plugins.insert(served.entry.name.clone(), served);
                }
                Ok((_, Err(problem))) => problems.push(problem),
                Err(died) => {
                    let name = names.get(&died.id());
                    let text = name.map_or_else(String::new, |name| format!("plug-in `{name}`: "));
                    let text = format!("{text}loading it ended without a result");
                    problems.push(Problem { plugin: name.cloned(), digest: None, text });
                }
            }
        }
        problems.sort_by(|one, other| one.text.cmp(&other.text));
        if problems.is_empty() { Ok(plugins) } else { Err(Refusal { problems }) }
    }

    /// Keeps what serves, and says so once for each distinct failure.
    fn refuse(&mut self, attempt: &Attempt, wanted: Option<Wanted>, refusal: Refusal) -> Result<Generation, Refusal> {
        let before = self.refused.take().filter(|refused| refused.refusal == refusal);
        match &before {
            None => {
                let generation = self.generation;
                error!(error = %refusal, %generation, "plug-ins refused; the last good generation serves on");
            }
            Some(_) => debug!(error = %refusal, "plug-ins refused again"),
        }
        let pause = match (&before, attempt.cause) {
            (Some(refused), Cause::Retry) => (refused.pause * 2).min(RETRY_PAUSE_MAX),
            (Some(refused), Cause::Start | Cause::Changed | Cause::Asked | Cause::Rollback) => refused.pause,
            (None, _) => RETRY_PAUSE_MIN,
        };
        self.refused = Some(Refused { wanted, refusal: refusal.clone(), pause, retry_at: Instant::now() + pause });
        self.let_code_go();
        self.record(attempt, ReloadResult::Refused, None, Some(refusal.to_string()));
        self.tell();
        Err(refusal)
    }

    /// The folder holds what serves, or what was rolled back from; what was refused before is gone.
    fn unchanged(&mut self, attempt: &Attempt) {
        if self.refused.take().is_some() {
            info!(generation = %self.generation, "the plug-in folder holds nothing that is refused any more");
            self.let_code_go();
        } else if attempt.cause == Cause::Changed {
            // A no-op is no reload.
            return;
        }
        self.record(attempt, ReloadResult::Unchanged, None, None);
        self.tell();
    }

    /// Lets the loader forget the code of what neither serves nor may serve again soon.
    fn let_code_go(&self) {
        let kept = self.kept.iter().map(|kept| &kept.plugins);
        let loaded = [&self.serving, &self.builtins].into_iter().chain(kept).flat_map(Plugins::values);
        let refused = self.refused.iter().filter_map(|refused| refused.wanted.as_ref()).flat_map(Wanted::components);
        let components: BTreeSet<Digest> = loaded.map(|served| served.entry.digest).chain(refused).collect();
        self.parts.loader.retain(&components);
    }

    fn kept_generations(&self) -> Vec<Generation> {
        self.kept.iter().map(|kept| kept.generation).collect()
    }

    fn record(&mut self, attempt: &Attempt, result: ReloadResult, changes: Option<String>, error: Option<String>) {
        self.records_count += 1;
        self.records.push_back(ReloadRecord {
            number: self.records_count,
            time: jiff::Timestamp::now().to_string(),
            cause: attempt.cause,
            result,
            generation: self.generation,
            changes,
            phases: attempt.phases,
            error,
        });
        while self.records.len() > RECORDS_MAX {
            self.records.pop_front();
        }
    }

    fn tell(&self) {
        let problems = self.refused.as_ref().map_or(&[][..], |refused| &refused.refusal.problems);
        let pinned = self.pinned.as_ref().map(|pin| Pinned { content_of: self.content_of, since: pin.since.clone() });
        self.parts.status.send_replace(Arc::new(ReloadStatus {
            generation: self.generation,
            plugins: PluginStatus::list(self.serving.values().map(|served| &served.entry), problems),
            last_reload: self.records.back().map(LastReload::of),
            pinned,
            kept_generations: self.kept_generations(),
            reloads: self.records.iter().cloned().collect(),
            compilations: self.parts.loader.compilations(),
        }));
    }
}

/// The plug-ins of a generation that served.
#[derive(Clone)]
struct Kept {
    /// The last generation that served them.
    generation: Generation,
    plugins: Plugins,
}

/// Why the folder is not what serves.
struct Pin {
    /// What stood in the folder at the rollback; none where it could not be read.
    folder: Option<Wanted>,
    since: String,
}

/// A candidate that was refused.
struct Refused {
    /// What it was made of; none where the folder could not be read.
    wanted: Option<Wanted>,
    refusal: Refusal,
    pause: Duration,
    retry_at: Instant,
}

impl Refusal {
    fn of_folder(text: String) -> Self {
        Self { problems: vec![Problem::of_folder(text)] }
    }
}

/// A reload under way: why it happens, and how long its phases took so far.
struct Attempt {
    cause: Cause,
    phases: Phases,
}

impl Attempt {
    fn of(cause: Cause) -> Self {
        Self { cause, phases: Phases::default() }
    }

    async fn settled<T>(&mut self, work: impl Future<Output = T>) -> T {
        timed(&mut self.phases.settle, work).await
    }

    async fn scanned<T>(&mut self, work: impl Future<Output = T>) -> T {
        timed(&mut self.phases.scan, work).await
    }

    async fn loaded<T>(&mut self, work: impl Future<Output = T>) -> T {
        timed(&mut self.phases.load, work).await
    }

    async fn built<T>(&mut self, work: impl Future<Output = T>) -> T {
        timed(&mut self.phases.build, work).await
    }
}

async fn timed<T>(took: &mut Duration, work: impl Future<Output = T>) -> T {
    let begun = Instant::now();
    let output = work.await;
    *took = begun.elapsed();
    output
}

/// Waits until the folder keeps still.
async fn settled(directory: Arc<Path>) {
    settle(|| {
        let directory = Arc::clone(&directory);
        async move {
            let look = tokio::task::spawn_blocking(move || folder::signature(&directory));
            look.await.unwrap_or(folder::Signature::Absent)
        }
    })
    .await;
}

async fn sleep_until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => pending().await,
    }
}

/// How long the snapshot of a generation may take to build.
const BUILD_DEADLINE: Duration = Duration::from_secs(60);
/// When a candidate that was refused is tried again, and how much more rarely in the end.
const RETRY_PAUSE_MIN: Duration = Duration::from_secs(10);
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(300);
/// How many may wait for a reload or rollback that they asked for.
const REQUESTS_MAX: usize = 64;
/// How many reloads `/status` tells of.
pub(crate) const RECORDS_MAX: usize = 50;
