//! The life of a generation of plug-ins, from a change in the folder to the snapshot that serves.
//!
//! ```text
//! observe ─► settle ─► scan + hash ─► load what differs ─► build ─► publish ─► the old generation drops
//!    ▲          (same as what serves? nothing to do)  │        │       │
//!    └──────────── refused: the last good one serves ─┴────────┘       └─► observe
//! ```
//!
//! A plug-in that is the same, component and sidecar, is not loaded again. Loading compiles, link-checks and
//! configures; building, which the caller gives as [`Publish`], makes a snapshot of plug-ins and clusters and tries it.
//! Nothing here knows WebAssembly, clusters or requests.
//!
//! Promise: a candidate is published whole or not at all, and whatever fails before that changes
//! nothing. A folder that is gone is a failure, never a folder without policies.

use std::collections::HashMap;
use std::fmt;
use std::future::pending;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::{debug, error, info, warn};
use witgate_core::{BoxFuture, Generation};

use super::candidate::{Differences, Plugins, Wanted};
use super::folder;
use super::load::Load;
use super::status::{LastReload, PluginStatus, ReloadResult, ReloadStatus};
use super::watch::settle;
use super::{PluginEntry, Problem};

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
    /// Built-ins as they are without a sidecar, kept for when a file that replaces one is removed.
    builtins: Plugins,
    refused: Option<Refused>,
    last_reload: Option<LastReload>,
    notes: Vec<String>,
    requests: mpsc::Receiver<Request>,
    /// Keeps `requests` open when nobody else does.
    _handle: ReloadHandle,
}

/// Asks for a reload; cheap to clone.
#[derive(Clone)]
pub(crate) struct ReloadHandle {
    requests: mpsc::Sender<Request>,
}

type Request = oneshot::Sender<Result<Generation, ReloadError>>;

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

/// Why a reload that was asked for published nothing.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum ReloadError {
    /// The candidate does not serve; the last good generation does.
    #[error("the plug-ins are refused, and the last good generation serves on: {0}")]
    Refused(Refusal),
    /// More wait for a reload than may.
    #[error("{REQUESTS_MAX} wait for a reload already")]
    Full,
    /// The gate is stopping.
    #[error("nobody reloads any more: the gate is stopping")]
    Stopped,
}

