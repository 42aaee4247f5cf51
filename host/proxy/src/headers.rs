//! Header hygiene: what of the client's headers goes up, and what of the API server's comes down.
//!
//! Strip first, stamp last: hop-by-hop headers, with those that `Connection` names,
//! go before our own identity headers are set, so that nobody can have ours removed
//! (CVE-2021-31999). Stripping is by prefix and canonical form. A tripwire looks once
//! more, just before sending.

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ALT_SVC, AUTHORIZATION,
    CONNECTION, COOKIE, EXPECT, FORWARDED, HOST, ORIGIN, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, PUBLIC_KEY_PINS,
    REFERER, SET_COOKIE, STRICT_TRANSPORT_SECURITY, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue};
use witgate_core::{Credential, Impersonation};

use crate::upstream::UnusableCredential;

/// Identity headers and others that only the gate may send up, by prefix.
const FORBIDDEN_PREFIXES: [&str; 6] = ["impersonate-", "x-remote-", "backstage-", "x-forwarded-", "witgate-", "proxy-"];

/// By these some servers read another method or path than the request line's, and it is that which was judged.
static OVERRIDES: [HeaderName; 5] = [
    HeaderName::from_static("x-http-method-override"),
    HeaderName::from_static("x-http-method"),
    HeaderName::from_static("x-method-override"),
    HeaderName::from_static("x-original-url"),
    HeaderName::from_static("x-rewrite-url"),
];

/// Headers that a client sends to the gate and to nobody behind it.
/// `Trailer` too: a request's trailers end here, where nothing strips them (`body.rs`).
static FORBIDDEN: [HeaderName; 9] =
    [AUTHORIZATION, COOKIE, FORWARDED, HOST, ORIGIN, REFERER, EXPECT, TRAILER, HeaderName::from_static("x-real-ip")];

/// Headers of one connection only (RFC 9110 §7.6.1).
static HOP_BY_HOP: [HeaderName; 9] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("http2-settings"),
];

/// What an API server may not tell the client's browser: it speaks for the gate's origin.
static DROPPED_FROM_ANSWERS: [HeaderName; 12] = [
    SET_COOKIE,
    STRICT_TRANSPORT_SECURITY,
    PUBLIC_KEY_PINS,
    ALT_SVC,
    HeaderName::from_static("clear-site-data"),
    HeaderName::from_static("set-cookie2"),
    ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_ALLOW_CREDENTIALS,
    ACCESS_CONTROL_ALLOW_HEADERS,
    ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_EXPOSE_HEADERS,
    ACCESS_CONTROL_MAX_AGE,
];

/// A header that must not go up was about to.
#[derive(Debug, thiserror::Error)]
#[error("header `{0}` would have reached the API server")]
pub struct Tripwire(HeaderName);

