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
    let compiled = async |storm: &Storm| storm.gate().status().await["compilations"]["compiled"].as_u64().unwrap();
    storm.reload().await;
    let compiled_before = compiled(&storm).await;
    for _ in 0..49 {
        storm.reload().await;
    }
    assert_eq!(compiled(&storm).await, compiled_before, "two policies, whatever their sidecars");
    let answers = load.stop().await;
    let (lines, generations) = storm.check_decisions(answers.len()).await;
    assert!(lines >= answers.len() && generations > 10, "{lines} lines of {generations} generations");
    let status = storm.gate().status().await;
    assert_eq!(status["generation"], 51);
    assert_eq!(status["keptGenerations"].as_array().unwrap().len(), 5, "older ones are let go");
}
