//! Field selectors, as far as RequestInfo needs them: whether one pins down a name.
//!
//! By the rules of `k8s.io/apimachinery/pkg/fields`. Its order matters: the terms are
//! sorted before the first exact one is taken, so `metadata.name=b,metadata.name=a` is `a`.

use std::borrow::Cow;

/// A field selector that the API server could not read either.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Malformed;

/// The name that `selector` requires with an exact `metadata.name` term.
///
/// # Errors
/// When any term, this one or another, is malformed.
pub(super) fn exact_name(selector: &str) -> Result<Option<String>, Malformed> {
    let mut first: Option<(&str, String)> = None;
    for term in Terms(Some(selector)).filter(|term| !term.is_empty()) {
        let (field, operator, value) = split_term(term).ok_or(Malformed)?;
        let value = unescape(value).ok_or(Malformed)?;
        let exact = match operator {
            Operator::Equal => field == "metadata.name",
            Operator::NotEqual => false,
        };
        if exact && first.as_ref().is_none_or(|(known, _)| term < *known) {
            first = Some((term, value.into_owned()));
        }
    }
    Ok(first.map(|(_, value)| value))
}

/// The parts between commas that no backslash escapes.
struct Terms<'a>(Option<&'a str>);

impl<'a> Iterator for Terms<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let rest = self.0?;
        let mut escaped = false;
        let comma = rest.bytes().position(|byte| {
            let ends = byte == b',' && !escaped;
            escaped = byte == b'\\' && !escaped;
            ends
        });
        let (term, after) = match comma.and_then(|at| rest.get(..at).zip(rest.get(at + 1..))) {
            Some((term, after)) => (term, Some(after)),
            None => (rest, None),
        };
        self.0 = after;
        Some(term)
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Operator {
    Equal,
    NotEqual,
}

/// Field, operator and value; the first operator from the left counts, and of those that begin there the longest.
fn split_term(term: &str) -> Option<(&str, Operator, &str)> {
    let (before, after) = term.split_once('=')?;
    match (before.strip_suffix('!'), after.strip_prefix('=')) {
        (Some(field), _) => Some((field, Operator::NotEqual, after)),
        (None, Some(value)) => Some((before, Operator::Equal, value)),
        (None, None) => Some((before, Operator::Equal, after)),
    }
}

/// The value with `\\`, `\,` and `\=` resolved; none for another escape or a bare `=`.
fn unescape(value: &str) -> Option<Cow<'_, str>> {
    if !value.contains(['\\', ',', '=']) {
        return Some(Cow::Borrowed(value));
    }
    let mut unescaped = String::with_capacity(value.len());
    let mut characters = value.chars();
    while let Some(character) = characters.next() {
        unescaped.push(match character {
            '\\' => characters.next().filter(|next| ['\\', ',', '='].contains(next))?,
            ',' | '=' => return None,
            plain => plain,
        });
    }
    Some(Cow::Owned(unescaped))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the name is the one that `fields.ParseSelector` and `RequiresExactMatch` give. Method: rows.
    #[test]
    fn a_name_is_taken_from_the_first_exact_term() {
        check("", Ok(None));
        check(",", Ok(None));
        check("metadata.name=x", Ok(Some("x")));
        check("metadata.name==x", Ok(Some("x")));
        check("metadata.name=", Ok(Some("")));
        check("metadata.name!=x", Ok(None));
        check(" metadata.name=x", Ok(None));
        check("metadata.name= x", Ok(Some(" x")));
        check("status.phase=Running,metadata.name=x,", Ok(Some("x")));
        check("metadata.name=y,metadata.name=x", Ok(Some("x")));
        check("metadata.name=y,metadata.name==z", Ok(Some("z")));
        check("metadata.name=x\\,y", Ok(Some("x,y")));
        check("metadata.name=\\\\,a=b", Ok(Some("\\")));
        check("metadata.name=x\\=y", Ok(Some("x=y")));
        check("metadata.name=x=y", Err(Malformed));
        check("metadata.name===x", Err(Malformed));
        check("metadata.name!==x", Err(Malformed));
        check("metadata.name=x\\y", Err(Malformed));
        check("metadata.name=x\\", Err(Malformed));
        check("metadata.name=x,foo", Err(Malformed));
        check("metadata.name!x", Err(Malformed));
    }

    #[track_caller]
    fn check(selector: &str, expected: Result<Option<&str>, Malformed>) {
        assert_eq!(exact_name(selector), expected.map(|name| name.map(Into::into)), "{selector}");
    }
}
