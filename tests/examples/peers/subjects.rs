//! What is compared: the gate in several configurations, nginx, kubectl proxy, and the API server's stand-in itself.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::json;
use tempfile::TempDir;
use witgate_tests::authority::Authority;
use witgate_tests::cluster::Cluster;
use witgate_tests::gate::Gate;
use witgate_tests::kubectl;
use witgate_tests::plugin_folder::Plugin;
use witgate_tests::process::Process;
use witgate_tests::secrets::secret;
use witgate_tests::token_issuer::{ISSUER, TokenIssuer};

use crate::nginx::{Nginx, Upstream};

/// A pod of 2 KB.
pub(crate) const SMALL: &str = "/api/v1/namespaces/dev/pods/small";
/// A list of 13 MB.
pub(crate) const LARGE: &str = "/api/v1/namespaces/dev/configmaps";

/// Something that answers.
#[derive(Clone)]
pub(crate) struct Subject {
    origin: String,
    path: &'static str,
    headers: Vec<String>,
    pids: Vec<u32>,
}

/// Everything that runs while it is measured. Whatever is not being asked is idle.
pub(crate) struct Bench {
    /// The upstream itself, over TLS.
    pub(crate) direct: Subject,
    /// nginx as a reverse proxy, TLS on both legs, HTTP/1.1 to its upstream.
    pub(crate) nginx: Subject,
    /// The gate with one policy in a fresh instance; HTTP/2 upstream.
    pub(crate) policy: Subject,
    /// The same with HTTP/1.1 upstream.
    pub(crate) policy_http1: Subject,
    /// The gate with `permission.enabled: false`; HTTP/2 upstream.
    pub(crate) open: Subject,
    /// The same with HTTP/1.1 upstream.
    pub(crate) open_http1: Subject,
    /// The gate with a policy whose conditional decision it may reuse; HTTP/2 upstream.
    pub(crate) conditional: Subject,
    /// `kubectl proxy`, where kubectl is on the machine: plain HTTP on the client's leg, for it has no TLS there.
    pub(crate) kubectl: Option<Subject>,
    _gates: Vec<Gate>,
    _nginx: Nginx,
    _upstream: Upstream,
    _kubectl: Option<(Process, TempDir)>,
    _documents: TempDir,
}

impl Subject {
    fn new(origin: String, headers: &[String], pids: Vec<u32>) -> Self {
        Self { origin, path: SMALL, headers: headers.to_vec(), pids }
    }

    /// The same, asked for another document.
    pub(crate) fn asking(&self, path: &'static str) -> Self {
        Self { path, ..self.clone() }
    }

    pub(crate) fn url(&self) -> String {
        format!("{}{}", self.origin, self.path)
    }

    pub(crate) fn headers(&self) -> &[String] {
        &self.headers
    }

    pub(crate) fn pids(&self) -> &[u32] {
        &self.pids
    }
}

impl Bench {
    pub(crate) async fn start() -> Self {
        let authority = Authority::new("bench");
        let documents = documents();
        let upstream = Upstream::start(&authority, documents.path()).await;
        let token = secret("service-account token of the bench");
        let (nginx, nginx_port) = Nginx::proxy(&authority, &upstream, &token).await;
        let issuer = TokenIssuer::new("bench");
        let caller = [format!("authorization: Bearer {}", issuer.token("user:default/jane", json!({})))];

        let mut gates = Vec::new();
        let (http2, http1) = (upstream.port, upstream.port_http1);
        for (port, policy) in [
            (http2, Policy::Tenancy),
            (http1, Policy::Tenancy),
            (http2, Policy::Off),
            (http1, Policy::Off),
            (http2, Policy::Conditional),
        ] {
            let cluster = Cluster::at_url("one", &format!("https://localhost:{port}"), "serviceAccount")
                .ca_data(&authority.pem())
                .service_account_token(&token);
            gates.push(gate(&authority, &issuer, cluster, policy).await);
        }
        let subjects: Vec<_> = gates
            .iter()
            .map(|gate| {
                let origin = format!("https://127.0.0.1:{}/k8s/clusters/one", gate.address().port());
                Subject::new(origin, &caller, vec![gate.process().pid()])
            })
            .collect();
        let Ok([policy, policy_http1, open, open_http1, conditional]) = <[Subject; 5]>::try_from(subjects) else {
            unreachable!("as many as were started")
        };
        let kubectl = kubectl_proxy(&authority, upstream.port, &token).await;
        let local = |port: u16| format!("https://127.0.0.1:{port}");
        Self {
            direct: Subject::new(local(http2), &[], upstream.nginx.pids()),
            nginx: Subject::new(local(nginx_port), &[], nginx.pids()),
            policy,
            policy_http1,
            open,
            open_http1,
            conditional,
            kubectl: kubectl.as_ref().map(|(_, _, subject)| subject.clone()),
            _gates: gates,
            _nginx: nginx,
            _upstream: upstream,
            _kubectl: kubectl.map(|(process, folder, _)| (process, folder)),
            _documents: documents,
        }
    }
}

