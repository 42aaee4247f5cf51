//! What a strategy may know and must not show.
//!
//! In native tests the secrets are those of [`testing::with_secrets`](crate::testing::with_secrets).

use std::fmt;

/// The secret of this name, as it is now. Ask at each call; the host reads changed files again.
///
/// # Errors
/// When no such secret is granted, and, apart from that, when one is and cannot be read.
pub fn get(name: &str) -> Result<Secret, SecretError> {
    import(name).map(Secret).map_err(|text| {
        // Only the contract's exact text means absence. Whatever else the host says is a failure, so that a secret that
        // cannot be read is never taken for one that is not there.
        if text == not_granted(name) { SecretError::NotGranted } else { SecretError::Unreadable(text) }
    })
}

/// The secret of this name, or none where none is granted.
///
/// # Errors
/// When it is granted and cannot be read: as [`AuthError::Unavailable`](crate::AuthError::Unavailable), ready for `?`.
pub fn find(name: &str) -> Result<Option<Secret>, crate::AuthError> {
    match get(name) {
        Ok(secret) => Ok(Some(secret)),
        Err(SecretError::NotGranted) => Ok(None),
        Err(SecretError::Unreadable(text)) => {
            crate::log::warn(&text);
            Err(crate::AuthError::Unavailable("a secret of the cluster cannot be read".to_owned()))
        }
    }
}

/// A secret: it can be used, and prints as `[redacted]`.
#[derive(Clone, Eq, PartialEq)]
pub struct Secret(String);

impl Secret {
    /// The secret itself.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The secret without white space around it, as tokens in files have it.
    pub fn expose_trimmed(&self) -> &str {
        self.0.trim()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// Why there is no such secret.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SecretError {
    /// None of that name is granted to this call.
    NotGranted,
    /// One is granted, and reading it failed; with the host's text.
    Unreadable(String),
}

pub(crate) fn not_granted(name: &str) -> String {
    format!("secret `{name}` is not granted")
}

#[cfg(target_family = "wasm")]
fn import(name: &str) -> Result<String, String> {
    crate::bindings::strategy::witgate::auth::secrets::get(name)
}

#[cfg(not(target_family = "wasm"))]
fn import(name: &str) -> Result<String, String> {
    crate::testing::secret(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::AuthError;
    use crate::testing::with_secrets;

    /// Goal: what cannot be read is not taken for absence. Method: one row a state of a secret.
    #[test]
    fn an_unreadable_secret_is_not_an_absent_one() {
        with_secrets(
            &[("a", Ok("x\n")), ("b", Err("secret `b` cannot be read")), ("c", Err("secret `a` is not granted"))],
            || {
                assert_eq!(
                    find("a").map(|found| found.map(|secret| secret.expose_trimmed().to_owned())),
                    Ok(Some("x".into()))
                );
                assert_eq!(find("none"), Ok(None));
                assert!(matches!(find("b"), Err(AuthError::Unavailable(_))));
                assert!(matches!(find("c"), Err(AuthError::Unavailable(_))), "the text names another secret");
            },
        );
    }

    #[test]
    fn a_secret_does_not_print() {
        assert_eq!(format!("{:?}", Secret("s3cret".into())), "[redacted]");
    }
}
