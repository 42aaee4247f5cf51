//! Guests that misbehave: each is ended, each has its own code, and nobody else notices.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use witgate_core::{CallError, Decision, PermissionPolicy, UserInfo};
use witgate_plugin::{Host, HostConfig, LimitNumbers, Limits, PluginSource};

use crate::guest::{ALLOW, Guest, chain, host, jane, policy_of, query, source};

const SPIN: &str = "(loop $spin (br $spin)) (unreachable)";

/// Goal: every way to misbehave is a failed call with its own code. Method: one row a way.
#[tokio::test]
async fn misbehaviour_is_contained() {
    contained("(unreachable)", "trapped").await;
    contained("(i32.div_u (i32.const 1) (i32.load (i32.const 9000)))", "trapped").await;
    contained("(i32.load (i32.const -4))", "trapped").await;
    contained("(call $deeper (i32.const 1))", "stack-limit").await;
    contained(
        "(loop $more (br_if $more (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) (unreachable)",
        "memory-limit",
    )
    .await;
    contained("(drop (table.grow $table (ref.null func) (i32.const 200000))) (unreachable)", "table-limit").await;

    // Answers that are none.
    contained("(i32.const -4)", "malformed-answer").await;
    contained("(i32.const 8193)", "malformed-answer").await;
    contained("(i32.store8 (i32.const 8192) (i32.const 9)) (i32.const 8192)", "malformed-answer").await;
    contained(&deny_with("(i32.const 500000)", "(i32.const 100000)"), "malformed-answer").await;
    contained(
        &format!(
            "(i32.store (i32.const 9000) (i32.const 0xfffefdfc)) {}",
            deny_with("(i32.const 9000)", "(i32.const 4)")
        ),
        "malformed-answer",
    )
    .await;

    // Answers that are too much.
    let large = deny_with("(i32.const 131072)", "(i32.const 1100000)");
    contained_in(Guest::policy(&large).memory_pages(32), "output-limit").await;
    let larger = deny_with("(i32.const 131072)", "(i32.const 6000000)");
    contained_in(Guest::policy(&larger).memory_pages(128), "output-limit").await;
    contained_in(amplifying(), "output-limit").await;
}

async fn contained(body: &str, code: &str) {
    let guest = Guest::policy(body).with(
        "(func $deeper (param i32) (result i32) (i32.add (call $deeper (local.get 0)) (call $deeper (local.get 0))))
         (table $table 1 funcref)",
    );
    contained_in(guest, code).await;
}

async fn contained_in(guest: Guest, code: &str) {
    let policy = guest.into_policy_within(Limits::new(5_000, 64, 64).unwrap()).await;
    let error = policy.handle(&query(), Some(&jane())).await.unwrap_err();
    assert_eq!(error.code(), code, "{}", chain(&error));
}

fn deny_with(address: &str, length: &str) -> String {
    format!(
        "(i32.store8 (i32.const 8192) (i32.const 1)) (i32.store (i32.const 8196) {address})
         (i32.store (i32.const 8200) {length}) (i32.const 8192)"
    )
}

/// A conditional of 10,000 alternatives that are all the same list of 10,000 conditions: small in the guest, 100
/// million records outside.
fn amplifying() -> Guest {
    Guest::policy(
        "(local $i i32)
         (loop $fill
           (i32.store (i32.add (i32.const 100000) (i32.mul (local.get $i) (i32.const 8))) (i32.const 200000))
           (i32.store (i32.add (i32.const 100004) (i32.mul (local.get $i) (i32.const 8))) (i32.const 10000))
           (local.set $i (i32.add (local.get $i) (i32.const 1)))
           (br_if $fill (i32.lt_u (local.get $i) (i32.const 10000))))
         (i32.store8 (i32.const 8192) (i32.const 3))
         (i32.store (i32.const 8196) (i32.const 100000)) (i32.store (i32.const 8200) (i32.const 10000))
         (i32.const 8192)",
    )
}

