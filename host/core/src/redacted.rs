//! A value that may be used but never shown.

use std::fmt;

/// Holds a secret: it can be read with [`Redacted::expose`], and printed only as `[redacted]`.
///
/// It has no `Display` and no `Serialize`, so a secret cannot slip into a log
/// line, an error or a status page through a derive.
///
/// ```
/// use witgate_core::Redacted;
///
/// let token = Redacted::new("cluster-token".to_owned());
/// assert_eq!(format!("{token:?}"), "[redacted]");
/// assert_eq!(token.expose(), "cluster-token");
/// ```
#[derive(Clone, Default, Eq, Hash, PartialEq)]
pub struct Redacted<T>(T);

impl<T> Redacted<T> {
    /// Wraps a secret.
    pub const fn new(secret: T) -> Self {
        Self(secret)
    }

    /// The secret itself, for the one place that must send or compare it.
    pub const fn expose(&self) -> &T {
        &self.0
    }

    /// The secret itself, by value.
    pub fn into_exposed(self) -> T {
        self.0
    }
}

impl<T> fmt::Debug for Redacted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl<T> From<T> for Redacted<T> {
    fn from(secret: T) -> Self {
        Self(secret)
    }
}

/// Not derived: serde's own message for a value of the wrong type repeats the value.
impl<'de, T: serde::Deserialize<'de>> serde::Deserialize<'de> for Redacted<T> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let hidden = |_| serde::de::Error::custom("not a secret of the expected type; its value is not shown here");
        T::deserialize(deserializer).map(Self).map_err(hidden)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a secret of the wrong type does not stand in the error. Method: a number where text is expected.
    #[test]
    fn a_secret_that_cannot_be_read_is_not_shown() {
        assert_eq!(serde_json::from_str::<Redacted<String>>("\"12345\"").unwrap().expose(), "12345");
        for wrong in ["12345", "[\"12345\"]"] {
            let error = serde_json::from_str::<Redacted<String>>(wrong).unwrap_err().to_string();
            assert!(!error.contains("12345"), "{error}");
            assert!(error.starts_with("not a secret of the expected type"), "{error}");
        }
    }
}
