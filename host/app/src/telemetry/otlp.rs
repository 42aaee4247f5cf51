//! OTLP 1.x in its JSON form: identifiers as hexadecimal digits, 64-bit numbers as text, enumerations as numbers.
//!
//! What a span holds is written out here, field by field: names of the configuration, of plug-ins and of Kubernetes'
//! vocabulary. No path, no object's name, no user, no reason.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value as Json, json};
use witgate_core::HistogramReading;
use witgate_proxy::decision::{DecisionRecord, Outcome};
use witgate_proxy::trace::{Step, StepName, Trace};

use crate::metrics::{Family, Kind, Sample, Value};

/// A batch of requests as spans.
pub(super) fn traces(batch: &[(Trace, DecisionRecord)]) -> Vec<u8> {
    let spans: Vec<_> = batch.iter().flat_map(|(trace, record)| spans(trace, record)).collect();
    let body =
        json!({ "resourceSpans": [{ "resource": resource(), "scopeSpans": [{ "scope": scope(), "spans": spans }] }] });
    body.to_string().into_bytes()
}

/// All metrics at one moment.
pub(super) fn metrics(families: &[Family], started_at: SystemTime, now: SystemTime) -> Vec<u8> {
    let times = (nanos(started_at), nanos(now));
    let metrics: Vec<_> = families.iter().map(|family| metric(family, &times)).collect();
    let body = json!({ "resourceMetrics": [{ "resource": resource(), "scopeMetrics": [{ "scope": scope(), "metrics": metrics }] }] });
    body.to_string().into_bytes()
}

fn resource() -> Json {
    json!({ "attributes": [text("service.name", "witgate"), text("service.version", env!("CARGO_PKG_VERSION"))] })
}

fn scope() -> Json {
    json!({ "name": "witgate", "version": env!("CARGO_PKG_VERSION") })
}

fn text(key: &str, value: &str) -> Json {
    json!({ "key": key, "value": { "stringValue": value } })
}

fn number(key: &str, value: u64) -> Json {
    json!({ "key": key, "value": { "intValue": value.to_string() } })
}

fn nanos(time: SystemTime) -> String {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos().to_string()
}

/// The request's span, and one for each step.
fn spans(trace: &Trace, record: &DecisionRecord) -> Vec<Json> {
    let context = &trace.context;
    let mut spans = Vec::with_capacity(trace.steps.len() + 1);
    // Numbered from the request's own, which is random: nobody else numbers in this trace from there.
    let id_of = |index: usize, step: &Step| match step.name {
        StepName::Forward => context.forward_span_id,
        _ => context.span_id.wrapping_add(index as u64 + 1).max(1),
    };
    let mut request = span(trace, "request", SERVER, context.span_id, context.parent_span_id, trace.began, trace.took);
    let failed = record.status.is_none_or(|status| status >= 500);
    request.insert("attributes".into(), attributes(record).into());
    request.insert("status".into(), if failed { json!({ "code": STATUS_ERROR }) } else { json!({}) });
    spans.push(request.into());
    for (index, step) in trace.steps.iter().enumerate() {
        let parent = match step.name {
            // A policy's call ends before the judgement that it is a part of, which is the next that ends.
            StepName::Policy => trace
                .steps
                .iter()
                .enumerate()
                .skip(index)
                .find(|(_, step)| step.name == StepName::Authorize)
                .map_or(context.span_id, |(index, step)| id_of(index, step)),
            _ => context.span_id,
        };
        let kind = if step.name == StepName::Forward { CLIENT } else { INTERNAL };
        let mut part = span(trace, step.name.as_str(), kind, id_of(index, step), Some(parent), step.began, step.took);
        let mut attributes = vec![text("witgate.decision.id", &record.id.to_string())];
        attributes.extend(step.plugin.as_ref().map(|plugin| text("witgate.plugin", plugin.as_str())));
        attributes.push(json!({ "key": "witgate.passed", "value": { "boolValue": step.passed } }));
        part.insert("attributes".into(), attributes.into());
        spans.push(part.into());
    }
    spans
}

fn span(
    trace: &Trace,
    name: &str,
    kind: u8,
    id: u64,
    parent: Option<u64>,
    began: Instant,
    took: Duration,
) -> serde_json::Map<String, Json> {
    let began_at = trace.began_at + began.saturating_duration_since(trace.began);
    let mut span = serde_json::Map::new();
    span.insert("traceId".into(), format!("{:032x}", trace.context.trace_id).into());
    span.insert("spanId".into(), format!("{id:016x}").into());
    if let Some(parent) = parent {
        span.insert("parentSpanId".into(), format!("{parent:016x}").into());
    }
    span.insert("name".into(), name.into());
    span.insert("kind".into(), kind.into());
    span.insert("startTimeUnixNano".into(), nanos(began_at).into());
    span.insert("endTimeUnixNano".into(), nanos(began_at + took).into());
    span
}

fn attributes(record: &DecisionRecord) -> Vec<Json> {
    let request = &record.request;
    let decision = match record.decision {
        Outcome::Allow => "allow",
        Outcome::Deny => "deny",
    };
    let mut attributes = vec![
        text("witgate.decision.id", &record.id.to_string()),
        text("witgate.decision", decision),
        number("witgate.generation", record.generation.0),
        text("http.request.method", known_method(&request.method)),
    ];
    let mut add =
        |key: &str, value: Option<&str>| attributes.extend(value.filter(|v| !v.is_empty()).map(|v| text(key, v)));
    add("witgate.policy", record.policy.as_ref().map(|policy| policy.as_str()));
    add("witgate.strategy", record.strategy.as_ref().map(|strategy| strategy.as_str()));
    // From here on what was asked for; only where a verdict was on a cluster that is there can it be more than a caller's text.
    if record.decision == Outcome::Allow {
        add("k8s.cluster.name", request.cluster.as_deref());
    }
    add("witgate.action_class", request.action_class);
    if let Some(status) = record.status {
        attributes.push(number("http.response.status_code", u64::from(status)));
    }
    attributes
}