/// What the gate itself sends up.
#[derive(Clone, Copy, Debug)]
pub enum Authorization<'a> {
    /// What the strategy gave.
    Credential(&'a Credential),
    /// What the client brought in `Backstage-Kubernetes-Authorization`, verbatim.
    Verbatim(&'a HeaderValue),
}

/// Removes from a request all that ends at the gate.
pub(crate) fn strip_request(headers: &mut HeaderMap) {
    remove_hop_by_hop(headers);
    remove_where(headers, |name| is_forbidden(name) || FORBIDDEN.contains(name) || OVERRIDES.contains(name));
}

/// Sets the identity that goes up. Headers have been stripped before.
///
/// # Errors
/// When the credential cannot be a header's value.
pub(crate) fn stamp_request(
    headers: &mut HeaderMap,
    authorization: Authorization<'_>,
    impersonate: Option<&Impersonation>,
) -> Result<(), UnusableCredential> {
    let authorization = match authorization {
        Authorization::Credential(Credential::BearerToken(token)) => {
            Some(sensitive(&format!("Bearer {}", token.expose()))?)
        }
        Authorization::Credential(Credential::X509ClientCertificate(_) | Credential::Anonymous) => None,
        Authorization::Verbatim(value) => {
            let mut value = value.clone();
            value.set_sensitive(true);
            Some(value)
        }
    };
    if let Some(authorization) = authorization {
        headers.insert(AUTHORIZATION, authorization);
    }
    if let Some(identity) = impersonate {
        headers.insert(HeaderName::from_static("impersonate-user"), sensitive(&identity.user)?);
        if let Some(uid) = &identity.uid {
            headers.insert(HeaderName::from_static("impersonate-uid"), sensitive(uid)?);
        }
        for group in &identity.groups {
            headers.append(HeaderName::from_static("impersonate-group"), sensitive(group)?);
        }
        for (key, values) in &identity.extra {
            let name = HeaderName::try_from(format!("impersonate-extra-{}", escape_extra_key(key)))
                .map_err(|_| UnusableCredential::Token)?;
            for value in values {
                headers.append(name.clone(), sensitive(value)?);
            }
        }
    }
    Ok(())
}

/// The last look before sending: only what the gate stamped may be there.
pub(crate) fn tripwire(headers: &HeaderMap, authorized: bool, impersonates: bool) -> Result<(), Tripwire> {
    let authorizations = headers.get_all(AUTHORIZATION).iter().count();
    if authorizations > usize::from(authorized) {
        return Err(Tripwire(AUTHORIZATION));
    }
    let offending = headers.keys().find(|name| {
        if name.as_str().starts_with("impersonate-") {
            return !impersonates;
        }
        is_forbidden(name) || OVERRIDES.contains(name) || (FORBIDDEN.contains(name) && **name != AUTHORIZATION)
    });
    offending.map_or(Ok(()), |name| Err(Tripwire(name.clone())))
}

/// Removes from an answer what is of one connection or speaks for the gate's origin.
pub(crate) fn strip_answer(headers: &mut HeaderMap) {
    remove_hop_by_hop(headers);
    remove_where(headers, |name| DROPPED_FROM_ANSWERS.contains(name) || name.as_str().starts_with("witgate-"));
}

/// The protocol that a request asks to switch to, in lower case: `websocket`, `spdy/3.1`, …
pub(crate) fn upgrade_protocol(headers: &HeaderMap) -> Option<String> {
    let asks = tokens(headers, &CONNECTION).any(|token| token.eq_ignore_ascii_case("upgrade"));
    if !asks {
        return None;
    }
    let mut protocols = headers.get_all(UPGRADE).iter();
    let protocol = protocols.next()?.to_str().ok()?;
    // Several are none of those that are served: which one would the API server take?
    let protocol = if protocols.next().is_some() { "several" } else { protocol };
    Some(protocol.trim().to_ascii_lowercase())
}

/// The comma-separated tokens of all headers of this name.
pub(crate) fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|token| !token.is_empty())
}

/// Looks at each header that is there: those are fewer than the names that could be.
fn remove_where(headers: &mut HeaderMap, unwanted: impl Fn(&HeaderName) -> bool) {
    let unwanted: Vec<HeaderName> = headers.keys().filter(|name| unwanted(name)).cloned().collect();
    for name in unwanted {
        headers.remove(name);
    }
}

fn remove_hop_by_hop(headers: &mut HeaderMap) {
    // `TE: trailers` is the one hop-by-hop header that a next hop may need (gRPC-style trailers).
    let wants_trailers = tokens(headers, &TE).any(|token| token.eq_ignore_ascii_case("trailers"));
    if headers.contains_key(CONNECTION) {
        let named: Vec<HeaderName> =
            tokens(headers, &CONNECTION).filter_map(|token| HeaderName::try_from(token).ok()).collect();
        for name in named {
            headers.remove(name);
        }
    }
    remove_where(headers, |name| HOP_BY_HOP.contains(name));
    if wants_trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
}

/// Also names with an underscore: some servers read `X_Remote_User` as `X-Remote-User`.
fn is_forbidden(name: &HeaderName) -> bool {
    let name = name.as_str();
    FORBIDDEN_PREFIXES.iter().any(|prefix| name.starts_with(prefix)) || name.contains('_')
}

fn sensitive(value: &str) -> Result<HeaderValue, UnusableCredential> {
    let mut value = HeaderValue::from_str(value).map_err(|_| UnusableCredential::Token)?;
    value.set_sensitive(true);
    Ok(value)
}

