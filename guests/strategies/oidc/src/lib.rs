//! `authProvider: oidc`: the identity token that the client brought as `Backstage-Kubernetes-Authorization-Oidc-<provider>`.
//!
//! Which provider a cluster trusts is in its metadata, under `kubernetes.io/oidc-token-provider`; the
//! configuration's `oidcTokenProvider` is short for that.

use witgate_sdk::{AuthError, ClusterDetails, Grant, Metadata, NoSettings, RequestAuth, Strategy, UserInfo};

struct Oidc;

impl Strategy for Oidc {
    type Settings = NoSettings;

    fn configure(_settings: NoSettings) -> Result<Self, Vec<String>> {
        Ok(Self)
    }

    fn credential(
        &self,
        cluster: &ClusterDetails,
        request_auth: &RequestAuth,
        _caller: Option<&UserInfo>,
    ) -> Result<Grant, AuthError> {
        let Some(provider) = token_provider(&cluster.auth_metadata) else {
            let text = "oidc authProvider requires a configured oidcTokenProvider";
            return Err(AuthError::Misconfigured(text.to_owned()));
        };
        // Header names have no case, so sub-providers come in lower case.
        let token = request_auth.sub_token("oidc", &provider.to_ascii_lowercase());
        let missing = || AuthError::MissingToken(format!("Auth token not found under oidc.{provider} in request body"));
        token.map(Grant::bearer_token).ok_or_else(missing)
    }

    fn validate_cluster(&self, auth_metadata: &Metadata) -> Vec<String> {
        match token_provider(auth_metadata) {
            Some(_) => Vec::new(),
            None => vec!["Must specify a token provider for 'oidc' strategy".to_owned()],
        }
    }
}

witgate_sdk::export_strategy!(Oidc);

fn token_provider(auth_metadata: &Metadata) -> Option<&str> {
    let (_, provider) = auth_metadata.iter().find(|(key, _)| key == "kubernetes.io/oidc-token-provider")?;
    Some(provider.as_str()).filter(|provider| !provider.is_empty())
}

#[cfg(test)]
mod tests {
    use witgate_sdk::testing::{cluster, request_auth};

    use super::*;

    const OKTA: &[(&str, &str)] = &[("kubernetes.io/oidc-token-provider", "okta")];

    /// Goal: cases C15 to C17. Method: one row a case: metadata, what the client brings, what comes of it.
    #[test]
    fn the_token_of_the_clusters_provider() {
        let missing = |provider: &str| {
            let text = format!("Auth token not found under oidc.{provider} in request body");
            Err(AuthError::MissingToken(text))
        };
        check(OKTA, &[("oidc", Some("okta"), "O")], Ok(Grant::bearer_token("O")));
        check(OKTA, &[("oidc", Some("gitlab"), "L"), ("oidc", Some("okta"), "O")], Ok(Grant::bearer_token("O")));
        check(OKTA, &[("oidc", Some("gitlab"), "L")], missing("okta"));
        check(OKTA, &[("oidc", None, "S")], missing("okta"));
        check(OKTA, &[("oidc", Some("okta"), "")], missing("okta"));
        check(OKTA, &[], missing("okta"));
        let mixed_case = &[("kubernetes.io/oidc-token-provider", "myOkta")];
        check(mixed_case, &[("oidc", Some("myokta"), "O")], Ok(Grant::bearer_token("O")));
        check(mixed_case, &[], missing("myOkta"));
        let unset = AuthError::Misconfigured("oidc authProvider requires a configured oidcTokenProvider".to_owned());
        check(&[], &[("oidc", Some("okta"), "O")], Err(unset.clone()));
        check(&[("kubernetes.io/oidc-token-provider", "")], &[("oidc", Some("okta"), "O")], Err(unset));
    }

    #[track_caller]
    fn check(metadata: &[(&str, &str)], tokens: &[(&str, Option<&str>, &str)], expected: Result<Grant, AuthError>) {
        assert_eq!(Oidc.credential(&cluster("one", metadata), &request_auth(tokens), None), expected);
    }

    /// Case C17.
    #[test]
    fn a_cluster_without_a_provider_is_invalid() {
        let faults = |metadata| Oidc.validate_cluster(&cluster("one", metadata).auth_metadata);
        assert_eq!(faults(OKTA), Vec::<String>::new());
        assert_eq!(faults(&[]), ["Must specify a token provider for 'oidc' strategy"]);
        assert_eq!(faults(&[("other", "okta")]), ["Must specify a token provider for 'oidc' strategy"]);
    }
}
