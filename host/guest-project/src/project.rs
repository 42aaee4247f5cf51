//! What a project says of itself.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// The file that makes a folder a project.
pub const MANIFEST: &str = "witgate-plugin.yaml";

/// A plug-in's project.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Project {
    /// Where it is.
    pub directory: PathBuf,
    /// The plug-in's name: the component is `NAME.wasm`, the sidecar `NAME.yaml`.
    pub name: String,
    /// What it is written in.
    pub language: Language,
    /// Which of the contract's worlds it is for.
    pub world: World,
}

/// A language with a way to a component.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum Language {
    /// Rust, with the SDK.
    Rust,
    /// JavaScript, on QuickJS inside the component.
    Js,
    /// Python, on CPython inside the component.
    Python,
    /// C.
    C,
    /// Go.
    Go,
}

/// What a plug-in is asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PluginKind {
    /// Decides.
    Policy,
    /// Yields credentials.
    Strategy,
}

/// What a component is made for.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub enum World {
    /// A policy.
    Policy,
    /// A strategy that fetches nothing.
    Strategy,
    /// A strategy that sends HTTP.
    OutgoingStrategy,
}

/// `witgate-plugin.yaml` as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    name: String,
    language: Language,
    world: World,
}

/// Why a folder is no project.
#[derive(Debug, thiserror::Error)]
pub enum InvalidProject {
    /// It has no manifest.
    #[error("`{directory}` is no plug-in's project: it has no `{MANIFEST}`; `witgate plugin new NAME` makes one", directory = .directory.display())]
    NoManifest {
        /// The folder.
        directory: PathBuf,
    },
    /// The manifest cannot be read.
    #[error("cannot read `{file}`", file = .file.display())]
    Read {
        /// The manifest.
        file: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The manifest says something else than it should.
    #[error("`{file}`: {reason}; it holds `name: NAME`, `language: rust|js|python|c|go` and `world: policy|strategy|outgoing-strategy`", file = .file.display())]
    Manifest {
        /// The manifest.
        file: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A name that no plug-in can have.
    #[error(
        "`{0}` is not a plug-in's name: use 1 to 63 letters, digits and `-`, beginning with a letter and not ending with `-`"
    )]
    Name(String),
    /// A strategy whose name no header could hold.
    #[error(
        "`{0}` is not a strategy's name: use letters and digits alone, since clients send it within a header's name"
    )]
    StrategyName(String),
}

impl Project {
    /// Reads the project in `directory`.
    ///
    /// # Errors
    /// When there is none, or its manifest is not understood.
    pub fn read(directory: &Path) -> Result<Self, InvalidProject> {
        let file = directory.join(MANIFEST);
        let text = match fs::read_to_string(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(InvalidProject::NoManifest { directory: directory.to_owned() });
            }
            Err(source) => return Err(InvalidProject::Read { file, source }),
        };
        let Manifest { name, language, world } = serde_saphyr::from_str(&text).map_err(|error| {
            let reason = error.to_string().lines().next().unwrap_or_default().to_owned();
            InvalidProject::Manifest { file, reason }
        })?;
        check_name(&name, world.kind())?;
        Ok(Self { directory: directory.to_owned(), name, language, world })
    }

    /// The manifest's text.
    pub(crate) fn manifest(&self) -> String {
        format!("name: {}\nlanguage: {}\nworld: {}\n", self.name, self.language, self.world.name())
    }

    /// Where the component is left.
    pub fn component(&self) -> PathBuf {
        self.directory.join(format!("{}.wasm", self.name))
    }

    /// The file that the author writes, in the languages that have one.
    pub fn source(&self) -> PathBuf {
        let name = match self.language {
            Language::Rust => "src/lib.rs".to_owned(),
            Language::Js => format!("{}.js", self.name),
            Language::Python => format!("{}.py", python_module(&self.name)),
            Language::C => format!("{}.c", self.name),
            Language::Go => format!("{}.go", self.name),
        };
        self.directory.join(name)
    }
}

/// Whether a plug-in of this kind can have this name.
pub(crate) fn check_name(name: &str, kind: PluginKind) -> Result<(), InvalidProject> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    let begins = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic());
    if !begins || name.len() > 63 || name.ends_with('-') || !name.bytes().all(plain) {
        return Err(InvalidProject::Name(name.to_owned()));
    }
    match kind {
        PluginKind::Strategy if name.contains('-') => Err(InvalidProject::StrategyName(name.to_owned())),
        PluginKind::Policy | PluginKind::Strategy => Ok(()),
    }
}

/// A module's name for a plug-in's.
pub(crate) fn python_module(name: &str) -> String {
    name.replace('-', "_").to_ascii_lowercase()
}

impl World {
    /// Its name in the WIT.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Policy => "policy",
            Self::Strategy => "strategy",
            Self::OutgoingStrategy => "outgoing-strategy",
        }
    }

    /// What a component of it is.
    pub const fn kind(self) -> PluginKind {
        match self {
            Self::Policy => PluginKind::Policy,
            Self::Strategy | Self::OutgoingStrategy => PluginKind::Strategy,
        }
    }
}

impl fmt::Display for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rust => "rust",
            Self::Js => "js",
            Self::Python => "python",
            Self::C => "c",
            Self::Go => "go",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a manifest is understood or refused by what is wrong with it. Method: a row each.
    #[test]
    fn a_manifest_says_all() {
        check(Some("name: deny-exec\nlanguage: js\nworld: policy\n"), "deny-exec js policy");
        check(Some("name: corp\nlanguage: c\nworld: outgoing-strategy\n"), "corp c outgoing-strategy");
        check(Some("name: p\nlanguage: go\nworld: policy\n"), "p go policy");
        check(None, "is no plug-in's project: it has no `witgate-plugin.yaml`");
        check(Some("name: a-b\nlanguage: js\nworld: strategy\n"), "`a-b` is not a strategy's name");
        check(Some("name: ../x\nlanguage: js\nworld: policy\n"), "`../x` is not a plug-in's name");
        check(Some("name: x\nlanguage: cobol\nworld: policy\n"), "language: rust|js|python|c|go");
        check(Some("name: x\nlanguage: js\nworld: policy\ncolour: red\n"), "colour");
    }

    #[track_caller]
    fn check(manifest: Option<&str>, expected: &str) {
        let directory = tempfile::tempdir().unwrap();
        if let Some(manifest) = manifest {
            fs::write(directory.path().join(MANIFEST), manifest).unwrap();
        }
        let got = match Project::read(directory.path()) {
            Ok(project) => format!("{} {} {}", project.name, project.language, project.world.name()),
            Err(error) => error.to_string(),
        };
        assert!(got.contains(expected), "{got}");
    }
}
