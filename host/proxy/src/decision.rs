//! The decision log's record: what was asked, what was answered, and what came of it.
//!
//! Field order is the order of the keys in the log, and part of the surface.
//! There is no field for a token, a body or a cluster's URL.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use witgate_core::{Generation, PluginName};

/// Where decisions are written. Never blocks; what cannot be taken is dropped and counted there.
pub trait DecisionLog: Send + Sync {
    /// Keeps a place for the record of a request that begins.
    ///
    /// # Errors
    /// When there is none and there must be: the request is then refused.
    fn admit(&self) -> Result<Place, LogFull>;

    /// Takes the record of a request that was admitted; one without a place where there is room.
    fn record(&self, place: Place, record: &DecisionRecord);
}

/// A record's place in the log, kept until it is written; none where nobody keeps places.
#[derive(Debug, Default)]
pub struct Place(pub Option<tokio::sync::OwnedSemaphorePermit>);

/// The log has no place for another record.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the decision cannot be recorded just now")]
pub struct LogFull;

/// No decision log is configured.
impl DecisionLog for () {
    fn admit(&self) -> Result<Place, LogFull> {
        Ok(Place::default())
    }

    fn record(&self, _: Place, _: &DecisionRecord) {}
}

/// Names one decision: in the log, in the `Witgate-Decision-Id` header and on the span. Sortable by time (UUIDv7).
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, Serialize)]
#[serde(transparent)]
pub struct DecisionId(uuid::Uuid);

impl DecisionId {
    /// A new one.
    pub fn generate() -> Self {
        Self(uuid::Uuid::now_v7())
    }

    /// A number that is spread evenly over decisions.
    pub(crate) fn share(self) -> u8 {
        let [.., last] = *self.0.as_bytes(); // random in a UUIDv7
        last
    }
}

impl fmt::Display for DecisionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Allow or deny.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// The request went on.
    Allow,
    /// It did not.
    Deny,
}

/// Why a stream ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CloseReason {
    /// The API server ended it.
    Completed,
    /// The client left.
    ClientClosed,
    /// The API server broke off.
    UpstreamFailed,
    /// Nothing passed for too long.
    IdleTimeout,
    /// It lived as long as it may.
    LifetimeReached,
    /// The gate is going down.
    Drained,
}

impl Outcome {
    /// In a word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
        }
    }
}

impl CloseReason {
    pub(crate) const ALL: [Self; 6] = [
        Self::Completed,
        Self::ClientClosed,
        Self::UpstreamFailed,
        Self::IdleTimeout,
        Self::LifetimeReached,
        Self::Drained,
    ];

    /// In a word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::ClientClosed => "client-closed",
            Self::UpstreamFailed => "upstream-failed",
            Self::IdleTimeout => "idle-timeout",
            Self::LifetimeReached => "lifetime-reached",
            Self::Drained => "drained",
        }
    }
}

/// One line of the decision log.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DecisionRecord {
    /// Also in the answer's `Witgate-Decision-Id`.
    pub id: DecisionId,
    /// RFC 3339, UTC.
    pub time: String,
    /// Who called; absent where that is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<Arc<str>>,
    /// The caller's groups.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub groups: Option<Arc<[String]>>,
    /// `kubernetes.proxy` or `kubernetes.clusters.read`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub permission: Option<&'static str>,
    /// What the request is.
    #[serde(flatten)]
    pub request: RequestFields,
    /// Allow or deny.
    pub decision: Outcome,
    /// Why it was denied, or why an allowed one failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The deciding policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<PluginName>,
    /// The deciding policy's component.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// The snapshot that decided.
    pub generation: Generation,
    /// Microseconds that all policies took together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy_us: Option<u64>,
    /// The strategy that was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strategy: Option<PluginName>,
    /// The kind of credential that went upstream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credential: Option<&'static str>,
    /// Whether the strategy was spared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_hit: Option<bool>,
    /// Microseconds that the strategy took.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strategy_us: Option<u64>,
    /// The answer's status.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Bytes of the answer's body: as announced at the start, as sent at the end of a stream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Milliseconds since the request came.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u64>,
    /// Why a stream ended; its presence marks the second line of a stream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub close_reason: Option<CloseReason>,
}

