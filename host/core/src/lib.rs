//! The vocabulary of witgate: what a request is, who calls, what was decided.
//!
//! Nothing here does IO, spawns a task or knows of HTTP servers and WebAssembly:
//! `host/plugin` runs guests, `host/proxy` moves bytes, `host/app` wires them, and
//! all three speak in these types. That keeps the rules that decide access small
//! enough to read in one sitting and to test with tables.

mod action_class;
mod attributes;
mod authentication;
mod cluster;
mod condition;
mod credential;
mod decision;
mod metadata;
mod meter;
mod plugin;
mod quarantine;
mod query;
mod redacted;
mod request_info;
mod request_target;
mod shadow;
mod status;
mod user;

pub use action_class::{ActionClass, classify};
pub use attributes::RequestAttributes;
pub use authentication::{Authenticated, AuthenticationError, Authenticator, CallerCredentials, ClientCertificate};
pub use cluster::{ClusterDetails, ClusterName, InvalidClusterName};
pub use condition::{Condition, Conditional, UnknownRule};
pub use credential::{
    AuthError, Credential, Grant, Impersonation, Issued, PrivateKeyPair, RequestAuth, RequestAuthConflict,
    RequestAuthEntry, SecretError, SecretStore,
};
pub use decision::{Answer, Decision, DenyReason, Permission, PolicyAnswer, PolicyQuery, Verdict, verdict};
pub use metadata::Metadata;
pub use meter::{CallMeter, CallOutcome, Counter, Gauge, Histogram, HistogramReading};
pub use plugin::{
    AuthenticationStrategy, BoxError, BoxFuture, CallError, Digest, Generation, InvalidPluginName, Limit,
    PermissionPolicy, PluginName, PolicyMode,
};
pub use quarantine::{Admitted, Paused, Quarantine, QuarantineChange, QuarantineLimits, QuarantineStanding};
pub use query::Query;
pub use redacted::Redacted;
pub use request_info::{RequestInfo, RequestInfoError};
pub use request_target::{AmbiguousTarget, Encoding, RequestTarget, TargetPart};
pub use shadow::{Offered, Shadow, ShadowCounts, ShadowOutcome, ShadowQuestion};
pub use status::{Status, StatusReason};
pub use user::UserInfo;
