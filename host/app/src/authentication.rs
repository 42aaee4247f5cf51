//! Finds out who calls, by the methods of the configuration, in their order.
//!
//! A method passes over a caller who shows nothing for it; the first that believes
//! what is shown says who calls. What is shown and refused is never passed over for
//! something of another kind: a bad token with a good certificate is a bad token, and a
//! caller who shows anything at all, a certificate or a `Basic` header included,
//! is never anonymous. So nobody gets in as somebody else than they meant to be.
//!
//! Nothing here knows of HTTP's headers: the data plane hands over what a caller
//! brought. Promise: no text that leaves this module repeats a token.

pub(crate) mod fetch;

mod client_certificate;
#[cfg(test)]
mod issuer;
mod jwks;
mod jwt;
mod key_source;
mod now;
mod reread;
mod token_digest;
mod token_file;
mod verified_tokens;

use std::sync::Arc;

use witgate_core::{Authenticated, AuthenticationError, Authenticator, BoxFuture, CallerCredentials, UserInfo};

use self::fetch::{FetchJwks, JwksUrl};
use self::jwt::Jwt;
use self::key_source::KeySource;
use self::now::Now;
use self::token_digest::TokenDigest;
use self::token_file::TokenFile;
use crate::config::{AuthenticationMethod, Config, JwksSource, JwtConfig};

/// Makes the configured methods ready. Reads their files: blocks.
///
/// # Errors
/// With everything that is wrong with them: a line each, naming file and key.
pub(crate) fn authenticator(config: &Config, fetcher: Arc<dyn FetchJwks>) -> anyhow::Result<Arc<dyn Authenticator>> {
    match Chain::new(config, &fetcher) {
        Ok(chain) => {
            say_what_is_risky(config);
            Ok(Arc::new(chain))
        }
        Err(problems) => Err(anyhow::anyhow!(problems.join("\n"))),
    }
}

/// Believes nobody.
pub(crate) fn nobody() -> Arc<dyn Authenticator> {
    Arc::new(Chain { methods: Vec::new() })
}

/// The configured methods.
struct Chain {
    methods: Vec<Method>,
}

enum Method {
    Jwt(Box<Jwt>),
    TokenFile(TokenFile),
    ClientCertificate,
    Anonymous(UserInfo),
}

impl Chain {
    fn new(config: &Config, fetcher: &Arc<dyn FetchJwks>) -> Result<Self, Vec<String>> {
        let mut methods = Vec::new();
        let mut problems = Vec::new();
        for (index, method) in config.authentication.iter().enumerate() {
            let made = match method {
                AuthenticationMethod::Jwt(jwt) => Method::jwt(jwt, fetcher),
                AuthenticationMethod::TokenFile(path) => TokenFile::open(path)
                    .map(Method::TokenFile)
                    .map_err(|error| format!("tokenFile: {}: {error:#}", path.display())),
                AuthenticationMethod::ClientCertificate => {
                    let asks = config.tls.as_ref().is_some_and(|tls| tls.client_ca_file.is_some());
                    let needs = "clientCertificate: needs `tls.clientCaFile`, the authorities of callers' certificates";
                    if asks { Ok(Method::ClientCertificate) } else { Err(needs.to_owned()) }
                }
                AuthenticationMethod::Anonymous { user, groups } => {
                    Ok(Method::Anonymous(UserInfo { groups: groups.clone(), ..UserInfo::named(user) }))
                }
            };
            match made {
                Ok(method) => methods.push(method),
                Err(problem) => problems.push(format!("{}: authentication[{index}].{problem}", config.file.display())),
            }
        }
        if problems.is_empty() { Ok(Self { methods }) } else { Err(problems) }
    }

