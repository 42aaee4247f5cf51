//! What Entra ID and a machine's metadata service answer, which is almost the same.

use serde::Deserialize;
use serde::de::{Deserializer, Error as _};

/// An access token, and how many seconds it is good for.
#[derive(Deserialize)]
pub(crate) struct Token {
    #[serde(rename = "access_token", deserialize_with = "token")]
    pub(crate) token: String,
    #[serde(rename = "expires_in", deserialize_with = "seconds")]
    pub(crate) life: u64,
}

impl Token {
    /// Reads an answer; none where it is not a bearer token with a life.
    pub(crate) fn parse(body: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Typed {
            token_type: String,
            #[serde(flatten)]
            token: Token,
        }
        let typed: Typed = serde_json::from_slice(body).ok()?;
        typed.token_type.eq_ignore_ascii_case("bearer").then_some(typed.token)
    }
}

/// A refusal in OAuth's form.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Refusal {
    /// OAuth's code: `invalid_client`.
    pub(crate) error: String,
    /// Entra ID's own: the number behind `AADSTS`.
    pub(crate) code: Option<u64>,
}

impl Refusal {
    /// Reads an answer; none where it is not such a refusal.
    pub(crate) fn parse(body: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Body {
            error: String,
            #[serde(default)]
            error_codes: Vec<u64>,
        }
        let Body { error, error_codes } = serde_json::from_slice(body).ok()?;
        let is_code = (1..=64).contains(&error.len())
            && error.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
        is_code.then(|| Self { error, code: error_codes.first().copied() })
    }
}

fn token<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let token = String::deserialize(deserializer)?;
    if !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic()) {
        Ok(token)
    } else {
        Err(D::Error::custom("not a token"))
    }
}

/// A number from Entra ID, and a text of digits from the metadata service.
fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Seconds {
        Number(u64),
        Text(String),
    }
    let seconds = match Seconds::deserialize(deserializer)? {
        Seconds::Number(seconds) => Some(seconds),
        Seconds::Text(text) if text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse().ok(),
        Seconds::Text(_) => None,
    };
    seconds.filter(|seconds| *seconds > 0).ok_or_else(|| D::Error::custom("not a life in seconds"))
}
