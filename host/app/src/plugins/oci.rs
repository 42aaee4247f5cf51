//! Plug-ins from an OCI registry: named in `witgate.yaml` by digest, fetched once, kept on disk, and from there on like files.
//!
//! [`Delivery::deliver`] puts them beside what stands in the drop-in folder, before the two are judged as one: the same signatures,
//! pins, sidecars, limits and self-tests hold for both. Nothing here is on a request's path.
//!
//! Promise: what is delivered hashes to what `witgate.yaml` says, wherever it came from; and a plug-in that cannot be
//! delivered is a problem of the candidate, never a plug-in less.

mod challenge;
mod credentials;
mod manifest;
pub(crate) mod reference;
mod registry;
mod store;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tracing::info;
use witgate_core::{Digest, PluginName};

use self::manifest::{Artifact, MANIFEST_BYTES_MAX};
use self::reference::Reference;
use self::registry::Registries;
use self::store::{Kind, Store};
use super::Problem;
use super::folder::{COMPONENT_BYTES_MAX, ComponentFile, FolderContents, SidecarFile};
use crate::config::PluginsConfig;
use crate::trusted_keys::TrustedKeys;

/// The plug-ins of `plugins.oci`, and how registries are asked for them.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct OciConfig {
    /// In the order of the file; no two of one name.
    pub(crate) plugins: Vec<OciPlugin>,
    /// Docker's `config.json`.
    pub(crate) credentials_file: Option<PathBuf>,
    /// The authorities that registries' certificates chain to, instead of the system's.
    pub(crate) ca_file: Option<PathBuf>,
    /// How long the fetch of one plug-in may take; none means [`FETCH_TIMEOUT_DEFAULT`].
    pub(crate) timeout: Option<Duration>,
}

/// One plug-in of `plugins.oci`; two are equal that differ in their place alone.
#[derive(Clone, Debug, Eq)]
pub(crate) struct OciPlugin {
    /// Its name.
    pub(crate) name: PluginName,
    /// Where it is, and which bytes it has.
    pub(crate) reference: Reference,
    /// What `NAME.yaml` would say.
    pub(crate) sidecar: Option<SidecarFile>,
    /// Where it stands, for messages: file, line and key.
    pub(crate) place: String,
}

/// Where it stands in the file is not what it is: a line that is added above it changes no plug-in.
impl PartialEq for OciPlugin {
    fn eq(&self, other: &Self) -> bool {
        let text = |plugin: &Self| plugin.sidecar.as_ref().map(|sidecar| Arc::clone(&sidecar.text));
        self.name == other.name && self.reference == other.reference && text(self) == text(other)
    }
}

/// Brings plug-ins from registries.
#[derive(Debug)]
pub(crate) struct Delivery {
    config: OciConfig,
    store: Store,
    trusted_keys: TrustedKeys,
}

/// Where plug-ins may come from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Sources {
    /// From the disk, and else from their registry.
    DiskAndRegistry,
    /// From the disk alone: whoever waits must not wait for a registry.
    Disk,
}

impl Delivery {
    /// For the plug-ins of a configuration; None where there are none, or no folder to keep them.
    pub(crate) fn new(config: &PluginsConfig) -> Option<Self> {
        let cache_directory = config.cache_directory.as_deref()?;
        (!config.oci.plugins.is_empty()).then(|| Self {
            config: config.oci.clone(),
            store: Store::below(cache_directory),
            trusted_keys: config.trusted_keys.clone(),
        })
    }

    /// Adds the plug-ins to what stands in the folder.
    pub(crate) async fn deliver(self: &Arc<Self>, contents: &mut FolderContents, sources: Sources) {
        let slots = Arc::new(Semaphore::new(FETCHES_MAX));
        let mut bringing = JoinSet::new();
        for (index, plugin) in self.config.plugins.iter().enumerate() {
            if let Some(file) = contents.components.get(&plugin.name) {
                let file = file.path.display();
                contents
                    .refuse_delivery(plugin, format!("{file} is a plug-in of that name too: remove one of the two"));
                continue;
            }
            let (delivery, plugin, slots) = (Arc::clone(self), plugin.clone(), Arc::clone(&slots));
            bringing.spawn(async move {
                let _slot = slots.acquire().await;
                let brought = delivery.bring(&plugin, sources).await;
                (index, plugin, brought)
            });
        }
        let mut brought = bringing.join_all().await;
        brought.sort_by_key(|(index, ..)| *index);
        let mut needed = Vec::new();
        for (_, plugin, outcome) in brought {
            match outcome {
                Ok((component, manifest)) => {
                    needed.extend([component.path.clone(), manifest]);
                    contents.add_delivery(&plugin, component);
                }
                Err(error) => contents.refuse_delivery(&plugin, format!("{error:#}")),
            }
        }
        if sources == Sources::DiskAndRegistry && contents.problems.is_empty() {
            let store = self.store.clone();
            // How it ends changes nothing: there is a file too many, or there is not.
            let _ = tokio::task::spawn_blocking(move || store.tidy(&needed)).await;
        }
    }

    /// Those that are not on the disk.
    pub(crate) async fn missing(&self) -> Vec<OciPlugin> {
        let mut missing = Vec::new();
        for plugin in &self.config.plugins {
            if matches!(self.kept(plugin).await, Ok(None)) {
                missing.push(plugin.clone());
            }
        }
        missing
    }

