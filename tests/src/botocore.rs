//! botocore, AWS's own Python library, as a second judge of signatures.
//!
//! It is fetched from PyPI once, into `WITGATE_TEST_CACHE` or `~/.cache/witgate-tests`. Where there is no Python or no PyPI the
//! test that wants it says that it was skipped.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::artifacts;
use crate::process::Process;
use crate::waiting::within;

/// The version, and the name of its folder.
const PACKAGE: &str = "botocore==1.44.5";
const FETCH_LIMIT: std::time::Duration = std::time::Duration::from_secs(180);

/// An interpreter that has it.
pub struct Botocore {
    python: PathBuf,
}

impl Botocore {
    /// The one in the cache, or a new one; none, and a line that says why, where it cannot be had.
    pub async fn find() -> Option<Self> {
        match Self::install().await {
            Ok(python) => Some(Self { python }),
            Err(reason) => {
                eprintln!("skipped: {PACKAGE} cannot be had: {reason}");
                None
            }
        }
    }

    /// The signature that it makes of `request`; see `tests/botocore/sign.py` for its form.
    pub async fn signature(&self, request: &Value) -> String {
        let mut command = Command::new(&self.python);
        command.arg(artifacts::repository().join("tests/botocore/sign.py")).arg(request.to_string());
        let ended = Process::run(&mut command).await;
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        ended.stdout.trim().to_owned()
    }

    async fn install() -> Result<PathBuf, String> {
        let cache = match (env::var_os("WITGATE_TEST_CACHE"), env::var_os("HOME")) {
            (Some(cache), _) => PathBuf::from(cache),
            (None, Some(home)) => Path::new(&home).join(".cache/witgate-tests"),
            (None, None) => return Err("neither WITGATE_TEST_CACHE nor HOME is set".to_owned()),
        };
        let ready = cache.join(PACKAGE.replace("==", "-"));
        let python = |folder: &Path| folder.join("bin/python3");
        if python(&ready).exists() {
            return Ok(python(&ready));
        }
        fs::create_dir_all(&cache).map_err(|error| error.to_string())?;
        // Made aside and renamed, so that another run never sees half of it.
        let making = tempfile::TempDir::with_prefix_in("making-", &cache).map_err(|error| error.to_string())?;
        let folder = making.path().join("venv");
        run(Command::new("python3").args(["-m", "venv"]).arg(&folder)).await?;
        run(Command::new(python(&folder)).args(["-m", "pip", "install", "--quiet", "--retries", "1", PACKAGE])).await?;
        // Another run may have been faster; then its own is as good.
        if fs::rename(&folder, &ready).is_err() && !python(&ready).exists() {
            return Err("it cannot be moved to its place".to_owned());
        }
        Ok(python(&ready))
    }
}

async fn run(command: &mut Command) -> Result<(), String> {
    let mut command = tokio::process::Command::from(std::mem::replace(command, Command::new("true")));
    command.stdin(std::process::Stdio::null()).kill_on_drop(true);
    let output = within(FETCH_LIMIT, "fetching botocore", command.output()).await.map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(said.lines().last().unwrap_or("it failed without a word").to_owned())
}
