//! Guests that try to remember what an earlier call brought, in every place that they have.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU32, Ordering};

use futures_util::future::{join, join_all};
use serde_json::json;
use witgate_tests::api_server::ApiServer;
use witgate_tests::cluster::Cluster;
use witgate_tests::gate::Gate;
use witgate_tests::plugin_folder::Plugin;
use witgate_tests::secrets::secret;
use witgate_tests::text_guest::TextGuest;

const PODS: &str = "/api/v1/namespaces/dev/pods";

/// Goal: no call of a guest finds anything of another, in an instance of its own. Method: a strategy that looks for other callers' tokens
/// before it hides its own: in all of its memory, byte by byte, at the size that it had and in pages that it grows; in globals; in a
/// table's length and elements; in whether a data segment was dropped. Many calls, one after the other and at once, so that instances
/// take places that others had.
#[tokio::test]
async fn a_strategy_finds_no_earlier_callers_token() {
    let api_server = ApiServer::start().await;
    let thief = Plugin::of_bytes("thief", &thief().build()).sidecar(json!({}));
    let gate = Gate::builder(&api_server).cluster(Cluster::at("two", &api_server, "thief")).plugin(thief).start().await;
    let ask = async || {
        let token = secret("token for a guest that remembers");
        let caller = gate.caller("jane").backstage("two");
        caller.get(PODS).header("backstage-kubernetes-authorization-google", &token).await.message()
    };

    for _ in 0..20 {
        assert_eq!(ask().await, CLEAN);
    }
    for _ in 0..5 {
        let messages = join_all((0..32).map(|_| ask())).await;
        assert!(messages.iter().all(|message| message == CLEAN), "{messages:?}");
    }
    assert_eq!(api_server.heard(), crate::NOTHING);
}

/// Goal: WASI remembers nothing from one call to another. Method: a strategy that looks before it leaves something: a handle's number
/// is the first, standard input and the environment are empty; it prints its token, whole and as a line without an end, leaves
/// both streams, a clock and a timer open, and draws a random number, which must be another one each time.
#[tokio::test]
async fn wasi_hands_nothing_from_call_to_call() {
    let api_server = ApiServer::start().await;
    let thief = Plugin::of_bytes("thief", &wasi_thief().build()).sidecar(json!({}));
    let gate = Gate::builder(&api_server).cluster(Cluster::at("two", &api_server, "thief")).plugin(thief).start().await;
    let ask = async || {
        let token = secret("token for a guest that prints");
        let caller = gate.caller("jane").backstage("two");
        caller.get(PODS).header("backstage-kubernetes-authorization-google", &token).await.message()
    };

    let mut numbers = BTreeSet::new();
    let mut messages = Vec::new();
    for _ in 0..20 {
        messages.push(ask().await);
    }
    for _ in 0..5 {
        messages.extend(join_all((0..32).map(|_| ask())).await);
    }
    for message in &messages {
        let number = message.strip_prefix("nothing was left ");
        numbers.insert(number.unwrap_or_else(|| panic!("{message}")));
    }
    assert_eq!(numbers.len(), messages.len(), "random numbers come once");
    assert_eq!(api_server.heard(), crate::NOTHING);
    // That the tokens it printed are in no log, every test's gate checks when it ends; that they were printed, this.
    assert!(gate.log().contains("printed: "), "what it prints is logged");
}

/// Goal: an instance that is reused keeps what is its own, and finds nothing of other plug-ins. Method: a strategy that is never given a
/// secret searches all of its memory, and what it grows; in between, one of another cluster is given tokens, in many instances.
#[tokio::test]
async fn a_reused_instance_finds_nothing_of_its_neighbours() {
    let api_server = ApiServer::start().await;
    let sidecar = json!({ "isolation": "reused", "limits": { "deadlineMs": 5000, "instanceCalls": 8 } });
    let searcher = Plugin::of_bytes("searcher", &searcher().build()).sidecar(sidecar);
    let gate = Gate::builder(&api_server)
        .cluster(Cluster::at("two", &api_server, "searcher"))
        .cluster(Cluster::at("three", &api_server, "neighbour"))
        .plugin(searcher)
        .plugin(Plugin::fixture("echo-auth").named("neighbour"))
        .start()
        .await;
    // Another text each time, or the cache would remember that it was refused.
    let harmless = AtomicU32::new(0);
    let search = async || {
        let text = format!("harmless-{}", harmless.fetch_add(1, Ordering::Relaxed));
        let caller = gate.caller("jane").backstage("two");
        caller.get(PODS).header("backstage-kubernetes-authorization-google", &text).await.message()
    };
    let neighbour = async || {
        let token = secret("token for a neighbour");
        let caller = gate.caller("jane").backstage("three");
        caller.get(PODS).header("backstage-kubernetes-authorization-google", &token).await.status()
    };

    for _ in 0..10 {
        let (searches, neighbours) =
            join(join_all((0..16).map(|_| search())), join_all((0..16).map(|_| neighbour()))).await;
        assert!(searches.iter().all(|message| message.starts_with(CLEAN)), "{searches:?}");
        assert_eq!(neighbours, [200; 16]);
    }
    // It is reused, or this test would show nothing.
    let mut counts = Vec::new();
    for _ in 0..8 {
        counts.push(search().await);
    }
    assert!(counts.contains(&format!("{CLEAN} 5")), "its instances serve more than one call: {counts:?}");
}

