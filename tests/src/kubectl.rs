//! Real kubectl, where it is on the machine.

use std::path::Path;
use std::process::Command;

use serde_json::json;
use tempfile::TempDir;

use crate::process::{Ended, Process};

/// kubectl with one cluster and one user. It has a home of its own, so that nothing of the machine's user counts.
pub struct Kubectl {
    home: TempDir,
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
        Ok(Self { home })
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

    /// A file for `-f`.
    pub fn file(&self, name: &str, text: &str) -> String {
        let path = self.home.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().expect("the path is text").to_owned()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let home: &Path = self.home.path();
        let mut command = Command::new("kubectl");
        command.args(arguments).env("HOME", home).env("KUBECONFIG", home.join("config")).current_dir(home);
        for proxy in ["HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"] {
            command.env_remove(proxy);
        }
        command
    }
}

/// Whether there is a kubectl.
pub fn present() -> Result<(), &'static str> {
    let version = Command::new("kubectl").args(["version", "--client"]).output();
    if version.is_ok_and(|output| output.status.success()) { Ok(()) } else { Err("there is no kubectl") }
}
