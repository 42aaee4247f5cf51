//! The trait of a strategy, what it works from, and its way to the contract.

use std::fmt;

use crate::bindings::policy::witgate::auth::types::RequestAuthEntry;
use crate::{AuthError, ClientCertificate, ClusterDetails, Credential, Grant, Impersonation, Metadata, UserInfo};

/// Yields a cluster's credential.
///
/// A cluster names its strategy by `authProvider`. Failing never becomes anonymous: an error, a panic, an exhausted limit or
/// a missed deadline fails the request.
pub trait Strategy: Sized + Send + Sync + 'static {
    /// The sidecar's `settings`; [`NoSettings`](crate::NoSettings) for a strategy that has none. Derive it with
    /// `#[serde(deny_unknown_fields)]`, so that a misspelt key is refused instead of ignored.
    type Settings: serde::de::DeserializeOwned;

    /// Makes the strategy from its settings. Called once, when the plug-in is loaded.
    ///
    /// # Errors
    /// When the settings are wrong: one text for each fault, naming the key and what would be right.
    fn configure(settings: Self::Settings) -> Result<Self, Vec<String>>;

    /// Yields the credential for one request to `cluster`.
    ///
    /// # Errors
    /// When there is none. The caller reads the text, so it holds no credential, path or address.
    fn credential(
        &self,
        cluster: &ClusterDetails,
        request_auth: &RequestAuth,
        caller: Option<&UserInfo>,
    ) -> Result<Grant, AuthError>;

    /// What clients may know of the cluster's metadata. Nothing, unless a client needs it.
    fn present_auth_metadata(&self, _auth_metadata: &Metadata) -> Metadata {
        Metadata::new()
    }

    /// What is wrong with the cluster's metadata: one text for each fault, none when the cluster can be served.
    fn validate_cluster(&self, _auth_metadata: &Metadata) -> Vec<String> {
        Vec::new()
    }
}

/// Makes the crate a strategy component: exports this type, which implements [`Strategy`].
///
/// Once in a crate. On targets other than WebAssembly it does nothing but check the type.
#[macro_export]
macro_rules! export_strategy {
    ($strategy:ty) => {
        #[cfg(not(target_family = "wasm"))]
        const _: () = {
            const fn is_strategy<S: $crate::Strategy>() {}
            is_strategy::<$strategy>();
        };

        #[cfg(target_family = "wasm")]
        #[allow(unsafe_code, reason = "the component's exports are made by wit-bindgen")]
        const _: () = {
            use $crate::macro_support::configurable::exports::witgate::auth::plugin;
            use $crate::macro_support::strategy::exports::witgate::auth::authentication_strategy;

            static PLUGIN: $crate::macro_support::Plugin<$strategy> = $crate::macro_support::Plugin::unconfigured();

            struct Component;

            impl plugin::Guest for Component {
                fn configure(settings: String) -> Result<(), Vec<String>> {
                    PLUGIN.configure(&settings, <$strategy as $crate::Strategy>::configure)
                }
            }

            impl authentication_strategy::Guest for Component {
                fn get_credential(
                    cluster: $crate::ClusterDetails,
                    request_auth: Vec<authentication_strategy::RequestAuthEntry>,
                    caller: Option<$crate::UserInfo>,
                ) -> Result<$crate::Grant, $crate::AuthError> {
                    let request_auth = $crate::RequestAuth::from(request_auth);
                    $crate::Strategy::credential(PLUGIN.configured(), &cluster, &request_auth, caller.as_ref())
                }

                fn present_auth_metadata(auth_metadata: $crate::Metadata) -> $crate::Metadata {
                    $crate::Strategy::present_auth_metadata(PLUGIN.configured(), &auth_metadata)
                }

                fn validate_cluster(auth_metadata: $crate::Metadata) -> Vec<String> {
                    $crate::Strategy::validate_cluster(PLUGIN.configured(), &auth_metadata)
                }
            }

            $crate::macro_support::configurable::export_configurable!(
                Component with_types_in $crate::macro_support::configurable
            );
            $crate::macro_support::strategy::export_authenticating!(
                Component with_types_in $crate::macro_support::strategy
            );
        };
    };
}

