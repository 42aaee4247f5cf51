//! Traces and metrics by OTLP, to a stand-in receiver.

use serde_json::{Value, json};
use witgate_tests::api_server::ApiServer;
use witgate_tests::gate::{Gate, GateBuilder};
use witgate_tests::otlp_collector::{OtlpCollector, attribute};
use witgate_tests::secrets::secret;
use witgate_tests::waiting::until;

const POD: &str = "/api/v1/namespaces/dev/pods/p";

fn traced(api_server: &ApiServer, collector: &OtlpCollector, share: f64) -> GateBuilder {
    let headers = json!({ "x-receiver-token": secret("token of the OTLP receiver") });
    let otlp =
        json!({ "endpoint": collector.url(), "sampleRatio": share, "metricsIntervalMs": 100, "headers": headers });
    Gate::builder(api_server).policy("read-only").set("telemetry", json!({ "otlp": otlp }))
}

/// One id in the answer, the log and the trace; the pipeline's steps in their order; and the API server is told whose child
/// it is.
#[tokio::test]
async fn a_trace_shows_the_steps_of_a_request() {
    let (api_server, collector) = (ApiServer::start().await, OtlpCollector::start().await);
    let gate = traced(&api_server, &collector, 1.0).start().await;

    let answer = gate.client_as("jane").get(POD).await;

    let spans = collector.spans_of(answer.decision_id()).await;
    assert_eq!(gate.decision_of(&answer).await["id"], answer.decision_id());
    let names: Vec<_> = spans.iter().map(|span| span["name"].as_str().unwrap()).collect();
    assert_eq!(names.first(), Some(&"request"));
    let mut steps = names[1..].to_vec();
    steps.sort_unstable();
    assert_eq!(steps, ["authenticate", "authorize", "credential", "forward", "policy", "policy"]);
    let named = |name: &str| spans.iter().find(|span| span["name"] == name).unwrap();
    let request = named("request");
    for step in ["authenticate", "authorize", "credential", "forward"] {
        assert_eq!(named(step)["parentSpanId"], request["spanId"], "{step}");
    }
    let policies: Vec<_> = spans.iter().filter(|span| span["name"] == "policy").collect();
    assert!(policies.iter().all(|policy| policy["parentSpanId"] == named("authorize")["spanId"]));
    let mut asked: Vec<_> = policies.iter().filter_map(|policy| attribute(policy, "witgate.plugin")).collect();
    asked.sort_unstable();
    assert_eq!(asked, ["allow-all", "read-only"]);
    assert!(spans.iter().all(|span| span["traceId"] == request["traceId"]));
    let time = |span: &Value, key: &str| span[key].as_str().unwrap().parse::<u64>().unwrap();
    for span in &spans {
        assert!(time(span, "startTimeUnixNano") >= time(request, "startTimeUnixNano"), "{span}");
        assert!(time(span, "endTimeUnixNano") <= time(request, "endTimeUnixNano"), "{span}");
    }
    assert_eq!(attribute(request, "http.response.status_code").as_deref(), Some("200"));
    let sent = api_server.only_request().header("traceparent").unwrap().to_owned();
    let expected =
        format!("00-{}-{}-01", request["traceId"].as_str().unwrap(), named("forward")["spanId"].as_str().unwrap());
    assert_eq!(sent, expected);
    let post = collector.posts("/v1/traces").remove(0);
    assert_eq!(post.headers["content-type"], "application/json");
    assert!(post.headers.contains_key("x-receiver-token"));
}

