//! Backstage's documentation has one custom authentication strategy, `PinnipedStrategy`. This is the same, as a plug-in for witgate;
//! `docs/write-a-strategy.md` walks through it.
//!
//! It exchanges the identity token that the front end brought for a client certificate, at the Pinniped Concierge of the
//! cluster itself. The built-in strategy `pinniped` does more of it: another authenticator, another group suffix, finer errors.

use serde::Deserialize;
use serde_json::json;
use witgate_sdk::http::Request;
use witgate_sdk::{
    AuthError, ClusterDetails, Grant, Metadata, NoSettings, RequestAuth, Strategy, UserInfo, clock, export_strategy,
};

struct PinnipedStrategy;

impl Strategy for PinnipedStrategy {
    type Settings = NoSettings;

    fn configure(_settings: NoSettings) -> Result<Self, Vec<String>> {
        Ok(Self)
    }

    fn credential(
        &self,
        cluster: &ClusterDetails,
        request_auth: &RequestAuth,
        _caller: Option<&UserInfo>,
    ) -> Result<Grant, AuthError> {
        let Some(token) = request_auth.sub_token("pinniped", "clusteridtoken") else {
            return Err(AuthError::MissingToken("the request brought no Pinniped token".to_owned()));
        };
        let body = json!({
            "apiVersion": API_VERSION,
            "kind": "TokenCredentialRequest",
            "spec": {
                "authenticator": {
                    "apiGroup": "authentication.concierge.pinniped.dev",
                    "kind": "JWTAuthenticator",
                    "name": "supervisor",
                },
                "token": token,
            },
        });
        let response = Request::post(format!("{}/apis/{API_VERSION}/tokencredentialrequests", cluster.server))
            .header("content-type", "application/json")
            .body(body.to_string())
            .send()?;
        let not_understood = || AuthError::Unavailable("the Concierge's answer is not understood".to_owned());
        let answer: TokenCredentialRequest = serde_json::from_slice(response.body()).map_err(|_| not_understood())?;
        match answer.status {
            Status { credential: Some(credential), .. } => {
                let expiry = clock::rfc3339(&credential.expiration_timestamp).ok_or_else(not_understood)?;
                Ok(Grant::x509(credential.client_certificate_data, credential.client_key_data).expires_at(expiry))
            }
            Status { message: Some(message), .. } => Err(AuthError::Refused(message)),
            Status { credential: None, message: None } => Err(not_understood()),
        }
    }

    fn present_auth_metadata(&self, auth_metadata: &Metadata) -> Metadata {
        let audience = auth_metadata.iter().find(|(key, _)| key == "kubernetes.io/x-pinniped-audience");
        audience.map(|(_, audience)| ("audience".to_owned(), audience.clone())).into_iter().collect()
    }
}

export_strategy!(PinnipedStrategy);

const API_VERSION: &str = "login.concierge.pinniped.dev/v1alpha1";

#[derive(Deserialize)]
struct TokenCredentialRequest {
    status: Status,
}

#[derive(Deserialize)]
struct Status {
    credential: Option<ClusterCredential>,
    message: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ClusterCredential {
    client_certificate_data: String,
    client_key_data: String,
    expiration_timestamp: String,
}

#[cfg(test)]
mod tests {
    use witgate_sdk::http::Response;
    use witgate_sdk::testing::{cluster, request_auth, with_http};

    use super::*;

    /// The test is the Concierge: it sees what is sent, and decides what comes back.
    #[test]
    fn a_token_becomes_a_certificate() {
        let answer = json!({ "status": { "credential": {
            "clientCertificateData": "cert", "clientKeyData": "key", "expirationTimestamp": "2026-01-31T12:00:00Z",
        } } });
        assert_eq!(credential("good", answer), Ok(Grant::x509("cert", "key").expires_at(1_769_860_800)));
    }

    #[test]
    fn the_concierges_message_is_the_callers_to_read() {
        let answer = json!({ "status": { "message": "authentication failed" } });
        assert_eq!(credential("bad", answer), Err(AuthError::Refused("authentication failed".to_owned())));
    }

    #[test]
    fn the_front_end_learns_the_audience() {
        let metadata =
            cluster("one", &[("kubernetes.io/x-pinniped-audience", "audience1"), ("other", "x")]).auth_metadata;
        let presented = PinnipedStrategy.present_auth_metadata(&metadata);
        assert_eq!(presented, [("audience".to_owned(), "audience1".to_owned())]);
    }

    fn credential(token: &'static str, answer: serde_json::Value) -> Result<Grant, AuthError> {
        let concierge = move |request: &Request| {
            assert_eq!(request.url(), format!("https://cluster.example/apis/{API_VERSION}/tokencredentialrequests"));
            let body: serde_json::Value = serde_json::from_slice(request.body_bytes()).unwrap();
            assert_eq!(body["spec"]["token"], token);
            Ok(Response::new(201, answer.to_string()))
        };
        let tokens = request_auth(&[("pinniped", Some("clusteridtoken"), token)]);
        with_http(concierge, || PinnipedStrategy.credential(&cluster("one", &[]), &tokens, None))
    }
}