/// Goal: a guest that never ends is ended at its deadline. Method: the time that it took, to twice the deadline.
/// The machine may be busy: the best of some tries counts.
#[tokio::test]
async fn a_spinning_guest_ends_at_its_deadline() {
    let deadline = Duration::from_millis(50);
    let policy = Guest::policy(SPIN).into_policy_within(Limits::new(50, 64, 64).unwrap()).await;
    let mut best = Duration::MAX;
    for _ in 0..10 {
        let start = Instant::now();
        let error = policy.handle(&query(), None).await.unwrap_err();
        let took = start.elapsed();
        assert!(matches!(error, CallError::DeadlineExceeded { deadline: given, .. } if given == deadline), "{error}");
        assert!(took >= deadline, "{took:?}");
        best = best.min(took);
        if best < deadline * 2 {
            return;
        }
    }
    panic!("it took {best:?}");
}

/// Goal: a guest holds no worker. Method: on a runtime with one thread, a timer goes off and a well-behaved policy
/// answers while another spins.
#[tokio::test(flavor = "current_thread")]
async fn a_spinning_guest_holds_no_worker() {
    let spinning = Guest::policy(SPIN).into_policy_within(Limits::new(10_000, 64, 64).unwrap()).await;
    let behaved = Guest::allowing().into_policy_within(Limits::new(5_000, 64, 64).unwrap()).await;
    let question = query();
    let mut spin = spinning.handle(&question, None);
    let others = async {
        for _ in 0..5 {
            tokio::time::sleep(Duration::from_millis(1)).await;
            assert_eq!(behaved.handle(&question, None).await.unwrap(), Decision::Allow);
        }
    };
    tokio::select! {
        answer = &mut spin => panic!("it never ends by itself: {answer:?}"),
        () = others => {}
    }
}

/// Goal: full means refused at once, and a call that ends, or is dropped, makes room.
#[tokio::test]
async fn a_full_plugin_refuses_at_once() {
    let policy = Guest::policy(SPIN).into_policy_within(Limits::new(10_000, 64, 2).unwrap()).await;
    let question = query();
    let mut first = Box::pin(policy.handle(&question, None));
    let mut second = Box::pin(policy.handle(&question, None));
    for call in [&mut first, &mut second] {
        assert!(futures_poll(call).await, "it spins");
    }
    let error = policy.handle(&question, None).await.unwrap_err();
    assert_eq!(error.to_string(), "plug-in `x` already has its 2 calls in flight");

    drop(second);
    let mut third = Box::pin(policy.handle(&question, None));
    assert!(futures_poll(&mut third).await, "there is room again");
    drop(first);
}

/// Polls a call once; true if it still runs.
async fn futures_poll<F: Future + Unpin>(call: &mut F) -> bool {
    std::future::poll_fn(|context| std::task::Poll::Ready(std::pin::Pin::new(&mut *call).poll(context).is_pending()))
        .await
}

/// Goal: the pool of all plug-ins refuses as well, and does not wait. Method: a host with room for one instance.
#[tokio::test]
async fn a_full_pool_refuses_at_once() {
    let host = Host::new(HostConfig { instances_max: NonZeroU32::MIN, ..HostConfig::default() }).unwrap();
    let limits = Limits::new(10_000, 64, 64).unwrap();
    let load = async |name: &str, guest: Guest| {
        policy_of(host.load(PluginSource { limits, ..source(name, guest.build()) }).await)
    };
    let spinning = load("spinning", Guest::policy(SPIN)).await;
    let behaved = load("behaved", Guest::allowing()).await;
    let question = query();
    let mut spin = spinning.handle(&question, None);
    assert!(futures_poll(&mut spin).await, "it spins");
    assert_eq!(behaved.handle(&question, None).await.unwrap_err().code(), "saturated");
    drop(spin);
    assert_eq!(behaved.handle(&question, None).await.unwrap(), Decision::Allow);
}