/// What the gate says for a strategy that refuses with this text.
const CLEAN: &str = "nothing was left";

/// Counts in `$found` the places of all its memory, but `$token`, in which a secret of a test begins.
fn look_through_memory() -> String {
    // What every secret of a test begins with, as a number in memory.
    let marker = i64::from_le_bytes(*b"sEcReT-\0");
    format!(
        "(local.set $at (i32.const 0))
         (loop $look
           (if (i64.eq (i64.and (i64.load (local.get $at)) (i64.const 0x00ffffffffffffff)) (i64.const {marker}))
             (then (if (i32.ne (local.get $at) (local.get $token))
               (then (local.set $found (i32.add (local.get $found) (i32.const 1)))))))
           (local.set $at (i32.add (local.get $at) (i32.const 1)))
           (br_if $look (i32.lt_u (local.get $at)
             (i32.sub (i32.mul (memory.size) (i32.const 65536)) (i32.const 8)))))"
    )
}

/// Refuses with the text at 16 and `$number` in digits behind it, where `$found` is none; else with the one at 48.
const REFUSE: &str = "
    (i32.store8 (i32.const 8192) (i32.const 1))
    (i32.store8 offset=8 (i32.const 8192) (i32.const 1))
    (if (i32.eqz (local.get $found))
      (then
        (local.set $at (i32.const 33))
        (loop $digit
          (i32.store8 (local.get $at) (i32.add (i32.const 48) (i32.wrap_i64 (i64.rem_u (local.get $number) (i64.const 10)))))
          (local.set $number (i64.div_u (local.get $number) (i64.const 10)))
          (local.set $at (i32.add (local.get $at) (i32.const 1)))
          (br_if $digit (i64.ne (local.get $number) (i64.const 0))))
        (i32.store offset=12 (i32.const 8192) (i32.const 16))
        (i32.store offset=16 (i32.const 8192) (i32.sub (local.get $at) (i32.const 16))))
      (else (i32.store offset=12 (i32.const 8192) (i32.const 64)) (i32.store offset=16 (i32.const 8192) (i32.const 18))))
    (i32.const 8192)";

/// It says how often its instance was called, and what it finds that it was never given.
fn searcher() -> TextGuest {
    let body = format!(
        "(global.set $calls (i32.add (global.get $calls) (i32.const 1)))
         (global.set $allocated (i32.const 65536))
         (drop (memory.grow (i32.const 4)))
         {}
         (local.set $number (i64.extend_i32_u (global.get $calls)))
         {REFUSE}",
        look_through_memory()
    );
    TextGuest::strategy(&body)
        .locals("(local $token i32) (local $found i32) (local $at i32) (local $number i64)")
        .with("(global $calls (mut i32) (i32.const 0))")
        .with("(data (i32.const 16) \"nothing was left \")")
        .with("(data (i32.const 64) \"something was left\")")
}

