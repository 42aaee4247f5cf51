//! `authProvider: localKubectlProxy`: a `kubectl proxy` stands between, and it adds its own credential.

use witgate_sdk::{AuthError, ClusterDetails, Grant, NoSettings, RequestAuth, Strategy, UserInfo};

struct LocalKubectlProxy;

impl Strategy for LocalKubectlProxy {
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

witgate_sdk::export_strategy!(LocalKubectlProxy);

#[cfg(test)]
mod tests {
    use witgate_sdk::testing::{cluster, request_auth};

    use super::*;

    /// Case C19.
    #[test]
    fn kubectl_proxy_brings_the_credential() {
        let got = LocalKubectlProxy.credential(&cluster("local", &[]), &request_auth(&[]), None);
        assert_eq!(got, Ok(Grant::anonymous()));
    }
}
