//! A JWT that says who asks for a token (RFC 7523), signed with RS256.

use base64ct::{Base64UrlUnpadded, Encoding as _};
use rsa::RsaPrivateKey;
use rsa::pkcs1v15::SigningKey;
use rsa::sha2::Sha256;
use rsa::signature::{SignatureEncoding as _, Signer as _};
use serde_json::json;

/// What is asserted.
pub(crate) struct Assertion<'a> {
    pub(crate) issuer: &'a str,
    pub(crate) key_id: Option<&'a str>,
    pub(crate) scope: &'a str,
    pub(crate) audience: &'a str,
    pub(crate) now: u64,
}

impl Assertion<'_> {
    /// In its compact form.
    ///
    /// PKCS #1 v1.5 needs no randomness. It is not blinded either, and needs not be: nobody outside can ask for a
    /// signature of a chosen text or time one, as the host keeps the token for most of an hour.
    pub(crate) fn signed(&self, key: &RsaPrivateKey) -> String {
        let Self { issuer, key_id, scope, audience, now } = self;
        let mut header = json!({ "alg": "RS256", "typ": "JWT" });
        if let Some(key_id) = key_id {
            header["kid"] = json!(key_id);
        }
        let expiry = now.saturating_add(LIFE_SECONDS);
        let claims = json!({ "iss": issuer, "scope": scope, "aud": audience, "iat": now, "exp": expiry });
        let encode = |text: String| Base64UrlUnpadded::encode_string(text.as_bytes());
        let signed = format!("{}.{}", encode(header.to_string()), encode(claims.to_string()));
        let signature = SigningKey::<Sha256>::new(key.clone()).sign(signed.as_bytes());
        format!("{signed}.{}", Base64UrlUnpadded::encode_string(&signature.to_bytes()))
    }
}

/// The most that Google takes.
const LIFE_SECONDS: u64 = 3600;
