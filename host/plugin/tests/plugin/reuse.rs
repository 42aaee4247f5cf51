//! `isolation: reused`: what an instance keeps from call to call, and when it ends.

use std::num::NonZeroU32;
use std::sync::Arc;

use witgate_core::{AuthenticationStrategy, Credential, Decision, PermissionPolicy, RequestAuth, SecretStore};
use witgate_plugin::{Host, HostConfig, Isolation, Limits, LoadedPlugin, PluginSource, WasmPolicy};

use crate::guest::{ALLOW, Guest, cluster, host, jane, policy_of, query, source};
use crate::logging::{IMPORT, logged};
use crate::strategy::{Secrets, asking};

/// Denies with how often it was called, as a digit; before, `body` runs, with the count in `$calls`.
fn counting(body: &str) -> Guest {
    Guest::policy(&format!(
        "(global.set $calls (i32.add (global.get $calls) (i32.const 1)))
         {body}
         (i32.store8 (i32.const 9100) (i32.add (i32.const 48) (global.get $calls)))
         (i32.store8 (i32.const 8192) (i32.const 1))
         (i32.store (i32.const 8196) (i32.const 9100)) (i32.store (i32.const 8200) (i32.const 1))
         (i32.const 8192)"
    ))
    .with("(global $calls (mut i32) (i32.const 0))")
}

async fn reused(guest: Guest, limits: Limits) -> Arc<WasmPolicy> {
    let source = PluginSource { isolation: Isolation::Reused, limits, ..source("x", guest.build()) };
    policy_of(host().load(source).await)
}

fn limits() -> Limits {
    Limits::new(5_000, 64, 64).unwrap()
}

/// What calls in turn give: a digit, or the code of the failure.
async fn calls(policy: &WasmPolicy, count: usize) -> String {
    let mut words = Vec::new();
    for _ in 0..count {
        words.push(match policy.handle(&query(), Some(&jane())).await {
            Ok(Decision::Deny(digit)) => digit,
            Ok(other) => format!("{other:?}"),
            Err(error) => error.code().to_owned(),
        });
    }
    words.join(" ")
}

/// Goal: an instance serves the calls it may have, and then another begins. Method: numbers of calls.
#[tokio::test]
async fn an_instance_has_so_many_calls() {
    for (instance_calls, expected) in [(1, "1 1 1"), (2, "1 2 1 2 1"), (1000, "1 2 3 4 5")] {
        let limits = limits().with_instance_calls(instance_calls).unwrap();
        let policy = reused(counting(""), limits).await;
        assert_eq!(calls(&policy, expected.split(' ').count()).await, expected);
    }
}

/// Goal: whatever ends in another way than with an answer ends its instance. Method: a guest that fails in its third call;
/// one row a way to fail.
#[tokio::test]
async fn a_failure_ends_its_instance() {
    fails("(unreachable)", "trapped").await;
    fails("(loop $spin (br $spin))", "deadline-exceeded").await;
    fails("(drop (memory.grow (i32.const 2000)))", "memory-limit").await;
    fails("(return (i32.const -4))", "malformed-answer").await;
    // An answer that only the host finds too large.
    let large = "(i32.store8 (i32.const 8192) (i32.const 1)) (i32.store (i32.const 8196) (i32.const 131072))
        (i32.store (i32.const 8200) (i32.const 1100000)) (return (i32.const 8192))";
    fails(large, "output-limit").await;
}

async fn fails(how: &str, code: &str) {
    let body = format!("(if (i32.eq (global.get $calls) (i32.const 3)) (then {how}))");
    let limits = Limits::new(300, 64, 64).unwrap();
    let policy = reused(counting(&body).memory_pages(32), limits).await;
    assert_eq!(calls(&policy, 4).await, format!("1 2 {code} 1"));
}

