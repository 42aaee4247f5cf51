//! Plug-ins as the gate holds them: found in the drop-in folder or embedded, loaded, and swapped whole.
//!
//! A plug-in goes one way: [`watch`] says when to look, [`folder`] finds and hashes it (or [`oci`] fetches it), [`sidecar`] says what it may,
//! [`candidate`] joins the two, [`load`] makes it callable, [`self_test`] asks it something, and [`reload`] decides when and publishes the lot. What a
//! snapshot is made of beside plug-ins is not known here: the caller of [`reload`] builds it.

use std::fmt;
use std::sync::Arc;

use witgate_core::{AuthenticationStrategy, CallMeter, Digest, Generation, PermissionPolicy, PluginName, PolicyMode};
use witgate_plugin::{Isolation, PluginKind, Start};

pub(crate) mod builtin;
pub(crate) mod call_facts;
pub(crate) mod candidate;
pub(crate) mod folder;
pub(crate) mod load;
pub(crate) mod oci;
pub(crate) mod reload;
pub(crate) mod self_test;
pub(crate) mod sidecar;
pub(crate) mod status;
pub(crate) mod watch;

/// A plug-in that is loaded, configured and ready to be called.
#[derive(Clone)]
pub(crate) enum Plugin {
    /// It decides.
    Policy(Arc<dyn PermissionPolicy>),
    /// It yields credentials.
    Strategy(Arc<dyn AuthenticationStrategy>),
}

impl Plugin {
    /// What it is.
    pub(crate) const fn kind(&self) -> PluginKind {
        match self {
            Self::Policy(_) => PluginKind::Policy,
            Self::Strategy(_) => PluginKind::Strategy,
        }
    }
}

impl fmt::Debug for Plugin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.kind().fmt(f)
    }
}

/// Where a plug-in's component comes from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Origin {
    /// Embedded in the binary.
    Builtin,
    /// A file of the drop-in folder.
    File,
    /// A registry's artifact.
    Registry,
}

/// What a strategy's credentials may depend on, beside its cluster, its secrets and its settings. It is shown no more than
/// that, so that what it does not see it cannot depend on, and requests that differ elsewhere only share a credential.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum DependsOn {
    /// On nothing else: one credential for everybody.
    Cluster,
    /// On the tokens that the request brought for its cluster.
    RequestAuth,
    /// On those and on who calls.
    #[default]
    Caller,
}

/// One plug-in of a generation, with what `/status` says of it. Cheap to clone: what is loaded is shared.
#[derive(Clone, Debug)]
pub(crate) struct PluginEntry {
    /// Its file's name; for a strategy, the `authProvider` that it serves.
    pub(crate) name: PluginName,
    /// How to call it.
    pub(crate) plugin: Plugin,
    /// Which bytes it runs.
    pub(crate) digest: Digest,
    /// Counts its calls.
    pub(crate) meter: Arc<CallMeter>,
    /// The version of the contract that it speaks, such as `auth@0.1.0`.
    pub(crate) contract: String,
    /// Whether calls share an instance.
    pub(crate) isolation: Isolation,
    /// How its calls come to the state that `configure` left.
    pub(crate) start: Start,
    /// Whether its answer counts; none for a strategy.
    pub(crate) mode: Option<PolicyMode>,
    /// What its credentials depend on; a policy has none.
    pub(crate) depends_on: DependsOn,
    /// The generation that first served it as it is.
    pub(crate) generation: Generation,
    /// Where its component comes from.
    pub(crate) origin: Origin,
    /// The reference by which a registry delivered it.
    pub(crate) reference: Option<Arc<str>>,
}

/// What is wrong with one file of the folder, or with the folder.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{text}")]
pub(crate) struct Problem {
    /// The plug-in that it is about, where it is about one.
    pub(crate) plugin: Option<PluginName>,
    /// The component that is refused, where its bytes were read.
    pub(crate) digest: Option<Digest>,
    /// File, fault and what would be right.
    pub(crate) text: String,
}

impl Problem {
    /// A problem of the folder, or of a file that names no plug-in.
    pub(crate) const fn of_folder(text: String) -> Self {
        Self { plugin: None, digest: None, text }
    }

    /// A problem of one plug-in.
    pub(crate) fn of_plugin(plugin: &PluginName, digest: Option<Digest>, text: String) -> Self {
        Self { plugin: Some(plugin.clone()), digest, text }
    }
}
