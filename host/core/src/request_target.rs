//! The path and query of a request: judged and forwarded as the same bytes.
//!
//! A gate that decides on one path and lets the API server act on another is no
//! gate. Everything that two readers could read in two ways is refused here, once,
//! so that the inside never re-checks; [`AmbiguousTarget`] lists it. What remains
//! is forwarded byte for byte and judged decoded once, as the API server decodes it.
//!
//! Nothing here knows what a path means to Kubernetes ([`RequestInfo`](crate::RequestInfo)
//! does), with one exception: the subpath of a `*/proxy` resource belongs to somebody
//! else's server, so more of it is taken. See the private module `ambiguity` for how much.

mod ambiguity;

use std::fmt;

pub(crate) use ambiguity::byte_of_hex;
pub use ambiguity::{AmbiguousTarget, Encoding, TargetPart};

/// A path and query in origin form (`/api/v1/pods?limit=500`) that all readers read alike.
///
/// ```
/// use witgate_core::RequestTarget;
///
/// let target = RequestTarget::parse("/api/v1/namespaces/ns/services/https%3Asvc%3A443?a=%2F")?;
/// assert_eq!(target.decoded_path(), "/api/v1/namespaces/ns/services/https:svc:443");
/// assert_eq!(target.query(), Some("a=%2F"));
/// assert_eq!(target.as_str(), "/api/v1/namespaces/ns/services/https%3Asvc%3A443?a=%2F");
///
/// let error = RequestTarget::parse("/api/v1/namespaces/ns%2Fpods").unwrap_err();
/// assert_eq!(error.to_string(), "`%2F` in the path");
/// # Ok::<(), witgate_core::AmbiguousTarget>(())
/// ```
#[derive(Clone, Eq, PartialEq)]
pub struct RequestTarget {
    /// What is forwarded.
    path_and_query: Box<str>,
    /// How much of it is the path.
    path_bytes: usize,
    /// The path, decoded once; none where nothing in it is escaped, which is nearly always.
    decoded_path: Option<Box<str>>,
}

impl RequestTarget {
    /// How long a path may be: an API server's longest names, nested, stay far below.
    pub const PATH_BYTES_MAX: usize = 8 * 1024;

    /// How long path and query may be together: room for a long label selector or an exec command.
    pub const TARGET_BYTES_MAX: usize = 32 * 1024;

    /// How many `&`-separated pairs a query may have.
    ///
    /// Go reads nothing of a query of more than 10,000 pairs since 1.24.12 and 1.25.6 (CVE-2025-61726), and
    /// all of it before: the version that built the API server would decide whether a `fieldSelector` holds.
    pub const QUERY_PAIRS_MAX: usize = 4096;

    /// Reads a path and query in origin form. An empty path is the caller's to turn into `/`.
    ///
    /// # Errors
    /// When another reader could read it as something else; the error says what was found.
    pub fn parse(path_and_query: &str) -> Result<Self, AmbiguousTarget> {
        let decoded_path = ambiguity::decode_path_once(path_and_query)?;
        let path_bytes = path_and_query.find('?').unwrap_or(path_and_query.len());
        Ok(Self { path_and_query: path_and_query.into(), path_bytes, decoded_path })
    }

    /// Path and query exactly as they came: what is forwarded.
    pub fn as_str(&self) -> &str {
        &self.path_and_query
    }

    /// The path as it came, without the query.
    pub fn raw_path(&self) -> &str {
        self.path_and_query.get(..self.path_bytes).unwrap_or_default()
    }

    /// The path, percent-decoded once: what the request is judged on.
    pub fn decoded_path(&self) -> &str {
        self.decoded_path.as_deref().unwrap_or_else(|| self.raw_path())
    }

    /// The query as it came, without the `?`; `Some("")` where nothing follows the `?`.
    pub fn query(&self) -> Option<&str> {
        self.path_and_query.get(self.path_bytes + 1..)
    }
}

impl fmt::Display for RequestTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path_and_query)
    }
}

