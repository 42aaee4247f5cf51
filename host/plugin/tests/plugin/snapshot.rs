//! Calls start from the state that `configure` left: from a snapshot of it, or by configuring each instance.

use std::fs;
use std::num::NonZeroU32;
use std::sync::Arc;

use serde_json::json;
use witgate_core::{BoxFuture, CallError, Decision, PermissionPolicy, Redacted, SecretError, SecretStore};
use witgate_plugin::{Grants, Host, HostConfig, Limits, PluginSource, Start, WasmPolicy};

use crate::guest::{ALLOW, Guest, chain, host, jane, policy_of, query, source};
use crate::logging::{IMPORT, logged};
use crate::wasi::{STDOUT, WIT};

const SECRETS: &str = "\n(import \"witgate:auth/secrets@0.1.0\" \"get\" (func $get (param i32 i32 i32)))\n";

/// What makes a snapshot impossible, though it is never called.
const SETS_A_TABLE: &str = "(table $table 1 funcref) (func $never (table.set $table (i32.const 0) (ref.null func)))";

/// Counts how often it was configured and called, in a global and in memory, and denies with the counts.
fn counting() -> Guest {
    Guest::policy(&format!(
        "(global.set $calls (i32.add (global.get $calls) (i32.const 1)))
         (i32.store (i32.const 9004) (i32.add (i32.load (i32.const 9004)) (i32.const 1)))
         {}
         (i32.store8 (i32.const 8192) (i32.const 1))
         (i32.store (i32.const 8196) (i32.const 9100)) (i32.store (i32.const 8200) (i32.const 4))
         (i32.const 8192)",
        [
            "(global.get $configured)",
            "(i32.load (i32.const 9000))",
            "(global.get $calls)",
            "(i32.load (i32.const 9004))"
        ]
        .iter()
        .enumerate()
        .map(|(at, count)| format!("(i32.store8 (i32.const {}) (i32.add (i32.const 48) {count}))", 9100 + at))
        .collect::<String>()
    ))
    .with(IMPORT)
    .with("(global $configured (mut i32) (i32.const 0)) (global $calls (mut i32) (i32.const 0))")
    .text("line", "configuring")
    .configure(
        "(call $log (i32.const 2) (global.get $line) (global.get $line.length))
         (global.set $configured (i32.add (global.get $configured) (i32.const 1)))
         (i32.store (i32.const 9000) (i32.add (i32.load (i32.const 9000)) (i32.const 1)))
         (i32.store8 (i32.const 8192) (i32.const 0)) (i32.const 8192)",
    )
}

/// Goal: every call sees what `configure` left, and nothing that a call did; a snapshot runs `configure` no more.
/// Method: the counting guest, as it is and with what forbids a snapshot; `configure` logs a line.
#[tokio::test]
async fn a_snapshot_is_configured_once() {
    check_counts(counting(), &Start::Snapshot, 0).await;
    let reason = "unsupported `table.set` instruction".to_owned();
    check_counts(counting().with(SETS_A_TABLE), &Start::ConfiguredEach { reason }, 3).await;
}

async fn check_counts(guest: Guest, start: &Start, configured: usize) {
    let loaded = host().load(source("x", guest.build())).await.unwrap();
    assert_eq!(loaded.start(), start);
    let policy = policy_of(Ok(loaded));
    let (answers, log) = logged(async {
        let mut answers = Vec::new();
        for _ in 0..3 {
            answers.push(policy.handle(&query(), Some(&jane())).await.unwrap());
        }
        answers
    })
    .await;
    assert_eq!(answers, vec![Decision::Deny("1111".into()); 3]);
    assert_eq!(log.matches("configuring").count(), configured, "{log}");
}

/// Goal: a start function ran before the snapshot, and does not run again. Method: one that counts as `configure` does.
#[tokio::test]
async fn a_start_function_runs_once() {
    let guest = counting().with(
        "(func $start (global.set $configured (i32.const 1)) (i32.store (i32.const 9000) (i32.const 1))) (start $start)",
    );
    let loaded = host().load(source("x", guest.build())).await.unwrap();
    assert_eq!(loaded.start(), &Start::Snapshot);
    let answer = policy_of(Ok(loaded)).handle(&query(), None).await.unwrap();
    assert_eq!(answer, Decision::Deny("2211".into()));
}

