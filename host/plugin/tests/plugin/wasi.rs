//! The inert WASI that components of stock toolchains find.

use std::sync::Arc;

use witgate_core::{Decision, PermissionPolicy, PolicyQuery};
use witgate_plugin::WasmPolicy;

use crate::guest::{ALLOW, DENY, Guest, query};
use crate::logging::logged;

/// The parts of WASI that the tests use.
pub(crate) const WIT: &str = "
    package test:wasi;
    world guest {
      include witgate:auth/policy@0.1.0;
      import wasi:random/random@0.2.0;
      import wasi:random/insecure-seed@0.2.0;
      import wasi:clocks/wall-clock@0.2.0;
      import wasi:clocks/monotonic-clock@0.2.0;
      import wasi:cli/environment@0.2.0;
      import wasi:cli/stdout@0.2.0;
      import wasi:cli/exit@0.2.0;
      import wasi:sockets/tcp-create-socket@0.2.0;
    }
    package wasi:random@0.2.0 {
      interface random { get-random-u64: func() -> u64; }
      interface insecure-seed { insecure-seed: func() -> tuple<u64, u64>; }
    }
    package wasi:clocks@0.2.0 {
      interface wall-clock { record datetime { seconds: u64, nanoseconds: u32 } now: func() -> datetime; }
      interface monotonic-clock {
        use wasi:io/poll@0.2.0.{pollable};
        now: func() -> u64;
        subscribe-duration: func(when: u64) -> pollable;
      }
    }
    package wasi:io@0.2.0 {
      interface poll { resource pollable { block: func(); } }
      interface error { resource error; }
      interface streams {
        use error.{error};
        variant stream-error { last-operation-failed(error), closed }
        resource output-stream { blocking-write-and-flush: func(contents: list<u8>) -> result<_, stream-error>; }
      }
    }
    package wasi:cli@0.2.0 {
      interface environment {
        get-environment: func() -> list<tuple<string, string>>;
        get-arguments: func() -> list<string>;
      }
      interface stdout { use wasi:io/streams@0.2.0.{output-stream}; get-stdout: func() -> output-stream; }
      interface exit { exit: func(status: result); }
    }
    package wasi:sockets@0.2.0 {
      interface network { enum error-code { unknown, access-denied, not-supported, invalid-argument, out-of-memory, timeout,
        concurrency-conflict, not-in-progress, would-block, invalid-state, new-socket-limit, address-not-bindable,
        address-in-use, remote-unreachable, connection-refused, connection-reset, connection-aborted, datagram-too-large,
        name-unresolvable, temporary-resolver-failure, permanent-resolver-failure }
        enum ip-address-family { ipv4, ipv6 } }
      interface tcp { resource tcp-socket; }
      interface tcp-create-socket { use network.{error-code, ip-address-family}; use tcp.{tcp-socket};
        create-tcp-socket: func(address-family: ip-address-family) -> result<tcp-socket, error-code>; }
    }";

