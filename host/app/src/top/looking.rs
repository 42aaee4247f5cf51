//! One look at the gate: `/status`, `/metrics`, `/readyz`; and the form in which they tell.

use std::time::Instant;

use anyhow::ensure;
use serde::Deserialize;

use super::client;
use super::samples::Samples;
use crate::admin_client::AdminOptions;

/// What the gate told, all at about one moment.
#[derive(Debug)]
pub(super) struct Look {
    pub(super) at: Instant,
    pub(super) status: Status,
    pub(super) samples: Samples,
    /// What it is not ready for; none where it is.
    pub(super) unready: Option<String>,
}

/// `/status`, as far as it is shown.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Status {
    pub(super) generation: u64,
    pub(super) plugins: Vec<Plugin>,
    pub(super) last_reload: Option<LastReload>,
    pub(super) pinned: Option<Pinned>,
    pub(super) clusters: Vec<Cluster>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Plugin {
    pub(super) name: String,
    pub(super) kind: Option<String>,
    pub(super) mode: Option<String>,
    pub(super) generation: Option<u64>,
    #[serde(default)]
    pub(super) builtin: bool,
    pub(super) error: Option<String>,
    pub(super) quarantine: Option<Quarantine>,
    pub(super) shadow: Option<Shadow>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Quarantine {
    pub(super) callers: u64,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Shadow {
    pub(super) agreed: u64,
    pub(super) would_deny: u64,
    pub(super) would_allow: u64,
    pub(super) failed: u64,
}

#[derive(Debug, Deserialize)]
pub(super) struct LastReload {
    pub(super) time: String,
    pub(super) result: String,
    pub(super) error: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Pinned {
    pub(super) content_of: u64,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Cluster {
    pub(super) name: String,
    pub(super) auth_provider: String,
    pub(super) error: Option<String>,
}

/// The answer of `/decisions`.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Decisions {
    pub(super) decisions: Vec<Decision>,
}

/// A line of the decision log, as far as it is shown.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Decision {
    pub(super) id: String,
    pub(super) time: String,
    pub(super) user: Option<String>,
    pub(super) cluster: Option<String>,
    pub(super) verb: Option<String>,
    pub(super) api_group: Option<String>,
    pub(super) namespace: Option<String>,
    pub(super) resource: Option<String>,
    pub(super) subresource: Option<String>,
    pub(super) name: Option<String>,
    pub(super) method: Option<String>,
    pub(super) path: Option<String>,
    pub(super) decision: String,
    pub(super) reason: Option<String>,
    pub(super) policy: Option<String>,
    pub(super) status: Option<u16>,
    pub(super) duration_ms: Option<u64>,
    pub(super) close_reason: Option<String>,
}

/// Looks once.
///
/// # Errors
/// When the gate does not tell.
pub(super) async fn look(admin: &AdminOptions) -> anyhow::Result<Look> {
    let (status, metrics, ready) =
        tokio::join!(client::json(admin, "/status"), client::text(admin, "/metrics"), client::text(admin, "/readyz"));
    let (status, (metrics_status, metrics), (ready_status, ready)) = (status?, metrics?, ready?);
    ensure!(metrics_status == 200, "/metrics answered {metrics_status}");
    let unready = (ready_status != 200).then(|| ready.trim().to_owned());
    Ok(Look { at: Instant::now(), status, samples: Samples::parse(&metrics), unready })
}
