//! Files that a configuration names: read with a limit, checked, and spoken of in words.

use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::path::Path;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// The bytes of a file.
///
/// # Errors
/// With what is wrong, as a predicate: `does not exist`.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, String> {
    let predicate = |error: std::io::Error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => "does not exist".to_owned(),
        ErrorKind::PermissionDenied => "may not be read by this user".to_owned(),
        ErrorKind::IsADirectory => "is a folder; it must be a file".to_owned(),
        kind => format!("cannot be read: {kind}"),
    };
    // A pipe or a device would wait or never end.
    if !std::fs::metadata(path).map_err(predicate)?.is_file() {
        let folder = path.is_dir();
        return Err(if folder { "is a folder; it must be a file" } else { "is not a regular file" }.to_owned());
    }
    let mut bytes = Vec::new();
    File::open(path).map_err(predicate)?.take(BYTES_MAX + 1).read_to_end(&mut bytes).map_err(predicate)?;
    if bytes.len() as u64 > BYTES_MAX {
        return Err(format!("is larger than {} KiB", BYTES_MAX / 1024));
    }
    Ok(bytes)
}

/// `` `ca.pem` does not exist ``, with a word on where a relative path begins.
pub(super) fn about(as_written: &Path, predicate: &str) -> String {
    let hint = if as_written.is_relative() && !as_written.starts_with("~") && predicate == "does not exist" {
        " (a relative path begins at the folder of the file that names it)"
    } else {
        ""
    };
    format!("`{}` {predicate}{hint}", as_written.display().to_string().escape_debug())
}

/// The certificates of a PEM text: one at least, each of which parses.
///
/// # Errors
/// With what is wrong, as a predicate.
pub(super) fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let mut certificates = Vec::new();
    for (index, certificate) in CertificateDer::pem_slice_iter(pem).enumerate() {
        let number = index + 1;
        let certificate = certificate.map_err(|_| format!("is not PEM: certificate {number} is broken"))?;
        x509_parser::parse_x509_certificate(&certificate).map_err(|_| {
            format!("holds something in place of certificate {number} that is not an X.509 certificate")
        })?;
        certificates.push(certificate);
    }
    if certificates.is_empty() {
        return Err("holds no certificate; it must be PEM with `-----BEGIN CERTIFICATE-----`".to_owned());
    }
    Ok(certificates)
}

/// The first private key of a PEM text.
///
/// # Errors
/// With what is wrong, as a predicate; never with a piece of the key.
pub(super) fn private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|error| match error {
        rustls::pki_types::pem::Error::NoItemsFound => {
            "holds no private key; it must be PEM with `-----BEGIN PRIVATE KEY-----` (PKCS#8, PKCS#1 or SEC1, not encrypted)"
                .to_owned()
        }
        _ => "is not PEM: the private key is broken".to_owned(),
    })
}

/// Why a certificate chain and a private key cannot be used together.
pub(super) enum PairError {
    /// The key is of a kind that we cannot sign with.
    Key,
    /// The leaf certificate has another public key.
    Mismatch,
    /// The leaf certificate cannot be used in TLS.
    Certificate,
}

/// Whether `key` belongs to the leaf of `chain`.
///
/// # Errors
/// When it does not, or cannot be used.
pub(super) fn check_pair(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<(), PairError> {
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let key = provider.key_provider.load_private_key(key).map_err(|_| PairError::Key)?;
    match rustls::sign::CertifiedKey::new(chain, key).keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => Ok(()),
        Err(rustls::Error::InconsistentKeys(_)) => Err(PairError::Mismatch),
        Err(_) => Err(PairError::Certificate),
    }
}

/// How large a file may be that a configuration consists of or names.
pub(super) const BYTES_MAX: u64 = 1024 * 1024;
