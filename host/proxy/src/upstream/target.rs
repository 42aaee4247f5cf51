//! An API server's URL, taken apart once.

use std::fmt;

use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderValue, Uri};
use rustls_pki_types::ServerName;

/// Where an API server is: scheme, authority, and the prefix that every path gets.
#[derive(Clone, Eq, PartialEq)]
pub struct Target {
    authority: Authority,
    host: String,
    port: u16,
    host_header: HeaderValue,
    server_name: Option<ServerName<'static>>,
    prefix: String,
}

/// Why a URL is not an API server's.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum InvalidTarget {
    /// It does not parse.
    #[error("`{0}` is not a URL; write it like `https://10.0.0.1:6443`")]
    NotAUrl(String),
    /// Neither `http` nor `https`.
    #[error("`{0}` is not served: use http or https")]
    Scheme(String),
    /// It names a user.
    #[error("the URL holds a user name or password; use an authProvider instead")]
    UserInfo,
    /// It has a query.
    #[error("the URL has a query, which no API server has")]
    Query,
    /// Not what a certificate can name.
    #[error("`{0}` is not a host name or address that a certificate could name")]
    ServerName(String),
    /// The path cannot be a prefix.
    #[error("the URL's path `{0}` has an empty, `.` or `..` segment, or an escape")]
    Path(String),
}

impl Target {
    /// Reads `https://host:port/prefix`.
    ///
    /// # Errors
    /// When it is not an `http` or `https` URL of a host, or has parts that an API server's URL must not have.
    pub fn parse(url: &str) -> Result<Self, InvalidTarget> {
        let not_a_url = || InvalidTarget::NotAUrl(url.chars().take(200).collect());
        let uri: Uri = url.parse().map_err(|_| not_a_url())?;
        let secure = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            Some(other) => return Err(InvalidTarget::Scheme(other.to_owned())),
            None => return Err(not_a_url()),
        };
        let authority = uri.authority().ok_or_else(not_a_url)?.clone();
        if authority.as_str().contains('@') {
            return Err(InvalidTarget::UserInfo);
        }
        if uri.query().is_some() {
            return Err(InvalidTarget::Query);
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let port_is_bad = authority
            .as_str()
            .rsplit_once(':')
            .is_some_and(|(_, port)| !port.ends_with(']') && port.parse::<u16>().is_err());
        if host.is_empty() || port_is_bad {
            return Err(not_a_url());
        }
        let prefix = uri.path().trim_end_matches('/').to_owned();
        let bad_segment = |segment: &str| matches!(segment, "" | "." | "..") || segment.contains(['%', '\\']);
        if prefix.split('/').skip(1).any(bad_segment) {
            return Err(InvalidTarget::Path(prefix));
        }
        let server_name = match secure {
            true => Some(ServerName::try_from(host.clone()).map_err(|_| not_a_url())?),
            false => None,
        };
        Ok(Self {
            port: authority.port_u16().unwrap_or(if secure { 443 } else { 80 }),
            host_header: HeaderValue::from_str(authority.as_str()).map_err(|_| not_a_url())?,
            host,
            server_name,
            authority,
            prefix,
        })
    }

    /// The same, whose certificate must name `name` instead of the URL's host; without TLS it changes nothing.
    ///
    /// # Errors
    /// When no certificate could name it.
    pub fn with_server_name(mut self, name: &str) -> Result<Self, InvalidTarget> {
        let invalid = |_| InvalidTarget::ServerName(name.chars().take(200).collect());
        let name = ServerName::try_from(name.to_owned()).map_err(invalid)?;
        self.server_name = self.server_name.map(|_| name);
        Ok(self)
    }

    /// Whether it speaks TLS.
    pub const fn is_secure(&self) -> bool {
        self.server_name.is_some()
    }

    /// Host name or address, without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// What TLS verifies the certificate against; none where it is reached without TLS.
    pub(crate) const fn server_name(&self) -> Option<&ServerName<'static>> {
        self.server_name.as_ref()
    }

    /// The `Host` header: host and port as the configuration writes them.
    pub(crate) const fn host_header(&self) -> &HeaderValue {
        &self.host_header
    }

    /// The request's path and query behind the prefix, byte for byte, in origin form (HTTP/1.1).
    pub(crate) fn origin_form(&self, path_and_query: &str) -> Result<Uri, http::Error> {
        let path_and_query: PathAndQuery = if self.prefix.is_empty() {
            path_and_query.parse()?
        } else {
            format!("{}{path_and_query}", self.prefix).parse()?
        };
        Ok(Uri::from(path_and_query))
    }

    /// The same with scheme and authority (HTTP/2's pseudo headers).
    pub(crate) fn absolute_form(&self, origin_form: Uri) -> Result<Uri, http::Error> {
        let mut parts = origin_form.into_parts();
        parts.scheme = Some(if self.is_secure() { Scheme::HTTPS } else { Scheme::HTTP });
        parts.authority = Some(self.authority.clone());
        Ok(Uri::from_parts(parts)?)
    }
}

/// For the operator's log; callers never see it.
impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", if self.is_secure() { "https" } else { "http" }, self.authority, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a URL is an API server's or is refused with the reason. Method: rows.
    #[test]
    fn a_target_is_an_http_url_of_a_host() {
        check("https://10.0.0.1:6443", "https://10.0.0.1:6443");
        check("https://api.example", "https://api.example");
        check("http://[::1]:8001/", "http://[::1]:8001");
        check("https://rancher.example/k8s/clusters/c-1/", "https://rancher.example/k8s/clusters/c-1");
        check("not a url", "`not a url` is not a URL; write it like `https://10.0.0.1:6443`");
        check("/just/a/path", "`/just/a/path` is not a URL; write it like `https://10.0.0.1:6443`");
        check("ftp://x", "`ftp` is not served: use http or https");
        check("https://u:p@x", "the URL holds a user name or password; use an authProvider instead");
        check("https://x/?a=1", "the URL has a query, which no API server has");
        check("https://x/a/../b", "the URL's path `/a/../b` has an empty, `.` or `..` segment, or an escape");
        check("https://x:99999", "`https://x:99999` is not a URL; write it like `https://10.0.0.1:6443`");
        check("https://:443", "`https://:443` is not a URL; write it like `https://10.0.0.1:6443`");
    }

    #[track_caller]
    fn check(url: &str, expected: &str) {
        let got = match Target::parse(url) {
            Ok(target) => format!("{target:?}"),
            Err(error) => error.to_string(),
        };
        assert_eq!(got, expected);
    }

    /// Goal: the request's own bytes are behind the prefix, unchanged.
    #[test]
    fn a_path_is_forwarded_byte_for_byte() {
        for (url, path) in [("https://x", "/echo/%7Bd%7D/e%20f?a=1&b=%2F"), ("https://x/p", "/api/v1/x?watch=1")] {
            let target = Target::parse(url).unwrap();
            let uri = target.origin_form(path).unwrap();
            assert_eq!(uri.to_string(), format!("{}{path}", target.prefix));
            assert_eq!(
                target.absolute_form(uri).unwrap().path_and_query().unwrap().as_str().len(),
                target.prefix.len() + path.len()
            );
        }
    }
}
