//! Posts one body to an OTLP receiver: a connection a post, believed by the authorities of the configuration.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use http::header::{ACCEPT, CONNECTION, CONTENT_TYPE, HOST, HeaderValue};
use http::{HeaderName, Request};
use http_body_util::Full;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use witgate_core::Redacted;

use crate::config::TelemetryConfig;

/// Where traces and metrics are posted.
pub(super) struct Receiver {
    host: String,
    port: u16,
    authority: String,
    /// Before `/v1/…`.
    path: String,
    headers: Vec<(HeaderName, Redacted<String>)>,
    tls: Option<Arc<rustls::ClientConfig>>,
}

impl Receiver {
    pub(super) fn new(config: &TelemetryConfig) -> anyhow::Result<Self> {
        let uri: http::Uri = config.endpoint.parse().context("`telemetry.otlp.endpoint`")?;
        let authority = uri.authority().context("`telemetry.otlp.endpoint` names no host")?;
        let secure = uri.scheme_str() == Some("https");
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = authority.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let tls = if secure { Some(Arc::new(client_config(config.certificate_authorities.as_deref())?)) } else { None };
        let path = uri.path().trim_end_matches('/').to_owned();
        let (authority, headers) = (authority.as_str().to_owned(), config.headers.clone());
        Ok(Self { host, port, authority, path, headers, tls })
    }

    /// Posts `body`, and waits until it is taken.
    ///
    /// # Errors
    /// When it is not, or not within the timeout.
    pub(super) async fn post(&self, path: &str, body: Vec<u8>) -> anyhow::Result<()> {
        match tokio::time::timeout(POST_TIMEOUT, self.post_without_limit(path, body)).await {
            Ok(posted) => posted,
            Err(_) => bail!("the OTLP receiver did not answer within {POST_TIMEOUT:?}"),
        }
    }

    async fn post_without_limit(&self, path: &str, body: Vec<u8>) -> anyhow::Result<()> {
        let mut request = Request::post(format!("{}{path}", self.path))
            .header(HOST, &self.authority)
            .header(ACCEPT, "application/json")
            .header(CONTENT_TYPE, "application/json")
            .header(CONNECTION, "close");
        for (name, value) in &self.headers {
            let mut value = HeaderValue::from_str(value.expose())
                .map_err(|_| anyhow::anyhow!("the value of the header `{name}` cannot be sent"))?;
            value.set_sensitive(true);
            request = request.header(name, value);
        }
        let request = request.body(Full::new(Bytes::from(body)))?;
        let stream =
            TcpStream::connect((self.host.as_str(), self.port)).await.context("no connection to the OTLP receiver")?;
        match &self.tls {
            None => exchange(stream, request).await,
            Some(tls) => {
                let name = ServerName::try_from(self.host.clone())?;
                let stream = TlsConnector::from(Arc::clone(tls)).connect(name, stream).await;
                exchange(stream.context("no trusted TLS connection to the OTLP receiver")?, request).await
            }
        }
    }
}

async fn exchange<S>(stream: S, request: Request<Full<Bytes>>) -> anyhow::Result<()>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let answer = async {
        let status = sender.send_request(request).await?.status();
        ensure!(status.is_success(), "the OTLP receiver answered {status}");
        Ok(())
    };
    // The connection is driven here and not by a task, so that it ends when this future does.
    let (mut answer, mut connection) = (std::pin::pin!(answer), std::pin::pin!(connection));
    tokio::select! {
        biased;
        result = &mut answer => result,
        _ = &mut connection => answer.await,
    }
}

fn client_config(authorities: Option<&str>) -> anyhow::Result<rustls::ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    match authorities {
        Some(pem) => {
            for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
                roots.add(certificate.context("`telemetry.otlp.caFile`")?)?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    ensure!(!roots.is_empty(), "there are no certificate authorities to believe the OTLP receiver by");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// How long a post may take, its connection included.
const POST_TIMEOUT: Duration = Duration::from_secs(10);
