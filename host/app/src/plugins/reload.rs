//! The life of a generation, from a change in the folder or the configuration to the snapshot that serves.
//!
//! ```text
//! observe ─► settle ─► scan + hash ─► load what differs ─► build ─► publish ─► the old generation drains and drops
//!    ▲          (same as what serves? nothing to do)  │        │       │         (its plug-ins are kept for a while)
//!    └──────────── refused: the last good one serves ─┴────────┘       └─► observe
//! ```
//!
//! A generation is plug-ins and a configuration. Where both have changed and do not serve together, either serves with what
//! served of the other, plug-ins first: a bad configuration keeps no policy out, and a bad plug-in no cluster.
//!
//! A plug-in that is the same, component and sidecar, is not loaded again. Loading compiles (or finds the compiled code
//! of the same bytes), link-checks, configures and self-tests; building, which the caller gives as [`Publish`], makes a snapshot
//! of plug-ins and a configuration and tries it. Nothing here knows WebAssembly, clusters or requests.
//!
//! A rollback publishes the plug-ins of an earlier generation once more, as a new one. What serves then differs from the
//! folder and is *pinned*: until the folder changes, or somebody asks for a reload.
//!
//! Promise: a candidate is published whole or not at all, and whatever fails before that changes
//! nothing. A folder that is gone is a failure, never a folder without policies. Generations only count up.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::future::pending;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::{debug, error, info, warn};
use witgate_core::{BoxFuture, Digest, Generation};

use super::candidate::{Differences, Plugins, Wanted};
use super::folder;
use super::load::Load;
use super::oci::{Delivery, Sources};
use super::status::{Cause, LastReload, Pinned, PluginStatus, ReloadRecord, ReloadResult, ReloadStatus};
use super::watch::settle;
use super::{PluginEntry, Problem};
use crate::trusted_keys::TrustedKeys;
use attempt::{Attempt, Kept, Pin, Refused};
use handle::{REQUESTS_MAX, Reply, Request};
pub(crate) use handle::{Refusal, ReloadError, ReloadHandle};

mod attempt;
mod handle;
#[cfg(test)]
mod model;
#[cfg(test)]
mod stage;
#[cfg(test)]
mod tests;

/// Turns plug-ins and a configuration into what serves.
pub(crate) trait Publish: Send + Sync + 'static {
    /// What a generation is made of beside its plug-ins.
    type Configuration: Send + Sync;
    /// A generation that does not serve yet.
    type Candidate: Send;

    /// What the configuration is by now: the very same as before where nothing changed.
    ///
    /// The error says what is wrong with it; whoever reads it has told the log.
    fn configuration(&self, cause: Cause) -> BoxFuture<'_, Result<Arc<Self::Configuration>, String>>;

    /// Makes a generation of `plugins` and tries it, each cluster's strategy included.
    ///
    /// The error's chain is for operators.
    fn build<'a>(
        &'a self,
        configuration: &'a Self::Configuration,
        plugins: &'a [PluginEntry],
        generation: Generation,
    ) -> BoxFuture<'a, anyhow::Result<Self::Candidate>>;

    /// Lets it serve every request that begins from now on. It cannot fail.
    fn publish(&self, candidate: Self::Candidate);
}

/// What a reload works with.
pub(crate) struct ReloadParts<L, P: Publish> {
    /// The drop-in folder.
    pub(crate) directory: PathBuf,
    /// Who must have signed what stands in it.
    pub(crate) trusted_keys: TrustedKeys,
    /// What the first generation is made of beside its plug-ins.
    pub(crate) configuration: Arc<P::Configuration>,
    /// Brings plug-ins from registries, where some are named.
    pub(crate) delivery: Option<Arc<Delivery>>,
    /// How many generations that served are kept, to be rolled back to.
    pub(crate) kept_generations_max: usize,
    /// Strategies that are there without a file, by name.
    pub(crate) builtins: &'static [(&'static str, &'static [u8])],
    /// Makes plug-ins callable.
    pub(crate) loader: Arc<L>,
    /// Makes generations of them, and lets them serve.
    pub(crate) publisher: P,
    /// Notified when the folder or the configuration may have changed; a [`FolderWatch`](super::watch::FolderWatch) does so.
    pub(crate) changed: Arc<Notify>,
    /// Where the outcome is told.
    pub(crate) status: watch::Sender<Arc<ReloadStatus>>,
}

