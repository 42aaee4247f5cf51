//! The way to an API server behind an HTTP proxy: `CONNECT`, whatever the API server speaks.
//!
//! Promise: the proxy's answer is read with a limit, and whatever it says besides 2xx is an error. Its
//! user and password are in [`Redacted`].

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Uri;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use witgate_core::{BoxError, Redacted};

use super::Target;

/// The head of a proxy's answer.
const HEAD_BYTES_MAX: usize = 8 * 1024;

/// An HTTP proxy that is asked for a connection to the API server.
#[derive(Clone, Eq, PartialEq)]
pub struct Proxy {
    host: String,
    port: u16,
    /// The value of `Proxy-Authorization`.
    authorization: Option<Redacted<String>>,
}

/// Why a URL is not a proxy's. Repeats no part of what may be a password.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum InvalidProxy {
    /// It does not parse.
    #[error("is not a proxy's URL: write `http://host:port`")]
    NotAUrl,
    /// Neither SOCKS nor TLS to the proxy is spoken.
    #[error("has the scheme `{0}`, which is not served: only `http://` proxies are")]
    Scheme(String),
    /// It has a path or a query.
    #[error("has a path or a query, which a proxy's URL must not have: write `http://host:port`")]
    Path,
    /// The user or password cannot be read.
    #[error("has a user or password that cannot be read: write `http://user:password@host:port`, with `%40` for `@`")]
    UserInfo,
}

impl Proxy {
    /// Reads `http://host:port` or `http://user:password@host:port`.
    ///
    /// # Errors
    /// When it is not the URL of an HTTP proxy.
    pub fn parse(url: &str) -> Result<Self, InvalidProxy> {
        let (scheme, rest) = url.split_once("://").ok_or(InvalidProxy::NotAUrl)?;
        if !scheme.eq_ignore_ascii_case("http") {
            let named = !scheme.is_empty() && scheme.len() <= 16 && scheme.bytes().all(|b| b.is_ascii_alphanumeric());
            return Err(if named { InvalidProxy::Scheme(scheme.to_owned()) } else { InvalidProxy::NotAUrl });
        }
        let authority_end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at_checked(authority_end).ok_or(InvalidProxy::NotAUrl)?;
        if !matches!(path, "" | "/") {
            return Err(InvalidProxy::Path);
        }
        let (user_info, address) = match authority.rsplit_once('@') {
            Some((user_info, address)) => (Some(user_info), address),
            None => (None, authority),
        };
        let uri: Uri = format!("http://{address}").parse().map_err(|_| InvalidProxy::NotAUrl)?;
        let host = uri.host().unwrap_or_default();
        let port = match address.strip_prefix(host) {
            Some("") => Some(80),
            Some(port) => port.strip_prefix(':').and_then(|port| port.parse().ok()).filter(|port| *port != 0),
            None => None,
        };
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = port.filter(|_| !host.is_empty()).ok_or(InvalidProxy::NotAUrl)?;
        let authorization = user_info.map(authorization).transpose()?;
        Ok(Self { host, port, authorization })
    }

    pub(super) fn host(&self) -> &str {
        &self.host
    }

    pub(super) const fn port(&self) -> u16 {
        self.port
    }

    /// Asks, on a fresh connection to the proxy, for one to `target`.
    pub(super) async fn connect(&self, tcp: &mut TcpStream, target: &Target) -> Result<(), BoxError> {
        let host = target.host();
        let address = match host.contains(':') {
            true => format!("[{host}]:{}", target.port()),
            false => format!("{host}:{}", target.port()),
        };
        let mut head = format!("CONNECT {address} HTTP/1.1\r\nHost: {address}\r\n");
        if let Some(authorization) = &self.authorization {
            head.push_str("Proxy-Authorization: ");
            head.push_str(authorization.expose());
            head.push_str("\r\n");
        }
        head.push_str("\r\n");
        tcp.write_all(head.as_bytes()).await?;
        let answer = read_head(tcp).await?;
        match status(&answer) {
            Some(200..=299) => Ok(()),
            Some(status) => Err(format!("the proxy answered {status}").into()),
            None => Err("the proxy's answer is not HTTP/1".into()),
        }
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let user = if self.authorization.is_some() { "[redacted]@" } else { "" };
        write!(f, "http://{user}{}:{}", self.host, self.port)
    }
}

/// What stands before `@`, as `Basic` has it.
fn authorization(user_info: &str) -> Result<Redacted<String>, InvalidProxy> {
    let mut bytes = Vec::with_capacity(user_info.len());
    let mut rest = user_info.bytes();
    while let Some(byte) = rest.next() {
        let decoded = match byte {
            b'%' => {
                let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
                let (high, low) = (digit(rest.next()), digit(rest.next()));
                let value = high.zip(low).and_then(|(high, low)| u8::try_from(high * 16 + low).ok());
                value.ok_or(InvalidProxy::UserInfo)?
            }
            byte if byte.is_ascii_graphic() => byte,
            _ => return Err(InvalidProxy::UserInfo),
        };
        bytes.push(decoded);
    }
    if !user_info.contains(':') {
        bytes.push(b':');
    }
    Ok(Redacted::new(format!("Basic {}", STANDARD.encode(bytes))))
}

