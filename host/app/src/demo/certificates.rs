//! Certificates for the demo: one small authority a server, made at each start and kept nowhere but in its folder.

use anyhow::Context;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use witgate_core::Redacted;

/// A server's certificate with the authority that issued it, all as PEM.
#[derive(Clone, Debug)]
pub(crate) struct ServerCertificate {
    /// What a client must trust.
    pub(crate) authority: String,
    /// What the server shows.
    pub(crate) certificate: String,
    /// The certificate's key.
    pub(crate) key: Redacted<String>,
}

impl ServerCertificate {
    /// Makes an authority called `name` and one certificate for `hosts` (names and IP addresses).
    pub(crate) fn generate(name: &str, hosts: &[String]) -> anyhow::Result<Self> {
        let make = || {
            let mut authority = CertificateParams::new(Vec::new())?;
            authority.distinguished_name.push(DnType::CommonName, format!("{name} authority"));
            authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
            authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
            set_validity(&mut authority);
            let authority_key = KeyPair::generate()?;
            let authority_certificate = authority.self_signed(&authority_key)?;
            let issuer = Issuer::new(authority, authority_key);

            let mut server = CertificateParams::new(hosts)?;
            server.distinguished_name.push(DnType::CommonName, name);
            server.use_authority_key_identifier_extension = true;
            server.key_usages = vec![KeyUsagePurpose::DigitalSignature];
            server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
            set_validity(&mut server);
            let key = KeyPair::generate()?;
            let certificate = server.signed_by(&key, &issuer)?;
            Ok::<_, rcgen::Error>(Self {
                authority: authority_certificate.pem(),
                certificate: certificate.pem(),
                key: Redacted::new(key.serialize_pem()),
            })
        };
        make().with_context(|| format!("no certificate could be made for {name} ({})", hosts.join(", ")))
    }

    /// The TLS side of a server that shows this certificate, for HTTP/2 and HTTP/1.1.
    pub(crate) fn tls(&self) -> anyhow::Result<rustls::ServerConfig> {
        let chain = CertificateDer::pem_slice_iter(self.certificate.as_bytes()).collect::<Result<_, _>>()?;
        let key = PrivateKeyDer::from_pem_slice(self.key.expose().as_bytes())?;
        let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, key)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }
}

/// From yesterday, for clocks that differ, to a month on: the demo makes new ones at each start.
fn set_validity(certificate: &mut CertificateParams) {
    let day = |offset: i64| {
        let time = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(24 * offset);
        let date = time.to_zoned(jiff::tz::TimeZone::UTC).date();
        rcgen::date_time_ymd(date.year().into(), date.month().unsigned_abs(), date.day().unsigned_abs())
    };
    certificate.not_before = day(-1);
    certificate.not_after = day(30);
}
