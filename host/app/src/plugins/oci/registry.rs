//! Asks a registry for a manifest and a component: the pull half of OCI's distribution specification, over HTTPS alone.
//!
//! A registry is a stranger with a name: what it sends is bounded and believed by digest only. It may say where a token is to be had and
//! where a component lies, both by HTTPS; our credential goes to it and to whom it names for tokens, a token to its own
//! address and to no other.
//!
//! Our own and no client library's: those that there are read manifests, tokens and error texts without a bound, and send
//! credentials to whatever address a registry names, in the clear too.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, bail, ensure};
use http::header::{ACCEPT, AUTHORIZATION, CONNECTION, HOST, LOCATION, USER_AGENT, WWW_AUTHENTICATE};
use http::uri::Authority;
use http::{HeaderMap, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Body as _, Bytes, Incoming};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio_rustls::TlsConnector;
use witgate_core::Redacted;

use super::challenge::Challenge;
use super::credentials;
use super::manifest::{ACCEPTED, Artifact, MANIFEST_BYTES_MAX};
use super::reference::{Reference, Sha256};
use crate::config;

/// How registries are asked.
#[derive(Debug)]
pub(super) struct Registries<'a> {
    /// Docker's `config.json`.
    pub(super) credentials_file: Option<&'a Path>,
    /// The authorities that registries' certificates chain to, instead of the system's.
    pub(super) ca_file: Option<&'a Path>,
}

/// One registry, while one artifact is fetched.
pub(super) struct Session<'a> {
    reference: &'a Reference,
    credentials_file: Option<&'a Path>,
    tls: Arc<rustls::ClientConfig>,
    /// What the registry wants to see with each request, once it has said so.
    authorization: Option<Redacted<String>>,
}

impl<'a> Registries<'a> {
    /// Prepares to fetch `reference`.
    ///
    /// # Errors
    /// When the authorities cannot be read or used.
    pub(super) fn session(&self, reference: &'a Reference) -> anyhow::Result<Session<'a>> {
        let mut roots = rustls::RootCertStore::empty();
        match self.ca_file {
            Some(file) => {
                let context = || format!("`caFile`, {}", file.display());
                let pem =
                    config::certificate_authorities(file).map_err(|why| anyhow::anyhow!(why)).with_context(context)?;
                for certificate in rustls::pki_types::pem::PemObject::pem_slice_iter(pem.as_bytes()) {
                    let certificate: rustls::pki_types::CertificateDer<'_> = certificate.with_context(context)?;
                    roots.add(certificate).with_context(context)?;
                }
            }
            None => {
                // Some of the system's certificates may not parse; that there are others is what counts.
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
                ensure!(
                    !roots.is_empty(),
                    "the system has no certificate authorities to believe; give `registry.caFile`"
                );
            }
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Session { reference, credentials_file: self.credentials_file, tls: Arc::new(tls), authorization: None })
    }
}

impl Session<'_> {
    /// The manifest, as its digest promises it.
    ///
    /// # Errors
    /// When the registry does not give it.
    pub(super) async fn manifest(&mut self) -> anyhow::Result<Vec<u8>> {
        let Reference { repository, digest, .. } = self.reference;
        let bytes = self.get(&format!("/v2/{repository}/manifests/{digest}"), "manifest", MANIFEST_BYTES_MAX).await?;
        verified(bytes, digest, "manifest")
    }

    /// The component, as the manifest promises it.
    ///
    /// # Errors
    /// When the registry does not give it.
    pub(super) async fn component(&mut self, artifact: &Artifact) -> anyhow::Result<Vec<u8>> {
        let path = format!("/v2/{}/blobs/{}", self.reference.repository, artifact.digest);
        let bytes = self.get(&path, "component", artifact.size).await?;
        verified(bytes, &artifact.digest, "component")
    }

