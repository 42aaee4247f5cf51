//! Callers by JSON Web Token: Backstage's, or those of any issuer with a key set.
//!
//! A token's `iss`, `aud`, `exp`, `nbf` and `iat` are looked at before its signature, so that neither a
//! foreign nor an old token costs a signature or a fetch of keys; nothing that it
//! says is used before a key of ours has vouched for it.
//!
//! Time: `exp` is exact, a token is not believed in the second that it names; the
//! issuer's clock may be [`CLOCK_SKEW_SECONDS`] ahead of ours for `nbf` and `iat`.
//!
//! Names: who may choose their own name at an issuer must not choose one of
//! Kubernetes' own, because a strategy may ask the API server to take the caller's name on.
//! So a token that names a user or group under `system:` is refused, but for
//! `system:serviceaccount:…` as `sub`, which is how a cluster's own tokens name their service accounts.

use std::sync::Arc;

use base64::Engine as _;
use serde::Deserialize;
use serde_json::{Map, Value};
use witgate_core::UserInfo;

use super::jwks::{Unverified, asymmetric_algorithm};
use super::key_source::KeySource;
use super::now::Now;
use super::token_digest::TokenDigest;

/// Believes the tokens of one issuer.
pub(super) struct Jwt {
    /// The only `iss` that is believed; none: whoever holds one of the keys.
    pub(super) issuer: Option<String>,
    /// One of these must be in `aud`.
    pub(super) audiences: Vec<String>,
    /// The claim with the user's name.
    pub(super) username_claim: String,
    /// The claim with the user's groups: a list, a text, or absent.
    pub(super) groups_claim: String,
    /// Where the issuer's keys come from.
    pub(super) keys: KeySource,
}

/// Why a token is not believed. For the log; the caller reads none of it, and it repeats nothing that the token says.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotBelieved {
    #[error("not a signed JSON Web Token")]
    Form,
    #[error("the header's `alg` is not one of RS*, PS*, ES256, ES384 and EdDSA")]
    Algorithm,
    #[error("the header has `crit`, and no extension is known here")]
    Critical,
    #[error("the claim `{0}` is missing, or is not what it should be")]
    Claim(String),
    #[error("`iss` is another issuer")]
    Issuer,
    #[error("`aud` names none of the audiences")]
    Audience,
    #[error("expired")]
    Expired,
    #[error("not valid yet")]
    NotYet,
    #[error("the claim `{0}` holds a name under `system:`, which is Kubernetes' own")]
    SystemName(String),
    #[error(transparent)]
    Unverified(#[from] Unverified),
}

impl Jwt {
    /// Who brought `token`.
    pub(super) async fn authenticate(
        &self,
        token: &str,
        digest: TokenDigest,
        now: Now,
    ) -> Result<Arc<UserInfo>, NotBelieved> {
        let mut keys = self.keys.keys(now).await;
        if let Some(user) = keys.verified.find(&digest, now.unix_seconds) {
            return Ok(user);
        }
        let parsed = Parsed::read(token)?;
        let expires_at = self.check_claims(&parsed.claims, now.unix_seconds)?;
        let user = Arc::new(self.user(&parsed.claims)?);
        let verify = |keys: &super::jwks::KeySet| {
            keys.verify(parsed.key_id.as_deref(), parsed.algorithm, parsed.message, parsed.signature)
        };
        if let Err(unverified) = verify(&keys) {
            // Newer keys can help where the token names one that is not known, or names none.
            if unverified != Unverified::UnknownKey && parsed.key_id.is_some() {
                return Err(unverified.into());
            }
            keys = self.keys.newer_than(&keys, now).await.ok_or(unverified)?;
            verify(&keys)?;
        }
        keys.verified.keep(digest, Arc::clone(&user), expires_at, now.unix_seconds);
        Ok(user)
    }

