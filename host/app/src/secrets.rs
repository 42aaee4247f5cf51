//! The secrets of one cluster's configuration, as its strategy asks for them by name.
//!
//! A file is read at each call, so that a rotated one is seen (a pod's mounted token
//! changes every hour); a value and a variable of the environment are fixed at start.
//! What a caller is told is in [`SecretError`], which names neither a path nor a
//! value; the log, once, says more.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;
use tokio::io::AsyncReadExt as _;
use witgate_core::{BoxFuture, Redacted, SecretError, SecretStore};

use crate::config::SecretSource;

/// Secrets by name.
pub(crate) struct ClusterSecrets(BTreeMap<String, Secret>);

enum Secret {
    Fixed(Redacted<String>),
    File {
        path: PathBuf,
        /// Whether the log was told that it cannot be read.
        said: AtomicBool,
    },
}

impl ClusterSecrets {
    /// The secrets of `sources`; `environment` looks variables up, now.
    ///
    /// # Errors
    /// When a variable is not set, or not text. All of them are named.
    pub(crate) fn new(
        sources: &BTreeMap<String, SecretSource>,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> anyhow::Result<Self> {
        let mut secrets = BTreeMap::new();
        let mut missing = Vec::new();
        for (name, source) in sources {
            let secret = match source {
                SecretSource::Value(value) => Secret::Fixed(value.clone()),
                SecretSource::File(path) => Secret::File { path: path.clone(), said: AtomicBool::new(false) },
                SecretSource::Env(variable) => match environment(variable).filter(|value| !value.is_empty()) {
                    Some(value) => Secret::Fixed(Redacted::new(value)),
                    None => {
                        missing
                            .push(format!("secret `{name}`: the variable `{variable}` of the environment is not set"));
                        continue;
                    }
                },
            };
            secrets.insert(name.clone(), secret);
        }
        anyhow::ensure!(missing.is_empty(), missing.join("; "));
        Ok(Self(secrets))
    }
}

impl SecretStore for ClusterSecrets {
    fn is_fixed(&self, name: &str) -> bool {
        !matches!(self.0.get(name), Some(Secret::File { .. }))
    }

    fn get<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Redacted<String>, SecretError>> {
        Box::pin(async move {
            let (path, said) = match self.0.get(name) {
                None => return Err(SecretError::NotGranted(name.to_owned())),
                Some(Secret::Fixed(value)) => return Ok(value.clone()),
                Some(Secret::File { path, said }) => (path, said),
            };
            match read(path).await {
                Ok(secret) => {
                    said.store(false, Ordering::Relaxed);
                    Ok(secret)
                }
                Err(error) => {
                    if !said.swap(true, Ordering::Relaxed) {
                        let error = format!("{error:#}");
                        tracing::warn!(secret = name, path = %path.display(), error, "secret cannot be read");
                    }
                    Err(SecretError::Unreadable(name.to_owned()))
                }
            }
        })
    }
}

impl fmt::Debug for ClusterSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// The text of a regular file, without the line's end that editors and `echo` leave.
async fn read(path: &Path) -> anyhow::Result<Redacted<String>> {
    // Asked before it is opened: opening a pipe would wait for a writer.
    anyhow::ensure!(tokio::fs::metadata(path).await?.is_file(), "is not a regular file");
    let file = tokio::fs::File::open(path).await?;
    let mut bytes = Vec::new();
    file.take(SECRET_BYTES_MAX + 1).read_to_end(&mut bytes).await?;
    let within = u64::try_from(bytes.len()).is_ok_and(|length| length <= SECRET_BYTES_MAX);
    anyhow::ensure!(within, "is larger than {SECRET_BYTES_MAX} bytes");
    // The error's own text would repeat nothing, but its value holds the bytes.
    let text = String::from_utf8(bytes).ok().context("is not UTF-8")?;
    let text = text.trim_end_matches(['\r', '\n']);
    anyhow::ensure!(!text.is_empty(), "is empty");
    Ok(Redacted::new(text.to_owned()))
}

/// The largest file that is taken as a secret.
const SECRET_BYTES_MAX: u64 = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(variable: &str) -> Option<String> {
        match variable {
            "SET" => Some("from-env".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        }
    }

    fn store(sources: impl IntoIterator<Item = (&'static str, SecretSource)>) -> anyhow::Result<ClusterSecrets> {
        let sources = sources.into_iter().map(|(name, source)| (name.to_owned(), source)).collect();
        ClusterSecrets::new(&sources, &environment)
    }

    /// Goal: each source yields its secret, and what fails names neither path nor value. Method: one row a source.
    #[tokio::test]
    async fn each_source_yields_its_secret() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, content: &[u8]| {
            let path = folder.path().join(name);
            std::fs::write(&path, content).unwrap();
            SecretSource::File(path)
        };
        let unreadable = |name: &str| Err(SecretError::Unreadable(name.to_owned()));
        let at_limit = "x".repeat(64 * 1024);
        let secrets = store([
            ("value", SecretSource::Value(Redacted::new("v".into()))),
            ("env", SecretSource::Env("SET".into())),
            ("file", file("f", b"from-file\r\n\n")),
            ("inner-lines", file("i", b"a\nb")),
            ("at-limit", file("a", at_limit.as_bytes())),
            ("too-large", file("l", "x".repeat(64 * 1024 + 1).as_bytes())),
            ("not-text", file("n", &[0xff, 0xfe])),
            ("empty", file("e", b"\n")),
            ("missing", SecretSource::File(folder.path().join("m"))),
            ("folder", SecretSource::File(folder.path().to_owned())),
        ])
        .unwrap();
        check(&secrets, "value", Ok("v")).await;
        check(&secrets, "env", Ok("from-env")).await;
        check(&secrets, "file", Ok("from-file")).await;
        check(&secrets, "inner-lines", Ok("a\nb")).await;
        check(&secrets, "at-limit", Ok(&at_limit)).await;
        for bad in ["too-large", "not-text", "empty", "missing", "folder"] {
            check(&secrets, bad, unreadable(bad)).await;
        }
        check(&secrets, "unknown", Err(SecretError::NotGranted("unknown".into()))).await;
        let printed = format!("{secrets:?}");
        assert!(printed.contains("\"value\"") && !printed.contains("from-env"), "{printed}");
        let path = folder.path().display().to_string();
        assert!(!printed.contains(&path), "{printed}");
    }

    async fn check(secrets: &ClusterSecrets, name: &str, expected: Result<&str, SecretError>) {
        let got = secrets.get(name).await.map(Redacted::into_exposed);
        assert_eq!(got, expected.map(str::to_owned), "{name}");
    }

    /// Goal: a rotated file is seen at once. Method: two contents, two answers.
    #[tokio::test]
    async fn a_file_is_read_at_each_call() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let secrets = store([("pod/token", SecretSource::File(file.path().to_owned()))]).unwrap();
        for content in ["one", "two"] {
            std::fs::write(file.path(), content).unwrap();
            check(&secrets, "pod/token", Ok(content)).await;
        }
    }

    /// Goal: a variable that is not set stops the start, all at once. Method: two that are not, one that is.
    #[test]
    fn missing_variables_are_named() {
        let env = |variable: &str| SecretSource::Env(variable.to_owned());
        let error = store([("a", env("NONE")), ("b", env("SET")), ("c", env("EMPTY"))]).unwrap_err().to_string();
        let expected = "secret `a`: the variable `NONE` of the environment is not set; \
                        secret `c`: the variable `EMPTY` of the environment is not set";
        assert_eq!(error, expected);
    }
}
