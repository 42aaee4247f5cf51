//! `witgate plugin bench`: figures, kept and compared.

use serde_json::Value;
use witgate_tests::author_desk::AuthorDesk;

#[tokio::test]
async fn figures_are_kept_and_compared() {
    let desk = AuthorDesk::new().guest("policies/read-only");
    let ended = desk.plugin(&["bench", "read-only.wasm", "--seconds", "1", "--save", "before"]).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    for expected in ["fresh call ", "warm call ", "instantiate ", "kept in .witgate/bench/before.json"] {
        assert!(ended.stdout.contains(expected), "no `{expected}` in {}", ended.stdout);
    }
    let kept: Value = serde_json::from_str(&desk.read(".witgate/bench/before.json")).unwrap();
    let median = |figure: &str| kept[figure]["median"].as_f64().unwrap();
    assert!(median("instantiateUs") < median("freshCallUs"), "{kept}");

    let again = desk.plugin(&["bench", "read-only.wasm", "--seconds", "1", "--baseline", "before"]).await;
    assert_eq!(again.code, Some(0), "{}", again.stderr);
    assert!(again.stdout.contains("fresh call   ") && again.stdout.contains(" → "), "{}", again.stdout);
}

#[tokio::test]
async fn a_slower_policy_fails_where_that_is_asked_for() {
    let spread = serde_json::json!({ "median": 0.001, "low": 0.001, "high": 0.001 });
    let kept = serde_json::json!({
        "witgate": "0", "build": "release", "question": "q",
        "freshCallUs": spread, "warmCallUs": spread, "instantiateUs": spread,
    });
    let desk = AuthorDesk::new().guest("policies/read-only").file("fast.json", &kept.to_string());
    let words = ["bench", "read-only.wasm", "--seconds", "1", "--baseline", "fast.json", "--fail-above", "50"];
    let ended = desk.plugin(&words).await;
    assert_eq!(ended.code, Some(1), "{}", ended.stdout);
    assert!(ended.stdout.contains("SLOWER") && ended.stderr.contains("a median grew by"), "{}", ended.stdout);
    let absent = desk.plugin(&["bench", "read-only.wasm", "--baseline", "absent"]).await;
    assert_eq!(absent.code, Some(1));
    assert!(absent.stderr.contains("make one with --save absent"), "{}", absent.stderr);
}
