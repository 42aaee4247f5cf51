//! `authProvider: azure`: a token of Entra ID for AKS, which is the same application for every cluster.
//!
//! Who asks for it is, in this order, whoever the sidecar has a secret of: an application with its client secret, or one
//! with a token of another issuer (workload identity); else the machine's managed identity, where the settings say so.

mod answer;
mod origin;
mod settings;

use form_urlencoded::Serializer;
use witgate_sdk::http::{Request, Response};
use witgate_sdk::secrets::{self, Secret};
use witgate_sdk::{AuthError, ClusterDetails, Grant, Metadata, RequestAuth, Strategy, UserInfo, clock, log};

use crate::answer::{Refusal, Token};
use crate::settings::{Application, ManagedIdentity, Settings};

struct Azure {
    application: Option<Application>,
    managed_identity: Option<ManagedIdentity>,
}

impl Strategy for Azure {
    type Settings = Settings;

    fn configure(settings: Settings) -> Result<Self, Vec<String>> {
        let (application, managed_identity) = settings.checked()?;
        Ok(Self { application, managed_identity })
    }

    fn credential(
        &self,
        _cluster: &ClusterDetails,
        _request_auth: &RequestAuth,
        _caller: Option<&UserInfo>,
    ) -> Result<Grant, AuthError> {
        let proof = Proof::find()?;
        let source = self.source(proof.as_ref()).map_err(|fault| AuthError::Misconfigured(fault.to_owned()))?;
        let request = source.request();
        // Counted from before the question: the answer took its time.
        let asked_at = clock::now();
        let name = source.name();
        let response = request.send().map_err(|error| {
            log::warn(&format!("{name}: {error}"));
            AuthError::from(error)
        })?;
        if response.status() != 200 {
            return Err(refusal(name, &response));
        }
        let Some(Token { token, life }) = Token::parse(response.body()) else {
            log::warn(&format!("{name} answered with something else than a token"));
            return Err(AuthError::Unavailable(format!("{name} answered with something else than a token")));
        };
        Ok(Grant::bearer_token(token).expires_at(asked_at.saturating_add(life)))
    }

    fn validate_cluster(&self, _auth_metadata: &Metadata) -> Vec<String> {
        // A secret that cannot be read now may be there later: a mounted token, for instance.
        let Ok(proof) = Proof::find() else { return Vec::new() };
        self.source(proof.as_ref()).err().map(ToOwned::to_owned).into_iter().collect()
    }
}

/// What proves to Entra ID that the application asks.
enum Proof {
    ClientSecret(Secret),
    /// A token of an issuer that the application trusts.
    FederatedToken(Secret),
}

impl Proof {
    fn find() -> Result<Option<Self>, AuthError> {
        if let Some(secret) = secrets::find("client-secret")? {
            return Ok(Some(Self::ClientSecret(secret)));
        }
        Ok(secrets::find("federated-token")?.map(Self::FederatedToken))
    }
}

/// Who is asked for a token, and how.
enum Source<'a> {
    EntraId(&'a Application, &'a Proof),
    ManagedIdentity(&'a ManagedIdentity),
}

impl Azure {
    /// The first source that there is all of, or what is missing.
    fn source<'a>(&'a self, proof: Option<&'a Proof>) -> Result<Source<'a>, &'static str> {
        match (proof, &self.application, &self.managed_identity) {
            (Some(proof), Some(application), _) => Ok(Source::EntraId(application, proof)),
            (Some(_), None, _) => Err(NO_APPLICATION),
            (None, _, Some(managed_identity)) => Ok(Source::ManagedIdentity(managed_identity)),
            (None, _, None) => Err(NO_IDENTITY),
        }
    }
}

impl Source<'_> {
    const fn name(&self) -> &'static str {
        match self {
            Self::EntraId(..) => "Entra ID",
            Self::ManagedIdentity(_) => "the managed identity endpoint",
        }
    }

    fn request(&self) -> Request {
        match self {
            Self::EntraId(application, proof) => {
                let mut form = Serializer::new(String::new());
                form.append_pair("client_id", &application.client_id);
                form.append_pair("scope", &format!("{AKS}/.default"));
                form.append_pair("grant_type", "client_credentials");
                match proof {
                    Proof::ClientSecret(secret) => form.append_pair("client_secret", secret.expose_trimmed()),
                    Proof::FederatedToken(token) => form
                        .append_pair("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
                        .append_pair("client_assertion", token.expose_trimmed()),
                };
                Request::post(application.token_url())
                    .header("content-type", "application/x-www-form-urlencoded")
                    .body(form.finish())
            }
            Self::ManagedIdentity(ManagedIdentity { endpoint, client_id }) => {
                let mut query = Serializer::new(String::new());
                query.append_pair("api-version", "2018-02-01").append_pair("resource", AKS);
                if let Some(client_id) = client_id {
                    query.append_pair("client_id", client_id);
                }
                // The header is what keeps a request that somebody else forged from being answered.
                Request::get(format!("{endpoint}/metadata/identity/oauth2/token?{}", query.finish()))
                    .header("metadata", "true")
            }
        }
    }
}

/// What an answer that is no success means. Only codes are repeated: descriptions are the server's to word.
fn refusal(name: &str, response: &Response) -> AuthError {
    let status = response.status();
    let Some(Refusal { error, code }) = Refusal::parse(response.body()) else {
        log::warn(&format!("{name} answered with status {status}"));
        return AuthError::Unavailable(format!("{name} answered with status {status}"));
    };
    let code = code.map(|code| format!(" (AADSTS{code})")).unwrap_or_default();
    let refusal = format!("{name} refused the token with {error}{code}");
    log::warn(&refusal);
    let passes = matches!(status, 404 | 408 | 410 | 429) || error == "temporarily_unavailable";
    if (400..500).contains(&status) && !passes {
        AuthError::Misconfigured(refusal)
    } else {
        AuthError::Unavailable(refusal)
    }
}

/// The application that every AKS cluster is to Entra ID.
const AKS: &str = "6dae42f8-4368-4678-94ff-3960e28e3630";
const NO_IDENTITY: &str = "the strategy `azure` has no identity: in the sidecar `azure.yaml`, grant it `secrets`, \
    `client-secret` or `federated-token`, or set `managedIdentity: true`; or set AZURE_CLIENT_SECRET or AZURE_FEDERATED_TOKEN_FILE";
const NO_APPLICATION: &str = "the strategy `azure` has a secret and does not know of which application: set `tenantId` and \
    `clientId` in its settings, or AZURE_TENANT_ID and AZURE_CLIENT_ID";

witgate_sdk::export_strategy!(Azure);

#[cfg(test)]
mod tests;
