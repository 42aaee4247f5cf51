//! What of the configuration may change while the gate serves, and the file that says what it is by now.
//!
//! Clusters, authentication and the permission rule are part of each generation and change with it: a request is judged by one
//! configuration from start to end. Every other key is read at the start alone; where the file says otherwise by now, that
//! is told, and takes a restart.
//!
//! The file is believed once it has been the same for two looks, or at once when somebody asks. Promise: a file that is bad or
//! gone changes nothing but the log and `/status`.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use serde::Serialize;
use tokio::sync::Notify;
use tokio::time::MissedTickBehavior;
use tracing::{error, warn};
use witgate_core::Authenticator;
use witgate_proxy::snapshot::PermissionRule;

use crate::authentication;
use crate::authentication::fetch::HttpFetcher;
use crate::cli::environment;
use crate::config::{self, Config, ConfigErrors};
use crate::reachable::Reachable;
use crate::trust_files::TrustFile;

/// The part of a configuration that a generation is made of.
pub(crate) struct Configured {
    pub(crate) permission: PermissionRule,
    pub(crate) authenticator: Arc<dyn Authenticator>,
    pub(crate) clusters: Vec<Arc<Reachable>>,
    config: Config,
}

/// The configuration as its file says by now.
pub(crate) struct ConfigurationFile {
    started_with: Config,
    latest: Mutex<Latest>,
}

/// What the last look found.
struct Latest {
    good: Arc<Configured>,
    /// Why the file is not what `good` is.
    error: Option<String>,
    /// Keys of which the file says something else than the gate started with.
    needs_restart: Vec<&'static str>,
    files: Vec<PathBuf>,
    seen: Signature,
}

/// What `/status` tells of the configuration.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ConfigurationStatus {
    /// Why what the file says is not in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// Keys that were changed in the file, and take a restart.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    needs_restart: Vec<&'static str>,
}

/// The files as they were: what changes when one of them does.
type Signature = Vec<Option<(SystemTime, u64, u64)>>;

impl Configured {
    /// Makes `config` ready, with what `before` has of it already. Reads its files: blocks. Connects to nothing.
    ///
    /// # Errors
    /// With all that is wrong, one text each.
    fn new(config: Config, before: Option<&Self>) -> Result<Self, Vec<String>> {
        let mut problems = Vec::new();
        let mut clusters = Vec::new();
        for cluster in &config.clusters {
            let before = before.and_then(|before| before.cluster(cluster));
            match before {
                Some(same) if same.is(cluster) => clusters.push(Arc::clone(same)),
                _ => match Reachable::new(cluster, before.map(Arc::as_ref), config.limits) {
                    Ok(reachable) => clusters.push(Arc::new(reachable)),
                    Err(problem) => problems.push(problem),
                },
            }
        }
        let authenticator = match before.filter(|before| before.believes_as(&config)) {
            Some(before) => Ok(Arc::clone(&before.authenticator)),
            None => authentication::authenticator(&config, Arc::new(HttpFetcher::default())),
        };
        match authenticator {
            Ok(authenticator) if problems.is_empty() => {
                let permission = match config.permission {
                    config::PermissionRule::Enabled => PermissionRule::Enabled,
                    config::PermissionRule::Disabled => PermissionRule::Disabled,
                };
                Ok(Self { permission, authenticator, clusters, config })
            }
            Ok(_) => Err(problems),
            Err(error) => {
                problems.extend(format!("{error:#}").lines().map(str::to_owned));
                Err(problems)
            }
        }
    }

    fn cluster(&self, config: &config::ClusterConfig) -> Option<&Arc<Reachable>> {
        self.clusters.iter().find(|cluster| cluster.config.details.name == config.details.name)
    }

    fn believes_as(&self, config: &Config) -> bool {
        self.config.authentication == config.authentication && self.config.tls == config.tls
    }

    /// Whether requests would be served alike.
    fn is(&self, other: &Self) -> bool {
        self.permission == other.permission
            && Arc::ptr_eq(&self.authenticator, &other.authenticator)
            && self.clusters.len() == other.clusters.len()
            && self.clusters.iter().zip(&other.clusters).all(|(one, other)| Arc::ptr_eq(one, other))
    }

    /// The files of certificate authorities that are followed.
    pub(crate) fn trust_files(&self) -> impl Iterator<Item = TrustFile> {
        self.clusters.iter().filter_map(|cluster| cluster.trust_file())
    }
}

impl ConfigurationFile {
    /// The configuration that the gate starts with. Reads the files that it names: blocks.
    ///
    /// # Errors
    /// With all that is wrong, one text each.
    pub(crate) fn new(config: &Config) -> Result<Self, Vec<String>> {
        let good = Arc::new(Configured::new(config.clone(), None)?);
        let seen = signature(&config.files);
        let latest = Latest { good, error: None, needs_restart: Vec::new(), files: config.files.clone(), seen };
        Ok(Self { started_with: config.clone(), latest: Mutex::new(latest) })
    }

