//! New projects: folders that build, and pass their own tests, as they are written.
//!
//! Policies begin as `deny-exec`, the example of each language; strategies pass the client's token on.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::project::{check_name, python_module};
use crate::{InvalidProject, Language, MANIFEST, PluginKind, Project, World, bindings, sdk, wit};

/// Why there is no new project.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// The name cannot be.
    #[error(transparent)]
    Name(#[from] InvalidProject),
    /// Something is there already.
    #[error("`{directory}` is there already, and nothing in it is overwritten", directory = .directory.display())]
    Exists {
        /// The folder.
        directory: PathBuf,
    },
    /// A language without this kind of template.
    #[error("there is no template for a strategy in {0}: write `--lang rust`, `js` or `python`")]
    NoTemplate(Language),
    /// A file could not be written.
    #[error("cannot write `{file}`", file = .file.display())]
    Write {
        /// The file.
        file: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Writes a new project into `directory`, which must not be there yet or be empty.
///
/// # Errors
/// When the name is none for this kind, or the folder is in use or cannot be written.
pub fn write(directory: &Path, name: &str, language: Language, kind: PluginKind) -> Result<Project, TemplateError> {
    check_name(name, kind)?;
    let in_use = match fs::read_dir(directory) {
        Ok(mut entries) => entries.next().is_some(),
        Err(_) => directory.exists(),
    };
    if in_use {
        return Err(TemplateError::Exists { directory: directory.to_owned() });
    }
    let world = match kind {
        PluginKind::Policy => World::Policy,
        PluginKind::Strategy => World::Strategy,
    };
    let project = Project { directory: directory.to_owned(), name: name.to_owned(), language, world };
    for (path, text) in files(&project)? {
        let file = directory.join(path);
        let written = file.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(&file, text));
        written.map_err(|source| TemplateError::Write { file, source })?;
    }
    Ok(project)
}

/// Paths and texts.
fn files(project: &Project) -> Result<Vec<(String, String)>, TemplateError> {
    let Project { name, language, world, .. } = project;
    let named = |text: &str| text.replace("NAME", name);
    let source = match (language, world.kind()) {
        (Language::Rust, PluginKind::Policy) => RUST_POLICY.to_owned(),
        (Language::Js, PluginKind::Policy) => JS_POLICY.to_owned(),
        (Language::Python, PluginKind::Policy) => PYTHON_POLICY.to_owned(),
        (Language::C, PluginKind::Policy) => C_POLICY.to_owned(),
        (Language::Go, PluginKind::Policy) => GO_POLICY.to_owned(),
        (Language::Rust, PluginKind::Strategy) => token_named(RUST_STRATEGY, name),
        (Language::Js, PluginKind::Strategy) => token_named(JS_STRATEGY, name),
        (Language::Python, PluginKind::Strategy) => token_named(PYTHON_STRATEGY, name),
        (Language::C | Language::Go, PluginKind::Strategy) => return Err(TemplateError::NoTemplate(*language)),
    };
    let source_path = project.source().strip_prefix(&project.directory).map(Path::to_owned).unwrap_or_default();
    let mut files = vec![
        (MANIFEST.to_owned(), project.manifest()),
        (source_path.to_string_lossy().replace('\\', "/"), source),
        ("README.md".to_owned(), readme(project)),
        (".gitignore".to_owned(), ".venv/\n__pycache__/\nnode_modules/\ntarget/\n*.wasm\n".to_owned()),
    ];
    match world.kind() {
        PluginKind::Policy => {
            files.push((format!("{name}.yaml"), named(POLICY_SIDECAR)));
            files.push((format!("{name}.test.yaml"), named(POLICY_TESTS)));
        }
        PluginKind::Strategy => files.push((format!("{name}.yaml"), STRATEGY_SIDECAR.to_owned())),
    }
    match language {
        Language::Rust => {
            files.push(("Cargo.toml".to_owned(), named(CARGO).replace("MODULE", &python_module(name))));
            files.push(("Cargo.lock".to_owned(), sdk::LOCK.to_owned()));
            files.extend(sdk::files().into_iter().map(|(path, text)| (format!("sdk/{path}"), text)));
        }
        Language::Js => {
            files.push(("package.json".to_owned(), PACKAGE.replace("NAME", &name.to_ascii_lowercase())));
        }
        Language::Python => files.push(("requirements.txt".to_owned(), format!("{}\n", crate::tools::PYTHON_PACKAGE))),
        Language::C => {
            files.extend(
                bindings::of(*world).iter().map(|(path, text)| (format!("bindings/{path}"), (*text).to_owned())),
            );
        }
        Language::Go => {
            files.push(("go.mod".to_owned(), named(GO_MOD)));
            files.extend(bindings::GO.iter().map(|(path, text)| (format!("bindings/{path}"), (*text).to_owned())));
        }
    }
    if *language != Language::Rust {
        files.extend(wit::FILES.iter().map(|(path, text)| (format!("wit/{path}"), (*text).to_owned())));
    }
    Ok(files)
}

/// Clients' tokens come under a name in lower case.
fn token_named(source: &str, name: &str) -> String {
    // The header's name is written as clients write it.
    source
        .replace("Authorization-NAME", &format!("Authorization-{name}"))
        .replace("\"NAME\"", &format!("\"{}\"", name.to_ascii_lowercase()))
        .replace("NAME", name)
}

/// How to get the language's tools, where `plugin build` cannot.
pub fn setup(language: Language) -> Option<String> {
    match language {
        // `plugin build` adds the target itself.
        Language::Rust => None,
        Language::Js => Some("npm install".to_owned()),
        Language::Python => Some("python3 -m venv .venv && .venv/bin/pip install -r requirements.txt".to_owned()),
        Language::C => Some(format!("python3 -m venv .venv && .venv/bin/pip install {}", crate::tools::ZIG_PACKAGE)),
        Language::Go => Some(format!("python3 -m venv .venv && .venv/bin/pip install {}", crate::tools::GO_PACKAGE)),
    }
}

fn readme(project: &Project) -> String {
    let Project { name, language, world, .. } = project;
    let setup = setup(*language).map(|command| format!("    {command}\n")).unwrap_or_default();
    let source = match language {
        Language::Rust => "src/lib.rs".to_owned(),
        Language::Js => format!("{name}.js"),
        Language::Python => format!("{}.py", python_module(name)),
        Language::C => format!("{name}.c"),
        Language::Go => format!("{name}.go"),
    };
    let contract = if *language == Language::Rust { "sdk/wit" } else { "wit" };
    let (what, test, about_tests) = match world.kind() {
        PluginKind::Policy => (
            "policy",
            format!("    witgate plugin test             # asks it what {name}.test.yaml says\n"),
            format!("- `{name}.test.yaml`: what it must say, case by case\n"),
        ),
        PluginKind::Strategy => ("strategy", String::new(), String::new()),
    };
    format!(
        "# {name}\n\nA {what} for witgate, in {language}.\n\n{setup}    witgate plugin build            # leaves {name}.wasm\n{test}    \
         witgate plugin dev --into DIR   # builds at each change, into the folder of a gate that runs\n\n\
         - `{source}`: the {what}\n{about_tests}- `{name}.yaml`: its sidecar, settings and limits; goes into the gate's folder with the component\n\
         - `{contract}`: the contract: what is called when, and what failing means\n"
    )
}

const RUST_POLICY: &str = include_str!("../../../guests/examples/rust/deny-exec/src/lib.rs");
const JS_POLICY: &str = include_str!("../../../guests/examples/js/deny-exec/deny-exec.js");
const PYTHON_POLICY: &str = include_str!("../../../guests/examples/python/deny-exec/deny_exec.py");
const C_POLICY: &str = include_str!("../../../guests/examples/c/deny-exec/deny-exec.c");
const GO_POLICY: &str = include_str!("../../../guests/examples/go/deny-exec/deny-exec.go");
const RUST_STRATEGY: &str = include_str!("../templates/strategy.rs");
const JS_STRATEGY: &str = include_str!("../templates/strategy.js");
const PYTHON_STRATEGY: &str = include_str!("../templates/strategy.py");
const POLICY_SIDECAR: &str = include_str!("../templates/policy.yaml");
const POLICY_TESTS: &str = include_str!("../templates/policy.test.yaml");
const STRATEGY_SIDECAR: &str =
    "# The sidecar: what the gate gives the plug-in. policies/README.md of witgate lists every key.\nsettings: {}\n";
const CARGO: &str = include_str!("../templates/Cargo.toml");
const GO_MOD: &str = include_str!("../templates/go.mod");
const PACKAGE: &str = include_str!("../templates/package.json");

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: each project can be read again, and has its parts. Method: every language and kind.
    #[test]
    fn a_new_project_has_its_parts() {
        let policy = ["README.md", "p.yaml", "p.test.yaml", ".gitignore"];
        check(
            "p",
            Language::Rust,
            PluginKind::Policy,
            &[&policy[..], &["src/lib.rs", "Cargo.toml", "Cargo.lock", "sdk/src/lib.rs"]].concat(),
        );
        check(
            "p",
            Language::Js,
            PluginKind::Policy,
            &[&policy[..], &["p.js", "package.json", "wit/guest.wit"]].concat(),
        );
        check(
            "p",
            Language::Python,
            PluginKind::Policy,
            &[&policy[..], &["p.py", "requirements.txt", "wit/guest.wit"]].concat(),
        );
        check(
            "p",
            Language::C,
            PluginKind::Policy,
            &[&policy[..], &["p.c", "bindings/policy.h", "wit/guest.wit"]].concat(),
        );
        check(
            "p",
            Language::Go,
            PluginKind::Policy,
            &[&policy[..], &["p.go", "go.mod", "bindings/go.mod", "bindings/policy/policy.go", "wit/guest.wit"]]
                .concat(),
        );
        check("s", Language::Rust, PluginKind::Strategy, &["src/lib.rs", "s.yaml", "sdk/wit/http.wit"]);
        check("s", Language::Js, PluginKind::Strategy, &["s.js", "s.yaml", "wit/deps/http/http.wit"]);
        check("s", Language::Python, PluginKind::Strategy, &["s.py", "s.yaml"]);
    }

    /// Goal: nothing is overwritten, and names are checked.
    #[test]
    fn what_is_there_stays() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("mine"), "").unwrap();
        let refused = write(directory.path(), "p", Language::Js, PluginKind::Policy).unwrap_err().to_string();
        assert!(refused.ends_with("is there already, and nothing in it is overwritten"), "{refused}");
        let inside = directory.path().join("new");
        let refused = write(&inside, "a/b", Language::Js, PluginKind::Policy).unwrap_err().to_string();
        assert!(refused.starts_with("`a/b` is not a plug-in's name"), "{refused}");
        let refused = write(&inside, "x", Language::C, PluginKind::Strategy).unwrap_err().to_string();
        assert!(refused.starts_with("there is no template for a strategy in c"), "{refused}");
        let refused = write(&inside, "x", Language::Go, PluginKind::Strategy).unwrap_err().to_string();
        assert!(refused.starts_with("there is no template for a strategy in go"), "{refused}");
        assert!(!inside.exists());
    }

    #[track_caller]
    fn check(name: &str, language: Language, kind: PluginKind, expected: &[&str]) {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join(name);
        let written = write(&directory, name, language, kind).unwrap();
        assert_eq!(Project::read(&directory).unwrap(), written);
        for path in expected {
            let text = fs::read_to_string(directory.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
            assert!(path.starts_with("sdk/") || path.starts_with("bindings/") || !text.contains("NAME"), "{path}");
        }
    }
}
