//! What guests that misbehave do to everybody else: nothing that anybody would notice.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::task::JoinHandle;
use witgate_tests::api_server::ApiServer;
use witgate_tests::client::Client;
use witgate_tests::gate::Gate;
use witgate_tests::plugin_folder::Plugin;
use witgate_tests::text_guest::{SPIN, TextGuest};
use witgate_tests::waiting::soon;

const PODS: &str = "/api/v1/namespaces/dev/pods";

/// Goal: guests that spin leave the threads to others: a request that they do not judge takes about as long as ever.
/// Method: one that spins when it is asked about a cluster, and is asked sixteen times at once by a gate with two threads; meanwhile a
/// neighbour policy judges requests for the list of clusters. A ratio of medians, as the machine may be busy anyway.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_neighbours_latency_is_unharmed() {
    let copies =
        "(loop $more (memory.copy (i32.const 0) (i32.const 262144) (i32.const 262144)) (br $more)) (unreachable)";
    let logs = "(loop $more (call $log (i32.const 2) (i32.const 0) (i32.const 1000)) (br $more)) (unreachable)";
    let import = "(import \"witgate:auth/log@0.1.0\" \"log\" (func $log (param i32 i32 i32)))";
    for (what, guest) in [
        ("spins", TextGuest::policy(SPIN)),
        ("copies memory", TextGuest::policy(copies)),
        ("logs", TextGuest::policy(logs).with(import)),
    ] {
        let api_server = ApiServer::start().await;
        let beast = Plugin::of_bytes("beast", &guest.build())
            .sidecar(json!({ "selfTest": false, "limits": { "deadlineMs": 10_000 } }));
        let gate = Gate::builder(&api_server).plugin(beast).variable("TOKIO_WORKER_THREADS", "2").start().await;
        let neighbour = gate.caller("john");

        let quiet = median_latency(&neighbour).await;
        let spinning = ask_at_once(&gate, 16);
        let beside = median_latency(&neighbour).await;

        assert!(spinning.iter().all(|call| !call.is_finished()), "{what}: the guests ended before the measurement did");
        assert_eq!(gate.admin().get("/readyz").await.status(), 200);
        let ratio = beside.as_secs_f64() / quiet.as_secs_f64();
        println!("a guest that {what}: {quiet:?} without, {beside:?} beside 16 calls of it: ratio {ratio:.1}");
        assert!(ratio < RATIO_MAX, "{what}: {quiet:?} became {beside:?}");
        spinning.iter().for_each(JoinHandle::abort);
    }
}

/// Goal: no worker thread is held: a request that asks no policy, and one that asks a policy anew, are answered while as many
/// calls spin as may but a few. Method: 60 of them on two threads; all end at their deadline.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_worker_thread_is_held() {
    let api_server = ApiServer::start().await;
    let beast = Plugin::of_bytes("beast", &TextGuest::policy(SPIN).build());
    let beast = beast.sidecar(json!({ "selfTest": false, "limits": { "deadlineMs": 500 } }));
    let gate = Gate::builder(&api_server).plugin(beast).variable("TOKIO_WORKER_THREADS", "2").start().await;

    // It may have 64 in flight, and it is asked about the neighbour too.
    let spinning = ask_at_once(&gate, 60);

    assert_eq!(gate.client().get("/nowhere").await.status(), 404);
    assert_eq!(gate.caller("john").get("/api/kubernetes/clusters").await.status(), 200);
    for call in spinning {
        let status = soon("it ends at its deadline", call).await.unwrap();
        assert!([403, 503].contains(&status), "{status}");
    }
    assert_eq!(api_server.heard(), crate::NOTHING);
}

/// The gate's threads have a slice each of a spinning guest before the neighbour at most, and an idle machine answers in less than
/// a slice; so a ratio says little, and this one only that calls do not add up.
const RATIO_MAX: f64 = 30.0;

async fn median_latency(caller: &Client) -> Duration {
    let mut latencies = Vec::new();
    for _ in 0..60 {
        let begun = Instant::now();
        assert_eq!(caller.get("/api/kubernetes/clusters").await.status(), 200);
        latencies.push(begun.elapsed());
    }
    latencies.sort();
    latencies[latencies.len() / 2]
}

/// So many requests to the cluster, each on a connection of its own.
fn ask_at_once(gate: &Gate, count: usize) -> Vec<JoinHandle<u16>> {
    let ask = |_| {
        let caller = gate.client_as("jane").on_new_connection();
        tokio::spawn(async move { caller.get(PODS).await.status() })
    };
    (0..count).map(ask).collect()
}