    /// Checks what the token says of itself, and tells until when it is good.
    fn check_claims(&self, claims: &Map<String, Value>, unix_seconds: u64) -> Result<u64, NotBelieved> {
        let wrong = |name: &str| NotBelieved::Claim(name.to_owned());
        if let Some(issuer) = &self.issuer {
            let given = claims.get("iss").and_then(Value::as_str).ok_or_else(|| wrong("iss"))?;
            if given != issuer {
                return Err(NotBelieved::Issuer);
            }
        }
        let ours = |audience: &Value| self.audiences.iter().any(|ours| Some(ours.as_str()) == audience.as_str());
        let for_us = match claims.get("aud") {
            Some(Value::Array(list)) => list.iter().any(ours),
            Some(one @ Value::String(_)) => ours(one),
            _ => return Err(wrong("aud")),
        };
        if !for_us {
            return Err(NotBelieved::Audience);
        }
        let expires_at = claims.get("exp").and_then(seconds).ok_or_else(|| wrong("exp"))?;
        if unix_seconds >= expires_at {
            return Err(NotBelieved::Expired);
        }
        for name in ["nbf", "iat"] {
            if let Some(value) = claims.get(name) {
                let from = seconds(value).ok_or_else(|| wrong(name))?;
                if from > unix_seconds.saturating_add(CLOCK_SKEW_SECONDS) {
                    return Err(NotBelieved::NotYet);
                }
            }
        }
        Ok(expires_at)
    }

    fn user(&self, claims: &Map<String, Value>) -> Result<UserInfo, NotBelieved> {
        let wrong = |name: &str| NotBelieved::Claim(name.to_owned());
        let name = claims.get(&self.username_claim).and_then(usable_name).ok_or_else(|| wrong(&self.username_claim))?;
        let service_account = self.username_claim == "sub" && name.starts_with("system:serviceaccount:");
        if name.starts_with("system:") && !service_account {
            return Err(NotBelieved::SystemName(self.username_claim.clone()));
        }
        let groups: Option<Vec<String>> = match claims.get(&self.groups_claim) {
            None | Some(Value::Null) => Some(Vec::new()),
            Some(Value::Array(list)) => list.iter().map(usable_name).collect(),
            Some(one) => usable_name(one).map(|group| vec![group]),
        };
        let groups = groups.ok_or_else(|| wrong(&self.groups_claim))?;
        if groups.iter().any(|group| group.starts_with("system:")) {
            return Err(NotBelieved::SystemName(self.groups_claim.clone()));
        }
        // `jti` is no uid: it names the token, and the next one has another.
        let uid = match claims.get("uid") {
            None | Some(Value::Null) => None,
            Some(value) => Some(usable_name(value).ok_or_else(|| wrong("uid"))?),
        };
        Ok(UserInfo { name, uid, groups, ..UserInfo::default() })
    }
}

/// A token taken apart, and nothing about it believed.
struct Parsed<'a> {
    message: &'a str,
    signature: &'a str,
    algorithm: jsonwebtoken::Algorithm,
    key_id: Option<String>,
    claims: Map<String, Value>,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    #[serde(default, deserialize_with = "is_there")]
    crit: bool,
}

impl<'a> Parsed<'a> {
    fn read(token: &'a str) -> Result<Self, NotBelieved> {
        let (message, signature) = token.rsplit_once('.').ok_or(NotBelieved::Form)?;
        let (header, claims) = message.split_once('.').ok_or(NotBelieved::Form)?;
        let decoded =
            |part: &str| base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(part).map_err(|_| NotBelieved::Form);
        let header: Header = serde_json::from_slice(&decoded(header)?).map_err(|_| NotBelieved::Form)?;
        if header.crit {
            return Err(NotBelieved::Critical);
        }
        let algorithm = asymmetric_algorithm(&header.alg).ok_or(NotBelieved::Algorithm)?;
        let claims = serde_json::from_slice(&decoded(claims)?).map_err(|_| NotBelieved::Form)?;
        Ok(Self { message, signature, algorithm, key_id: header.kid, claims })
    }
}

/// Whether a member is there, whatever it says.
fn is_there<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    serde::de::IgnoredAny::deserialize(deserializer).map(|_| true)
}

/// A NumericDate in whole seconds, rounded down: a token is never believed longer than it says.
fn seconds(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| {
        let seconds = value.as_f64().filter(|seconds| (0.0..MAX_NUMERIC_DATE).contains(seconds))?;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "within the range that was just checked"
        )]
        Some(seconds as u64)
    })
}

/// A name that can stand in a header and a log line.
fn usable_name(value: &Value) -> Option<String> {
    let name = value.as_str()?;
    let usable = !name.trim().is_empty() && !name.chars().any(char::is_control);
    usable.then(|| name.to_owned())
}

/// How far an issuer's clock may be ahead of ours.
const CLOCK_SKEW_SECONDS: u64 = 60;

/// Up to here every whole second has a floating-point number of its own.
const MAX_NUMERIC_DATE: f64 = 9_007_199_254_740_992.0;

