//! `authProvider: anonymous`: the API server is meant to see nobody.

use witgate_sdk::{AuthError, ClusterDetails, Grant, NoSettings, RequestAuth, Strategy, UserInfo};

struct Anonymous;

impl Strategy for Anonymous {
    type Settings = NoSettings;

    fn configure(_settings: NoSettings) -> Result<Self, Vec<String>> {
        Ok(Self)
    }

    fn credential(
        &self,
        _cluster: &ClusterDetails,
        _request_auth: &RequestAuth,
        _caller: Option<&UserInfo>,
    ) -> Result<Grant, AuthError> {
        Ok(Grant::anonymous())
    }
}

witgate_sdk::export_strategy!(Anonymous);

#[cfg(test)]
mod tests {
    use witgate_sdk::testing::{cluster, request_auth};

    use super::*;

    #[test]
    fn tokens_that_the_client_brings_are_not_used() {
        let auth = request_auth(&[("anonymous", None, "t")]);
        assert_eq!(Anonymous.credential(&cluster("one", &[]), &auth, None), Ok(Grant::anonymous()));
    }
}
