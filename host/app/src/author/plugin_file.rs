//! One `NAME.wasm` with its sidecar, loaded as the gate loads those of its folder.
//!
//! The reading, the sidecar, the loader and the self-test are the gate's own. What is different is where the file may
//! stand, and that the settings may be others than the sidecar's.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use serde_json::Value;
use witgate_core::{Digest, Generation, PluginName};
use witgate_plugin::{Host, HostConfig};

use crate::cli::environment;
use crate::plugins::builtin::BUILTINS;
use crate::plugins::candidate::Wanted;
use crate::plugins::folder::{self, ComponentFile, FolderContents, SidecarFile};
use crate::plugins::load::{HostLoader, Load as _};
use crate::plugins::sidecar::Sidecar;
use crate::plugins::{PluginEntry, Problem};

/// Where plug-ins are loaded: one engine for all that a command needs.
pub(crate) struct Workshop {
    loader: HostLoader,
}

/// How the engine of a tool is started.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct WorkshopOptions {
    /// Keep compiled code in this folder, so that the next run does not compile; made if missing
    ///
    /// Of use with guests that hold an interpreter: a Python component takes seconds to compile.
    #[arg(long, value_name = "DIR", env = "WITGATE_CACHE_DIRECTORY")]
    cache_directory: Option<PathBuf>,
}

/// A plug-in's file, read but not judged.
#[derive(Clone, Debug)]
pub(crate) struct PluginFile {
    name: PluginName,
    component: ComponentFile,
    sidecar: Option<SidecarFile>,
}

impl WorkshopOptions {
    /// Starts the engine.
    ///
    /// # Errors
    /// When it does not start, or the cache folder cannot be used.
    pub(crate) fn open(&self) -> anyhow::Result<Workshop> {
        let config = HostConfig { cache_directory: self.cache_directory.clone(), ..HostConfig::default() };
        let host = Host::new(config).map_err(anyhow::Error::new)?;
        Ok(Workshop { loader: HostLoader::new(host, environment) })
    }
}

impl Workshop {
    /// Lets go of the compiled code of what was loaded so far. Functions are still known: the next version of a plug-in compiles what is new in it.
    pub(crate) fn let_go(&self) {
        self.loader.retain(&BTreeSet::new());
    }
}

impl PluginFile {
    /// Reads `path`, which ends with `.wasm`, and the sidecar beside it where there is one.
    ///
    /// # Errors
    /// When one of them cannot be read, or the file's name is not a plug-in's.
    pub(crate) fn read(path: &Path) -> Result<Self, Problem> {
        let (name, FolderContents { mut components, mut sidecars, .. }) = folder::single(path)?;
        let component =
            components.remove(&name).ok_or_else(|| Problem::of_folder(format!("{} cannot be read", path.display())))?;
        let sidecar = sidecars.remove(&name);
        Ok(Self { name, component, sidecar })
    }

    /// Every plug-in of `directory`, as the gate finds them there.
    ///
    /// # Errors
    /// With everything that would keep the gate from serving the folder.
    pub(crate) fn read_folder(directory: &Path) -> anyhow::Result<Vec<Self>> {
        let FolderContents { components, mut sidecars, problems, .. } =
            folder::scan(directory, &crate::trusted_keys::TrustedKeys::default())?;
        if let Some(problem) = problems.into_iter().next() {
            return Err(problem.into());
        }
        let files = components.into_iter().map(|(name, component)| {
            let sidecar = sidecars.remove(&name);
            Self { name, component, sidecar }
        });
        Ok(files.collect())
    }

    /// With these settings instead of the sidecar's; the rest of the sidecar holds.
    ///
    /// # Errors
    /// When the sidecar is not YAML.
    pub(crate) fn with_settings(self, settings: Value) -> anyhow::Result<Self> {
        self.with_key("settings", settings)
    }

    /// With this key of the sidecar instead of what it says.
    ///
    /// # Errors
    /// When the sidecar is not YAML.
    pub(crate) fn with_key(self, key: &str, value: Value) -> anyhow::Result<Self> {
        let (path, mut document) = match &self.sidecar {
            None => (self.component.path.with_extension("yaml"), Value::Null),
            Some(SidecarFile { path, text }) => {
                // A snippet of the file could show a secret.
                let options = serde_saphyr::options! { with_snippet: false };
                let document = serde_saphyr::from_str_with_options(text, options)
                    .with_context(|| format!("{}: not the YAML of a sidecar", path.display()))?;
                (path.clone(), document)
            }
        };
        if document.is_null() {
            document = Value::Object(serde_json::Map::new());
        }
        if let Value::Object(keys) = &mut document {
            keys.insert(key.to_owned(), value);
        }
        // JSON is YAML. What is wrong with the rest is told when it is loaded, in the gate's words.
        let sidecar = Some(SidecarFile { path, text: document.to_string().into() });
        Ok(Self { sidecar, ..self })
    }

