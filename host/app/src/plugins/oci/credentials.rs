//! Who we are to a registry: Docker's `config.json`, as `docker login` and Kubernetes' `.dockerconfigjson` write it.
//!
//! It is read when it is needed, so that a rotated file counts. Helpers (`credsStore`, `credHelpers`) are programs, and none is run.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use witgate_core::Redacted;

use crate::config;

#[derive(Deserialize)]
struct DockerConfig {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
}

#[derive(Deserialize)]
struct Entry {
    auth: Option<Redacted<String>>,
    username: Option<String>,
    password: Option<Redacted<String>>,
}

/// The value of `Authorization: Basic …` for `registry`, where the file knows it.
///
/// # Errors
/// When the file cannot be read or used; never with what it holds.
pub(super) fn basic(file: &Path, registry: &str) -> anyhow::Result<Option<Redacted<String>>> {
    let context = || format!("`credentialsFile`, {}", file.display());
    let bytes = config::bytes_of(file).map_err(|why| anyhow::anyhow!(why)).with_context(context)?;
    of_config(&bytes, registry).with_context(context)
}

fn of_config(bytes: &[u8], registry: &str) -> anyhow::Result<Option<Redacted<String>>> {
    // What serde says of a value that does not fit could repeat it.
    let config: DockerConfig =
        serde_json::from_slice(bytes).map_err(|_| anyhow::anyhow!("is not Docker's `config.json`"))?;
    let Some((_, entry)) = config.auths.iter().find(|(name, _)| host_of(name) == registry) else { return Ok(None) };
    if let Some(auth) = entry.auth.as_ref().filter(|auth| !auth.expose().is_empty()) {
        let decoded = STANDARD.decode(auth.expose().trim()).ok().is_some_and(|decoded| decoded.contains(&b':'));
        anyhow::ensure!(decoded, "`auth` of {registry} is not the base64 of `user:password`");
        return Ok(Some(Redacted::new(format!("Basic {}", auth.expose().trim()))));
    }
    match (&entry.username, &entry.password) {
        (Some(user), Some(password)) => {
            let pair = STANDARD.encode(format!("{user}:{}", password.expose()));
            Ok(Some(Redacted::new(format!("Basic {pair}"))))
        }
        _ => anyhow::bail!(
            "has neither `auth` nor `username` and `password` for {registry}; a credential helper is not run: put a password or a \
             token of the registry's there"
        ),
    }
}

/// The registry that a key of `auths` is about: some write it as a URL.
fn host_of(name: &str) -> &str {
    let name = name.strip_prefix("https://").or_else(|| name.strip_prefix("http://")).unwrap_or(name);
    name.split('/').next().unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the registry's own credential and no other's, in each form that tools write. Method: rows.
    #[test]
    fn a_credential_is_for_its_registry() {
        let both = r#"{"auths":{"one.example":{"auth":"dTpw"},"https://two.example:5000/v2/":{"username":"u","password":"q"}}}"#;
        check(both, "one.example", Ok(Some("Basic dTpw")));
        check(both, "two.example:5000", Ok(Some("Basic dTpx")));
        check(both, "two.example", Ok(None));
        check(both, "xone.example", Ok(None));
        check("{}", "one.example", Ok(None));
        check(
            r#"{"credsStore":"desktop","auths":{"one.example":{}}}"#,
            "one.example",
            Err("a credential helper is not run"),
        );
        check(r#"{"auths":{"one.example":{"auth":"hunter2"}}}"#, "one.example", Err("is not the base64 of"));
        check(r#"{"auths":{"one.example":{"auth":7}}}"#, "one.example", Err("is not Docker's `config.json`"));
        check("hunter2", "one.example", Err("is not Docker's `config.json`"));
    }

    #[track_caller]
    fn check(config: &str, registry: &str, expected: Result<Option<&str>, &str>) {
        let got = of_config(config.as_bytes(), registry);
        match (got, expected) {
            (Ok(got), Ok(expected)) => assert_eq!(got.as_ref().map(|basic| basic.expose().as_str()), expected),
            (Err(error), Err(expected)) => {
                let text = format!("{error:#}");
                assert!(text.contains(expected) && !text.contains("hunter2"), "{text}");
            }
            (got, expected) => panic!("{got:?}, not {expected:?}"),
        }
    }
}
