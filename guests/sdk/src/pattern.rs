//! Texts with wildcards, as the ready policies' settings have them: `*` stands for any run of characters, the empty one included.
//!
//! ```
//! use witgate_sdk::pattern::Patterns;
//!
//! let namespaces = Patterns::new(["team-a".to_owned(), "team-a-*".to_owned()]);
//! assert!(namespaces.matches("team-a-dev") && !namespaces.matches("team-ab"));
//! ```

/// Patterns of which one must match. None matches nothing.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Patterns(Vec<Pattern>);

impl Patterns {
    /// These patterns; compared with case.
    pub fn new(patterns: impl IntoIterator<Item = String>) -> Self {
        Self(patterns.into_iter().map(Pattern).collect())
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether one of them is the whole text.
    pub fn matches(&self, text: &str) -> bool {
        self.0.iter().any(|pattern| pattern.matches(text))
    }

    /// Whether some pattern is `*` alone.
    pub fn has_everything(&self) -> bool {
        self.0.iter().any(|pattern| pattern.0 == "*")
    }
}

#[derive(Clone, Debug, Eq, PartialEq)]
struct Pattern(String);

impl Pattern {
    /// Linear for each `*`: the leftmost place of a piece is never a worse choice than a later one.
    fn matches(&self, text: &str) -> bool {
        let Some((first, rest)) = self.0.split_once('*') else { return self.0 == text };
        let Some(mut text) = text.strip_prefix(first) else { return false };
        let (middle, last) = rest.rsplit_once('*').unwrap_or(("", rest));
        for piece in middle.split('*') {
            let Some((_, after)) = text.split_once(piece) else { return false };
            text = after;
        }
        text.ends_with(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: `*` is a wildcard and nothing else is. Method: rows.
    #[test]
    fn a_star_stands_for_any_run() {
        for (pattern, text) in [
            ("a", "a"),
            ("*", ""),
            ("*", "anything"),
            ("a*", "a"),
            ("a*", "ab"),
            ("*a", "ba"),
            ("a*c", "abc"),
            ("a*c", "ac"),
            ("a*b*c", "a-b-b-c"),
            ("*a*", "xax"),
            ("**", "x"),
            ("a.c", "a.c"),
        ] {
            assert!(matches(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [
            ("a", "A"),
            ("a", "ab"),
            ("a", ""),
            ("a*", "ba"),
            ("a*a", "a"),
            ("a*c", "acb"),
            ("a*b*c", "acb"),
            ("a.c", "abc"),
            ("ab*ba", "aba"),
            ("", "a"),
        ] {
            assert!(!matches(pattern, text), "{pattern} {text}");
        }
    }

    fn matches(pattern: &str, text: &str) -> bool {
        Patterns::new([pattern.to_owned()]).matches(text)
    }
}