/// Goal: memory is counted over all calls of an instance, and all memories. Method: 64 pages and 40, and 30 more each call, where
/// 160 are allowed.
#[tokio::test]
async fn memory_is_the_instances() {
    let grows = counting("(drop (memory.grow (i32.const 30)))").memory_pages(64).with("(memory $second 40)");
    let policy = reused(grows, Limits::new(5_000, 10, 64).unwrap()).await;
    assert_eq!(calls(&policy, 4).await, "1 memory-limit 1 memory-limit");
}

/// Goal: no two calls share an instance at one time. Method: calls from many tasks at once, in a guest that traps when it is
/// entered while it is busy.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_is_one_calls_at_a_time() {
    let busy = format!(
        "(local $i i32)
         (if (i32.load (i32.const 9000)) (then (unreachable)))
         (i32.store (i32.const 9000) (i32.const 1))
         (loop $work (local.set $i (i32.add (local.get $i) (i32.const 1))) (br_if $work (i32.lt_u (local.get $i) (i32.const 3000000))))
         (i32.store (i32.const 9000) (i32.const 0)) {ALLOW}"
    );
    let policy = reused(Guest::policy(&busy), limits()).await;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..64 {
        let policy = Arc::clone(&policy);
        tasks.spawn(async move { policy.handle(&query(), Some(&jane())).await });
    }
    for answer in tasks.join_all().await {
        assert_eq!(answer.unwrap(), Decision::Allow);
    }
}

/// Goal: lines are counted for each call. Method: a guest that writes 100 lines, called twice.
#[tokio::test]
async fn lines_are_each_calls_own() {
    let flood = format!(
        "(local $i i32)
         (loop $more
           (call $log (i32.const 2) (global.get $line) (global.get $line.length))
           (local.set $i (i32.add (local.get $i) (i32.const 1)))
           (br_if $more (i32.lt_u (local.get $i) (i32.const 100))))
         {ALLOW}"
    );
    let policy = reused(Guest::policy(&flood).with(IMPORT).text("line", "flood"), limits()).await;
    let (_, log) = logged(calls(&policy, 2)).await;
    assert_eq!(log.matches("flood").count(), 128);
}

/// Goal: secrets are those of the cluster at hand, in each call. Method: one instance, asked for two clusters in turn, and
/// then for one that has none.
#[tokio::test]
async fn secrets_are_each_calls_own() {
    let source = PluginSource { isolation: Isolation::Reused, ..source("x", asking("token").build()) };
    let Ok(LoadedPlugin::Strategy(strategy)) = host().load(source).await else { panic!("it is a strategy") };
    let mut tokens = Vec::new();
    for secrets in [&[("token", "first")][..], &[("token", "second")], &[]] {
        let secrets: Arc<dyn SecretStore> = Arc::new(Secrets(secrets));
        let answer = strategy.credential(&cluster(), &secrets, &RequestAuth::none(), Some(&jane())).await.unwrap();
        tokens.push(match answer.map(|issued| issued.grant.credential) {
            Ok(Credential::BearerToken(token)) => token.into_exposed(),
            Ok(other) => panic!("{other:?}"),
            Err(error) => error.to_string(),
        });
    }
    assert_eq!(tokens[..2], ["first", "second"]);
    assert!(tokens[2].contains("secret `token` is not granted"), "{tokens:?}");
}

/// Goal: instances that wait never take the pool from those that are called. Method: a pool of two, a plug-in that is
/// reused by two calls at once, then two calls of another one, at once.
#[tokio::test]
async fn what_waits_leaves_room() {
    let host = Host::new(HostConfig {
        cache_directory: None,
        instances_max: NonZeroU32::new(2).unwrap(),
        ..HostConfig::default()
    })
    .unwrap();
    let load = async |isolation| {
        let source = PluginSource { isolation, ..source("x", Guest::allowing().build()) };
        policy_of(host.load(source).await)
    };
    let (waits, fresh) = (load(Isolation::Reused).await, load(Isolation::Fresh).await);
    for _ in 0..3 {
        assert_eq!(waits.handle(&query(), None).await.unwrap(), Decision::Allow);
        assert_eq!(fresh.handle(&query(), None).await.unwrap(), Decision::Allow);
    }
}
