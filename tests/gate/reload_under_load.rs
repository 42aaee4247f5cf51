//! Reload after reload while callers ask: nobody sees a failure, and nobody sees half of a generation.

use std::time::Duration;

use witgate_tests::api_server::ApiServer;
use witgate_tests::reload_storm::Storm;

/// The short form of `cargo run --example thousand_reloads`, without its figures.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_reloads_fail_nobody() {
    let api_server = ApiServer::start().await;
    let mut storm = Storm::start(&api_server).await;
    let load = storm.load(16, Duration::from_millis(5));
    for _ in 0..50 {
        storm.reload().await;
    }
    let answers = load.stop().await;
    let (lines, generations) = storm.check_decisions(answers.len()).await;
    assert!(lines >= answers.len() && generations > 10, "{lines} lines of {generations} generations");
    let status = storm.gate().status().await;
    assert_eq!(status["generation"], 51);
    assert_eq!(status["keptGenerations"].as_array().unwrap().len(), 5, "older ones are let go");
    let compiled = status["compilations"]["compiled"].as_u64().unwrap();
    let builtins = status["plugins"].as_array().unwrap().iter().filter(|plugin| plugin["builtin"] == true).count();
    assert_eq!(compiled, builtins as u64 + 2, "two policies, whatever their settings");
}