/// Keeps what serves in line with the drop-in folder and the configuration.
pub(crate) struct Reload<L, P: Publish> {
    parts: ReloadParts<L, P>,
    generation: Generation,
    serving: Plugins,
    configuration: Arc<P::Configuration>,
    /// Which generation first served these plug-ins: another than `generation` after a rollback.
    content_of: Generation,
    /// What served before, the oldest first.
    kept: VecDeque<Kept>,
    pinned: Option<Pin>,
    /// Built-ins as they are without a sidecar, kept for when a file that replaces one is removed.
    builtins: Plugins,
    refused: Option<Refused<P::Configuration>>,
    records: VecDeque<ReloadRecord>,
    records_count: u64,
    notes: Vec<String>,
    requests: mpsc::Receiver<Request>,
    /// A request that was received and must wait for the reload before it.
    next_request: Option<Request>,
    /// Keeps `requests` open when nobody else does.
    _handle: ReloadHandle,
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
            generation: Generation(0),
            serving: Plugins::new(),
            configuration: Arc::clone(&parts.configuration),
            parts,
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
        let wanted = reload.scan(&mut attempt, Sources::DiskAndRegistry).await?;
        let generation = reload.generation.next();
        let plugins = attempt.loaded(reload.load(wanted, generation)).await?;
        let configuration = Arc::clone(&reload.configuration);
        reload.build_and_publish(plugins, generation, configuration, &mut attempt).await?;
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
        let scanned = self.scan(&mut attempt, Sources::DiskAndRegistry).await;
        let read = self.parts.publisher.configuration(cause).await;
        let same_configuration = read.as_ref().is_ok_and(|read| Arc::ptr_eq(read, &self.configuration));
        let is_rolled_back_from = self.pinned.as_ref().is_some_and(|pin| pin.folder.as_ref() == scanned.as_ref().ok());
        let wanted = match scanned {
            Ok(_) if is_rolled_back_from && cause != Cause::Asked => Ok(None),
            Ok(wanted) if wanted.serves_already(&self.serving) => {
                if self.pinned.take().is_some() {
                    info!(generation = %self.generation, "the plug-in folder holds what was rolled back to");
                    self.tell();
                }
                Ok(None)
            }
            Ok(wanted) => Ok(Some(wanted)),
            Err(refusal) => Err(refusal),
        };
        if let (Ok(None), true) = (&wanted, same_configuration) {
            self.unchanged(&attempt);
            return Ok(self.generation);
        }
        let read = read.map_err(Refusal::of_configuration);
        // What was refused stays refused until it changes, someone asks, or its time to be retried has come.
        if cause == Cause::Changed
            && let Some(refused) = &self.refused
            && let (Ok(wanted), Ok(read)) = (&wanted, &read)
            && refused.is_of(wanted.as_ref(), Some(read).filter(|_| !same_configuration))
        {
            return Err(refused.refusal.clone());
        }
        match self.bring_up(wanted.clone(), read.clone(), &mut attempt).await {
            Ok(()) => Ok(self.generation),
            Err(refusal) => {
                let wanted = wanted.ok().flatten().filter(|wanted| !wanted.serves_already(&self.serving));
                let configuration = read.ok().filter(|read| !Arc::ptr_eq(read, &self.configuration));
                self.refuse(&attempt, Refused::new(wanted, configuration, refusal))
            }
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
        let folder = self.scan(&mut attempt, Sources::Disk).await.ok();
        match self.build_and_publish(plugins, content_of, Arc::clone(&self.configuration), &mut attempt).await {
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

    /// Reads the folder, brings what registries have, and joins it with the built-ins.
    async fn scan(&mut self, attempt: &mut Attempt, sources: Sources) -> Result<Wanted, Refusal> {
        let directory = self.parts.directory.clone();
        let trusted_keys = self.parts.trusted_keys.clone();
        let look = tokio::task::spawn_blocking(move || folder::scan(&directory, &trusted_keys));
        let mut contents = match attempt.scanned(look).await {
            Ok(Ok(contents)) => contents,
            Ok(Err(error)) => return Err(Refusal::of_folder(format!("{:#}", anyhow::Error::new(error)))),
            Err(_) => return Err(Refusal::of_folder("reading the plug-in folder ended without a result".to_owned())),
        };
        if let Some(delivery) = &self.parts.delivery {
            attempt.delivered(delivery.deliver(&mut contents, sources)).await;
        }
        let (wanted, notes) = Wanted::join(contents, self.parts.builtins);
        for note in notes.iter().filter(|note| !self.notes.contains(note)) {
            warn!("{note}");
        }
        self.notes = notes;
        Ok(wanted)
    }

    /// Loads, builds and publishes what is wanted of plug-ins, none where what serves is, and configuration; where they do
    /// not serve together, as much of them as does.
    async fn bring_up(
        &mut self,
        wanted: Result<Option<Wanted>, Refusal>,
        configuration: Result<Arc<P::Configuration>, Refusal>,
        attempt: &mut Attempt,
    ) -> Result<(), Refusal> {
        let generation = self.generation.next();
        let plugins = match wanted {
            Ok(Some(wanted)) => attempt.loaded(self.load(wanted, generation)).await.map(Some),
            Ok(None) => Ok(None),
            Err(refusal) => Err(refusal),
        };
        let (serving, content_of, old) = (self.serving.clone(), self.content_of, Arc::clone(&self.configuration));
        let new = configuration.clone().ok().filter(|new| !Arc::ptr_eq(new, &old));
        let mut refusals: Vec<_> = [plugins.clone().err(), configuration.err()].into_iter().flatten().collect();
        let loaded = plugins.ok().flatten();
        let mut tries = Vec::new();
        if let (Some(loaded), Some(new)) = (&loaded, &new) {
            tries.push((loaded.clone(), generation, Arc::clone(new)));
        }
        if let Some(loaded) = loaded {
            tries.push((loaded, generation, old));
        }
        if let Some(new) = new {
            tries.push((serving, content_of, new));
        }
        for (plugins, content_of, configuration) in tries {
            match self.build_and_publish(plugins, content_of, configuration, attempt).await {
                Ok(()) => break,
                Err(refusal) => refusals.push(refusal),
            }
        }
        refusals.into_iter().reduce(Refusal::and).map_or(Ok(()), Err)
    }

    /// Builds and publishes `plugins`, which `content_of` was the first to serve, or changes nothing.
    async fn build_and_publish(
        &mut self,
        plugins: Plugins,
        content_of: Generation,
        configuration: Arc<P::Configuration>,
        attempt: &mut Attempt,
    ) -> Result<(), Refusal> {
        let generation = self.generation.next();
        let entries: Vec<_> = plugins.values().map(|served| served.entry.clone()).collect();
        let build =
            tokio::time::timeout(BUILD_DEADLINE, self.parts.publisher.build(&configuration, &entries, generation));
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
        let reconfigured = !Arc::ptr_eq(&configuration, &self.configuration);
        let differences = Differences::between(&self.serving, &plugins).to_string();
        let configuration_changed = reconfigured.then_some("~configuration");
        let parts = configuration_changed.into_iter().chain((!differences.is_empty()).then_some(&*differences));
        let changes = parts.collect::<Vec<_>>().join(" ");
        info!(%generation, plugins = plugins.len(), changes, phases = %attempt.phases, "published");
        for (name, served) in &plugins {
            if served.print.is_plain_builtin() {
                self.builtins.insert(name.clone(), served.clone());
            }
        }
        let before = std::mem::replace(&mut self.serving, plugins);
        if self.content_of != content_of {
            if self.generation != Generation(0) {
                self.kept.push_back(Kept { generation: self.generation, plugins: before });
            }
            // One that serves again is no longer one that served.
            self.kept.retain(|kept| kept.generation != content_of);
            self.content_of = content_of;
            self.pinned = None;
        }
        while self.kept.len() > self.parts.kept_generations_max {
            self.kept.pop_front();
        }
        self.generation = generation;
        self.configuration = configuration;
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
    fn refuse(&mut self, attempt: &Attempt, refused: Refused<P::Configuration>) -> Result<Generation, Refusal> {
        let refusal = refused.refusal.clone();
        let before = self.refused.take().filter(|before| before.refusal == refusal);
        match &before {
            None => {
                let generation = self.generation;
                error!(error = %refusal, %generation, "refused; the last good generation serves on");
            }
            Some(_) => debug!(error = %refusal, "refused again"),
        }
        self.refused = Some(refused.after(before, attempt.cause));
        self.let_code_go();
        self.record(attempt, ReloadResult::Refused, None, Some(refusal.to_string()));
        self.tell();
        Err(refusal)
    }

    /// The folder holds what serves, or what was rolled back from; what was refused before is gone.
    fn unchanged(&mut self, attempt: &Attempt) {
        if self.refused.take().is_some() {
            info!(generation = %self.generation, "nothing is refused any more");
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
/// How many reloads `/status` tells of.
pub(crate) const RECORDS_MAX: usize = 50;
