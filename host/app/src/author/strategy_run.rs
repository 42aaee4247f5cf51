//! One credential of a strategy, for its author to look at: what it is, never what it says.
//!
//! The strategy runs with its sidecar's grants, so it may send the requests that it would send in the gate.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, bail};
use clap::Args;
use serde_json::json;
use witgate_core::{
    AuthenticationStrategy, ClusterDetails, ClusterName, Credential, Grant, Issued, Metadata, Redacted, RequestAuth,
    RequestAuthEntry, SecretStore, UserInfo,
};

use super::guest_log::Listening;
use super::question::QuestionKeys;
use crate::cli::environment;
use crate::config::SecretSource;
use crate::secrets::ClusterSecrets;

/// What a strategy is told, beside who asks.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "For a strategy")]
pub(crate) struct StrategyOptions {
    /// The cluster's API server
    #[arg(long, value_name = "URL")]
    server: Option<String>,
    /// A key of the cluster's authMetadata; may be given several times
    #[arg(long, value_name = "KEY=VALUE")]
    auth_metadata: Vec<String>,
    /// A token that the request brings, in a file: PROVIDER=FILE, or PROVIDER-SUB=FILE as in `oidc-okta=token.txt`
    #[arg(long, value_name = "PROVIDER=FILE")]
    token: Vec<String>,
    /// A secret of the cluster, in a file: `cluster/service-account-token=FILE`
    #[arg(long, value_name = "NAME=FILE")]
    secret: Vec<String>,
}

impl StrategyOptions {
    /// # Errors
    /// When one is given, and there is no strategy that it is for.
    pub(crate) fn are_absent(&self) -> anyhow::Result<()> {
        let Self { server, auth_metadata, token, secret } = self;
        if server.is_some() || !auth_metadata.is_empty() || !token.is_empty() || !secret.is_empty() {
            bail!("--server, --auth-metadata, --token and --secret are for strategies, and this is a policy");
        }
        Ok(())
    }

    fn cluster(&self, name: Option<&str>) -> anyhow::Result<ClusterDetails> {
        let mut auth_metadata = Metadata::new();
        for pair in &self.auth_metadata {
            let (key, value) =
                pair.split_once('=').with_context(|| format!("--auth-metadata `{pair}`: write KEY=VALUE"))?;
            auth_metadata.insert(key.to_owned(), value.to_owned());
        }
        Ok(ClusterDetails {
            name: ClusterName::try_from(name.unwrap_or("test"))?,
            title: None,
            server: self.server.clone().unwrap_or_else(|| "https://cluster.invalid".to_owned()),
            auth_metadata,
            ca_data: None,
            skip_tls_verify: false,
        })
    }

    fn request_auth(&self) -> anyhow::Result<RequestAuth> {
        let mut request_auth = RequestAuth::none();
        for pair in &self.token {
            let (name, file) =
                pair.split_once('=').with_context(|| format!("--token `{pair}`: write PROVIDER=FILE"))?;
            let token = std::fs::read_to_string(file).with_context(|| format!("--token: {file} cannot be read"))?;
            let name = name.to_ascii_lowercase();
            let (provider, sub_provider) = match name.split_once('-') {
                Some((provider, sub)) => (provider.to_owned(), Some(sub.to_owned())),
                None => (name, None),
            };
            request_auth.insert(RequestAuthEntry {
                provider,
                sub_provider,
                value: Redacted::new(token.trim().to_owned()),
            })?;
        }
        Ok(request_auth)
    }

    fn secrets(&self) -> anyhow::Result<Arc<dyn SecretStore>> {
        let mut sources = std::collections::BTreeMap::new();
        for pair in &self.secret {
            let (name, file) = pair.split_once('=').with_context(|| format!("--secret `{pair}`: write NAME=FILE"))?;
            sources.insert(name.to_owned(), SecretSource::File(PathBuf::from(file)));
        }
        Ok(Arc::new(ClusterSecrets::new(&sources, &environment)?))
    }
}

