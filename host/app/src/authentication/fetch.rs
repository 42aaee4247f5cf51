//! Fetching a key set over HTTP or HTTPS.
//!
//! One plain request on one connection of its own: no redirects (a key set must come
//! from where the operator said), no cookies, no proxy, no pool. The API servers'
//! connections are another matter and stand in `host/proxy`.

use std::sync::{Arc, OnceLock};

use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use witgate_core::{BoxError, BoxFuture};

use super::jwks::KEY_SET_BYTES_MAX;

/// Gets the bytes behind a URL.
pub(crate) trait FetchJwks: Send + Sync {
    /// The body of a 200. The caller bounds the wait.
    fn fetch<'a>(&'a self, url: &'a str) -> BoxFuture<'a, Result<Vec<u8>, BoxError>>;
}

/// Fetches over the network. HTTPS servers are believed by the system's certificate authorities.
#[derive(Default)]
pub(crate) struct HttpFetcher {
    tls: OnceLock<Arc<rustls::ClientConfig>>,
}

impl FetchJwks for HttpFetcher {
    fn fetch<'a>(&'a self, url: &'a str) -> BoxFuture<'a, Result<Vec<u8>, BoxError>> {
        Box::pin(async move { Ok(self.body(&JwksUrl::parse(url)?).await?) })
    }
}

impl HttpFetcher {
    /// Believes `tls`'s certificate authorities instead of the system's.
    #[cfg(test)]
    fn with_tls(tls: rustls::ClientConfig) -> Self {
        Self { tls: OnceLock::from(Arc::new(tls)) }
    }

    async fn body(&self, url: &JwksUrl) -> anyhow::Result<Vec<u8>> {
        let stream = TcpStream::connect((url.host.as_str(), url.port)).await?;
        if !url.encrypted {
            return exchange(stream, url).await;
        }
        let server = ServerName::try_from(url.host.clone())?;
        let stream = TlsConnector::from(self.tls()?).connect(server, stream).await?;
        exchange(stream, url).await
    }

    fn tls(&self) -> anyhow::Result<Arc<rustls::ClientConfig>> {
        if let Some(tls) = self.tls.get() {
            return Ok(Arc::clone(tls));
        }
        let mut roots = rustls::RootCertStore::empty();
        // Some of the system's certificates may not parse; that there are others is what counts.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        anyhow::ensure!(!roots.is_empty(), "the system has no certificate authorities to believe");
        let tls = client_config(roots)?;
        Ok(Arc::clone(self.tls.get_or_init(|| Arc::new(tls))))
    }
}

fn client_config(roots: rustls::RootCertStore) -> anyhow::Result<rustls::ClientConfig> {
    // Named, and not the process's default: what the default is depends on who else is linked in.
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

async fn exchange<S>(stream: S, url: &JwksUrl) -> anyhow::Result<Vec<u8>>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let request = http::Request::get(&url.path_and_query)
        .header(http::header::HOST, &url.authority)
        .header(http::header::ACCEPT, "application/json")
        .header(http::header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())?;
    let answer = async {
        let response = sender.send_request(request).await?;
        anyhow::ensure!(response.status() == http::StatusCode::OK, "answered {}, not 200", response.status());
        let bytes_max = usize::try_from(KEY_SET_BYTES_MAX)?;
        let body = Limited::new(response.into_body(), bytes_max).collect().await;
        Ok(body.map_err(|error| anyhow::anyhow!(error))?.to_bytes().to_vec())
    };
    // The connection is driven here and not by a task, so that it ends when this future does.
    let (mut answer, mut connection) = (std::pin::pin!(answer), std::pin::pin!(connection));
    tokio::select! {
        biased;
        result = &mut answer => result,
        // What it has delivered is still to be read; how it ended, the answer says too.
        _ = &mut connection => answer.await,
    }
}

/// A key set's URL, taken apart. `url` crates are not needed: an operator wrote it, and what is unusual is refused.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct JwksUrl {
    pub(super) encrypted: bool,
    /// Without the brackets of an IPv6 address.
    pub(super) host: String,
    port: u16,
    authority: String,
    path_and_query: String,
}

impl JwksUrl {
    /// Takes `url` apart.
    ///
    /// # Errors
    /// When it is not an absolute `http` or `https` URL, or holds a user or password.
    pub(super) fn parse(url: &str) -> anyhow::Result<Self> {
        let usable = || {
            let uri: http::Uri = url.parse().ok()?;
            let authority = uri.authority()?;
            let (encrypted, default_port) = match uri.scheme_str()? {
                "https" => (true, 443),
                "http" => (false, 80),
                _ => return None,
            };
            let host = authority.host().trim_start_matches('[').trim_end_matches(']');
            // An empty or unreadable port would silently be the default one.
            let port = match authority.as_str().strip_prefix(authority.host())? {
                "" => default_port,
                explicit => explicit.strip_prefix(':')?.parse().ok().filter(|port| *port > 0)?,
            };
            let path_and_query = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
            let authority = authority.as_str().to_owned();
            (!host.is_empty()).then(|| Self { encrypted, host: host.to_owned(), port, authority, path_and_query })
        };
        usable().ok_or_else(|| {
            anyhow::anyhow!("needed is `https://HOST[:PORT]/PATH`, or `http`, without user and password")
        })
    }

