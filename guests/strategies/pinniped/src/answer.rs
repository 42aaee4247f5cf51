//! From what the Concierge answers to a grant or a failure.
//!
//! Promise: whatever comes back, the result is a credential that the Concierge gave out or an error, and no error
//! holds the token.

use serde::Deserialize;
use witgate_sdk::http::{Error, Response};
use witgate_sdk::{AuthError, Grant, clock, log};

/// The TokenCredentialRequest as it comes back. What else it holds does not matter here.
#[derive(Deserialize)]
struct Answer {
    kind: Option<String>,
    status: Option<Status>,
}

#[derive(Deserialize)]
struct Status {
    credential: Option<Credential>,
    message: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Credential {
    client_certificate_data: Option<String>,
    client_key_data: Option<String>,
    token: Option<String>,
    expiration_timestamp: Option<String>,
}

/// The Concierge did not answer.
pub(crate) fn unsent(error: Error) -> AuthError {
    match AuthError::from(error) {
        AuthError::Misconfigured(text) => AuthError::Misconfigured(format!(
            "{text}; the sidecar of `pinniped` must list `cluster` under `outboundHosts`"
        )),
        error => error,
    }
}

/// What `response` grants to whom `token` names.
pub(crate) fn grant(response: &Response, token: &str) -> Result<Grant, AuthError> {
    match response.status() {
        200 | 201 => {}
        404 => {
            let text = "the cluster has no Pinniped Concierge, or one with another API group suffix";
            return Err(AuthError::Misconfigured(text.to_owned()));
        }
        status @ (400 | 401 | 403 | 415 | 422) => {
            let text = format!("the cluster does not take a TokenCredentialRequest: status {status}");
            return Err(AuthError::Misconfigured(text));
        }
        status => return Err(unavailable(format!("answered with status {status}"))),
    }
    let answer: Answer = serde_json::from_slice(response.body()).map_err(|_| not_understood("is no JSON of it"))?;
    if answer.kind.as_deref() != Some("TokenCredentialRequest") {
        return Err(not_understood("is of another kind"));
    }
    match answer.status {
        Some(Status { credential: Some(credential), .. }) => credential.grant(),
        Some(Status { message: Some(message), .. }) => Err(AuthError::Refused(readable(&message, token))),
        Some(Status { credential: None, message: None }) | None => {
            Err(not_understood("has neither a credential nor a message"))
        }
    }
}

impl Credential {
    fn grant(self) -> Result<Grant, AuthError> {
        let present = |text: Option<String>| text.filter(|text| !text.is_empty());
        let (certificate, key) = (present(self.client_certificate_data), present(self.client_key_data));
        let grant = match (certificate, key, present(self.token)) {
            (Some(certificate), Some(key), _) => Grant::x509(certificate, key),
            (None, None, Some(token)) => Grant::bearer_token(token),
            (Some(_), None, _) => return Err(not_understood("has a certificate without its key")),
            (None, Some(_), _) => return Err(not_understood("has a key without its certificate")),
            (None, None, None) => return Err(not_understood("has an empty credential")),
        };
        // Without one it is for this request only, by the contract.
        let Some(expiry) = present(self.expiration_timestamp) else { return Ok(grant) };
        let expires_at = clock::rfc3339(&expiry).ok_or_else(|| not_understood("has an expiry that is no time"))?;
        if expires_at <= clock::now() {
            return Err(unavailable("gave out a credential that has expired already".to_owned()));
        }
        Ok(grant.expires_at(expires_at))
    }
}

/// The Concierge's words, as far as the person who sent the token should read them.
fn readable(message: &str, token: &str) -> String {
    let said: String = message.chars().filter(|char| !char.is_control()).take(MESSAGE_CHARS_MAX).collect();
    match said.trim() {
        "" => "the cluster's Pinniped Concierge refused the token".to_owned(),
        said if said.contains(token) => "the cluster's Pinniped Concierge refused the token".to_owned(),
        said => said.to_owned(),
    }
}

fn unavailable(what: String) -> AuthError {
    AuthError::Unavailable(format!("the cluster's Pinniped Concierge {what}"))
}

fn not_understood(why: &str) -> AuthError {
    log::warn(&format!("the answer to a TokenCredentialRequest {why}"));
    unavailable("gave an answer that is not understood".to_owned())
}

/// How much of a message is passed on.
const MESSAGE_CHARS_MAX: usize = 500;
