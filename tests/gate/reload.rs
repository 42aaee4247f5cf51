//! Plug-ins that come and go while requests run.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use witgate_tests::api_server::ApiServer;
use witgate_tests::client::Client;
use witgate_tests::gate::Gate;
use witgate_tests::plugin_folder::Plugin;
use witgate_tests::waiting::{until, within};

const POD: &str = "/api/v1/namespaces/dev/pods/p";

/// The promise of the folder: copying `read-only` in denies deletes within a second and leaves gets alone, removing it
/// restores them, and no request in between fails for another reason.
#[tokio::test]
async fn a_policy_comes_and_goes_under_traffic() {
    let api_server = ApiServer::start().await;
    let gate = Gate::builder(&api_server).start().await;
    let reads = Traffic::start(gate.client_as("john"), "GET", &[200]);
    let deletes = Traffic::start(gate.client_as("john"), "DELETE", &[200, 403]);
    let jane = gate.client_as("jane");

    for _ in 0..3 {
        let copied = Instant::now();
        gate.plugins().put(&Plugin::policy("read-only"));
        let denied =
            until("deletes are denied", || async { (jane.delete(POD).await.status() == 403).then(Instant::now) });
        assert!(denied.await - copied < Duration::from_secs(1));
        assert_eq!(jane.get(POD).await.status(), 200);
        assert_eq!(jane.delete(POD).await.status(), 403, "once denied, denied");

        gate.plugins().remove("read-only");
        let allowed = until("deletes are allowed", || async { (jane.delete(POD).await.status() == 200).then_some(()) });
        within(Duration::from_secs(1), "deletes are allowed", allowed).await;
    }

    assert!(reads.stop().await > 0);
    assert!(deletes.stop().await > 0);
}

