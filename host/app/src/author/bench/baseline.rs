//! Figures that are kept, and what has become of them.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};

use super::super::question::Question;
use super::{Figures, Spread};

/// Figures with what they are of.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Baseline {
    /// The version of witgate.
    witgate: String,
    /// `debug` or `release`.
    build: String,
    /// What was asked.
    pub(super) question: String,
    /// What was measured.
    #[serde(flatten)]
    pub(super) figures: Figures,
}

/// What became of the figures.
pub(super) struct Comparison {
    /// For people.
    pub(super) lines: Vec<String>,
    /// By how many percent the median grew that grew most, of those beyond the spread.
    pub(super) worst_percent: f64,
}

impl Baseline {
    pub(super) fn new(question: &Question, figures: Figures) -> Self {
        Self {
            witgate: env!("CARGO_PKG_VERSION").to_owned(),
            build: if cfg!(debug_assertions) { "debug" } else { "release" }.to_owned(),
            question: format!("{} as {}", question.written, question.user.name),
            figures,
        }
    }

    /// # Errors
    /// When there is none of this name.
    pub(super) fn read(name: &str) -> anyhow::Result<Self> {
        let path = path(name)?;
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("there is no baseline {}: make one with --save {name}", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("{} is not a baseline", path.display()))
    }

    /// # Errors
    /// When it cannot be written.
    pub(super) fn write(&self, name: &str) -> anyhow::Result<PathBuf> {
        let path = path(name)?;
        let cannot = || format!("{} cannot be written", path.display());
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).with_context(cannot)?;
        }
        std::fs::write(&path, serde_json::to_string_pretty(self)?).with_context(cannot)?;
        Ok(path)
    }

    /// What has become of these figures.
    pub(super) fn compare(&self, now: &Self) -> Comparison {
        let mut lines = Vec::new();
        if self.question != now.question {
            lines.push(format!("note: the baseline is of another question: {}", self.question));
        }
        if (&self.witgate, &self.build) != (&now.witgate, &now.build) {
            lines
                .push(format!("note: the baseline was measured by a {} build of witgate {}", self.build, self.witgate));
        }
        let mut worst_percent = f64::NEG_INFINITY;
        let mut compare = |name: &str, before: Spread, after: Spread| {
            let percent = (after.median / before.median - 1.0) * 100.0;
            let word = if after.low <= before.high && before.low <= after.high {
                "within the spread"
            } else if percent > 0.0 {
                worst_percent = worst_percent.max(percent);
                "SLOWER"
            } else {
                "faster"
            };
            lines.push(format!("{name:<12} {:.1} → {:.1} µs, {percent:+.1} %: {word}", before.median, after.median));
        };
        compare("fresh call", self.figures.fresh_call_us, now.figures.fresh_call_us);
        compare("warm call", self.figures.warm_call_us, now.figures.warm_call_us);
        compare("instantiate", self.figures.instantiate_us, now.figures.instantiate_us);
        if let (Some(before), Some(after)) = (self.figures.instructions, now.figures.instructions) {
            let percent = (after as f64 / before as f64 - 1.0) * 100.0;
            lines.push(format!("instructions {before} → {after}, {percent:+.1} %"));
        }
        Comparison { lines, worst_percent }
    }
}

/// Where the figures of this name are kept.
fn path(name: &str) -> anyhow::Result<PathBuf> {
    if name.ends_with(".json") {
        return Ok(PathBuf::from(name));
    }
    if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)) {
        bail!("`{name}` is not a baseline's name: use letters, digits, `-` and `_`, or a path that ends with .json");
    }
    Ok(PathBuf::from(".witgate/bench").join(format!("{name}.json")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(fresh: f64) -> Baseline {
        let spread = |median: f64| Spread { median, low: median * 0.9, high: median * 1.1 };
        let figures = Figures {
            fresh_call_us: spread(fresh),
            warm_call_us: spread(10.0),
            instantiate_us: spread(10.0),
            instructions: Some(1000),
        };
        Baseline { witgate: "1".into(), build: "release".into(), question: "q".into(), figures }
    }

    /// Goal: what is beyond the spread is said, what is within is not made much of. Method: rows of a median and the line.
    #[test]
    fn a_change_is_told_with_how_much_it_means() {
        for (now, expected) in [
            (100.0, "fresh call   100.0 → 100.0 µs, +0.0 %: within the spread"),
            (115.0, "fresh call   100.0 → 115.0 µs, +15.0 %: within the spread"),
            (150.0, "fresh call   100.0 → 150.0 µs, +50.0 %: SLOWER"),
            (50.0, "fresh call   100.0 → 50.0 µs, -50.0 %: faster"),
        ] {
            assert_eq!(of(100.0).compare(&of(now)).lines.first().unwrap(), expected);
        }
        assert!((of(100.0).compare(&of(150.0)).worst_percent - 50.0).abs() < 1e-9);
        assert!(of(100.0).compare(&of(115.0)).worst_percent < 0.0, "what is within the spread fails nothing");
    }

    #[test]
    fn a_name_is_no_path() {
        assert_eq!(path("before").unwrap(), PathBuf::from(".witgate/bench/before.json"));
        assert_eq!(path("a/b.json").unwrap(), PathBuf::from("a/b.json"));
        assert!(path("../x").is_err());
    }
}
