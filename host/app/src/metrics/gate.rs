//! The data plane's families: requests, streams, and the ways up.

use std::borrow::Cow;
use std::sync::Arc;

use witgate_core::Histogram;
use witgate_proxy::counts::{GateCounts, RequestCounts};
use witgate_proxy::snapshot::{Cluster, Snapshot};

use super::{Family, Kind, Sample, Value};

/// The data plane's families. The label `cluster` is empty where no cluster of the configuration was named.
pub(super) fn families(counts: &GateCounts, snapshot: &Snapshot) -> Vec<Family> {
    let clusters: Vec<_> = snapshot.clusters.iter().collect();
    let mut requests = Vec::new();
    let mut durations = Vec::new();
    add_requests("".into(), counts.elsewhere(), &mut requests, &mut durations);
    for cluster in &clusters {
        add_requests(name(cluster), cluster.upstream.counts().requests(), &mut requests, &mut durations);
    }
    let decisions = counts.decisions().read().map(|(verb, class, outcome, count)| {
        let labels =
            [("verb", verb.into()), ("action_class", class.as_str().into()), ("decision", outcome.as_str().into())];
        Sample::new(labels, Value::Count(count))
    });
    let gauge = |name, help, value: fn(&Cluster) -> u64| Family {
        name,
        help,
        kind: Kind::Gauge,
        samples: per_cluster(&clusters, value),
    };
    let mut families = vec![
        counter("witgate_requests", "Requests that were answered, or whose client left first (code `none`).", requests),
        Family {
            name: "witgate_request_duration_seconds",
            help: "From a request's head to the head of its answer.",
            kind: Kind::Histogram,
            samples: durations,
        },
        counter(
            "witgate_decisions",
            "Requests to clusters that were judged, by what was to be done.",
            decisions.collect(),
        ),
        gauge(
            "witgate_requests_in_flight",
            "Requests under way to a cluster, streams and upgrades included.",
            |cluster| cluster.upstream.in_flight_count() as u64,
        ),
        counter("witgate_upstream_errors", "Requests that an API server did not answer.", upstream_errors(&clusters)),
        gauge(
            "witgate_upstream_suspended",
            "Whether an API server is taken for dead and its requests are refused.",
            |cluster| u64::from(cluster.upstream.is_suspended()),
        ),
        Family::of_one(
            "witgate_connections_open",
            "Connections of clients; one that was upgraded counts in `witgate_streams_open` alone.",
            Kind::Gauge,
            Vec::new(),
            Value::Count(counts.connections_open()),
        ),
        Family::of_one(
            "witgate_connections",
            "Connections of clients that were taken.",
            Kind::Counter,
            Vec::new(),
            Value::Count(counts.connections()),
        ),
    ];
    families.extend(long_lived(&clusters));
    families
}

fn add_requests(
    cluster: Cow<'static, str>,
    counts: &RequestCounts,
    requests: &mut Vec<Sample>,
    durations: &mut Vec<Sample>,
) {
    requests.extend(counts.read().map(|(route, outcome, code, count)| {
        let labels = [
            ("route", route.as_str().into()),
            ("cluster", cluster.clone()),
            ("decision", outcome.as_str().into()),
            ("code", code.into()),
        ];
        Sample::new(labels, Value::Count(count))
    }));
    durations.extend(histogram(counts.duration(), [("cluster", cluster)]));
}

fn upstream_errors(clusters: &[&Arc<Cluster>]) -> Vec<Sample> {
    let mut samples = Vec::new();
    for cluster in clusters {
        let errors = cluster.upstream.counts().upstream_errors().filter(|(_, count)| *count > 0);
        samples.extend(errors.map(|(kind, count)| {
            Sample::new([("cluster", name(cluster)), ("kind", kind.as_str().into())], Value::Count(count))
        }));
    }
    samples
}

fn long_lived(clusters: &[&Arc<Cluster>]) -> [Family; 3] {
    let (mut open, mut ends, mut bytes) = (Vec::new(), Vec::new(), Vec::new());
    for cluster in clusters {
        for (kind, counts) in cluster.upstream.counts().long_lived() {
            let labels = || [("cluster", name(cluster)), ("kind", kind.as_str().into())];
            open.push(Sample::new(labels(), Value::Count(counts.open())));
            for (reason, count) in counts.ends().filter(|(_, count)| *count > 0) {
                let [cluster, kind] = labels();
                ends.push(Sample::new([cluster, kind, ("reason", reason.as_str().into())], Value::Count(count)));
            }
            if counts.bytes() > 0 {
                bytes.push(Sample::new(labels(), Value::Count(counts.bytes())));
            }
        }
    }
    [
        Family {
            name: "witgate_streams_open",
            help: "Watches, followed logs (stream), and exec, attach and port-forward (upgrade) that are open or being opened.",
            kind: Kind::Gauge,
            samples: open,
        },
        counter("witgate_streams_closed", "Streams and upgrades that ended, by why.", ends),
        counter("witgate_stream_bytes", "Bytes that streams and upgrades brought down, counted when they end.", bytes),
    ]
}

fn per_cluster(clusters: &[&Arc<Cluster>], value: fn(&Cluster) -> u64) -> Vec<Sample> {
    clusters.iter().map(|cluster| Sample::new([("cluster", name(cluster))], Value::Count(value(cluster)))).collect()
}

fn name(cluster: &Cluster) -> Cow<'static, str> {
    cluster.details.name.as_str().to_owned().into()
}

/// A histogram's sample; none while it is empty.
pub(super) fn histogram<const N: usize>(histogram: &Histogram, labels: [super::Label; N]) -> Option<Sample> {
    let reading = histogram.read();
    (reading.count > 0).then(|| Sample::new(labels, Value::Histogram(reading)))
}

pub(super) fn counter(name: &'static str, help: &'static str, samples: Vec<Sample>) -> Family {
    Family { name, help, kind: Kind::Counter, samples }
}
