//! `/metrics`: what it counts is what was sent.

use std::collections::BTreeMap;

use witgate_tests::api_server::{ApiServer, Reply};
use witgate_tests::broken_upstream::BrokenUpstream;
use witgate_tests::cluster::Cluster;
use witgate_tests::gate::Gate;
use witgate_tests::plugin_folder::Plugin;
use witgate_tests::secrets::secret;
use witgate_tests::upgrade_peer::{Then, UpgradePeer};
use witgate_tests::waiting::until;

use crate::upgrades::{gate_at, head};

const POD: &str = "/api/v1/namespaces/dev/pods/p";

/// Some hundred requests of every kind, while plug-ins come and go: each is counted once, under what it was; so do the log's
/// lines and the policies' calls agree.
#[tokio::test]
async fn every_request_is_counted_once_under_what_it_was() {
    let api_server = ApiServer::answering(|request| match request.target.as_str() {
        "/api/v1/teapot" => Reply::new(418, "short and stout"),
        "/api/v1/broken" => Reply::json(500, "{}"),
        _ => Reply::default(),
    });
    let api_server = api_server.start().await;
    let gate = Gate::builder(&api_server)
        .cluster(Cluster::at_url("down", &BrokenUpstream::refusing_url().await, "anonymous"))
        .cluster(Cluster::at("google", &api_server, "google"))
        .policy("read-only");
    let gate = gate.start().await;
    let (jane, john) = (gate.client_as("jane"), gate.caller("john").kubernetes("one"));
    let mut expected = BTreeMap::<String, u64>::new();
    let mut expect = |labels: &str| *expected.entry(labels.to_owned()).or_default() += 1;

    for round in 0..20 {
        match round % 10 {
            3 => gate.plugins().put(&Plugin::fixture("no-opinion")),
            8 => gate.plugins().remove("no-opinion"),
            _ => {}
        }
        for (client, route) in [(&jane, "backstage-proxy"), (&john, "kubernetes")] {
            for (method, path, labels) in [
                ("GET", POD, "one allow 200"),
                ("GET", "/api/v1/teapot", "one allow 4xx"),
                ("GET", "/api/v1/broken", "one allow 500"),
                ("DELETE", POD, "one deny 403"),
                ("POST", "/api/v1/namespaces/dev/pods", "one deny 403"),
                ("OPTIONS", POD, "one deny 403"),
                ("GET", "/api/v1/namespaces/dev%2fx/pods", "one deny 400"),
            ] {
                let answer = client.call(method, path).await;
                assert_eq!(
                    answer.status().to_string().get(..1),
                    labels.rsplit(' ').next().unwrap().get(..1),
                    "{}",
                    answer.summary()
                );
                expect(&format!("{route} {labels}"));
            }
        }
        let bad = gate.client().with_token(&secret("a token that nobody has")).backstage("one");
        assert_eq!(bad.get(POD).await.status(), 401);
        expect("backstage-proxy  deny 401");
        assert_eq!(gate.caller("jane").backstage("nope").get(POD).await.status(), 404);
        expect("backstage-proxy  allow 404");
        assert_eq!(gate.caller("jane").backstage("google").get(POD).await.status(), 401);
        expect("backstage-proxy google allow 401");
        assert_eq!(gate.caller("jane").backstage("down").get(POD).await.status(), 502);
        expect("backstage-proxy down allow 502");
        assert_eq!(gate.caller("jane").get("/api/kubernetes/clusters").await.status(), 200);
        expect("backstage-clusters  allow 200");
        assert_eq!(gate.caller("jane").get("/elsewhere").await.status(), 404);
        expect("unknown  deny 404");
        let mut raw = gate.raw_client().await;
        raw.write("GET / HTTP/1.1\r\nhost: gate\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n").await;
        assert_eq!(raw.read_to_close().await.status, Some(400));
        expect("unknown  deny 400");
    }

    let metrics = gate.metrics().await;
    assert_eq!(metrics.by("witgate_requests_total", &["route", "cluster", "decision", "code"]), expected);
    let total: u64 = expected.values().sum();
    assert_eq!(total, 20 * 21);
    assert_eq!(metrics.sum("witgate_request_duration_seconds_count", &[]), total);
    until("every decision is written", || async { (gate.decisions().len() as u64 == total).then_some(()) }).await;
    assert_eq!(api_server.requests().len() as u64, 20 * 6, "what went up");

    // What was judged: all of one cluster's but the OPTIONS and the ambiguous path; and the list of clusters.
    let judged = 20 * (2 * 5 + 4);
    let calls = metrics.by("witgate_plugin_calls_total", &["plugin", "outcome"]);
    assert_eq!(calls["allow-all allow"], judged);
    assert_eq!(calls["read-only deny"], 20 * 2 * 2);
    assert_eq!(calls["read-only no-opinion"], judged - 20 * 2 * 2);
    assert_eq!(calls["google missing-token"], metrics.sum("witgate_plugin_calls_total", &[("plugin", "google")]));
    assert_eq!(metrics.sum("witgate_plugin_call_duration_seconds_count", &[("plugin", "allow-all")]), judged);
    assert_eq!(metrics.sum("witgate_plugin_instantiate_seconds_count", &[("plugin", "allow-all")]), judged);
    assert!(metrics.sum("witgate_plugin_memory_peak_bytes", &[("plugin", "allow-all")]) >= 65_536);
    let decisions = metrics.by("witgate_decisions_total", &["verb", "action_class", "decision"]);
    assert_eq!(decisions["delete delete deny"], 40);
    assert_eq!(decisions["create write deny"], 40);
    let errors = metrics.by("witgate_upstream_errors_total", &["cluster", "kind"]);
    assert_eq!(errors.values().sum::<u64>(), 20, "{errors:?}");
    assert!(errors["down unreachable"] >= 3 && errors.contains_key("down suspended"), "{errors:?}");
    assert_eq!(metrics.sum("witgate_upstream_suspended", &[("cluster", "down")]), 1);
    assert_eq!(metrics.sum("witgate_upstream_suspended", &[("cluster", "one")]), 0);
    assert_eq!(metrics.sum("witgate_requests_in_flight", &[]), 0);
    assert_eq!(metrics.sum("witgate_decision_log_dropped_lines_total", &[]), 0);
    let cache = metrics.by("witgate_credential_cache_events_total", &["event"]);
    let status = gate.status().await;
    for (event, key) in [("hit", "hits"), ("miss", "misses"), ("failure", "failures"), ("refresh", "refreshes")] {
        assert_eq!(status["credentialCache"][key], cache[event], "{event}");
    }
}