/// A client's trace goes on; what it does not trace is not traced, and passes as it came.
#[tokio::test]
async fn a_client_s_trace_goes_on() {
    let (api_server, collector) = (ApiServer::start().await, OtlpCollector::start().await);
    let gate = traced(&api_server, &collector, 0.0).start().await;
    let context = |flags: &str| format!("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-{flags}");

    gate.client_as("jane").get(POD).header("traceparent", &context("00")).await;
    gate.client_as("jane").get(POD).await;
    let answer =
        gate.client_as("jane").get(POD).header("traceparent", &context("01")).header("tracestate", "a=b").await;

    let spans = collector.spans_of(answer.decision_id()).await;
    assert_eq!(spans[0]["parentSpanId"], "b7ad6b7169203331");
    assert_eq!(spans[0]["traceId"], "0af7651916cd43dd8448eb211c80319c");
    assert!(
        collector.spans().iter().all(|span| span["traceId"] == spans[0]["traceId"]),
        "the other two are not traced"
    );
    let requests = api_server.requests();
    assert_eq!(requests[0].header("traceparent"), Some(context("00").as_str()));
    assert_eq!(requests[1].header("traceparent"), None);
    let sent = requests[2].header("traceparent").unwrap();
    assert!(sent.starts_with("00-0af7651916cd43dd8448eb211c80319c-") && !sent.contains("b7ad6b7169203331"), "{sent}");
    assert_eq!(requests[2].header("tracestate"), Some("a=b"));
}

/// A denied request has its trace too: it ends with the policies.
#[tokio::test]
async fn a_denied_request_is_traced_to_its_denial() {
    let (api_server, collector) = (ApiServer::start().await, OtlpCollector::start().await);
    let gate = traced(&api_server, &collector, 1.0).start().await;

    let answer = gate.client_as("jane").delete(POD).await;

    let spans = collector.spans_of(answer.decision_id()).await;
    assert_eq!(attribute(&spans[0], "witgate.decision").as_deref(), Some("deny"));
    assert_eq!(attribute(&spans[0], "witgate.policy").as_deref(), Some("read-only"));
    assert!(spans.iter().all(|span| span["name"] != "forward" && span["name"] != "credential"), "{spans:?}");
}

/// The same numbers as `/metrics`, by OTLP.
#[tokio::test]
async fn metrics_are_sent_too() {
    let (api_server, collector) = (ApiServer::start().await, OtlpCollector::start().await);
    let gate = traced(&api_server, &collector, 0.0).start().await;
    for _ in 0..3 {
        gate.client_as("jane").get(POD).await;
    }

    until("three requests are told", || async {
        let last = collector.posts("/v1/metrics").pop()?;
        let metrics = last.body.pointer("/resourceMetrics/0/scopeMetrics/0/metrics")?.as_array()?.clone();
        let requests = metrics.iter().find(|metric| metric["name"] == "witgate_requests")?;
        let point = requests.pointer("/sum/dataPoints/0")?;
        (attribute(point, "code").as_deref() == Some("200") && point["asInt"] == "3").then_some(())
    })
    .await;
}

/// A receiver that is gone costs traces alone; they are counted.
#[tokio::test]
async fn a_receiver_that_is_gone_costs_no_request() {
    let api_server = ApiServer::start().await;
    let gone = witgate_tests::broken_upstream::BrokenUpstream::refusing_url().await;
    let otlp = json!({ "endpoint": gone, "sampleRatio": 1, "metrics": false });
    let gate = Gate::builder(&api_server).set("telemetry", json!({ "otlp": otlp })).start().await;

    assert_eq!(gate.client_as("jane").get(POD).await.status(), 200);

    until("the trace is dropped and counted", || async {
        let metrics = gate.metrics().await;
        let dropped = metrics.sum("witgate_telemetry_traces_total", &[("result", "dropped")]);
        (dropped == 1 && metrics.sum("witgate_telemetry_failures_total", &[]) == 1).then_some(())
    })
    .await;
    gate.log_line_with("traces are not sent").await;
}

/// What is traced when the gate goes down is sent before it ends.
#[tokio::test]
async fn the_last_traces_are_sent_before_the_end() {
    let (api_server, collector) = (ApiServer::start().await, OtlpCollector::start().await);
    let gate = traced(&api_server, &collector, 1.0).start().await;
    let answer = gate.client_as("jane").get(POD).await;

    assert!(gate.stop_gracefully().await.success());

    assert!(!collector.spans_of(answer.decision_id()).await.is_empty());
}
