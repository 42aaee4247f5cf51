//! Who the gate is to AWS, by the secrets that its sidecar grants.

use std::fmt;

use witgate_sdk::secrets::{self, Secret};
use witgate_sdk::{AuthError, log};

use crate::endpoint::Endpoint;
use crate::sts::{self, Role};

/// Keys that sign. They do not print.
pub(crate) struct Credentials {
    pub(crate) access_key_id: String,
    pub(crate) secret_access_key: String,
    pub(crate) session_token: Option<String>,
    /// Seconds since the Unix epoch; none for keys that last.
    pub(crate) expires_at: Option<u64>,
}

/// What the sidecar grants. Keys go before a web identity, as in AWS's own clients.
pub(crate) enum Identity {
    /// `access-key-id`, with the others as far as they are there.
    Keys { access_key_id: Secret, secret_access_key: Option<Secret>, session_token: Option<Secret> },
    /// `web-identity-token`: IRSA, for instance.
    WebIdentity(Secret),
}

impl Identity {
    /// What is granted; none where nothing is.
    ///
    /// # Errors
    /// When something is and cannot be read.
    pub(crate) fn find() -> Result<Option<Self>, AuthError> {
        if let Some(access_key_id) = secrets::find("access-key-id")? {
            let secret_access_key = secrets::find("secret-access-key")?;
            let session_token = secrets::find("session-token")?;
            return Ok(Some(Self::Keys { access_key_id, secret_access_key, session_token }));
        }
        Ok(secrets::find("web-identity-token")?.map(Self::WebIdentity))
    }

    /// What is missing beside it.
    pub(crate) fn fault(&self, web_identity_role: Option<&str>) -> Option<String> {
        match self {
            Self::Keys { secret_access_key: None, .. } => {
                Some("the strategy `aws` has the secret `access-key-id` and no `secret-access-key`".to_owned())
            }
            Self::WebIdentity(_) if web_identity_role.is_none() => Some(
                "the strategy `aws` has the secret `web-identity-token` and no role for it: \
                 set `roleArn` in its settings, or AWS_ROLE_ARN"
                    .to_owned(),
            ),
            Self::Keys { secret_access_key: Some(_), .. } | Self::WebIdentity(_) => None,
        }
    }

    /// Keys that sign as this identity.
    ///
    /// # Errors
    /// When something is missing, or STS gives none for the web identity.
    pub(crate) fn credentials(
        self,
        endpoint: &Endpoint,
        web_identity_role: Option<&str>,
        session_name: &str,
    ) -> Result<Credentials, AuthError> {
        let fault = self.fault(web_identity_role);
        match (self, web_identity_role) {
            (Self::Keys { access_key_id, secret_access_key: Some(secret), session_token }, _) => Ok(Credentials {
                access_key_id: access_key_id.expose_trimmed().to_owned(),
                secret_access_key: secret.expose_trimmed().to_owned(),
                session_token: session_token.map(|token| token.expose_trimmed().to_owned()),
                expires_at: None,
            }),
            (Self::WebIdentity(token), Some(arn)) => {
                let role = Role { arn, session_name, external_id: None };
                sts::assume_role_with_web_identity(endpoint, token.expose_trimmed(), &role)
            }
            (Self::Keys { secret_access_key: None, .. }, _) | (Self::WebIdentity(_), None) => {
                log::error(&fault.unwrap_or_default());
                Err(AuthError::Misconfigured("the gate's AWS identity is incomplete".to_owned()))
            }
        }
    }
}

/// Without what is secret of it.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("expires_at", &self.expires_at).finish_non_exhaustive()
    }
}