impl ReloadHandle {
    /// Asks for a reload and waits for the generation that serves after it. What was refused is tried again,
    /// changed or not.
    ///
    /// # Errors
    /// When the candidate is refused, when too many wait, and when the gate is stopping.
    pub(crate) async fn reload_now(&self) -> Result<Generation, ReloadError> {
        let (reply, outcome) = oneshot::channel();
        self.requests.try_send(reply).map_err(|error| match error {
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
                Err(error @ (ReloadError::Refused(_) | ReloadError::Full)) => debug!(%error, "SIGHUP"),
                Err(ReloadError::Stopped) => break,
            }
        }
        Ok(())
    }
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
            builtins: Plugins::new(),
            refused: None,
            last_reload: None,
            notes: Vec::new(),
            requests: receiver,
            _handle: handle.clone(),
        };
        let wanted = reload.scan().await?;
        reload.bring_up(wanted).await?;
        reload.tell();
        Ok((reload, handle))
    }

    /// Reloads whenever there is a reason to; never ends. Dropping it stops between two steps, so what serves stays whole.
    pub(crate) async fn run(mut self) {
        loop {
            let (cause, replies) = self.observe().await;
            let outcome = self.reload(cause).await;
            for reply in replies {
                // Whoever asked may have left.
                let _ = reply.send(outcome.clone().map_err(ReloadError::Refused));
            }
        }
    }

    /// Waits for a reason to reload. All who asked by now are answered by the one reload that follows.
    async fn observe(&mut self) -> (Cause, Vec<Request>) {
        let retry_at = self.refused.as_ref().map(|refused| refused.retry_at);
        let mut replies = Vec::new();
        let mut cause = tokio::select! {
            () = self.parts.changed.notified() => Cause::Changed,
            Some(reply) = self.requests.recv() => {
                replies.push(reply);
                Cause::Asked
            }
            () = sleep_until(retry_at) => Cause::Retry,
        };
        while let Ok(reply) = self.requests.try_recv() {
            replies.push(reply);
            cause = Cause::Asked;
        }
        (cause, replies)
    }

    /// One reload, from settling to its end.
    async fn reload(&mut self, cause: Cause) -> Result<Generation, Refusal> {
        let directory: Arc<Path> = self.parts.directory.as_path().into();
        settle(|| {
            let directory = Arc::clone(&directory);
            async move {
                let look = tokio::task::spawn_blocking(move || folder::signature(&directory));
                look.await.unwrap_or(folder::Signature::Absent)
            }
        })
        .await;

        let wanted = match self.scan().await {
            Ok(wanted) => wanted,
            Err(refusal) => return self.refuse(cause, None, refusal),
        };
        if wanted.serves_already(&self.serving) {
            self.unchanged(cause);
            return Ok(self.generation);
        }
        // What was refused stays refused until it changes, someone asks, or its time to be retried has come.
        if cause == Cause::Changed
            && let Some(refused) = &self.refused
            && refused.wanted.as_ref() == Some(&wanted)
        {
            return Err(refused.refusal.clone());
        }
        match self.bring_up(wanted.clone()).await {
            Ok(()) => {
                self.tell();
                Ok(self.generation)
            }
            Err(refusal) => self.refuse(cause, Some(wanted), refusal),
        }
    }

    /// Reads the folder and joins it with the built-ins.
    async fn scan(&mut self) -> Result<Wanted, Refusal> {
        let directory = self.parts.directory.clone();
        let contents = match tokio::task::spawn_blocking(move || folder::scan(&directory)).await {
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
    async fn bring_up(&mut self, wanted: Wanted) -> Result<(), Refusal> {
        let generation = self.generation.next();
        let plugins = self.load(wanted, generation).await?;
        let entries: Vec<_> = plugins.values().map(|served| served.entry.clone()).collect();
        let build = tokio::time::timeout(BUILD_DEADLINE, self.parts.publisher.build(&entries, generation));
        let candidate = match build.await {
            Ok(Ok(candidate)) => candidate,
            Ok(Err(error)) => return Err(Refusal::of_folder(format!("{error:#}"))),
            Err(_) => {
                let text = format!("the clusters and plug-ins were not ready within {BUILD_DEADLINE:?}");
                return Err(Refusal::of_folder(text));
            }
        };
        // From here on nothing waits and nothing fails.
        self.parts.publisher.publish(candidate);
        let changes = Differences::between(&self.serving, &plugins);
        info!(%generation, plugins = plugins.len(), changes = %changes, "plug-ins published");
        for (name, served) in &plugins {
            if served.print.is_plain_builtin() {
                self.builtins.insert(name.clone(), served.clone());
            }
        }
        self.serving = plugins;
        self.generation = generation;
        self.refused = None;
        self.last_reload = Some(LastReload::now(ReloadResult::Published, None));
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
    fn refuse(&mut self, cause: Cause, wanted: Option<Wanted>, refusal: Refusal) -> Result<Generation, Refusal> {
        let before = self.refused.take().filter(|refused| refused.refusal == refusal);
        match &before {
            None => {
                let generation = self.generation;
                error!(error = %refusal, %generation, "plug-ins refused; the last good generation serves on");
            }
            Some(_) => debug!(error = %refusal, "plug-ins refused again"),
        }
        let pause = match (&before, cause) {
            (Some(refused), Cause::Retry) => (refused.pause * 2).min(RETRY_PAUSE_MAX),
            (Some(refused), Cause::Changed | Cause::Asked) => refused.pause,
            (None, _) => RETRY_PAUSE_MIN,
        };
        self.last_reload = Some(LastReload::now(ReloadResult::Refused, Some(refusal.to_string())));
        self.refused = Some(Refused { wanted, refusal: refusal.clone(), pause, retry_at: Instant::now() + pause });
        self.tell();
        Err(refusal)
    }

    /// The folder holds what serves; what was refused before is gone.
    fn unchanged(&mut self, cause: Cause) {
        if self.refused.take().is_some() {
            info!(generation = %self.generation, "the plug-in folder holds again what serves");
        } else if cause == Cause::Changed {
            // A no-op is no reload.
            return;
        }
        self.last_reload = Some(LastReload::now(ReloadResult::Unchanged, None));
        self.tell();
    }

    fn tell(&self) {
        let problems = self.refused.as_ref().map_or(&[][..], |refused| &refused.refusal.problems);
        let plugins = PluginStatus::list(self.serving.values().map(|served| &served.entry), problems);
        let last_reload = self.last_reload.clone();
        self.parts.status.send_replace(Arc::new(ReloadStatus { generation: self.generation, plugins, last_reload }));
    }
}

/// Why a reload happens.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Cause {
    /// The folder may have changed.
    Changed,
    /// Someone asked.
    Asked,
    /// What was refused may be good by now: a deadline missed on a busy machine must not be for ever.
    Retry,
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

impl LastReload {
    fn now(result: ReloadResult, error: Option<String>) -> Self {
        Self { time: jiff::Timestamp::now().to_string(), result, error }
    }
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
/// How many may wait for a reload that they asked for.
const REQUESTS_MAX: usize = 64;

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "a test may panic")]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::fs;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use anyhow::{anyhow, bail};
    use witgate_core::{
        AuthError, AuthenticationStrategy, CallError, ClusterDetails, Decision, Digest, Issued, Metadata,
        PermissionPolicy, PluginName, PolicyMode, PolicyQuery, RequestAuth, SecretStore, UserInfo,
    };
    use witgate_plugin::{PluginKind, Start};

    use super::super::Plugin;
    use super::super::load::{Loaded, Source};
    use super::*;

    /// Goal: what stands in the folder serves, beside the built-ins. Method: a start, and what it published.
    #[tokio::test(start_paused = true)]
    async fn the_first_generation_is_folder_and_builtins() {
        let stage = Stage::new();
        stage.write("deny.wasm", "policy 1");
        stage.write("deny.yaml", "mode: shadow");
        let gate = stage.start().await.unwrap();

        assert_eq!(gate.serves(), "1: deny=policy 1 oidc=strategy builtin");
        assert_eq!(gate.loads(), ["deny", "oidc"]);
        let status = gate.status();
        let deny = &status.plugins[0];
        assert_eq!(deny.kind, Some(PluginKind::Policy));
        assert_eq!(deny.mode, Some(PolicyMode::Shadow));
        assert_eq!(deny.contract.as_deref(), Some("auth@0.1.0"));
        assert_eq!(deny.digest.as_deref(), Some(&*Digest::of(b"policy 1").to_string()));
        assert_eq!(deny.generation, Some(Generation(1)));
        let oidc = &status.plugins[1];
        assert_eq!((oidc.kind, oidc.mode, oidc.builtin), (Some(PluginKind::Strategy), None, true));
        assert_eq!(status.last_reload.as_ref().unwrap().result, ReloadResult::Published);
    }

    /// Goal: a gate does not start without its policies, and all that is wrong is said at once. Method: several faults.
    #[tokio::test(start_paused = true)]
    async fn a_start_needs_every_plugin() {
        let stage = Stage::new();
        stage.write("a.wasm", "garbage");
        stage.write("b.wasm", "policy");
        stage.write("b.yaml", "mod: shadow");
        stage.write("c.wasm", "policy");
        stage.write("c.yml", "mode: shadow");
        stage.write("d.wasm", "panic");
        stage.write("e.wasm", "strategy");
        stage.write("e.yaml", "mode: shadow");
        stage.write("f.wasm", "policy");
        stage.write("f.yaml", format!("sha256: \"{}\"", Digest::of(b"abc")));
        stage.write("oidc.wasm", "policy");
        let refusal = stage.start().await.err().unwrap();
        let texts: Vec<_> = refusal.problems.iter().map(|problem| stage.clean(&problem.text)).collect();
        assert_eq!(
            texts,
            [
                "FOLDER/a.wasm: not a component: magic number is wrong",
                "FOLDER/b.yaml: the file has the unknown key `mod`: known are `settings`, `outboundHosts`, `secrets`, \
                 `limits`, `isolation`, `sha256`, `credentialDependsOn`, `mode`",
                "FOLDER/c.yml is not read: name it `c.yaml`",
                "FOLDER/e.yaml: `mode` is for policies only, and this component is a strategy: remove it",
                &format!(
                    "FOLDER/f.wasm has the SHA-256 {}, but `sha256` in FOLDER/f.yaml is {}",
                    Digest::of(b"policy"),
                    Digest::of(b"abc")
                ),
                "FOLDER/oidc.wasm is a policy, but `oidc` is a built-in strategy, which only a strategy replaces: give \
                 the file another name",
                "plug-in `d`: loading it ended without a result",
            ]
        );

        let stage = Stage::new();
        fs::remove_dir(stage.folder()).unwrap();
        let refusal = stage.start().await.err().unwrap();
        let expected = "the plug-in folder FOLDER does not exist: create it, or set `plugins.directory`";
        assert_eq!(stage.clean(&refusal.to_string()), expected);
    }

    /// Goal: each way to change the folder becomes one generation, in which only what differs was loaded; what changes
    /// nothing loads and publishes nothing. Method: one life, step by step.
    #[tokio::test(start_paused = true)]
    async fn a_change_loads_only_what_differs() {
        let stage = Stage::new();
        stage.write("a.wasm", "policy a1");
        stage.write("b.wasm", "policy b1");
        let gate = stage.start().await.unwrap();
        let builtin = "oidc=strategy builtin";
        gate.expect(&format!("1: a=policy a1 b=policy b1 {builtin}"), &["a", "b", "oidc"]).await;

        stage.write("a.wasm", "policy a1");
        stage.write("README.md", "x");
        gate.expect(&format!("1: a=policy a1 b=policy b1 {builtin}"), &[]).await;

        stage.write("a.wasm", "policy a2");
        gate.expect(&format!("2: a=policy a2 b=policy b1 {builtin}"), &["a"]).await;
        assert_eq!(gate.generations(), [2, 1, 1], "what is the same keeps its generation");

        stage.write(".c.tmp", "policy c1");
        fs::rename(stage.path(".c.tmp"), stage.path("c.wasm")).unwrap();
        gate.expect(&format!("3: a=policy a2 b=policy b1 c=policy c1 {builtin}"), &["c"]).await;

        stage.write("c.yaml", "settings: { strict: true }");
        gate.expect(&format!("4: a=policy a2 b=policy b1 c=policy c1 {builtin}"), &["c"]).await;

        fs::remove_file(stage.path("b.wasm")).unwrap();
        gate.expect(&format!("5: a=policy a2 c=policy c1 {builtin}"), &[]).await;

        stage.write("oidc.wasm", "strategy mine");
        gate.expect("6: a=policy a2 c=policy c1 oidc=strategy mine", &["oidc"]).await;
        fs::remove_file(stage.path("oidc.wasm")).unwrap();
        gate.expect(&format!("7: a=policy a2 c=policy c1 {builtin}"), &[]).await;
        stage.write("oidc.yaml", "limits: { deadlineMs: 7 }");
        gate.expect(&format!("8: a=policy a2 c=policy c1 {builtin}"), &["oidc"]).await;

        stage.write("alone.yaml", "broken: [");
        gate.expect(&format!("8: a=policy a2 c=policy c1 {builtin}"), &[]).await;
    }

    /// Goal: whatever cannot serve changes nothing, is told, is not tried again for nothing, and is forgotten once it is
    /// gone. Method: one fault after the other in one life; each row says what status tells.
    #[tokio::test(start_paused = true)]
    async fn a_bad_candidate_changes_nothing() {
        let stage = Stage::new();
        stage.write("a.wasm", "policy a1");
        let gate = stage.start().await.unwrap();
        let good = "1: a=policy a1 oidc=strategy builtin";
        gate.expect(good, &["a", "oidc"]).await;

        // A garbage file, beside a good one that must wait for it.
        stage.write("bad.wasm", "garbage");
        stage.write("new.wasm", "policy n1");
        gate.expect(good, &["bad", "new"]).await;
        let error = "FOLDER/bad.wasm: not a component: magic number is wrong";
        assert_eq!(gate.errors(), (Some(error.to_owned()), vec![format!("bad: {error}")]));
        gate.expect(good, &[]).await; // the same again is not loaded again
        assert_eq!(gate.errors().0.as_deref(), Some(error));

        // A plug-in that serves and is overwritten with garbage serves on.
        fs::remove_file(stage.path("bad.wasm")).unwrap();
        fs::remove_file(stage.path("new.wasm")).unwrap();
        stage.write("a.wasm", "garbage");
        gate.expect(good, &["a"]).await;
        let error = "FOLDER/a.wasm: not a component: magic number is wrong";
        assert_eq!(gate.errors(), (Some(error.to_owned()), vec![format!("a: {error}")]));
        let status = gate.status();
        assert_eq!(status.plugins[0].digest.as_deref(), Some(&*Digest::of(b"policy a1").to_string()));

        // What serves is back: no generation, and no error any more.
        stage.write("a.wasm", "policy a1");
        gate.expect(good, &[]).await;
        assert_eq!(gate.errors(), (None, vec![]));
        assert_eq!(gate.status().last_reload.as_ref().unwrap().result, ReloadResult::Unchanged);

        // The generation itself cannot be built.
        stage.write("a.wasm", "policy unbuildable");
        gate.expect(good, &["a"]).await;
        assert_eq!(gate.errors(), (Some("cluster `one`: no strategy of that name".to_owned()), vec![]));

        // The folder is gone, and comes back as it was, and then comes back changed.
        fs::rename(stage.folder(), stage.folder().with_extension("away")).unwrap();
        gate.expect(good, &[]).await;
        let error = "the plug-in folder FOLDER does not exist: create it, or set `plugins.directory`";
        assert_eq!(gate.errors(), (Some(error.to_owned()), vec![]));
        fs::rename(stage.folder().with_extension("away"), stage.folder()).unwrap();
        stage.write("a.wasm", "policy a1");
        gate.expect(good, &[]).await;
        assert_eq!(gate.errors(), (None, vec![]));
        stage.write("a.wasm", "policy a2");
        gate.expect("2: a=policy a2 oidc=strategy builtin", &["a"]).await;
    }

    /// Goal: many files at once are one candidate. Method: 300 files and as many notices.
    #[tokio::test(start_paused = true)]
    async fn many_files_at_once_are_one_generation() {
        let stage = Stage::new();
        let gate = stage.start().await.unwrap();
        gate.loads();
        for index in 0..300 {
            stage.write(format!("p{index}.wasm"), format!("policy {index}"));
            gate.changed.notify_one();
        }
        gate.settled().await;
        assert_eq!(gate.status().generation, Generation(2));
        assert_eq!(gate.status().plugins.len(), 301);
        assert_eq!(gate.loads().len(), 300);
    }

    /// Goal: who asks is answered with the generation that serves, or with why there is none; and what was refused is
    /// tried again for them. Method: a loader that fails once.
    #[tokio::test(start_paused = true)]
    async fn who_asks_is_answered() {
        let stage = Stage::new();
        let gate = stage.start().await.unwrap();
        assert_eq!(gate.handle.reload_now().await, Ok(Generation(1)));
        stage.write("a.wasm", "flaky");
        let refused = gate.handle.reload_now().await.unwrap_err();
        let expected = "the plug-ins are refused, and the last good generation serves on: FOLDER/a.wasm: too busy";
        assert_eq!(stage.clean(&refused.to_string()), expected);
        gate.loads();
        gate.expect("1: oidc=strategy builtin", &[]).await;
        assert_eq!(gate.handle.reload_now().await, Ok(Generation(2)));
        assert_eq!(gate.loads(), ["a"]);

        fs::remove_file(stage.path("a.wasm")).unwrap();
        assert_eq!(gate.handle.reload_now().await, Ok(Generation(3)), "without a word of the watch");
        assert_eq!(gate.serves(), "3: oidc=strategy builtin");

        let (one, two) = tokio::join!(gate.handle.reload_now(), gate.handle.reload_now());
        assert_eq!((one, two), (Ok(Generation(3)), Ok(Generation(3))));
        gate.running.abort();
        assert_eq!(gate.handle.reload_now().await, Err(ReloadError::Stopped));
    }

    /// Goal: nobody has to ask: what was refused is tried again by itself, more rarely each time. Method: paused time.
    #[tokio::test(start_paused = true)]
    async fn what_was_refused_is_tried_again() {
        let stage = Stage::new();
        let gate = stage.start().await.unwrap();
        let begun = Instant::now();
        stage.write("bad.wasm", "garbage");
        gate.expect("1: oidc=strategy builtin", &["bad", "oidc"]).await;
        let mut tries = Vec::new();
        while tries.len() < 7 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            tries.extend(gate.loads().iter().map(|_| begun.elapsed().as_secs()));
        }
        let pauses: Vec<_> = tries.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!((10..=11).contains(&tries[0]), "{tries:?}");
        for (pause, expected) in pauses.iter().zip([20, 40, 80, 160, 300, 300]) {
            assert!((expected..=expected + 1).contains(pause), "{pauses:?}");
        }
    }

    /// Goal: a generation that was replaced is gone, whole. Method: count the plug-ins that are alive over many reloads.
    #[tokio::test(start_paused = true)]
    async fn an_old_generation_drops() {
        let stage = Stage::new();
        let gate = stage.start().await.unwrap();
        for round in 0..50 {
            stage.write("a.wasm", format!("policy {round}"));
            stage.write("bad.wasm", "garbage");
            gate.settled().await;
            fs::remove_file(stage.path("bad.wasm")).unwrap();
            gate.settled().await;
            assert_eq!(gate.shared.alive.load(Ordering::SeqCst), 2, "round {round}");
        }
        assert_eq!(gate.status().generation, Generation(51));
    }

    /// A folder that plug-ins are put into.
    struct Stage {
        root: tempfile::TempDir,
    }

    /// A reload that runs, seen from outside.
    struct Gate {
        shared: Arc<Shared>,
        handle: ReloadHandle,
        changed: Arc<Notify>,
        status: watch::Receiver<Arc<ReloadStatus>>,
        running: tokio::task::JoinHandle<()>,
    }

    /// What the fakes saw.
    #[derive(Default)]
    struct Shared {
        loads: Mutex<BTreeSet<String>>,
        texts: Mutex<BTreeMap<Digest, String>>,
        flaked: AtomicUsize,
        alive: AtomicUsize,
        published: Mutex<String>,
    }

    const BUILTINS: &[(&str, &[u8])] = &[("oidc", b"strategy builtin")];

    impl Stage {
        fn new() -> Self {
            let stage = Self { root: tempfile::tempdir().unwrap() };
            fs::create_dir(stage.folder()).unwrap();
            stage
        }

        fn folder(&self) -> PathBuf {
            self.root.path().join("plugins")
        }

        fn path(&self, name: impl AsRef<Path>) -> PathBuf {
            self.folder().join(name)
        }

        fn write(&self, name: impl AsRef<Path>, text: impl AsRef<[u8]>) {
            fs::write(self.path(name), text).unwrap();
        }

        fn clean(&self, text: &str) -> String {
            text.replace(self.folder().to_str().unwrap(), "FOLDER")
        }

        async fn start(&self) -> Result<Gate, Refusal> {
            let shared = Arc::<Shared>::default();
            let changed = Arc::new(Notify::new());
            let (told, status) = watch::channel(Arc::default());
            let parts = ReloadParts {
                directory: self.folder(),
                builtins: BUILTINS,
                loader: Arc::new(FakeLoader(Arc::clone(&shared))),
                publisher: FakePublisher(Arc::clone(&shared)),
                changed: Arc::clone(&changed),
                status: told,
            };
            let (reload, handle) = Reload::start(parts).await?;
            Ok(Gate { shared, handle, changed, status, running: tokio::spawn(reload.run()) })
        }
    }

    impl Gate {
        /// Tells of a change and waits until it was handled.
        async fn settled(&self) {
            self.changed.notify_one();
            // Time is paused, and moves only when the reload has nothing more to do than wait.
            tokio::time::sleep(Duration::from_secs(3)).await;
        }

        async fn expect(&self, serves: &str, loads: &[&str]) {
            self.settled().await;
            assert_eq!(self.serves(), serves);
            assert_eq!(self.loads(), loads);
        }

        fn serves(&self) -> String {
            self.shared.published.lock().unwrap().clone()
        }

        /// What was loaded since the last time.
        fn loads(&self) -> Vec<String> {
            std::mem::take(&mut *self.shared.loads.lock().unwrap()).into_iter().collect()
        }

        fn status(&self) -> Arc<ReloadStatus> {
            Arc::clone(&self.status.borrow())
        }

        fn generations(&self) -> Vec<u64> {
            self.status().plugins.iter().map(|plugin| plugin.generation.unwrap().0).collect()
        }

        fn errors(&self) -> (Option<String>, Vec<String>) {
            let status = self.status();
            let clean = |text: &String| match text.find("/plugins") {
                Some(end) => {
                    let begin = text[..end].rfind(' ').map_or(0, |space| space + 1);
                    format!("{}FOLDER{}", &text[..begin], &text[end + "/plugins".len()..])
                }
                None => text.clone(),
            };
            let of_plugins = status
                .plugins
                .iter()
                .filter_map(|plugin| plugin.error.as_ref().map(|error| format!("{}: {}", plugin.name, clean(error))));
            (status.last_reload.as_ref().and_then(|last| last.error.as_ref()).map(clean), of_plugins.collect())
        }
    }

    impl Drop for Gate {
        fn drop(&mut self) {
            self.running.abort();
        }
    }

    /// Loads texts: the first word says what becomes of them.
    struct FakeLoader(Arc<Shared>);

    impl Load for FakeLoader {
        fn load(&self, source: Source) -> BoxFuture<'_, anyhow::Result<Loaded>> {
            Box::pin(async move {
                self.0.loads.lock().unwrap().insert(source.name.to_string());
                let text = String::from_utf8(source.bytes.to_vec())?;
                let digest = Digest::of(text.as_bytes());
                self.0.texts.lock().unwrap().insert(digest, text.clone());
                let fake = || {
                    self.0.alive.fetch_add(1, Ordering::SeqCst);
                    Arc::new(FakePlugin { name: source.name.clone(), digest, shared: Arc::clone(&self.0) })
                };
                let plugin = match text.split(' ').next() {
                    Some("policy") => Plugin::Policy(fake()),
                    Some("strategy") => Plugin::Strategy(fake()),
                    Some("flaky") if self.0.flaked.fetch_add(1, Ordering::SeqCst) == 0 => bail!("too busy"),
                    Some("flaky") => Plugin::Policy(fake()),
                    Some("panic") => panic!("a loader that dies"),
                    _ => return Err(anyhow!("magic number is wrong").context("not a component")),
                };
                Ok(Loaded { plugin, contract: "auth@0.1.0".to_owned(), start: Start::Snapshot })
            })
        }
    }

    /// A plug-in that nobody calls, and that counts itself.
    struct FakePlugin {
        name: PluginName,
        digest: Digest,
        shared: Arc<Shared>,
    }

    impl Drop for FakePlugin {
        fn drop(&mut self) {
            self.shared.alive.fetch_sub(1, Ordering::SeqCst);
        }
    }

    impl PermissionPolicy for FakePlugin {
        fn name(&self) -> &PluginName {
            &self.name
        }

        fn digest(&self) -> Digest {
            self.digest
        }

        fn mode(&self) -> PolicyMode {
            PolicyMode::Enforce
        }

        fn handle<'a>(
            &'a self,
            _query: &'a PolicyQuery,
            _user: Option<&'a UserInfo>,
        ) -> BoxFuture<'a, Result<Decision, CallError>> {
            Box::pin(async { Ok(Decision::NoOpinion) })
        }
    }

    impl AuthenticationStrategy for FakePlugin {
        fn name(&self) -> &PluginName {
            &self.name
        }

        fn credential<'a>(
            &'a self,
            _cluster: &'a ClusterDetails,
            _secrets: &'a Arc<dyn SecretStore>,
            _request_auth: &'a RequestAuth,
            _caller: Option<&'a UserInfo>,
        ) -> BoxFuture<'a, Result<Result<Issued, AuthError>, CallError>> {
            Box::pin(async { Ok(Err(AuthError::Refused("nobody calls a fake".to_owned()))) })
        }

        fn present_auth_metadata<'a>(&'a self, metadata: &'a Metadata) -> BoxFuture<'a, Result<Metadata, CallError>> {
            Box::pin(async { Ok(metadata.clone()) })
        }

        fn validate_cluster<'a>(&'a self, _metadata: &'a Metadata) -> BoxFuture<'a, Result<Vec<String>, CallError>> {
            Box::pin(async { Ok(Vec::new()) })
        }
    }

    /// Publishes a line of text: the generation, and each plug-in with its text.
    struct FakePublisher(Arc<Shared>);

    impl Publish for FakePublisher {
        type Candidate = String;

        fn build<'a>(
            &'a self,
            plugins: &'a [PluginEntry],
            generation: Generation,
        ) -> BoxFuture<'a, anyhow::Result<String>> {
            Box::pin(async move {
                let texts = self.0.texts.lock().unwrap();
                let plugins: Vec<_> =
                    plugins.iter().map(|entry| format!("{}={}", entry.name, texts[&entry.digest])).collect();
                let candidate = format!("{generation}: {}", plugins.join(" "));
                if candidate.contains("unbuildable") {
                    bail!("cluster `one`: no strategy of that name");
                }
                Ok(candidate)
            })
        }

        fn publish(&self, candidate: String) {
            *self.0.published.lock().unwrap() = candidate;
        }
    }
}
