//! Where an author works: a folder with components and files, and `witgate plugin` started in it.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::artifacts;
use crate::process::{Ended, Process};

/// How long a command may take: where nothing is cached yet, it compiles a large component first, in a debug build.
const COMPILED: Duration = Duration::from_secs(300);

/// A folder of an author's.
#[derive(Debug)]
pub struct AuthorDesk(TempDir);

impl Default for AuthorDesk {
    fn default() -> Self {
        Self::new()
    }
}

impl AuthorDesk {
    /// An empty one.
    pub fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// With a compiled guest, such as `policies/read-only`, in the folder itself.
    #[must_use]
    pub fn guest(self, kind_and_name: &str) -> Self {
        let path = artifacts::guest(kind_and_name);
        fs::copy(&path, self.path().join(path.file_name().unwrap())).unwrap();
        self
    }

    /// With a file.
    #[must_use]
    pub fn file(self, name: &str, text: &str) -> Self {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self
    }

    /// With the sidecar of a component; calls have a long time, as the machine may be busy elsewhere.
    #[must_use]
    pub fn sidecar(self, name: &str, sidecar: &Value) -> Self {
        let mut whole = serde_json::json!({ "limits": { "deadlineMs": 2000 } });
        whole.as_object_mut().unwrap().extend(sidecar.as_object().unwrap().clone());
        self.file(&format!("{name}.yaml"), &whole.to_string())
    }

    /// What a file holds.
    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path().join(name)).unwrap()
    }

    /// Runs `witgate plugin` with these words to its end.
    pub async fn plugin(&self, words: &[&str]) -> Ended {
        Process::start(&mut self.command(words)).ended_within(COMPILED).await
    }

    /// The same, with something on its standard input.
    pub async fn plugin_with_input(&self, words: &[&str], input: &str) -> Ended {
        let (process, mut stdin) = Process::start_with_input(&mut self.command(words));
        stdin.write_all(input.as_bytes()).unwrap();
        drop(stdin);
        process.ended_within(COMPILED).await
    }

    /// `witgate plugin` with these words, not started yet.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(artifacts::witgate());
        command.arg("plugin").args(words).current_dir(self.path());
        // Compiled once for all tests.
        command.env("WITGATE_CACHE_DIRECTORY", cache());
        command
    }
}

fn cache() -> PathBuf {
    artifacts::plugin_cache()
}
