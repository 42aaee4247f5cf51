//! Decode and forward cannot disagree: what is judged and what is forwarded mean the same to every reader.
//!
//! Property tests. The readers here are written anew and in another way than the code under test.

#![expect(clippy::indexing_slicing, reason = "a test may die of its own mistakes")]

use proptest::prelude::*;
use witgate_core::{ActionClass, Query, RequestInfo, RequestTarget, classify};

proptest! {
    #![proptest_config(ProptestConfig { cases: 2048, failure_persistence: None, ..ProptestConfig::default() })]

    /// Goal: no input panics, and what is taken is kept to the byte.
    #[test]
    fn no_target_panics(text in any::<String>(), bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        for given in [text.clone(), format!("/{text}"), format!("/?{text}"), String::from_utf8_lossy(&bytes).into_owned()] {
            match RequestTarget::parse(&given) {
                Ok(target) => {
                    prop_assert_eq!(target.as_str(), &given);
                    prop_assert!(given.is_ascii());
                }
                Err(error) => {
                    let message = error.to_string();
                    prop_assert!(!message.chars().any(char::is_control), "{:?}", message);
                    prop_assert!(message.chars().count() < 64 * 10 + 100, "{:?}", message);
                }
            }
        }
    }

    /// Goal: no request panics RequestInfo, the query or the classes.
    #[test]
    fn no_request_panics(method in method(), path in path(), query in query(), any_text in any::<String>(), upgrade: bool) {
        for path in [&path, &any_text] {
            for query in [&query, &any_text] {
                prop_assert!(Query::new(query).pairs().count() <= query.split('&').count());
                if let Ok(info) = RequestInfo::of(&method, path, Some(query)) {
                    let class = classify(&info, upgrade);
                    prop_assert!(class.as_str() == class.to_string());
                    prop_assert!(!info.subpath.starts_with('/') && !info.subpath.ends_with('/'));
                }
            }
        }
    }

    /// Goal: any order of decoding, splitting and cleaning gives the segments that were judged.
    #[test]
    fn all_readers_agree_on_a_taken_path(path in path(), query in query()) {
        let given = format!("{path}?{query}");
        let Ok(target) = RequestTarget::parse(&given) else { return Ok(()) };

        prop_assert_eq!(target.raw_path(), &path);
        prop_assert_eq!(target.query(), Some(query.as_str()));
        prop_assert_eq!(target.decoded_path(), decode(&path), "decoding what is forwarded gives what is judged");

        let (judged, exempted) = split_subpath(&path);
        let decoded = decode(judged);
        let by_raw: Vec<_> = judged.split('/').map(decode).collect();
        let by_decoded: Vec<_> = decoded.split('/').map(str::to_owned).collect();
        prop_assert_eq!(by_raw, by_decoded, "splitting before and after decoding agree");
        prop_assert_eq!(clean(&decoded), decoded.clone(), "cleaning changes nothing");
        prop_assert_eq!(decode(&decoded), decoded, "decoding again changes nothing");

        // The proxied subpath: decoded once or twice, cleaning it never climbs out of its place.
        for decoded in [exempted.to_owned(), decode(exempted), decode(&decode(exempted))] {
            prop_assert!(!decoded.split('/').any(|segment| segment == "." || segment == ".."), "{}", decoded);
            prop_assert!(!decoded.contains(['\\', '\0']));
        }
    }

    /// Goal: the request that a cleaning, an early-splitting and a twice-decoding reader sees is the one judged,
    /// in everything but the subpath.
    #[test]
    fn all_readers_see_the_same_request(method in method(), path in path(), query in query()) {
        let Ok(target) = RequestTarget::parse(&format!("{path}?{query}")) else { return Ok(()) };
        let judged = read(&method, target.decoded_path(), &query);
        for other in [clean(&decode(&path)), decode(&clean(&path)), decode(&decode(&path)), clean(&decode(&decode(&path)))] {
            prop_assert_eq!(&read(&method, &other, &query), &judged, "{} is read as {}", path, other);
        }
    }

    /// Goal: a target that was taken is taken again, by its bytes and, unescaped, by its meaning.
    #[test]
    fn taking_a_target_twice_changes_nothing(path in path()) {
        let Ok(target) = RequestTarget::parse(&path) else { return Ok(()) };
        prop_assert_eq!(&RequestTarget::parse(target.as_str()).unwrap(), &target);
        if !path.contains('%') {
            prop_assert_eq!(target.decoded_path(), target.raw_path());
        }
    }
}