/// Asks for one credential and prints what it is: 0 where there is one, 1 where there is none.
///
/// # Errors
/// When a flag is not what it should be.
pub(crate) async fn run(
    strategy: &dyn AuthenticationStrategy,
    options: &StrategyOptions,
    keys: &QuestionKeys,
    as_json: bool,
) -> anyhow::Result<ExitCode> {
    let cluster = options.cluster(keys.cluster.as_deref())?;
    let (request_auth, secrets) = (options.request_auth()?, options.secrets()?);
    let caller = keys.user.clone().map(|name| UserInfo {
        name,
        uid: keys.uid.clone(),
        groups: keys.groups.clone().unwrap_or_default(),
        extra: keys.extra.clone().unwrap_or_default(),
    });
    let faults = strategy.validate_cluster(&cluster.auth_metadata).await?;
    let listening = Listening::begin();
    let began = Instant::now();
    let answer = strategy.credential(&cluster, &secrets, &request_auth, caller.as_ref()).await;
    let took_us = (began.elapsed().as_secs_f64() * 1e7).round() / 10.0;
    let log = listening.take();
    drop(listening);
    let (grant, error) = match answer {
        Ok(Ok(Issued { grant, .. })) => (Some(grant), None),
        Ok(Err(error)) => (None, Some(format!("the strategy refuses: {error}"))),
        Err(error) => (
            None,
            Some(format!(
                "the strategy gave no answer, which is an error of the gate: {:#}",
                anyhow::Error::new(error)
            )),
        ),
    };
    let shown = grant.as_ref().map(Shown::of);
    if as_json {
        let shown = shown.as_ref().map(|Shown { kind, certificate, expires_at, impersonate }| {
            json!({ "credential": kind, "certificate": certificate, "expiresAt": expires_at, "impersonate": impersonate })
        });
        let object = json!({
            "cluster": cluster.name.as_str(), "clusterFaults": faults, "grant": shown, "error": error, "log": log, "tookUs": took_us,
        });
        println!("{}", serde_json::to_string_pretty(&object)?);
    } else {
        println!("strategy `{}` for cluster `{}`", strategy.name(), cluster.name);
        faults.iter().for_each(|fault| println!("  a gate with this cluster would not start: {fault}"));
        log.iter().for_each(|line| println!("  log {}: {}", line.level, line.text));
        if let Some(Shown { kind, certificate, expires_at, impersonate }) = &shown {
            println!("  credential  {kind}");
            certificate.iter().for_each(|subject| println!("  certificate {subject}"));
            println!("  good        {}", expires_at.as_deref().unwrap_or("for this request only"));
            println!("  impersonate {}", impersonate.as_deref().unwrap_or("nobody"));
        }
        println!("  took        {took_us} µs");
    }
    Ok(match error {
        None => ExitCode::SUCCESS,
        Some(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    })
}

/// A grant without what is secret in it.
struct Shown {
    kind: &'static str,
    certificate: Option<String>,
    expires_at: Option<String>,
    impersonate: Option<String>,
}

impl Shown {
    fn of(Grant { credential, expires_at, impersonate }: &Grant) -> Self {
        let certificate = match credential {
            Credential::X509ClientCertificate(pair) => Some(format!("{} bytes of PEM", pair.certificate.len())),
            Credential::BearerToken(_) | Credential::Anonymous => None,
        };
        let time = |seconds: u64| {
            let time = i64::try_from(seconds).ok().and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
            time.map_or_else(|| format!("until {seconds}"), |time| format!("until {time}"))
        };
        let impersonate = impersonate.as_ref().map(|identity| {
            let groups = identity.groups.join(", ");
            if groups.is_empty() { format!("`{}`", identity.user) } else { format!("`{}` in {groups}", identity.user) }
        });
        Self { kind: credential.kind(), certificate, expires_at: expires_at.map(time), impersonate }
    }
}
