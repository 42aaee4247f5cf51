//! Faults of real guests, in whatever mixture and order: none of them ever allows.

use std::sync::Arc;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use witgate_core::{PermissionPolicy, PolicyAnswer, PolicyMode, UserInfo, Verdict, verdict};
use witgate_plugin::{Limits, PluginSource, WasmPolicy};

use crate::guest::{ALLOW, DENY, Guest, NO_OPINION, host, policy_of, query, source};

/// Goal: a verdict is an allowance only where a policy that counts said so and each of the others answered. Method: real policies that
/// answer or fail in every way, some in shadow mode, asked in random sets by random callers, so long that callers are quarantined.
#[test]
fn no_fault_of_a_guest_allows() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let guests = runtime.block_on(guests());
    let sets = prop::collection::vec(0..guests.len(), 0..5);
    let rounds = prop::collection::vec((sets, 0..3_usize), 1..12);
    let mut runner = TestRunner::new(Config { cases: 40, failure_persistence: None, ..Config::default() });
    let quarantined = std::cell::Cell::new(0);
    let outcome = runner.run(&rounds, |rounds| {
        for (set, caller) in rounds {
            let user = UserInfo::named(format!("caller-{caller}"));
            let mut answers = Vec::new();
            let (mut opened, mut stopped) = (false, false);
            for index in set {
                let (counts, says, policy) = &guests[index];
                let answer = runtime.block_on(policy.handle(&query(), Some(&user)));
                if answer.as_ref().is_err_and(|error| error.code() == "quarantined") {
                    quarantined.set(quarantined.get() + 1);
                }
                let says = if answer.is_err() { Says::Stop } else { *says };
                if *counts {
                    opened |= says == Says::Open;
                    stopped |= says == Says::Stop;
                }
                answers.push(PolicyAnswer { policy: policy.name(), mode: policy.mode(), answer });
            }
            let allows = matches!(verdict(answers, query().request.as_ref()), Verdict::Allow { .. });
            prop_assert_eq!(allows, opened && !stopped);
        }
        Ok(())
    });
    outcome.unwrap();
    assert!(quarantined.get() > 0, "no caller was ever quarantined");
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Says {
    Open,
    Nothing,
    Stop,
}

async fn guests() -> Vec<(bool, Says, Arc<WasmPolicy>)> {
    let recursion =
        "(func $deeper (param i32) (result i32) (i32.add (call $deeper (local.get 0)) (call $deeper (local.get 0))))";
    let behaved = |guest: Guest| guest.text("reason", "no");
    let kinds = [
        (Says::Open, behaved(Guest::policy(ALLOW))),
        (Says::Nothing, behaved(Guest::policy(NO_OPINION))),
        (Says::Stop, behaved(Guest::policy(DENY))),
        (Says::Stop, Guest::policy("(unreachable)")),
        (Says::Stop, Guest::policy("(loop $spin (br $spin)) (unreachable)")),
        (Says::Stop, Guest::policy("(call $deeper (i32.const 1))").with(recursion)),
        (Says::Stop, Guest::policy(&format!("(drop (memory.grow (i32.const 30000))) {ALLOW}"))),
        (Says::Stop, Guest::policy("(i32.store8 (i32.const 8192) (i32.const 9)) (i32.const 8192)")),
        (Says::Stop, Guest::policy("(i32.const -8)")),
    ];
    let mut guests = Vec::new();
    for (number, (says, guest)) in kinds.into_iter().enumerate() {
        let bytes = guest.build();
        for mode in [PolicyMode::Enforce, PolicyMode::Shadow] {
            // A guest that spins must not make the test long; one that answers must not be late on a busy machine.
            let limits = Limits::new(if says == Says::Stop { 20 } else { 5_000 }, 64, 64).unwrap();
            let name = format!("p{number}");
            let source = PluginSource { limits, mode, ..source(&name, Arc::clone(&bytes)) };
            guests.push((mode == PolicyMode::Enforce, says, policy_of(host().load(source).await)));
        }
    }
    guests
}
