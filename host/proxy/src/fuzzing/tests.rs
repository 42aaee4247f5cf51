//! A little of what `fuzz/` does at length: requests of the pieces that confuse readers, each sent through.

use proptest::prelude::*;

use super::{Grant, check};

const GRANTS: [Grant; 4] = [Grant::Bearer, Grant::Impersonating, Grant::Anonymous, Grant::AsTheClientAsks];

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, failure_persistence: None, ..ProptestConfig::default() })]

    /// Goal: what was judged is what is sent, for any head of odd pieces.
    #[test]
    fn what_was_judged_is_what_is_sent(head in head()) {
        for grant in GRANTS {
            check(head.as_bytes(), grant);
        }
    }

    /// Goal: the same for plain requests with single bytes changed.
    #[test]
    fn a_changed_byte_changes_no_invariant(at in 0..SEED.len(), byte: u8, grant in prop::sample::select(&GRANTS[..])) {
        let mut head = SEED.as_bytes().to_vec();
        if let Some(changed) = head.get_mut(at) {
            *changed = byte;
        }
        check(&head, grant);
    }
}

const SEED: &str = "POST /k8s/clusters/one/api/v1/namespaces/dev/pods?fieldManager=x HTTP/1.1\r\nHost: gate\r\n\
    Authorization: Bearer t\r\nConnection: keep-alive, x-a\r\nX-A: 1\r\nTE: trailers\r\nContent-Length: 4\r\n\r\nabcd";

/// Goal: the check is not empty: what should pass passes, and what should not does not. Method: a head and whether it is sent.
#[test]
fn the_check_sees_requests() {
    sent(SEED, Grant::Bearer, true);
    sent(
        "GET /api/kubernetes/proxy/api/v1/pods HTTP/1.1\r\nhost: x\r\nbackstage-kubernetes-cluster: one\r\n\r\n",
        Grant::Anonymous,
        true,
    );
    sent("GET /k8s/clusters/one HTTP/1.1\r\nhost: x\r\n\r\n", Grant::Impersonating, true);
    sent("GET /k8s/clusters/one?a HTTP/1.1\r\nhost: x\r\n\r\n", Grant::Bearer, true);
    sent("GET /k8s/clusters/one/a%2Fb HTTP/1.1\r\nhost: x\r\n\r\n", Grant::Bearer, false);
    sent("GET /k8s/clusters/one/a HTTP/1.1\r\nhost: x\r\nimpersonate-user: root\r\n\r\n", Grant::Bearer, false);
    sent("GET /k8s/clusters/one/a HTTP/1.1\r\nhost: x\r\nimpersonate-user: root\r\n\r\n", Grant::AsTheClientAsks, true);
    sent(
        "POST /k8s/clusters/one/a HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        Grant::Bearer,
        true,
    );
    // Found by the fuzzer: a body that is broken from its first byte, and so nothing that is sent.
    sent(
        "PATCH /k8s/clusters/one/a HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n3Back\r\nabc\r\n",
        Grant::Bearer,
        false,
    );
}

#[track_caller]
fn sent(written: &str, grant: Grant, expected: bool) {
    assert_eq!(check(written.as_bytes(), grant), expected, "{written:?}");
}

/// An extra key with a capital letter was judged as `A` and sent as `a`: header names have no case, so it must go up escaped.
#[test]
fn the_case_of_an_extra_key_survives() {
    let head =
        "GET /k8s/clusters/one/a HTTP/1.1\r\nhost: x\r\nimpersonate-user: j\r\nimpersonate-extra-%41cme: x\r\n\r\n";
    sent(head, Grant::AsTheClientAsks, true);
}

fn head() -> impl Strategy<Value = String> {
    let method =
        prop::sample::select(vec!["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "get", "OPTIONS", "CONNECT"]);
    let mount = prop::sample::select(vec![
        "/k8s/clusters/one",
        "/api/kubernetes/proxy",
        "/k8s/clusters/o%6Ee",
        "/k8s/clusters/..",
    ]);
    let piece = prop::sample::select(vec![
        "/",
        "/api/v1",
        "/namespaces/dev",
        "/pods",
        "/p",
        "/proxy",
        "/x",
        "//",
        "/..",
        "/.",
        "%2e",
        "%2F",
        "%25",
        "%41",
        "%00",
        "\\",
        ";",
        "?",
        "watch=1",
        "&",
        "#",
        "%C3%A9",
        "é",
        " ",
        "\t",
        "@",
        "*",
    ]);
    let header = prop::sample::select(vec![
        "host: y",
        "authorization: Bearer a",
        "Authorization: Basic b",
        "content-length: 3",
        "content-length: 0",
        "Content-Length : 3",
        "transfer-encoding: chunked",
        "Transfer-Encoding: gzip",
        "connection: upgrade",
        "connection: authorization, host, te",
        "upgrade: websocket",
        "upgrade: h2c",
        "te: trailers",
        "te: gzip",
        "expect: 100-continue",
        "trailer: x-t",
        "cookie: c",
        "impersonate-user: a",
        "Impersonate-Group: g",
        "impersonate-group: h",
        "impersonate-uid: u",
        "impersonate-extra-A%41b: v",
        "impersonate-extra-a%2fb: w",
        "impersonate-extra-a%5fb: w",
        "impersonate_user: z",
        "x-remote-user: r",
        "X_Remote_User: r",
        "x-forwarded-for: 1",
        "backstage-kubernetes-cluster: one",
        "backstage-kubernetes-authorization-oidc: t",
        "witgate-x: y",
        "x: \u{e9}",
        "x:\tz\t",
        "x",
        ": y",
        " folded",
        "x: a\rb",
        "x: a\nb",
        "http2-settings: AA",
    ]);
    let body = prop::sample::select(vec![
        "",
        "abc",
        "3\r\nabc\r\n0\r\n\r\n",
        "0\r\n\r\nGET / HTTP/1.1\r\n\r\n",
        "3;x\r\nabc\r\n0\r\n\r\n",
    ]);
    (method, mount, prop::collection::vec(piece, 0..8), prop::collection::vec(header, 0..8), body).prop_map(
        |(method, mount, pieces, headers, body)| {
            let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
            let path = pieces.concat();
            format!(
                "{method} {mount}{path} HTTP/1.1\r\nhost: x\r\nbackstage-kubernetes-cluster: one\r\n{headers}\r\n{body}"
            )
        },
    )
}
