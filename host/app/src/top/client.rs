//! Asks the admin routes for what is shown, each answer bounded in time and size.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde::de::DeserializeOwned;

use crate::admin_client::AdminOptions;

/// The text at `path`, and its status.
///
/// # Errors
/// When none comes, or not soon.
pub(super) async fn text(admin: &AdminOptions, path: &str) -> anyhow::Result<(u16, String)> {
    let answer = soon(admin, path, admin.get(path)).await?;
    Ok((answer.status.as_u16(), answer.body))
}

/// What `path` tells, as JSON.
///
/// # Errors
/// When it is not.
pub(super) async fn json<T: DeserializeOwned>(admin: &AdminOptions, path: &str) -> anyhow::Result<T> {
    let (status, text) = text(admin, path).await?;
    ensure!(status == 200, "{path} answered {status}");
    serde_json::from_str(&text)
        .with_context(|| format!("{path} is not understood; is this a witgate of another version?"))
}

/// Hears the events of `path`, each event's data, until they end.
///
/// # Errors
/// When they do not begin.
pub(super) async fn follow(admin: &AdminOptions, path: &str, mut hear: impl FnMut(&str)) -> anyhow::Result<()> {
    let mut answer = soon(admin, path, admin.open(path)).await?;
    ensure!(answer.status().is_success(), "{path} answered {}", answer.status());
    let mut line = Vec::new();
    while let Some(piece) = answer.piece().await {
        for byte in piece? {
            if byte != b'\n' {
                ensure!(line.len() < LINE_BYTES_MAX, "{path} has a line that does not end");
                line.push(byte);
                continue;
            }
            if let Some(data) = std::str::from_utf8(&line).ok().and_then(|line| line.strip_prefix("data: ")) {
                hear(data);
            }
            line.clear();
        }
    }
    Ok(())
}

async fn soon<T>(
    admin: &AdminOptions,
    path: &str,
    answer: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    let late = || format!("{}{path}: no answer within {ANSWER_TIMEOUT:?}", admin.place());
    tokio::time::timeout(ANSWER_TIMEOUT, answer).await.with_context(late)?
}

const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
const LINE_BYTES_MAX: usize = 1 << 20;