/// Goal: what a policy fails at is not in the way of its next call, nor of its neighbour's. Method: many calls of a
/// guest that traps and one that does not, at the same time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn neighbours_do_not_notice() {
    let trapping = Guest::policy("(unreachable)").into_policy_within(Limits::new(5_000, 64, 64).unwrap()).await;
    let behaved = Guest::policy(ALLOW).into_policy_within(Limits::new(5_000, 64, 64).unwrap()).await;
    let tasks: Vec<_> = (0..50)
        .map(|number| {
            // Who is failed again and again is not called for.
            let caller = UserInfo::named(format!("caller-{number}"));
            let (trapping, behaved) = (Arc::clone(&trapping), Arc::clone(&behaved));
            tokio::spawn(async move {
                assert_eq!(trapping.handle(&query(), Some(&caller)).await.unwrap_err().code(), "trapped");
                assert_eq!(behaved.handle(&query(), None).await.unwrap(), Decision::Allow);
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
}

/// Goal: a host and all that it loaded go away when nobody holds them. Method: many hosts; each has a clock's thread, and
/// dropping one waits for it.
#[tokio::test]
async fn a_host_ends_with_its_last_plugin() {
    for _ in 0..3 {
        let host = Host::new(HostConfig { instances_max: NonZeroU32::MIN, ..HostConfig::default() }).unwrap();
        let policy = policy_of(host.load(source("x", Guest::allowing().build())).await);
        drop(host);
        assert_eq!(policy.handle(&query(), None).await.unwrap(), Decision::Allow, "the plug-in keeps what it needs");
    }
    assert_eq!(
        policy_of(crate::guest::host().load(source("x", Guest::allowing().build())).await).mode(),
        witgate_core::PolicyMode::Enforce
    );
    let _shared = host();
}

/// Goal: each limit that a sidecar sets holds, and a call that fits is not touched by it. Method: guests that need just
/// more than they get, and the same with room.
#[tokio::test]
async fn a_sidecars_limits_hold() {
    let table = || {
        Guest::policy(&format!("(drop (table.grow $table (ref.null func) (i32.const 99))) {ALLOW}"))
            .with("(table $table 1 funcref)")
    };
    within(table(), "tableElements", 99, "table-limit").await;
    within(table(), "tableElements", 100, "allowed").await;
    let answer = || Guest::policy(&deny_with("(i32.const 131072)", "(i32.const 1100)")).memory_pages(4);
    within(answer(), "outputKiB", 1, "output-limit").await;
    within(answer(), "outputKiB", 2, "denied").await;
    within(Guest::policy(ALLOW), "coreInstances", 128, "allowed").await;
}

async fn within(guest: Guest, key: &str, number: u64, expected: &str) {
    let mut numbers = LimitNumbers::default();
    *numbers.slot("deadlineMs").unwrap() = 5_000;
    *numbers.slot(key).unwrap() = number;
    let policy = guest.into_policy_within(Limits::try_from(numbers).unwrap()).await;
    let got = match policy.handle(&query(), Some(&jane())).await {
        Ok(Decision::Deny(_)) => "denied",
        Ok(_) => "allowed",
        Err(error) => error.code(),
    };
    assert_eq!(got, expected, "{key}: {number}");
}

/// Goal: a queue lets as many wait as it has places, and no more. Method: one place in flight, one in the queue; the call in flight
/// spins until it is dropped.
#[tokio::test]
async fn a_queue_has_places() {
    let mut numbers = LimitNumbers::default();
    for (key, number) in [("deadlineMs", 10_000), ("concurrency", 1), ("queue", 1)] {
        *numbers.slot(key).unwrap() = number;
    }
    // It spins for the caller, and allows nobody in particular.
    let guest = Guest::policy(&format!("(if (i32.load8_u offset=192 (local.get $query)) (then {SPIN})) {ALLOW}"));
    let policy = guest.into_policy_within(Limits::try_from(numbers).unwrap()).await;
    let (question, caller) = (query(), jane());
    let mut spin = policy.handle(&question, Some(&caller));
    assert!(futures_poll(&mut spin).await, "it spins");
    let mut waiting = policy.handle(&question, None);
    assert!(futures_poll(&mut waiting).await, "it waits");
    assert_eq!(policy.handle(&question, None).await.unwrap_err().code(), "saturated");
    drop(spin);
    assert_eq!(waiting.await.unwrap(), Decision::Allow);
}
