//! Asks the admin routes of a gate that runs: on its address, on its socket, or with a certificate.
//!
//! One request on one connection of its own, bounded in time and size. Who asks is on the gate's own
//! machine or holds a certificate, so there are no redirects, no proxy and no pool.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use anyhow::Context as _;
use http::StatusCode;
use http::uri::Authority;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

/// Where a gate's admin listener is, and how it is asked.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct AdminOptions {
    /// The gate's `admin`: IP:port, unix:PATH, or https://HOST:PORT where it wants certificates
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7008", env = "WITGATE_ADMIN")]
    admin: Endpoint,
    /// For https: the authority of the gate's certificate (PEM)
    #[arg(long, value_name = "FILE", env = "WITGATE_ADMIN_CA_FILE")]
    ca_file: Option<PathBuf>,
    /// For https: the certificate to show (PEM)
    #[arg(long, value_name = "FILE", requires = "key_file", env = "WITGATE_ADMIN_CERT_FILE")]
    cert_file: Option<PathBuf>,
    /// For https: its private key (PEM)
    #[arg(long, value_name = "FILE", requires = "cert_file", env = "WITGATE_ADMIN_KEY_FILE")]
    key_file: Option<PathBuf>,
    /// For https: what the gate's certificate names, where that is not HOST
    #[arg(long, value_name = "NAME", env = "WITGATE_ADMIN_SERVER_NAME")]
    server_name: Option<String>,
}

/// Where an admin listener is.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Endpoint {
    Tcp(Authority),
    Unix(PathBuf),
    Tls(Authority),
}

/// An answer of an admin route.
#[derive(Debug)]
pub(crate) struct AdminAnswer {
    /// Its status.
    pub(crate) status: StatusCode,
    /// Its whole body.
    pub(crate) body: String,
}

/// One whose body is not read yet. Its connection ends with it.
#[derive(Debug)]
pub(crate) struct OpenAnswer {
    response: http::Response<Incoming>,
    _connection: JoinSet<()>,
}

impl AdminOptions {
    /// Where it is, as the user wrote it.
    pub(crate) fn place(&self) -> String {
        self.admin.to_string()
    }

    /// The answer to `GET path`. The caller bounds the wait.
    ///
    /// # Errors
    /// When nobody answers there, or not as an admin listener does.
    pub(crate) async fn get(&self, path: &str) -> anyhow::Result<AdminAnswer> {
        self.open(path).await?.whole().await.with_context(|| self.unreached())
    }

    /// The same, as soon as it begins: for answers that go on.
    ///
    /// # Errors
    /// When none begins.
    pub(crate) async fn open(&self, path: &str) -> anyhow::Result<OpenAnswer> {
        let unreached = || self.unreached();
        match &self.admin {
            Endpoint::Tcp(authority) => {
                let stream = TcpStream::connect(authority.as_str()).await.with_context(unreached)?;
                OpenAnswer::of(stream, authority.as_str(), path).await.with_context(unreached)
            }
            Endpoint::Unix(socket) => {
                let stream = UnixStream::connect(socket).await.with_context(unreached)?;
                OpenAnswer::of(stream, "localhost", path).await.with_context(unreached)
            }
            Endpoint::Tls(authority) => {
                let name = self.server_name.as_deref().unwrap_or_else(|| bare(authority.host()));
                let name = ServerName::try_from(name.to_owned())
                    .with_context(|| format!("`{name}` is neither a DNS name nor an IP address"))?;
                let connector = TlsConnector::from(Arc::new(self.tls()?));
                let stream = TcpStream::connect(authority.as_str()).await.with_context(unreached)?;
                let stream = connector.connect(name, stream).await.with_context(unreached)?;
                OpenAnswer::of(stream, authority.as_str(), path).await.with_context(unreached)
            }
        }
    }

    fn unreached(&self) -> String {
        format!("cannot ask {}; is it `admin` in the gate's witgate.yaml?", self.admin)
    }

    fn tls(&self) -> anyhow::Result<rustls::ClientConfig> {
        let (Some(ca_file), Some(cert_file), Some(key_file)) = (&self.ca_file, &self.cert_file, &self.key_file) else {
            anyhow::bail!("{} is asked with a certificate: give --ca-file, --cert-file and --key-file", self.admin);
        };
        let mut roots = rustls::RootCertStore::empty();
        for certificate in certificates(ca_file)? {
            roots.add(certificate).with_context(|| format!("cannot use {}", ca_file.display()))?;
        }
        let key = PrivateKeyDer::from_pem_file(key_file)
            .map_err(|error| anyhow::anyhow!("{} holds no private key as PEM: {error}", key_file.display()))?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_client_auth_cert(certificates(cert_file)?, key)
            .with_context(|| format!("cannot use {} with {}", cert_file.display(), key_file.display()))
    }
}