/// Reads up to the empty line. The proxy has nothing to say behind it: whoever is behind it waits for us.
async fn read_head(tcp: &mut TcpStream) -> Result<Vec<u8>, BoxError> {
    let mut head = Vec::new();
    let mut buffer = [0; 1024];
    loop {
        let length = tcp.read(&mut buffer).await?;
        if length == 0 {
            return Err("the proxy broke off".into());
        }
        head.extend_from_slice(buffer.get(..length).unwrap_or_default());
        if let Some(end) = head.windows(4).position(|window| window == b"\r\n\r\n") {
            let more = head.len() > end + 4;
            let succeeded = matches!(status(&head), Some(200..=299));
            return if more && succeeded { Err("the proxy sent more than its answer".into()) } else { Ok(head) };
        }
        if head.len() > HEAD_BYTES_MAX {
            return Err(format!("the proxy's answer has a head of more than {HEAD_BYTES_MAX} bytes").into());
        }
    }
}

/// The status of `HTTP/1.1 200 …`.
fn status(head: &[u8]) -> Option<u16> {
    let line = head.split(|byte| *byte == b'\r').next()?;
    let mut words = std::str::from_utf8(line).ok()?.split(' ');
    words.next().filter(|version| matches!(*version, "HTTP/1.1" | "HTTP/1.0"))?;
    words.next().filter(|status| status.len() == 3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// Goal: a URL is an HTTP proxy's or is refused with the reason, and no password is shown. Method: rows.
    #[test]
    fn a_proxy_is_an_http_url_of_a_host() {
        check("http://proxy.example:3128", "http://proxy.example:3128");
        check("HTTP://proxy.example/", "http://proxy.example:80");
        check("http://[::1]:8080", "http://::1:8080");
        check("http://jane:hunter2@proxy:1", "http://[redacted]@proxy:1");
        check("socks5://proxy:1080", "has the scheme `socks5`, which is not served: only `http://` proxies are");
        check("https://proxy:1", "has the scheme `https`, which is not served: only `http://` proxies are");
        check("proxy:3128", "is not a proxy's URL: write `http://host:port`");
        check("http://:3128", "is not a proxy's URL: write `http://host:port`");
        check("http://proxy:0", "is not a proxy's URL: write `http://host:port`");
        check("http://proxy:99999", "is not a proxy's URL: write `http://host:port`");
        check("http://proxy:1/x", "has a path or a query, which a proxy's URL must not have: write `http://host:port`");
        let user_info =
            "has a user or password that cannot be read: write `http://user:password@host:port`, with `%40` for `@`";
        check("http://a:b%4@proxy:1", user_info);
        check("http://a:\u{e9}@proxy:1", user_info);
    }

    #[track_caller]
    fn check(url: &str, expected: &str) {
        let got = match Proxy::parse(url) {
            Ok(proxy) => format!("{proxy:?}"),
            Err(error) => error.to_string(),
        };
        assert_eq!(got, expected);
    }

    /// Goal: user and password arrive as `Basic`, escapes undone. Method: rows.
    #[test]
    fn user_and_password_are_basic_authorization() {
        for (url, expected) in
            [("http://jane:hunter2@p", "jane:hunter2"), ("http://jane@p", "jane:"), ("http://a%40b:c%3Ad@p", "a@b:c:d")]
        {
            let proxy = Proxy::parse(url).unwrap();
            let header = proxy.authorization.unwrap().into_exposed();
            assert_eq!(header, format!("Basic {}", STANDARD.encode(expected)));
        }
    }

    /// Goal: only a clean 2xx opens the way, and no answer is read without end. Method: a proxy's bytes a row.
    #[tokio::test]
    async fn only_a_clean_success_opens_the_way() {
        answer("HTTP/1.1 200 Connection established\r\n\r\n", "open").await;
        answer("HTTP/1.0 204\r\nx: y\r\n\r\n", "open").await;
        answer("HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 3\r\n\r\nno!", "the proxy answered 407")
            .await;
        answer("HTTP/1.1 200 OK\r\n\r\nmore", "the proxy sent more than its answer").await;
        answer("SSH-2.0-x\r\n\r\n", "the proxy's answer is not HTTP/1").await;
        answer("HTTP/1.1 20", "the proxy broke off").await;
        let endless = format!("HTTP/1.1 200 OK\r\nx: {}", "y".repeat(HEAD_BYTES_MAX));
        answer(&endless, "the proxy's answer has a head of more than 8192 bytes").await;
    }

    async fn answer(bytes: &str, expected: &str) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut tcp = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut peer, _) = listener.accept().await.unwrap();
        peer.write_all(bytes.as_bytes()).await.unwrap();
        peer.shutdown().await.unwrap();
        let target = Target::parse("https://[2001:db8::1]:6443").unwrap();
        let got = Proxy::parse("http://p").unwrap().connect(&mut tcp, &target).await;
        assert_eq!(got.map_or_else(|error| error.to_string(), |()| "open".to_owned()), expected, "{bytes}");
        let mut asked = vec![0; 256];
        let length = peer.read(&mut asked).await.unwrap();
        let asked = String::from_utf8_lossy(asked.get(..length).unwrap()).into_owned();
        assert_eq!(asked, "CONNECT [2001:db8::1]:6443 HTTP/1.1\r\nHost: [2001:db8::1]:6443\r\n\r\n");
    }
}
