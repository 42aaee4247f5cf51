//! The author's files, watched: what is saved, and not what a toolchain or an editor leaves beside it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use notify::{EventKind, RecursiveMode, Watcher as _};
use witgate_guest_project::MANIFEST;

/// A project's folder, watched.
pub(super) struct Sources {
    directory: PathBuf,
    watched: BTreeSet<PathBuf>,
    saved: Receiver<Save>,
    watcher: notify::RecommendedWatcher,
}

/// A file that was saved.
#[derive(Debug)]
pub(super) struct Save {
    /// Which, from the project's folder.
    pub(super) file: PathBuf,
    /// When it was seen.
    pub(super) at: Instant,
}

impl Sources {
    /// Watches from now on.
    ///
    /// # Errors
    /// When the folder is not there, or the system does not watch it.
    pub(super) fn watch(directory: &Path) -> anyhow::Result<Self> {
        let directory = directory.canonicalize().with_context(|| format!("`{}` is not there", directory.display()))?;
        let (tell, saved) = mpsc::channel();
        let root = directory.clone();
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            let Ok(event) = event else { return };
            if !matches!(event.kind, EventKind::Create(_) | EventKind::Modify(_) | EventKind::Remove(_)) {
                return;
            }
            for path in event.paths {
                let file = path.strip_prefix(&root).unwrap_or(&path);
                if is_source(file) {
                    // Nobody listens once the command ends.
                    tell.send(Save { file: file.to_owned(), at: Instant::now() }).ok();
                }
            }
        })?;
        watcher.watch(&directory, RecursiveMode::NonRecursive)?;
        let mut sources = Self { directory, watched: BTreeSet::new(), saved, watcher };
        sources.watch_folders()?;
        Ok(sources)
    }

    /// What is watched.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// The next save; those that come at once are one.
    ///
    /// # Errors
    /// When the folder is no longer watched.
    pub(super) fn next(&mut self) -> anyhow::Result<Save> {
        let first = self.saved.recv().context("the folder is no longer watched")?;
        // Editors write aside and move: what is still there is what was saved.
        let mut file = first.file;
        loop {
            match self.saved.recv_timeout(QUIET) {
                Ok(later) if !self.directory.join(&file).exists() => file = later.file,
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => break,
                Err(RecvTimeoutError::Disconnected) => bail!("the folder is no longer watched"),
            }
        }
        self.watch_folders()?;
        Ok(Save { file, at: first.at })
    }

    /// The folders of sources, new ones too. What toolchains fill is not watched at all: it may be thousands of folders.
    fn watch_folders(&mut self) -> anyhow::Result<()> {
        let entries = fs::read_dir(&self.directory);
        let entries = entries.with_context(|| format!("cannot read `{}`", self.directory.display()))?;
        for entry in entries.flatten() {
            let path = entry.path();
            if path.is_dir() && is_source(Path::new(&entry.file_name())) && !self.watched.contains(&path) {
                self.watcher.watch(&path, RecursiveMode::Recursive)?;
                self.watched.insert(path);
            }
        }
        Ok(())
    }
}

/// Whether this file is the author's.
fn is_source(file: &Path) -> bool {
    let names: Vec<_> = file.iter().map(|name| name.to_string_lossy()).collect();
    let [folders @ .., last] = names.as_slice() else { return false };
    let made = |name: &str| name.starts_with('.') || name.ends_with('~') || MADE_FOLDERS.contains(&name);
    let is_made = names.iter().any(|name| made(name))
        || MADE_FILES.contains(&last.as_ref())
        || MADE_ENDINGS.iter().any(|ending| last.ends_with(ending))
        || (folders.is_empty() && is_cargos_own(last));
    !is_made
}

/// Cargo makes its folder `target` under a name such as `targetXh7Hjz`, and moves it.
fn is_cargos_own(name: &str) -> bool {
    name.strip_prefix("target")
        .is_some_and(|rest| rest.len() == 6 && rest.bytes().all(|byte| byte.is_ascii_alphanumeric()))
}

const MADE_FOLDERS: [&str; 5] = ["target", "node_modules", "__pycache__", "zig-cache", "zig-out"];
const MADE_FILES: [&str; 2] = ["Cargo.lock", MANIFEST];
const MADE_ENDINGS: [&str; 5] = [".wasm", ".new", ".swp", ".tmp", ".bak"];
/// Editors write a file in several steps.
const QUIET: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: what a build leaves does not start the next one. Method: rows of paths.
    #[test]
    fn builds_are_no_saves() {
        let sources =
            ["src/lib.rs", "deny-exec.js", "deny-exec.yaml", "deny-exec.test.yaml", "sdk/src/lib.rs", "Cargo.toml"];
        for source in sources {
            assert!(is_source(Path::new(source)), "{source}");
        }
        for made in [
            "",
            "target/debug/x.rs",
            "targetXh7Hjz",
            "node_modules/a/b.js",
            "x.wasm",
            "x.wasm.new",
            ".x.js.swp",
            "x.js~",
            "__pycache__/x.pyc",
            "Cargo.lock",
            ".venv/lib/x.py",
            ".git/index",
        ] {
            assert!(!is_source(Path::new(made)), "{made}");
        }
    }

    /// Goal: a save in a folder that is made later counts too. Method: a folder, then a file in it.
    #[test]
    fn a_new_folder_is_watched_too() {
        let project = tempfile::tempdir().unwrap();
        let mut sources = Sources::watch(project.path()).unwrap();
        fs::create_dir(project.path().join("rules")).unwrap();
        assert_eq!(sources.next().unwrap().file, Path::new("rules"));
        fs::write(project.path().join("rules/one.js"), "").unwrap();
        assert_eq!(sources.next().unwrap().file, Path::new("rules/one.js"));
    }
}
