//! A JSON Web Key Set: the public keys that may have signed a caller's token.
//!
//! A key tells which algorithms it may verify; the token's header only chooses
//! among them. So a public key is never taken as a shared secret, and `none` is no
//! algorithm here at all. Keys of other kinds are passed over; a set without any
//! usable key is refused, as it would let nobody in by accident.

use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;

use super::verified_tokens::VerifiedTokens;

/// The keys of one issuer at one time, with the tokens that they have verified.
#[derive(Debug)]
pub(super) struct KeySet {
    keys: Vec<Key>,
    /// Goes when the keys go.
    pub(super) verified: VerifiedTokens,
}

#[derive(Debug)]
struct Key {
    id: Option<Box<str>>,
    algorithms: Vec<Algorithm>,
    key: DecodingKey,
}

/// Why no key of the set vouches for a token.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unverified {
    /// The header's `kid` is none of ours.
    #[error("no key has the token's `kid`")]
    UnknownKey,
    /// No `kid`, and more than one key, or none, that it could be.
    #[error("the token has no `kid`, and there are {keys} keys")]
    UnnamedKey {
        /// How many.
        keys: usize,
    },
    /// The key is not for this algorithm.
    #[error("the token's `alg` is not one of its key's")]
    Algorithm,
    /// The signature is not the key's.
    #[error("the signature does not match")]
    Signature,
}

impl KeySet {
    /// A set that verifies nothing: the one before the first fetch.
    pub(super) fn empty() -> Self {
        Self::with_keys(Vec::new())
    }

    /// Reads a key set.
    ///
    /// # Errors
    /// When it is not one, holds more than [`KEYS_MAX`] keys, or none that could verify a token.
    pub(super) fn parse(content: &[u8]) -> anyhow::Result<Self> {
        let Ok(RawKeySet { keys }) = serde_json::from_slice(content) else {
            anyhow::bail!("is not a JSON Web Key Set, `{{\"keys\": [ … ]}}`");
        };
        anyhow::ensure!(keys.len() <= KEYS_MAX, "holds {} keys; at most {KEYS_MAX} are taken", keys.len());
        let mut usable = Vec::new();
        let mut passed_over = Vec::new();
        for (index, key) in keys.into_iter().enumerate() {
            match serde_json::from_value(key).map_err(|_| NOT_A_KEY).and_then(|key: RawKey| key.read()) {
                Ok(key) => usable.push(key),
                Err(reason) => passed_over.push(format!("keys[{index}]: {reason}")),
            }
        }
        if usable.is_empty() {
            let why = if passed_over.is_empty() { String::new() } else { format!(" ({})", passed_over.join("; ")) };
            anyhow::bail!(
                "holds no key that can verify a token{why}; needed is a public RSA key of 2048 bits or more, \
                 an EC key on P-256 or P-384, or an Ed25519 key"
            );
        }
        Ok(Self::with_keys(usable))
    }

    fn with_keys(keys: Vec<Key>) -> Self {
        Self { keys, verified: VerifiedTokens::with_room_for(VERIFIED_TOKENS_MAX) }
    }

    /// Checks the signature of `message` by the key that the token's header names.
    pub(super) fn verify(
        &self,
        key_id: Option<&str>,
        algorithm: Algorithm,
        message: &str,
        signature: &str,
    ) -> Result<(), Unverified> {
        let named: Vec<&Key> = match (key_id, self.keys.as_slice()) {
            (Some(id), keys) => keys.iter().filter(|key| key.id.as_deref() == Some(id)).collect(),
            (None, [only]) => vec![only],
            (None, keys) => return Err(Unverified::UnnamedKey { keys: keys.len() }),
        };
        if named.is_empty() {
            return Err(Unverified::UnknownKey);
        }
        let mut fitting = named.into_iter().filter(|key| key.algorithms.contains(&algorithm)).peekable();
        if fitting.peek().is_none() {
            return Err(Unverified::Algorithm);
        }
        let vouches = |key: &Key| {
            let verified = jsonwebtoken::crypto::verify(signature, message.as_bytes(), &key.key, algorithm);
            matches!(verified, Ok(true))
        };
        if fitting.any(vouches) { Ok(()) } else { Err(Unverified::Signature) }
    }
}

/// The algorithm that a header's `alg` names, where it is one that only a private key can have signed with.
pub(super) fn asymmetric_algorithm(name: &str) -> Option<Algorithm> {
    Some(match name {
        "RS256" => Algorithm::RS256,
        "RS384" => Algorithm::RS384,
        "RS512" => Algorithm::RS512,
        "PS256" => Algorithm::PS256,
        "PS384" => Algorithm::PS384,
        "PS512" => Algorithm::PS512,
        "ES256" => Algorithm::ES256,
        "ES384" => Algorithm::ES384,
        "EdDSA" => Algorithm::EdDSA,
        _ => return None,
    })
}

#[derive(Deserialize)]
struct RawKeySet {
    keys: Vec<serde_json::Value>,
}

/// A key as it stands in the set. Members that we do not use are not read, private ones least of all.
#[derive(Deserialize)]
struct RawKey {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    r#use: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl RawKey {
    fn read(self) -> Result<Key, &'static str> {
        if self.r#use.as_deref().is_some_and(|purpose| purpose != "sig")
            || self.key_ops.as_ref().is_some_and(|operations| !operations.iter().any(|one| one == "verify"))
        {
            return Err("is not for signatures");
        }
        let (mut algorithms, key) = match (self.kty.as_str(), self.crv.as_deref()) {
            ("RSA", _) => (RSA_ALGORITHMS.to_vec(), rsa_key(self.n, self.e)?),
            ("EC", Some("P-256")) => (vec![Algorithm::ES256], ec_key(self.x, self.y, 32)?),
            ("EC", Some("P-384")) => (vec![Algorithm::ES384], ec_key(self.x, self.y, 48)?),
            ("OKP", Some("Ed25519")) => (vec![Algorithm::EdDSA], ed_key(self.x)?),
            ("oct", _) => return Err("is a shared secret, which is never taken"),
            _ => return Err("is of a kind or on a curve that is not taken"),
        };
        if let Some(name) = self.alg {
            algorithms.retain(|algorithm| asymmetric_algorithm(&name) == Some(*algorithm));
        }
        if algorithms.is_empty() {
            return Err("has an `alg` that is not taken for its kind");
        }
        Ok(Key { id: self.kid.map(String::into_boxed_str), algorithms, key })
    }
}