    /// What the file said when it was last good.
    pub(crate) fn good(&self) -> Arc<Configured> {
        Arc::clone(&self.latest().good)
    }

    /// What the file says; the very same while it says the same.
    ///
    /// # Errors
    /// With what is wrong with it.
    pub(crate) fn read(&self) -> Result<Arc<Configured>, String> {
        let latest = self.latest();
        match &latest.error {
            None => Ok(Arc::clone(&latest.good)),
            Some(error) => Err(error.clone()),
        }
    }

    /// What there is to say of it.
    pub(crate) fn status(&self) -> Option<ConfigurationStatus> {
        let Latest { error, needs_restart, .. } = &*self.latest();
        let anything = error.is_some() || !needs_restart.is_empty();
        anything.then(|| ConfigurationStatus { error: error.clone(), needs_restart: needs_restart.clone() })
    }

    /// Notifies `changed` whenever what the file says has changed; never ends.
    pub(crate) async fn follow(self: Arc<Self>, changed: Arc<Notify>) {
        let mut candidate = None;
        let mut look = tokio::time::interval(LOOK_INTERVAL);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            look.tick().await;
            let file = Arc::clone(&self);
            let looked = tokio::task::spawn_blocking(move || {
                let before = file.outcome();
                candidate = file.look(candidate);
                (candidate, file.outcome() != before)
            });
            let is_new;
            match looked.await {
                Ok(looked) => (candidate, is_new) = looked,
                Err(_) => return, // the runtime is going away
            }
            if is_new {
                changed.notify_one();
            }
        }
    }

    /// What the last look came to, to be compared.
    fn outcome(&self) -> (usize, Option<String>) {
        let latest = self.latest();
        (Arc::as_ptr(&latest.good).addr(), latest.error.clone())
    }

    /// Reads the files when they differ from what was read and have kept still since the last look, whose signature this takes and
    /// gives back.
    fn look(&self, candidate: Option<Signature>) -> Option<Signature> {
        let (files, seen) = {
            let latest = self.latest();
            (latest.files.clone(), latest.seen.clone())
        };
        let now = signature(&files);
        if now == seen {
            return None;
        }
        if candidate.as_ref() != Some(&now) {
            return Some(now);
        }
        self.reread();
        None
    }

    /// Reads the files, settled or not. Blocks.
    pub(crate) fn reread(&self) {
        // Before the files are read: what changes meanwhile is seen at the next look.
        let seen = signature(&self.latest().files);
        let read = Config::load(&self.started_with.file, &environment);
        let mut latest = self.latest();
        let read = read.and_then(|config| {
            latest.files.clone_from(&config.files);
            let needs_restart = needs_restart(&self.started_with, &config);
            let Config { tls, limits, .. } = &self.started_with;
            let config = Config { tls: tls.clone(), limits: *limits, ..config };
            let next = Configured::new(config, Some(&latest.good)).map_err(ConfigErrors::of)?;
            Ok((next, needs_restart))
        });
        // Where the configuration is made of other files by now, this differs from them, and they are read once more.
        latest.seen = seen;
        match read {
            Ok((next, needs_restart)) => {
                latest.error = None;
                if !needs_restart.is_empty() && latest.needs_restart != needs_restart {
                    let keys = needs_restart.join(", ");
                    warn!(keys, "the configuration file says something else by now; these keys take a restart");
                }
                latest.needs_restart = needs_restart;
                if !latest.good.is(&next) {
                    for note in next.config.notes.iter().filter(|note| !latest.good.config.notes.contains(note)) {
                        warn!("{note}");
                    }
                    latest.good = Arc::new(next);
                }
            }
            Err(errors) => {
                let text = errors.to_string();
                if latest.error.as_ref() != Some(&text) {
                    error!(error = %text, "the configuration file is refused; what is in force stays");
                }
                latest.error = Some(text);
            }
        }
    }

    fn latest(&self) -> MutexGuard<'_, Latest> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The keys that are read at the start alone and differ.
fn needs_restart(started_with: &Config, config: &Config) -> Vec<&'static str> {
    let Config { listen, tls, admin, plugins, decision_log, telemetry, limits, .. } = started_with;
    [
        ("listen", *listen == config.listen),
        ("tls", *tls == config.tls),
        ("admin", *admin == config.admin),
        ("plugins", *plugins == config.plugins),
        ("decisionLog", *decision_log == config.decision_log),
        ("telemetry", *telemetry == config.telemetry),
        ("listener, upstream, upgrade or drain", *limits == config.limits),
    ]
    .into_iter()
    .filter(|(_, same)| !same)
    .map(|(key, _)| key)
    .collect()
}

fn signature(files: &[PathBuf]) -> Signature {
    files
        .iter()
        .map(|path| {
            let metadata = fs::metadata(path).ok()?;
            Some((metadata.modified().ok()?, metadata.len(), metadata.ino()))
        })
        .collect()
}

/// How often the files are looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
