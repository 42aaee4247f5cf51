//! What the tests of the life cycle have in common: a folder, plug-ins that are texts, and a gate that publishes a line.

#![expect(clippy::indexing_slicing, reason = "a test may panic")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use anyhow::{anyhow, bail};
use witgate_core::{
    AuthError, AuthenticationStrategy, CallError, ClusterDetails, Decision, Digest, Issued, Metadata, PermissionPolicy,
    PluginName, PolicyMode, PolicyQuery, RequestAuth, SecretStore, UserInfo,
};
use witgate_plugin::{CompilationCounts, Start};

use super::super::Plugin;
use super::super::load::{Loaded, Source};
use super::*;

/// How many generations the tests' gates keep.
pub(super) const KEPT_MAX: usize = 3;

/// A folder that plug-ins are put into.
pub(super) struct Stage {
    pub(super) root: tempfile::TempDir,
}

/// A reload that runs, seen from outside.
pub(super) struct Gate {
    pub(super) shared: Arc<Shared>,
    pub(super) handle: ReloadHandle,
    pub(super) changed: Arc<Notify>,
    status: watch::Receiver<Arc<ReloadStatus>>,
    pub(super) running: tokio::task::JoinHandle<()>,
}

/// What the fakes saw.
#[derive(Default)]
pub(super) struct Shared {
    loads: Mutex<BTreeSet<String>>,
    texts: Mutex<BTreeMap<Digest, String>>,
    flaked: AtomicUsize,
    pub(super) alive: AtomicUsize,
    /// The components that the loader was told to keep the code of, by their texts.
    retained: Mutex<BTreeSet<Digest>>,
    published: Mutex<String>,
    /// What the configuration says by now, or what is wrong with it.
    pub(super) configuration: Mutex<Setting>,
    /// A candidate that holds this text cannot be built.
    pub(super) unbuildable: Mutex<String>,
}

/// A configuration that is a text, or a problem.
pub(super) struct Setting(pub(super) Result<Arc<String>, String>);

impl Default for Setting {
    fn default() -> Self {
        Self(Ok(Arc::default()))
    }
}

pub(super) const BUILTINS: &[(&str, &[u8])] = &[("oidc", b"strategy builtin")];

impl Stage {
    pub(super) fn new() -> Self {
        let stage = Self { root: tempfile::tempdir().unwrap() };
        fs::create_dir(stage.folder()).unwrap();
        stage
    }

    pub(super) fn folder(&self) -> PathBuf {
        self.root.path().join("plugins")
    }

    pub(super) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.folder().join(name)
    }

    pub(super) fn write(&self, name: impl AsRef<Path>, text: impl AsRef<[u8]>) {
        fs::write(self.path(name), text).unwrap();
    }

    pub(super) fn clean(&self, text: &str) -> String {
        text.replace(self.folder().to_str().unwrap(), "FOLDER")
    }

    pub(super) async fn start(&self) -> Result<Gate, Refusal> {
        let shared = Arc::<Shared>::default();
        let changed = Arc::new(Notify::new());
        let (told, status) = watch::channel(Arc::default());
        let parts = ReloadParts {
            directory: self.folder(),
            trusted_keys: TrustedKeys::default(),
            configuration: shared.configuration.lock().unwrap().0.clone().unwrap(),
            delivery: None,
            kept_generations_max: KEPT_MAX,
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
    /// Lets the configuration's file say this.
    pub(super) fn configure(&self, text: Result<&str, &str>) {
        let setting = text.map(|text| Arc::new(text.to_owned())).map_err(str::to_owned);
        *self.shared.configuration.lock().unwrap() = Setting(setting);
    }

    /// Tells of a change and waits until it was handled.
    pub(super) async fn settled(&self) {
        self.changed.notify_one();
        // Time is paused, and moves only when the reload has nothing more to do than wait.
        tokio::time::sleep(Duration::from_secs(3)).await;
    }

    pub(super) async fn expect(&self, serves: &str, loads: &[&str]) {
        self.settled().await;
        assert_eq!(self.serves(), serves);
        assert_eq!(self.loads(), loads);
    }

    pub(super) fn serves(&self) -> String {
        self.shared.published.lock().unwrap().clone()
    }

    /// What was loaded since the last time.
    pub(super) fn loads(&self) -> Vec<String> {
        std::mem::take(&mut *self.shared.loads.lock().unwrap()).into_iter().collect()
    }

    /// The texts of the components whose code the loader keeps.
    pub(super) fn retained(&self) -> Vec<String> {
        let texts = self.shared.texts.lock().unwrap();
        let retained = self.shared.retained.lock().unwrap();
        let mut texts: Vec<_> = retained.iter().map(|digest| texts[digest].clone()).collect();
        texts.sort();
        texts
    }

    pub(super) fn status(&self) -> Arc<ReloadStatus> {
        Arc::clone(&self.status.borrow())
    }

    pub(super) fn generations(&self) -> Vec<u64> {
        self.status().plugins.iter().map(|plugin| plugin.generation.unwrap().0).collect()
    }

    pub(super) fn errors(&self) -> (Option<String>, Vec<String>) {
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
pub(super) struct FakeLoader(Arc<Shared>);

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
                Some("flaky" | "mute") => Plugin::Policy(fake()),
                Some("hang") => pending().await,
                Some("panic") => panic!("a loader that dies"),
                _ => return Err(anyhow!("magic number is wrong").context("not a component")),
            };
            Ok(Loaded { plugin, meter: Arc::default(), contract: "auth@0.1.0".to_owned(), start: Start::Snapshot })
        })
    }

    fn retain(&self, components: &BTreeSet<Digest>) {
        self.0.retained.lock().unwrap().clone_from(components);
    }

    fn compilations(&self) -> CompilationCounts {
        CompilationCounts::default()
    }
}

/// A plug-in that nobody calls, and that counts itself.
pub(super) struct FakePlugin {
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
        let is_mute = self.shared.texts.lock().unwrap().get(&self.digest).is_some_and(|text| text.starts_with("mute"));
        let plugin = self.name.clone();
        Box::pin(async move {
            if is_mute {
                Err(CallError::Trapped { plugin, source: "unreachable".into() })
            } else {
                Ok(Decision::NoOpinion)
            }
        })
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
pub(super) struct FakePublisher(Arc<Shared>);

impl Publish for FakePublisher {
    type Configuration = String;
    type Candidate = String;

    fn configuration(&self, _: Cause) -> BoxFuture<'_, Result<Arc<String>, String>> {
        Box::pin(async { self.0.configuration.lock().unwrap().0.clone() })
    }

    fn build<'a>(
        &'a self,
        configuration: &'a String,
        plugins: &'a [PluginEntry],
        generation: Generation,
    ) -> BoxFuture<'a, anyhow::Result<String>> {
        Box::pin(async move {
            let texts = self.0.texts.lock().unwrap();
            let plugins: Vec<_> =
                plugins.iter().map(|entry| format!("{}={}", entry.name, texts[&entry.digest])).collect();
            let configuration = if configuration.is_empty() { String::new() } else { format!("({configuration}) ") };
            let candidate = format!("{generation}: {configuration}{}", plugins.join(" "));
            let unbuildable = self.0.unbuildable.lock().unwrap();
            if candidate.contains("unbuildable") || (!unbuildable.is_empty() && candidate.contains(&*unbuildable)) {
                bail!("cluster `one`: no strategy of that name");
            }
            Ok(candidate)
        })
    }

    fn publish(&self, candidate: String) {
        *self.0.published.lock().unwrap() = candidate;
    }
}