/// What the request is, as far as it was read before it was refused.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RequestFields {
    /// The cluster that was named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// Kubernetes' verb.
    #[serde(skip_serializing_if = "is_empty")]
    pub verb: Cow<'static, str>,
    /// The API group.
    #[serde(skip_serializing_if = "is_empty")]
    pub api_group: Cow<'static, str>,
    /// Its version.
    #[serde(skip_serializing_if = "is_empty")]
    pub api_version: Cow<'static, str>,
    /// The namespace.
    #[serde(skip_serializing_if = "is_empty")]
    pub namespace: Cow<'static, str>,
    /// The resource.
    #[serde(skip_serializing_if = "is_empty")]
    pub resource: Cow<'static, str>,
    /// The subresource.
    #[serde(skip_serializing_if = "is_empty")]
    pub subresource: Cow<'static, str>,
    /// The object.
    #[serde(skip_serializing_if = "is_empty")]
    pub name: Cow<'static, str>,
    /// What follows the subresource.
    #[serde(skip_serializing_if = "is_empty")]
    pub subpath: Cow<'static, str>,
    /// The field selector.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field_selector: Option<String>,
    /// The label selector.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label_selector: Option<String>,
    /// HTTP's method.
    #[serde(skip_serializing_if = "is_empty")]
    pub method: Cow<'static, str>,
    /// The path at the API server, without the query (a query can hold a credential).
    #[serde(skip_serializing_if = "is_empty")]
    pub path: Cow<'static, str>,
    /// What kind of act it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action_class: Option<&'static str>,
    /// Whether the client asked for another protocol.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub upgrade: bool,
}

impl From<&witgate_core::RequestAttributes> for RequestFields {
    fn from(attributes: &witgate_core::RequestAttributes) -> Self {
        let info = &attributes.info;
        Self {
            cluster: Some(attributes.cluster.to_string()),
            verb: info.verb.clone().into(),
            api_group: info.api_group.clone().into(),
            api_version: info.api_version.clone().into(),
            namespace: info.namespace.clone().into(),
            resource: info.resource.clone().into(),
            subresource: info.subresource.clone().into(),
            name: info.name.clone().into(),
            subpath: info.subpath.clone().into(),
            field_selector: info.field_selector.clone(),
            label_selector: info.label_selector.clone(),
            method: attributes.method.clone().into(),
            path: attributes.path.clone().into(),
            action_class: Some(attributes.action_class.as_str()),
            upgrade: attributes.upgrade,
        }
    }
}

fn is_empty(text: &str) -> bool {
    text.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the keys and their order are the log's surface. Method: one record with every field, as text.
    #[test]
    fn keys_stand_in_the_order_of_the_surface() {
        let text = |value: &'static str| Cow::Borrowed(value);
        let record = DecisionRecord {
            id: DecisionId(uuid::Uuid::nil()),
            time: "2026-01-02T03:04:05Z".into(),
            user: Some("jane".into()),
            groups: Some(Arc::from(["dev".to_owned()])),
            permission: Some("kubernetes.proxy"),
            request: RequestFields {
                cluster: Some("one".into()),
                verb: text("get"),
                api_group: text("apps"),
                api_version: text("v1"),
                namespace: text("dev"),
                resource: text("pods"),
                subresource: text("proxy"),
                name: text("web"),
                subpath: text("x"),
                field_selector: Some("f".into()),
                label_selector: Some("l".into()),
                method: text("GET"),
                path: text("/p"),
                action_class: Some("exec"),
                upgrade: true,
            },
            decision: Outcome::Allow,
            reason: Some("r".into()),
            policy: Some(PluginName::try_from("p").unwrap()),
            digest: Some("d".into()),
            generation: Generation(7),
            policy_us: Some(1),
            strategy: Some(PluginName::try_from("s").unwrap()),
            credential: Some("anonymous"),
            cache_hit: Some(false),
            strategy_us: Some(2),
            status: Some(200),
            bytes: Some(3),
            duration_ms: Some(4),
            close_reason: Some(CloseReason::ClientClosed),
        };
        let line = serde_json::to_string(&record).unwrap();
        let mut keys: Vec<_> = line.split(r#"":"#).filter_map(|part| part.rsplit('"').next()).collect();
        keys.pop(); // what follows the last key
        let expected = "id time user groups permission cluster verb apiGroup apiVersion namespace resource \
             subresource name subpath fieldSelector labelSelector method path actionClass upgrade decision reason \
             policy digest generation policyUs strategy credential cacheHit strategyUs status bytes durationMs \
             closeReason";
        assert_eq!(keys.join(" "), expected, "{line}");
        assert!(line.ends_with(r#""closeReason":"client-closed"}"#), "{line}");
    }
}