    /// The body of a 200, after what it takes to get there.
    async fn get(&mut self, path: &str, what: &str, bytes_max: u64) -> anyhow::Result<Vec<u8>> {
        let registry: Uri = format!("https://{}{path}", self.reference.registry).parse()?;
        let mut uri = registry.clone();
        let mut asked_for_authorization = false;
        for _ in 0..=REDIRECTS_MAX + 1 {
            // Another host is not the registry that we are known to.
            let at_registry = uri.authority() == registry.authority();
            let authorization = self.authorization.as_ref().filter(|_| at_registry);
            let answer = self.send(&uri, authorization, Some(ACCEPTED)).await?;
            match answer.status {
                StatusCode::OK => return answer.body(what, bytes_max).await,
                StatusCode::UNAUTHORIZED if at_registry && !asked_for_authorization => {
                    asked_for_authorization = true;
                    self.authorization = Some(self.authorize(&answer.headers).await?);
                }
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => bail!(
                    "{} answers {} for the {what}: give a credential that may pull it, in `plugins.registry.credentialsFile`",
                    host(&uri),
                    answer.status.as_u16()
                ),
                StatusCode::NOT_FOUND => bail!(
                    "{} has no such {what}: push it there, or correct the repository and digest of `ref`",
                    host(&uri)
                ),
                StatusCode::MOVED_PERMANENTLY
                | StatusCode::FOUND
                | StatusCode::SEE_OTHER
                | StatusCode::TEMPORARY_REDIRECT
                | StatusCode::PERMANENT_REDIRECT => uri = redirected(&uri, &answer.headers)?,
                status => bail!("{} answers {} for the {what}", host(&uri), status.as_u16()),
            }
        }
        bail!("{} redirects more than {REDIRECTS_MAX} times", host(&registry))
    }

    /// What the registry wants to see, by its challenge.
    async fn authorize(&self, headers: &HeaderMap) -> anyhow::Result<Redacted<String>> {
        let Reference { registry, repository, .. } = self.reference;
        let basic = match self.credentials_file {
            Some(file) => credentials::basic(file, registry)?,
            None => None,
        };
        let challenges = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
        let challenge = challenges.filter_map(Challenge::parse).next();
        let (realm, service) = match challenge {
            Some(Challenge::Bearer { realm, service }) => (realm, service),
            Some(Challenge::Basic) => return basic.with_context(|| no_credential(registry)),
            None => bail!("{registry} answers 401 and does not say how to authenticate"),
        };
        let scope = format!("repository:{repository}:pull");
        let service = service.map_or_else(String::new, |service| format!("&service={}", encoded(&service)));
        let separator = if realm.contains('?') { '&' } else { '?' };
        let uri: Uri = format!("{realm}{separator}scope={}{service}", encoded(&scope))
            .parse()
            .with_context(|| format!("{registry} names a place for tokens that is no URL"))?;
        ensure!(
            uri.scheme_str() == Some("https")
                && uri.authority().is_some_and(|authority| !authority.as_str().contains('@')),
            "{registry} names a place for tokens that is not `https://HOST/…`: nothing is sent there"
        );
        let answer = self.send(&uri, basic.as_ref(), None).await?;
        match answer.status {
            StatusCode::OK => {}
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN if basic.is_none() => bail!(no_credential(registry)),
            status => bail!("{}, where {registry} gives tokens out, answers {}", host(&uri), status.as_u16()),
        }
        let body = answer.body("token", TOKEN_BYTES_MAX).await?;
        // What serde says of it could repeat it.
        let token: Token = serde_json::from_slice(&body)
            .map_err(|_| anyhow::anyhow!("{}, where {registry} gives tokens out, gives none", host(&uri)))?;
        let token = token.token.or(token.access_token).context("the registry's token is missing")?;
        Ok(Redacted::new(format!("Bearer {}", token.expose())))
    }