#[tokio::test]
async fn a_garbage_file_changes_nothing_and_is_named() {
    let api_server = ApiServer::start().await;
    let gate = Gate::builder(&api_server).start().await;
    let traffic = Traffic::start(gate.client_as("john"), "GET", &[200]);
    let before = gate.status().await;
    let garbage: [(&str, &[u8]); 5] = [
        ("empty", b""),
        ("text", b"this is no component"),
        ("cut", b"\0asm\x0d\0\x01\0\x07"),
        ("core-module", b"\0asm\x01\0\0\0"),
        ("component-without-exports", b"\0asm\x0d\0\x01\0"),
    ];

    for (name, bytes) in garbage {
        gate.plugins().put(&Plugin::of_bytes(name, bytes));
        let status = gate.status_when("the refusal", |status| error_names(status, name)).await;
        assert_eq!(status["generation"], before["generation"], "{name}");
        let line = gate.log_line_with(&format!("{name}.wasm")).await;
        assert!(line.contains(r#""level":"ERROR""#) || line.contains(r#""level":"WARN""#), "{line}");
        assert_eq!(gate.admin().get("/readyz").await.status(), 200, "the last good generation serves");

        gate.plugins().remove(name);
        gate.status_when("the folder is good again", |status| !error_names(status, name)).await;
    }
    assert!(traffic.stop().await > 0);
}

/// A guest that does not get through `configure` is refused when it is loaded, by name.
#[tokio::test]
async fn a_guest_that_cannot_be_configured_is_refused_and_the_gate_goes_on() {
    let api_server = ApiServer::start().await;
    let gate = Gate::builder(&api_server).start().await;
    let before = gate.status().await;

    for fixture in ["configure-fails", "configure-spin", "configure-trap"] {
        gate.plugins().put(&Plugin::fixture(fixture));
        let status = gate.status_when("the refusal", |status| error_names(status, fixture)).await;
        assert_eq!(status["generation"], before["generation"], "{fixture}");
        assert_eq!(gate.client_as("jane").get(POD).await.status(), 200);
        gate.plugins().remove(fixture);
        gate.status_when("the folder is good again", |status| !error_names(status, fixture)).await;
    }
}

#[tokio::test]
async fn a_generation_counts_up_and_each_decision_names_its_own() {
    let api_server = ApiServer::start().await;
    let gate = Gate::builder(&api_server).start().await;
    let jane = gate.client_as("jane");
    let first = gate.status().await["generation"].as_u64().unwrap();
    let answer = jane.get(POD).await;
    assert_eq!(gate.decision_of(&answer).await["generation"], first);

    gate.plugins().put(&Plugin::policy("read-only"));
    let status = gate.status_when("the next generation", |status| status["generation"].as_u64() > Some(first)).await;
    let answer = jane.get(POD).await;

    assert_eq!(gate.decision_of(&answer).await["generation"], status["generation"]);
}

/// A sidecar is part of its plug-in: a new one is a new generation.
#[tokio::test]
async fn a_sidecar_that_changes_is_loaded() {
    let api_server = ApiServer::start().await;
    let gate = Gate::builder(&api_server).policy("deny-proxy").start().await;
    assert_eq!(gate.client_as("jane").get(POD).await.status(), 403);

    std::fs::write(gate.plugins().path().join("deny-proxy.yaml"), "mode: shadow\n").unwrap();

    let jane = gate.client_as("jane");
    until("the shadow does not count", || async { (jane.get(POD).await.status() == 200).then_some(()) }).await;
}

/// How Kubernetes mounts a configmap: the files are links into `..data`, and `..data` is swapped.
#[tokio::test]
async fn a_swapped_symbolic_link_is_a_change() {
    let api_server = ApiServer::start().await;
    let gate = Gate::builder(&api_server).start().await;
    let folder = gate.plugins().path();
    let (old, new) = (folder.join("..2026_1"), folder.join("..2026_2"));
    for (version, policy) in [(&old, "allow-all"), (&new, "read-only")] {
        std::fs::create_dir(version).unwrap();
        std::fs::copy(witgate_tests::artifacts::guest(&format!("policies/{policy}")), version.join("mounted.wasm"))
            .unwrap();
    }
    std::os::unix::fs::symlink("..2026_1", folder.join("..data")).unwrap();
    std::os::unix::fs::symlink("..data/mounted.wasm", folder.join("mounted.wasm")).unwrap();
    gate.status_when("the linked plug-in", |status| digest_of(status, "mounted").is_some()).await;
    let jane = gate.client_as("jane");
    assert_eq!(jane.delete(POD).await.status(), 200);

    std::os::unix::fs::symlink("..2026_2", folder.join("..data_tmp")).unwrap();
    std::fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();

    until("the new version denies", || async { (jane.delete(POD).await.status() == 403).then_some(()) }).await;
}

/// A request keeps its snapshot: a stream that runs is not touched by what comes after it.
#[tokio::test]
async fn a_stream_that_runs_outlives_the_policy_that_would_deny_it() {
    let (reply, writer) = witgate_tests::api_server::Reply::streamed();
    let api_server = ApiServer::replying([reply]).start().await;
    let gate = Gate::builder(&api_server).start().await;
    let jane = gate.client_as("jane");
    let mut watch = jane.get("/api/v1/pods?watch=1").open().await;
    writer.write("before").await;
    assert_eq!(watch.next_piece().await.unwrap().unwrap(), "before");

    gate.plugins().put(&Plugin::policy("deny-proxy"));
    let john = gate.client_as("john");
    until("new requests are denied", || async { (john.get(POD).await.status() == 403).then_some(()) }).await;
    writer.write("after").await;

    assert_eq!(watch.next_piece().await.unwrap().unwrap(), "after");
}

/// One caller who asks without a pause until it is stopped.
struct Traffic {
    stopped: Arc<AtomicBool>,
    asking: tokio::task::JoinHandle<usize>,
}

impl Traffic {
    /// Begins. Every answer must have one of the statuses `expected`.
    fn start(caller: Client, method: &'static str, expected: &'static [u16]) -> Self {
        let stopped = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&stopped);
        let asking = tokio::spawn(async move {
            let mut count = 0;
            while !seen.load(Ordering::Relaxed) {
                let answer = caller.call(method, POD).await;
                assert!(expected.contains(&answer.status()), "{method}: {}", answer.summary());
                count += 1;
            }
            count
        });
        Self { stopped, asking }
    }

    /// Ends, and tells how many answers there were.
    async fn stop(self) -> usize {
        self.stopped.store(true, Ordering::Relaxed);
        self.asking.await.unwrap()
    }
}

/// Whether `/status` says what is wrong with the plug-in `name`.
fn error_names(status: &Value, name: &str) -> bool {
    let of_plugin = status["plugins"]
        .as_array()
        .unwrap()
        .iter()
        .any(|plugin| plugin["name"] == name && plugin["error"].is_string());
    let of_reload = status["lastReload"]["error"].as_str().is_some_and(|error| error.contains(name));
    of_plugin || of_reload
}

fn digest_of<'a>(status: &'a Value, name: &str) -> Option<&'a str> {
    status["plugins"].as_array().unwrap().iter().find(|plugin| plugin["name"] == name)?["digest"].as_str()
}
