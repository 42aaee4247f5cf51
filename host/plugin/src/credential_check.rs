//! Whether a strategy's answer can be sent at all. Says what is wrong, and never repeats the credential.

use witgate_core::{Credential, Impersonation, PrivateKeyPair};

/// What is wrong with a credential or an impersonation.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum CredentialFault {
    #[error("its bearer token is empty")]
    TokenEmpty,
    #[error("its bearer token holds something other than visible ASCII")]
    TokenBytes,
    #[error("its client certificate is not PEM of the kind `CERTIFICATE`")]
    Certificate,
    #[error("its client key is not PEM of a kind of `PRIVATE KEY`")]
    Key,
    #[error("it impersonates a user without a name")]
    ImpersonatedUser,
    #[error("its impersonation holds control characters")]
    ImpersonationBytes,
    #[error("its impersonation has an `extra` key that is empty or not in lower case")]
    ImpersonationKey,
}

pub(crate) fn check_credential(credential: &Credential) -> Result<(), CredentialFault> {
    match credential {
        Credential::BearerToken(token) => {
            let token = token.expose();
            if token.is_empty() {
                return Err(CredentialFault::TokenEmpty);
            }
            if token.bytes().all(|byte| byte.is_ascii_graphic()) { Ok(()) } else { Err(CredentialFault::TokenBytes) }
        }
        Credential::X509ClientCertificate(PrivateKeyPair { certificate, key }) => {
            if !is_pem(certificate, |label| label == "CERTIFICATE") {
                return Err(CredentialFault::Certificate);
            }
            // PKCS #8, PKCS #1 and SEC 1; not `ENCRYPTED PRIVATE KEY`, for which nobody has the password.
            let is_key = |label: &str| matches!(label, "PRIVATE KEY" | "RSA PRIVATE KEY" | "EC PRIVATE KEY");
            if is_pem(key.expose(), is_key) { Ok(()) } else { Err(CredentialFault::Key) }
        }
        Credential::Anonymous => Ok(()),
    }
}

pub(crate) fn check_impersonation(impersonation: &Impersonation) -> Result<(), CredentialFault> {
    let Impersonation { user, uid, groups, extra } = impersonation;
    if user.is_empty() {
        return Err(CredentialFault::ImpersonatedUser);
    }
    let mut texts = [user].into_iter().chain(uid).chain(groups).chain(extra.keys()).chain(extra.values().flatten());
    if texts.any(|text| text.chars().any(char::is_control)) {
        return Err(CredentialFault::ImpersonationBytes);
    }
    if extra.keys().any(|key| key.is_empty() || key.chars().any(char::is_uppercase)) {
        return Err(CredentialFault::ImpersonationKey);
    }
    Ok(())
}

/// Whether some block of `text` has such a label, an end, and base64 in between. Whether the bytes mean
/// anything shows when they are used.
fn is_pem(text: &str, is_label: impl Fn(&str) -> bool) -> bool {
    let mut lines = text.lines().map(str::trim);
    while let Some(line) = lines.next() {
        let Some(label) = line.strip_prefix("-----BEGIN ").and_then(|rest| rest.strip_suffix("-----")) else {
            continue;
        };
        let end = format!("-----END {label}-----");
        let mut digits = 0_usize;
        for line in lines.by_ref() {
            if line == end {
                if is_label(label) && digits > 0 {
                    return true;
                }
                break;
            }
            if !line.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte)) {
                return false;
            }
            digits = digits.saturating_add(line.len());
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use witgate_core::Redacted;

    use super::*;

    /// Goal: what cannot be sent is not a credential. Method: rows of each kind.
    #[test]
    fn a_credential_can_be_sent() {
        use CredentialFault::{Certificate, Key, TokenBytes, TokenEmpty};
        let bearer = |token: &str| check_credential(&Credential::BearerToken(Redacted::new(token.into())));
        assert_eq!(bearer("ey.abc-_~+/="), Ok(()));
        assert_eq!(bearer(""), Err(TokenEmpty));
        for token in ["a b", "a\r\nX-Remote-User: admin", "ä", "a\0", "\u{7f}"] {
            assert_eq!(bearer(token), Err(TokenBytes), "{token:?}");
        }
        assert_eq!(check_credential(&Credential::Anonymous), Ok(()));

        let pem = |label: &str| format!("-----BEGIN {label}-----\nTUlJ\nQg==\n-----END {label}-----\n");
        let pair = |certificate: String, key: String| {
            let key = Redacted::new(key);
            check_credential(&Credential::X509ClientCertificate(PrivateKeyPair { certificate, key }))
        };
        assert_eq!(pair(pem("CERTIFICATE"), pem("PRIVATE KEY")), Ok(()));
        assert_eq!(pair(pem("CERTIFICATE"), pem("EC PRIVATE KEY")), Ok(()));
        assert_eq!(pair(pem("CERTIFICATE"), format!("{}{}", pem("EC PARAMETERS"), pem("EC PRIVATE KEY"))), Ok(()));
        assert_eq!(pair(pem("PRIVATE KEY"), pem("PRIVATE KEY")), Err(Certificate));
        assert_eq!(pair(pem("CERTIFICATE"), pem("CERTIFICATE")), Err(Key));
        assert_eq!(pair(pem("CERTIFICATE"), pem("ENCRYPTED PRIVATE KEY")), Err(Key));
        assert_eq!(pair(String::new(), pem("PRIVATE KEY")), Err(Certificate));
        assert_eq!(pair("-----BEGIN CERTIFICATE-----\nTUlJ\n".into(), pem("PRIVATE KEY")), Err(Certificate));
        assert_eq!(
            pair("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----".into(), pem("PRIVATE KEY")),
            Err(Certificate)
        );
        assert_eq!(
            pair("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----".into(), pem("PRIVATE KEY")),
            Err(Certificate)
        );
    }

    /// Goal: an impersonation names somebody and forges no header. Method: rows.
    #[test]
    fn an_impersonation_names_somebody() {
        use CredentialFault::{ImpersonatedUser, ImpersonationBytes, ImpersonationKey};
        check("jane", "dev", "scopes", Ok(()));
        check("system:serviceaccount:a:b", "ä", "example.com/x", Ok(()));
        check("", "dev", "scopes", Err(ImpersonatedUser));
        check("jane\r\n", "dev", "scopes", Err(ImpersonationBytes));
        check("jane", "dev\n", "scopes", Err(ImpersonationBytes));
        check("jane", "dev", "", Err(ImpersonationKey));
        check("jane", "dev", "Scopes", Err(ImpersonationKey));
    }

    #[track_caller]
    fn check(user: &str, group: &str, key: &str, expected: Result<(), CredentialFault>) {
        let impersonation = Impersonation {
            user: user.into(),
            uid: None,
            groups: vec![group.into()],
            extra: BTreeMap::from([(key.into(), vec!["v".into()])]),
        };
        assert_eq!(check_impersonation(&impersonation), expected);
    }
}
