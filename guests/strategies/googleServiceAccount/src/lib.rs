//! `authProvider: googleServiceAccount`: Google's access token for one service account, for everybody.
//!
//! By default the account's key is the secret `service-account`: the JSON that Google's console gives out. A signed assertion is
//! exchanged for a token at the JSON's `token_uri`. With `credentials: metadataServer` there is no key: the token is that of
//! the machine or, with workload identity, of the gate's pod. Either is good for an hour, and kept by the host.

mod answer;
mod assertion;
mod service_account;

use serde::Deserialize;
use witgate_sdk::http::Request;
use witgate_sdk::{AuthError, ClusterDetails, Grant, RequestAuth, Strategy, UserInfo, clock, secrets};

use crate::service_account::ServiceAccount;

struct GoogleServiceAccount {
    settings: Settings,
}

/// Where the token is from, and what it is good for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
struct Settings {
    credentials: Credentials,
    /// What the token may be used for; the metadata server knows that itself.
    scopes: Option<Vec<String>>,
    /// The metadata server, where it is elsewhere than on Google's machines.
    metadata_server: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase")]
enum Credentials {
    /// The secret `service-account`.
    #[default]
    ServiceAccountKey,
    /// The machine's, or the pod's.
    MetadataServer,
}

impl Default for Settings {
    fn default() -> Self {
        Self { credentials: Credentials::ServiceAccountKey, scopes: None, metadata_server: None }
    }
}

impl Settings {
    fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if let Some(scopes) = &self.scopes {
            if self.credentials == Credentials::MetadataServer {
                faults.push(
                    "`scopes` is for `credentials: serviceAccountKey`: a machine's scopes are its own".to_owned(),
                );
            }
            let is_scope = |scope: &String| !scope.is_empty() && scope.bytes().all(|byte| byte.is_ascii_graphic());
            if scopes.is_empty() || !scopes.iter().all(is_scope) {
                faults.push(format!("`scopes` must be a list of scopes such as `{DEFAULT_SCOPE}`"));
            }
        }
        if let Some(server) = &self.metadata_server {
            if self.credentials == Credentials::ServiceAccountKey {
                faults.push("`metadataServer` is for `credentials: metadataServer`".to_owned());
            }
            let host = server.strip_prefix("http://").or_else(|| server.strip_prefix("https://"));
            if !host.is_some_and(|host| !host.is_empty() && !host.contains(['/', '?', '#'])) {
                faults.push(format!("`metadataServer` must be an origin such as `{METADATA_SERVER}`"));
            }
        }
        faults
    }
}

impl Strategy for GoogleServiceAccount {
    type Settings = Settings;

    fn configure(settings: Settings) -> Result<Self, Vec<String>> {
        let faults = settings.faults();
        if faults.is_empty() { Ok(Self { settings }) } else { Err(faults) }
    }

    fn credential(
        &self,
        _cluster: &ClusterDetails,
        _request_auth: &RequestAuth,
        _caller: Option<&UserInfo>,
    ) -> Result<Grant, AuthError> {
        match self.settings.credentials {
            Credentials::ServiceAccountKey => self.by_key(),
            Credentials::MetadataServer => self.by_metadata_server(),
        }
    }
}

witgate_sdk::export_strategy!(GoogleServiceAccount);

impl GoogleServiceAccount {
    fn by_key(&self) -> Result<Grant, AuthError> {
        let Some(secret) = secrets::find(SECRET)? else {
            let text =
                format!("googleServiceAccount has no secret `{SECRET}`: its sidecar must name a service account's key");
            return Err(AuthError::Misconfigured(text));
        };
        let account = ServiceAccount::parse(secret.expose())
            .map_err(|fault| AuthError::Misconfigured(format!("the secret `{SECRET}` {fault}")))?;
        let scopes = self.settings.scopes.as_ref().map_or_else(|| DEFAULT_SCOPE.to_owned(), |scopes| scopes.join(" "));
        // The token's life is counted from before it was asked for, so that it is never taken for longer than it is.
        let now = clock::now();
        let assertion = account.assertion(&scopes, now);
        let response = Request::post(account.token_uri())
            .header("accept", "application/json")
            .header("content-type", "application/x-www-form-urlencoded")
            // Base64url and dots need no escapes in a form.
            .body(format!("grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion={assertion}"))
            .send()
            .map_err(|error| answer::unsent(error, "the `token_uri` of its key"))?;
        answer::grant(&response, "Google's token endpoint", now)
    }

    fn by_metadata_server(&self) -> Result<Grant, AuthError> {
        let server = self.settings.metadata_server.as_deref().unwrap_or(METADATA_SERVER);
        let now = clock::now();
        let response = Request::get(format!("{server}{METADATA_PATH}"))
            .header("accept", "application/json")
            .header("metadata-flavor", "Google")
            .send()
            .map_err(|error| answer::unsent(error, "the metadata server"))?;
        // Whoever else answers at that address does not say so.
        if response.status() == 200 && response.header("metadata-flavor") != Some("Google") {
            return Err(AuthError::Unavailable("what answers is not Google's metadata server".to_owned()));
        }
        answer::grant(&response, "the metadata server", now)
    }
}

/// The sidecar's name for the JSON of a service account's key.
const SECRET: &str = "service-account";
const DEFAULT_SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";
const METADATA_SERVER: &str = "http://metadata.google.internal";
const METADATA_PATH: &str = "/computeMetadata/v1/instance/service-accounts/default/token";

#[cfg(test)]
mod tests;
