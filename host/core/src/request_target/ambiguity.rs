//! The ambiguity rule: which paths and queries are refused because two readers could differ.
//!
//! The readers are the gate, the API server, and whatever stands between and behind
//! them. The API server (Go's `net/http` and `net/url`) decodes the whole path once and
//! then splits it on `/`; it removes no dot segments, merges no slashes and strips no
//! `;` parameters. Others do all of these, in any order, some twice. So a path is taken
//! only if decoding it, cleaning it and splitting it give the same in every order.
//!
//! **The subpath of a proxy.** For `pods`, `services` and `nodes` of the core group, what
//! follows `/proxy/` goes to a pod's, service's or kubelet's own HTTP server. The API
//! server takes the resource, name and subresource from the segments before it, which the
//! rule judges in full strictness, and hands over the rest: joined, decoded, slashes
//! merged, then encoded anew. Neither `//` nor `%2F` nor an escaped `%` in the rest can
//! change those earlier segments, so these are taken there; dot segments can, in a
//! reader that cleans, so they are refused, and since `%25` is taken they are also looked for
//! under a second encoding. The prefix is matched as raw bytes: `%70roxy` gets no exemption.

use std::borrow::Cow;
use std::fmt;

use super::RequestTarget;

/// Why a path and query are refused: two readers could read them in two ways.
///
/// The text is for the caller. It repeats at most 64 characters of the target.
// Not `non_exhaustive`: a new reason must stop the build wherever reasons are told apart.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum AmbiguousTarget {
    /// No leading slash: the absolute form (`http://…`), `*`, or nothing at all.
    #[error("`{found}` does not begin with `/`: only a path, without scheme and host, is taken")]
    NotAPath {
        /// Its beginning.
        found: Box<str>,
    },
    /// Longer than the limit.
    #[error("the {part} {} {given_bytes} bytes long; at most {max_bytes} are taken", .part.is_or_are())]
    TooLong {
        /// What is too long.
        part: TargetPart,
        /// How long it is.
        given_bytes: usize,
        /// How long it may be.
        max_bytes: usize,
    },
    /// A query that some versions of Go read and others drop.
    #[error("the query has {given} pairs; at most {max} are taken")]
    TooManyPairs {
        /// How many there are.
        given: usize,
        /// How many there may be.
        max: usize,
    },
    /// A character that is not taken, raw or escaped: a slash (escaped), a backslash, a space (raw),
    /// `#`, a control character, a byte outside ASCII (raw); or an empty segment, `//`.
    #[error("`{found}` in the {part}{}", .encoding.suffix())]
    Character {
        /// It, as it stands there.
        found: Box<str>,
        /// Where it stands.
        part: TargetPart,
        /// Under which encoding.
        encoding: Encoding,
    },
    /// `.` or `..`, also before a `;`, which some servers take for the begin of a parameter.
    #[error("segment `{found}` in the path{}", .encoding.suffix())]
    DotSegment {
        /// It, as it stands there.
        found: Box<str>,
        /// Under which encoding.
        encoding: Encoding,
    },
    /// A `%` without two hexadecimal digits.
    #[error("malformed escape `{found}` in the path")]
    MalformedEscape {
        /// It, as it stands there.
        found: Box<str>,
    },
    /// An escape that decodes to an escape.
    #[error("`{found}` left in the path when it is decoded{}", .encoding.left_suffix())]
    EncodedAgain {
        /// What is left.
        found: Box<str>,
        /// After how many decodings.
        encoding: Encoding,
    },
    /// Escaped bytes that are no text.
    #[error("bytes in the path that are not UTF-8 when decoded")]
    NotUtf8,
}

/// A part of a request's target.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TargetPart {
    /// Up to the first `?`.
    Path,
    /// After it.
    Query,
    /// Both.
    PathAndQuery,
}

impl TargetPart {
    const fn is_or_are(self) -> &'static str {
        match self {
            Self::Path | Self::Query => "is",
            Self::PathAndQuery => "are",
        }
    }
}

impl fmt::Display for TargetPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Path => "path",
            Self::Query => "query",
            Self::PathAndQuery => "path and query",
        })
    }
}

/// How deep something was found.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Encoding {
    /// Raw, or behind one escape.
    Once,
    /// Behind an escaped escape.
    Twice,
}

impl Encoding {
    const fn suffix(self) -> &'static str {
        match self {
            Self::Once => "",
            Self::Twice => ", encoded twice",
        }
    }

    const fn left_suffix(self) -> &'static str {
        match self {
            Self::Once => ": it is encoded twice",
            Self::Twice => " twice: it is encoded thrice",
        }
    }
}

