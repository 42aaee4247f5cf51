//! Streams from the real API server: how late an event is, how soon a leaver is noticed, how much a large list holds.
//!
//! The bounds leave room for a busy machine and a build without optimisation; what was measured is printed.
//! Where the rig is not on the machine, these tests say so and pass.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use witgate_tests::authority::{Authority, client_tls, client_tls_trusting_pem};
use witgate_tests::client::{Client, OpenAnswer};
use witgate_tests::gate::{Gate, GateBuilder};
use witgate_tests::kube_rig::{self, KubeRig};
use witgate_tests::waiting::until;

/// The rig, or the end of the test.
macro_rules! rig_or_skip {
    () => {
        match kube_rig::shared() {
            Ok(rig) => rig,
            Err(why) => return println!("skipped: {why}"),
        }
    };
}

const CONFIGMAPS: &str = "/api/v1/namespaces/default/configmaps";

/// The same watch twice, direct and through the gate: how much later an event comes is the gate's part.
#[tokio::test]
async fn a_watch_event_is_handed_on_at_once() {
    const EVENTS: usize = 40;
    const LATE: Duration = Duration::from_millis(50);
    let rig = rig_or_skip!();
    let gate = gate(rig, &Authority::new("gate")).start().await;
    let direct = direct(rig);
    let now = direct.get(&format!("{CONFIGMAPS}?limit=1")).await.json();
    let version = now["metadata"]["resourceVersion"].as_str().unwrap();
    let watch = format!("{CONFIGMAPS}?watch=true&labelSelector=timed%3Dyes&resourceVersion={version}");
    let open = [direct.clone(), gate.caller("jane").kubernetes("rig")].map(|client| {
        let (client, watch) = (client.on_new_connection(), watch.clone());
        tokio::spawn(async move {
            let answer = client.get(&watch).open().await;
            assert_eq!(answer.status(), 200);
            arrivals(answer, EVENTS).await
        })
    });

    let mut written = BTreeMap::new();
    for number in 0..EVENTS {
        let name = format!("timed-{number}");
        let body = json!({ "metadata": { "name": name, "labels": { "timed": "yes" } } });
        written.insert(name, Instant::now());
        assert_eq!(direct.post(CONFIGMAPS, body.to_string()).await.status(), 201);
    }
    let [direct_arrivals, gate_arrivals] = open;
    let (direct_arrivals, gate_arrivals) = (direct_arrivals.await.unwrap(), gate_arrivals.await.unwrap());

    let mut later: Vec<_> =
        written.keys().map(|name| gate_arrivals[name].saturating_duration_since(direct_arrivals[name])).collect();
    let mut since_write: Vec<_> = written.iter().map(|(name, at)| gate_arrivals[name].duration_since(*at)).collect();
    later.sort_unstable();
    since_write.sort_unstable();
    let (middle, nearly_all) = (EVENTS / 2, EVENTS * 95 / 100);
    println!(
        "watch events: later than direct {:?} (median), {:?} (95 %); since the write began {:?}, {:?}",
        later[middle], later[nearly_all], since_write[middle], since_write[nearly_all]
    );
    let in_time = later.iter().filter(|late| **late < LATE).count();
    assert!(in_time * 10 >= EVENTS * 8, "only {in_time} of {EVENTS} within {LATE:?}: {later:?}");

    for name in written.keys() {
        assert_eq!(direct.delete(&format!("{CONFIGMAPS}/{name}")).await.status(), 200);
    }
}

/// The API server's audit log tells the end of a watch: it must come soon after the client left, on either protocol.
#[tokio::test]
async fn a_client_that_leaves_ends_the_upstream_watch() {
    const SOON_ENOUGH: Duration = Duration::from_secs(1);
    const LEAVERS: usize = 5;
    let rig = rig_or_skip!();
    let authority = Authority::new("gate");
    let gate = gate(rig, &authority).start().await;

    for protocol in ["http/1.1", "h2"] {
        let mut took = Vec::new();
        for number in 0..LEAVERS {
            let marker = format!("leaver%3D{}-{number}", protocol.replace('/', "-"));
            let client = Client::new(gate.address(), Some(client_tls(&authority, None, &[protocol])));
            let client = client.with_token(gate.token_of("jane")).kubernetes("rig");
            let answer = client.get(&format!("{CONFIGMAPS}?watch=true&labelSelector={marker}")).open().await;
            assert_eq!(answer.status(), 200);
            let stages = || rig.audit_events(&marker).iter().map(|event| event["stage"].clone()).collect::<Vec<_>>();
            // The API server writes that a watch began only when it ends; its answer's head is here.
            assert!(!stages().contains(&json!("ResponseComplete")), "{protocol}: it ended of itself");

            let left = Instant::now();
            drop((answer, client));
            until("the watch's end", || async { stages().contains(&json!("ResponseComplete")).then_some(()) }).await;
            took.push(left.elapsed());
        }
        println!("the upstream watch ended after its client left, {protocol}: {took:?}");
        let in_time = took.iter().filter(|took| **took < SOON_ENOUGH).count();
        assert!(in_time > LEAVERS / 2, "{protocol}: only {in_time} of {LEAVERS} within {SOON_ENOUGH:?}: {took:?}");
    }
}

