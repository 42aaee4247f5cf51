//! A query, read as the API server reads it: by the rules of Go's `net/url`.
//!
//! Go drops a pair that holds a `;` (since Go 1.17, that is Kubernetes 1.23; before, it split
//! there) or a malformed escape, takes `+` for a space, and Kubernetes looks at the first
//! value of a key. Nothing here changes what is forwarded.

use std::borrow::Cow;

use crate::request_target::byte_of_hex;

/// A query without its `?`.
///
/// ```
/// use witgate_core::Query;
///
/// let query = Query::new("watch=1&watch=0&fieldSelector=metadata.name%3Dx&limit=5;0");
/// assert_eq!(query.first("watch").as_deref(), Some("1"));
/// assert_eq!(query.first("fieldSelector").as_deref(), Some("metadata.name=x"));
/// assert_eq!(query.first("limit"), None);
/// ```
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Query<'a>(&'a str);

impl<'a> Query<'a> {
    /// Wraps the text behind the `?`; where there is none, the empty one.
    pub const fn new(query: &'a str) -> Self {
        Self(query)
    }

    /// The pairs that count, decoded, in the order in which they stand.
    ///
    /// Bytes that are not UTF-8 when decoded become U+FFFD, which no name in Kubernetes holds.
    pub fn pairs(self) -> impl Iterator<Item = (Cow<'a, str>, Cow<'a, str>)> {
        self.0.split('&').filter_map(|pair| {
            if pair.is_empty() || pair.contains(';') {
                return None;
            }
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((decode(key)?, decode(value)?))
        })
    }

    /// The first value of `key`.
    pub fn first(self, key: &str) -> Option<Cow<'a, str>> {
        self.pairs().find(|(known, _)| known == key).map(|(_, value)| value)
    }
}

/// Decodes a key or value; none where an escape is malformed.
fn decode(text: &str) -> Option<Cow<'_, str>> {
    let Some(first) = text.bytes().position(|byte| byte == b'%' || byte == b'+') else {
        return Some(Cow::Borrowed(text));
    };
    let (plain, mut rest) = text.split_at_checked(first)?;
    let mut decoded = Vec::with_capacity(text.len());
    decoded.extend_from_slice(plain.as_bytes());
    while let Some(byte) = rest.bytes().next() {
        let (digits, after) = match byte {
            b'%' => rest.get(1..3).zip(rest.get(3..))?,
            _ => ("", rest.get(1..).unwrap_or("")),
        };
        decoded.push(match byte {
            b'%' => byte_of_hex(digits)?,
            b'+' => b' ',
            plain => plain,
        });
        rest = after;
    }
    Some(Cow::Owned(match String::from_utf8(decoded) {
        Ok(text) => text,
        Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the pairs are those that Go's `url.ParseQuery` gives. Method: a query and its pairs.
    #[test]
    fn pairs_are_read_as_go_reads_them() {
        check("", &[]);
        check("&&", &[]);
        check("a", &[("a", "")]);
        check("a=", &[("a", "")]);
        check("=a", &[("", "a")]);
        check("a=b=c", &[("a", "b=c")]);
        check("a=1&a=2", &[("a", "1"), ("a", "2")]);
        check("a+b=c+d%2Be", &[("a b", "c d+e")]);
        check("w%61tch=1", &[("watch", "1")]);
        check("a=%3D%26%3b", &[("a", "=&;")]);
        check("a;b=1&c=2", &[("c", "2")]);
        check("a=1;b=2&c=2", &[("c", "2")]);
        check("a=%zz&b=%&c=%2&%x=1&d=1", &[("d", "1")]);
        check("a=%+1&b=1", &[("b", "1")]);
        check("a=%C3%A9&b=%ff", &[("a", "é"), ("b", "\u{fffd}")]);
        check("é=ü%20", &[("é", "ü ")]);
        check("a=%é", &[]);
    }

    #[track_caller]
    fn check(query: &str, expected: &[(&str, &str)]) {
        let got: Vec<_> = Query::new(query).pairs().collect();
        let got: Vec<_> = got.iter().map(|(key, value)| (&**key, &**value)).collect();
        assert_eq!(got, expected, "{query}");
    }
}
