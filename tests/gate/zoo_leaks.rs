//! Guests that try to remember what an earlier call brought, in every place that they have.

use futures_util::future::join_all;
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

/// What the gate says for a strategy that refuses with this text.
const CLEAN: &str = "nothing was left";

/// In `$found` it counts what it should not have; it refuses with `nothing was left`, or `something was left`.
fn thief() -> TextGuest {
    // What every secret of a test begins with, as a number in memory.
    let marker = i64::from_le_bytes(*b"sEcReT-\0");
    let look_through_memory = format!(
        "(local.set $at (i32.const 0))
         (loop $look
           (if (i64.eq (i64.and (i64.load (local.get $at)) (i64.const 0x00ffffffffffffff)) (i64.const {marker}))
             (then (if (i32.ne (local.get $at) (local.get $token))
               (then (local.set $found (i32.add (local.get $found) (i32.const 1)))))))
           (local.set $at (i32.add (local.get $at) (i32.const 1)))
           (br_if $look (i32.lt_u (local.get $at)
             (i32.sub (i32.mul (memory.size) (i32.const 65536)) (i32.const 8)))))"
    );
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
