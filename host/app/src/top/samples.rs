//! The text of `/metrics`, read back: sums and quantiles of its samples.

use std::collections::BTreeMap;

/// All samples of one look.
#[derive(Clone, Debug, Default)]
pub(super) struct Samples(BTreeMap<String, Vec<Sample>>);

#[derive(Clone, Debug)]
struct Sample {
    labels: Vec<(String, String)>,
    value: f64,
}

impl Samples {
    /// Reads OpenMetrics text; what is no sample is passed over.
    pub(super) fn parse(text: &str) -> Self {
        let mut samples = BTreeMap::<String, Vec<Sample>>::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let Some((series, value)) = line.rsplit_once(' ') else { continue };
            let Ok(value) = value.parse() else { continue };
            let (name, labels) = match series.split_once('{') {
                None => (series, Vec::new()),
                Some((name, labels)) => (name, read_labels(labels)),
            };
            samples.entry(name.to_owned()).or_default().push(Sample { labels, value });
        }
        Self(samples)
    }

    /// The sum of the samples of this name with these labels.
    pub(super) fn sum(&self, name: &str, wanted: &[(&str, &str)]) -> f64 {
        self.of(name, wanted).map(|sample| sample.value).sum()
    }

    /// The samples of this name with these labels, by the value of one more.
    pub(super) fn by(&self, name: &str, wanted: &[(&str, &str)], label: &str) -> BTreeMap<&str, f64> {
        let mut sums = BTreeMap::new();
        for sample in self.of(name, wanted) {
            *sums.entry(sample.label(label).unwrap_or_default()).or_default() += sample.value;
        }
        sums
    }

    /// The upper bound, in seconds, of the bucket that holds the share; the truth is no more. None where there is none.
    pub(super) fn quantile(&self, name: &str, wanted: &[(&str, &str)], share: f64) -> Option<f64> {
        let name = format!("{name}_bucket");
        let mut buckets: Vec<(f64, f64)> = Vec::new();
        for sample in self.of(&name, wanted) {
            let bound = match sample.label("le")? {
                "+Inf" => f64::INFINITY,
                bound => bound.parse().ok()?,
            };
            match buckets.iter_mut().find(|(known, _)| *known == bound) {
                Some((_, count)) => *count += sample.value,
                None => buckets.push((bound, sample.value)),
            }
        }
        buckets.sort_by(|(one, _), (other, _)| one.total_cmp(other));
        let (_, total) = *buckets.last().filter(|(_, total)| *total > 0.0)?;
        let found = buckets.into_iter().find(|(_, count)| *count >= total * share);
        found.map(|(bound, _)| bound).filter(|bound| bound.is_finite())
    }

    fn of<'a>(&'a self, name: &str, wanted: &[(&str, &str)]) -> impl Iterator<Item = &'a Sample> {
        let samples = self.0.get(name).map_or(&[][..], Vec::as_slice).iter();
        samples.filter(move |sample| wanted.iter().all(|(label, value)| sample.label(label) == Some(*value)))
    }
}

impl Sample {
    fn label(&self, name: &str) -> Option<&str> {
        self.labels.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// The labels up to the closing brace; their values may hold anything, escaped.
fn read_labels(text: &str) -> Vec<(String, String)> {
    let mut labels = Vec::new();
    let mut rest = text;
    while let Some((name, after)) = rest.split_once("=\"") {
        let mut value = String::new();
        let mut characters = after.char_indices();
        let end = loop {
            match characters.next() {
                Some((_, '\\')) => match characters.next() {
                    Some((_, 'n')) => value.push('\n'),
                    Some((_, escaped)) => value.push(escaped),
                    None => return labels,
                },
                Some((end, '"')) => break end,
                Some((_, character)) => value.push(character),
                None => return labels,
            }
        };
        labels.push((name.trim_start_matches(',').to_owned(), value));
        rest = after.get(end + 1..).unwrap_or_default();
    }
    labels
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
# HELP x_seconds Lasts.
x_seconds_bucket{le=\"0.001\",cluster=\"a\"} 3
x_seconds_bucket{le=\"0.01\",cluster=\"a\"} 9
x_seconds_bucket{le=\"+Inf\",cluster=\"a\"} 10
x_seconds_bucket{le=\"0.001\",cluster=\"b\"} 90
x_seconds_bucket{le=\"0.01\",cluster=\"b\"} 90
x_seconds_bucket{le=\"+Inf\",cluster=\"b\"} 90
y_total{name=\"a\\\"},\\\\\\n b\",kind=\"k\"} 2
y_total{name=\"c\",kind=\"k\"} 3
z 1.5
# EOF
";

    /// Goal: the text is read as it was meant, escapes too. Method: one of each.
    #[test]
    fn text_is_read_back() {
        let samples = Samples::parse(TEXT);
        assert_eq!(samples.sum("z", &[]), 1.5);
        assert_eq!(samples.sum("y_total", &[("kind", "k")]), 5.0);
        assert_eq!(samples.by("y_total", &[("kind", "k")], "name"), [("a\"},\\\n b", 2.0), ("c", 3.0)].into());
        assert_eq!(samples.sum("none", &[]), 0.0);
    }

    /// Goal: a quantile is the bound of its bucket, over all series that are meant. Method: rows.
    #[test]
    fn a_quantile_is_a_bound() {
        let samples = Samples::parse(TEXT);
        let check = |wanted: &[(&str, &str)], share, expected| {
            assert_eq!(samples.quantile("x_seconds", wanted, share), expected, "{wanted:?} {share}");
        };
        check(&[("cluster", "a")], 0.5, Some(0.01));
        check(&[("cluster", "a")], 0.99, None);
        check(&[("cluster", "b")], 0.99, Some(0.001));
        check(&[], 0.5, Some(0.001));
        check(&[("cluster", "c")], 0.5, None);
    }
}
