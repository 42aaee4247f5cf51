//! `authProvider: aks`: the Entra token that the client brought as `Backstage-Kubernetes-Authorization-Aks`.
//!
//! Without one it is anonymous: that is what Backstage's `AksStrategy` does.

use witgate_sdk::{AuthError, ClusterDetails, Grant, NoSettings, RequestAuth, Strategy, UserInfo};

struct Aks;

impl Strategy for Aks {
    type Settings = NoSettings;

    fn configure(_settings: NoSettings) -> Result<Self, Vec<String>> {
        Ok(Self)
    }

    fn credential(
        &self,
        _cluster: &ClusterDetails,
        request_auth: &RequestAuth,
        _caller: Option<&UserInfo>,
    ) -> Result<Grant, AuthError> {
        Ok(request_auth.token("aks").map_or_else(Grant::anonymous, Grant::bearer_token))
    }
}

witgate_sdk::export_strategy!(Aks);

#[cfg(test)]
mod tests {
    use witgate_sdk::testing::{cluster, request_auth};

    use super::*;

    /// Goal: case C13 and its neighbours. Method: rows of what the client brings.
    #[test]
    fn the_clients_token_or_nobody() {
        check(&[("aks", None, "A")], Grant::bearer_token("A"));
        check(&[("google", None, "G"), ("aks", None, "A")], Grant::bearer_token("A"));
        check(&[], Grant::anonymous());
        check(&[("aks", None, "")], Grant::anonymous());
        check(&[("google", None, "G")], Grant::anonymous());
    }

    #[track_caller]
    fn check(tokens: &[(&str, Option<&str>, &str)], expected: Grant) {
        assert_eq!(Aks.credential(&cluster("one", &[]), &request_auth(tokens), None), Ok(expected));
    }
}
