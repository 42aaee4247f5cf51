//! A certificate authority of a test's own, with the certificates that it signs.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::{ClientConfig, RootCertStore, ServerConfig, server::WebPkiClientVerifier};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::secrets;

/// The protocols that a TLS peer offers, best first.
pub const HTTP2_AND_HTTP1: [&str; 2] = ["h2", "http/1.1"];

/// A certificate authority.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
}

/// A certificate with its key.
pub struct Identity {
    certificate: rcgen::Certificate,
    key: KeyPair,
}

impl Authority {
    /// A new authority.
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Self { issuer: Issuer::new(params, key), certificate: certificate.into() }
    }

    /// The authority whose certificate and key somebody else made.
    pub fn of_pem(certificate: &str, key: &str) -> Self {
        use rustls_pki_types::pem::PemObject as _;
        let der = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
        let issuer = Issuer::from_ca_cert_der(&der, KeyPair::from_pem(key).unwrap()).unwrap();
        Self { issuer, certificate: der }
    }

    /// The same authority once more, for another owner.
    pub fn again(&self) -> Self {
        Self::of_pem(&self.pem(), &self.issuer.key().serialize_pem())
    }

    /// The authority's own certificate.
    pub fn pem(&self) -> String {
        pem_of(&self.certificate)
    }

    /// A certificate for a server on 127.0.0.1.
    pub fn server(&self) -> Identity {
        self.server_named(&["127.0.0.1", "localhost"])
    }

    /// A certificate for a server of these names.
    pub fn server_named(&self, names: &[&str]) -> Identity {
        let mut params =
            CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.sign(params)
    }

    /// A certificate for a client: `user` is its common name, `groups` its organizations.
    pub fn client(&self, user: &str, groups: &[&str]) -> Identity {
        self.sign(Self::client_params(user, groups))
    }

    /// A certificate for a client that is good until a time, in whole seconds.
    pub fn client_until(&self, user: &str, groups: &[&str], until: SystemTime) -> Identity {
        let seconds = until.duration_since(UNIX_EPOCH).unwrap().as_secs();
        let mut params = Self::client_params(user, groups);
        params.not_after = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds);
        self.sign(params)
    }

    fn client_params(user: &str, groups: &[&str]) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        // rcgen keeps one value a type, so one certificate has one group here.
        for group in groups {
            params.distinguished_name.push(DnType::OrganizationName, *group);
        }
        params.distinguished_name.push(DnType::CommonName, user);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params
    }

    fn sign(&self, params: CertificateParams) -> Identity {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let identity = Identity { certificate, key };
        // The key's own bytes: the first line of a PEM is the same for all keys of a kind.
        let pem = identity.key_pem();
        let line = pem.lines().nth(2).expect("a private key is longer than a line");
        secrets::register("private key of a certificate", line);
        identity
    }

    fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        Arc::new(roots)
    }
}

impl Identity {
    /// The certificate.
    pub fn certificate_pem(&self) -> String {
        self.certificate.pem()
    }

    /// Its private key.
    pub fn key_pem(&self) -> String {
        self.key.serialize_pem()
    }

    /// The certificate as a TLS peer sees it.
    pub fn certificate_der(&self) -> CertificateDer<'static> {
        self.certificate.der().clone()
    }

    fn key_der(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key.serialize_der()).into()
    }
}

fn pem_of(certificate: &CertificateDer<'_>) -> String {
    use base64::Engine as _;
    let digits = base64::engine::general_purpose::STANDARD.encode(certificate);
    let lines: Vec<_> = digits.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).expect("ASCII")).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

/// A server's TLS that asks clients for a certificate of `clients_of` and takes those without one too, as an API server does.
pub fn server_tls_asking(identity: &Identity, clients_of: &Authority, protocols: &[&str]) -> Arc<ServerConfig> {
    let verifier = WebPkiClientVerifier::builder_with_provider(clients_of.roots(), provider());
    let verifier = verifier.allow_unauthenticated().build().unwrap();
    let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().unwrap();
    let builder = builder.with_client_cert_verifier(verifier);
    let mut config = builder.with_single_cert(vec![identity.certificate_der()], identity.key_der()).unwrap();
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    Arc::new(config)
}

/// A server's TLS: its own identity, and whose clients must show a certificate, if any.
pub fn server_tls(identity: &Identity, clients_of: Option<&Authority>, protocols: &[&str]) -> Arc<ServerConfig> {
    let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().unwrap();
    let builder = match clients_of {
        None => builder.with_no_client_auth(),
        Some(authority) => builder.with_client_cert_verifier(
            WebPkiClientVerifier::builder_with_provider(authority.roots(), provider()).build().unwrap(),
        ),
    };
    let mut config = builder.with_single_cert(vec![identity.certificate_der()], identity.key_der()).unwrap();
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    Arc::new(config)
}

/// A client's TLS: whom it trusts, and who it is, if anyone.
pub fn client_tls(servers_of: &Authority, identity: Option<&Identity>, protocols: &[&str]) -> Arc<ClientConfig> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(servers_of.roots());
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => builder.with_client_auth_cert(vec![identity.certificate_der()], identity.key_der()).unwrap(),
    };
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    Arc::new(config)
}

/// A client's TLS that trusts what stands in `pem`.
pub fn client_tls_trusting_pem(pem: &str, protocols: &[&str]) -> Arc<ClientConfig> {
    use rustls_pki_types::pem::PemObject as _;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        roots.add(certificate.unwrap()).unwrap();
    }
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    Arc::new(config)
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}
