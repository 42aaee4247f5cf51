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

/// Hears the decisions that are told as events at `path`, until they end or nothing comes for as long as `silence_max`: the
/// gate gives a sign of life oftener than that.
///
/// # Errors
/// When they do not begin, or break off.
pub(super) async fn follow(
    admin: &AdminOptions,
    path: &str,
    silence_max: Duration,
    mut hear: impl FnMut(&str),
) -> anyhow::Result<()> {
    let mut answer = soon(admin, path, admin.open(path)).await?;
    ensure!(answer.status().is_success(), "{path} answered {}", answer.status());
    let (mut line, mut event) = (Vec::new(), String::new());
    let silent = || format!("{path}: silent for {silence_max:?}");
    while let Some(piece) = tokio::time::timeout(silence_max, answer.piece()).await.with_context(silent)? {
        for byte in piece? {
            if byte != b'\n' {
                ensure!(line.len() < LINE_BYTES_MAX, "{path} has a line that does not end");
                line.push(byte);
                continue;
            }
            let text = String::from_utf8_lossy(&line);
            if let Some(name) = text.strip_prefix("event: ") {
                name.clone_into(&mut event);
            } else if let Some(data) = text.strip_prefix("data: ").filter(|_| event == "decision") {
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

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    #[derive(clap::Parser)]
    struct Options {
        #[command(flatten)]
        admin: AdminOptions,
    }

    /// Goal: decisions are heard and nothing else, and a gate that is gone without a word is noticed. Method: a listener that tells of
    /// one and of lost ones, in pieces, and is silent then.
    #[tokio::test]
    async fn decisions_are_heard_until_nothing_comes() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let gate = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            assert!(stream.read(&mut [0; 1024]).await.unwrap() > 0);
            let told = "HTTP/1.1 200 OK\r\n\r\n: following\n\nevent: lost\ndata: {\"lost\":3}\n\nevent: dec";
            stream.write_all(told.as_bytes()).await.unwrap();
            stream.write_all(b"ision\ndata: {\"id\":\"1\"}\n\n").await.unwrap();
            std::future::pending::<()>().await;
        });
        let Options { admin } = Options::parse_from(["top", "--admin", &address]);
        let mut heard = Vec::new();
        let ended = follow(&admin, "/decisions", Duration::from_secs(2), |data| heard.push(data.to_owned())).await;
        assert!(ended.unwrap_err().to_string().contains("silent"), "it gives up");
        assert_eq!(heard, [r#"{"id":"1"}"#]);
        gate.abort();
    }
}
