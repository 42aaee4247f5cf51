//! A service account's key, as the JSON file that Google's console gives out.

use std::fmt;

use rsa::RsaPrivateKey;
use rsa::pkcs8::DecodePrivateKey as _;
use serde::Deserialize;

use crate::assertion::Assertion;

/// A service account that can sign. It does not print.
pub(crate) struct ServiceAccount {
    email: String,
    key_id: Option<String>,
    key: RsaPrivateKey,
    token_uri: String,
}

/// What is wrong with the file: to be read after its name. It holds nothing of the file.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum InvalidServiceAccount {
    NotJson,
    Kind,
    Missing(&'static str),
    Key,
    TokenUri,
}

#[derive(Deserialize)]
struct Raw {
    r#type: Option<String>,
    client_email: Option<String>,
    private_key_id: Option<String>,
    private_key: Option<String>,
    token_uri: Option<String>,
}

impl ServiceAccount {
    /// Parses the file's text.
    pub(crate) fn parse(text: &str) -> Result<Self, InvalidServiceAccount> {
        use InvalidServiceAccount::{Key, Kind, Missing, NotJson, TokenUri};
        let raw: Raw = serde_json::from_str(text).map_err(|_| NotJson)?;
        if raw.r#type.as_deref() != Some("service_account") {
            return Err(Kind);
        }
        let present = |value: Option<String>| value.filter(|value| !value.is_empty());
        let email = present(raw.client_email).ok_or(Missing("client_email"))?;
        let token_uri = present(raw.token_uri).ok_or(Missing("token_uri"))?;
        if !token_uri.starts_with("https://") && !token_uri.starts_with("http://") {
            return Err(TokenUri);
        }
        let pem = present(raw.private_key).ok_or(Missing("private_key"))?;
        let key = RsaPrivateKey::from_pkcs8_pem(pem.trim()).map_err(|_| Key)?;
        Ok(Self { email, key_id: present(raw.private_key_id), key, token_uri })
    }

    /// Where assertions are exchanged for tokens.
    pub(crate) fn token_uri(&self) -> &str {
        &self.token_uri
    }

    /// A signed assertion that this account asks for a token of these scopes, made at `now`.
    pub(crate) fn assertion(&self, scope: &str, now: u64) -> String {
        let Self { email, key_id, key, token_uri } = self;
        Assertion { issuer: email, key_id: key_id.as_deref(), scope, audience: token_uri, now }.signed(key)
    }
}

impl fmt::Display for InvalidServiceAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotJson => "is not the JSON of a service account's key",
            Self::Kind => "is not a key of the type `service_account`",
            Self::Missing(field) => return write!(f, "has no `{field}`"),
            Self::Key => "has a `private_key` that is not an RSA key as PKCS #8 PEM",
            Self::TokenUri => "has a `token_uri` that is not a URL",
        })
    }
}