/// Whoever reads a name in `/metrics` finds it in the documentation. The gate has a bit of everything that counts.
#[tokio::test]
async fn every_metric_is_documented() {
    let api_server = ApiServer::start().await;
    let collector = witgate_tests::otlp_collector::OtlpCollector::start().await;
    let shadow = Plugin::policy("read-only").sidecar(serde_json::json!({ "mode": "shadow" }));
    let gate = Gate::builder(&api_server)
        .cluster(Cluster::at_url("down", &BrokenUpstream::refusing_url().await, "anonymous"))
        .plugin(shadow)
        .plugin(Plugin::fixture("trap-sometimes"))
        .set("telemetry", serde_json::json!({ "otlp": { "endpoint": collector.url() } }));
    let gate = gate.start().await;
    let jane = gate.client_as("jane");
    for _ in 0..11 {
        jane.get("/api/v1/namespaces/trap/pods").await;
    }
    // Jane is in quarantine now.
    let john = gate.caller("john");
    assert_eq!(john.clone().kubernetes("one").get("/api/v1/pods?watch=1").await.status(), 200);
    john.kubernetes("down").get("/version").await;

    let closed = until("the stream's end is counted", || async {
        let metrics = gate.metrics().await;
        (metrics.sum("witgate_stream_bytes_total", &[]) > 0).then_some(metrics)
    });
    let metrics = closed.await;
    let mut told = std::collections::BTreeSet::new();
    for (name, kind) in metrics.text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')) {
        told.insert(if kind == "counter" { format!("{name}_total") } else { name.to_owned() });
    }
    let documentation = include_str!("../../docs/operations.md");
    let rows = documentation.lines().filter(|line| line.starts_with("| `witgate_") || line.starts_with("| `process_"));
    let names = rows.flat_map(|row| row.split('|').nth(1)).flat_map(|names| names.split('`')).map(str::trim);
    let is_name = |name: &&str| name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    let is_ours = |name: &&str| name.starts_with("witgate_") || name.starts_with("process_");
    let documented = names.filter(is_name).filter(is_ours).map(str::to_owned);
    assert_eq!(documented.collect::<std::collections::BTreeSet<_>>(), told);
}