    async fn judge(&self, credentials: &CallerCredentials, now: Now) -> Result<Authenticated, AuthenticationError> {
        let token = match &credentials.bearer_token {
            Some(token) if token.expose().is_empty() || token.expose().len() > TOKEN_BYTES_MAX => {
                return Err(refused(format!("a token of {} bytes, not 1 to {TOKEN_BYTES_MAX}", token.expose().len())));
            }
            Some(token) => Some((token.expose().as_str(), TokenDigest::of(token.expose()))),
            None => None,
        };
        let shows_nothing = token.is_none() && !credentials.other_scheme && credentials.client_certificate.is_none();
        let mut reasons = Vec::new();
        for method in &self.methods {
            match (method, token, &credentials.client_certificate) {
                (Method::Jwt(jwt), Some((token, digest)), _) => match jwt.authenticate(token, digest, now).await {
                    Ok(user) => return Ok(believed(&user)),
                    Err(reason) => reasons.push(format!("jwt: {reason}")),
                },
                (Method::TokenFile(file), Some((_, digest)), _) => match file.find(&digest, now).await {
                    Some(user) => return Ok(believed(&user)),
                    None => reasons.push("tokenFile: no such token".to_owned()),
                },
                (Method::ClientCertificate, _, Some(certificate)) if reasons.is_empty() => {
                    let user = client_certificate::user(certificate);
                    return user
                        .map(|user| Authenticated { user })
                        .map_err(|error| AuthenticationError::Invalid(error.into()));
                }
                (Method::Anonymous(user), ..) if shows_nothing => return Ok(believed(user)),
                (Method::Jwt(_) | Method::TokenFile(_), None, _)
                | (Method::ClientCertificate | Method::Anonymous(_), ..) => {}
            }
        }
        if token.is_none() {
            return Err(AuthenticationError::Missing);
        }
        if reasons.is_empty() {
            reasons.push("no method takes tokens".to_owned());
        }
        Err(refused(reasons.join("; ")))
    }
}

impl Method {
    fn jwt(config: &JwtConfig, fetcher: &Arc<dyn FetchJwks>) -> Result<Self, String> {
        // A token for somebody else is no token for us, and without a name of ours all are for somebody else.
        if config.audiences.is_empty() {
            return Err(
                "jwt.audiences: is empty; needed is at least one, for Backstage's tokens `[backstage]`".to_owned()
            );
        }
        let keys = match &config.keys {
            JwksSource::File(path) => {
                KeySource::file(path).map_err(|error| format!("jwt.jwksFile: {}: {error:#}", path.display()))?
            }
            JwksSource::Url(url) => {
                // One with a user and password is not repeated.
                let shown = if url.contains('@') { "[redacted]" } else { url };
                JwksUrl::parse(url).map_err(|error| format!("jwt.jwksUrl: `{shown}` cannot be fetched: {error}"))?;
                KeySource::url(url.clone(), Arc::clone(fetcher))
            }
        };
        Ok(Self::Jwt(Box::new(Jwt {
            issuer: config.issuer.clone(),
            audiences: config.audiences.clone(),
            username_claim: config.username_claim.clone(),
            groups_claim: config.groups_claim.clone(),
            keys,
        })))
    }
}

impl Authenticator for Chain {
    fn authenticate<'a>(
        &'a self,
        credentials: &'a CallerCredentials,
    ) -> BoxFuture<'a, Result<Authenticated, AuthenticationError>> {
        Box::pin(self.judge(credentials, Now::read()))
    }
}

fn say_what_is_risky(config: &Config) {
    for method in &config.authentication {
        if let AuthenticationMethod::Jwt(JwtConfig { keys: JwksSource::Url(url), .. }) = method
            && JwksUrl::parse(url).is_ok_and(|url| url.is_exposed())
        {
            tracing::warn!("`jwksUrl` is not `https`: whoever is on the way to it can let anybody in");
        }
    }
}

fn believed(user: &UserInfo) -> Authenticated {
    Authenticated { user: user.clone() }
}

fn refused(reason: String) -> AuthenticationError {
    AuthenticationError::Invalid(reason.into())
}

