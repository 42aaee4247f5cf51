//! A fake of Google's token endpoint, which verifies assertions, and of its metadata server.
//!
//! Assertions are verified by `jsonwebtoken` with a crypto library that is not the guest's own.

use std::sync::Mutex;
use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use rcgen::{KeyPair, PKCS_RSA_SHA256, RsaKeySize};
use serde_json::{Value, json};

use crate::api_server::{Reply, Request};
use crate::secrets;

/// The scope that Backstage asks for.
pub const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";
/// Where a metadata server gives out its machine's token.
pub const METADATA_PATH: &str = "/computeMetadata/v1/instance/service-accounts/default/token";

const EMAIL: &str = "gate@project.iam.gserviceaccount.com";
const KEY_ID: &str = "key-1";

/// Google, as far as one service account sees of it.
pub struct GoogleTokens {
    key: KeyPair,
    token_uri: Mutex<String>,
    access_token: String,
    complaints: Mutex<Vec<String>>,
}

impl Default for GoogleTokens {
    fn default() -> Self {
        let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
        let pem = key.serialize_pem();
        secrets::register("private key of a service account", pem.lines().nth(2).expect("a key is longer than a line"));
        let access_token = secrets::secret("access token of a service account");
        Self { key, token_uri: Mutex::default(), access_token, complaints: Mutex::default() }
    }
}

impl GoogleTokens {
    /// The JSON of the service account's key, for a token endpoint at `token_uri`.
    pub fn key_file(&self, token_uri: &str) -> String {
        *self.token_uri.lock().unwrap() = token_uri.to_owned();
        json!({
            "type": "service_account", "project_id": "project", "private_key_id": KEY_ID,
            "private_key": self.key.serialize_pem(), "client_email": EMAIL, "client_id": "1", "token_uri": token_uri,
        })
        .to_string()
    }

    /// The token that it gives out.
    pub fn access_token(&self) -> &str {
        &self.access_token
    }

    /// What was wrong with the requests so far.
    pub fn complaints(&self) -> Vec<String> {
        self.complaints.lock().unwrap().clone()
    }

    /// The token endpoint's answer: a token for a correct assertion, and `invalid_grant` for all else.
    pub fn exchange(&self, request: &Request) -> Reply {
        self.reply(self.verify(request).map(|()| self.token(3599)))
    }

    /// The metadata server's answer: a token for who asks as it wants to be asked.
    pub fn metadata(&self, request: &Request) -> Reply {
        let asked = (request.method.as_str(), request.target.as_str(), request.header("metadata-flavor"));
        let verified = match asked {
            ("GET", METADATA_PATH, Some("Google")) if request.header("authorization").is_none() => Ok(self.token(1799)),
            asked => Err(format!("{asked:?}")),
        };
        self.reply(verified).header("metadata-flavor", "Google")
    }

    fn token(&self, expires_in: u64) -> Reply {
        let token = json!({ "access_token": self.access_token, "expires_in": expires_in, "token_type": "Bearer" });
        Reply::json(200, token.to_string())
    }

    fn reply(&self, verified: Result<Reply, String>) -> Reply {
        verified.unwrap_or_else(|complaint| {
            self.complaints.lock().unwrap().push(complaint);
            Reply::json(400, r#"{"error":"invalid_grant","error_description":"Invalid JWT Signature."}"#)
        })
    }

    fn verify(&self, request: &Request) -> Result<(), String> {
        let token_uri = self.token_uri.lock().unwrap().clone();
        let (_, path) = token_uri.split_at(token_uri.rfind('/').unwrap_or_default());
        if (request.method.as_str(), request.target.as_str()) != ("POST", path) {
            return Err(format!("{} {}", request.method, request.target));
        }
        if request.header("content-type") != Some("application/x-www-form-urlencoded") {
            return Err(format!("content-type {:?}", request.header("content-type")));
        }
        if let Some(authorization) = request.header("authorization") {
            return Err(format!("authorization {authorization}"));
        }
        let prefix = "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=";
        let assertion = request.body.text().strip_prefix(prefix).ok_or("another form")?;
        let header = jsonwebtoken::decode_header(assertion).map_err(|error| error.to_string())?;
        if (header.alg, header.typ.as_deref(), header.kid.as_deref()) != (Algorithm::RS256, Some("JWT"), Some(KEY_ID)) {
            return Err(format!("{header:?}"));
        }
        let key = DecodingKey::from_rsa_der(self.key.public_key_raw());
        let mut validation = Validation::new(Algorithm::RS256);
        validation.set_audience(&[&token_uri]);
        validation.set_issuer(&[EMAIL]);
        validation.set_required_spec_claims(&["exp", "aud", "iss"]);
        let claims: Value =
            jsonwebtoken::decode(assertion, &key, &validation).map_err(|error| error.to_string())?.claims;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let claim = |name: &str| claims.get(name).unwrap_or(&Value::Null);
        let (issued, expiry) = (claim("iat").as_u64().ok_or("iat")?, claim("exp").as_u64().ok_or("exp")?);
        let names: Vec<_> = claims.as_object().ok_or("claims")?.keys().map(String::as_str).collect();
        let good = names == ["aud", "exp", "iat", "iss", "scope"]
            && claim("scope") == SCOPE
            && claim("aud").as_str() == Some(token_uri.as_str())
            && issued <= now
            && now - issued < 60
            && (issued + 1..=issued + 3600).contains(&expiry);
        if good { Ok(()) } else { Err(claims.to_string()) }
    }
}
