//! Keeps other sites out: a page that an operator looks at must not ask the admin routes in the operator's name.
//!
//! A listener that asks nobody who they are is as open to every page in the same browser as to the operator. Three things
//! keep them out. The `Host` must be an IP address or `localhost`: a name that a stranger owns can be made to lead here, an
//! address cannot. An `Origin`, which browsers send where it matters, must be this very listener. And `Sec-Fetch-Site`, where it
//! is sent, must not say that another site asks. No answer allows another origin to read it (there is no CORS).

use std::net::IpAddr;

use http::header::{CONTENT_TYPE, HOST, ORIGIN};
use http::uri::Authority;
use http::{HeaderMap, StatusCode};

/// Whether the listener has another way to know who asks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Exposure {
    /// Whoever reaches it may ask: a browser too, which can be led here under any name.
    AnyName,
    /// Only who has a certificate, or may open the socket's file. The name that they use is theirs.
    Known,
}

/// Refuses what another site may have sent.
///
/// # Errors
/// With the answer's status and why.
pub(super) fn check(headers: &HeaderMap, exposure: Exposure) -> Result<(), (StatusCode, &'static str)> {
    let text = |name| {
        let mut values = headers.get_all(name).iter();
        let value: Option<&http::HeaderValue> = values.next();
        match (value, values.next()) {
            (None, _) => Ok(None),
            (Some(value), None) => value.to_str().map(Some).map_err(|_| BAD),
            (Some(_), Some(_)) => Err(BAD),
        }
    };
    let host = text(HOST.as_str())?;
    if let (Some(host), Exposure::AnyName) = (host, exposure)
        && !is_of_this_machine(host)
    {
        return Err((
            StatusCode::MISDIRECTED_REQUEST,
            "the `Host` is a name; ask by IP address or as `localhost`, so that no other site can lead a browser here",
        ));
    }
    if let Some(origin) = text(ORIGIN.as_str())? {
        let authority = origin.split_once("://").map(|(_, authority)| authority);
        if !authority.zip(host).is_some_and(|(authority, host)| authority.eq_ignore_ascii_case(host)) {
            return Err((StatusCode::FORBIDDEN, "another site may not ask here"));
        }
    }
    match text("sec-fetch-site")? {
        None | Some("same-origin" | "none") => Ok(()),
        Some(_) => Err((StatusCode::FORBIDDEN, "another site may not ask here")),
    }
}

/// Refuses a POST of a browser that is not declared as JSON. [`check`] has let only the listener's own pages in; this is what
/// stays where a browser says less of itself than it should: no form and no other page can send JSON unasked.
///
/// # Errors
/// With the answer's status and why.
pub(super) fn check_post(headers: &HeaderMap) -> Result<(), (StatusCode, &'static str)> {
    let is_of_browser =
        headers.contains_key(ORIGIN) || headers.keys().any(|name| name.as_str().starts_with("sec-fetch-"));
    let media_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()?.split(';').next());
    let is_json = media_type.is_some_and(|media_type| media_type.trim().eq_ignore_ascii_case("application/json"));
    if is_of_browser && !is_json {
        return Err((
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "a browser must send this as `Content-Type: application/json`",
        ));
    }
    Ok(())
}

const BAD: (StatusCode, &str) =
    (StatusCode::BAD_REQUEST, "`Host`, `Origin` and `Sec-Fetch-Site` may come once, as text");

fn is_of_this_machine(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else { return false };
    let name = authority.host();
    let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    let is_local = |name: &str| name.eq_ignore_ascii_case("localhost");
    !host.contains('@') && (address.parse::<IpAddr>().is_ok() || is_local(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: no other site gets in, and everybody else does. Method: rows of headers.
    #[test]
    fn other_sites_are_kept_out() {
        use Exposure::{AnyName, Known};
        check("", AnyName, 200);
        check("host: 127.0.0.1:7008", AnyName, 200);
        check("host: [::1]:7008", AnyName, 200);
        check("host: LocalHost:7008", AnyName, 200);
        check("host: attacker.example:7008", AnyName, 421);
        check("host: localhost.attacker.example", AnyName, 421);
        check("host: 127.0.0.1.attacker.example", AnyName, 421);
        check("host: localhost@attacker.example", AnyName, 421);
        check("host: attacker.example@127.0.0.1", AnyName, 421);
        check("host: gate.example:7008", Known, 200);
        check("host: 127.0.0.1:7008|origin: http://127.0.0.1:7008", AnyName, 200);
        check("host: 127.0.0.1:7008|origin: http://127.0.0.1:3000", AnyName, 403);
        check("host: 127.0.0.1:7008|origin: null", AnyName, 403);
        check("host: gate.example|origin: https://attacker.example", Known, 403);
        check("origin: http://127.0.0.1:7008", AnyName, 403);
        check("host: 127.0.0.1|sec-fetch-site: same-origin", AnyName, 200);
        check("host: 127.0.0.1|sec-fetch-site: none", AnyName, 200);
        check("host: 127.0.0.1|sec-fetch-site: cross-site", AnyName, 403);
        check("host: 127.0.0.1|sec-fetch-site: same-site", AnyName, 403);
        check("host: 127.0.0.1|host: 127.0.0.1", AnyName, 400);
    }

    /// Goal: what a form or a stranger's page could send changes nothing; operators' tools need not know. Method: rows.
    #[test]
    fn a_browser_posts_json_alone() {
        check_post("", 200);
        check_post("content-type: application/x-www-form-urlencoded", 200);
        let own = "origin: http://127.0.0.1:7008|";
        check_post(own, 415);
        check_post(&format!("{own}content-type: text/plain"), 415);
        check_post(&format!("{own}content-type: text/plain; application/json"), 415);
        check_post(&format!("{own}content-type: application/json"), 200);
        check_post(&format!("{own}content-type: Application/JSON; charset=utf-8"), 200);
        check_post("sec-fetch-mode: navigate|content-type: application/x-www-form-urlencoded", 415);
    }

    #[track_caller]
    fn check_post(lines: &str, expected: u16) {
        let got = super::check_post(&headers(lines)).map_or_else(|(status, _)| status.as_u16(), |()| 200);
        assert_eq!(got, expected, "{lines}");
    }

    fn headers(lines: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in lines.split('|').filter(|line| !line.is_empty()) {
            let (name, value) = line.split_once(": ").unwrap();
            headers.append(http::HeaderName::try_from(name).unwrap(), value.parse().unwrap());
        }
        headers
    }

    #[track_caller]
    fn check(lines: &str, exposure: Exposure, expected: u16) {
        let got = super::check(&headers(lines), exposure).map_or_else(|(status, _)| status.as_u16(), |()| 200);
        assert_eq!(got, expected, "{lines}");
    }
}
