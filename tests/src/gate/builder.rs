//! What a gate is given before it starts: its configuration, its files, its plug-ins.

use std::collections::BTreeMap;
use std::env;
use std::fs::{self, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use super::Gate;
use crate::artifacts;
use crate::authority::{Authority, HTTP2_AND_HTTP1, client_tls};
use crate::cluster::Cluster;
use crate::plugin_folder::{Plugin, PluginFolder};
use crate::process::{Ended, Process};
use crate::secrets;
use crate::waiting::SOON;

/// The people of the token file: name and group.
const PEOPLE: [(&str, &str); 2] = [("jane", "group:default/developers"), ("john", "group:default/readers")];

/// A gate that is not yet started.
pub struct GateBuilder {
    folder: TempDir,
    plugins: PluginFolder,
    tokens: BTreeMap<String, String>,
    clusters: Vec<Value>,
    locators: Vec<Value>,
    configuration: Map<String, Value>,
    environment: Vec<(String, String)>,
    has_own_hosts: bool,
    client_tls: Option<Arc<ClientConfig>>,
    log_level: &'static str,
    starts_within: Duration,
}

impl GateBuilder {
    pub(super) fn new() -> Self {
        let folder = TempDir::with_prefix("witgate-test-").unwrap();
        let plugins = PluginFolder::create(folder.path().join("policies"));
        plugins.put(&Plugin::policy("allow-all"));
        let tokens: BTreeMap<_, _> =
            PEOPLE.map(|(name, _)| (name.to_owned(), secrets::secret(&format!("caller token of {name}")))).into();
        let builder = Self {
            folder,
            plugins,
            tokens,
            clusters: Vec::new(),
            locators: Vec::new(),
            configuration: Map::new(),
            environment: Vec::new(),
            has_own_hosts: false,
            client_tls: None,
            log_level: "trace",
            starts_within: SOON,
        };
        let people: Vec<_> = PEOPLE
            .iter()
            .map(|(name, group)| {
                json!({ "token": builder.tokens.get(*name), "user": format!("user:default/{name}"), "groups": [group] })
            })
            .collect();
        builder
            .file("tokens.yaml", &Value::from(people).to_string()) // JSON is YAML
            .set("listen", "127.0.0.1:0")
            .set("admin", "127.0.0.1:0")
            .set("authentication", json!([{ "tokenFile": "tokens.yaml" }]))
            .set("decisionLog", json!({ "file": "-" }))
            .set("plugins", json!({ "directory": "policies", "cacheDirectory": artifacts::plugin_cache() }))
    }

    /// Adds a cluster to the locator `config`.
    #[must_use]
    pub fn cluster(mut self, cluster: Cluster) -> Self {
        self.clusters.push(cluster.into_value());
        self
    }

    /// Adds a locator after the locator `config`.
    #[must_use]
    pub fn locator(mut self, locator: Value) -> Self {
        self.locators.push(locator);
        self
    }

    /// Adds one of the policies of `guests/policies` to the plug-in folder.
    #[must_use]
    pub fn policy(self, name: &str) -> Self {
        self.plugin(Plugin::policy(name))
    }

    /// Adds a plug-in to the plug-in folder.
    #[must_use]
    pub fn plugin(self, plugin: Plugin) -> Self {
        self.plugins.put(&plugin);
        self
    }

    /// Takes the policy `allow-all` away.
    #[must_use]
    pub fn without_allow_all(self) -> Self {
        self.plugins.remove("allow-all");
        self
    }

    /// Sets a top-level key of the configuration.
    #[must_use]
    pub fn set(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.configuration.insert(key.into(), value.into());
        self
    }

    /// Sets a key of a key of the configuration.
    #[must_use]
    pub fn set_in(mut self, section: &str, key: &str, value: impl Into<Value>) -> Self {
        let section = self.configuration.get_mut(section).and_then(Value::as_object_mut);
        section.expect("the section was set").insert(key.to_owned(), value.into());
        self
    }

    /// Takes a top-level key out of the configuration.
    #[must_use]
    pub fn unset(mut self, key: &str) -> Self {
        self.configuration.remove(key);
        self
    }

    /// Writes a file beside the configuration.
    #[must_use]
    pub fn file(self, name: &str, text: &str) -> Self {
        let path = self.folder.path().join(name);
        fs::write(&path, text).unwrap();
        // The gate complains about a token file that everybody can read.
        fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
        self
    }

    /// Logs less than everything: for measurements, which the log would slow down.
    #[must_use]
    pub fn log_level(mut self, level: &'static str) -> Self {
        self.log_level = level;
        self
    }

    /// Starts within this time: a large component with settings is compiled at each start.
    #[must_use]
    pub fn starts_within(mut self, limit: Duration) -> Self {
        self.starts_within = limit;
        self
    }

    /// Sets a variable of the gate's environment.
    #[must_use]
    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Lets the gate, and nobody else, resolve names by this text instead of the machine's `/etc/hosts`. It is the file
    /// `hosts` of its folder, and read at each lookup.
    ///
    /// # Errors
    /// Where the machine does not let a process have a mount of its own.
    pub fn own_hosts(self, text: &str) -> Result<Self, String> {
        let mut builder = self.file("hosts", text);
        builder.has_own_hosts = true;
        let tried =
            builder.with_own_hosts(Path::new("true")).output().map_err(|error| format!("`unshare`: {error}"))?;
        if tried.status.success() { Ok(builder) } else { Err(String::from_utf8_lossy(&tried.stderr).into_owned()) }
    }

    /// A command that runs `program` with arguments that are still to come, in a mount namespace of its own.
    fn with_own_hosts(&self, program: &Path) -> Command {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "--", "sh", "-c"]);
        command
            .args([r#"mount --bind "$0" /etc/hosts && exec "$@""#])
            .arg(self.folder.path().join("hosts"))
            .arg(program);
        command
    }

    /// Listens with TLS, with a certificate of `authority`; takes client certificates of `clients_of`, if given.
    #[must_use]
    pub fn tls(mut self, authority: &Authority, clients_of: Option<&Authority>) -> Self {
        let server = authority.server();
        let mut tls = json!({ "certFile": "tls.crt", "keyFile": "tls.key" });
        let mut builder = self;
        if let Some(clients_of) = clients_of {
            tls = json!({ "certFile": "tls.crt", "keyFile": "tls.key", "clientCaFile": "clients.crt" });
            builder = builder.file("clients.crt", &clients_of.pem());
        }
        self = builder.file("tls.crt", &server.certificate_pem()).file("tls.key", &server.key_pem()).set("tls", tls);
        self.client_tls = Some(client_tls(authority, None, &HTTP2_AND_HTTP1));
        self
    }

    /// The folder of the configuration.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Starts the gate and waits until it serves.
    pub async fn start(self) -> Gate {
        let first_cluster = self.clusters.first().and_then(|cluster| cluster.get("name")).and_then(Value::as_str);
        let first_cluster = first_cluster.map(str::to_owned);
        let mut command = self.command("serve");
        command.args(["--log-format", "json", "--log-level", self.log_level]);
        let process = Process::start(&mut command);
        let wanted = |line: &str| listener_of(line).filter(|(listener, _)| listener == "data plane");
        let address =
            process.stderr.wait_for_within(self.starts_within, "the gate listens", 1, wanted).await.remove(0).1;
        // The admin listener is told before, where it has an address; by plain HTTP, where no more is said of it.
        let plain = self
            .configuration
            .get("admin")
            .is_some_and(|admin| admin.as_str().is_some_and(|text| !text.starts_with("unix:")));
        let wanted =
            |line: &str| listener_of(line).filter(|(listener, _)| listener == "admin").map(|(_, address)| address);
        let admin =
            if plain { Some(process.stderr.wait_for("the admin listener", 1, wanted).await.remove(0)) } else { None };
        let gate = Gate {
            address,
            admin,
            process,
            folder: self.folder,
            plugins: self.plugins,
            tokens: self.tokens,
            client_tls: self.client_tls,
            first_cluster,
        };
        if plain {
            assert_eq!(gate.admin().get("/readyz").await.status(), 200, "a gate that listens is ready");
        }
        gate
    }

    /// Starts a gate that must refuse to start.
    pub async fn refused_start(self) -> Ended {
        self.run("serve").await
    }

    /// Runs `witgate check`.
    pub async fn check(self) -> Ended {
        self.run("check").await
    }

    /// Runs `witgate check` with further words.
    pub async fn check_with(self, words: &[&str]) -> Ended {
        self.run_with("check", words).await
    }

    /// Runs `witgate check`, and then a start that must be refused.
    pub async fn check_and_refused_start(self) -> (Ended, Ended) {
        (self.run("check").await, self.run("serve").await)
    }

    /// Runs a subcommand to its end; in its texts, the configuration's folder is called `DIR`.
    async fn run(&self, subcommand: &str) -> Ended {
        self.run_with(subcommand, &[]).await
    }

    async fn run_with(&self, subcommand: &str, words: &[&str]) -> Ended {
        let ended = Process::run(self.command(subcommand).args(words)).await;
        let folder = self.folder.path().to_str().expect("the folder's name is text");
        let named = |text: &str| text.replace(folder, "DIR");
        let ended = Ended { stdout: named(&ended.stdout), stderr: named(&ended.stderr), ..ended };
        secrets::assert_none_in(&format!("the output of `witgate {subcommand}`"), &ended.stdout);
        secrets::assert_none_in(&format!("the errors of `witgate {subcommand}`"), &ended.stderr);
        ended
    }

    /// The command line, once the configuration is written.
    fn command(&self, subcommand: &str) -> Command {
        let mut locators = vec![json!({ "type": "config", "clusters": self.clusters })];
        locators.extend(self.locators.iter().cloned());
        let mut configuration = self.configuration.clone();
        configuration.entry("kubernetes").or_insert_with(|| json!({ "clusterLocatorMethods": locators }));
        let file = self.folder.path().join("witgate.yaml");
        fs::write(&file, serde_json::to_string_pretty(&configuration).unwrap()).unwrap(); // JSON is YAML
        let witgate = artifacts::witgate();
        let mut command = if self.has_own_hosts { self.with_own_hosts(&witgate) } else { Command::new(witgate) };
        command.arg(subcommand).arg("--config").arg(file);
        let cloud = |name: &str| name.starts_with("AWS_") || name.starts_with("AZURE_");
        let clouds = env::vars_os().map(|(name, _)| name).filter(|name| name.to_str().is_some_and(cloud));
        let others = ["KUBECONFIG", "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT", "WITGATE_LOG"];
        for inherited in clouds.chain(others.map(Into::into)) {
            command.env_remove(inherited);
        }
        command.envs(self.environment.iter().cloned());
        command
    }
}

/// Listener and address of the log event that tells them.
pub(super) fn listener_of(line: &str) -> Option<(String, SocketAddr)> {
    let event: Value = serde_json::from_str(line).ok()?;
    let field = |name: &str| event.get(name)?.as_str();
    if field("message")? != "listening" {
        return None;
    }
    Some((field("listener")?.to_owned(), field("address")?.parse().ok()?))
}
