//! `authProvider: pinniped`: a short-lived client certificate from the cluster's own Pinniped Concierge.
//!
//! The client brings an identity token for the cluster as `Backstage-Kubernetes-Authorization-Pinniped-<audience>`. It goes to
//! the cluster as a TokenCredentialRequest, without any other credential, over the grant `cluster`; what comes back
//! acts as that person. The host keeps it until it expires, so one token costs one exchange.

mod answer;
mod concierge;

use serde_json::json;
use witgate_sdk::http::Request;
use witgate_sdk::{AuthError, ClusterDetails, Grant, Metadata, RequestAuth, Strategy, UserInfo};

use crate::concierge::{AUDIENCE, Concierge, Settings, value};

struct Pinniped {
    settings: Settings,
}

impl Strategy for Pinniped {
    type Settings = Settings;

    fn configure(settings: Settings) -> Result<Self, Vec<String>> {
        let faults = settings.faults();
        if faults.is_empty() { Ok(Self { settings }) } else { Err(faults) }
    }

    fn credential(
        &self,
        cluster: &ClusterDetails,
        request_auth: &RequestAuth,
        _caller: Option<&UserInfo>,
    ) -> Result<Grant, AuthError> {
        let concierge = self.concierge(&cluster.auth_metadata).map_err(|faults| {
            // Only where the host did not ask `validate_cluster` before.
            AuthError::Misconfigured(faults.join("; "))
        })?;
        let token = users_token(&cluster.auth_metadata, request_auth)?;
        let body = json!({
            "apiVersion": concierge.api_version(),
            "kind": "TokenCredentialRequest",
            "spec": { "authenticator": concierge.authenticator, "token": token },
        });
        let request = Request::post(format!("{}{}", cluster.server.trim_end_matches('/'), concierge.path()))
            .header("accept", "application/json")
            .header("content-type", "application/json")
            .body(body.to_string());
        let response = request.send().map_err(answer::unsent)?;
        answer::grant(&response, token)
    }

    /// The audience, which a front end needs to ask for the right token.
    fn present_auth_metadata(&self, auth_metadata: &Metadata) -> Metadata {
        let audience = value(auth_metadata, AUDIENCE).into_iter();
        audience.map(|audience| ("audience".to_owned(), audience.to_owned())).collect()
    }

    fn validate_cluster(&self, auth_metadata: &Metadata) -> Vec<String> {
        self.concierge(auth_metadata).err().unwrap_or_default()
    }
}

witgate_sdk::export_strategy!(Pinniped);

impl Pinniped {
    fn concierge(&self, auth_metadata: &Metadata) -> Result<Concierge, Vec<String>> {
        Concierge::of(&self.settings, auth_metadata)
    }
}

/// The token under the cluster's audience; else, as in Backstage's own documentation, the one under `clusteridtoken`.
fn users_token<'a>(auth_metadata: &Metadata, request_auth: &'a RequestAuth) -> Result<&'a str, AuthError> {
    let audience = value(auth_metadata, AUDIENCE);
    // Header names have no case, so sub-providers come in lower case.
    let under = |name: &str| request_auth.sub_token("pinniped", &name.to_ascii_lowercase());
    audience.and_then(under).or_else(|| under(DEFAULT_NAME)).ok_or_else(|| {
        let name = audience.unwrap_or(DEFAULT_NAME);
        AuthError::MissingToken(format!("Auth token not found under pinniped.{name} in request body"))
    })
}

/// Under which name a token comes that is for no audience in particular.
const DEFAULT_NAME: &str = "clusteridtoken";

#[cfg(test)]
mod tests;
