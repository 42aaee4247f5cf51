//! SIGTERM while real clients have watches, execs and an upload under way.
//!
//! Where the rig or kubectl is not on the machine, this test says so and passes.

use std::time::{Duration, Instant};

use serde_json::json;
use witgate_tests::authority::Authority;
use witgate_tests::gate::Gate;
use witgate_tests::kube_rig;
use witgate_tests::kubectl::{Kubectl, Transport};
use witgate_tests::waiting::{soon, until};

/// What is under way may finish; what would go on for ever is ended; the gate goes in time and without complaint.
#[tokio::test]
async fn a_drain_ends_watches_and_execs_lets_an_upload_finish_and_exits_0() {
    const DEADLINE: Duration = Duration::from_secs(6);
    let rig = match kube_rig::shared() {
        Ok(rig) => rig,
        Err(why) => return println!("skipped: {why}"),
    };
    let authority = Authority::new("gate");
    let gate = Gate::without_clusters()
        .tls(&authority, None)
        .cluster(rig.cluster_as("robot"))
        .set("drain", json!({ "deadlineMs": DEADLINE.as_millis() as u64 }))
        .start()
        .await;
    let url = format!("https://{}/k8s/clusters/rig", gate.address());
    let kubectl =
        |transport| Kubectl::new(&url, &authority.pem(), gate.token_of("jane")).map(|kubectl| kubectl.by(transport));
    let (websocket, spdy) = match (kubectl(Transport::WebSocket), kubectl(Transport::Spdy)) {
        (Ok(websocket), Ok(spdy)) => (websocket, spdy),
        (Err(why), _) | (_, Err(why)) => return println!("skipped: {why}"),
    };

    let watches: Vec<_> =
        (0..3).map(|_| websocket.start(&["get", "configmaps", "-w", "-n", "dev", "-o", "name"])).collect();
    for watch in &watches {
        watch.stdout.wait_for("the first list", 1, |line| line.starts_with("configmap/").then_some(())).await;
    }
    let execs = [&websocket, &spdy]
        .map(|kubectl| kubectl.start(&["exec", "-n", "dev", "run-1", "--", "tick", "6000", "100", "drained"]));
    for exec in &execs {
        exec.stdout.wait_for("a tick", 1, |line| (line == "tick 1").then_some(())).await;
    }
    let jane = gate.caller("jane").kubernetes("rig");
    let body = json!({ "metadata": { "name": "uploaded-in-a-drain" }, "data": { "text": "x".repeat(100_000) } });
    let body = body.to_string();
    let (start, rest) = body.split_at(body.len() / 2);
    let path = "/api/v1/namespaces/prod/configmaps?fieldManager=drained";
    let (upload, writer) = jane.call("POST", path).header("content-type", "application/json").streamed_body();
    let uploading = async {
        writer.write(start.to_owned()).await;
        let began = Instant::now();
        gate.terminate();
        gate.log_line_with(r#""message":"stopping""#).await;
        writer.write(rest.to_owned()).await;
        drop(writer);
        began
    };

    let (answer, began) = tokio::join!(upload, uploading);
    assert_eq!(answer.status(), 201, "{}", answer.body());
    let status = gate.exit_status().await;
    let took = began.elapsed();
    println!("drained in {took:?}, deadline {DEADLINE:?}");
    assert_eq!(status.code(), Some(0), "{}", gate.log());
    assert!(took < DEADLINE + Duration::from_secs(4), "{took:?}");

    for process in watches.into_iter().chain(execs) {
        soon("kubectl ends with its stream", process.exit_status()).await;
    }
    let completed = || rig.audit_events("command=drained").iter().filter(|e| e["stage"] == "ResponseComplete").count();
    until("the API server has seen both execs end", || async { (completed() >= 2).then_some(()) }).await;
    assert_eq!(rig.audit_events("fieldManager=drained").len(), 1, "the upload arrived once");
}
