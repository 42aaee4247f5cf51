//! What was judged is what is sent, as somebody reads it who has not seen the gate's code.
//!
//! The head is read by `httparse`; the path is decoded as Go's `net/url` does; identities are read as the API
//! server's impersonation filter does. What a client may never send up stands here once more, in its own words.

#![expect(clippy::indexing_slicing, reason = "the fuzzer finds it")]

use std::collections::BTreeMap;

use witgate_core::{Credential, Impersonation, RequestInfo};

use super::{AUTHORITY, Accepted, PREFIX, TOKEN};

/// Panics where `sent` is not what was judged.
pub(super) fn hold(written: &[u8], accepted: &Accepted, sent: &[u8]) {
    let mut room = [httparse::EMPTY_HEADER; 256];
    let mut request = httparse::Request::new(&mut room);
    let head = match request.parse(sent) {
        Ok(httparse::Status::Complete(head)) => head,
        other => panic!("what was sent is no request: {other:?}: {:?}", String::from_utf8_lossy(sent)),
    };
    let headers: Vec<(String, String)> = request
        .headers
        .iter()
        .map(|header| (header.name.to_ascii_lowercase(), String::from_utf8_lossy(header.value).into_owned()))
        .collect();
    assert_eq!(request.version, Some(1));
    let method = request.method.expect("a whole head");
    assert_eq!(method, accepted.attributes.method);

    same_target(written, accepted, method, request.path.expect("a whole head"));
    no_header_too_many(&headers);
    identity_of_the_grant(&headers, accepted);
    one_body(&headers, &sent[head..]);
}

/// The bytes judged are the bytes written by the client and the bytes sent; and they mean what was judged.
fn same_target(written: &[u8], accepted: &Accepted, method: &str, path_and_query: &str) {
    let judged = accepted.target.as_str();
    assert_eq!(path_and_query, format!("{PREFIX}{judged}"));

    let text = String::from_utf8_lossy(written);
    let line = text.trim_start_matches("\r\n").lines().next().expect("a request line");
    let asked = line.split(' ').nth(1).expect("a target");
    assert!(
        asked.ends_with(judged)
            || judged.strip_prefix('/').is_some_and(|rest| rest.is_empty() || asked.ends_with(rest)),
        "{asked:?} was asked, {judged:?} is sent"
    );

    let (path, query) = match judged.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (judged, None),
    };
    let path = go_unescape(path).expect("Go takes the path");
    assert_eq!(accepted.attributes.path, path);
    let info = RequestInfo::of(method, &path, query).expect("what was read once is read again");
    assert_eq!(accepted.attributes.info, info);
    assert!(!path.split('/').any(|segment| matches!(segment, "." | "..")), "{path:?}");
    assert!(!path.contains(['\\', '\0', '\r', '\n']), "{path:?}");
}

/// `net/url`'s `unescape(s, encodePath)`.
fn go_unescape(path: &str) -> Option<String> {
    let mut bytes = path.bytes();
    let mut plain = Vec::with_capacity(path.len());
    while let Some(byte) = bytes.next() {
        plain.push(if byte == b'%' {
            let pair = [bytes.next()?, bytes.next()?];
            if !pair.iter().all(u8::is_ascii_hexdigit) {
                return None;
            }
            u8::from_str_radix(std::str::from_utf8(&pair).ok()?, 16).ok()?
        } else {
            byte
        });
    }
    String::from_utf8(plain).ok()
}

fn no_header_too_many(headers: &[(String, String)]) {
    for (name, value) in headers {
        let canonical = name.replace('_', "-");
        assert_eq!(name, &canonical, "a name with an underscore was sent");
        for prefix in ["x-remote-", "x-forwarded-", "backstage-", "witgate-", "proxy-"] {
            assert!(!name.starts_with(prefix), "{name} was sent");
        }
        for forbidden in [
            "connection",
            "keep-alive",
            "upgrade",
            "trailer",
            "http2-settings",
            "cookie",
            "forwarded",
            "origin",
            "referer",
            "expect",
            "x-http-method-override",
            "x-original-url",
            "x-real-ip",
        ] {
            assert_ne!(name, forbidden);
        }
        assert!(name != "te" || value == "trailers", "te: {value}");
        assert!(!value.contains(['\r', '\n', '\0']), "{name}: {value:?}");
    }
    let hosts: Vec<_> = headers.iter().filter(|(name, _)| name == "host").map(|(_, value)| value.as_str()).collect();
    assert_eq!(hosts, [AUTHORITY]);
}

/// `Authorization` and `Impersonate-*` are the grant's, all of it and nothing else.
fn identity_of_the_grant(headers: &[(String, String)], accepted: &Accepted) {
    let authorizations: Vec<_> =
        headers.iter().filter(|(name, _)| name == "authorization").map(|(_, value)| value.as_str()).collect();
    match &accepted.identity.credential {
        Credential::BearerToken(_) => assert_eq!(authorizations, [format!("Bearer {TOKEN}")]),
        Credential::X509ClientCertificate(_) | Credential::Anonymous => assert!(authorizations.is_empty()),
    }

    let mut read = Impersonation::default();
    let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut found = false;
    for (name, value) in headers {
        let Some(kind) = name.strip_prefix("impersonate-") else { continue };
        found = true;
        let value = value.clone();
        match kind {
            "user" => assert_eq!(std::mem::replace(&mut read.user, value), "", "two users"),
            "uid" => assert_eq!(read.uid.replace(value), None, "two uids"),
            "group" => read.groups.push(value),
            _ => {
                let key = kind.strip_prefix("extra-").unwrap_or_else(|| panic!("{name} was sent"));
                extra.entry(go_unescape(key).expect("an escaped key")).or_default().push(value);
            }
        }
    }
    let sent = found.then(|| Impersonation { extra: extra.into_iter().collect(), ..read });
    assert_eq!(sent, accepted.identity.impersonate.clone());
}

/// Behind the head is one body, framed in one way, and nothing else.
fn one_body(headers: &[(String, String)], body: &[u8]) {
    let values = |wanted: &str| -> Vec<&str> {
        headers.iter().filter(|(name, _)| name == wanted).map(|(_, value)| value.as_str()).collect()
    };
    let (lengths, codings) = (values("content-length"), values("transfer-encoding"));
    match (lengths.as_slice(), codings.as_slice()) {
        ([], []) => assert!(body.is_empty(), "a body without framing"),
        ([length], []) => {
            assert!(length.bytes().all(|byte| byte.is_ascii_digit()), "{length:?}");
            assert!(body.len() as u64 <= length.parse::<u64>().unwrap(), "more than its length");
        }
        ([], ["chunked"]) => chunks(body),
        other => panic!("two framings: {other:?}"),
    }
}

/// Whole or cut off, it is chunks, and nothing is behind the last.
fn chunks(mut body: &[u8]) {
    while let Some(end) = body.windows(2).position(|pair| pair == b"\r\n") {
        let size = std::str::from_utf8(&body[..end]).expect("a chunk's size");
        let size = usize::from_str_radix(size, 16).expect("a chunk's size is a number");
        body = &body[end + 2..];
        if size == 0 {
            assert!(b"\r\n".starts_with(body), "something behind the last chunk: {body:?}");
            return;
        }
        let Some(rest) = body.get(size..) else { return };
        assert!(rest.is_empty() || rest.starts_with(b"\r\n"), "a chunk is longer than its size");
        body = rest.get(2..).unwrap_or_default();
    }
}
