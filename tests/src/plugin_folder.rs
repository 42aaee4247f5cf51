//! The gate's plug-in folder, and what a test drops into it.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

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
        Self { name: name.into(), component: fs::read(path).unwrap(), sidecar: None }.sidecar(json!({}))
    }

    /// The name of its file, without `.wasm`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The same guest under another file name.
    #[must_use]
    pub fn named(self, name: &str) -> Self {
        Self { name: name.into(), ..self }
    }

    /// The same guest with a sidecar.
    ///
    /// Unless it names a deadline itself it gets a long one: a test machine that is busy elsewhere must not make a
    /// well-behaved guest late.
    #[must_use]
    pub fn sidecar(self, sidecar: Value) -> Self {
        let mut whole = json!({ "limits": { "deadlineMs": 2000 } });
        whole.as_object_mut().expect("an object").extend(sidecar.as_object().expect("an object").clone());
        Self { sidecar: Some(whole), ..self }
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
            fs::write(self.sidecar(&plugin.name), sidecar.to_string()).unwrap(); // JSON is YAML
        }
        fs::write(self.component(&plugin.name), &plugin.component).unwrap();
    }

    /// Removes a plug-in, its component first: a sidecar alone is not a plug-in.
    pub fn remove(&self, name: &str) {
        fs::remove_file(self.component(name)).unwrap();
        let sidecar = self.sidecar(name);
        if sidecar.exists() {
            fs::remove_file(sidecar).unwrap();
        }
    }

    fn component(&self, name: &str) -> PathBuf {
        self.0.join(format!("{name}.wasm"))
    }

    fn sidecar(&self, name: &str) -> PathBuf {
        self.0.join(format!("{name}.yaml"))
    }
}
