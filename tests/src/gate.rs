//! The gate itself: the real binary, started on free ports with a configuration of the test's own.

mod builder;

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use serde_json::Value;
use tempfile::TempDir;

pub use builder::GateBuilder;

use crate::api_server::ApiServer;
use crate::client::{Answer, Client};
use crate::cluster::Cluster;
use crate::metrics::Metrics;
use crate::plugin_folder::PluginFolder;
use crate::process::Process;
use crate::raw_client::RawClient;
use crate::secrets;
use crate::waiting::until;

/// A running gate. When it goes, its output and what its admin listener tells are searched for every secret of the run.
pub struct Gate {
    process: Process,
    folder: TempDir,
    plugins: PluginFolder,
    tokens: BTreeMap<String, String>,
    address: SocketAddr,
    /// None where it does not listen by plain HTTP on an address.
    admin: Option<SocketAddr>,
    client_tls: Option<Arc<ClientConfig>>,
    first_cluster: Option<String>,
}

impl Gate {
    /// A gate with one cluster, `one`, whose API server gets a service-account token, and the policy `allow-all`.
    pub fn builder(api_server: &ApiServer) -> GateBuilder {
        let token = secrets::secret("service-account token of cluster `one`");
        let cluster = Cluster::at("one", api_server, "serviceAccount").service_account_token(&token);
        GateBuilder::new().cluster(cluster)
    }

    /// A gate without clusters, with the policy `allow-all`.
    pub fn without_clusters() -> GateBuilder {
        GateBuilder::new()
    }

    /// A caller of the data plane without credentials; its paths are the gate's own.
    pub fn client(&self) -> Client {
        Client::new(self.address, self.client_tls.clone())
    }

    /// One of the people of the token file; its paths are the gate's own.
    #[track_caller]
    pub fn caller(&self, name: &str) -> Client {
        self.client().with_token(self.token_of(name))
    }

    /// One of the people of the token file, asking the first cluster through Backstage's proxy.
    #[track_caller]
    pub fn client_as(&self, name: &str) -> Client {
        let cluster = self.first_cluster.as_deref().expect("the gate has a cluster");
        self.caller(name).backstage(cluster)
    }

    /// The caller token of one of the people: `jane` or `john`.
    #[track_caller]
    pub fn token_of(&self, name: &str) -> &str {
        self.tokens.get(name).unwrap_or_else(|| panic!("nobody called `{name}` has a token"))
    }

    /// A connection to the data plane on which the test writes its own bytes.
    pub async fn raw_client(&self) -> RawClient {
        RawClient::connect(self.address).await
    }

    /// A client of the admin listener.
    pub fn admin(&self) -> Client {
        Client::new(self.admin_address(), None)
    }

    /// Where the admin routes listen.
    #[track_caller]
    pub fn admin_address(&self) -> SocketAddr {
        self.admin.expect("the admin routes have an address")
    }

    /// Where a listener listens, as the log tells it.
    pub async fn listener_address(&self, listener: &str) -> SocketAddr {
        let wanted = |line: &str| builder::listener_of(line).filter(|(name, _)| name == listener);
        self.process.stderr.wait_for("the listener's address", 1, wanted).await.remove(0).1
    }

    /// What `/metrics` says.
    pub async fn metrics(&self) -> Metrics {
        let answer = self.admin().get("/metrics").await;
        assert_eq!(answer.status(), 200, "{}", answer.body());
        secrets::assert_none_in("/metrics", answer.body());
        Metrics::parse(answer.body())
    }

    /// The last decisions, as `/decisions` tells them.
    pub async fn recent_decisions(&self, query: &str) -> Vec<Value> {
        let answer = self.admin().get(&format!("/decisions?{query}")).await;
        assert_eq!(answer.status(), 200, "{}", answer.body());
        secrets::assert_none_in("/decisions", answer.body());
        answer.json().get("decisions").and_then(Value::as_array).expect("a list").clone()
    }

    /// What `/status` says.
    pub async fn status(&self) -> Value {
        let answer: Answer = self.admin().get("/status").await;
        assert_eq!(answer.status(), 200, "{}", answer.body());
        secrets::assert_none_in("/status", answer.body());
        answer.json()
    }

