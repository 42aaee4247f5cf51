//! The way of a request, again and again, for a tool that counts instructions: `cargo xtask bench instructions`.
//!
//! `hot-path WAY REQUESTS [POLICY.wasm CACHE]` sends so many requests through the data plane, one after the other on one connection, to an API
//! server that answers the same bytes each time; both ends are in the same process and do next to nothing. One worker, no TLS, no
//! log: what is left is the gate's own work and that of its HTTP library. The difference of two runs, by the difference of their
//! requests, is a request's.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, bail, ensure};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use witgate_core::{
    AuthError, Authenticated, AuthenticationError, AuthenticationStrategy, Authenticator, BoxFuture, CallError,
    CallerCredentials, ClusterDetails, ClusterName, Condition, Conditional, Credential, Decision, Digest, Generation,
    Grant, Issued, Metadata, PermissionPolicy, PluginName, PolicyMode, PolicyQuery, Redacted, RequestAuth, SecretError,
    SecretStore, UserInfo,
};
use witgate_plugin::{Host, HostConfig, Limits as PluginLimits, LoadedPlugin, PluginSource};
use witgate_proxy::counts::GateCounts;
use witgate_proxy::drain::Drain;
use witgate_proxy::gate::Gate;
use witgate_proxy::limits::Limits;
use witgate_proxy::listener;
use witgate_proxy::snapshot::{
    ClientAuthorization, ClientImpersonation, Cluster, Clusters, CurrentSnapshot, PermissionRule, Snapshot,
};
use witgate_proxy::upstream::{Http2, Reach, ServerTrust, Target, Upstream};
use witgate_proxy::workers::Workers;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let run = || -> anyhow::Result<()> {
        let [way, requests, component @ ..] = words.as_slice() else {
            bail!("usage: hot-path WAY REQUESTS [POLICY.wasm CACHE]")
        };
        let requests = requests.parse().context("REQUESTS is a number")?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(ask(way, requests, component))
    };
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn ask(way: &str, requests: u64, component: &[String]) -> anyhow::Result<()> {
    let (rule, policies): (_, Vec<Arc<dyn PermissionPolicy>>) = match way {
        "permission-off" => (PermissionRule::Disabled, Vec::new()),
        "conditional" => (PermissionRule::Enabled, vec![Arc::new(Reading(PluginName::try_from("reading")?))]),
        "policy" => (PermissionRule::Enabled, vec![load(component).await?]),
        other => bail!("`{other}` is none of permission-off, conditional, policy"),
    };
    let api_server = TcpListener::bind("127.0.0.1:0").await?;
    let cluster = cluster(api_server.local_addr()?)?;
    tokio::spawn(answer(api_server));
    let snapshot = Snapshot {
        generation: Generation(1),
        authenticator: Arc::new(Jane),
        permission: rule,
        policies,
        clusters: Clusters::from_iter([Arc::new(cluster)]),
    };
    let gate = Arc::new(Gate {
        snapshot: Arc::new(CurrentSnapshot::new(Arc::new(snapshot))),
        decision_log: Arc::new(()),
        counts: Arc::new(GateCounts::default()),
        tracer: None,
        limits: Limits::default(),
    });
    let data_plane = TcpListener::bind("127.0.0.1:0").await?;
    let address = data_plane.local_addr()?;
    let workers = Workers::start(NonZeroUsize::MIN)?;
    tokio::spawn(async move { listener::serve(data_plane, None, gate, &workers, &Drain::default()).await });

    let mut stream = TcpStream::connect(address).await?;
    for _ in 0..requests {
        stream.write_all(REQUEST).await?;
        let mut answer = Vec::with_capacity(4096);
        while !answer.ends_with(BODY) {
            ensure!(stream.read_buf(&mut answer).await? > 0, "the gate closed: {}", String::from_utf8_lossy(&answer));
        }
        ensure!(answer.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&answer));
    }
    Ok(())
}

/// The policy, compiled in an earlier run: compiling it would be all that is counted.
async fn load(words: &[String]) -> anyhow::Result<Arc<dyn PermissionPolicy>> {
    let [component, cache] = words else { bail!("`policy` takes a component and a folder for what is compiled") };
    let host = Host::new(HostConfig { cache_directory: Some(cache.into()), ..HostConfig::default() })?;
    let bytes = std::fs::read(component).with_context(|| format!("cannot read `{component}`"))?;
    let source = PluginSource::without_sidecar(PluginName::try_from("policy")?, bytes.into());
    // Counting takes its time.
    let limits = PluginLimits::new(10_000, 64, 64)?;
    match host.load(PluginSource { settings: json!({}), limits, ..source }).await? {
        LoadedPlugin::Policy(policy) => Ok(policy),
        LoadedPlugin::Strategy(_) => bail!("`{component}` is no policy"),
    }
}