/// Which policy judges.
enum Policy {
    /// None is asked.
    Off,
    /// `namespace-tenancy`, with a rule that fits among others.
    Tenancy,
    /// A fixture that says: read what you like in the namespace `dev`, and ask me again in a minute.
    Conditional,
}

async fn gate(authority: &Authority, issuer: &TokenIssuer, cluster: Cluster, policy: Policy) -> Gate {
    let builder = Gate::without_clusters()
        .without_allow_all()
        .cluster(cluster)
        .tls(authority, None)
        .file("jwks.json", &issuer.jwks())
        .set(
            "authentication",
            json!([{ "jwt": { "issuer": ISSUER, "audiences": ["backstage"], "jwksFile": "jwks.json" } }]),
        )
        .set("decisionLog", json!({ "file": "decisions.log" }))
        .log_level("info");
    let builder = match policy {
        Policy::Off => builder.set("permission", json!({ "enabled": false })),
        Policy::Tenancy => {
            let others = (0..20).map(|number| {
                json!({ "groups": [format!("group:default/team-{number}")],
                "clusters": ["staging-*"], "namespaces": [format!("team-{number}")], "actions": ["read", "write"] })
            });
            let ours = json!({ "groups": ["group:default/developers"], "clusters": ["*"], "namespaces": ["dev"],
                "actions": ["read"] });
            let tenants: Vec<_> = others.chain([ours]).collect();
            builder.plugin(Plugin::policy("namespace-tenancy").sidecar(json!({ "settings": { "tenants": tenants } })))
        }
        Policy::Conditional => builder.plugin(Plugin::fixture("conditional").sidecar(json!({ "settings": {
            "anyOf": [[{ "rule": "IS_NAMESPACE", "params": { "namespaces": ["dev"] } }]], "reusableFor": 60,
        } }))),
    };
    builder.start().await
}

/// `kubectl proxy` to the upstream, its files and itself as a subject; none where there is no kubectl.
async fn kubectl_proxy(authority: &Authority, port: u16, token: &str) -> Option<(Process, TempDir, Subject)> {
    kubectl::present().ok()?;
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    file("ca.crt", &authority.pem());
    let configuration = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "up",
        "clusters": [{ "name": "up", "cluster": {
            "server": format!("https://localhost:{port}"), "certificate-authority": folder.path().join("ca.crt"),
        } }],
        "users": [{ "name": "up", "user": { "token": token } }],
        "contexts": [{ "name": "up", "context": { "cluster": "up", "user": "up" } }],
    });
    file("config", &configuration.to_string());
    let mut command = Command::new("kubectl");
    command.args(["proxy", "--port=0", "--kubeconfig"]).arg(folder.path().join("config"));
    let process = Process::start(&mut command);
    let address = |line: &str| line.strip_prefix("Starting to serve on ").map(|address| address.trim().to_owned());
    let address = process.stdout.wait_for("kubectl proxy listens", 1, address).await.remove(0);
    let subject = Subject::new(format!("http://{address}"), &[], vec![process.pid()]);
    Some((process, folder, subject))
}

/// What the upstream serves.
fn documents() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let file = |path: &str, text: String| {
        let path = folder.path().join(path.trim_start_matches('/'));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    let pod = json!({ "kind": "Pod", "apiVersion": "v1", "metadata": { "name": "small", "namespace": "dev",
        "annotations": { "text": "x".repeat(1_880) } } });
    file(SMALL, pod.to_string());
    let item = json!({ "metadata": { "name": "one", "namespace": "dev" }, "data": { "text": "x".repeat(2_500) } });
    let list = json!({ "kind": "ConfigMapList", "apiVersion": "v1", "metadata": {}, "items": vec![item; 5_000] });
    file(LARGE, list.to_string());
    folder
}

/// Whether a program can be started.
pub(crate) fn is_there(program: &str) -> bool {
    let started = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    started.is_ok() || Path::new("/usr/sbin").join(program).exists()
}
