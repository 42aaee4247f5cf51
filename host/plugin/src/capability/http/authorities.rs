//! Whose certificates a granted server may show: authorities of a file, which may be replaced while they are in use.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::ClientConfig;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use super::trust;

/// Certificate authorities that a plug-in's server is believed by. Each exchange asks whom it believes when it connects.
pub struct Authorities(ArcSwap<Believed>);

struct Believed {
    pem: String,
    config: Arc<ClientConfig>,
}

/// Why a text is not a list of certificate authorities.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
#[error("no PEM certificates in it")]
pub struct InvalidAuthorities;

impl Authorities {
    /// Those of a PEM text.
    ///
    /// # Errors
    /// When it holds none.
    pub fn of(pem: &str) -> Result<Self, InvalidAuthorities> {
        Ok(Self(ArcSwap::from_pointee(Believed::of(pem)?)))
    }

    /// Believes those of `pem` from the next connection on, instead of what was believed.
    ///
    /// # Errors
    /// When it holds none; nothing has changed then.
    pub fn replace(&self, pem: &str) -> Result<(), InvalidAuthorities> {
        self.0.store(Arc::new(Believed::of(pem)?));
        Ok(())
    }

    /// Whether they are those of `pem`.
    pub fn are(&self, pem: &str) -> bool {
        self.0.load().pem == pem
    }

    pub(super) fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.0.load().config)
    }
}

impl Believed {
    fn of(pem: &str) -> Result<Self, InvalidAuthorities> {
        Ok(Self { pem: pem.to_owned(), config: trust::authorities(&certificates(pem)?) })
    }
}

impl PartialEq for Authorities {
    fn eq(&self, other: &Self) -> bool {
        self.are(&other.0.load().pem)
    }
}

impl Eq for Authorities {}

impl fmt::Debug for Authorities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authorities").finish_non_exhaustive()
    }
}

/// The certificates of a PEM text; none is an error.
pub(super) fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, InvalidAuthorities> {
    let certificates: Vec<_> =
        CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>().map_err(|_| InvalidAuthorities)?;
    if certificates.is_empty() { Err(InvalidAuthorities) } else { Ok(certificates) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a text that holds no authorities is refused, and replaces nothing. Method: rows.
    #[test]
    fn authorities_are_certificates() {
        let key = rcgen::KeyPair::generate().unwrap();
        let good =
            rcgen::CertificateParams::new(vec!["ca.example".to_owned()]).unwrap().self_signed(&key).unwrap().pem();
        let believed = Authorities::of(&good).unwrap();
        for text in ["", "not PEM", "-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----\n"] {
            assert_eq!(Authorities::of(text), Err(InvalidAuthorities));
            assert_eq!(believed.replace(text), Err(InvalidAuthorities));
            assert!(believed.are(&good));
        }
    }
}