/// The longest token that is looked at.
const TOKEN_BYTES_MAX: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use jsonwebtoken::Algorithm;
    use witgate_core::{ClientCertificate, Redacted};

    use super::issuer::{Issuer, claims, key_set};
    use super::*;
    use crate::config::{PermissionRule, PluginsConfig, TlsFiles};

    /// The network, which no test here needs.
    struct NoFetch;

    impl FetchJwks for NoFetch {
        fn fetch<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Vec<u8>, witgate_core::BoxError>> {
            Box::pin(async { Err("no network".into()) })
        }
    }

    fn config(folder: &Path, authentication: Vec<AuthenticationMethod>) -> Config {
        let file = |name: &str| folder.join(name);
        Config {
            file: "witgate.yaml".into(),
            files: Vec::new(),
            listen: ([127, 0, 0, 1], 0).into(),
            tls: Some(TlsFiles {
                cert_file: file("cert.pem"),
                key_file: file("key.pem"),
                client_ca_file: Some(file("ca.pem")),
            }),
            admin: None,
            authentication,
            permission: PermissionRule::Enabled,
            plugins: PluginsConfig {
                directory: file("policies"),
                cache_directory: None,
                trusted_keys: crate::trusted_keys::TrustedKeys::default(),
                kept_generations_max: 0,
                oci: crate::plugins::oci::OciConfig::default(),
            },
            decision_log: None,
            telemetry: None,
            limits: witgate_proxy::limits::Limits::default(),
            clusters: Vec::new(),
            notes: Vec::new(),
        }
    }

    fn jwt(keys: JwksSource) -> AuthenticationMethod {
        AuthenticationMethod::Jwt(JwtConfig {
            issuer: Some("http://backstage.example/api/auth".into()),
            audiences: vec!["backstage".into()],
            keys,
            username_claim: "sub".into(),
            groups_claim: "ent".into(),
        })
    }

    fn anonymous() -> AuthenticationMethod {
        AuthenticationMethod::Anonymous { user: "user:default/guest".into(), groups: vec!["guests".into()] }
    }

    fn certificate(subject: rcgen::DnType) -> ClientCertificate {
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(subject, "alice");
        let certificate = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
        ClientCertificate(certificate.der().as_ref().into())
    }

    /// Goal: who gets in as whom, for each order of methods and each thing shown. Method: letters for both, a row each.
    #[tokio::test]
    async fn the_first_method_that_believes_says_who_calls() {
        let folder = tempfile::tempdir().unwrap();
        let issuer = Issuer::new(Algorithm::ES256, "one");
        let (keys, tokens) = (folder.path().join("jwks.json"), folder.path().join("tokens.yaml"));
        std::fs::write(&keys, key_set(&[&issuer])).unwrap();
        std::fs::write(&tokens, "- { token: file-token, user: ci }").unwrap();
        let methods = BTreeMap::from([
            ('j', jwt(JwksSource::File(keys))),
            ('t', AuthenticationMethod::TokenFile(tokens)),
            ('c', AuthenticationMethod::ClientCertificate),
            ('a', anonymous()),
        ]);
        let signed = issuer.token(&claims(Now::read().unix_seconds));
        let long = "x".repeat(TOKEN_BYTES_MAX + 1);
        let at_limit = "x".repeat(TOKEN_BYTES_MAX);
        let (named, unnamed) = (certificate(rcgen::DnType::CommonName), certificate(rcgen::DnType::OrganizationName));
        let check = async |order: &str, shown: &str, expected: &str| {
            let order = order.chars().map(|method| methods.get(&method).unwrap().clone()).collect();
            let chain = authenticator(&config(folder.path(), order), Arc::new(NoFetch)).unwrap();
            let mut credentials = CallerCredentials::default();
            for what in shown.split_whitespace() {
                let token = match what {
                    "jwt" => &signed,
                    "long" => &long,
                    "at-limit" => &at_limit,
                    "empty" => "",
                    "basic" => {
                        credentials.other_scheme = true;
                        continue;
                    }
                    "alice" | "nameless" => {
                        let shown = if what == "alice" { &named } else { &unnamed };
                        credentials.client_certificate = Some(shown.clone());
                        continue;
                    }
                    text => text,
                };
                credentials.bearer_token = Some(Redacted::new(token.to_owned()));
            }
            let got = match chain.authenticate(&credentials).await {
                Ok(Authenticated { user }) => user.name,
                Err(AuthenticationError::Missing) => "missing".to_owned(),
                Err(AuthenticationError::Invalid(cause)) => format!("illegal: {cause}"),
            };
            assert_eq!(got, expected, "{shown}");
        };
        let jane = "user:default/jane";
        let guest = "user:default/guest";
        check("jtca", "jwt", jane).await;
        check("atcj", "jwt", jane).await;
        check("jtca", "file-token", "ci").await;
        check("tj", "jwt", jane).await;
        check("jtca", "alice", "alice").await;
        check("jtca", "", guest).await;
        check("a", "", guest).await;
        check("jtc", "", "missing").await; // F1
        check("", "", "missing").await;
        // Shown, but not what any method takes: never anonymous.
        check("jtca", "basic", "missing").await; // F1
        check("ja", "alice", "missing").await;
        check("jca", "basic alice", "alice").await;
        // A bad token is bad, whatever else there is. F2
        check("jtca", "wrong", "illegal: jwt: not a signed JSON Web Token; tokenFile: no such token").await;
        check("ta", "jwt", "illegal: tokenFile: no such token").await;
        check("ta", "wrong alice", "illegal: tokenFile: no such token").await;
        check("tca", "wrong alice", "illegal: tokenFile: no such token").await;
        check("ca", "jwt", "illegal: no method takes tokens").await;
        check("", "jwt", "illegal: no method takes tokens").await;
        check("ta", "empty", "illegal: a token of 0 bytes, not 1 to 16384").await;
        check("jta", "long", "illegal: a token of 16385 bytes, not 1 to 16384").await;
        check("ta", "at-limit", "illegal: tokenFile: no such token").await;
        // The order decides between two that are good.
        check("ct", "file-token alice", "alice").await;
        check("tc", "file-token alice", "ci").await;
        let nameless = "illegal: the certificate's subject has 0 common names; it needs one that is not empty";
        check("ca", "nameless", nameless).await;
        check("cta", "nameless file-token", nameless).await;
        check("tc", "nameless file-token", "ci").await;
    }

    /// Goal: the caller's text is Backstage's, and the cause never repeats the token. Method: both, printed.
    #[tokio::test]
    async fn texts_are_backstages_and_hold_no_token() {
        let folder = tempfile::tempdir().unwrap();
        let tokens = folder.path().join("tokens.yaml");
        std::fs::write(&tokens, "[]").unwrap();
        let methods = vec![AuthenticationMethod::TokenFile(tokens)];
        let chain = authenticator(&config(folder.path(), methods), Arc::new(NoFetch)).unwrap();
        let mut credentials = CallerCredentials::default();
        let missing = chain.authenticate(&credentials).await.unwrap_err();
        assert_eq!(missing.to_string(), "Missing credentials");
        credentials.bearer_token = Some(Redacted::new("s3cret".into()));
        let illegal = chain.authenticate(&credentials).await.unwrap_err();
        assert_eq!(illegal.to_string(), "Illegal token");
        assert!(!format!("{illegal:?}").contains("s3cret"));
    }

    /// Goal: a start refuses what cannot work, all at once, with file and key. Method: one method of each wrong kind.
    #[test]
    fn a_start_names_everything_that_cannot_work() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("empty.json"), r#"{"keys":[]}"#).unwrap();
        std::fs::write(path("bad.yaml"), "- { user: jane }").unwrap();
        let missing = || path("missing");
        let mut wrong = config(
            folder.path(),
            vec![
                AuthenticationMethod::TokenFile(missing()),
                AuthenticationMethod::TokenFile(path("bad.yaml")),
                jwt(JwksSource::File(missing())),
                jwt(JwksSource::File(path("empty.json"))),
                jwt(JwksSource::Url("id.example/keys".into())),
                jwt(JwksSource::Url("https://me:s3cret@id.example/keys".into())),
                AuthenticationMethod::Jwt(JwtConfig {
                    issuer: None,
                    audiences: Vec::new(),
                    keys: JwksSource::Url("https://id.example/keys".into()),
                    username_claim: "sub".into(),
                    groups_claim: "ent".into(),
                }),
                AuthenticationMethod::ClientCertificate,
                anonymous(),
            ],
        );
        wrong.tls = None;
        let refused = authenticator(&wrong, Arc::new(NoFetch)).err().unwrap().to_string();
        let folder_text = folder.path().display().to_string();
        let shown: Vec<_> = refused.lines().map(|problem| problem.replace(&folder_text, "DIR")).collect();
        let expected = [
            "witgate.yaml: authentication[0].tokenFile: DIR/missing: cannot be read: No such file or directory (os error 2)",
            "witgate.yaml: authentication[1].tokenFile: DIR/bad.yaml: line 1: needs one of `token` and `sha256`",
            "witgate.yaml: authentication[2].jwt.jwksFile: DIR/missing: cannot be read: No such file or directory (os error 2)",
            "witgate.yaml: authentication[3].jwt.jwksFile: DIR/empty.json: holds no key that can verify a token; needed is a \
             public RSA key of 2048 bits or more, an EC key on P-256 or P-384, or an Ed25519 key",
            "witgate.yaml: authentication[4].jwt.jwksUrl: `id.example/keys` cannot be fetched: needed is \
             `https://HOST[:PORT]/PATH`, or `http`, without user and password",
            "witgate.yaml: authentication[5].jwt.jwksUrl: `[redacted]` cannot be fetched: needed is \
             `https://HOST[:PORT]/PATH`, or `http`, without user and password",
            "witgate.yaml: authentication[6].jwt.audiences: is empty; needed is at least one, for Backstage's tokens `[backstage]`",
            "witgate.yaml: authentication[7].clientCertificate: needs `tls.clientCaFile`, the authorities of callers' certificates",
        ];
        assert_eq!(shown, expected);
        let right = config(folder.path(), vec![AuthenticationMethod::ClientCertificate, anonymous()]);
        assert!(authenticator(&right, Arc::new(NoFetch)).is_ok());
    }
}
