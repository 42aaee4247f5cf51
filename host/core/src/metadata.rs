//! A cluster's `authMetadata`: what its strategy needs to know, none of it secret.

use std::collections::BTreeMap;

/// Keys and values that a cluster's configuration gives to its strategy, such as
/// `kubernetes.io/oidc-token-provider: okta`. Sorted, so that it prints and hashes alike.
pub type Metadata = BTreeMap<String, String>;
