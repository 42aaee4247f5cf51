//! Families as Prometheus reads them: OpenMetrics text, which is also what older scrapers of Prometheus' text read.
//!
//! The format's rules (escaping, suffixes, cumulative buckets, the end mark) are `prometheus-client`'s, the project's own library.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::{Family, Kind, Metrics, Sample, Value};

/// What `/metrics` says that it is.
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// All families as text.
pub(crate) fn encode(metrics: &Arc<Metrics>) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Families(metrics.read())));
    let mut text = String::with_capacity(TEXT_BYTES_USUAL);
    prometheus_client::encoding::text::encode(&mut text, &registry)?;
    Ok(text)
}

struct Families(Vec<Family>);

impl fmt::Debug for Families {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Families").finish_non_exhaustive()
    }
}

impl Collector for Families {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        for Family { name, help, kind, samples } in &self.0 {
            let metric_type = match kind {
                Kind::Counter => MetricType::Counter,
                Kind::Gauge => MetricType::Gauge,
                Kind::Histogram => MetricType::Histogram,
            };
            let mut family = encoder.encode_descriptor(name, help, None, metric_type)?;
            for Sample { labels, value } in samples {
                if labels.is_empty() {
                    encode_value(&mut family, *kind, value)?;
                    continue;
                }
                let labels: Vec<_> = labels.iter().map(|(name, value)| (*name, value.as_ref())).collect();
                encode_value(&mut family.encode_family(&labels)?, *kind, value)?;
            }
        }
        Ok(())
    }
}

fn encode_value(sample: &mut MetricEncoder<'_>, kind: Kind, value: &Value) -> Result<(), fmt::Error> {
    match (kind, value) {
        (Kind::Counter, Value::Count(count)) => sample.encode_counter::<NoLabelSet, _, f64>(count, None),
        (Kind::Counter, Value::Number(number)) => sample.encode_counter::<NoLabelSet, _, f64>(number, None),
        (_, Value::Count(count)) => sample.encode_gauge(count),
        (_, Value::Number(number)) => sample.encode_gauge(number),
        (_, Value::Histogram(reading)) => {
            sample.encode_histogram::<NoLabelSet>(reading.sum, reading.count, &reading.buckets, None)
        }
    }
}

/// The text's first allocation.
const TEXT_BYTES_USUAL: usize = 32 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the text is the format's. Method: a snapshot of one family of each kind, with a value that must be escaped.
    #[test]
    fn families_become_open_metrics() {
        let histogram = witgate_core::Histogram::new(&[5, 10]);
        histogram.observe(std::time::Duration::from_micros(7));
        let families = vec![
            Family::of_one("a", "Counts.", Kind::Counter, vec![("x", "1\"\\\n".into())], Value::Count(2)),
            Family::of_one("b_seconds", "Grows.", Kind::Counter, Vec::new(), Value::Number(0.5)),
            Family::of_one("c", "Comes and goes.", Kind::Gauge, Vec::new(), Value::Count(3)),
            Family::of_one("d", "Lasts.", Kind::Histogram, vec![("y", "z".into())], Value::Histogram(histogram.read())),
        ];
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Families(families)));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        insta::assert_snapshot!(text, @r#"
        # HELP a Counts.
        # TYPE a counter
        a_total{x="1\"\\\n"} 2
        # HELP b_seconds Grows.
        # TYPE b_seconds counter
        b_seconds_total 0.5
        # HELP c Comes and goes.
        # TYPE c gauge
        c 3
        # HELP d Lasts.
        # TYPE d histogram
        d_sum{y="z"} 0.000007
        d_count{y="z"} 1
        d_bucket{le="0.000005",y="z"} 0
        d_bucket{le="0.00001",y="z"} 1
        d_bucket{le="+Inf",y="z"} 1
        # EOF
        "#);
    }
}