fn known_method(method: &str) -> &str {
    const KNOWN: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE"];
    if KNOWN.contains(&method) { method } else { "_OTHER" }
}

fn metric(family: &Family, times: &(String, String)) -> Json {
    let points: Vec<_> = family.samples.iter().map(|sample| point(sample, times)).collect();
    let mut metric = json!({ "name": family.name, "description": family.help });
    let (key, data) = match family.kind {
        Kind::Counter => {
            ("sum", json!({ "aggregationTemporality": CUMULATIVE, "isMonotonic": true, "dataPoints": points }))
        }
        Kind::Gauge => ("gauge", json!({ "dataPoints": points })),
        Kind::Histogram => ("histogram", json!({ "aggregationTemporality": CUMULATIVE, "dataPoints": points })),
    };
    if let Some(metric) = metric.as_object_mut() {
        metric.insert(key.to_owned(), data);
    }
    metric
}

fn point(sample: &Sample, (started, now): &(String, String)) -> Json {
    let attributes: Vec<_> = sample.labels.iter().map(|(name, value)| text(name, value)).collect();
    let mut point = json!({ "attributes": attributes, "startTimeUnixNano": started, "timeUnixNano": now });
    let Some(fields) = point.as_object_mut() else { return point };
    match &sample.value {
        Value::Count(count) => {
            fields.insert("asInt".to_owned(), count.to_string().into());
        }
        Value::Number(number) => {
            fields.insert("asDouble".to_owned(), (*number).into());
        }
        Value::Histogram(HistogramReading { buckets, sum, count }) => {
            let counts: Vec<_> = buckets.iter().map(|(_, count)| count.to_string()).collect();
            let bounds: Vec<_> = buckets.iter().map(|(bound, _)| *bound).filter(|bound| bound.is_finite()).collect();
            fields.insert("count".to_owned(), count.to_string().into());
            fields.insert("sum".to_owned(), (*sum).into());
            fields.insert("bucketCounts".to_owned(), counts.into());
            fields.insert("explicitBounds".to_owned(), bounds.into());
        }
    }
    point
}

/// The protocol's numbers.
const INTERNAL: u8 = 1;
const SERVER: u8 = 2;
const CLIENT: u8 = 3;
const STATUS_ERROR: u8 = 2;
const CUMULATIVE: u8 = 2;

#[cfg(test)]
pub(super) mod tests {
    use witgate_core::{Generation, PluginName};
    use witgate_proxy::decision::{DecisionId, RequestFields};
    use witgate_proxy::trace::TraceContext;

    use super::*;

    /// A request that one policy allowed and that went up.
    pub(in crate::telemetry) fn trace() -> (Trace, DecisionRecord) {
        let began = Instant::now();
        let step = |name, plugin: Option<&str>| Step {
            name,
            plugin: plugin.map(|plugin| PluginName::try_from(plugin).unwrap()),
            began,
            took: Duration::from_micros(1),
            passed: true,
        };
        let trace = Trace {
            context: TraceContext { trace_id: 0xabc, parent_span_id: Some(1), span_id: 0x10, forward_span_id: 0x99 },
            began_at: UNIX_EPOCH + Duration::from_secs(1),
            began,
            took: Duration::from_micros(5),
            steps: vec![
                step(StepName::Authenticate, None),
                step(StepName::Policy, Some("allow-all")),
                step(StepName::Authorize, None),
                step(StepName::Forward, None),
            ],
        };
        let record = DecisionRecord {
            id: DecisionId::generate(),
            time: String::new(),
            user: Some("user:default/jane".into()),
            groups: None,
            permission: None,
            request: RequestFields { cluster: Some("one".into()), path: "/secret".into(), ..RequestFields::default() },
            decision: Outcome::Allow,
            reason: None,
            policy: None,
            digest: None,
            generation: Generation(1),
            policy_us: None,
            strategy: None,
            credential: None,
            cache_hit: None,
            strategy_us: None,
            status: Some(200),
            bytes: None,
            duration_ms: None,
            close_reason: None,
        };
        (trace, record)
    }

    /// Goal: the steps are children of the request, the policy's of the judgement, and the way up has the span that went up.
    #[test]
    fn steps_are_children() {
        let body: Json = serde_json::from_slice(&traces(&[trace()])).unwrap();
        let spans = body.pointer("/resourceSpans/0/scopeSpans/0/spans").and_then(Json::as_array).unwrap();
        let told: Vec<_> = spans
            .iter()
            .map(|span| {
                format!(
                    "{} {} of {}",
                    span["name"].as_str().unwrap(),
                    span["spanId"].as_str().unwrap(),
                    span["parentSpanId"].as_str().unwrap()
                )
            })
            .collect();
        assert_eq!(
            told,
            [
                "request 0000000000000010 of 0000000000000001",
                "authenticate 0000000000000011 of 0000000000000010",
                "policy 0000000000000012 of 0000000000000013",
                "authorize 0000000000000013 of 0000000000000010",
                "forward 0000000000000099 of 0000000000000010",
            ]
        );
        let time = |key: &str| spans.first().and_then(|span| span.get(key)).and_then(Json::as_str);
        assert_eq!((time("startTimeUnixNano"), time("endTimeUnixNano")), (Some("1000000000"), Some("1000005000")));
        let text = body.to_string();
        assert!(!text.contains("jane") && !text.contains("/secret"), "{text}");
    }
}