/// 13 MB in every form that clients ask for: the bytes are the API server's, and the gate holds none of them for long.
#[tokio::test]
async fn a_list_of_5000_passes_through_unchanged_and_unkept() {
    const GROWTH_KIB_MAX: u64 = 16 * 1024;
    let rig = rig_or_skip!();
    let gate = gate(rig, &Authority::new("gate")).start().await;
    let (through, direct) = (gate.caller("jane").kubernetes("rig"), direct(rig));
    let now = direct.get("/api/v1/namespaces/big/configmaps?limit=1").await.json();
    // The list as it was at one moment, since other tests write meanwhile.
    let version = now["metadata"]["resourceVersion"].as_str().unwrap();
    let list = format!("/api/v1/namespaces/big/configmaps?resourceVersionMatch=Exact&resourceVersion={version}");
    for _ in 0..20 {
        through.get("/api/v1/namespaces/big/configmaps?limit=10").await;
    }

    let memory = gate.process();
    let before = memory.memory_kib("VmRSS");
    memory.forget_memory_peak();
    for (accept, encoding, bytes_min) in [
        ("application/json", "identity", 10_000_000),
        ("application/json", "gzip", 500_000),
        ("application/vnd.kubernetes.protobuf", "identity", 10_000_000),
        ("application/json;as=Table;v=v1;g=meta.k8s.io", "identity", 1_000_000),
    ] {
        let ask =
            |client: &Client| client.clone().with_header("accept", accept).with_header("accept-encoding", encoding);
        let (expected, got) = (ask(&direct).get(&list).await, ask(&through).get(&list).await);
        assert_eq!(got.status(), 200, "{accept} {encoding}");
        assert!(got.bytes().len() >= bytes_min, "{accept} {encoding}: {} bytes", got.bytes().len());
        if accept.contains("as=Table") {
            // Each answer tells the objects' ages, which the API server counts anew.
            assert!(without_ages(got.json()) == without_ages(expected.json()), "{accept} {encoding}: they differ");
        } else {
            assert_eq!(got.bytes().len(), expected.bytes().len(), "{accept} {encoding}");
            assert!(got.bytes() == expected.bytes(), "{accept} {encoding}: the bytes differ");
        }
        for header in ["content-type", "content-encoding"] {
            assert_eq!(got.header(header), expected.header(header), "{accept} {encoding}");
        }
    }

    let growth = memory.memory_kib("VmHWM").saturating_sub(before);
    println!("large lists: the gate's resident memory grew by {growth} KiB at most, from {before} KiB");
    assert!(growth < GROWTH_KIB_MAX, "by {growth} KiB, from {before} KiB");
}

/// A table of configmaps without its last column.
fn without_ages(mut table: Value) -> Value {
    for row in table["rows"].as_array_mut().expect("a table has rows") {
        row["cells"].as_array_mut().expect("a row has cells").truncate(2);
    }
    table
}

/// When each of `count` added objects arrived, by name.
async fn arrivals(mut answer: OpenAnswer, count: usize) -> BTreeMap<String, Instant> {
    let mut arrived = BTreeMap::new();
    let mut text = String::new();
    while arrived.len() < count {
        text += &answer.next_piece().await.expect("the watch goes on").unwrap();
        let at = Instant::now();
        while let Some((line, rest)) = text.split_once('\n') {
            let event: Value = serde_json::from_str(line).unwrap();
            if event["type"] == "ADDED" {
                arrived.insert(event["object"]["metadata"]["name"].as_str().unwrap().to_owned(), at);
            }
            text = rest.to_owned();
        }
    }
    arrived
}

fn gate(rig: &KubeRig, authority: &Authority) -> GateBuilder {
    Gate::without_clusters().tls(authority, None).cluster(rig.cluster_as("robot"))
}

/// A client of the API server itself, with the same credential.
fn direct(rig: &KubeRig) -> Client {
    let address = rig.url().strip_prefix("https://").unwrap().parse().unwrap();
    let tls = client_tls_trusting_pem(&rig.certificate_authority(), &["http/1.1"]);
    Client::new(address, Some(tls)).with_token(rig.token_of("robot"))
}