/// The tokens that a request brought for its cluster. It prints without them.
///
/// ```
/// use witgate_sdk::testing::request_auth;
///
/// let auth = request_auth(&[("google", None, "g"), ("oidc", Some("okta"), "o")]);
/// assert_eq!(auth.token("google"), Some("g"));
/// assert_eq!(auth.sub_token("oidc", "okta"), Some("o"));
/// assert_eq!(auth.token("oidc"), None);
/// ```
#[derive(Clone, Default, Eq, PartialEq)]
pub struct RequestAuth(Vec<RequestAuthEntry>);

impl RequestAuth {
    /// The token of `Backstage-Kubernetes-Authorization-<provider>`. An empty one counts as none.
    pub fn token(&self, provider: &str) -> Option<&str> {
        self.find(provider, None)
    }

    /// The token of `Backstage-Kubernetes-Authorization-<provider>-<sub>`. An empty one counts as none.
    pub fn sub_token(&self, provider: &str, sub_provider: &str) -> Option<&str> {
        self.find(provider, Some(sub_provider))
    }

    /// Every token with its provider and sub-provider, in the order in which they came.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Option<&str>, &str)> {
        self.0.iter().map(|entry| (entry.provider.as_str(), entry.sub_provider.as_deref(), entry.value.as_str()))
    }

    fn find(&self, provider: &str, sub_provider: Option<&str>) -> Option<&str> {
        self.iter()
            .find(|(known, known_sub, value)| *known == provider && *known_sub == sub_provider && !value.is_empty())
            .map(|(_, _, value)| value)
    }
}

impl From<Vec<RequestAuthEntry>> for RequestAuth {
    fn from(entries: Vec<RequestAuthEntry>) -> Self {
        Self(entries)
    }
}

impl fmt::Debug for RequestAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(|(provider, sub, _)| (provider, sub, "[redacted]"))).finish()
    }
}

impl Grant {
    /// A bearer token, for this request only.
    pub fn bearer_token(token: impl Into<String>) -> Self {
        Self::from(Credential::BearerToken(token.into()))
    }

    /// An x509 client certificate with its key, both as PEM, for this request only.
    pub fn x509(cert: impl Into<String>, key: impl Into<String>) -> Self {
        Self::from(Credential::X509ClientCertificate(ClientCertificate { cert: cert.into(), key: key.into() }))
    }

    /// No credential, because none is meant.
    pub fn anonymous() -> Self {
        Self::from(Credential::Anonymous)
    }

    /// Lets the host use the grant again until this many seconds since the Unix epoch.
    #[must_use]
    pub fn expires_at(mut self, seconds: u64) -> Self {
        self.expires_at = Some(seconds);
        self
    }

    /// Asks the API server to take on another identity.
    #[must_use]
    pub fn impersonate(mut self, impersonation: Impersonation) -> Self {
        self.impersonate = Some(impersonation);
        self
    }
}

impl From<Credential> for Grant {
    fn from(credential: Credential) -> Self {
        Self { credential, expires_at: None, impersonate: None }
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::request_auth;

    /// Goal: a token is found by exactly its names. Method: rows.
    #[test]
    fn a_token_is_found_by_exactly_its_names() {
        let auth = request_auth(&[("google", None, "g"), ("oidc", Some("okta"), "o"), ("aks", None, "")]);
        assert_eq!(auth.token("google"), Some("g"));
        assert_eq!(auth.sub_token("oidc", "okta"), Some("o"));
        assert_eq!(auth.token("oidc"), None);
        assert_eq!(auth.sub_token("google", "google"), None);
        assert_eq!(auth.sub_token("oidc", "gitlab"), None);
        assert_eq!(auth.token("aks"), None, "an empty token is none");
    }

    #[test]
    fn tokens_do_not_print() {
        let printed = format!("{:?}", request_auth(&[("google", None, "s3cret")]));
        assert!(!printed.contains("s3cret") && printed.contains("google"), "{printed}");
    }
}