    /// Whether whoever is between the gate and the server could put keys of their own in.
    pub(super) fn is_exposed(&self) -> bool {
        let loopback = self.host.parse().map_or(self.host == "localhost", |ip: std::net::IpAddr| ip.is_loopback());
        !self.encrypted && !loopback
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    /// Goal: only a plain absolute URL is taken. Method: rows.
    #[test]
    fn a_url_is_absolute_and_without_a_password() {
        for (url, expected) in [
            ("https://id.example/keys?x=1", "true id.example 443 id.example /keys?x=1"),
            ("http://127.0.0.1:8080", "false 127.0.0.1 8080 127.0.0.1:8080 /"),
            ("http://[::1]:8080/k", "false ::1 8080 [::1]:8080 /k"),
            ("https://[::1]/k", "true ::1 443 [::1] /k"),
        ] {
            let JwksUrl { encrypted, host, port, authority, path_and_query } = JwksUrl::parse(url).unwrap();
            assert_eq!(format!("{encrypted} {host} {port} {authority} {path_and_query}"), expected);
        }
        for bad in [
            "",
            "keys.json",
            "/keys",
            "ftp://id.example/",
            "file:///keys",
            "https://u:p@id.example/",
            "https://u@id/",
            "https://id:/k",
            "https://id:x/k",
            "https://id:0/",
            "https://id:70000/",
            "https:///k",
            "//id.example/k",
        ] {
            assert!(JwksUrl::parse(bad).is_err(), "{bad}");
        }
        for (url, exposed) in [
            ("http://id.example/", true),
            ("http://10.0.0.1/", true),
            ("http://[::1]/", false),
            ("http://localhost/", false),
            ("https://id.example/", false),
        ] {
            assert_eq!(JwksUrl::parse(url).unwrap().is_exposed(), exposed, "{url}");
        }
    }

    /// Goal: the body of a 200 and nothing else. Method: rows of raw answers from a listener of our own.
    #[tokio::test]
    async fn only_a_small_200_is_taken() {
        check("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}", Ok("{}")).await;
        check("HTTP/1.1 200 OK\r\n\r\nuntil the end", Ok("until the end")).await;
        check("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", Ok("{}")).await;
        check("HTTP/1.1 302 Found\r\nlocation: http://other/\r\n\r\n", Err("answered 302 Found, not 200")).await;
        check("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n", Err("answered 404 Not Found, not 200")).await;
        check("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{}", Err("")).await;
        check("", Err("")).await;
        check("garbage\r\n\r\n", Err("")).await;
        let large = format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(1024 * 1024 + 1));
        check(&large, Err("length limit exceeded")).await;
    }

    async fn check(answer: &str, expected: Result<&str, &str>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/keys?a=b", listener.local_addr().unwrap());
        let serve = async {
            let (stream, _) = listener.accept().await.unwrap();
            serve_once(stream, answer).await
        };
        let fetcher = HttpFetcher::default();
        let (fetched, request) = tokio::join!(fetcher.fetch(&url), serve);
        assert!(request.starts_with("GET /keys?a=b HTTP/1.1\r\nhost: 127.0.0.1:"), "{request}");
        compare(fetched, expected);
    }

    #[track_caller]
    fn compare(fetched: Result<Vec<u8>, BoxError>, expected: Result<&str, &str>) {
        match (fetched, expected) {
            (Ok(body), Ok(expected)) => assert_eq!(String::from_utf8(body).unwrap(), expected),
            (Err(error), Err(expected)) => assert!(error.to_string().contains(expected), "{error}"),
            (got, expected) => panic!("{got:?}, not {expected:?}"),
        }
    }

    async fn serve_once(mut stream: impl AsyncRead + AsyncWrite + Unpin, answer: &str) -> String {
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            request.push(stream.read_u8().await.unwrap());
        }
        // The client may leave before it has read all.
        drop(stream.write_all(answer.as_bytes()).await);
        drop(stream.shutdown().await);
        String::from_utf8(request).unwrap()
    }

    /// Goal: a server is believed by its certificate. Method: one that the client's authorities vouch for, and one that they do not.
    #[tokio::test]
    async fn https_needs_a_certificate_that_is_believed() {
        let signed = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let key = rustls::pki_types::PrivateKeyDer::try_from(signed.signing_key.serialize_der()).unwrap();
        let server = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![signed.cert.der().clone()], key)
            .unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(server));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://localhost:{}/", listener.local_addr().unwrap().port());
        let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        for (root, expected) in [(&signed, Ok("{}")), (&other, Err("invalid peer certificate"))] {
            let mut roots = rustls::RootCertStore::empty();
            roots.add(root.cert.der().clone()).unwrap();
            let fetcher = HttpFetcher::with_tls(client_config(roots).unwrap());
            let serve = async {
                let (stream, _) = listener.accept().await.unwrap();
                if let Ok(stream) = acceptor.accept(stream).await {
                    serve_once(stream, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await;
                }
            };
            let (fetched, ()) = tokio::join!(fetcher.fetch(&url), serve);
            compare(fetched, expected);
        }
    }
}
