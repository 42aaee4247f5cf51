//! An issuer of caller tokens: ES256 keys that can be rotated, and the key set that it publishes.

use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use serde_json::{Value, json};

use crate::api_server::{ApiServer, Reply};
use crate::secrets;

/// Who issues: what stands in `iss`.
pub const ISSUER: &str = "https://backstage.example/api/auth";

/// An issuer with one signing key at a time.
pub struct TokenIssuer {
    key: KeyPair,
    key_id: String,
    published: Arc<Mutex<String>>,
}

impl TokenIssuer {
    /// An issuer with a new key, called `key_id`.
    pub fn new(key_id: &str) -> Self {
        let issuer = Self { key: new_key(), key_id: key_id.into(), published: Arc::default() };
        issuer.publish();
        issuer
    }

    /// Signs with a new key from now on, and publishes that one alone.
    pub fn rotate(&mut self, key_id: &str) {
        self.key = new_key();
        self.key_id = key_id.into();
        self.publish();
    }

    /// The published key set.
    pub fn jwks(&self) -> String {
        self.published.lock().unwrap().clone()
    }

    /// A server that gives the key set, as it is at each request.
    pub async fn serve(&self) -> ApiServer {
        let published = Arc::clone(&self.published);
        ApiServer::answering(move |_| Reply::json(200, published.lock().unwrap().clone())).start().await
    }

    /// A token as Backstage makes them for `user`, good for an hour, with `changes` to its claims; a null removes one.
    pub fn token(&self, user: &str, changes: Value) -> String {
        let now = seconds_since_epoch();
        let mut claims = json!({
            "iss": ISSUER, "aud": "backstage", "sub": user, "ent": [user, "group:default/developers"],
            "iat": now, "exp": now + 3600,
        });
        let claims_map = claims.as_object_mut().expect("claims are an object");
        for (claim, value) in changes.as_object().expect("changes are an object") {
            if value.is_null() {
                claims_map.remove(claim);
            } else {
                claims_map.insert(claim.clone(), value.clone());
            }
        }
        let header = Header { kid: Some(self.key_id.clone()), ..Header::new(Algorithm::ES256) };
        let key = EncodingKey::from_ec_der(&self.key.serialize_der());
        let token = jsonwebtoken::encode(&header, &claims, &key).unwrap();
        let signature = token.rsplit('.').next().expect("a token has parts");
        secrets::register("signature of a caller's JWT", signature);
        token
    }

    /// Checks a token of this issuer's, as one that it makes for `user` with the audience `audience`.
    ///
    /// # Errors
    /// With what is wrong.
    pub fn verify(&self, token: &str, audience: &str, user: &str) -> Result<(), String> {
        let keys: JwkSet = serde_json::from_str(&self.jwks()).map_err(|error| error.to_string())?;
        let key = keys.find(&self.key_id).ok_or("the key is not published")?;
        let mut validation = Validation::new(Algorithm::ES256);
        validation.set_audience(&[audience]);
        validation.set_issuer(&[ISSUER]);
        validation.sub = Some(user.to_owned());
        validation.set_required_spec_claims(&["exp", "aud", "iss", "sub"]);
        let key = DecodingKey::from_jwk(key).map_err(|error| error.to_string())?;
        jsonwebtoken::decode::<Value>(token, &key, &validation).map(drop).map_err(|error| error.to_string())
    }

    fn publish(&self) {
        // An uncompressed point: 4, x, y.
        let point = self.key.public_key_raw();
        let (x, y) = point.split_at(1).1.split_at(32);
        let key = json!({
            "kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": self.key_id,
            "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y),
        });
        *self.published.lock().unwrap() = json!({ "keys": [key] }).to_string();
    }
}

/// Now, as tokens count time.
pub fn seconds_since_epoch() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is set").as_secs()
}

fn new_key() -> KeyPair {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap()
}