/// A guest that traps or spins is counted under what it did.
#[tokio::test]
async fn a_plug_in_that_fails_is_counted_by_how() {
    let api_server = ApiServer::start().await;
    for (fixture, outcome) in [("trap", "trapped"), ("spin", "deadline-exceeded"), ("hoard", "memory-limit")] {
        let gate = Gate::builder(&api_server).plugin(Plugin::fixture(fixture)).start().await;

        for _ in 0..2 {
            assert_eq!(gate.client_as("jane").get(POD).await.status(), 403);
        }

        let calls = gate.metrics().await.by("witgate_plugin_calls_total", &["plugin", "generation", "outcome"]);
        assert_eq!(calls[&format!("{fixture} 1 {outcome}")], 2, "{calls:?}");
        assert_eq!(calls["allow-all 1 allow"], 2);
    }
}

#[tokio::test]
async fn a_stream_is_open_until_it_is_closed() {
    let (reply, writer) = Reply::streamed();
    let api_server = ApiServer::replying([reply]).start().await;
    let gate = Gate::builder(&api_server).start().await;
    let jane = gate.client_as("jane");
    let mut watch = jane.get("/api/v1/pods?watch=1").open().await;
    writer.write("0123456789").await;
    watch.next_piece().await.unwrap().unwrap();
    let open = gate.metrics().await;
    assert_eq!(
        open.by("witgate_streams_open", &["cluster", "kind"]),
        [("one stream".into(), 1), ("one upgrade".into(), 0)].into()
    );
    assert_eq!(open.sum("witgate_requests_in_flight", &[("cluster", "one")]), 1);

    drop(writer);
    assert!(watch.next_piece().await.is_none());

    let closed = until("the end is counted", || async {
        let metrics = gate.metrics().await;
        (metrics.sum("witgate_streams_open", &[]) == 0).then_some(metrics)
    });
    let closed = closed.await;
    assert_eq!(
        closed.by("witgate_streams_closed_total", &["cluster", "kind", "reason"]),
        [("one stream completed".into(), 1)].into()
    );
    assert_eq!(closed.sum("witgate_stream_bytes_total", &[("kind", "stream")]), 10);
    assert_eq!(closed.sum("witgate_requests_in_flight", &[]), 0);
}

#[tokio::test]
async fn an_upgrade_is_open_until_it_is_closed() {
    let peer = UpgradePeer::switching().then(Then::Echo).start().await;
    let gate = gate_at(&peer).await;
    let mut raw = gate.raw_client().await;
    raw.write(head(&gate, "websocket") + "\r\n").await;
    raw.read_until("\r\n\r\n").await;
    let open = gate.metrics().await;
    assert_eq!(open.sum("witgate_streams_open", &[("kind", "upgrade")]), 1);
    assert_eq!(open.by("witgate_requests_total", &["decision", "code"]), [("allow 101".into(), 1)].into());

    raw.write("abc").await;
    raw.read_until("abc").await;
    drop(raw);

    let closed = until("the end is counted", || async {
        let metrics = gate.metrics().await;
        (metrics.sum("witgate_streams_open", &[]) == 0).then_some(metrics)
    });
    let closed = closed.await;
    assert_eq!(closed.sum("witgate_streams_closed_total", &[("kind", "upgrade")]), 1);
    assert_eq!(closed.sum("witgate_stream_bytes_total", &[("kind", "upgrade")]), 3);
}

