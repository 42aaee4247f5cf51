//! What the host knows of a plug-in: its name, its digest, how to call it, how a call can fail.
//!
//! The traits stand here so that the data plane can ask a policy without knowing
//! how one is run. `host/plugin` implements them with WebAssembly; tests do it with closures.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::{
    Answer, AuthError, ClusterDetails, Credential, Decision, Issued, Metadata, PolicyQuery, Quarantine, RequestAuth,
    SecretStore, Shadow, UserInfo,
};

/// A future that a trait object can return.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A cause whose type this crate does not know.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The name of a plug-in: its file's name without `.wasm`, as it appears in logs, metrics and denials.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, serde::Deserialize, serde::Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct PluginName(Box<str>);

/// Why a text is not a plug-in's name.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "`{0}` is not a plug-in name: use 1 to 63 of `a-z`, `A-Z`, `0-9`, `-` and `_`, beginning with a letter or digit"
)]
pub struct InvalidPluginName(Box<str>);

impl PluginName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<&str> for PluginName {
    type Error = InvalidPluginName;

    fn try_from(name: &str) -> Result<Self, Self::Error> {
        let fits = (1..=63).contains(&name.len())
            && name.starts_with(|first: char| first.is_ascii_alphanumeric())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
        if fits { Ok(Self(name.into())) } else { Err(InvalidPluginName(name.chars().take(80).collect())) }
    }
}

impl TryFrom<String> for PluginName {
    type Error = InvalidPluginName;

    fn try_from(name: String) -> Result<Self, Self::Error> {
        Self::try_from(name.as_str())
    }
}

impl From<PluginName> for String {
    fn from(name: PluginName) -> Self {
        name.0.into()
    }
}

impl fmt::Display for PluginName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The SHA-256 of a component's bytes; printed as 64 hexadecimal digits.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Digest([u8; 32]);

impl Digest {
    /// Hashes `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        use sha2::Digest as _;
        Self(sha2::Sha256::digest(bytes).into())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // In one piece: it is printed for each decision.
        let mut digits = [0; 64];
        for (pair, byte) in digits.chunks_exact_mut(2).zip(self.0) {
            for (digit, value) in pair.iter_mut().zip([byte >> 4, byte & 15]) {
                *digit = if value < 10 { b'0' + value } else { b'a' + value - 10 };
            }
        }
        f.write_str(std::str::from_utf8(&digits).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Counts the snapshots that were published: 1 is the one that the gate started with.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd, serde::Serialize)]
#[serde(transparent)]
pub struct Generation(pub u64);

impl Generation {
    /// The one after this.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Whether a policy's answer counts.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PolicyMode {
    /// Asked, and its answer counts.
    #[default]
    Enforce,
    /// Asked and logged; its answer never counts.
    Shadow,
}

/// A guest that decides.
pub trait PermissionPolicy: Send + Sync {
    /// Its file's name.
    fn name(&self) -> &PluginName;

    /// Which bytes it runs.
    fn digest(&self) -> Digest;

    /// Whether its answer counts.
    fn mode(&self) -> PolicyMode;

    /// Whom it is not called for at present; none where that is not watched.
    fn quarantine(&self) -> Option<&Arc<Quarantine>> {
        None
    }

    /// What it would have changed, for a shadow policy.
    fn shadow(&self) -> Option<&Arc<Shadow>> {
        None
    }

    /// Judges one query. Ends within the plug-in's deadline, whatever the guest does;
    /// dropping the future ends the guest.
    fn handle<'a>(
        &'a self,
        query: &'a PolicyQuery,
        user: Option<&'a UserInfo>,
    ) -> BoxFuture<'a, Result<Decision, CallError>>;

    /// As [`handle`](Self::handle), with what the policy has to tell the caller. One that never has anything need not write it.
    fn answer<'a>(
        &'a self,
        query: &'a PolicyQuery,
        user: Option<&'a UserInfo>,
    ) -> BoxFuture<'a, Result<Answer, CallError>> {
        Box::pin(async move { self.handle(query, user).await.map(Answer::from) })
    }

    /// As [`answer`](Self::answer), for an operator who tries a question out: no call is counted, no answer kept, and no
    /// failure held against the user, who did not ask.
    fn try_out<'a>(
        &'a self,
        query: &'a PolicyQuery,
        user: Option<&'a UserInfo>,
    ) -> BoxFuture<'a, Result<Answer, CallError>> {
        self.answer(query, user)
    }
}

/// A guest that yields a cluster's credential.
pub trait AuthenticationStrategy: Send + Sync {
    /// The `authProvider` that it serves.
    fn name(&self) -> &PluginName;

    /// Whom it is not called for at present; none where that is not watched.
    fn quarantine(&self) -> Option<&Arc<Quarantine>> {
        None
    }

