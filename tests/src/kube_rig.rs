//! A real kube-apiserver, where its rig is on the machine: one for all tests of the process.

mod tar;

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use serde_json::Value;

use crate::artifacts;
use crate::cluster::Cluster;
use crate::secrets;

/// How many configmaps stand in the namespace `big`.
pub const BIG_COUNT: usize = 5000;

/// How many ports in a row the rig takes.
const PORTS: u16 = 5;

/// A running rig.
pub struct KubeRig {
    variables: BTreeMap<String, String>,
    containers_have_tar: Result<(), &'static str>,
    /// Ends the rig when its standard input does, however this process ends.
    _watchdog: Child,
}

/// The rig of this process, started by the first test that asks, or why there is none. A test without one passes
/// and says so: the rig takes minutes to build, and everything else must be testable without it.
pub fn shared() -> Result<&'static KubeRig, &'static str> {
    static SHARED: OnceLock<Result<KubeRig, String>> = OnceLock::new();
    SHARED.get_or_init(KubeRig::start).as_ref().map_err(String::as_str)
}

impl KubeRig {
    #[expect(clippy::zombie_processes, reason = "the watchdog outlives this process: that is what it is for")]
    fn start() -> Result<Self, String> {
        let home = home();
        for binary in ["out/kube-apiserver", "root/usr/bin/etcd"] {
            if !home.join(binary).is_file() {
                return Err(format!("there is no {binary} in {}, which KUBE_RIG_HOME names", home.display()));
            }
        }
        let beside = artifacts::repository().join("../shared/kube-rig/rig");
        let scripts = [home.join("rig"), beside];
        let script = scripts.into_iter().find(|script| script.is_file()).ok_or("there is no `rig` script")?;
        let folder = tempfile::TempDir::with_prefix("witgate-kube-rig-").unwrap().keep();
        let watchdog = watchdog(&script, &folder);
        let kubelet = tar::kubelet_with_tar(&script, &folder);
        let mut complaints = String::new();
        for port in free_ports().take(5) {
            let mut command = Command::new(&script);
            if let Ok(kubelet) = &kubelet {
                command.env("FAKE_KUBELET", kubelet);
            }
            let started = command
                .args(["start", "--audit", "--big", &BIG_COUNT.to_string(), "-p", &port.to_string(), "-d"])
                .arg(&folder)
                .env("KUBE_RIG_HOME", &home)
                .stdin(Stdio::null())
                .output()
                .unwrap();
            if started.status.success() {
                let variables = variables(&String::from_utf8(started.stdout).unwrap());
                for name in variables.keys().filter(|name| name.starts_with("RIG_TOKEN_")) {
                    secrets::register(name, variables.get(name).expect("just listed"));
                }
                return Ok(Self { variables, containers_have_tar: kubelet.map(|_| ()), _watchdog: watchdog });
            }
            complaints.push_str(&String::from_utf8_lossy(&started.stderr));
            if !complaints.contains("is taken") {
                break;
            }
        }
        panic!("the rig is here and does not start:\n{complaints}");
    }

    /// The API server's URL.
    pub fn url(&self) -> &str {
        self.variable("RIG_SERVER")
    }

    /// What its certificate chains to.
    pub fn certificate_authority(&self) -> String {
        fs::read_to_string(self.variable("RIG_CA")).unwrap()
    }

    /// The authority whose client certificates it takes: certificate and key.
    pub fn client_authority(&self) -> (String, String) {
        let certificate = Path::new(self.variable("RIG_CLIENT_CA"));
        let read = |path: &Path| fs::read_to_string(path).unwrap();
        (read(certificate), read(&certificate.with_extension("key")))
    }

    /// The token of one of its users: `admin`, `alice`, `robot`, `gateway` or `nobody`.
    pub fn token_of(&self, user: &str) -> &str {
        self.variable(&format!("RIG_TOKEN_{}", user.to_uppercase()))
    }

