//! The gate's plug-in folder, and what a test drops into it.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::artifacts;

/// A plug-in: a compiled guest with the name of its file and, perhaps, a sidecar.
#[derive(Clone, Debug)]
pub struct Plugin {
    name: String,
    component: Vec<u8>,
    sidecar: Option<Value>,
}

impl Plugin {
    /// One of the policies of `guests/policies`.
    pub fn policy(name: &str) -> Self {
        Self::compiled("policies", name)
    }

    /// One of the strategies of `guests/strategies`.
    pub fn strategy(name: &str) -> Self {
        Self::compiled("strategies", name)
    }

    /// One of the misbehaving guests.
    pub fn fixture(name: &str) -> Self {
        Self::compiled("fixtures", name)
    }

    /// A file that holds `bytes`, whatever they are.
    pub fn of_bytes(name: &str, bytes: &[u8]) -> Self {
        Self { name: name.into(), component: bytes.into(), sidecar: None }
    }

    fn compiled(kind: &str, name: &str) -> Self {
        let path = artifacts::guest(&format!("{kind}/{name}"));
        Self { name: name.into(), component: fs::read(path).unwrap(), sidecar: None }
    }

    /// The same guest under another file name.
    #[must_use]
    pub fn named(self, name: &str) -> Self {
        Self { name: name.into(), ..self }
    }

    /// The same guest with a sidecar.
    #[must_use]
    pub fn sidecar(self, sidecar: Value) -> Self {
        Self { sidecar: Some(sidecar), ..self }
    }
}

/// A folder of plug-ins.
pub struct PluginFolder(PathBuf);

impl PluginFolder {
    /// Makes the folder.
    pub fn create(path: PathBuf) -> Self {
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Copies a plug-in in as `cp` does: written in place, the sidecar first.
    pub fn put(&self, plugin: &Plugin) {
        if let Some(sidecar) = &plugin.sidecar {
            fs::write(self.0.join(&plugin.name).with_extension("yaml"), sidecar.to_string()).unwrap(); // JSON is YAML
        }
        fs::write(self.component(&plugin.name), &plugin.component).unwrap();
    }

    /// Removes a plug-in's component.
    pub fn remove(&self, name: &str) {
        fs::remove_file(self.component(name)).unwrap();
    }

    fn component(&self, name: &str) -> PathBuf {
        self.0.join(format!("{name}.wasm"))
    }
}
