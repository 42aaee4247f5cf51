//! Whether a gate that runs enforces what was put into its folder, as its `/status` tells.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use serde::Deserialize;
use tokio::time::{sleep, timeout};
use witgate_core::Digest;

use crate::admin_client::AdminOptions;

/// `/status`, as far as it matters here.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Status {
    generation: u64,
    plugins: Vec<Plugin>,
    reloads: Vec<Reload>,
}

#[derive(Debug, Deserialize)]
struct Plugin {
    name: String,
    digest: Option<String>,
    error: Option<String>,
}

/// One reload.
#[derive(Debug, Deserialize)]
struct Reload {
    number: u64,
    result: String,
    error: Option<String>,
}

/// The number of the gate's last reload.
///
/// # Errors
/// When the gate does not tell.
pub(super) async fn last_reload(admin: &AdminOptions) -> anyhow::Result<u64> {
    Ok(status(admin).await?.last())
}

/// Waits until the gate enforces the component by a reload after number `before`, or by one before where nothing `is_new`; the generation.
///
/// # Errors
/// When the gate refuses it, does not take it in time, or cannot be asked.
pub(super) async fn enforced(
    admin: &AdminOptions,
    name: &str,
    digest: &Digest,
    before: u64,
    is_new: bool,
) -> anyhow::Result<u64> {
    let digest = digest.to_string();
    let waiting = async {
        let mut refused_at = None;
        loop {
            let status = status(admin).await?;
            match status.says(name, &digest, before, is_new) {
                Says::Enforced => return Ok(status.generation),
                Says::Waiting => refused_at = None,
                // A look at the folder between the sidecar and the component is no last word.
                Says::Refused(error) => {
                    if refused_at.get_or_insert_with(Instant::now).elapsed() > LAST_WORD {
                        bail!("the gate refuses it: {error}");
                    }
                }
            }
            sleep(POLL).await;
        }
    };
    timeout(ENFORCED_WITHIN, waiting).await.unwrap_or_else(|_| {
        bail!(
            "the gate at {} did not take it within {ENFORCED_WITHIN:?}: is the folder of --into its `plugins.directory`?",
            admin.place()
        )
    })
}

async fn status(admin: &AdminOptions) -> anyhow::Result<Status> {
    let late = || format!("{}/status: no answer within {ANSWER_TIMEOUT:?}", admin.place());
    let answer = timeout(ANSWER_TIMEOUT, admin.get("/status")).await.with_context(late)?;
    let answer = answer.context("no gate is there to be asked (--admin names it; without --into none is)")?;
    ensure!(answer.status.is_success(), "{}/status answered {}", admin.place(), answer.status);
    serde_json::from_str(&answer.body).context("/status is not understood; is this a witgate of another version?")
}

/// What a status says of a component.
#[derive(Debug, Eq, PartialEq)]
enum Says {
    Enforced,
    Waiting,
    Refused(String),
}

impl Status {
    fn last(&self) -> u64 {
        self.reloads.last().map_or(0, |reload| reload.number)
    }

    fn says(&self, name: &str, digest: &str, before: u64, is_new: bool) -> Says {
        let looked = self.reloads.last().filter(|reload| reload.number > before);
        let refusal = |reload: &Reload| {
            let error = reload.error.clone().unwrap_or_else(|| "see its log".to_owned());
            (reload.result == "refused").then_some(Says::Refused(error))
        };
        let own = self.plugins.iter().find(|plugin| plugin.name == name);
        let serves = own.is_some_and(|plugin| plugin.error.is_none() && plugin.digest.as_deref() == Some(digest));
        match looked.or(if is_new { None } else { self.reloads.last() }) {
            Some(reload) if serves && reload.result != "refused" => Says::Enforced,
            Some(reload) => refusal(reload).unwrap_or(Says::Waiting),
            None => Says::Waiting,
        }
    }
}

const POLL: Duration = Duration::from_millis(10);
/// By then the gate has looked at the folder again, if it was still being written.
const LAST_WORD: Duration = Duration::from_millis(500);
/// A component with an interpreter inside takes long to compile.
const ENFORCED_WITHIN: Duration = Duration::from_secs(300);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// Goal: a gate's word counts for what was swapped in, and not for what was there. Method: a status a row.
    #[test]
    fn a_status_is_read_as_it_is_meant() {
        let serving = json!({ "name": "p", "digest": "new" });
        let published = |number: u64| json!({ "number": number, "result": "published" });
        let refused = |number: u64| json!({ "number": number, "result": "refused", "error": "bad" });
        check(&serving, &published(8), true, Says::Enforced);
        check(&serving, &published(7), true, Says::Waiting);
        check(&serving, &published(7), false, Says::Enforced);
        check(&json!({ "name": "p", "digest": "old" }), &published(8), true, Says::Waiting);
        check(&json!({ "name": "q", "digest": "new" }), &published(8), true, Says::Waiting);
        check(&json!({ "name": "p", "digest": "old", "error": "bad" }), &refused(8), true, Says::Refused("bad".into()));
        check(&json!({ "name": "p", "digest": "new" }), &refused(8), true, Says::Refused("bad".into()));
        check(&json!({ "name": "p", "digest": "old" }), &refused(7), true, Says::Waiting);
        check(&json!({ "name": "p", "digest": "old" }), &refused(7), false, Says::Refused("bad".into()));
    }

    #[track_caller]
    fn check(plugin: &Value, reload: &Value, is_new: bool, expected: Says) {
        let status = json!({ "generation": 4, "plugins": [plugin], "reloads": [reload], "clusters": [] });
        let status: Status = serde_json::from_value(status).unwrap();
        assert_eq!(status.says("p", "new", 7, is_new), expected);
    }
}
