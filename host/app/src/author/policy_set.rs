//! The policies that a tool asks: files or folders, loaded as the gate loads them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use serde_json::Value;
use witgate_core::{AuthenticationStrategy, PermissionPolicy, PluginName};

use super::plugin_file::{PluginFile, Workshop};
use crate::plugins::{Plugin, PluginEntry};

/// How long policies may take.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Deadlines {
    /// What their sidecars say.
    AsInTheGate,
    /// A second at least.
    Patient,
}

/// What was loaded.
#[derive(Default)]
pub(crate) struct PluginSet {
    /// What decides, in the order of their names.
    pub(crate) policies: Vec<Arc<dyn PermissionPolicy>>,
    /// What yields credentials.
    pub(crate) strategies: Vec<(PluginName, Arc<dyn AuthenticationStrategy>)>,
}

impl PluginSet {
    /// Loads `paths`, each a component or a folder of them. `settings` go to the only component instead of its sidecar's.
    ///
    /// # Errors
    /// When one of them would be refused by the gate, in its words.
    pub(crate) async fn load(
        workshop: &Workshop,
        paths: &[PathBuf],
        settings: Option<Value>,
        deadlines: Deadlines,
    ) -> anyhow::Result<Self> {
        let mut files = Vec::new();
        for path in paths {
            if path.is_dir() {
                let found = PluginFile::read_folder(path)?;
                if found.is_empty() {
                    bail!("{} holds no plug-in: nothing in it ends with `.wasm`", path.display());
                }
                files.extend(found);
            } else {
                files.push(PluginFile::read(path)?);
            }
        }
        if let Some(settings) = settings {
            let count = files.len();
            let (Some(file), None) = (files.pop(), files.pop()) else {
                bail!(
                    "--settings are for one component, and there are {count}: use sidecars (NAME.yaml beside NAME.wasm)"
                );
            };
            files = vec![file.with_settings(settings)?];
        }
        let mut set = Self::default();
        for file in files {
            let file = match deadlines {
                Deadlines::AsInTheGate => file,
                Deadlines::Patient => file.with_patience()?,
            };
            set.add(file.load(workshop).await?);
        }
        Ok(set)
    }

    /// Adds one that is loaded.
    pub(crate) fn add(&mut self, entry: PluginEntry) {
        match entry.plugin {
            Plugin::Policy(policy) => self.policies.push(policy),
            Plugin::Strategy(strategy) => self.strategies.push((entry.name, strategy)),
        }
    }
}

/// Reads a file of settings, YAML or JSON. It may be a sidecar: then its `settings` are meant.
///
/// # Errors
/// When it cannot be read or is not YAML.
pub(crate) fn read_settings(path: &Path) -> anyhow::Result<Value> {
    let text = std::fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?;
    // A snippet of the file could show a secret.
    let options = serde_saphyr::options! { with_snippet: false };
    let mut value: Value =
        serde_saphyr::from_str_with_options(&text, options).with_context(|| format!("{}: not YAML", path.display()))?;
    if let Some(settings) = value.get_mut("settings").filter(|settings| settings.is_object()) {
        return Ok(settings.take());
    }
    Ok(if value.is_null() { Value::Object(serde_json::Map::new()) } else { value })
}
