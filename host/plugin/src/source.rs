//! What a plug-in is made of: its component, and what its sidecar says.

use std::sync::Arc;

use witgate_core::{BoxFuture, PluginName, PolicyMode, Redacted, SecretError, SecretStore};

use crate::{Limits, OutboundHost};

/// A plug-in that is to be loaded.
#[derive(Clone)]
pub struct PluginSource {
    /// The file's name without `.wasm`.
    pub name: PluginName,
    /// The component.
    pub bytes: Arc<[u8]>,
    /// Given to `configure` as JSON.
    pub settings: serde_json::Value,
    /// What one call may spend.
    pub limits: Limits,
    /// What it may reach.
    pub grants: Grants,
    /// Whether its answers count; for policies.
    pub mode: PolicyMode,
    /// What one call may see of another.
    pub isolation: Isolation,
}

/// What a sidecar lets its plug-in reach, beyond what every plug-in has.
#[derive(Clone)]
pub struct Grants {
    /// The sidecar's own secrets.
    pub secrets: Arc<dyn SecretStore>,
    /// Where it may send HTTP requests.
    pub outbound_hosts: Vec<OutboundHost>,
}

/// What one call may see of another.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Isolation {
    /// Nothing: each call has an instance of its own.
    #[default]
    Fresh,
    /// What the plug-in kept in its memory: instances serve many calls, one after the other, until they have had as many as they
    /// may, or one ends in any other way than with an answer. What the host keeps for a call (its log, secrets, HTTP and deadline)
    /// is each call's own all the same.
    Reused,
}

impl PluginSource {
    /// A plug-in without a sidecar.
    pub fn without_sidecar(name: PluginName, bytes: Arc<[u8]>) -> Self {
        Self {
            name,
            bytes,
            settings: serde_json::Value::Object(serde_json::Map::new()),
            limits: Limits::default(),
            grants: Grants::none(),
            mode: PolicyMode::default(),
            isolation: Isolation::default(),
        }
    }
}

impl Grants {
    /// Nothing.
    pub fn none() -> Self {
        Self { secrets: Arc::new(NoSecrets), outbound_hosts: Vec::new() }
    }
}

/// A store in which nothing is granted.
#[derive(Debug)]
pub(crate) struct NoSecrets;

impl SecretStore for NoSecrets {
    fn get<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Redacted<String>, SecretError>> {
        Box::pin(async move { Err(SecretError::NotGranted(name.to_owned())) })
    }
}