    /// With a deadline of at least a second: where thousands are asked on a machine that does other things too, lateness says
    /// nothing of the plug-in.
    ///
    /// # Errors
    /// When the sidecar is not YAML.
    pub(crate) fn with_patience(self) -> anyhow::Result<Self> {
        let Ok(sidecar) = self.parsed_sidecar() else { return Ok(self) }; // refused when it is loaded
        if sidecar.limits.deadline >= PATIENCE {
            return Ok(self);
        }
        let mut limits = match &self.sidecar {
            None => Value::Null,
            Some(SidecarFile { text, .. }) => {
                let options = serde_saphyr::options! { with_snippet: false };
                let mut document: Value = serde_saphyr::from_str_with_options(text, options)?;
                document.get_mut("limits").map(Value::take).unwrap_or_default()
            }
        };
        if !limits.is_object() {
            limits = Value::Object(serde_json::Map::new());
        }
        if let Value::Object(keys) = &mut limits {
            let milliseconds = u64::try_from(PATIENCE.as_millis()).unwrap_or(u64::MAX);
            keys.insert("deadlineMs".to_owned(), milliseconds.into());
        }
        self.with_key("limits", limits)
    }

    /// Loads it as the gate would, the self-test included.
    ///
    /// # Errors
    /// When the gate would refuse it, in the gate's words.
    pub(crate) async fn load(&self, workshop: &Workshop) -> Result<PluginEntry, Problem> {
        let Self { name, component, sidecar } = self;
        let contents = FolderContents {
            components: BTreeMap::from([(name.clone(), component.clone())]),
            sidecars: sidecar.iter().map(|sidecar| (name.clone(), sidecar.clone())).collect(),
            ..FolderContents::default()
        };
        // The built-in of this name, which only a strategy may replace.
        let index = BUILTINS.iter().position(|(builtin, _)| *builtin == name.as_str());
        let builtins = index.and_then(|index| BUILTINS.get(index..=index)).unwrap_or_default();
        let (mut wanted, _notes) = Wanted::join(contents, builtins);
        let plugin = wanted
            .plugins
            .remove(name)
            .ok_or_else(|| Problem::of_plugin(name, None, format!("{} is not there", component.path.display())))?;
        let served = plugin.load(&workshop.loader, name, Generation(1)).await?;
        Ok(served.entry)
    }

    /// What its sidecar says; the defaults where there is none.
    ///
    /// # Errors
    /// In the gate's words.
    pub(crate) fn parsed_sidecar(&self) -> Result<Sidecar, Problem> {
        match &self.sidecar {
            None => Ok(Sidecar::default()),
            Some(SidecarFile { path, text }) => Sidecar::parse(path, text)
                .map_err(|error| Problem::of_plugin(&self.name, Some(self.component.digest), error.to_string())),
        }
    }

    /// Its name: the file's, without `.wasm`.
    pub(crate) const fn name(&self) -> &PluginName {
        &self.name
    }

    /// Where it stands.
    pub(crate) fn path(&self) -> &Path {
        &self.component.path
    }

    /// Where its sidecar stands, if it has one.
    pub(crate) fn sidecar_path(&self) -> Option<&Path> {
        self.sidecar.as_ref().map(|sidecar| sidecar.path.as_path())
    }

    /// Of its component.
    pub(crate) const fn digest(&self) -> Digest {
        self.component.digest
    }

    /// Its component.
    ///
    /// # Errors
    /// When it cannot be read, or is another one by now.
    pub(crate) fn bytes(&self) -> Result<Arc<[u8]>, Problem> {
        self.component.read().map_err(|fault| {
            let text = format!("{} {:#}", self.path().display(), anyhow::Error::new(fault));
            Problem::of_plugin(&self.name, Some(self.digest()), text)
        })
    }
}

/// A runtime of this thread alone: what a guest logs is then heard by who called it.
pub(crate) fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("the runtime cannot be started")
}

/// The deadline of [`PluginFile::with_patience`].
const PATIENCE: Duration = Duration::from_secs(1);
