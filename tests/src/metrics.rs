//! What `/metrics` says, read back: so that a test compares numbers and not text.

use std::collections::BTreeMap;

/// All samples of one look at `/metrics`.
#[derive(Clone, Debug)]
pub struct Metrics {
    samples: Vec<Sample>,
    /// The text as it came.
    pub text: String,
}

/// One line.
#[derive(Clone, Debug)]
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

impl Metrics {
    /// Reads the text; each line of it must be one of the format.
    #[track_caller]
    pub fn parse(text: &str) -> Self {
        assert!(text.ends_with("# EOF\n"), "{text}");
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let samples = lines.map(|line| sample(line).unwrap_or_else(|| panic!("not a sample: {line}"))).collect();
        Self { samples, text: text.to_owned() }
    }

    /// The sum of all samples of this name with these labels.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        let is_meant = |sample: &&Sample| {
            sample.name == name
                && labels.iter().all(|(label, value)| sample.labels.get(*label).map(String::as_str) == Some(*value))
        };
        self.samples.iter().filter(is_meant).map(|sample| sample.value).sum::<f64>() as u64
    }

    /// The samples of this name by the values of these labels, with a space between.
    pub fn by(&self, name: &str, labels: &[&str]) -> BTreeMap<String, u64> {
        let mut sums = BTreeMap::new();
        for sample in self.samples.iter().filter(|sample| sample.name == name) {
            let values: Vec<_> =
                labels.iter().map(|label| sample.labels.get(*label).map_or("", String::as_str)).collect();
            *sums.entry(values.join(" ")).or_default() += sample.value as u64;
        }
        sums
    }

    /// How many samples there are.
    pub fn samples_count(&self) -> usize {
        self.samples.len()
    }

    /// The values that a label has anywhere.
    pub fn values_of(&self, label: &str) -> std::collections::BTreeSet<&str> {
        self.samples.iter().filter_map(|sample| sample.labels.get(label)).map(String::as_str).collect()
    }
}

fn sample(line: &str) -> Option<Sample> {
    let (series, value) = line.rsplit_once(' ')?;
    let value = value.parse().ok()?;
    let Some((name, labels)) = series.split_once('{') else {
        return Some(Sample { name: series.to_owned(), labels: BTreeMap::new(), value });
    };
    // No value of ours holds a quotation mark or a comma.
    let labels = labels.strip_suffix('}')?.split(',').map(|label| {
        let (name, value) = label.split_once('=')?;
        Some((name.to_owned(), value.strip_prefix('"')?.strip_suffix('"')?.to_owned()))
    });
    Some(Sample { name: name.to_owned(), labels: labels.collect::<Option<_>>()?, value })
}
