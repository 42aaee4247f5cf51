//! TLS on both legs: which certificates are shown and which are believed.
//!
//! Everything here works on PEM text that somebody else has read: files and their
//! changes are the control plane's.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use witgate_core::{BoxError, PrivateKeyPair};

use crate::upstream::ServerTrust;

/// How API servers' certificates are verified, for one cluster.
#[derive(Clone)]
pub(crate) struct ServerVerification(Arc<dyn ServerCertVerifier>);

impl ServerVerification {
    /// Believes the authorities of `trust`, or the system's.
    pub(crate) fn new(trust: ServerTrust) -> Result<Self, String> {
        if trust.skip_tls_verify {
            return Ok(Self(Arc::new(Unverified(provider().signature_verification_algorithms))));
        }
        let Some(pem) = trust.ca_data else { return Self::of_system() };
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&pem)? {
            roots.add(certificate).map_err(|error| error.to_string())?;
        }
        Self::of_roots(roots)
    }

    /// Believes the system's authorities. A thousand clusters that are made at once read and hold them once; what is made later
    /// finds what the system believes then.
    fn of_system() -> Result<Self, String> {
        static LAST: Mutex<Option<(Instant, ServerVerification)>> = Mutex::new(None);
        let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((read, verification)) = &*last
            && read.elapsed() < SYSTEM_BELIEVED
        {
            return Ok(verification.clone());
        }
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        let verification = if roots.is_empty() {
            // No error here: an https URL without caData then fails as untrusted.
            Self(Arc::new(NothingTrusted(provider().signature_verification_algorithms)))
        } else {
            Self::of_roots(roots)?
        };
        *last = Some((Instant::now(), verification.clone()));
        Ok(verification)
    }

    fn of_roots(roots: RootCertStore) -> Result<Self, String> {
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider());
        Ok(Self(verifier.build().map_err(|error| error.to_string())?))
    }

    /// A configuration that shows `identity`'s certificate, with a resumption store of its own.
    pub(crate) fn client_config(&self, identity: Option<&PrivateKeyPair>) -> Result<ClientConfig, BoxError> {
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(&self.0));
        match identity {
            None => Ok(builder.with_no_client_auth()),
            Some(pair) => {
                let chain = certificates(&pair.certificate)?;
                // The parser's error may quote the key's text.
                let key = PrivateKeyDer::from_pem_slice(pair.key.expose().as_bytes())
                    .map_err(|_| "the key is not a PEM private key")?;
                Ok(builder.with_client_auth_cert(chain, key)?)
            }
        }
    }
}

/// For how long the system's authorities are taken to be what they were: about what a start takes.
const SYSTEM_BELIEVED: Duration = Duration::from_secs(10);

/// What a listener shows and whom it believes, as PEM.
pub struct ServerTls<'a> {
    /// Its certificate chain, leaf first.
    pub certificate: &'a str,
    /// The leaf's private key.
    pub key: &'a str,
    /// The authorities of client certificates; without them none is asked for.
    pub client_ca: Option<&'a str>,
}

impl ServerTls<'_> {
    /// The listener's configuration: HTTP/2 and HTTP/1.1 by ALPN, a client certificate asked for but not demanded.
    ///
    /// # Errors
    /// When a text is not PEM, or key and certificate do not belong together. Holds no part of the key.
    pub fn server_config(&self) -> Result<ServerConfig, BoxError> {
        let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
        let builder = match self.client_ca {
            None => builder.with_no_client_auth(),
            Some(pem) => {
                let mut roots = RootCertStore::empty();
                for certificate in certificates(pem)? {
                    roots.add(certificate)?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
                    .allow_unauthenticated()
                    .build()?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let chain = certificates(self.certificate)?;
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).map_err(|_| "the key is not a PEM private key")?;
        let mut config = builder.with_single_cert(chain, key)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }
}

fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|_| "not PEM certificates".to_owned())?;
    if certificates.is_empty() { Err("no PEM certificate in it".to_owned()) } else { Ok(certificates) }
}

fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: std::sync::LazyLock<Arc<CryptoProvider>> =
        std::sync::LazyLock::new(|| Arc::new(aws_lc_rs::default_provider()));
    Arc::clone(&PROVIDER)
}

/// `skipTLSVerify`: takes any certificate; the handshake's signatures are still checked.
#[derive(Debug)]
struct Unverified(WebPkiSupportedAlgorithms);

/// No authority is known, so no certificate is believed.
#[derive(Debug)]
struct NothingTrusted(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signature, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

impl ServerCertVerifier for NothingTrusted {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Err(rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer))
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer))
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: clusters that are made at once share the system's authorities, and no others. Method: what two hold is the same object.
    #[test]
    fn the_systems_authorities_are_held_once() {
        let verification = |ca_data| ServerVerification::new(ServerTrust { ca_data, skip_tls_verify: false }).unwrap();
        let (one, other) = (verification(None), verification(None));
        assert!(Arc::ptr_eq(&one.0, &other.0));
        let authority = rcgen::generate_simple_self_signed(["authority".to_owned()]).unwrap().cert.pem();
        assert!(!Arc::ptr_eq(&one.0, &verification(Some(authority)).0));
    }
}