/// Goal: memory that `configure` asked for is part of the state, as large as it was, and counts against the limit.
/// Method: 100 pages more, marked at both ends; a call that then wants more than is left.
#[tokio::test]
async fn grown_memory_is_kept() {
    let last = (8 + 100) * 65536 - 1;
    let configure = format!(
        "(drop (memory.grow (i32.const 100))) (i32.store8 (i32.const {last}) (i32.const 7))
         (i32.store8 (i32.const 524288) (i32.const 7)) (i32.store8 (i32.const 8192) (i32.const 0)) (i32.const 8192)"
    );
    let intact = format!(
        "(if (i32.ne (memory.size) (i32.const 108)) (then (unreachable)))
         (if (i32.ne (i32.load8_u (i32.const {last})) (i32.const 7)) (then (unreachable)))
         (if (i32.ne (i32.load8_u (i32.const 524288)) (i32.const 7)) (then (unreachable)))
         (if (i32.ne (i32.load8_u (i32.const 1000000)) (i32.const 0)) (then (unreachable)))"
    );
    for unless in ["", SETS_A_TABLE] {
        let guest = Guest::policy(&format!("{intact} {ALLOW}")).configure(&configure).with(unless);
        assert_eq!(guest.into_policy().await.handle(&query(), None).await.unwrap(), Decision::Allow);

        let wants_more = format!("{intact} (drop (memory.grow (i32.const 30))) {ALLOW}");
        let guest = Guest::policy(&wants_more).configure(&configure).with(unless);
        let limits = Limits::new(5_000, 8, 64).unwrap(); // 128 pages
        let error = guest.into_policy_within(limits).await.handle(&query(), None).await.unwrap_err();
        assert_eq!(error.code(), "memory-limit", "{}", chain(&error));
    }
}

/// Goal: whatever cannot be in a snapshot, or must not, is configured each time and says why. Method: one row a reason; each
/// still answers.
#[tokio::test]
async fn what_has_no_snapshot_says_why() {
    falls_back(Guest::allowing().with(SETS_A_TABLE), "unsupported `table.set` instruction").await;
    let drops = Guest::allowing().with("(data $d \"x\") (func $never (data.drop $d))");
    falls_back(drops, "unsupported `data.drop` instruction").await;
    let vector =
        Guest::allowing().with("(global $v (mut v128) (v128.const i64x2 1 2)) (func (global.set $v (global.get $v)))");
    falls_back(vector, "v128 globals").await;
    // There is no room for the page that tells where the memory is.
    falls_back(Guest::allowing().with("(memory $full 1 1)"), "unreachable").await;
    let opens = Guest::policy_with(WIT, ALLOW)
        .configure("(drop (call $stdout)) (i32.store8 (i32.const 8192) (i32.const 0)) (i32.const 8192)")
        .with(STDOUT);
    falls_back(opens, "`configure` leaves a handle of the host's open").await;
}

async fn falls_back(guest: Guest, expected: &str) {
    let loaded = host().load(source("x", guest.build())).await.unwrap();
    let Start::ConfiguredEach { reason } = loaded.start() else { panic!("{expected}: it has a snapshot") };
    assert!(reason.contains(expected), "{reason}");
    assert_eq!(policy_of(Ok(loaded)).handle(&query(), None).await.unwrap(), Decision::Allow);
}

/// Goal: a secret is never frozen: it may be rotated. Method: a strategy that asks for one while it is configured, and for
/// none that is there; the store is asked again at each call.
#[tokio::test]
async fn a_secret_is_never_frozen() {
    for name in ["client-secret", "nobody"] {
        let strategy = Guest::strategy("(unreachable)")
            .configure(
                "(call $get (global.get $name) (global.get $name.length) (i32.const 9000))
                 (i32.store8 (i32.const 8192) (i32.const 0)) (i32.const 8192)",
            )
            .with(SECRETS)
            .text("name", name);
        let grants = Grants { secrets: Arc::new(OneSecret), ..Grants::none() };
        let loaded = host().load(PluginSource { grants, ..source("x", strategy.build()) }).await.unwrap();
        let reason = "`configure` asks for a secret, which may be another one tomorrow".to_owned();
        assert_eq!(loaded.start(), &Start::ConfiguredEach { reason }, "{name}");
    }
    let loaded = host().load(source("x", Guest::strategy("(unreachable)").build())).await.unwrap();
    assert_eq!(loaded.start(), &Start::Snapshot, "a strategy that asks for none has a snapshot");
}

#[derive(Debug)]
struct OneSecret;

impl SecretStore for OneSecret {
    fn get<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Redacted<String>, SecretError>> {
        Box::pin(async move {
            if name == "client-secret" {
                Ok(Redacted::new("s3cret".to_owned()))
            } else {
                Err(SecretError::NotGranted(name.to_owned()))
            }
        })
    }
}

