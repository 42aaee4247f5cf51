//! The listeners: addresses, and the data plane's TLS files.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::TlsFiles;
use super::files::{self, PairError};
use super::section::{Field, Section};

/// An address to listen on; none where a problem was reported.
pub(super) fn address(field: &Field<'_>) -> Option<SocketAddr> {
    let text = field.text()?;
    match text.text.parse() {
        Ok(address) => Some(address),
        Err(_) => {
            field.problem(format_args!(
                "{} is not an address; write IP:port, such as `127.0.0.1:7007`, `0.0.0.0:7007` or `[::]:7007`",
                text.shown
            ));
            None
        }
    }
}

/// The TLS files of the data plane: there, parsed, and of one pair. None where a problem was reported.
pub(super) fn tls(section: &Section<'_>) -> Option<TlsFiles> {
    let certificate = section.required("certFile", "the certificate chain as PEM, leaf first");
    let key = section.required("keyFile", "the private key as PEM");
    let client_ca = section.optional("clientCaFile");
    section.refuse_rest();

    let certificate = certificate.and_then(|field| read(&field, files::certificates));
    let key = key.and_then(|field| read(&field, files::private_key).map(|(path, key)| (path, key, field)));
    // Outer none: a problem was reported.
    let client_ca_file = match client_ca {
        Some(field) => read(&field, files::certificates).map(|(path, _)| Some(path)),
        None => Some(None),
    };
    let ((cert_file, chain), (key_file, key, key_field)) = (certificate?, key?);
    if let Err(why) = files::check_pair(chain, key) {
        key_field.problem(match why {
            PairError::Key => {
                "holds a private key of a kind that cannot be used; use RSA, ECDSA P-256/P-384 or Ed25519"
            }
            PairError::Mismatch => "is not the private key of the first certificate in `certFile`",
            PairError::Certificate => "the first certificate in `certFile` cannot be used for TLS",
        });
        return None;
    }
    Some(TlsFiles { cert_file, key_file, client_ca_file: client_ca_file? })
}

/// The path of a file and what `parse` makes of its bytes; none where a problem was reported.
pub(super) fn read<T>(field: &Field<'_>, parse: impl FnOnce(&[u8]) -> Result<T, String>) -> Option<(PathBuf, T)> {
    let (path, text) = field.path()?;
    match files::read(&path).and_then(|bytes| parse(&bytes)) {
        Ok(parsed) => Some((path, parsed)),
        Err(why) => {
            field.problem(files::about(Path::new(&text.text), &why));
            None
        }
    }
}