/// It looks for what WASI could have kept, leaves what it can, and says a random number.
fn wasi_thief() -> TextGuest {
    const STREAMS: &str = "wasi:io/streams@0.2.0";
    let count = "(then (local.set $found (i32.add (local.get $found) (i32.const 1))))";
    let body = format!(
        "(local.set $token (i32.load offset=20 (i32.load offset=52 (local.get $arguments))))
         (local.set $length (i32.load offset=24 (i32.load offset=52 (local.get $arguments))))
         (local.set $out (call $stdout))
         (if (i32.ne (local.get $out) (i32.const 1)) {count})
         (local.set $in (call $stdin))
         (if (i32.ne (local.get $in) (i32.const 2)) {count})
         ;; A read of standard input: closed, or nothing.
         (call $read (local.get $in) (i64.const 1000) (i32.const 9000))
         (if (i32.eqz (i32.load8_u (i32.const 9000))) (then (if (i32.load (i32.const 9008)) {count})))
         (call $environment (i32.const 9016))
         (if (i32.load (i32.const 9020)) {count})
         (local.set $at (call $timer (i64.const 3600000000000)))
         (if (i32.ne (local.get $at) (i32.const 3)) {count})
         (if (call $ready (local.get $at)) {count})
         (call $write (local.get $out) (i32.const 96) (i32.const 9) (i32.const 9032))
         (call $write (local.get $out) (local.get $token) (local.get $length) (i32.const 9032))
         (call $write (local.get $out) (i32.const 105) (i32.const 1) (i32.const 9032))
         (call $write (local.get $out) (local.get $token) (local.get $length) (i32.const 9032))
         (drop (call $now))
         (local.set $number (call $random))
         {REFUSE}"
    );
    TextGuest::strategy(&body)
        .wasi(
            "import wasi:cli/environment@0.2.0; import wasi:cli/stdin@0.2.0; import wasi:cli/stdout@0.2.0;
             import wasi:clocks/monotonic-clock@0.2.0; import wasi:random/random@0.2.0;",
        )
        .locals("(local $token i32) (local $length i32) (local $found i32) (local $at i32) (local $out i32) (local $in i32) (local $number i64)")
        .with("(import \"wasi:cli/stdout@0.2.0\" \"get-stdout\" (func $stdout (result i32)))")
        .with("(import \"wasi:cli/stdin@0.2.0\" \"get-stdin\" (func $stdin (result i32)))")
        .with("(import \"wasi:cli/environment@0.2.0\" \"get-environment\" (func $environment (param i32)))")
        .with(&format!("(import \"{STREAMS}\" \"[method]input-stream.read\" (func $read (param i32 i64 i32)))"))
        .with(&format!(
            "(import \"{STREAMS}\" \"[method]output-stream.blocking-write-and-flush\" (func $write (param i32 i32 i32 i32)))"
        ))
        .with("(import \"wasi:clocks/monotonic-clock@0.2.0\" \"now\" (func $now (result i64)))")
        .with("(import \"wasi:clocks/monotonic-clock@0.2.0\" \"subscribe-duration\" (func $timer (param i64) (result i32)))")
        .with("(import \"wasi:io/poll@0.2.0\" \"[method]pollable.ready\" (func $ready (param i32) (result i32)))")
        .with("(import \"wasi:random/random@0.2.0\" \"get-random-u64\" (func $random (result i64)))")
        .with("(data (i32.const 16) \"nothing was left \")")
        .with("(data (i32.const 64) \"something was left\")")
        .with("(data (i32.const 96) \"printed: \\0a\")")
}

/// In `$found` it counts what it should not have; it refuses with `nothing was left`, or `something was left`.
fn thief() -> TextGuest {
    let look_through_memory = look_through_memory();
    let body = format!(
        "(local.set $token (i32.load offset=20 (i32.load offset=52 (local.get $arguments))))
         (local.set $length (i32.load offset=24 (i32.load offset=52 (local.get $arguments))))
         (local.set $found (i32.add (global.get $calls) (i32.sub (table.size $table) (i32.const 1))))
         (if (i32.eqz (ref.is_null (table.get $table (i32.const 0))))
           (then (local.set $found (i32.add (local.get $found) (i32.const 1)))))
         (if (i32.ne (memory.size) (i32.const 8)) (then (local.set $found (i32.add (local.get $found) (i32.const 1)))))
         (memory.init $segment (i32.const 4096) (i32.const 0) (i32.const 4)) ;; traps where it was dropped
         (drop (memory.grow (i32.const 4)))
         {look_through_memory}
         ;; Now it hides what it has.
         (global.set $calls (i32.add (global.get $calls) (i32.const 1)))
         (drop (table.grow $table (ref.func $anything) (i32.const 5)))
         (table.set $table (i32.const 0) (ref.func $anything))
         (data.drop $segment)
         (local.set $at (i32.const 100000))
         (loop $hide
           (memory.copy (local.get $at) (local.get $token) (local.get $length))
           (local.set $at (i32.add (local.get $at) (i32.const 4096)))
           (br_if $hide (i32.lt_u (local.get $at) (i32.sub (i32.mul (memory.size) (i32.const 65536)) (i32.const 4096)))))
         (i32.store8 (i32.const 8192) (i32.const 1))
         (i32.store8 offset=8 (i32.const 8192) (i32.const 1))
         (if (i32.eqz (local.get $found))
           (then (i32.store offset=12 (i32.const 8192) (i32.const 16)) (i32.store offset=16 (i32.const 8192) (i32.const 16)))
           (else (i32.store offset=12 (i32.const 8192) (i32.const 32)) (i32.store offset=16 (i32.const 8192) (i32.const 18))))
         (i32.const 8192)"
    );
    TextGuest::strategy(&body)
        .locals("(local $token i32) (local $length i32) (local $found i32) (local $at i32)")
        .with("(global $calls (mut i32) (i32.const 0))")
        .with("(table $table 1 funcref)")
        .with("(func $anything)")
        .with("(elem declare func $anything)")
        .with("(data $segment \"seed\")")
        .with("(data (i32.const 16) \"nothing was left\")")
        .with("(data (i32.const 32) \"something was left\")")
}