/// A request without its subpath, and its class.
fn read(method: &str, path: &str, query: &str) -> Option<(RequestInfo, ActionClass)> {
    let info = RequestInfo::of(method, path, Some(query)).ok()?;
    let class = classify(&info, false);
    Some((RequestInfo { subpath: String::new(), ..info }, class))
}

fn method() -> impl Strategy<Value = String> {
    prop_oneof![
        9 => prop::sample::select(vec!["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]).prop_map(String::from),
        1 => "[A-Za-z]{0,8}",
    ]
}

/// Paths of the pieces that confuse readers, many of them below a proxied resource.
fn path() -> impl Strategy<Value = String> {
    let beginning = prop::sample::select(vec![
        "",
        "/",
        "/api/v1/",
        "/apis/apps/v1/",
        "/api/v1/namespaces/ns/",
        "/api/v1/namespaces/ns/pods/p/",
        "/api/v1/namespaces/ns/pods/p/proxy/",
        "/api/v1/namespaces/ns/services/s/proxy/",
        "/api/v1/nodes/n/proxy/",
        "/api/v1/namespaces/ns/secrets/",
    ]);
    let piece = prop_oneof![
        8 => prop::sample::select(vec![
            "a", "/", "/", "/", "//", ".", "..", "/..", "/../", "%2e", "%2E", "%2F", "%2f", "%5C", "\\", "%00", "%", "%2",
            "%25", "%252e", "%252F", "%2525", "%255c", "%C3%A9", "%ff", ";", ";x", ":", "%3A", "%20", "%7B", "pods",
            "secrets", "namespaces", "watch", "proxy", "exec", "status", "+", "=", "&", "nodes", "%70roxy",
        ]).prop_map(String::from),
        1 => "[ ->@-~]{1,4}",
    ];
    (beginning, prop::collection::vec(piece, 0..10))
        .prop_map(|(beginning, pieces)| format!("{beginning}{}", pieces.concat()))
}

fn query() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "watch",
        "=",
        "=",
        "&",
        "&",
        "1",
        "0",
        "false",
        ";",
        "%",
        "%zz",
        "%3D",
        "+",
        "fieldSelector",
        "metadata.name",
        "x",
        ",",
        "labelSelector",
        "limit",
        "timeoutSeconds",
        "!",
        "(",
        ")",
        " in ",
        "\\",
        "..",
        "%2F",
        "fal%C5%BFe",
        "%00",
    ]);
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat().replace(' ', "+"))
}

/// Decodes each escape once, from left to right; what is none stays.
fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let digit = |offset: usize| bytes.get(at + offset).and_then(|&byte| (byte as char).to_digit(16));
        match (bytes[at], digit(1), digit(2)) {
            (b'%', Some(high), Some(low)) => {
                decoded.push(u8::try_from(high * 16 + low).unwrap());
                at += 3;
            }
            (byte, ..) => {
                decoded.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

/// Go's `path.Clean` of an absolute path, but for the trailing slash, which is kept.
fn clean(path: &str) -> String {
    let mut segments: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            segment => segments.push(segment),
        }
    }
    let slash = if path.len() > 1 && path.ends_with('/') && !segments.is_empty() { "/" } else { "" };
    format!("/{}{slash}", segments.join("/"))
}

/// What stands behind the `/proxy/` of a proxied resource, by segments.
fn split_subpath(path: &str) -> (&str, &str) {
    let segments: Vec<_> = path.split('/').collect();
    let proxy = match segments.as_slice() {
        ["", "api", "v1", "namespaces", _, "pods" | "services", _, "proxy", _, ..] => 8,
        ["", "api", "v1", "nodes", _, "proxy", _, ..] => 6,
        _ => return (path, ""),
    };
    path.split_at(segments[..proxy].iter().map(|segment| segment.len() + 1).sum())
}