fn rsa_key(n: Option<String>, e: Option<String>) -> Result<DecodingKey, &'static str> {
    // Some write the sign byte of DER; the backend takes none.
    let modulus: Vec<u8> = decoded(n)?.into_iter().skip_while(|byte| *byte == 0).collect();
    let exponent = decoded(e)?;
    let bits = modulus.len() * 8;
    if !(2048..=8192).contains(&bits) {
        return Err("is an RSA key of less than 2048 or more than 8192 bits");
    }
    Ok(DecodingKey::from_rsa_raw_components(&modulus, &exponent))
}

fn ec_key(x: Option<String>, y: Option<String>, coordinate_bytes: usize) -> Result<DecodingKey, &'static str> {
    let (x, y) = (decoded(x)?, decoded(y)?);
    if x.len() != coordinate_bytes || y.len() != coordinate_bytes {
        return Err(NOT_A_KEY);
    }
    let uncompressed = 4; // SEC 1, 2.3.3
    let point: Vec<u8> = std::iter::once(uncompressed).chain(x).chain(y).collect();
    Ok(DecodingKey::from_ec_der(&point))
}

fn ed_key(x: Option<String>) -> Result<DecodingKey, &'static str> {
    let x = decoded(x)?;
    if x.len() == 32 { Ok(DecodingKey::from_ed_der(&x)) } else { Err(NOT_A_KEY) }
}

fn decoded(member: Option<String>) -> Result<Vec<u8>, &'static str> {
    use base64::Engine as _;
    let text = member.ok_or(NOT_A_KEY)?;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).map_err(|_| NOT_A_KEY)
}

const NOT_A_KEY: &str = "is not a complete public key";

const RSA_ALGORITHMS: [Algorithm; 6] =
    [Algorithm::RS256, Algorithm::RS384, Algorithm::RS512, Algorithm::PS256, Algorithm::PS384, Algorithm::PS512];

/// The largest key set that is read.
pub(super) const KEY_SET_BYTES_MAX: u64 = 1024 * 1024;

/// The most keys that a set may hold.
const KEYS_MAX: usize = 100;

/// How many verified tokens are remembered.
const VERIFIED_TOKENS_MAX: usize = 10_000;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const P256: &str = r#""kty":"EC","crv":"P-256","x":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA","y":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA""#;

    /// Goal: a set is taken for its usable keys and refused without any. Method: rows of sets.
    #[test]
    fn a_set_needs_a_key_that_can_verify() {
        check(&format!("{{\"keys\":[{{{P256}}}]}}"), Ok(1));
        check(&format!("{{\"keys\":[{{{P256},\"alg\":\"ES256\",\"use\":\"sig\"}},{{\"kty\":\"AKP\"}},7]}}"), Ok(1));
        check(&format!("{{\"keys\":[{{{P256},\"key_ops\":[\"verify\"],\"kid\":\"a\"}},{{{P256}}}]}}"), Ok(2));
        for (members, reason) in [
            (format!("{P256},\"use\":\"enc\""), "is not for signatures"),
            (format!("{P256},\"key_ops\":[\"sign\"]"), "is not for signatures"),
            (format!("{P256},\"alg\":\"ES384\""), "has an `alg` that is not taken for its kind"),
            (format!("{P256},\"alg\":\"HS256\""), "has an `alg` that is not taken for its kind"),
            (P256.replace("P-256", "P-384"), NOT_A_KEY),
            (P256.replace("P-256", "secp256k1"), "is of a kind or on a curve that is not taken"),
            (r#""kty":"oct","k":"c2VjcmV0""#.into(), "is a shared secret, which is never taken"),
            (r#""kty":"RSA","n":"AAAAyw","e":"AQAB""#.into(), "is an RSA key of less than 2048 or more than 8192 bits"),
            (r#""kty":"RSA","n":"%%%","e":"AQAB""#.into(), NOT_A_KEY),
            (r#""kty":"OKP","crv":"Ed25519","x":"AAAA""#.into(), NOT_A_KEY),
        ] {
            let expected = format!("holds no key that can verify a token (keys[0]: {reason}); needed is");
            check(&format!("{{\"keys\":[{{{members}}}]}}"), Err(&expected));
        }
        check(r#"{"keys":[]}"#, Err("holds no key that can verify a token; needed is"));
        check("[]", Err("is not a JSON Web Key Set"));
        check("", Err("is not a JSON Web Key Set"));
        let many = json!({ "keys": vec![json!({}); 101] }).to_string();
        check(&many, Err("holds 101 keys; at most 100 are taken"));
    }

    #[track_caller]
    fn check(content: &str, expected: Result<usize, &str>) {
        match (KeySet::parse(content.as_bytes()), expected) {
            (Ok(set), Ok(keys)) => assert_eq!(set.keys.len(), keys),
            (Err(error), Err(start)) => assert!(error.to_string().starts_with(start), "{error}"),
            (got, _) => panic!("{got:?}, not {expected:?}"),
        }
    }
}