fn certificates(file: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let read = || CertificateDer::pem_file_iter(file)?.collect::<Result<Vec<_>, _>>();
    let certificates =
        read().map_err(|error| anyhow::anyhow!("{} holds no certificates as PEM: {error}", file.display()))?;
    anyhow::ensure!(!certificates.is_empty(), "{} holds no certificate as PEM", file.display());
    Ok(certificates)
}

impl OpenAnswer {
    async fn of<S>(stream: S, host: &str, path: &str) -> anyhow::Result<Self>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let mut connections = JoinSet::new();
        // How it ended, the answer says too.
        connections.spawn(async { drop(connection.await) });
        let request = http::Request::get(path)
            .header(http::header::HOST, host)
            .header(http::header::CONNECTION, "close")
            .body(Empty::<Bytes>::new())?;
        Ok(Self { response: sender.send_request(request).await?, _connection: connections })
    }

    /// Its status.
    pub(crate) fn status(&self) -> StatusCode {
        self.response.status()
    }

    /// The next piece of its body; none at its end.
    ///
    /// # Errors
    /// When it breaks off.
    pub(crate) async fn piece(&mut self) -> Option<anyhow::Result<Bytes>> {
        loop {
            match self.response.body_mut().frame().await? {
                Ok(frame) => match frame.into_data() {
                    Ok(data) => return Some(Ok(data)),
                    Err(_trailers) => {}
                },
                Err(error) => return Some(Err(error.into())),
            }
        }
    }

    async fn whole(self) -> anyhow::Result<AdminAnswer> {
        // The connection is needed to the end.
        let Self { response, _connection } = self;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|error| anyhow::anyhow!(error))?.to_bytes();
        Ok(AdminAnswer { status, body: String::from_utf8_lossy(&body).into_owned() })
    }
}

/// A host without the brackets of an IPv6 address.
fn bare(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches(']')
}

impl FromStr for Endpoint {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const EXPECTED: &str =
            "write IP:port, such as `127.0.0.1:7008`, `unix:/run/witgate/admin.sock`, or `https://HOST:PORT`";
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return if path.is_empty() { Err(EXPECTED) } else { Ok(Self::Unix(path.into())) };
        }
        let (authority, is_tls) = match text.strip_prefix("https://") {
            Some(authority) => (authority.trim_end_matches('/'), true),
            None => (text, false),
        };
        let authority: Authority = authority.parse().map_err(|_| EXPECTED)?;
        if authority.port_u16().is_none_or(|port| port == 0) || authority.host().is_empty() || text.contains('@') {
            return Err(EXPECTED);
        }
        Ok(if is_tls { Self::Tls(authority) } else { Self::Tcp(authority) })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(authority) => authority.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tls(authority) => write!(f, "https://{authority}"),
        }
    }
}

/// The largest answer that is read: `/status` of a gate with thousands of clusters takes some MiB.
const ANSWER_BYTES_MAX: usize = 64 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: an address is what `admin` may be, and nothing that only looks like it. Method: rows.
    #[test]
    fn an_address_is_one_of_three() {
        for text in [
            "127.0.0.1:7008",
            "[::1]:7008",
            "localhost:7008",
            "unix:/run/witgate/admin.sock",
            "https://gate.example:7008",
        ] {
            assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), text);
        }
        assert_eq!("unix:///run/x".parse::<Endpoint>().unwrap().to_string(), "unix:/run/x");
        assert_eq!("https://gate.example:7008/".parse::<Endpoint>().unwrap().to_string(), "https://gate.example:7008");
        for bad in [
            "",
            "127.0.0.1",
            "127.0.0.1:0",
            "127.0.0.1:x",
            "unix:",
            "https://gate.example",
            "http://127.0.0.1:7008",
            "https://u@gate.example:1",
            "https://gate.example:1/x",
            ":7008",
        ] {
            assert!(bad.parse::<Endpoint>().is_err(), "{bad}");
        }
    }

    /// Goal: an answer without end does not fill the memory. Method: a listener that sends more than the limit.
    #[tokio::test]
    async fn an_answer_is_bounded() {
        let (near, far) = tokio::io::duplex(1 << 16);
        let endless = async move {
            use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
            let (mut read, mut write) = tokio::io::split(far);
            assert!(read.read(&mut [0; 1024]).await.unwrap() > 0, "it asks first");
            let written = async {
                write.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
                loop {
                    write.write_all(&[b'x'; 1 << 16]).await?;
                }
                #[expect(unreachable_code, reason = "it names the type of the error")]
                Ok::<_, std::io::Error>(())
            };
            assert!(written.await.is_err(), "the asker left");
            drop(read);
        };
        let asked = async { OpenAnswer::of(near, "localhost", "/status").await?.whole().await };
        let (answer, ()) = tokio::join!(asked, endless);
        assert_eq!(answer.unwrap_err().to_string(), "length limit exceeded");
    }
}