    /// Waits until `/status` is as `wanted` says, and gives it.
    pub async fn status_when(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let wanted = &wanted;
        until(what, || async move {
            let status = self.status().await;
            wanted(&status).then_some(status)
        })
        .await
    }

    /// Where the data plane listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The folder of its configuration.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Changes its configuration's file, at once.
    pub fn edit_configuration(&self, edit: impl FnOnce(&mut Value)) {
        let file = self.folder().join("witgate.yaml");
        let mut configuration = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        edit(&mut configuration);
        self.write_configuration(&serde_json::to_string_pretty(&configuration).unwrap());
    }

    /// Replaces its configuration's file, at once.
    pub fn write_configuration(&self, text: &str) {
        let new = self.folder().join(".witgate.yaml.new");
        fs::write(&new, text).unwrap();
        fs::rename(new, self.folder().join("witgate.yaml")).unwrap();
    }

    /// Its plug-in folder.
    pub fn plugins(&self) -> &PluginFolder {
        &self.plugins
    }

    /// The decision log's lines so far.
    pub fn decisions(&self) -> Vec<Value> {
        self.process.stdout.json_lines()
    }

    /// Waits for `count` lines of the decision log about the decision that `answer` names.
    pub async fn decisions_of(&self, answer_id: &str, count: usize) -> Vec<Value> {
        let of_answer = |line: &Value| line.get("id").and_then(Value::as_str) == Some(answer_id);
        self.process.stdout.wait_for_json("a line of the decision log", count, of_answer).await
    }

    /// Waits for the one line of the decision log about `answer`.
    pub async fn decision_of(&self, answer: &Answer) -> Value {
        self.decisions_of(answer.decision_id(), 1).await.remove(0)
    }

    /// Waits for a log line, of any level, that holds `text`.
    pub async fn log_line_with(&self, text: &str) -> String {
        let wanted = |line: &str| line.contains(text).then(|| line.to_owned());
        self.process.stderr.wait_for(&format!("a log line with `{text}`"), 1, wanted).await.remove(0)
    }

    /// All of the log so far.
    pub fn log(&self) -> String {
        self.process.stderr.text()
    }

    /// The memory that the process holds, in KiB.
    pub fn memory_kib(&self) -> u64 {
        self.process.memory_kib("VmRSS")
    }

    /// The gate's process.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Sends SIGTERM.
    pub fn terminate(&self) {
        self.process.terminate();
    }

    /// Waits for the process to end of itself.
    pub async fn exit_status(&self) -> ExitStatus {
        self.process.exit_status().await
    }

    /// Sends SIGTERM and waits for the end.
    pub async fn stop_gracefully(self) -> ExitStatus {
        self.terminate();
        self.exit_status().await
    }

    /// What an admin route tells, without a runtime, for the end.
    fn last_words(&self, admin: SocketAddr, path: &str) -> std::io::Result<String> {
        let limit = Duration::from_secs(5);
        let mut stream = TcpStream::connect_timeout(&admin, limit)?;
        stream.set_read_timeout(Some(limit))?;
        write!(stream, "GET {path} HTTP/1.1\r\nhost: {admin}\r\nconnection: close\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        let admin = self.admin.filter(|_| !self.process.has_ended());
        let told = admin.map(|admin| TOLD.map(|path| (path, self.last_words(admin, path))));
        self.process.kill();
        let log = self.process.stderr.text();
        if std::thread::panicking() {
            let told = log.lines().filter(|line| line.contains(r#""target":"witgate"#));
            let last: Vec<_> = told.rev().take(40).collect();
            eprintln!("the gate's last log lines, newest first:\n{}", last.join("\n"));
            return; // a second panic would hide the first
        }
        secrets::assert_none_in("the log", &log);
        secrets::assert_none_in("the decision log", &self.process.stdout.text());
        for (path, told) in told.into_iter().flatten() {
            secrets::assert_none_in(path, &told.expect("a gate that runs tells of itself"));
        }
    }
}

/// What of the admin listener is searched at the end.
const TOLD: [&str; 3] = ["/status", "/metrics", "/decisions?limit=1000"];
