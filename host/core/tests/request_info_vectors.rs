//! RequestInfo against vectors that were checked against the real API server's code, and the
//! ambiguity rule against the same URLs.
//!
//! The vectors are about RequestInfo alone: it reads what the ambiguity rule never lets through, too.

#![expect(clippy::indexing_slicing, reason = "a test may die of a malformed table")]

use std::collections::BTreeMap;

use witgate_core::{RequestInfo, RequestTarget};

const VECTORS: &str = include_str!("data/requestinfo.tsv");

/// Goal: every column of every row. Method: the row is printed anew from what was read, and compared as text.
#[test]
fn every_vector_is_read_as_the_api_server_reads_it() {
    let rows = rows();
    assert!(rows.len() >= 88, "the table is there: {} rows", rows.len());
    for row in rows {
        check(&row);
    }
}

#[track_caller]
fn check(row: &BTreeMap<&str, &str>) {
    let (path, query) = split(row["url"]);
    let (info, error) = match RequestInfo::of(row["method"], &decode(path), query) {
        Ok(info) => (info, String::new()),
        Err(error) => (*error.known.clone(), error.to_string()),
    };
    let got = [
        ("is_resource", info.is_resource_request.to_string()),
        ("verb", info.verb),
        ("api_prefix", info.api_prefix),
        ("api_group", info.api_group),
        ("api_version", info.api_version),
        ("namespace", info.namespace),
        ("resource", info.resource),
        ("subresource", info.subresource),
        ("name", info.name),
        ("field_selector", info.field_selector.unwrap_or_default()),
        ("label_selector", info.label_selector.unwrap_or_default()),
        ("long_running", info.long_running.to_string()),
        ("error", error),
    ];
    for (column, got) in got {
        assert_eq!(got, row[column], "{column} of {} {}", row["method"], row["url"]);
    }
}

/// Goal: which of these URLs the gate refuses, and that no other is. Method: the list, and all rows.
#[test]
fn the_ambiguity_rule_refuses_these_vectors_and_no_other() {
    let refused = [
        ("", "`` does not begin with `/`: only a path, without scheme and host, is taken"),
        ("//api/v1/secrets", "`//` in the path"),
        ("/api//v1/pods", "`//` in the path"),
        ("/api/v1/namespaces/a/../b/secrets", "segment `..` in the path"),
        ("/api/v1/namespaces/ns%2Fpods", "`%2F` in the path"),
    ];
    let mut seen = 0;
    for row in rows() {
        let url = row["url"];
        let expected = refused.iter().find(|(known, _)| *known == url).map(|(_, message)| (*message).to_owned());
        seen += usize::from(expected.is_some());
        let got = RequestTarget::parse(url).err().map(|error| error.to_string());
        assert_eq!(got, expected, "{url}");
    }
    assert_eq!(seen, refused.len(), "each stands in the table");
}

/// Goal: the subpath, which the table does not have. Method: rows of path and subpath.
#[test]
fn the_subpath_is_what_the_proxied_server_is_asked_for() {
    check_subpath("/api/v1/namespaces/ns/pods/p/proxy", "");
    check_subpath("/api/v1/namespaces/ns/pods/p/proxy/", "");
    check_subpath("/api/v1/namespaces/ns/pods/p/proxy/a/b", "a/b");
    check_subpath("/api/v1/namespaces/ns/pods/p/proxy/a/b/", "a/b");
    check_subpath("/api/v1/namespaces/ns/pods/p/proxy//a///b//", "a/b");
    check_subpath("/api/v1/nodes/n/proxy/metrics/cadvisor", "metrics/cadvisor");
    check_subpath("/api/v1/proxy/namespaces/ns/pods/p/a/b", "a/b");
    check_subpath("/apis/x.example.com/v1/namespaces/ns/widgets/w/a/b/c", "b/c");
    check_subpath("/api/v1/namespaces/ns/pods/p/log", "");
}

#[track_caller]
fn check_subpath(path: &str, expected: &str) {
    assert_eq!(RequestInfo::of("GET", path, None).unwrap().subpath, expected, "{path}");
}

/// Goal: the long-running requests that the table does not have. Method: rows.
#[test]
fn profiles_are_long_running_too() {
    for (path, expected) in [
        ("/debug/pprof/profile", true),
        ("/debug/pprof", false),
        ("/debug/flags/v", false),
        ("/x/pods/p/log", false),
        ("/apis/x.example/v1/things/t/attach", true),
    ] {
        assert_eq!(RequestInfo::of("GET", path, None).unwrap().long_running, expected, "{path}");
    }
}

/// Goal: the finer points of the query that the table does not reach. Method: a query, the verb and the name.
#[test]
fn a_query_decides_as_it_does_in_go() {
    check_query("", "list", "");
    check_query("watch", "watch", "");
    check_query("watch=fal%C5%BFe", "list", ""); // `ſ` folds into `s`,
    check_query("watch=fal%C5%BFe&limit=x", "watch", ""); // but not where the options fall back
    check_query("w%61tch=1", "watch", "");
    check_query("watch=1;x", "list", "");
    check_query("watch=%zz&watch=1", "watch", "");
    check_query("fieldSelector=metadata.name%3Db,metadata.name%3Da", "list", "a");
    check_query("fieldSelector=metadata.name=a&limit=", "list", "");
    check_query("fieldSelector=metadata.name=a&limit=5&timeoutSeconds=-1", "list", "a");
    check_query("fieldSelector=metadata.name=a&timeoutSeconds=1.5", "list", "");
    check_query("fieldSelector=metadata.name=a&labelSelector=x+in+(a,b)", "list", "a");
    check_query("fieldSelector=metadata.name=a&labelSelector=x+in", "list", "");
    check_query("fieldSelector=metadata.name=a%2Fb", "list", "");
    check_query("fieldSelector=metadata.name=..", "list", "");
    check_query("fieldSelector=metadata.name%3Da%5C,b", "list", "a,b");
    check_query("continue=x&resourceVersion=0&allowWatchBookmarks=x&fieldSelector=metadata.name=a", "list", "a");
}

#[track_caller]
fn check_query(query: &str, verb: &str, name: &str) {
    let info = RequestInfo::of("GET", "/api/v1/pods", Some(query)).unwrap();
    assert_eq!((info.verb.as_str(), info.name.as_str()), (verb, name), "{query}");
}

fn rows() -> Vec<BTreeMap<&'static str, &'static str>> {
    let mut lines = VECTORS.lines();
    let columns: Vec<_> = lines.next().unwrap().split('\t').collect();
    lines.map(|line| columns.iter().copied().zip(line.split('\t').chain(std::iter::repeat(""))).collect()).collect()
}

fn split(url: &str) -> (&str, Option<&str>) {
    url.split_once('?').map_or((url, None), |(path, query)| (path, Some(query)))
}

/// Decodes a path once; written anew, so that the table does not lean on the code that it tests.
fn decode(path: &str) -> String {
    let mut parts = path.split('%');
    let mut decoded = parts.next().unwrap().as_bytes().to_vec();
    for part in parts {
        decoded.push(u8::from_str_radix(&part[..2], 16).unwrap());
        decoded.extend_from_slice(&part.as_bytes()[2..]);
    }
    String::from_utf8(decoded).unwrap()
}
