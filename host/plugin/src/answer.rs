//! What a guest's texts are held to before anyone else sees them.

use crate::capability::log::steers;
use crate::limits::REASON_CHARS_MAX;

/// Counts the bytes of one answer.
#[derive(Default)]
pub(crate) struct Size(usize);

impl Size {
    /// Adds a text, and what a list spends on it.
    pub(crate) const fn add(&mut self, text: &str) {
        self.0 = self.0.saturating_add(text.len()).saturating_add(size_of::<String>());
    }

    /// Whether the answer is larger than it may be.
    pub(crate) const fn exceeds(&self, bytes_max: usize) -> bool {
        self.0 > bytes_max
    }
}

/// A reason that callers, headers and logs can carry: one line of bounded length.
pub(crate) fn text(reason: &str) -> String {
    reason
        .chars()
        .take(REASON_CHARS_MAX)
        .map(|character| match character {
            '\n' | '\r' | '\t' => ' ',
            steering if steers(steering) => char::REPLACEMENT_CHARACTER,
            shown => shown,
        })
        .collect()
}

/// A list of faults, each as [`text`], and not too many of them.
pub(crate) fn texts(faults: Vec<String>) -> Vec<String> {
    let more = faults.len().saturating_sub(FAULTS_MAX);
    let mut texts: Vec<String> = faults.iter().take(FAULTS_MAX).map(|fault| text(fault)).collect();
    if more > 0 {
        texts.push(format!("and {more} more"));
    }
    texts
}

/// Warnings for the caller, each as [`text`] and short enough for a header, and not too many of them.
pub(crate) fn warnings(warnings: &[String]) -> Vec<String> {
    let shown = warnings.iter().filter(|warning| !warning.is_empty()).take(WARNINGS_MAX);
    shown.map(|warning| text(warning).chars().take(WARNING_CHARS_MAX).collect()).collect()
}

const FAULTS_MAX: usize = 64;
const WARNINGS_MAX: usize = 8;
/// What the API server itself cuts its warnings at.
const WARNING_CHARS_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a reason is one bounded line. Method: rows.
    #[test]
    fn a_reason_is_one_bounded_line() {
        for (reason, expected) in [
            ("no pods for you", "no pods for you"),
            ("a\r\nb\tc", "a  b c"),
            ("\u{1b}[31mred\0", "\u{fffd}[31mred\u{fffd}"),
            ("\u{202e}", "\u{fffd}"),
        ] {
            assert_eq!(text(reason), expected);
        }
        assert_eq!(text(&"ä".repeat(REASON_CHARS_MAX + 1)), "ä".repeat(REASON_CHARS_MAX));
    }

    #[test]
    fn warnings_are_few_and_short() {
        let given = vec![String::new(), "a\r\nb".to_owned(), "é".repeat(300)];
        assert_eq!(warnings(&given), ["a  b".to_owned(), "é".repeat(256)]);
        assert_eq!(warnings(&vec!["w".to_owned(); 9]).len(), WARNINGS_MAX);
    }

    #[test]
    fn a_list_of_faults_ends() {
        let texts = texts(vec!["wrong".to_owned(); FAULTS_MAX + 2]);
        assert_eq!(texts.len(), FAULTS_MAX + 1);
        assert_eq!(texts.last().unwrap(), "and 2 more");
    }
}
