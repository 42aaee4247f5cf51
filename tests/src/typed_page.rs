//! A page of the documentation, and a newcomer's terminal in which its commands are typed.

use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::artifacts;

/// A page in Markdown.
pub struct Page(String);

impl Page {
    /// The page at this path of the repository.
    pub fn read(path: &str) -> Self {
        Self(fs::read_to_string(artifacts::repository().join(path)).unwrap())
    }

    /// Its blocks of one language, such as `sh`, in their order.
    pub fn blocks(&self, language: &str) -> Vec<&str> {
        let opening = format!("```{language}\n");
        self.0.split(&opening).skip(1).map(|rest| rest.split("\n```").next().unwrap()).collect()
    }

    /// Whether this text stands in it.
    pub fn says(&self, text: &str) -> bool {
        self.0.contains(text)
    }
}

/// A terminal of a newcomer's, with the tested `witgate` on its PATH.
pub struct Terminal(TempDir);

impl Default for Terminal {
    fn default() -> Self {
        Self::new()
    }
}

impl Terminal {
    /// In a home that is empty.
    pub fn new() -> Self {
        Self(TempDir::with_prefix("witgate-first-").unwrap())
    }

    /// Where all of its folders are.
    pub fn home(&self) -> &Path {
        self.0.path()
    }

    /// What is typed, lines or a script, in a folder of the home. The first line that fails ends it.
    pub fn command(&self, folder: &str, typed: &str) -> Command {
        let witgate = artifacts::witgate();
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders = witgate.parent().map(ToOwned::to_owned).into_iter().chain(std::env::split_paths(&path));
        let mut shell = Command::new("sh");
        shell.args(["-ec", typed]).current_dir(self.home().join(folder));
        shell.env("PATH", std::env::join_paths(folders).unwrap()).env("KUBECACHEDIR", self.home().join("cache"));
        shell.env("WITGATE_CACHE_DIRECTORY", artifacts::plugin_cache());
        shell
    }
}