impl fmt::Debug for RequestTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RequestTarget({:?})", self.path_and_query)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: what callers use every day is taken, and decoded once. Method: a target and its decoded path.
    #[test]
    fn an_unambiguous_target_is_kept_as_it_is() {
        check("/", "/", None);
        check("/?", "/", Some(""));
        check("/api/v1/pods", "/api/v1/pods", None);
        check("/api/v1/pods/", "/api/v1/pods/", None);
        check("/api/v1/namespaces?a=1&b=%2F", "/api/v1/namespaces", Some("a=1&b=%2F"));
        check("/api/v1/users/system%3Anode%3Aa", "/api/v1/users/system:node:a", None);
        check("/apis/x/v1/clusterroles/system:node", "/apis/x/v1/clusterroles/system:node", None);
        check("/echo/%7Bd%7D/e%20f", "/echo/{d}/e f", None);
        check("/echo/{d}/a;b=c,d/@x~!$'()*+", "/echo/{d}/a;b=c,d/@x~!$'()*+", None);
        check("/echo/caf%C3%A9", "/echo/café", None);
        check("/echo/100%25", "/echo/100%", None);
        check("/echo/a..b/..c/d../...", "/echo/a..b/..c/d../...", None);
        check("/x?q=//../%2e%2e/%5C\\;%zz%00?%25zz", "/x", Some("q=//../%2e%2e/%5C\\;%zz%00?%25zz"));
    }

    /// Goal: a proxied server's own paths get through, and nothing of them changes what the API server
    /// makes of the path before them. Method: rows with the decoded path.
    #[test]
    fn the_subpath_of_a_proxy_may_be_odd() {
        let service = "/api/v1/namespaces/ns/services/https:svc:443/proxy/";
        for (subpath, decoded) in [
            ("a//b", "a//b"),
            ("/a", "/a"),
            ("a%2Fb", "a/b"),
            ("a%252Fb", "a%2Fb"),
            ("%2F", "/"),
            ("100%2520", "100%20"),
        ] {
            check(&format!("{service}{subpath}"), &format!("{service}{decoded}"), None);
            check(
                &format!("/api/v1/nodes/n/proxy/{subpath}?x"),
                &format!("/api/v1/nodes/n/proxy/{decoded}"),
                Some("x"),
            );
        }
        check("/api/v1/namespaces/ns/pods/p/proxy", "/api/v1/namespaces/ns/pods/p/proxy", None);
        check("/api/v1/namespaces/ns/pods/p/proxy/", "/api/v1/namespaces/ns/pods/p/proxy/", None);
    }

    #[track_caller]
    fn check(given: &str, decoded_path: &str, query: Option<&str>) {
        let target = RequestTarget::parse(given).unwrap_or_else(|error| panic!("{given}: {error}"));
        assert_eq!(target.decoded_path(), decoded_path, "{given}");
        assert_eq!(target.query(), query, "{given}");
        assert_eq!(target.as_str(), given);
        assert_eq!(target.raw_path(), given.split('?').next().unwrap());
    }

    /// Goal: what two readers read in two ways is refused, and the message names it. Method: rows.
    #[test]
    fn an_ambiguous_target_is_refused() {
        refused("", "`` does not begin with `/`: only a path, without scheme and host, is taken");
        refused("api/v1", "`api/v1` does not begin with `/`: only a path, without scheme and host, is taken");
        refused("*", "`*` does not begin with `/`: only a path, without scheme and host, is taken");
        refused("?watch=1", "`?watch=1` does not begin with `/`: only a path, without scheme and host, is taken");
        refused(
            "https://api.example/api/v1/pods?fieldSelector=metadata.name%3Dtest-pod-0",
            "`https://api.example/api/v1/pods?fieldSelector=metadata.name%3Dte` does not begin with `/`: only a path, \
             without scheme and host, is taken",
        );
        refused("//api.example/api/v1", "`//` in the path");
        refused("/api//v1", "`//` in the path");
        refused("/api/v1//", "`//` in the path");
        refused("/a%2Fb", "`%2F` in the path");
        refused("/a%2fb", "`%2f` in the path");
        refused("/a%5Cb", "`%5C` in the path");
        refused("/a\\b", "`\\` in the path");
        for dots in [".", "..", "%2e", "%2E%2e", ".%2e", "..;x", "%2e;a=b"] {
            refused(&format!("/api/v1/namespaces/a/{dots}/b/secrets"), &format!("segment `{dots}` in the path"));
            refused(&format!("/{dots}"), &format!("segment `{dots}` in the path"));
        }
        refused("/a%00", "`%00` in the path");
        refused("/a%0d%0aHost:x", "`%0d` in the path");
        refused("/a%7F", "`%7F` in the path");
        refused("/a\u{0}", "`\\0` in the path");
        refused("/a\tb", "`\\t` in the path");
        refused("/a\u{7f}", "`\\u{7f}` in the path");
        refused("/a%C2%85", "`\\u{85}` in the path");
        refused("/a b", "` ` in the path");
        refused("/a#b", "`#` in the path");
        refused("/café", "`é` in the path");
        refused("/a%ff", "bytes in the path that are not UTF-8 when decoded");
        refused("/a%C3/%A9", "bytes in the path that are not UTF-8 when decoded");
        refused("/a%C0%AF", "bytes in the path that are not UTF-8 when decoded");
        refused("/a%", "malformed escape `%` in the path");
        refused("/a%2", "malformed escape `%2` in the path");
        refused("/a%zz", "malformed escape `%zz` in the path");
        refused("/a%+2", "malformed escape `%+2` in the path");
        refused("/a%252e", "`%2` left in the path when it is decoded: it is encoded twice");
        refused("/a%25%32e", "`%2` left in the path when it is decoded: it is encoded twice");
        refused("/a%25a", "`%a` left in the path when it is decoded: it is encoded twice");
        refused("/x?a b", "` ` in the query");
        refused("/x?a#b", "`#` in the query");
        refused("/x?é", "`é` in the query");
        refused("/x?a\nb", "`\\n` in the query");
    }

    /// Goal: the exemption begins behind `proxy/` of the three resources that are proxied, and never covers
    /// what could climb out of them. Method: rows.
    #[test]
    fn the_exemption_of_a_proxied_subpath_is_narrow() {
        refused("/api/v1/namespaces/ns/pods/p%2Fx/proxy/a", "`%2F` in the path");
        refused("/api/v1/namespaces//pods/p/proxy/a", "`//` in the path");
        refused("/api/v1/nodes//proxy/a", "`//` in the path");
        refused("/api/v1/nodes/n/proxy%2Fa", "`%2F` in the path");
        refused("/api/v1/namespaces/ns/pods/p/%70roxy/a%2Fb", "`%2F` in the path");
        refused("/api/v1/namespaces/ns/pods/p/exec/a%2Fb", "`%2F` in the path");
        refused("/api/v1/namespaces/ns/configmaps/p/proxy/a//b", "`//` in the path");
        refused("/api/v1/pods/p/proxy/a//b", "`//` in the path");
        refused("/api/v1/proxy/namespaces/ns/pods/p/a//b", "`//` in the path");
        refused("/apis/x/v1/namespaces/ns/pods/p/proxy/a//b", "`//` in the path");
        refused("/api/v2/nodes/n/proxy/a//b", "`//` in the path");

        let node = "/api/v1/nodes/n/proxy/";
        refused(&format!("{node}../../n/proxy"), "segment `..` in the path");
        refused(&format!("{node}%2e%2e%2Fx"), "segment `..` in the path");
        refused(&format!("{node}a%2F%2e"), "segment `.` in the path");
        refused(&format!("{node}..;a/x"), "segment `..;a` in the path");
        refused(&format!("{node}%252e%252e/x"), "segment `..` in the path, encoded twice");
        refused(&format!("{node}a/..%252Fx"), "segment `..` in the path, encoded twice");
        refused(&format!("{node}a%5Cb"), "`%5C` in the path");
        refused(&format!("{node}a%255Cb"), "`%5C` in the path, encoded twice");
        refused(&format!("{node}a%0Ab"), "`%0A` in the path");
        refused(&format!("{node}a%2500b"), "`%00` in the path, encoded twice");
        refused(&format!("{node}a%25252e"), "`%2e` left in the path when it is decoded twice: it is encoded thrice");
        refused(&format!("{node}a%ff"), "bytes in the path that are not UTF-8 when decoded");
        refused(&format!("{node}a%zz"), "malformed escape `%zz` in the path");
    }

    /// Goal: each limit is reached and holds. Method: one byte or pair below, and one more.
    #[test]
    fn the_limits_hold() {
        let path = |bytes: usize| format!("/{}", "a".repeat(bytes - 1));
        assert!(RequestTarget::parse(&path(8192)).is_ok());
        refused(&path(8193), "the path is 8193 bytes long; at most 8192 are taken");

        assert!(RequestTarget::parse(&format!("/?{}", "a".repeat(32_766))).is_ok());
        refused(
            &format!("/?{}", "a".repeat(32_767)),
            "the path and query are 32769 bytes long; at most 32768 are taken",
        );

        assert!(RequestTarget::parse(&format!("/?{}", "&".repeat(4095))).is_ok());
        refused(&format!("/?{}", "&".repeat(4096)), "the query has 4097 pairs; at most 4096 are taken");
    }

    #[track_caller]
    fn refused(given: &str, expected: &str) {
        let shown: String = given.chars().take(80).collect();
        match RequestTarget::parse(given) {
            Ok(_) => panic!("`{shown}` was taken"),
            Err(error) => assert_eq!(error.to_string(), expected, "{shown}"),
        }
    }
}