    /// One request on a connection of its own.
    async fn send(
        &self,
        uri: &Uri,
        authorization: Option<&Redacted<String>>,
        accept: Option<&'static str>,
    ) -> anyhow::Result<Answer> {
        let context = || format!("cannot reach {}", host(uri));
        let authority = uri.authority().context("a URL without a host")?;
        let bare = authority.host().trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(bare.to_owned()).with_context(context)?;
        let stream =
            TcpStream::connect((bare, authority.port_u16().unwrap_or(HTTPS_PORT))).await.with_context(context)?;
        let stream = TlsConnector::from(Arc::clone(&self.tls)).connect(name, stream).await.with_context(context)?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.with_context(context)?;
        // Ended with the answer, however far it was read.
        let connection = tokio::spawn(async move {
            let _ = connection.await; // what broke, the answer says too
        });
        let connection = AbortOnDrop(connection.abort_handle());
        let mut request = Request::get(uri.path_and_query().map_or("/", |path| path.as_str()))
            .header(HOST, authority.as_str())
            .header(CONNECTION, "close")
            .header(USER_AGENT, concat!("witgate/", env!("CARGO_PKG_VERSION")));
        if let Some(accept) = accept {
            request = request.header(ACCEPT, accept);
        }
        if let Some(authorization) = authorization {
            let mut value = http::HeaderValue::from_str(authorization.expose())
                .map_err(|_| anyhow::anyhow!("the credential or token cannot stand in a header"))?;
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        let response = sender.send_request(request.body(Empty::<Bytes>::new())?).await.with_context(context)?;
        let (head, body) = response.into_parts();
        Ok(Answer {
            status: head.status,
            headers: head.headers,
            body,
            host: host(uri).to_owned(),
            _connection: connection,
        })
    }
}

/// An answer whose body was not read yet.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Incoming,
    host: String,
    _connection: AbortOnDrop,
}

impl Answer {
    /// The whole body, if it has no more than `bytes_max`.
    async fn body(mut self, what: &str, bytes_max: u64) -> anyhow::Result<Vec<u8>> {
        let host = &self.host;
        let too_large = || format!("{host} sends a {what} of more than {bytes_max} bytes");
        // What is announced is refused before it comes.
        ensure!(self.body.size_hint().lower() <= bytes_max, too_large());
        let mut bytes = Vec::new();
        while let Some(frame) = self.body.frame().await {
            let frame = frame.with_context(|| format!("{host} broke off while it sent the {what}"))?;
            let Ok(data) = frame.into_data() else { continue };
            ensure!(bytes.len() as u64 + data.len() as u64 <= bytes_max, too_large());
            bytes.extend_from_slice(&data);
        }
        Ok(bytes)
    }
}

/// Ends a task when it is dropped.
struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[derive(Deserialize)]
struct Token {
    token: Option<Redacted<String>>,
    access_token: Option<Redacted<String>>,
}

fn verified(bytes: Vec<u8>, digest: &Sha256, what: &str) -> anyhow::Result<Vec<u8>> {
    ensure!(
        digest.matches(&bytes),
        "the {what} that came has the digest sha256:{}, not the {digest} that was asked for: it is not used",
        witgate_core::Digest::of(&bytes)
    );
    Ok(bytes)
}

/// Where a redirect leads. Only by HTTPS: what is fetched is believed by digest, but who asks for it should not be seen.
fn redirected(from: &Uri, headers: &HeaderMap) -> anyhow::Result<Uri> {
    let context = || format!("{} redirects to what is not `https://HOST/…`", host(from));
    let location = headers.get(LOCATION).and_then(|value| value.to_str().ok()).with_context(context)?;
    let to: Uri = match (location.strip_prefix('/'), from.authority()) {
        (Some(rest), Some(authority)) if !rest.starts_with('/') => format!("https://{authority}/{rest}").parse(),
        _ => location.parse(),
    }
    .with_context(context)?;
    let is_good =
        to.scheme_str() == Some("https") && to.authority().is_some_and(|authority| !authority.as_str().contains('@'));
    ensure!(is_good, context());
    Ok(to)
}

fn no_credential(registry: &str) -> String {
    format!("{registry} asks for a credential, and `plugins.registry.credentialsFile` has none for it")
}

fn host(uri: &Uri) -> &str {
    uri.authority().map_or("", Authority::as_str)
}

/// Percent-encoded for a query's value.
fn encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(char::from(byte)),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

const HTTPS_PORT: u16 = 443;
/// How often one request may be sent elsewhere: a registry's storage is one step away.
const REDIRECTS_MAX: usize = 3;
/// The largest token that is taken.
const TOKEN_BYTES_MAX: u64 = 64 << 10;