const RANDOM: &str = "\n(import \"wasi:random/random@0.2.0\" \"get-random-u64\" (func $random (result i64)))\n";
const CLOCK: &str = "\n(import \"wasi:clocks/wall-clock@0.2.0\" \"now\" (func $now (param i32)))\n";
pub(crate) const STDOUT: &str = "\n(import \"wasi:cli/stdout@0.2.0\" \"get-stdout\" (func $stdout (result i32)))\n
    (import \"wasi:io/streams@0.2.0\" \"[method]output-stream.blocking-write-and-flush\" (func $write (param i32 i32 i32 i32)))\n";

/// Goal: the same question has the same answer, even for a policy that throws dice. Method: a guest that denies with a
/// random number in letters, asked twice the same and once something else.
#[tokio::test]
async fn random_numbers_follow_the_query() {
    let policy = Guest::policy_with(
        WIT,
        "(local $number i64) (local $i i32)
             (local.set $number (call $random))
             (loop $digits
               (i32.store8 (i32.add (i32.const 9000) (local.get $i))
                 (i32.add (i32.const 97) (i32.wrap_i64 (i64.and (local.get $number) (i64.const 15)))))
               (local.set $number (i64.shr_u (local.get $number) (i64.const 4)))
               (local.set $i (i32.add (local.get $i) (i32.const 1)))
               (br_if $digits (i32.lt_u (local.get $i) (i32.const 16))))
             (i32.store8 (i32.const 8192) (i32.const 1))
             (i32.store (i32.const 8196) (i32.const 9000)) (i32.store (i32.const 8200) (i32.const 16))
             (i32.const 8192)",
    )
    .with(RANDOM)
    .into_policy()
    .await;
    let later = PolicyQuery { now: query().now + 1, ..query() };
    let first = decide(&policy, &query()).await;
    assert_eq!(first, decide(&policy, &query()).await);
    assert_ne!(first, decide(&policy, &later).await);
}

/// Goal: a policy's clock shows the query's time, and stands still while it is configured. Method: a guest that traps on
/// any other time.
#[tokio::test]
async fn the_clock_shows_the_querys_time() {
    let expect = |seconds| {
        format!(
            "(call $now (i32.const 9000))
             (if (i64.ne (i64.load (i32.const 9000)) (i64.const {seconds})) (then (unreachable)))
             (if (i32.load (i32.const 9008)) (then (unreachable)))
             {ALLOW}"
        )
    };
    let policy = Guest::policy_with(WIT, &expect(query().now)).configure(&expect(0)).with(CLOCK).into_policy().await;
    assert_eq!(decide(&policy, &query()).await, Decision::Allow);
}

/// Goal: there is nothing in the environment. Method: a guest that traps on an argument, a variable or a socket.
#[tokio::test]
async fn there_is_nothing_there() {
    let policy = Guest::policy_with(
        WIT,
        &format!(
            "(call $arguments (i32.const 9000)) (if (i32.load (i32.const 9004)) (then (unreachable)))
             (call $environment (i32.const 9000)) (if (i32.load (i32.const 9004)) (then (unreachable)))
             (call $socket (i32.const 0) (i32.const 9000))
             (if (i32.ne (i32.load8_u (i32.const 9000)) (i32.const 1)) (then (unreachable)))
             {ALLOW}"
        ),
    )
    .with("\n(import \"wasi:cli/environment@0.2.0\" \"get-arguments\" (func $arguments (param i32)))\n")
    .with("\n(import \"wasi:cli/environment@0.2.0\" \"get-environment\" (func $environment (param i32)))\n")
    .with("\n(import \"wasi:sockets/tcp-create-socket@0.2.0\" \"create-tcp-socket\" (func $socket (param i32 i32)))\n")
    .into_policy()
    .await;
    assert_eq!(decide(&policy, &query()).await, Decision::Allow);
}

/// Goal: what is printed is logged, line by line, and a handle that `configure` opened stays good. Method: a guest
/// that opens stdout in `configure` and prints to it in `handle`.
#[tokio::test]
async fn stdout_goes_to_the_log() {
    let policy = Guest::policy_with(
        WIT,
        &format!(
            "(call $write (global.get $handle) (global.get $line) (global.get $line.length) (i32.const 9000))
             (if (i32.load8_u (i32.const 9000)) (then (unreachable)))
             {ALLOW}"
        ),
    )
    .configure(&format!("(global.set $handle (call $stdout)) {ALLOW}"))
    .with(STDOUT)
    .with("(global $handle (mut i32) (i32.const 0))")
    .text("line", "first line\nsecond\u{7} line\nrest")
    .into_policy()
    .await;
    let (decision, log) = logged(async { decide(&policy, &query()).await }).await;
    assert_eq!(decision, Decision::Allow);
    for line in ["witgate::plugin: first line plugin=x", "second\\u{7} line", "witgate::plugin: rest"] {
        assert!(log.contains(line), "{line} in {log}");
    }
}

/// Goal: leaving is failing, and sleeping ends at the deadline. Method: a guest that exits, and one that sleeps for
/// an hour in a host call.
#[tokio::test]
async fn leaving_and_sleeping_are_no_answers() {
    let exits = Guest::policy_with(WIT, "(call $exit (i32.const 0)) (unreachable)")
        .with("\n(import \"wasi:cli/exit@0.2.0\" \"exit\" (func $exit (param i32)))\n")
        .into_policy()
        .await;
    assert_eq!(exits.handle(&query(), None).await.unwrap_err().code(), "trapped");

    let sleeps = Guest::policy_with(WIT, "(call $block (call $sleep (i64.const 3600000000000))) (unreachable)")
        .with("\n(import \"wasi:clocks/monotonic-clock@0.2.0\" \"subscribe-duration\" (func $sleep (param i64) (result i32)))\n")
        .with("\n(import \"wasi:io/poll@0.2.0\" \"[method]pollable.block\" (func $block (param i32)))\n")
        .into_policy_within(witgate_plugin::Limits::new(20, 64, 64).unwrap())
        .await;
    assert_eq!(sleeps.handle(&query(), None).await.unwrap_err().code(), "deadline-exceeded");
}

/// Goal: a denial works with WASI around it as it does without.
#[tokio::test]
async fn a_denial_works_as_ever() {
    let policy = Guest::policy_with(WIT, DENY).text("reason", "no").with(RANDOM).into_policy().await;
    assert_eq!(decide(&policy, &query()).await, Decision::Deny("no".into()));
}

async fn decide(policy: &Arc<WasmPolicy>, query: &PolicyQuery) -> Decision {
    policy.handle(query, None).await.unwrap()
}
