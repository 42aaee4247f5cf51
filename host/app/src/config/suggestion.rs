//! "did you mean": the known word that an unknown one is closest to.

/// The word of `known` that is at most two edits, and less than half of its length, away from `given`.
pub(crate) fn closest<'a>(given: &str, known: &[&'a str]) -> Option<&'a str> {
    // Nothing that long is a typing error, and the distance costs the product of the lengths.
    if given.len() > 64 {
        return None;
    }
    let given = given.to_lowercase();
    known
        .iter()
        .map(|word| (distance(&given, &word.to_lowercase()), *word))
        .filter(|(edits, word)| *edits <= 2 && edits * 2 < word.len())
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, word)| word)
}

/// The number of insertions, deletions and replacements between two words.
fn distance(from: &str, to: &str) -> usize {
    let mut row: Vec<usize> = (0..=to.chars().count()).collect();
    for (above, a) in from.chars().enumerate() {
        let mut left = above + 1;
        let mut next = vec![left];
        for ((b, diagonal), up) in to.chars().zip(row.iter()).zip(row.iter().skip(1)) {
            left = (diagonal + usize::from(a != b)).min(up + 1).min(left + 1);
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::closest;

    /// Goal: a typing error finds its word, and nothing else does. Method: rows.
    #[test]
    fn a_word_two_edits_away_is_suggested() {
        check("lisen", Some("listen"));
        check("skiptlsverify", Some("skipTLSVerify"));
        check("caDta", Some("caData"));
        check("url", Some("url"));
        check("uri", Some("url"));
        check("x", None);
        check("customResources", None);
        check(&"l".repeat(65), None);
        check("", None);
    }

    #[track_caller]
    fn check(given: &str, expected: Option<&str>) {
        assert_eq!(closest(given, &["listen", "skipTLSVerify", "caData", "url"]), expected);
    }
}