/// Judges a path and query; gives the path decoded, or nothing where that is the path itself.
pub(super) fn decode_path_once(path_and_query: &str) -> Result<Option<Box<str>>, AmbiguousTarget> {
    let max_bytes = RequestTarget::TARGET_BYTES_MAX;
    if path_and_query.len() > max_bytes {
        let given_bytes = path_and_query.len();
        return Err(AmbiguousTarget::TooLong { part: TargetPart::PathAndQuery, given_bytes, max_bytes });
    }
    if !path_and_query.starts_with('/') {
        return Err(AmbiguousTarget::NotAPath { found: excerpt(path_and_query) });
    }
    let (path, query) =
        path_and_query.split_once('?').map_or((path_and_query, None), |(path, query)| (path, Some(query)));

    let max_bytes = RequestTarget::PATH_BYTES_MAX;
    if path.len() > max_bytes {
        return Err(AmbiguousTarget::TooLong { part: TargetPart::Path, given_bytes: path.len(), max_bytes });
    }
    refuse_characters(path, TargetPart::Path)?;
    if let Some(query) = query {
        refuse_characters(query, TargetPart::Query)?;
        refuse_many_pairs(query)?;
    }

    let (judged, exempted) = split_proxied_subpath(path);
    let decoded = decode_judged(judged)?;
    let subpath = decode_exempted(exempted)?;
    Ok(match (decoded, subpath) {
        (Cow::Borrowed(_), Cow::Borrowed(_)) => None,
        (decoded, subpath) => Some((decoded.into_owned() + &subpath).into_boxed_str()),
    })
}

/// Refuses what no client sends raw. The backslash is fine in a query: nobody splits one on it.
fn refuse_characters(text: &str, part: TargetPart) -> Result<(), AmbiguousTarget> {
    let refused = |byte: u8| match byte {
        b'\\' => part == TargetPart::Path,
        b'#' => true,
        _ => !byte.is_ascii_graphic(),
    };
    // Bytes first: this runs on every request, and a multi-byte character begins with a refused byte.
    let Some(at) = text.bytes().position(refused) else { return Ok(()) };
    let found = text.get(at..).and_then(|rest| rest.chars().next()).unwrap_or(char::REPLACEMENT_CHARACTER);
    Err(AmbiguousTarget::Character { found: visible(found), part, encoding: Encoding::Once })
}

fn refuse_many_pairs(query: &str) -> Result<(), AmbiguousTarget> {
    let max = RequestTarget::QUERY_PAIRS_MAX;
    let given = 1 + query.bytes().filter(|&byte| byte == b'&').count();
    if given > max { Err(AmbiguousTarget::TooManyPairs { given, max }) } else { Ok(()) }
}

/// Splits behind the `/proxy/` of a proxied resource: what is judged in full, and what is exempted.
fn split_proxied_subpath(path: &str) -> (&str, &str) {
    let subpath = || {
        let resource = path.strip_prefix("/api/v1/")?;
        let name = match resource.strip_prefix("namespaces/") {
            Some(namespaced) => {
                let (_, namespaced) = namespaced.split_once('/')?;
                namespaced.strip_prefix("pods/").or_else(|| namespaced.strip_prefix("services/"))?
            }
            None => resource.strip_prefix("nodes/")?,
        };
        let (_, subresource) = name.split_once('/')?;
        subresource.strip_prefix("proxy/")
    };
    let subpath = subpath().unwrap_or("");
    path.split_at_checked(path.len() - subpath.len()).unwrap_or((path, ""))
}

/// Decodes what must mean the same in every order of decoding, cleaning and splitting.
fn decode_judged(path: &str) -> Result<Cow<'_, str>, AmbiguousTarget> {
    if path.contains("//") {
        return Err(character("//", Encoding::Once));
    }
    let decoded = decode(path, EscapedSlash::Refused)?;
    // The first segment is empty, so that a dot segment has a slash before it; hardly any path is looked through for more.
    if decoded.contains("/.") {
        // No escaped slash was taken, so both split into the same segments.
        for (segment, raw) in decoded.split('/').zip(path.split('/')) {
            if is_dot_segment(segment) {
                return Err(AmbiguousTarget::DotSegment { found: excerpt(raw), encoding: Encoding::Once });
            }
        }
    }
    // Stricter than an escape, which has two digits: Kubernetes allows no `%` in a name anyway.
    refuse_escapes_left(&decoded, 1, Encoding::Once)?;
    Ok(decoded)
}

/// Decodes what a proxied server may understand, but that must not climb out of its place in any reader.
fn decode_exempted(subpath: &str) -> Result<Cow<'_, str>, AmbiguousTarget> {
    let decoded = decode(subpath, EscapedSlash::Taken)?;
    refuse_dot_segments(&decoded, Encoding::Once)?;
    if decoded.contains('%') {
        let again = decode_twice(&decoded)?;
        refuse_dot_segments(&again, Encoding::Twice)?;
        refuse_escapes_left(&again, 2, Encoding::Twice)?;
    }
    Ok(decoded)
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum EscapedSlash {
    Taken,
    Refused,
}

