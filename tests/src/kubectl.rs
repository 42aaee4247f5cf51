//! Real kubectl, where it is on the machine.

use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command};

use serde_json::json;
use tempfile::TempDir;

use crate::process::{Ended, Process};

/// kubectl with one cluster and one user. It has a home of its own, so that nothing of the machine's user counts.
pub struct Kubectl {
    home: TempDir,
    environment: Vec<(&'static str, &'static str)>,
}

/// How kubectl carries streams: `exec`, `attach`, `cp` and `port-forward`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Transport {
    /// WebSocket, by GET; with SPDY after a refusal.
    WebSocket,
    /// SPDY/3.1, by POST.
    Spdy,
}

impl Kubectl {
    /// kubectl for the API server at `url`, trusting `certificate_authority` and showing `token`; an error where there
    /// is none.
    pub fn new(url: &str, certificate_authority: &str, token: &str) -> Result<Self, &'static str> {
        present()?;
        let home = TempDir::with_prefix("witgate-kubectl-").unwrap();
        let ca_file = home.path().join("ca.crt");
        std::fs::write(&ca_file, certificate_authority).unwrap();
        let configuration = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "gate",
            "clusters": [{ "name": "gate", "cluster": { "server": url, "certificate-authority": ca_file } }],
            "users": [{ "name": "caller", "user": { "token": token } }],
            "contexts": [{ "name": "gate", "context": { "cluster": "gate", "user": "caller" } }],
        });
        std::fs::write(home.path().join("config"), configuration.to_string()).unwrap(); // JSON is YAML
        Ok(Self { home, environment: Vec::new() })
    }

    /// The same kubectl, told how to carry streams.
    #[must_use]
    pub fn by(mut self, transport: Transport) -> Self {
        let websockets = match transport {
            Transport::WebSocket => "true",
            Transport::Spdy => "false",
        };
        for name in ["KUBECTL_REMOTE_COMMAND_WEBSOCKETS", "KUBECTL_PORT_FORWARD_WEBSOCKETS"] {
            self.environment.push((name, websockets));
        }
        self
    }

    /// Runs it to its end.
    pub async fn run(&self, arguments: &[&str]) -> Ended {
        Process::run(&mut self.command(arguments)).await
    }

    /// Runs it; it must succeed. Gives its output.
    pub async fn succeed(&self, arguments: &[&str]) -> String {
        let ended = self.run(arguments).await;
        assert_eq!(ended.code, Some(0), "kubectl {}: {}", arguments.join(" "), ended.stderr);
        ended.stdout
    }

    /// Starts it and leaves it running.
    pub fn start(&self, arguments: &[&str]) -> Process {
        Process::start(&mut self.command(arguments))
    }

    /// Starts it; what it reads from its standard input is what the test writes.
    pub fn start_with_input(&self, arguments: &[&str]) -> (Process, ChildStdin) {
        Process::start_with_input(&mut self.command(arguments))
    }

    /// Starts it on a terminal of `columns` × `rows`, on which the test types; an error where no terminal can be had.
    /// Both of its outputs come out of the terminal.
    pub fn start_on_terminal(
        &self,
        columns: u16,
        rows: u16,
        arguments: &[&str],
    ) -> Result<(Process, ChildStdin), &'static str> {
        let version = Command::new("script").arg("--version").output();
        if !version.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains("util-linux")) {
            return Err("there is no `script` of util-linux, which makes a terminal");
        }
        let line = format!("stty columns {columns} rows {rows}; exec kubectl {}", arguments.join(" "));
        let mut command = Command::new("script");
        self.prepare(&mut command).args(["--quiet", "--return", "--command", &line, "/dev/null"]);
        Ok(Process::start_with_input(&mut command))
    }

    /// Its home, where it runs.
    pub fn folder(&self) -> PathBuf {
        self.home.path().to_owned()
    }

    /// A file for `-f`.
    pub fn file(&self, name: &str, text: &str) -> String {
        let path = self.home.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().expect("the path is text").to_owned()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("kubectl");
        self.prepare(&mut command).args(arguments);
        command
    }

    fn prepare<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        let home: &Path = self.home.path();
        command.env("HOME", home).env("KUBECONFIG", home.join("config")).current_dir(home);
        for proxy in ["HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"] {
            command.env_remove(proxy);
        }
        command.envs(self.environment.iter().copied())
    }
}

/// Whether there is a kubectl.
pub fn present() -> Result<(), &'static str> {
    let version = Command::new("kubectl").args(["version", "--client"]).output();
    if version.is_ok_and(|output| output.status.success()) { Ok(()) } else { Err("there is no kubectl") }
}