#[cfg(test)]
mod tests {
    use jsonwebtoken::{Algorithm, EncodingKey};
    use serde_json::json;

    use super::super::issuer::{Issuer, claims, encoded, key_set};
    use super::*;

    struct Fixture {
        _folder: tempfile::TempDir,
        path: std::path::PathBuf,
        jwt: Jwt,
        now: Now,
    }

    impl Fixture {
        fn new(issuers: &[&Issuer]) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("jwks.json");
            std::fs::write(&path, key_set(issuers)).unwrap();
            let jwt = Jwt {
                issuer: Some("http://backstage.example/api/auth".into()),
                audiences: vec!["backstage".into(), "witgate".into()],
                username_claim: "sub".into(),
                groups_claim: "ent".into(),
                keys: KeySource::file(&path).unwrap(),
            };
            Self { _folder: folder, path, jwt, now: Now::read() }
        }

        async fn ask(&self, token: &str, now: Now) -> Result<String, NotBelieved> {
            let user = self.jwt.authenticate(token, TokenDigest::of(token), now).await?;
            let uid = user.uid.as_ref().map_or_else(String::new, |uid| format!(" uid {uid}"));
            Ok(format!("{} {}{uid}", user.name, user.groups.join(",")))
        }
    }

    /// The claims with one changed; null takes it away.
    fn with(mut claims: Value, name: &str, value: Value) -> Value {
        let members = claims.as_object_mut().unwrap();
        match value {
            Value::Null => drop(members.remove(name)),
            value => drop(members.insert(name.to_owned(), value)),
        }
        claims
    }

    const JANE: &str = "user:default/jane user:default/jane,group:default/dev";

    /// Goal: every claim that decides is checked. Method: a good token with one claim changed; null takes it away.
    #[tokio::test]
    async fn claims_decide_who_is_believed() {
        let issuer = Issuer::new(Algorithm::ES256, "one");
        let fixture = Fixture::new(&[&issuer]);
        let now = fixture.now.unix_seconds;
        let check = async |name: &str, value: Value, expected: Result<&str, NotBelieved>| {
            let claims = with(claims(now), name, value.clone());
            let token = issuer.token(&claims);
            let got = fixture.ask(&token, fixture.now).await;
            assert_eq!(got, expected.map(str::to_owned), "{name}: {value}");
        };
        let claim = |name: &str| Err(NotBelieved::Claim(name.to_owned()));
        let system = |name: &str| Err(NotBelieved::SystemName(name.to_owned()));
        check("x", json!(1), Ok(JANE)).await;
        check("iss", json!("http://other/"), Err(NotBelieved::Issuer)).await;
        check("iss", json!(["http://backstage.example/api/auth"]), claim("iss")).await;
        check("iss", Value::Null, claim("iss")).await;
        check("aud", json!("witgate"), Ok(JANE)).await;
        check("aud", json!(["x", "backstage"]), Ok(JANE)).await;
        check("aud", json!("x"), Err(NotBelieved::Audience)).await;
        check("aud", json!([]), Err(NotBelieved::Audience)).await;
        check("aud", json!([["backstage"]]), Err(NotBelieved::Audience)).await;
        check("aud", json!({ "backstage": 1 }), claim("aud")).await;
        check("aud", Value::Null, claim("aud")).await;
        check("exp", json!(now + 1), Ok(JANE)).await;
        check("exp", json!(now), Err(NotBelieved::Expired)).await;
        #[expect(clippy::cast_precision_loss, reason = "seconds since 1970 are small")]
        let fraction = now as f64 + 0.9;
        check("exp", json!(fraction), Err(NotBelieved::Expired)).await;
        check("exp", json!(fraction + 1.0), Ok(JANE)).await;
        check("exp", json!(0), Err(NotBelieved::Expired)).await;
        check("exp", json!(-1), claim("exp")).await;
        check("exp", json!(1e300), claim("exp")).await;
        check("exp", json!((now + 9).to_string()), claim("exp")).await;
        check("exp", Value::Null, claim("exp")).await;
        for name in ["nbf", "iat"] {
            check(name, json!(now + 60), Ok(JANE)).await;
            check(name, json!(now + 61), Err(NotBelieved::NotYet)).await;
            check(name, json!("soon"), claim(name)).await;
            check(name, Value::Null, Ok(JANE)).await;
        }
        check("sub", json!(""), claim("sub")).await;
        check("sub", json!("ja\nne"), claim("sub")).await;
        check("sub", json!(7), claim("sub")).await;
        check("sub", Value::Null, claim("sub")).await;
        check("sub", json!("system:admin"), system("sub")).await;
        let account = "system:serviceaccount:ci:deployer";
        check("sub", json!(account), Ok(&format!("{account} user:default/jane,group:default/dev"))).await;
        check("ent", json!("dev"), Ok("user:default/jane dev")).await;
        check("ent", json!([]), Ok("user:default/jane ")).await;
        check("ent", Value::Null, Ok("user:default/jane ")).await;
        check("ent", json!(["dev", 7]), claim("ent")).await;
        check("ent", json!({}), claim("ent")).await;
        check("ent", json!(["dev", "system:masters"]), system("ent")).await;
        check("uid", json!("7"), Ok(&format!("{JANE} uid 7"))).await;
        check("uid", json!(7), claim("uid")).await;
    }

    /// Goal: another claim may hold the name, but then it is not one of Kubernetes' own. Method: rows of claims.
    #[tokio::test]
    async fn the_name_can_stand_in_another_claim() {
        let issuer = Issuer::new(Algorithm::ES256, "one");
        let mut fixture = Fixture::new(&[&issuer]);
        fixture.jwt.username_claim = "email".into();
        fixture.jwt.groups_claim = "groups".into();
        fixture.jwt.issuer = None;
        for (email, expected) in [
            (json!("jane@example.com"), Ok("jane@example.com a".to_owned())),
            (json!("system:serviceaccount:kube-system:admin"), Err(NotBelieved::SystemName("email".into()))),
        ] {
            let claims = with(claims(fixture.now.unix_seconds), "email", email);
            let claims = with(with(claims, "groups", json!(["a"])), "iss", json!("anybody"));
            assert_eq!(fixture.ask(&issuer.token(&claims), fixture.now).await, expected);
        }
    }

    /// Goal: only a signature by one of our keys, by an algorithm of that key, is believed. Method: tokens that are forged in turn.
    #[tokio::test]
    async fn forged_tokens_are_refused() {
        let issuer = Issuer::new(Algorithm::ES256, "one");
        let stranger = Issuer::new(Algorithm::ES256, "one");
        let other = Issuer::new(Algorithm::ES384, "two");
        let fixture = Fixture::new(&[&issuer, &other]);
        let claims = claims(fixture.now.unix_seconds);
        let good = issuer.token(&claims);
        let check = async |token: &str, expected: NotBelieved| {
            assert_eq!(fixture.ask(token, fixture.now).await, Err(expected), "{token}");
        };
        check(&stranger.token(&claims), Unverified::Signature.into()).await;
        let header = |alg: &str, kid: &str| json!({ "alg": alg, "kid": kid });
        let (message, signature) = good.rsplit_once('.').unwrap();
        let (head, _) = message.split_once('.').unwrap();
        let changed = with(claims.clone(), "sub", json!("user:default/root"));
        check(&format!("{head}.{}.{signature}", encoded(changed.to_string())), Unverified::Signature.into()).await;
        check(&format!("{message}."), Unverified::Signature.into()).await;
        check(&format!("{message}.AAAA"), Unverified::Signature.into()).await;
        check(&format!("{message}.{signature}="), Unverified::Signature.into()).await;
        for none in ["none", "None", "NONE", "", "es256", "HS256", "HS512"] {
            let message = format!("{}.{}", encoded(header(none, "one").to_string()), encoded(claims.to_string()));
            check(&format!("{message}."), NotBelieved::Algorithm).await;
        }
        // The classic: the public key, taken as a shared secret.
        for secret in [issuer.jwk.to_string(), issuer.jwk.get("x").unwrap().as_str().unwrap().to_owned()] {
            let mut header = jsonwebtoken::Header::new(Algorithm::HS256);
            header.kid = Some("one".into());
            let token = jsonwebtoken::encode(&header, &claims, &EncodingKey::from_secret(secret.as_bytes())).unwrap();
            check(&token, NotBelieved::Algorithm).await;
        }
        check(&issuer.token_with_header(&header("ES384", "one"), &claims), Unverified::Algorithm.into()).await;
        check(&issuer.token_with_header(&header("RS256", "one"), &claims), Unverified::Algorithm.into()).await;
        check(&issuer.token_with_header(&header("ES256", "two"), &claims), Unverified::Algorithm.into()).await;
        check(&issuer.token_with_header(&header("ES256", "three"), &claims), Unverified::UnknownKey.into()).await;
        let unnamed = issuer.token_with_header(&json!({ "alg": "ES256" }), &claims);
        check(&unnamed, Unverified::UnnamedKey { keys: 2 }.into()).await;
        let own = json!({ "alg": "ES256", "kid": "mine", "jwk": stranger.jwk, "jku": "http://stranger/" });
        check(&stranger.token_with_header(&own, &claims), Unverified::UnknownKey.into()).await;
        for crit in [json!(["b64"]), json!([]), json!(null)] {
            let critical = json!({ "alg": "ES256", "kid": "one", "crit": crit });
            check(&issuer.token_with_header(&critical, &claims), NotBelieved::Critical).await;
        }
        for form in ["", "opaque", "a.b", "..", "a.b.c", &format!("{good}.x"), &format!("x.{good}")] {
            check(form, NotBelieved::Form).await;
        }
        assert_eq!(fixture.ask(&good, fixture.now).await.as_deref(), Ok(JANE));
    }

    /// Goal: each algorithm that we name verifies. Method: one issuer for each.
    #[tokio::test]
    async fn every_asymmetric_algorithm_verifies() {
        use Algorithm::{ES256, ES384, EdDSA, PS256, PS384, PS512, RS256, RS384, RS512};
        for algorithm in [ES256, ES384, EdDSA, RS256, RS384, RS512, PS256, PS384, PS512] {
            let issuer = Issuer::new(algorithm, "one");
            let fixture = Fixture::new(&[&issuer]);
            let token = issuer.token(&claims(fixture.now.unix_seconds));
            assert_eq!(fixture.ask(&token, fixture.now).await.as_deref(), Ok(JANE), "{algorithm:?}");
        }
    }

    /// Goal: with one key a token need not name it. Method: a header without `kid`.
    #[tokio::test]
    async fn the_only_key_needs_no_name() {
        let issuer = Issuer::new(Algorithm::ES256, "one");
        let fixture = Fixture::new(&[&issuer]);
        let token = issuer.token_with_header(&json!({ "alg": "ES256" }), &claims(fixture.now.unix_seconds));
        assert_eq!(fixture.ask(&token, fixture.now).await.as_deref(), Ok(JANE));
    }

    /// Goal: a new key is believed at once, an old one no longer, its remembered tokens included. Method: one rotation.
    #[tokio::test]
    async fn a_rotated_key_takes_its_tokens_with_it() {
        let (one, two) = (Issuer::new(Algorithm::ES256, "one"), Issuer::new(Algorithm::ES256, "two"));
        let fixture = Fixture::new(&[&one]);
        let claims = claims(fixture.now.unix_seconds);
        let (old, new) = (one.token(&claims), two.token(&claims));
        assert_eq!(fixture.ask(&old, fixture.now).await.as_deref(), Ok(JANE));
        assert_eq!(fixture.ask(&new, fixture.now).await, Err(Unverified::UnknownKey.into()));
        std::fs::write(&fixture.path, key_set(&[&two])).unwrap();
        assert_eq!(fixture.ask(&new, fixture.now).await.as_deref(), Ok(JANE));
        assert_eq!(fixture.ask(&old, fixture.now).await, Err(Unverified::UnknownKey.into()));
        std::fs::write(&fixture.path, "not keys").unwrap();
        assert_eq!(fixture.ask(&new, fixture.now.after(2)).await.as_deref(), Ok(JANE));
    }

    /// Goal: a remembered token is found without a signature, and not past its `exp`. Method: ask, look, ask later.
    #[tokio::test]
    async fn a_remembered_token_still_expires() {
        let issuer = Issuer::new(Algorithm::ES256, "one");
        let fixture = Fixture::new(&[&issuer]);
        let token = issuer.token(&claims(fixture.now.unix_seconds));
        assert_eq!(fixture.ask(&token, fixture.now).await.as_deref(), Ok(JANE));
        let keys = fixture.jwt.keys.keys(fixture.now).await;
        assert!(keys.verified.find(&TokenDigest::of(&token), fixture.now.unix_seconds).is_some());
        assert_eq!(fixture.ask(&token, fixture.now.after(3_599)).await.as_deref(), Ok(JANE));
        assert_eq!(fixture.ask(&token, fixture.now.after(3_600)).await, Err(NotBelieved::Expired));
    }
}