/// Denies with its settings.
fn repeating() -> Guest {
    Guest::policy(
        "(i32.store8 (i32.const 8192) (i32.const 1))
         (i32.store (i32.const 8196) (global.get $kept)) (i32.store (i32.const 8200) (global.get $kept_length))
         (i32.const 8192)",
    )
    .with("(global $kept (mut i32) (i32.const 0)) (global $kept_length (mut i32) (i32.const 0))")
    .configure(
        "(global.set $kept (local.get $settings)) (global.set $kept_length (local.get $length))
         (i32.store8 (i32.const 8192) (i32.const 0)) (i32.const 8192)",
    )
}

/// Goal: a cached snapshot is the one of these settings and of no others. Method: two settings in turn, over restarts, on one
/// cache directory, which ends up with a file for each.
#[tokio::test]
async fn a_cached_snapshot_is_of_its_settings() {
    let directory = tempfile::tempdir().unwrap();
    let cache = directory.path().join("cache");
    let component = repeating().build();
    for team in ["blue", "red", "blue", "red"] {
        let settings = json!({ "team": team });
        let source = PluginSource { settings, ..source("x", Arc::clone(&component)) };
        let loaded = with_cache(&cache).load(source).await.unwrap();
        assert_eq!(loaded.start(), &Start::Snapshot);
        let answer = policy_of(Ok(loaded)).handle(&query(), None).await.unwrap();
        assert_eq!(answer, Decision::Deny(format!(r#"{{"team":"{team}"}}"#)));
    }
    assert_eq!(files(&cache).len(), 2);
}

/// Goal: a snapshot that could hold a secret by mistake is not written to disk. Method: what is left in the cache, a row for
/// each kind with and without settings.
#[tokio::test]
async fn what_a_strategy_made_of_its_settings_is_not_written() {
    let keeps = "(i32.store8 (i32.const 8192) (i32.const 0)) (i32.const 8192)";
    let strategy = || Guest::strategy("(unreachable)").configure(keeps).build();
    written("a policy with settings", repeating().build(), json!({ "a": "s3cret-by-mistake" }), 1).await;
    written("a strategy without settings", strategy(), json!({}), 1).await;
    written("a strategy with settings", strategy(), json!({ "a": "s3cret-by-mistake" }), 0).await;
    written("a component as it is", Guest::allowing().with(SETS_A_TABLE).build(), json!({ "a": 1 }), 1).await;
}

async fn written(what: &str, component: Arc<[u8]>, settings: serde_json::Value, expected: usize) {
    let directory = tempfile::tempdir().unwrap();
    let cache = directory.path().join("cache");
    let loaded = with_cache(&cache).load(PluginSource { settings, ..source("x", component) }).await;
    assert!(loaded.is_ok(), "{what}");
    assert_eq!(files(&cache).len(), expected, "{what}");
}

/// Goal: a snapshot from the cache obeys the sidecar of today. Method: a state of 108 pages, cached, then a limit of 1 MiB.
#[tokio::test]
async fn a_cached_snapshot_obeys_new_limits() {
    let directory = tempfile::tempdir().unwrap();
    let cache = directory.path().join("cache");
    let guest = Guest::allowing()
        .configure("(drop (memory.grow (i32.const 100))) (i32.store8 (i32.const 8192) (i32.const 0)) (i32.const 8192)");
    let component = guest.build();
    let load = |memory_mib| {
        let limits = Limits::new(5_000, memory_mib, 64).unwrap();
        let source = PluginSource { limits, ..source("x", Arc::clone(&component)) };
        let host = with_cache(&cache);
        async move { host.load(source).await }
    };
    assert!(load(64).await.is_ok());
    let error = load(1).await.map(|_| ()).unwrap_err();
    assert!(chain(&error).contains("reached its limit of memory"), "{}", chain(&error));
}

/// Goal: calls at once do not share a state. Method: the counting guest, called from many tasks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_at_once_share_nothing() {
    let policy: Arc<WasmPolicy> = counting().into_policy().await;
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..64 {
        let policy = Arc::clone(&policy);
        calls.spawn(async move { policy.handle(&query(), Some(&jane())).await });
    }
    for answer in calls.join_all().await {
        let answer: Result<Decision, CallError> = answer;
        assert_eq!(answer.unwrap(), Decision::Deny("1111".into()));
    }
}

fn with_cache(directory: &std::path::Path) -> Host {
    let instances_max = NonZeroU32::new(4).unwrap();
    Host::new(HostConfig { cache_directory: Some(directory.to_owned()), instances_max, ..HostConfig::default() })
        .unwrap()
}

fn files(directory: &std::path::Path) -> Vec<fs::DirEntry> {
    fs::read_dir(directory).unwrap().map(Result::unwrap).collect()
}