    /// One plug-in: its component on the disk, and its manifest's file.
    async fn bring(&self, plugin: &OciPlugin, sources: Sources) -> anyhow::Result<(ComponentFile, PathBuf)> {
        let timeout = self.config.timeout.unwrap_or(FETCH_TIMEOUT_DEFAULT);
        let (artifact, bytes) = match self.kept(plugin).await? {
            Some(kept) => kept,
            None if sources == Sources::Disk => anyhow::bail!("it was not fetched yet"),
            None => tokio::time::timeout(timeout, self.fetch(&plugin.reference)).await.map_err(|_| {
                anyhow::anyhow!(
                    "{} did not deliver it within {} ms (`plugins.registry.timeoutMs`)",
                    plugin.reference.registry,
                    timeout.as_millis()
                )
            })??,
        };
        let file_name = format!("{}.wasm", plugin.name);
        self.trusted_keys.verify(&file_name, &bytes, artifact.signature.as_deref()).map_err(|untrusted| {
            let how = format!("the signature of `{file_name}` is the annotation `{}`", manifest::SIGNATURE_ANNOTATION);
            anyhow::Error::new(untrusted).context(how)
        })?;
        let path = self.store.path(Kind::Component, &artifact.digest);
        let component =
            ComponentFile { path, digest: Digest::of(&bytes), reference: Some(plugin.reference.to_string().into()) };
        Ok((component, self.store.path(Kind::Manifest, &plugin.reference.digest)))
    }

    /// What was fetched before.
    async fn kept(&self, plugin: &OciPlugin) -> anyhow::Result<Option<(Artifact, Vec<u8>)>> {
        let (store, digest) = (self.store.clone(), plugin.reference.digest.clone());
        let look = tokio::task::spawn_blocking(move || {
            let manifest = store.find(Kind::Manifest, &digest, MANIFEST_BYTES_MAX)?;
            let artifact = Artifact::parse(&manifest);
            let bytes =
                artifact.as_ref().ok().map(|artifact| store.find(Kind::Component, &artifact.digest, artifact.size));
            match (artifact, bytes) {
                (Ok(artifact), Some(Some(bytes))) => Some(Ok((artifact, bytes))),
                (Ok(_), _) => None,
                (Err(unusable), _) => Some(Err(unusable)),
            }
        });
        match look.await.context("looking for it ended without a result")? {
            None => Ok(None),
            Some(Ok(kept)) => Ok(Some(kept)),
            Some(Err(unusable)) => Err(anyhow::Error::new(unusable).context("its manifest")),
        }
    }

    async fn fetch(&self, reference: &Reference) -> anyhow::Result<(Artifact, Vec<u8>)> {
        let OciConfig { credentials_file, ca_file, .. } = &self.config;
        let registries = Registries { credentials_file: credentials_file.as_deref(), ca_file: ca_file.as_deref() };
        let mut session = registries.session(reference)?;
        let manifest = session.manifest().await?;
        let artifact = Artifact::parse(&manifest).context("its manifest")?;
        let bytes = session.component(&artifact).await?;
        let store = self.store.clone();
        let (manifest_digest, kept) = (reference.digest.clone(), (artifact.clone(), bytes));
        let keep = tokio::task::spawn_blocking(move || {
            let (artifact, bytes) = &kept;
            store.keep(Kind::Component, &artifact.digest, bytes)?;
            store.keep(Kind::Manifest, &manifest_digest, &manifest)?;
            Ok::<_, std::io::Error>(kept)
        });
        let kept = keep.await.context("keeping it ended without a result")?;
        let kept = kept.context("it cannot be kept in `plugins.cacheDirectory`")?;
        info!(%reference, bytes = kept.1.len(), "a plug-in was fetched from its registry");
        Ok(kept)
    }
}

impl FolderContents {
    fn add_delivery(&mut self, plugin: &OciPlugin, component: ComponentFile) {
        if let Some(sidecar) = &plugin.sidecar {
            if let Some(file) = self.sidecars.get(&plugin.name) {
                let file = file.path.display();
                return self.refuse_delivery(
                    plugin,
                    format!("{file} is its sidecar, and so is its `sidecar`: remove one of the two"),
                );
            }
            self.sidecars.insert(plugin.name.clone(), sidecar.clone());
        }
        self.components.insert(plugin.name.clone(), component);
    }

    fn refuse_delivery(&mut self, plugin: &OciPlugin, why: String) {
        let OciPlugin { name, reference, place, .. } = plugin;
        self.problems.push(Problem::of_plugin(name, None, format!("{place}: `{name}` from {reference}: {why}")));
    }
}

/// How long the fetch of one plug-in may take when nobody says: 64 MB at 10 Mbit/s take 54 s.
pub(crate) const FETCH_TIMEOUT_DEFAULT: Duration = Duration::from_secs(60);
/// Plug-ins that are fetched at once.
const FETCHES_MAX: usize = 4;
/// Plug-ins that `plugins.oci` may name.
pub(crate) const OCI_PLUGINS_MAX: usize = 256;

const _: () = assert!(COMPONENT_BYTES_MAX <= 64 << 20, "the timeout's reason names it");
