//! From what a token endpoint answers to a grant or a failure. Google's own and the metadata server's answer alike.

use serde::Deserialize;
use witgate_sdk::http::{Error, Response};
use witgate_sdk::{AuthError, Grant, log};

#[derive(Deserialize)]
struct Token {
    access_token: String,
    expires_in: u64,
    token_type: Option<String>,
}

#[derive(Deserialize)]
struct Refusal {
    error: Option<String>,
    error_description: Option<String>,
}

/// `what` did not answer.
pub(crate) fn unsent(error: Error, what: &str) -> AuthError {
    match AuthError::from(error) {
        AuthError::Misconfigured(text) => AuthError::Misconfigured(format!(
            "{text}; the sidecar of `googleServiceAccount` must list {what} under `outboundHosts`"
        )),
        error => error,
    }
}

/// The token that `response`, asked for at `now`, brings from `who`.
pub(crate) fn grant(response: &Response, who: &str, now: u64) -> Result<Grant, AuthError> {
    match response.status() {
        200 => {}
        // Not the caller's fault: the key is the gate's.
        400 | 401 | 403 | 404 => return Err(AuthError::Misconfigured(format!("{who} refuses{}", reason(response)))),
        status => return Err(AuthError::Unavailable(format!("{who} answered with status {status}"))),
    }
    let odd = |why: &str| {
        log::warn(&format!("the answer of {who} {why}"));
        AuthError::Unavailable(format!("{who} gave an answer that is not understood"))
    };
    let token: Token = serde_json::from_slice(response.body()).map_err(|_| odd("is no JSON of a token"))?;
    let Token { access_token, expires_in, token_type } = token;
    if !token_type.is_some_and(|kind| kind.eq_ignore_ascii_case("Bearer")) {
        return Err(odd("is not of the type `Bearer`"));
    }
    // A token is what a header can carry.
    if access_token.is_empty() || !access_token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(odd("holds no token that a header can carry"));
    }
    if expires_in == 0 {
        return Err(AuthError::Unavailable(format!("{who} gave out a token that has expired already")));
    }
    Ok(Grant::bearer_token(access_token).expires_at(now.saturating_add(expires_in)))
}

/// The error's code, `: invalid_grant`; the description goes to the log, as it may name the account.
fn reason(response: &Response) -> String {
    let Ok(Refusal { error, error_description }) = serde_json::from_slice(response.body()) else {
        return format!(": status {}", response.status());
    };
    let is_code = |code: &String| {
        (1..=64).contains(&code.len()) && code.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
    };
    if let Some(description) = error_description {
        log::warn(&format!("the token endpoint says: {description}"));
    }
    error.filter(is_code).map_or_else(|| format!(": status {}", response.status()), |code| format!(": {code}"))
}
