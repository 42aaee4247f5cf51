//! Callers by client certificate, as Kubernetes does it: the common name is the user, each organization a group.
//!
//! The TLS handshake has verified the certificate against `tls.clientCaFile`; what
//! it says is what that authority vouches for. That includes names under `system:`:
//! whoever signs client certificates for the gate may name its callers.

use witgate_core::{ClientCertificate, UserInfo};
use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::x509::AttributeTypeAndValue;

/// Why a verified certificate names nobody.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NamesNobody {
    #[error("the certificate cannot be read")]
    Form,
    #[error("the certificate's subject has {found} common names; it needs one that is not empty")]
    CommonName { found: usize },
    #[error("a common name or organization in the certificate is not usable text")]
    Text,
}

/// Whom the certificate names.
pub(super) fn user(certificate: &ClientCertificate) -> Result<UserInfo, NamesNobody> {
    let (rest, certificate) = X509Certificate::from_der(&certificate.0).map_err(|_| NamesNobody::Form)?;
    if !rest.is_empty() {
        return Err(NamesNobody::Form);
    }
    let subject = certificate.subject();
    // With two names, which one a reader takes is chance.
    let mut names = subject.iter_common_name();
    let name = match (names.next(), names.next()) {
        (Some(name), None) => text(name)?,
        _ => return Err(NamesNobody::CommonName { found: subject.iter_common_name().count() }),
    };
    let groups = subject.iter_organization().map(text).collect::<Result<_, _>>()?;
    Ok(UserInfo { name, groups, ..UserInfo::default() })
}

fn text(attribute: &AttributeTypeAndValue<'_>) -> Result<String, NamesNobody> {
    let text = attribute.as_str().map_err(|_| NamesNobody::Text)?;
    let usable = !text.trim().is_empty() && !text.chars().any(char::is_control);
    if usable { Ok(text.to_owned()) } else { Err(NamesNobody::Text) }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};

    use super::*;

    /// Goal: CN is the user and O the groups, and a certificate without a CN is nobody's. Method: rows of subjects.
    #[test]
    fn the_subject_names_the_caller() {
        check(&[("CN", "alice"), ("O", "dev")], Ok(("alice", &["dev"])));
        check(&[("CN", "alice"), ("OU", "sales")], Ok(("alice", &[])));
        check(&[("O", "system:masters"), ("CN", "kubernetes-admin")], Ok(("kubernetes-admin", &["system:masters"])));
        check(&[("O", "dev")], Err(NamesNobody::CommonName { found: 0 }));
        check(&[], Err(NamesNobody::CommonName { found: 0 }));
        check(&[("CN", "")], Err(NamesNobody::Text));
        check(&[("CN", "al\nice")], Err(NamesNobody::Text));
        check(&[("CN", "alice"), ("O", " ")], Err(NamesNobody::Text));
        assert_eq!(user(&ClientCertificate(Vec::from(*b"no DER").into())), Err(NamesNobody::Form));
    }

    #[track_caller]
    fn check(subject: &[(&str, &str)], expected: Result<(&str, &[&str]), NamesNobody>) {
        let mut name = DistinguishedName::new();
        for (kind, value) in subject {
            let kind = match *kind {
                "CN" => DnType::CommonName,
                "O" => DnType::OrganizationName,
                _ => DnType::OrganizationalUnitName,
            };
            name.push(kind, *value);
        }
        let mut params = CertificateParams::default();
        params.distinguished_name = name;
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let got = user(&ClientCertificate(certificate.der().as_ref().into()));
        let expected = expected.map(|(name, groups)| UserInfo {
            name: name.to_owned(),
            groups: groups.iter().map(|group| (*group).to_owned()).collect(),
            ..UserInfo::default()
        });
        assert_eq!(got, expected);
    }
}
