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
    /// What its sidecar says unless the test says otherwise.
    defaults: Value,
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

    /// One of the examples of `guests/examples`.
    pub fn example(name: &str) -> Self {
        Self::compiled("examples", name)
    }

    /// One of the misbehaving guests. Its sidecar skips the self-test of a policy, which most of them would not pass.
    pub fn fixture(name: &str) -> Self {
        let plugin = Self::compiled("fixtures", name);
        let export = b"witgate:auth/permission-policy@";
        let is_policy = plugin.component.windows(export.len()).any(|bytes| bytes == export);
        let defaults = if is_policy { json!({ "selfTest": false }) } else { json!({}) };
        Self { defaults, ..plugin }.sidecar(json!({}))
    }

    /// A file that holds `bytes`, whatever they are.
    pub fn of_bytes(name: &str, bytes: &[u8]) -> Self {
        Self { name: name.into(), component: bytes.into(), sidecar: None, defaults: json!({}) }
    }

    fn compiled(kind: &str, name: &str) -> Self {
        let path = artifacts::guest(&format!("{kind}/{name}"));
        Self::of_bytes(name, &fs::read(path).unwrap()).sidecar(json!({}))
    }

    /// The name of its file, without `.wasm`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its component.
    pub fn component(&self) -> &[u8] {
        &self.component
    }

    /// The same guest with other bytes: a custom section at its end, which changes nothing but its digest.
    #[must_use]
    pub fn marked(mut self, number: u32) -> Self {
        let mut section = vec![0, 12, 7];
        section.extend(b"witgate");
        section.extend(number.to_le_bytes());
        self.component.extend(section);
        self
    }

    /// The SHA-256 of its component, as `/status` shows it.
    pub fn digest(&self) -> String {
        use sha2::Digest as _;
        sha2::Sha256::digest(&self.component).iter().map(|byte| format!("{byte:02x}")).collect()
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
        whole.as_object_mut().expect("an object").extend(self.defaults.as_object().expect("an object").clone());
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

    /// Writes a plug-in beside its place and renames it there, the sidecar first: never seen half.
    pub fn put_whole(&self, plugin: &Plugin) {
        let place = |path: PathBuf, bytes: &[u8]| {
            let part = self.0.join(".part");
            fs::write(&part, bytes).unwrap();
            fs::rename(part, path).unwrap();
        };
        if let Some(sidecar) = &plugin.sidecar {
            place(self.sidecar(&plugin.name), sidecar.to_string().as_bytes());
        }
        place(self.component(&plugin.name), &plugin.component);
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