    /// The cluster `rig` for a gate, with the token of `user` as its service account's.
    pub fn cluster_as(&self, user: &str) -> Cluster {
        Cluster::at_url("rig", self.url(), "serviceAccount")
            .ca_data(&self.certificate_authority())
            .service_account_token(self.token_of(user))
    }

    /// The audit events whose URI contains `part`, as the API server wrote them.
    pub fn audit_events(&self, part: &str) -> Vec<Value> {
        let log = fs::read_to_string(Path::new(self.variable("RIG_LOGS")).join("audit.jsonl")).unwrap();
        let events = log.lines().filter(|line| line.contains(part)).filter_map(|line| serde_json::from_str(line).ok());
        events.filter(|event: &Value| event["requestURI"].as_str().is_some_and(|uri| uri.contains(part))).collect()
    }

    /// What the fake kubelet says of the streams whose request contains `part`: method, target and protocol of each.
    pub fn kubelet_streams(&self, part: &str) -> Vec<String> {
        let log = fs::read_to_string(Path::new(self.variable("RIG_LOGS")).join("fake-kubelet.log")).unwrap();
        log.lines().filter(|line| line.contains(" UPGRADE ") && line.contains(part)).map(str::to_owned).collect()
    }

    /// Whether its containers have the `tar` that `kubectl cp` asks for, or why not.
    pub fn containers_have_tar(&self) -> Result<(), &'static str> {
        self.containers_have_tar
    }

    /// The file that it names so: `RIG_CERT_BOB` is bob's certificate.
    pub fn file_of(&self, name: &str) -> String {
        fs::read_to_string(self.variable(name)).unwrap()
    }

    fn variable(&self, name: &str) -> &str {
        self.variables.get(name).unwrap_or_else(|| panic!("the rig names no {name}"))
    }
}

/// Where the rig's binaries are.
fn home() -> PathBuf {
    if let Some(home) = std::env::var_os("KUBE_RIG_HOME") {
        return home.into();
    }
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .map_or_else(|| PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache"), PathBuf::from);
    cache.join("kube-rig")
}

/// A process that outlives this one long enough to stop the rig: nothing runs at the end of a test process, a pipe
/// closes by itself.
fn watchdog(script: &Path, folder: &Path) -> Child {
    Command::new("setsid")
        .args(["sh", "-c", r#"cat > /dev/null; "$1" stop -d "$2"; rm -rf "$2""#, "kube-rig-watchdog"])
        .args([script, folder])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("`setsid` and `sh` are part of every Linux")
}

/// First ports of rows that were free a moment ago, below the range from which the kernel gives ports out.
fn free_ports() -> impl Iterator<Item = u16> {
    let start = 15_000 + (std::process::id() % 2_500) as u16 * PORTS;
    let rows = (start..32_000).step_by(usize::from(PORTS)).chain((10_000..start).step_by(usize::from(PORTS)));
    rows.filter(|first| (*first..first + PORTS).all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok()))
}

fn variables(text: &str) -> BTreeMap<String, String> {
    text.lines().filter_map(|line| line.split_once('=')).map(|(name, value)| (name.into(), value.into())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authority::client_tls_trusting_pem;
    use crate::client::Client;

    /// Goal: the rig starts and answers whoever the harness says it answers.
    #[tokio::test]
    async fn the_rig_serves_its_users() {
        let rig = match shared() {
            Ok(rig) => rig,
            Err(why) => return println!("skipped: {why}"),
        };
        let address = rig.url().strip_prefix("https://").unwrap().parse().unwrap();
        let tls = client_tls_trusting_pem(&rig.certificate_authority(), &["h2"]);

        let robot = Client::new(address, Some(tls)).with_token(rig.token_of("robot"));
        let answer = robot.get("/api/v1/namespaces/big/configmaps?limit=1").await;

        assert_eq!(answer.status(), 200, "{}", answer.body());
    }
}
