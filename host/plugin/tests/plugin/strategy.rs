//! What a strategy is told, what it may answer, and which secrets it finds.

use std::sync::Arc;
use std::time::Duration;

use witgate_core::{
    AuthError, AuthenticationStrategy, BoxFuture, CallError, Credential, Grant, Impersonation, Issued, PrivateKeyPair,
    Redacted, RequestAuth, RequestAuthEntry, SecretError, SecretStore,
};
use witgate_plugin::{Grants, LoadedPlugin, PluginSource, WasmStrategy};

use crate::guest::{Guest, chain, cluster, host, jane, source};

/// Secrets with these names and values; one named `broken` cannot be read, one named `slow` never comes.
#[derive(Debug)]
pub(crate) struct Secrets(pub(crate) &'static [(&'static str, &'static str)]);

impl SecretStore for Secrets {
    fn get<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Redacted<String>, SecretError>> {
        Box::pin(async move {
            // Comes back later, as a read from disk does.
            tokio::task::yield_now().await;
            match self.0.iter().find(|(known, _)| *known == name) {
                Some(("broken", _)) => Err(SecretError::Unreadable(name.into())),
                Some(("slow", _)) => std::future::pending().await,
                Some((_, value)) => Ok(Redacted::new((*value).into())),
                None => Err(SecretError::NotGranted(name.into())),
            }
        })
    }
}

/// A grant with the variant `case` and its words at 8204; valid until 99.
const GRANT: &str = "(i32.store8 (i32.const 8192) (i32.const 0))
    (i32.store8 (i32.const 8224) (i32.const 1)) (i64.store (i32.const 8232) (i64.const 99))
    (i32.const 8192)";

fn bearer(token: &str) -> Guest {
    Guest::strategy(&format!(
        "(i32.store (i32.const 8204) (global.get $token)) (i32.store (i32.const 8208) (global.get $token.length)) {GRANT}"
    ))
    .text("token", token)
}

fn certificate(cert: &str, key: &str) -> Guest {
    Guest::strategy(&format!(
        "(i32.store8 (i32.const 8200) (i32.const 1))
         (i32.store (i32.const 8204) (global.get $cert)) (i32.store (i32.const 8208) (global.get $cert.length))
         (i32.store (i32.const 8212) (global.get $key)) (i32.store (i32.const 8216) (global.get $key.length)) {GRANT}"
    ))
    .text("cert", cert)
    .text("key", key)
}

/// Impersonates `user` with a bearer token.
fn impersonating(user: &str) -> Guest {
    Guest::strategy(&format!(
        "(i32.store (i32.const 8204) (global.get $user)) (i32.store (i32.const 8208) (i32.const 1))
         (i32.store8 (i32.const 8240) (i32.const 1))
         (i32.store (i32.const 8244) (global.get $user))
         (i32.store (i32.const 8248) (i32.sub (global.get $user.length) (i32.const 1))) {GRANT}"
    ))
    // A letter more than is used, so that the token is never empty.
    .text("user", &format!("{user}!"))
}

fn failing(case: u32, text: &str) -> Guest {
    Guest::strategy(&format!(
        "(i32.store8 (i32.const 8192) (i32.const 1)) (i32.store8 (i32.const 8200) (i32.const {case}))
         (i32.store (i32.const 8204) (global.get $text)) (i32.store (i32.const 8208) (global.get $text.length))
         (i32.const 8192)"
    ))
    .text("text", text)
}

const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\nTUlJ\n-----END CERTIFICATE-----\n";
const KEY: &str = "-----BEGIN PRIVATE KEY-----\nc2VjcmV0LWtleQ==\n-----END PRIVATE KEY-----\n";

/// Goal: each kind of grant and error arrives. Method: a guest for each.
#[tokio::test]
async fn every_answer_arrives() {
    let grant = |credential, impersonate| Ok(Grant { credential, expires_at: Some(99), impersonate });
    answers(bearer("cluster-token"), grant(Credential::BearerToken("cluster-token".to_owned().into()), None)).await;
    let pair = PrivateKeyPair { certificate: CERTIFICATE.into(), key: KEY.to_owned().into() };
    answers(certificate(CERTIFICATE, KEY), grant(Credential::X509ClientCertificate(pair), None)).await;
    let anonymous = Guest::strategy(&format!("(i32.store8 (i32.const 8200) (i32.const 2)) {GRANT}"));
    answers(anonymous, grant(Credential::Anonymous, None)).await;
    let jane = Impersonation { user: "jane".into(), ..Impersonation::default() };
    answers(impersonating("jane"), grant(Credential::BearerToken("j".to_owned().into()), Some(jane))).await;

    answers(failing(0, "no token"), Err(AuthError::MissingToken("no token".into()))).await;
    answers(failing(1, "no\nno"), Err(AuthError::Refused("no no".into()))).await;
    answers(failing(2, "later"), Err(AuthError::Unavailable("later".into()))).await;
    answers(failing(3, "never"), Err(AuthError::Misconfigured("never".into()))).await;
}

async fn answers(guest: Guest, expected: Result<Grant, AuthError>) {
    let strategy = guest.into_strategy().await;
    let answer = credential(&strategy, &[], &RequestAuth::none()).await.unwrap();
    assert_eq!(answer, expected.map(|grant| Issued { grant, cache_hit: false, same_for: Some(Duration::MAX) }));
}

/// Goal: what cannot be sent is refused, and not repeated. Method: rows of credentials that hold the word `s3cret`.
#[tokio::test]
async fn a_credential_that_cannot_be_sent_is_malformed() {
    malformed(bearer(""), "its bearer token is empty").await;
    malformed(bearer("s3cret\r\nX-Remote-User: admin"), "something other than visible ASCII").await;
    malformed(bearer("s3cret with spaces"), "something other than visible ASCII").await;
    malformed(certificate("s3cret", KEY), "its client certificate is not PEM").await;
    malformed(certificate(CERTIFICATE, "s3cret"), "its client key is not PEM").await;
    malformed(impersonating(""), "it impersonates a user without a name").await;
    malformed(impersonating("a\nb"), "its impersonation holds control characters").await;
}

async fn malformed(guest: Guest, expected: &str) {
    let strategy = guest.into_strategy().await;
    let error = credential(&strategy, &[], &RequestAuth::none()).await.unwrap_err();
    assert!(matches!(error, CallError::Malformed { .. }), "{}", chain(&error));
    let printed = format!("{} {error:?}", chain(&error));
    assert!(printed.contains(expected), "{printed}");
    assert!(!printed.contains("s3cret"), "{printed}");
}

/// A strategy that asks for `name`, and whose token or refusal is what it is told.
pub(crate) fn asking(name: &str) -> Guest {
    Guest::strategy(
        "(call $get (global.get $name) (global.get $name.length) (i32.const 9000))
         (i32.store8 (i32.const 8192) (i32.load8_u (i32.const 9000)))
         (i32.store8 (i32.const 8200) (i32.load8_u (i32.const 9000)))
         (i32.store (i32.const 8204) (i32.load (i32.const 9004))) (i32.store (i32.const 8208) (i32.load (i32.const 9008)))
         (i32.const 8192)",
    )
    .with("\n(import \"witgate:auth/secrets@0.1.0\" \"get\" (func $get (param i32 i32 i32)))\n")
    .text("name", name)
}

/// Goal: the sidecar's secrets come first, then the cluster's; absence and failure are told apart.
/// Method: rows of what is asked for.
#[tokio::test]
async fn secrets_are_found_by_name() {
    finds("client-secret", Ok("from-sidecar")).await;
    finds("cluster/service-account-token", Ok("from-cluster")).await;
    finds("both", Ok("sidecar-wins")).await;
    finds("broken", Err("secret `broken` cannot be read")).await;
    finds("nobody", Err("secret `nobody` is not granted")).await;
    let long = "n".repeat(1000);
    finds(&long, Err(&format!("secret `{}` is not granted", "n".repeat(128)))).await;
}

async fn finds(name: &str, expected: Result<&str, &str>) {
    let strategy = with_sidecar(asking(name)).await;
    let cluster: &[_] =
        &[("cluster/service-account-token", "from-cluster"), ("both", "cluster-loses"), ("broken", "x")];
    let answer = credential(&strategy, cluster, &RequestAuth::none()).await.unwrap();
    let got = match answer {
        Ok(Issued { grant: Grant { credential: Credential::BearerToken(token), .. }, .. }) => Ok(token.into_exposed()),
        Err(AuthError::Refused(text)) => Err(text),
        other => panic!("{other:?}"),
    };
    assert_eq!(got.as_deref().map_err(String::as_str), expected);
}

/// Goal: a strategy that waits in a host call is ended too. Method: a secret that never comes.
#[tokio::test]
async fn a_strategy_that_waits_ends_at_its_deadline() {
    let limits = witgate_plugin::Limits::new(20, 64, 64).unwrap();
    let loaded = host().load(PluginSource { limits, ..source("x", asking("slow").build()) }).await;
    let Ok(LoadedPlugin::Strategy(strategy)) = loaded else { panic!("it is a strategy") };
    let error = credential(&strategy, &[("slow", "x")], &RequestAuth::none()).await.unwrap_err();
    assert_eq!(error.code(), "deadline-exceeded", "{}", chain(&error));
}

/// Goal: a text for the caller does not repeat what the strategy was handed. Method: a strategy that refuses with the
/// token in its text, and one that refuses with a secret.
#[tokio::test]
async fn a_refusal_does_not_repeat_a_secret() {
    let mut tokens = RequestAuth::none();
    let value = Redacted::new("s3cret-token".to_owned());
    tokens.insert(RequestAuthEntry { provider: "google".into(), sub_provider: None, value }).unwrap();
    let strategy = failing(1, "`s3cret-token` has expired").into_strategy().await;
    let refusal = credential(&strategy, &[], &tokens).await.unwrap().unwrap_err();
    assert_eq!(refusal, AuthError::Refused("`[redacted]` has expired".into()));
}

async fn with_sidecar(guest: Guest) -> Arc<WasmStrategy> {
    let secrets = Secrets(&[("client-secret", "from-sidecar"), ("both", "sidecar-wins")]);
    let grants = Grants { secrets: Arc::new(secrets), ..Grants::none() };
    match host().load(PluginSource { grants, ..source("x", guest.build()) }).await {
        Ok(LoadedPlugin::Strategy(strategy)) => strategy,
        Ok(LoadedPlugin::Policy(_)) => panic!("it is a policy"),
        Err(error) => panic!("{}", chain(&error)),
    }
}

async fn credential(
    strategy: &WasmStrategy,
    secrets: &'static [(&'static str, &'static str)],
    tokens: &RequestAuth,
) -> Result<Result<Issued, AuthError>, CallError> {
    let secrets: Arc<dyn SecretStore> = Arc::new(Secrets(secrets));
    strategy.credential(&cluster(), &secrets, tokens, Some(&jane())).await
}
