//! Taking on roles at STS.

use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;
use form_urlencoded::Serializer;
use witgate_sdk::http::{Request, Response};
use witgate_sdk::{AuthError, clock, log};

use crate::answer::{Answer, Malformed};
use crate::endpoint::Endpoint;
use crate::identity::Credentials;
use crate::signature;

/// A role and how it is taken on.
pub(crate) struct Role<'a> {
    pub(crate) arn: &'a str,
    pub(crate) session_name: &'a str,
    pub(crate) external_id: Option<&'a str>,
}

/// Keys of `role`, for who has keys already.
pub(crate) fn assume_role(
    endpoint: &Endpoint,
    credentials: &Credentials,
    role: &Role<'_>,
) -> Result<Credentials, AuthError> {
    let action = Action("AssumeRole");
    let request = signature::signed_post(endpoint, credentials, action.form(role, None), clock::now())?;
    action.send(&request)
}

/// Keys of `role`, for who has a token of another issuer.
pub(crate) fn assume_role_with_web_identity(
    endpoint: &Endpoint,
    token: &str,
    role: &Role<'_>,
) -> Result<Credentials, AuthError> {
    let action = Action("AssumeRoleWithWebIdentity");
    // Not signed: the token says who it is.
    let request = Request::post(&endpoint.url).header("content-type", signature::FORM);
    action.send(&request.body(action.form(role, Some(token))))
}

/// One of STS's operations that give out keys.
#[derive(Clone, Copy)]
struct Action(&'static str);

impl Action {
    fn form(self, role: &Role<'_>, token: Option<&str>) -> String {
        let mut form = Serializer::new(String::new());
        form.append_pair("Action", self.0).append_pair("Version", "2011-06-15");
        form.append_pair("RoleArn", role.arn).append_pair("RoleSessionName", role.session_name);
        for (name, value) in [("ExternalId", role.external_id), ("WebIdentityToken", token)] {
            if let Some(value) = value {
                form.append_pair(name, value);
            }
        }
        form.finish()
    }

    fn send(self, request: &Request) -> Result<Credentials, AuthError> {
        let response = request.send().map_err(|error| {
            log::warn(&format!("{}: {error}", self.0));
            AuthError::from(error)
        })?;
        if response.status() != 200 {
            return Err(self.refusal(&response));
        }
        self.credentials(response.body()).map_err(|Malformed| {
            let text = format!("AWS STS answered {} with something else than keys", self.0);
            log::warn(&text);
            AuthError::Unavailable(text)
        })
    }

    fn credentials(self, body: &[u8]) -> Result<Credentials, Malformed> {
        let answer = Answer::parse(body)?;
        let text = |name: &str| answer.text(&format!("{0}Response/{0}Result/Credentials/{name}", self.0));
        let expiration = DateTime::from_str(text("Expiration")?, Format::DateTime).map_err(|_| Malformed)?;
        let key = |name: &str| {
            let text = text(name)?;
            if text.bytes().all(|byte| byte.is_ascii_graphic()) { Ok(text.to_owned()) } else { Err(Malformed) }
        };
        Ok(Credentials {
            access_key_id: key("AccessKeyId")?,
            secret_access_key: key("SecretAccessKey")?,
            session_token: Some(key("SessionToken")?),
            expires_at: Some(u64::try_from(expiration.secs()).map_err(|_| Malformed)?),
        })
    }

    /// What an answer that is no success means. Only STS's own code is repeated: its messages may hold what was sent.
    fn refusal(self, response: &Response) -> AuthError {
        let status = response.status();
        let answer = Answer::parse(response.body()).ok();
        let text = |name: &str| answer.as_ref()?.text(&format!("ErrorResponse/Error/{name}")).ok();
        let Some(code) = text("Code").filter(|code| is_code(code)) else {
            log::warn(&format!("{}: STS answered with status {status} and no error of its own", self.0));
            return AuthError::Unavailable(format!("AWS STS answered {} with status {status}", self.0));
        };
        let message = text("Message").filter(|_| TELLING.contains(&code)).unwrap_or_default();
        log::warn(&format!("{}: STS refused with {code}: {}", self.0, message.escape_debug()));
        let refusal = format!("AWS STS refused {} with {code}", self.0);
        if (400..500).contains(&status) && !PASSING.contains(&code) {
            AuthError::Misconfigured(refusal)
        } else {
            AuthError::Unavailable(refusal)
        }
    }
}

/// Of letters, digits and dots, as STS's are.
fn is_code(code: &str) -> bool {
    (1..=64).contains(&code.len()) && code.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'.')
}

/// Refusals that say who may not do what, and repeat nothing that is secret. `SignatureDoesNotMatch`, for one, repeats the headers.
const TELLING: [&str; 2] = ["AccessDenied", "InvalidIdentityToken"];
/// Refusals that another try may not meet.
const PASSING: [&str; 5] =
    ["Throttling", "ThrottlingException", "RequestLimitExceeded", "IDPCommunicationError", "RequestTimeout"];