/// A request is counted, and has its line, also where its client did not wait for the answer.
#[tokio::test]
async fn a_client_who_leaves_before_the_answer_is_counted_and_logged() {
    let api_server = ApiServer::replying([Reply::never()]).start().await;
    let gate = Gate::builder(&api_server).start().await;
    let mut raw = gate.raw_client().await;
    let token = gate.token_of("jane");
    raw.write(format!("GET /k8s/clusters/one{POD} HTTP/1.1\r\nhost: gate\r\nauthorization: Bearer {token}\r\n\r\n"))
        .await;
    api_server.wait_for("the request at the API server", |requests| requests.len() == 1).await;

    drop(raw);

    let metrics = until("it is counted", || async {
        let metrics = gate.metrics().await;
        (metrics.sum("witgate_requests_total", &[("code", "none")]) == 1).then_some(metrics)
    });
    assert_eq!(metrics.await.sum("witgate_requests_in_flight", &[]), 0);
    let line = until("its line", || async { gate.decisions().pop() }).await;
    assert_eq!((&line["decision"], &line["reason"]), (&"allow".into(), &"the client left before the answer".into()));
    assert_eq!(line.get("status"), None);
}

/// Generations come and go; what is told of them does not pile up, and no label is a caller's text.
#[tokio::test]
async fn the_text_does_not_grow_with_reloads_or_names() {
    let api_server = ApiServer::start().await;
    let gate = Gate::builder(&api_server).start().await;
    let jane = gate.client_as("jane");
    let mut told = Vec::new();
    for round in 0..14 {
        let before = gate.status().await["generation"].as_u64().unwrap();
        // Another sidecar is another plug-in.
        gate.plugins().put(
            &Plugin::fixture("no-opinion").sidecar(serde_json::json!({ "limits": { "deadlineMs": 2000 + round } })),
        );
        gate.status_when("the next generation", |status| status["generation"].as_u64() > Some(before)).await;
        jane.get(&format!("/api/v1/namespaces/ns-{round}/pods/pod-{round}")).await;
        gate.caller("jane").backstage(&format!("cluster-{round}")).get(POD).await;
        jane.call(&format!("METHOD{round}"), POD).await;
        told.push(gate.metrics().await);
    }

    let counts: Vec<_> = told.iter().map(|metrics| metrics.samples_count()).collect();
    assert_eq!(counts[11], counts[13], "{counts:?}");
    // Component and sidecar are two files: on a busy machine they may be two generations.
    let generation = gate.status().await["generation"].as_u64().unwrap();
    assert!(generation >= 15, "{generation}");
    let counted = until("all reloads are counted", || async {
        let metrics = gate.metrics().await;
        (metrics.by("witgate_reloads_total", &["result"])["published"] == generation).then_some(metrics)
    });
    let last = counted.await;
    assert_eq!(last.values_of("cluster"), ["", "one"].into());
    assert_eq!(last.sum("witgate_generation", &[]), generation);
    assert_eq!(last.by("witgate_reloads_total", &["cause", "result"])["start published"], 1);
    let phases = last.by("witgate_reload_phase_duration_seconds_count", &["phase"]);
    for phase in ["scan", "load", "build"] {
        assert!(phases[phase] >= generation, "{phases:?}");
    }
    assert_eq!((last.sum("witgate_plugins_refused", &[]), last.sum("witgate_plugins_pinned", &[])), (0, 0));
    assert_eq!(
        last.sum("witgate_plugin_info", &[("plugin", "no-opinion"), ("generation", &generation.to_string())]),
        1
    );
    assert_eq!(last.values_of("version").len(), 1);
    for name in
        ["process_cpu_seconds_total", "process_resident_memory_bytes", "process_start_time_seconds", "process_open_fds"]
    {
        assert!(last.text.contains(&format!("\n{name} ")), "{name}:\n{}", last.text);
    }
}
