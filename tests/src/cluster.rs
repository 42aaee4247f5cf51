//! One cluster of the gate's configuration, as Backstage's `clusters` list has it.

use serde_json::{Value, json};

use crate::api_server::ApiServer;

/// An entry of `kubernetes.clusterLocatorMethods[].clusters`.
#[derive(Clone, Debug)]
pub struct Cluster(Value);

impl Cluster {
    /// A cluster whose API server is `api_server`, trusted where it speaks TLS, with the strategy `authProvider`.
    pub fn at(name: &str, api_server: &ApiServer, auth_provider: &str) -> Self {
        let cluster = Self::at_url(name, &api_server.url(), auth_provider);
        match api_server.certificate_authority() {
            None => cluster,
            Some(pem) => cluster.ca_data(pem),
        }
    }

    /// A cluster at a URL.
    pub fn at_url(name: &str, url: &str, auth_provider: &str) -> Self {
        Self(json!({ "name": name, "url": url, "authProvider": auth_provider }))
    }

    /// The same cluster with one more key.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.0.as_object_mut().expect("a cluster is an object").insert(key.into(), value.into());
        self
    }

    /// The same cluster without a key.
    #[must_use]
    pub fn without(mut self, key: &str) -> Self {
        self.0.as_object_mut().expect("a cluster is an object").remove(key);
        self
    }

    /// The same cluster with the token that the strategy `serviceAccount` gives.
    #[must_use]
    pub fn service_account_token(self, token: &str) -> Self {
        self.with("serviceAccountToken", token)
    }

    /// The same cluster, trusting what `pem` signs: Backstage's `caData` is the PEM in base64.
    #[must_use]
    pub fn ca_data(self, pem: &str) -> Self {
        use base64::Engine as _;
        self.with("caData", base64::engine::general_purpose::STANDARD.encode(pem))
    }

    /// As configuration.
    pub fn into_value(self) -> Value {
        self.0
    }
}
