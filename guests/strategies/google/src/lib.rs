//! `authProvider: google`: the Google token that the client brought as `Backstage-Kubernetes-Authorization-Google`.

use witgate_sdk::{AuthError, ClusterDetails, Grant, NoSettings, RequestAuth, Strategy, UserInfo};

struct Google;

impl Strategy for Google {
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
        let token = request_auth.token("google");
        // Backstage's text, which its clients know.
        let missing = || AuthError::MissingToken("Google token not found under auth.google in request body".to_owned());
        token.map(Grant::bearer_token).ok_or_else(missing)
    }
}

witgate_sdk::export_strategy!(Google);

#[cfg(test)]
mod tests {
    use witgate_sdk::testing::{cluster, request_auth};

    use super::*;

    /// Goal: case C14 and its neighbours. Method: rows of what the client brings.
    #[test]
    fn the_clients_token_or_an_error() {
        check(&[("google", None, "G")], Some("G"));
        check(&[("aks", None, "A"), ("google", None, "G")], Some("G"));
        check(&[], None);
        check(&[("google", None, "")], None);
        check(&[("google", Some("x"), "G")], None);
        check(&[("aks", None, "A")], None);
    }

    #[track_caller]
    fn check(tokens: &[(&str, Option<&str>, &str)], expected: Option<&str>) {
        let missing = "Google token not found under auth.google in request body";
        let expected = expected.map(Grant::bearer_token).ok_or(AuthError::MissingToken(missing.to_owned()));
        assert_eq!(Google.credential(&cluster("one", &[]), &request_auth(tokens), None), expected);
    }
}