    /// Yields the credential for one request to `cluster`.
    ///
    /// `secrets` are those of this cluster; the plug-in adds its sidecar's own. Ends within the
    /// plug-in's deadline; dropping the future ends the guest.
    fn credential<'a>(
        &'a self,
        cluster: &'a ClusterDetails,
        secrets: &'a std::sync::Arc<dyn SecretStore>,
        request_auth: &'a RequestAuth,
        caller: Option<&'a UserInfo>,
    ) -> BoxFuture<'a, Result<Result<Issued, AuthError>, CallError>>;

    /// The API server answered 401 to `credential`, which [`credential`](Self::credential) yielded for these arguments.
    ///
    /// Returns whether asking again may yield another one: so it is where a kept credential was dropped. Whoever keeps none
    /// has nothing to drop.
    fn rejected(
        &self,
        cluster: &ClusterDetails,
        request_auth: &RequestAuth,
        caller: Option<&UserInfo>,
        credential: &Credential,
    ) -> bool {
        let _ = (cluster, request_auth, caller, credential);
        false
    }

    /// What `GET /api/kubernetes/clusters` shows of the cluster's metadata.
    fn present_auth_metadata<'a>(&'a self, metadata: &'a Metadata) -> BoxFuture<'a, Result<Metadata, CallError>>;

    /// What is wrong with the cluster's metadata; nothing when it can be served.
    fn validate_cluster<'a>(&'a self, metadata: &'a Metadata) -> BoxFuture<'a, Result<Vec<String>, CallError>>;
}

/// Why a plug-in gave no answer. Every variant denies the request.
// Not `non_exhaustive`: a new way to fail must stop the build where statuses are chosen.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The call was interrupted at its deadline.
    #[error("plug-in `{plugin}` did not answer within {deadline:?}")]
    DeadlineExceeded {
        /// Who was asked.
        plugin: PluginName,
        /// How long it had.
        deadline: Duration,
    },
    /// As many calls as allowed are in flight.
    #[error("plug-in `{plugin}` already has its {max} calls in flight")]
    Saturated {
        /// Who was asked.
        plugin: PluginName,
        /// How many calls it may have.
        max: u32,
    },
    /// A limit of the sandbox was reached.
    #[error("plug-in `{plugin}` reached its limit of {limit}")]
    LimitReached {
        /// Who was asked.
        plugin: PluginName,
        /// Which limit.
        limit: Limit,
    },
    /// The guest died.
    #[error("plug-in `{plugin}` trapped")]
    Trapped {
        /// Who was asked.
        plugin: PluginName,
        /// What the engine says; for the log, never for the caller.
        #[source]
        source: BoxError,
    },
    /// The guest answered with something that the contract does not allow.
    #[error("plug-in `{plugin}` gave a malformed answer: {reason}")]
    Malformed {
        /// Who was asked.
        plugin: PluginName,
        /// What is wrong with it.
        reason: String,
    },
    /// It failed this caller so often that it is not called for a while.
    #[error("plug-in `{plugin}` keeps failing for this caller, and is not called for {retry_after:?}")]
    Quarantined {
        /// Who was not asked.
        plugin: PluginName,
        /// For how long.
        retry_after: Duration,
    },
}

/// A limit of the sandbox.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Limit {
    /// Linear memory.
    #[error("memory")]
    Memory,
    /// Table elements.
    #[error("table elements")]
    Table,
    /// Call stack.
    #[error("stack")]
    Stack,
    /// Core instances, tables or memories of one instance.
    #[error("core instances, tables or memories")]
    Instances,
    /// Size of an answer.
    #[error("output size")]
    Output,
}

impl CallError {
    /// A short stable word for the decision log and metrics.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::DeadlineExceeded { .. } => "deadline-exceeded",
            Self::Saturated { .. } => "saturated",
            Self::LimitReached { limit: Limit::Memory, .. } => "memory-limit",
            Self::LimitReached { limit: Limit::Table, .. } => "table-limit",
            Self::LimitReached { limit: Limit::Stack, .. } => "stack-limit",
            Self::LimitReached { limit: Limit::Instances, .. } => "instance-limit",
            Self::LimitReached { limit: Limit::Output, .. } => "output-limit",
            Self::Trapped { .. } => "trapped",
            Self::Malformed { .. } => "malformed-answer",
            Self::Quarantined { .. } => "quarantined",
        }
    }

    /// Who was asked.
    pub const fn plugin(&self) -> &PluginName {
        match self {
            Self::DeadlineExceeded { plugin, .. }
            | Self::Saturated { plugin, .. }
            | Self::LimitReached { plugin, .. }
            | Self::Trapped { plugin, .. }
            | Self::Malformed { plugin, .. }
            | Self::Quarantined { plugin, .. } => plugin,
        }
    }

    /// Whether the guest itself failed, rather than the host having no room or no patience for it.
    pub const fn is_the_guests(&self) -> bool {
        match self {
            Self::DeadlineExceeded { .. }
            | Self::LimitReached { .. }
            | Self::Trapped { .. }
            | Self::Malformed { .. } => true,
            Self::Saturated { .. } | Self::Quarantined { .. } => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a name fits a file, a label and a header. Method: rows.
    #[test]
    fn a_plugin_name_is_short_ascii() {
        for good in ["read-only", "serviceAccount", "a", "x_1", "0"] {
            assert!(PluginName::try_from(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", "a.b", "a b", "ä", "a/b", ".hidden"] {
            assert!(PluginName::try_from(bad).is_err(), "{bad}");
        }
        assert!(PluginName::try_from("x".repeat(64).as_str()).is_err());
    }

    #[test]
    fn a_digest_prints_as_sha256_does() {
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"; // FIPS 180-2, B.1
        assert_eq!(Digest::of(b"abc").to_string(), expected);
    }
}
