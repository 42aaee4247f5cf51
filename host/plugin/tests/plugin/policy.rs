//! What a policy is told and what it may answer.

use std::sync::Arc;

use witgate_core::{Condition, Conditional, Decision, PermissionPolicy, PluginName, PolicyMode};
use witgate_plugin::{PluginKind, PluginSource};

use crate::guest::{ALLOW, DENY, Guest, NO_OPINION, host, jane, policy_of, query, source};

/// Goal: each answer of the contract arrives. Method: a guest for each.
#[tokio::test]
async fn every_decision_arrives() {
    check(Guest::allowing(), Decision::Allow).await;
    check(Guest::policy(NO_OPINION), Decision::NoOpinion).await;
    check(Guest::policy(DENY).text("reason", "no pods"), Decision::Deny("no pods".into())).await;
    check(Guest::policy(DENY).text("reason", "a\r\n\u{1b}b"), Decision::Deny("a  \u{fffd}b".into())).await;
    check(Guest::policy(DENY).text("reason", &"ä".repeat(1025)), Decision::Deny("ä".repeat(1024))).await;
    check(Guest::policy(DENY).text("reason", ""), Decision::Deny(String::new())).await;
    check(
        conditional_guest(),
        Decision::Conditional(Conditional {
            any_of: vec![vec![Condition {
                rule: "IS_VERB".into(),
                params: vec![("verbs".into(), vec!["list".into()])],
                negated: true,
            }]],
            reusable_for: Some(60),
        }),
    )
    .await;
}

async fn check(guest: Guest, expected: Decision) {
    let policy = guest.into_policy().await;
    assert_eq!(policy.handle(&query(), Some(&jane())).await.unwrap(), expected);
}

/// Allows if the verb is not `list`; reusable for a minute. From the inside out: values at 9000, parameters at
/// 9100, conditions at 9200, alternatives at 9300.
fn conditional_guest() -> Guest {
    Guest::policy(
        "(i32.store (i32.const 9000) (global.get $list)) (i32.store (i32.const 9004) (global.get $list.length))
         (i32.store (i32.const 9100) (global.get $verbs)) (i32.store (i32.const 9104) (global.get $verbs.length))
         (i32.store (i32.const 9108) (i32.const 9000)) (i32.store (i32.const 9112) (i32.const 1))
         (i32.store (i32.const 9200) (global.get $rule)) (i32.store (i32.const 9204) (global.get $rule.length))
         (i32.store (i32.const 9208) (i32.const 9100)) (i32.store (i32.const 9212) (i32.const 1))
         (i32.store8 (i32.const 9216) (i32.const 1))
         (i32.store (i32.const 9300) (i32.const 9200)) (i32.store (i32.const 9304) (i32.const 1))
         (i32.store8 (i32.const 8192) (i32.const 3))
         (i32.store (i32.const 8196) (i32.const 9300)) (i32.store (i32.const 8200) (i32.const 1))
         (i32.store8 (i32.const 8204) (i32.const 1)) (i32.store (i32.const 8208) (i32.const 60))
         (i32.const 8192)",
    )
    .text("list", "list")
    .text("verbs", "verbs")
    .text("rule", "IS_VERB")
}

/// Goal: a policy reads the query. Method: a guest that denies with the permission's name, which is the first
/// thing in the record that it is given.
#[tokio::test]
async fn the_query_arrives() {
    let policy = Guest::policy(
        "(i32.store8 (i32.const 8192) (i32.const 1))
         (i32.store (i32.const 8196) (i32.load (local.get $query)))
         (i32.store (i32.const 8200) (i32.load offset=4 (local.get $query)))
         (i32.const 8192)",
    )
    .into_policy()
    .await;
    assert_eq!(policy.handle(&query(), None).await.unwrap(), Decision::Deny("kubernetes.proxy".into()));
}

/// Goal: settings reach the guest before the query does. Method: `configure` keeps where they lie; `handle` denies
/// with them.
#[tokio::test]
async fn settings_arrive_first() {
    let guest = Guest::policy(
        "(i32.store8 (i32.const 8192) (i32.const 1))
         (i32.store (i32.const 8196) (global.get $kept)) (i32.store (i32.const 8200) (global.get $kept_length))
         (i32.const 8192)",
    )
    .with("(global $kept (mut i32) (i32.const 0)) (global $kept_length (mut i32) (i32.const 0))")
    .configure(
        "(global.set $kept (local.get $settings)) (global.set $kept_length (local.get $length))
         (i32.store8 (i32.const 8192) (i32.const 0)) (i32.const 8192)",
    );
    let settings = serde_json::json!({ "team": "blue", "also": [1] });
    let policy = policy_of(host().load(PluginSource { settings, ..source("x", guest.build()) }).await);
    let decision = policy.handle(&query(), None).await.unwrap();
    assert_eq!(decision, Decision::Deny(r#"{"team":"blue","also":[1]}"#.into()));
}

/// Goal: no call sees what another did. Method: a guest that counts its calls in a global and in memory, and denies
/// from the second one on.
#[tokio::test]
async fn nothing_is_kept_between_calls() {
    let policy = Guest::policy(&format!(
        "(global.set $calls (i32.add (global.get $calls) (i32.const 1)))
         (i32.store (i32.const 9000) (i32.add (i32.load (i32.const 9000)) (i32.const 1)))
         (if (i32.gt_u (i32.add (global.get $calls) (i32.load (i32.const 9000))) (i32.const 2)) (then (unreachable)))
         {ALLOW}"
    ))
    .with("(global $calls (mut i32) (i32.const 0))")
    .into_policy()
    .await;
    for _ in 0..100 {
        assert_eq!(policy.handle(&query(), Some(&jane())).await.unwrap(), Decision::Allow);
    }
}

/// Goal: a loaded plug-in says what it is.
#[tokio::test]
async fn a_loaded_policy_says_what_it_is() {
    let bytes = Guest::allowing().build();
    let shadow = PluginSource { mode: PolicyMode::Shadow, ..source("read-only", Arc::clone(&bytes)) };
    let loaded = host().load(shadow).await.unwrap();
    assert_eq!(loaded.name(), &PluginName::try_from("read-only").unwrap());
    assert_eq!(loaded.digest(), witgate_core::Digest::of(&bytes));
    assert_eq!(loaded.contract(), "auth@0.1.0");
    assert_eq!(loaded.kind(), PluginKind::Policy);
    assert_eq!(policy_of(Ok(loaded)).mode(), PolicyMode::Shadow);
}