/// Decodes each escape once. Refuses the characters that no path may hold, and what is not text.
fn decode(path: &str, escaped_slash: EscapedSlash) -> Result<Cow<'_, str>, AmbiguousTarget> {
    if !path.contains('%') {
        return Ok(Cow::Borrowed(path));
    }
    let mut decoded = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((plain, escaped)) = rest.split_once('%') {
        decoded.extend_from_slice(plain.as_bytes());
        let malformed = || {
            let digits: String = escaped.chars().take(2).collect();
            AmbiguousTarget::MalformedEscape { found: excerpt(&format!("%{digits}")) }
        };
        let (digits, after) = escaped.split_at_checked(2).ok_or_else(malformed)?;
        let byte = byte_of_hex(digits).ok_or_else(malformed)?;
        let refused = match byte {
            b'/' => escaped_slash == EscapedSlash::Refused,
            b'\\' => true,
            _ => byte.is_ascii_control(),
        };
        if refused {
            return Err(character(&format!("%{digits}"), Encoding::Once));
        }
        decoded.push(byte);
        rest = after;
    }
    decoded.extend_from_slice(rest.as_bytes());
    let decoded = String::from_utf8(decoded).map_err(|_| AmbiguousTarget::NotUtf8)?;
    // The ASCII ones are gone; these are U+0080 to U+009F, which terminals and logs obey too.
    match decoded.chars().find(|character| character.is_control()) {
        Some(control) => Err(character(&visible(control), Encoding::Once)),
        None => Ok(Cow::Owned(decoded)),
    }
}

/// Decodes what is left of escapes after a first decoding, as a careless server would: what is none stays.
fn decode_twice(decoded: &str) -> Result<String, AmbiguousTarget> {
    let mut again = Vec::with_capacity(decoded.len());
    let mut rest = decoded;
    while let Some((plain, escaped)) = rest.split_once('%') {
        again.extend_from_slice(plain.as_bytes());
        let escape =
            escaped.split_at_checked(2).and_then(|(digits, after)| Some((byte_of_hex(digits)?, digits, after)));
        rest = match escape {
            Some((byte, digits, _)) if byte == b'\\' || byte.is_ascii_control() => {
                return Err(character(&format!("%{digits}"), Encoding::Twice));
            }
            Some((byte, _, after)) => {
                again.push(byte);
                after
            }
            None => {
                again.push(b'%');
                escaped
            }
        };
    }
    again.extend_from_slice(rest.as_bytes());
    Ok(String::from_utf8_lossy(&again).into_owned())
}

fn refuse_dot_segments(decoded: &str, encoding: Encoding) -> Result<(), AmbiguousTarget> {
    match decoded.split('/').find(|segment| is_dot_segment(segment)) {
        Some(segment) => Err(AmbiguousTarget::DotSegment { found: excerpt(segment), encoding }),
        None => Ok(()),
    }
}

/// A segment that a cleaning reader removes. Java servers cut `;` parameters off first, so `..;x` climbs there.
fn is_dot_segment(segment: &str) -> bool {
    let name = segment.split_once(';').map_or(segment, |(name, _)| name);
    name == "." || name == ".."
}

/// Refuses a `%` that is still followed by `digits` hexadecimal digits.
fn refuse_escapes_left(decoded: &str, digits: usize, encoding: Encoding) -> Result<(), AmbiguousTarget> {
    for (at, _) in decoded.match_indices('%') {
        let after = decoded.as_bytes().get(at + 1..at + 1 + digits);
        if after.is_some_and(|after| after.iter().all(u8::is_ascii_hexdigit)) {
            let found = decoded.get(at..at + 1 + digits).unwrap_or("%");
            return Err(AmbiguousTarget::EncodedAgain { found: excerpt(found), encoding });
        }
    }
    Ok(())
}

/// The byte that two hexadecimal digits stand for.
pub(crate) fn byte_of_hex(digits: &str) -> Option<u8> {
    // `from_str_radix` alone would take a sign.
    if digits.len() == 2 && digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        u8::from_str_radix(digits, 16).ok()
    } else {
        None
    }
}

fn character(found: &str, encoding: Encoding) -> AmbiguousTarget {
    AmbiguousTarget::Character { found: found.into(), part: TargetPart::Path, encoding }
}

/// How many characters of the target a message repeats.
const EXCERPT_CHARACTERS_MAX: usize = 64;

fn excerpt(text: &str) -> Box<str> {
    text.chars().take(EXCERPT_CHARACTERS_MAX).flat_map(escape_control).collect::<String>().into()
}

fn visible(found: char) -> Box<str> {
    escape_control(found).collect::<String>().into()
}

/// A control character as Rust writes it, so that a message is one line and obeyed by no terminal.
fn escape_control(character: char) -> impl Iterator<Item = char> {
    let (escaped, plain) =
        if character.is_control() { (Some(character.escape_debug()), None) } else { (None, Some(character)) };
    escaped.into_iter().flatten().chain(plain)
}
