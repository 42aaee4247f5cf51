//! Who calls.

use std::collections::BTreeMap;

/// The caller, as the authentication step found it: Kubernetes' `UserInfo`.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct UserInfo {
    /// The name, such as `user:default/jane` or `system:serviceaccount:ci:deployer`.
    pub name: String,
    /// A stable identifier of the same person, where the authenticator knows one.
    pub uid: Option<String>,
    /// The groups, in the order in which the authenticator gave them.
    pub groups: Vec<String>,
    /// Anything else the authenticator asserts.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl UserInfo {
    /// A caller of whom only the name is known.
    pub fn named(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }
}
