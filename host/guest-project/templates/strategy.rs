//! The token that the client brought for this strategy, sent on to the cluster.

use witgate_sdk::{AuthError, ClusterDetails, Grant, NoSettings, RequestAuth, Strategy, UserInfo};

struct PassOn;

impl Strategy for PassOn {
    type Settings = NoSettings;

    fn configure(_settings: NoSettings) -> Result<Self, Vec<String>> {
        Ok(Self)
    }

    /// Clients send the token as `Backstage-Kubernetes-Authorization-NAME: TOKEN`.
    fn credential(
        &self,
        _cluster: &ClusterDetails,
        request_auth: &RequestAuth,
        _caller: Option<&UserInfo>,
    ) -> Result<Grant, AuthError> {
        let missing = || AuthError::MissingToken("bring a token for NAME".to_owned());
        request_auth.token("NAME").map(Grant::bearer_token).ok_or_else(missing)
    }
}

witgate_sdk::export_strategy!(PassOn);

#[cfg(test)]
mod tests {
    use witgate_sdk::testing::{cluster, request_auth};

    use super::*;

    #[test]
    fn the_clients_token_or_an_error() {
        let credential = |tokens| PassOn.credential(&cluster("one", &[]), &request_auth(tokens), None);
        assert_eq!(credential(&[("NAME", None, "t")]), Ok(Grant::bearer_token("t")));
        assert!(credential(&[]).is_err());
    }
}
