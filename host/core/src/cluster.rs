//! A cluster, as strategies and callers know it.

use std::fmt;

use crate::Metadata;

/// The name by which callers ask for a cluster.
///
/// It is a path segment of `/k8s/clusters/<name>/` and a header value, so it is
/// visible ASCII without `/`, `%`, `?` and `#`.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, serde::Deserialize)]
#[serde(try_from = "String")]
pub struct ClusterName(Box<str>);

/// Why a text is not a cluster's name.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "`{0}` is not a cluster name: use 1 to 253 visible ASCII characters without `/`, `%`, `?`, `#`, `\\`, and not `.` or `..`"
)]
pub struct InvalidClusterName(Box<str>);

impl ClusterName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<&str> for ClusterName {
    type Error = InvalidClusterName;

    fn try_from(name: &str) -> Result<Self, Self::Error> {
        let fits = (1..=253).contains(&name.len())
            && name.bytes().all(|byte| byte.is_ascii_graphic() && !b"/%?#\\".contains(&byte))
            && name != "."
            && name != "..";
        if fits { Ok(Self(name.into())) } else { Err(InvalidClusterName(name.chars().take(64).collect())) }
    }
}

impl TryFrom<String> for ClusterName {
    type Error = InvalidClusterName;

    fn try_from(name: String) -> Result<Self, Self::Error> {
        Self::try_from(name.as_str())
    }
}

impl fmt::Display for ClusterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::borrow::Borrow<str> for ClusterName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// What a strategy is told about the cluster whose credential it yields.
///
/// Secrets of the cluster are not here: a strategy asks for them by name, through
/// [`SecretStore`](crate::SecretStore).
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct ClusterDetails {
    /// The name that callers use.
    pub name: ClusterName,
    /// A name for people.
    pub title: Option<String>,
    /// The API server's URL.
    pub server: String,
    /// The strategy's own keys and values.
    pub auth_metadata: Metadata,
    /// The certificate authorities that the API server's certificate must chain to, as PEM.
    pub ca_data: Option<String>,
    /// Whether the API server's certificate is accepted unseen.
    pub skip_tls_verify: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a name is safe in a path and a header. Method: rows of what is taken and refused.
    #[test]
    fn a_cluster_name_is_one_visible_path_segment() {
        for good in ["one", "eks:prod", "arn:aws:eks", "a_b.c", "user@host"] {
            assert!(ClusterName::try_from(good).is_ok(), "{good}");
        }
        for bad in ["", "a/b", "a b", "..", ".", "a%2Fb", "ä", "a\\b", "a?b", "a#b", "a\nb"] {
            assert!(ClusterName::try_from(bad).is_err(), "{bad}");
        }
        assert!(ClusterName::try_from("x".repeat(254).as_str()).is_err());
    }
}
