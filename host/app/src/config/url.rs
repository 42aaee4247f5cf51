//! What makes a URL of the configuration one that we dial.

use super::section::Text;

/// Whether a URL may have a query.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(super) enum Query {
    Allowed,
    /// A path is put behind this URL.
    Refused,
}

/// A URL that was checked.
#[derive(Debug)]
pub(super) struct Checked {
    pub(super) url: String,
    /// Whether what is sent there can be read on the way: `http`, to another machine.
    pub(super) in_clear: bool,
}

/// Checks an `http` or `https` URL.
///
/// # Errors
/// With what is wrong; a URL that may hold a password or a token is not repeated.
pub(super) fn check(text: &Text, query: Query) -> Result<Checked, String> {
    let url = text.text.as_str();
    let may_show = !text.text.contains(['@', '?', '#']) && !text.shown.contains(['@', '?', '#']);
    let about = |predicate: &str| match may_show {
        true => Err(format!("{} {predicate}", text.shown)),
        false => Err(format!("the URL {predicate}")),
    };
    if url.chars().any(|character| character.is_whitespace() || character.is_control()) {
        return about("is not a URL: it holds white space; write `https://host:port`");
    }
    let Some((scheme, rest)) = url.split_once("://") else {
        return about("is not a URL: write `https://host:port`");
    };
    if !scheme.eq_ignore_ascii_case("https") && !scheme.eq_ignore_ascii_case("http") {
        return about("has another scheme than `https` and `http`");
    }
    let end = rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at_checked(end).unwrap_or((rest, ""));
    if authority.contains('@') {
        return about("holds a user or password before `@`: put credentials into the keys made for them");
    }
    if path.contains('#') {
        return about("has a fragment (`#…`): remove it");
    }
    if path.contains('?') && query == Query::Refused {
        return about("has a query (`?…`): remove it");
    }
    let plain_path = path.split('?').next().unwrap_or(path);
    let within = plain_path.strip_suffix('/').unwrap_or(plain_path);
    if plain_path.contains(['\\', '%']) || within.split('/').skip(1).any(|segment| matches!(segment, "" | "." | "..")) {
        return about("has a path with `//`, `.`, `..`, `\\` or `%` in it: write it plainly");
    }
    let uri: http::Uri = match url.parse() {
        Ok(uri) => uri,
        Err(_) => return about("is not a URL: write `https://host:port`"),
    };
    let host = uri.host().unwrap_or_default();
    if host.is_empty() {
        return about("has no host");
    }
    let port = authority.strip_prefix(host).unwrap_or_default();
    if !port.is_empty() && port.strip_prefix(':').and_then(|port| port.parse::<u16>().ok()).is_none_or(|port| port == 0)
    {
        return about("has a port that is not between 1 and 65535");
    }
    let in_clear = scheme.eq_ignore_ascii_case("http") && !is_loopback(host);
    Ok(Checked { url: url.to_owned(), in_clear })
}

/// Whether a host is this machine, as written.
fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || address.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: only a URL that can be dialled, with a path behind it, is taken. Method: rows.
    #[test]
    fn only_plain_http_urls_are_taken() {
        for good in [
            "https://api.example:6443",
            "http://10.0.0.1",
            "HTTPS://api.example/",
            "https://[2001:db8::1]:6443",
            "https://rancher.example/k8s/clusters/c-1",
            "https://rancher.example/k8s/clusters/c-1/",
        ] {
            assert_eq!(row(good, Query::Refused), "ok", "{good}");
        }
        refused("not a url", "`not a url` is not a URL: it holds white space; write `https://host:port`");
        refused("api.example:6443", "`api.example:6443` is not a URL: write `https://host:port`");
        refused("ftp://api.example", "`ftp://api.example` has another scheme than `https` and `http`");
        refused("https://", "`https://` is not a URL: write `https://host:port`");
        refused("https:///x", "`https:///x` is not a URL: write `https://host:port`");
        refused("https://:6443", "`https://:6443` has no host");
        refused("https://api.example:0", "`https://api.example:0` has a port that is not between 1 and 65535");
        refused("https://api.example:99999", "`https://api.example:99999` has a port that is not between 1 and 65535");
        refused(
            "https://u:pw@api.example",
            "the URL holds a user or password before `@`: put credentials into the keys made for them",
        );
        refused("https://api.example?token=s", "the URL has a query (`?…`): remove it");
        refused("https://api.example/#s", "the URL has a fragment (`#…`): remove it");
        for path in ["//x", "/a//b", "/..", "/a/./b", "/%2e", "\\x"] {
            let url = format!("https://api.example{path}");
            refused(&url, &format!("`{url}` has a path with `//`, `.`, `..`, `\\` or `%` in it: write it plainly"));
        }
        assert_eq!(row("https://idp.example/jwks?p=x", Query::Allowed), "ok");
        let long = Text { shown: "`https://secret…`".to_owned(), ..literal("https://secret@api.example") };
        let why = check(&long, Query::Refused).unwrap_err();
        assert!(!why.contains("secret"), "a URL that is cut before its `@`: {why}");
    }

    #[test]
    fn plain_http_to_another_machine_is_in_clear() {
        for (url, expected) in [
            ("http://localhost:8001", false),
            ("http://127.0.0.2", false),
            ("http://[::1]:80", false),
            ("https://api.example", false),
            ("http://api.example", true),
            ("http://localhost.example", true),
        ] {
            let in_clear = check(&literal(url), Query::Refused).map(|checked| checked.in_clear);
            assert_eq!(in_clear, Ok(expected), "{url}");
        }
    }

    #[track_caller]
    fn refused(url: &str, expected: &str) {
        assert_eq!(row(url, Query::Refused), expected);
    }

    fn row(url: &str, query: Query) -> String {
        check(&literal(url), query).map_or_else(|why| why, |_| "ok".to_owned())
    }

    fn literal(text: &str) -> Text {
        Text { text: text.to_owned(), shown: format!("`{text}`"), literal: true, file: None }
    }
}
