//! Dead clusters: they fail fast, are found again when they come back, and harm no other.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::net::TcpSocket;
use witgate_tests::api_server::{ApiServer, Reply};
use witgate_tests::black_hole::BlackHole;
use witgate_tests::cluster::Cluster;
use witgate_tests::gate::{Gate, GateBuilder};
use witgate_tests::waiting::{until, within};

const PODS: &str = "/api/v1/namespaces/dev/pods";
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);

/// A connection that nobody answers ends at its limit; after three, the next requests are refused at once.
#[tokio::test]
async fn a_black_holed_cluster_is_502_at_the_limit_and_then_at_once() {
    let dead = BlackHole::start().await;
    let gate = gate_at(&dead.url()).start().await;
    let jane = gate.client_as("jane");

    for _ in 0..3 {
        let started = Instant::now();
        let answer = jane.get(PODS).await;
        assert_eq!((answer.status(), answer.header("retry-after")), (502, None), "{}", answer.body());
        assert!(started.elapsed() >= CONNECT_TIMEOUT);
    }
    let refused = within(CONNECT_TIMEOUT, "a refusal", jane.get(PODS).into_future()).await;

    assert_eq!(refused.status(), 502);
    assert_eq!(refused.message(), "the cluster's API server could not be reached just now; try again soon");
    assert_eq!(refused.header("retry-after"), Some("1"));
}

/// The healthy one's answers take what they take alone; the dead one holds no more than it may.
#[tokio::test]
async fn a_black_holed_cluster_harms_no_other() {
    let dead = BlackHole::start().await;
    let api_server = ApiServer::start().await;
    let gate = Gate::builder(&api_server)
        .cluster(Cluster::at_url("dead", &dead.url(), "anonymous"))
        .set("upstream", json!({ "connectTimeoutMs": 10_000, "inFlightMax": 20 }))
        .start()
        .await;
    let mut waiting: Vec<_> = (0..21)
        .map(|_| {
            let caller = gate.caller("jane").backstage("dead");
            tokio::spawn(async move { caller.get(PODS).await })
        })
        .collect();
    let finished =
        until("one too many", || async { waiting.iter().position(tokio::task::JoinHandle::is_finished) }).await;
    let refused = waiting.swap_remove(finished).await.unwrap();
    assert_eq!((refused.status(), refused.header("retry-after")), (503, Some("1")), "{}", refused.body());

    let healthy = gate.client_as("jane");
    for _ in 0..50 {
        let answer = within(Duration::from_secs(2), "a healthy answer", healthy.get(PODS).into_future()).await;
        assert_eq!(answer.status(), 200);
    }

    waiting.iter().for_each(tokio::task::JoinHandle::abort);
}

/// A cluster that comes back is found by the first request after the pause, and all others follow.
#[tokio::test]
async fn a_cluster_that_comes_back_is_found() {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let gate = gate_at(&format!("http://{}", socket.local_addr().unwrap())).start().await;
    let jane = gate.client_as("jane");
    for _ in 0..3 {
        assert_eq!(jane.get(PODS).await.status(), 502, "a connection is refused where nobody listens");
    }
    assert_eq!(jane.get(PODS).await.header("retry-after"), Some("1"), "taken for dead");

    let api_server = ApiServer::answering(|_| Reply::default()).start_on(socket.listen(16).unwrap());
    until("the cluster is found again", || async { (jane.get(PODS).await.status() == 200).then_some(()) }).await;

    for _ in 0..3 {
        assert_eq!(jane.clone().on_new_connection().get(PODS).await.status(), 200);
    }
    assert!(api_server.connections_count() >= 1);
    gate.log_line_with("the cluster's API server is reached again").await;
}

/// What an API server answers says nothing about whether it can be reached.
#[tokio::test]
async fn answers_do_not_count() {
    let api_server = ApiServer::answering(|_| Reply::new(503, "busy").header("connection", "close")).start().await;
    let gate = gate_at(&api_server.url()).start().await;
    let jane = gate.client_as("jane");

    for _ in 0..10 {
        assert_eq!(jane.get(PODS).await.summary(), "503 busy");
    }
}

fn gate_at(url: &str) -> GateBuilder {
    let limits = json!({ "connectTimeoutMs": u64::try_from(CONNECT_TIMEOUT.as_millis()).unwrap() });
    Gate::without_clusters().cluster(Cluster::at_url("one", url, "anonymous")).set("upstream", limits)
}