fn cluster(api_server: SocketAddr) -> anyhow::Result<Cluster> {
    let server = format!("http://{api_server}");
    let reach =
        Reach { target: Target::parse(&server)?, proxy: None, http2: Http2::Disabled, trust: ServerTrust::default() };
    let details = ClusterDetails {
        name: ClusterName::try_from("one")?,
        title: None,
        server,
        auth_metadata: Metadata::default(),
        ca_data: None,
        skip_tls_verify: false,
    };
    Ok(Cluster {
        details,
        dashboard_url: None,
        oidc_token_provider: None,
        presented_metadata: Metadata::default(),
        client_impersonation: ClientImpersonation::Refused,
        client_authorization: ClientAuthorization::Refused,
        strategy: Arc::new(OneToken(PluginName::try_from("token")?)),
        secrets: Arc::new(NoSecrets),
        upstream: Arc::new(Upstream::new(reach, Limits::default())?),
    })
}

/// Answers every request with the same bytes.
async fn answer(listener: TcpListener) -> std::io::Result<()> {
    let mut answer = Vec::new();
    answer.extend_from_slice(HEAD);
    answer.extend_from_slice(BODY);
    loop {
        let (mut stream, _) = listener.accept().await?;
        let mut request = Vec::new();
        while stream.read_buf(&mut request).await? > 0 {
            if request.ends_with(b"\r\n\r\n") {
                stream.write_all(&answer).await?;
                request.clear();
            }
        }
    }
}

/// Believes everybody to be jane.
struct Jane;

impl Authenticator for Jane {
    fn authenticate<'a>(
        &'a self,
        _: &'a CallerCredentials,
    ) -> BoxFuture<'a, Result<Authenticated, AuthenticationError>> {
        Box::pin(async { Ok(Authenticated { user: UserInfo::named("user:default/jane") }) })
    }
}

/// Lets through what reads, by a condition that the host evaluates.
struct Reading(PluginName);

impl PermissionPolicy for Reading {
    fn name(&self) -> &PluginName {
        &self.0
    }

    fn digest(&self) -> Digest {
        Digest::of(b"")
    }

    fn mode(&self) -> PolicyMode {
        PolicyMode::Enforce
    }

    fn handle<'a>(&'a self, _: &'a PolicyQuery, _: Option<&'a UserInfo>) -> BoxFuture<'a, Result<Decision, CallError>> {
        let condition = |rule: &str, values: &[&str]| Condition {
            rule: rule.to_owned(),
            params: vec![("verbs".to_owned(), values.iter().map(|&value| value.to_owned()).collect())],
            negated: false,
        };
        let any_of = vec![vec![condition("IS_VERB", &["get", "list", "watch"])]];
        Box::pin(async { Ok(Decision::Conditional(Conditional { any_of, reusable_for: None })) })
    }
}

/// Yields one token.
struct OneToken(PluginName);

impl AuthenticationStrategy for OneToken {
    fn name(&self) -> &PluginName {
        &self.0
    }

    fn credential<'a>(
        &'a self,
        _: &'a ClusterDetails,
        _: &'a Arc<dyn SecretStore>,
        _: &'a RequestAuth,
        _: Option<&'a UserInfo>,
    ) -> BoxFuture<'a, Result<Result<Issued, AuthError>, CallError>> {
        let credential = Credential::BearerToken(Redacted::new("a-token-of-no-cluster".to_owned()));
        let grant = Grant { credential, expires_at: None, impersonate: None };
        Box::pin(async { Ok(Ok(Issued { grant, cache_hit: true, same_for: None })) })
    }

    fn present_auth_metadata<'a>(&'a self, metadata: &'a Metadata) -> BoxFuture<'a, Result<Metadata, CallError>> {
        Box::pin(async { Ok(metadata.clone()) })
    }

    fn validate_cluster<'a>(&'a self, _: &'a Metadata) -> BoxFuture<'a, Result<Vec<String>, CallError>> {
        Box::pin(async { Ok(Vec::new()) })
    }
}

#[derive(Debug)]
struct NoSecrets;

impl SecretStore for NoSecrets {
    fn get<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Redacted<String>, SecretError>> {
        Box::pin(async { Err(SecretError::NotGranted(name.to_owned())) })
    }
}

/// As kubectl asks.
const REQUEST: &[u8] = b"GET /k8s/clusters/one/api/v1/namespaces/dev/pods?limit=500 HTTP/1.1\r\n\
    host: gate.example\r\n\
    user-agent: kubectl/v1.32.0 (linux/amd64) kubernetes/70d3cc9\r\n\
    accept: application/json;as=Table;v=v1;g=meta.k8s.io,application/json\r\n\
    accept-encoding: gzip\r\n\
    authorization: Bearer a-token-of-janes\r\n\r\n";

const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\n\
    audit-id: 5d2c1f86-7b5c-4a0b-9f3c-1d6d9b8c7a11\r\n\
    cache-control: no-cache, private\r\n\
    content-type: application/json\r\n\
    date: Thu, 01 Jan 2026 00:00:00 GMT\r\n\
    x-kubernetes-pf-flowschema-uid: 1f1e4ad1-2f2b-4a1e-9d57-0d2b8b0f4a22\r\n\
    x-kubernetes-pf-prioritylevel-uid: 9a3f5c77-0d3a-4b7e-8c1d-5e6f7a8b9c33\r\n\
    content-length: 82\r\n\r\n";

const BODY: &[u8] = br#"{"kind":"PodList","apiVersion":"v1","metadata":{"resourceVersion":"1"},"items":[]}"#;
