//! A tunnel ends: idle, old, stuck, half closed, or never answered. Each limit is reached by a test.

use std::time::Duration;

use serde_json::{Value, json};
use witgate_tests::gate::Gate;
use witgate_tests::upgrade_peer::{Then, UpgradePeer};
use witgate_tests::waiting::within;

use crate::upgrades::{decision_id, head};

/// No limit but the one that a test sets may end its tunnel.
const NEVER_MS: u64 = 3_600_000;

#[tokio::test]
async fn an_idle_tunnel_ends() {
    check(Then::Listen, json!({ "idleTimeoutMs": 300, "lifetimeMs": NEVER_MS }), "idle-timeout").await;
}

#[tokio::test]
async fn an_old_tunnel_ends() {
    check(Then::Listen, json!({ "idleTimeoutMs": NEVER_MS, "lifetimeMs": 300 }), "lifetime-reached").await;
}

/// The client reads nothing, so the gate's write blocks for ever: that is no activity.
#[tokio::test]
async fn a_stuck_tunnel_ends() {
    check(Then::Flood, json!({ "idleTimeoutMs": 300, "lifetimeMs": NEVER_MS }), "idle-timeout").await;
}

/// The API server has ended its direction, and the client does not end its own.
#[tokio::test]
async fn a_half_closed_tunnel_ends_after_its_grace() {
    let limits = json!({ "idleTimeoutMs": NEVER_MS, "lifetimeMs": NEVER_MS, "halfCloseGraceMs": 300 });
    check(Then::HalfClose, limits, "completed").await;
}

/// Both sides stay; the gate ends the tunnel on both.
async fn check(then: Then, limits: Value, reason: &str) {
    let peer = UpgradePeer::switching().then(then).start().await;
    let gate = Gate::without_clusters().cluster(peer.cluster("anonymous")).set("upgrade", limits).start().await;
    let mut raw = gate.raw_client().await;
    raw.write(head(&gate, "SPDY/3.1") + "\r\nhello").await;
    let answer = raw.read_until("\r\n\r\n").await;
    assert_eq!(answer.status, Some(101), "{}", answer.text);

    let lines = gate.decisions_of(&decision_id(&answer.text), 2).await;

    assert_eq!(lines[1]["closeReason"], reason);
    if then != Then::Flood {
        peer.ended(1).await;
    }
    raw.read_to_close().await;
}

/// The grace is for the other direction to finish: what it sends in time arrives.
#[tokio::test]
async fn what_comes_within_the_grace_arrives() {
    let peer = UpgradePeer::switching().then(Then::Echo).start().await;
    let gate = Gate::without_clusters().cluster(peer.cluster("anonymous")).start().await;
    let mut raw = gate.raw_client().await;

    raw.write(head(&gate, "SPDY/3.1") + "\r\n").await;
    raw.read_until("\r\n\r\n").await;
    raw.write("last words").await;
    raw.half_close().await;

    let answer = raw.read_to_close().await;
    assert!(answer.text.ends_with("last words"), "{}", answer.text);
    peer.ended(1).await;
}

#[tokio::test]
async fn an_upgrade_that_is_not_answered_is_504_and_its_connection_closes() {
    let silent = UpgradePeer::saying("").start().await;
    let gate = Gate::without_clusters()
        .cluster(silent.cluster("anonymous"))
        .set("upstream", json!({ "headerTimeoutMs": 300 }))
        .start()
        .await;
    let mut raw = gate.raw_client().await;

    raw.write(head(&gate, "websocket") + "\r\nearly").await;

    let answer = raw.read_to_close().await;
    assert_eq!(answer.status, Some(504), "{}", answer.text);
    assert_eq!(silent.ended(1).await.remove(0).behind_head(), b"");
}

#[tokio::test]
async fn a_client_that_leaves_before_the_answer_ends_the_connection_upstream() {
    let silent = UpgradePeer::saying("").start().await;
    let gate = Gate::without_clusters().cluster(silent.cluster("anonymous")).start().await;
    let mut raw = gate.raw_client().await;
    raw.write(head(&gate, "websocket") + "\r\n").await;
    silent.wait_for("the request waits", |heard| heard.iter().any(|heard| heard.head().ends_with("\r\n\r\n"))).await;

    drop(raw);

    within(Duration::from_secs(1), "the upstream connection ends", silent.ended(1)).await;
}
