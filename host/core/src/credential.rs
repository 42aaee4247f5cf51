//! What a strategy yields, what it works from, and why it may refuse.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::{BoxFuture, Redacted};

/// How the gate proves itself to one API server.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Credential {
    /// Sent as `Authorization: Bearer …`.
    BearerToken(Redacted<String>),
    /// Shown in the TLS handshake.
    X509ClientCertificate(PrivateKeyPair),
    /// No `Authorization` and no certificate.
    Anonymous,
}

impl Credential {
    /// The kind alone, for logs: `bearer token`, `x509 client certificate` or `anonymous`
    /// (Backstage's words).
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::BearerToken(_) => "bearer token",
            Self::X509ClientCertificate(_) => "x509 client certificate",
            Self::Anonymous => "anonymous",
        }
    }
}

/// A certificate chain with its key, both as PEM.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct PrivateKeyPair {
    /// The chain, leaf first.
    pub certificate: String,
    /// The leaf's private key.
    pub key: Redacted<String>,
}

/// A credential, how long it is good for, and whom it stands for.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Grant {
    /// What is sent upstream.
    pub credential: Credential,
    /// Seconds since the Unix epoch after which the credential must not be sent. None: good for this request only.
    pub expires_at: Option<u64>,
    /// The identity that the API server is asked to take on, sent as `Impersonate-*`.
    pub impersonate: Option<Impersonation>,
}

/// An identity to take on at the API server.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct Impersonation {
    /// `Impersonate-User`.
    pub user: String,
    /// `Impersonate-Uid`.
    pub uid: Option<String>,
    /// `Impersonate-Group`, once each.
    pub groups: Vec<String>,
    /// `Impersonate-Extra-<key>`.
    pub extra: BTreeMap<String, Vec<String>>,
}

/// A grant as the pipeline receives it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Issued {
    /// What the strategy, or the cache before it, gave.
    pub grant: Grant,
    /// Whether the strategy was spared a call.
    pub cache_hit: bool,
    /// For how long the same question has the same answer, whatever the grant says of its own time: known of strategies that
    /// see nothing but what they are asked. None where nobody knows.
    pub same_for: Option<Duration>,
}

/// Why a strategy yields no credential. Each becomes one answer to the caller; none becomes anonymous.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum AuthError {
    /// The caller did not bring the token that the strategy works from (401).
    #[error("{0}")]
    MissingToken(String),
    /// The identity provider said no (401).
    #[error("{0}")]
    Refused(String),
    /// The identity provider cannot be reached (502).
    #[error("{0}")]
    Unavailable(String),
    /// The cluster's or the strategy's configuration is wrong (500).
    #[error("{0}")]
    Misconfigured(String),
}

/// The tokens that one request brought for its cluster.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct RequestAuth(Vec<RequestAuthEntry>);

/// One token: `Backstage-Kubernetes-Authorization-Pinniped-Audience1: T` is (`pinniped`, `audience1`, `T`).
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct RequestAuthEntry {
    /// Up to the first dash, in lower case.
    pub provider: String,
    /// What follows the first dash, in lower case.
    pub sub_provider: Option<String>,
    /// The header's value.
    pub value: Redacted<String>,
}

/// Two headers that say different things about one provider.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum RequestAuthConflict {
    /// `-Oidc` and `-Oidc-Okta` in one request: is `oidc` a token or a set of tokens?
    #[error("`{0}` is given both as one token and by sub-provider")]
    ScalarAndSub(String),
    /// The same header twice.
    #[error("`{0}` is given twice")]
    Twice(String),
}

impl RequestAuth {
    /// No tokens.
    pub const fn none() -> Self {
        Self(Vec::new())
    }

    /// Adds one token, and refuses it where it contradicts one that is there.
    ///
    /// # Errors
    /// When the provider was given as a token and as sub-providers, or the same entry twice.
    pub fn insert(&mut self, entry: RequestAuthEntry) -> Result<(), RequestAuthConflict> {
        for known in self.0.iter().filter(|known| known.provider == entry.provider) {
            if known.sub_provider.is_some() != entry.sub_provider.is_some() {
                return Err(RequestAuthConflict::ScalarAndSub(entry.provider));
            }
            if known.sub_provider == entry.sub_provider {
                let name = match entry.sub_provider {
                    Some(sub) => format!("{}-{sub}", entry.provider),
                    None => entry.provider,
                };
                return Err(RequestAuthConflict::Twice(name));
            }
        }
        self.0.push(entry);
        Ok(())
    }

    /// The tokens, in the order in which they came.
    pub fn entries(&self) -> &[RequestAuthEntry] {
        &self.0
    }
}

/// Secrets that one call of a strategy may ask for by name.
pub trait SecretStore: Send + Sync + fmt::Debug {
    /// The secret `name`, read afresh where it comes from a file.
    fn get<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Redacted<String>, SecretError>>;

    /// Whether what [`get`](Self::get) says of `name` is the same for as long as the store lives.
    fn is_fixed(&self, name: &str) -> bool {
        let _ = name;
        false
    }
}

/// Why there is no such secret. The text reaches the guest and the log, so it holds neither a path nor a value.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SecretError {
    /// Nobody granted a secret of this name.
    #[error("secret `{0}` is not granted")]
    NotGranted(String),
    /// It was granted, and cannot be read now.
    #[error("secret `{0}` cannot be read")]
    Unreadable(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(provider: &str, sub_provider: Option<&str>) -> RequestAuthEntry {
        RequestAuthEntry {
            provider: provider.into(),
            sub_provider: sub_provider.map(Into::into),
            value: Redacted::new("t".into()),
        }
    }

    /// Goal: a provider is one token or a set of them, never both. Method: one row a pair.
    #[test]
    fn tokens_of_one_provider_agree_in_shape() {
        check(&[("google", None), ("aks", None)], Ok(()));
        check(&[("oidc", Some("okta")), ("oidc", Some("gitlab"))], Ok(()));
        check(&[("oidc", None), ("oidc", Some("okta"))], Err(RequestAuthConflict::ScalarAndSub("oidc".into())));
        check(&[("oidc", Some("okta")), ("oidc", None)], Err(RequestAuthConflict::ScalarAndSub("oidc".into())));
        check(&[("google", None), ("google", None)], Err(RequestAuthConflict::Twice("google".into())));
        check(&[("oidc", Some("o")), ("oidc", Some("o"))], Err(RequestAuthConflict::Twice("oidc-o".into())));
    }

    #[track_caller]
    fn check(entries: &[(&str, Option<&str>)], expected: Result<(), RequestAuthConflict>) {
        let mut auth = RequestAuth::none();
        let got = entries.iter().try_for_each(|(provider, sub)| auth.insert(entry(provider, *sub)));
        assert_eq!(got, expected);
    }

    /// Goal: no credential prints. Method: the `Debug` of each kind, searched for its secret.
    #[test]
    fn a_credential_prints_without_its_secret() {
        let bearer = Credential::BearerToken(Redacted::new("s3cret".into()));
        let pair = PrivateKeyPair { certificate: "PUBLIC".into(), key: Redacted::new("s3cret".into()) };
        let printed = format!("{bearer:?} {:?} {:?}", Credential::X509ClientCertificate(pair), entry("a", None));
        assert!(!printed.contains("s3cret"), "{printed}");
    }
}