/// Percent-encodes what a header name cannot hold, as client-go does (`headerKeyEscape`), and what does not survive the way: a
/// name has no case, so `Acme` would arrive as `acme`, which nobody has judged; and some servers drop a name with `_`, or read `-`.
fn escape_extra_key(key: &str) -> String {
    let mut escaped = String::with_capacity(key.len());
    for byte in key.bytes() {
        // RFC 9110 token characters, less `%`, which is the escape itself.
        if byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"!#$&'*+-.^`|~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use witgate_core::Redacted;

    /// Goal: nothing that ends at the gate goes on. Method: a client's headers on the left, what is left on the right.
    #[test]
    fn identity_and_connection_headers_end_at_the_gate() {
        check("accept: */*|user-agent: kubectl", "accept: */*|user-agent: kubectl");
        check("authorization: Bearer x|accept: a", "accept: a");
        check("Impersonate-User: admin|impersonate-extra-a%2fb: c", "");
        check("x-remote-user: a|X-Remote-Extra-Foo: b|x_remote_user: c|X_Forwarded_For: d", "");
        check("cookie: a|x-forwarded-for: 1.2.3.4|forwarded: for=1|x-real-ip: 1", "");
        check("backstage-kubernetes-cluster: one|backstage-kubernetes-authorization-google: t", "");
        check("connection: keep-alive, x-secret|keep-alive: 5|x-secret: 1|accept: a", "accept: a");
        check("connection: accept, user-agent|accept: a|user-agent: b", "");
        check("te: trailers, deflate", "te: trailers");
        check("te: gzip|transfer-encoding: chunked|upgrade: h2c|http2-settings: x", "");
        check("proxy-authorization: x|proxy-connection: close|proxy-anything: y", "");
        check("origin: https://evil|referer: https://x|expect: 100-continue|host: gate", "");
        check("witgate-decision-id: forged|trailer: impersonate-user", "");
        check(
            "X-HTTP-Method-Override: DELETE|x-http-method: PUT|x-method-override: a|x-original-url: /b|x-rewrite-url: c",
            "",
        );
    }

    #[track_caller]
    fn check(given: &str, expected: &str) {
        let mut headers = parse(given);
        strip_request(&mut headers);
        assert_eq!(print(&headers), expected, "given {given}");
        tripwire(&headers, false, false).unwrap();
    }

    /// Goal: each credential becomes just its headers. Method: stamp onto stripped headers, then the tripwire.
    #[test]
    fn a_grant_becomes_its_headers_and_nothing_else() {
        let bearer = Credential::BearerToken(Redacted::new("t".into()));
        let identity = Impersonation {
            user: "jane".into(),
            uid: Some("u1".into()),
            groups: vec!["a".into(), "b".into()],
            extra: [("acme.io/Team_1".to_owned(), vec!["x".to_owned()])].into(),
        };
        let mut headers = HeaderMap::new();
        stamp_request(&mut headers, Authorization::Credential(&bearer), Some(&identity)).unwrap();
        assert_eq!(
            print(&headers),
            "authorization: Bearer t|impersonate-user: jane|impersonate-uid: u1|impersonate-group: a|\
             impersonate-group: b|impersonate-extra-acme.io%2f%54eam%5f1: x"
        );
        tripwire(&headers, true, true).unwrap();
        assert!(tripwire(&headers, true, false).is_err());
        assert!(tripwire(&headers, false, true).is_err());

        let mut anonymous = HeaderMap::new();
        stamp_request(&mut anonymous, Authorization::Credential(&Credential::Anonymous), None).unwrap();
        assert!(anonymous.is_empty());

        let broken = Credential::BearerToken(Redacted::new("a\r\nx-remote-user: root".into()));
        assert!(stamp_request(&mut HeaderMap::new(), Authorization::Credential(&broken), None).is_err());
    }

    /// Goal: the tripwire sees each kind of header on its own. Method: one header, unstripped.
    #[test]
    fn the_tripwire_sees_what_stripping_missed() {
        for header in ["cookie: a", "x-remote-user: a", "impersonate-user: a", "a_b: c", "host: x", "backstage-x: y"] {
            assert!(tripwire(&parse(header), true, false).is_err(), "{header}");
        }
        assert!(tripwire(&parse("authorization: a|authorization: b"), true, false).is_err());
    }

    #[test]
    fn a_cluster_does_not_speak_for_the_gate() {
        let mut headers = parse(
            "content-type: a|set-cookie: b|strict-transport-security: c|clear-site-data: d|connection: x-hop|x-hop: 1|\
             access-control-allow-origin: *|witgate-decision-id: forged|audit-id: e",
        );
        strip_answer(&mut headers);
        assert_eq!(print(&headers), "content-type: a|audit-id: e");
    }

    #[test]
    fn an_upgrade_needs_both_headers() {
        assert_eq!(upgrade_protocol(&parse("connection: Upgrade|upgrade: SPDY/3.1")).as_deref(), Some("spdy/3.1"));
        assert_eq!(
            upgrade_protocol(&parse("connection: keep-alive, upgrade|upgrade: websocket")).as_deref(),
            Some("websocket")
        );
        assert_eq!(
            upgrade_protocol(&parse("connection: upgrade|upgrade: websocket|upgrade: h2c")).as_deref(),
            Some("several")
        );
        assert_eq!(upgrade_protocol(&parse("upgrade: websocket")), None);
        assert_eq!(upgrade_protocol(&parse("connection: upgrade")), None);
    }

    fn parse(text: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in text.split('|').filter(|line| !line.is_empty()) {
            let (name, value) = line.split_once(": ").unwrap();
            headers.append(HeaderName::try_from(name).unwrap(), HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    fn print(headers: &HeaderMap) -> String {
        let lines: Vec<_> =
            headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        lines.join("|")
    }
}
