//! For tests: an issuer of tokens with a key of its own.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rcgen::KeyPair;
use serde_json::{Value, json};

/// Signs tokens by one key.
pub(super) struct Issuer {
    algorithm: Algorithm,
    pub(super) key: EncodingKey,
    /// The public half.
    pub(super) jwk: Value,
}

impl Issuer {
    /// One that signs by `algorithm` and calls its key `key_id`.
    pub(super) fn new(algorithm: Algorithm, key_id: &str) -> Self {
        let pair = |algorithm| KeyPair::generate_for(algorithm).unwrap();
        let (key, mut jwk) = match algorithm {
            Algorithm::ES256 | Algorithm::ES384 => {
                let (curve, pair) = match algorithm {
                    Algorithm::ES256 => ("P-256", pair(&rcgen::PKCS_ECDSA_P256_SHA256)),
                    _ => ("P-384", pair(&rcgen::PKCS_ECDSA_P384_SHA384)),
                };
                let (_, point) = pair.public_key_raw().split_first().unwrap();
                let (x, y) = point.split_at(point.len() / 2);
                let jwk = json!({ "kty": "EC", "crv": curve, "x": encoded(x), "y": encoded(y) });
                (EncodingKey::from_ec_der(&pair.serialize_der()), jwk)
            }
            Algorithm::EdDSA => {
                let pair = pair(&rcgen::PKCS_ED25519);
                let jwk = json!({ "kty": "OKP", "crv": "Ed25519", "x": encoded(pair.public_key_raw()) });
                (EncodingKey::from_ed_der(&pair.serialize_der()), jwk)
            }
            _ => {
                let pem = pair(&rcgen::PKCS_RSA_SHA256).serialize_pem();
                let key = EncodingKey::from_rsa_pem(pem.as_bytes()).unwrap();
                let mut jwk = json!(jsonwebtoken::jwk::Jwk::from_encoding_key(&key, algorithm).unwrap());
                jwk.as_object_mut().unwrap().remove("alg");
                (key, jwk)
            }
        };
        jwk.as_object_mut().unwrap().insert("kid".into(), json!(key_id));
        Self { algorithm, key, jwk }
    }

    /// A token that says `claims`.
    pub(super) fn token(&self, claims: &Value) -> String {
        let mut header = Header::new(self.algorithm);
        header.kid = self.jwk.get("kid").and_then(Value::as_str).map(str::to_owned);
        jsonwebtoken::encode(&header, claims, &self.key).unwrap()
    }

    /// A token with a header of the caller's choice, signed as this issuer signs.
    pub(super) fn token_with_header(&self, header: &Value, claims: &Value) -> String {
        let message = format!("{}.{}", encoded(header.to_string()), encoded(claims.to_string()));
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &self.key, self.algorithm).unwrap();
        format!("{message}.{signature}")
    }
}

/// The key set of these issuers.
pub(super) fn key_set(issuers: &[&Issuer]) -> String {
    json!({ "keys": issuers.iter().map(|issuer| &issuer.jwk).collect::<Vec<_>>() }).to_string()
}

/// What Backstage's tokens say, for an hour from `unix_seconds`.
pub(super) fn claims(unix_seconds: u64) -> Value {
    json!({
        "iss": "http://backstage.example/api/auth",
        "aud": "backstage",
        "sub": "user:default/jane",
        "ent": ["user:default/jane", "group:default/dev"],
        "iat": unix_seconds,
        "exp": unix_seconds + 3_600,
    })
}

/// base64url, without padding.
pub(super) fn encoded(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}
