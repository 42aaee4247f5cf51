//! `authProvider: serviceAccount`: one service account for everybody.
//!
//! Its token is the cluster's `serviceAccountToken`, else the one that is mounted into the gate's own pod. That one
//! is replaced by Kubernetes every hour or so, and is read at each call.

use witgate_sdk::{AuthError, ClusterDetails, Grant, NoSettings, RequestAuth, Strategy, UserInfo, secrets};

struct ServiceAccount;

impl Strategy for ServiceAccount {
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
        for name in ["cluster/service-account-token", "pod/token"] {
            if let Some(token) = secrets::find(name)? {
                return match token.expose_trimmed() {
                    "" => Err(AuthError::Misconfigured("the service account's token is empty".to_owned())),
                    token => Ok(Grant::bearer_token(token)),
                };
            }
        }
        Err(AuthError::Misconfigured("the cluster has no serviceAccountToken, and the gate runs in no pod".to_owned()))
    }
}

witgate_sdk::export_strategy!(ServiceAccount);

#[cfg(test)]
mod tests {
    use witgate_sdk::testing::{cluster, request_auth, with_secrets};

    use super::*;

    const CLUSTER: &str = "cluster/service-account-token";
    const POD: &str = "pod/token";

    /// Goal: cases C1 and C20, and no failure that turns into another credential. Method: rows of what is granted.
    #[test]
    fn the_clusters_token_else_the_pods() {
        check(&[(CLUSTER, Ok("t"))], Ok("t"));
        check(&[(CLUSTER, Ok("t")), (POD, Ok("p"))], Ok("t"));
        check(&[(POD, Ok("p\n"))], Ok("p"));
        check(&[], Err("misconfigured: the cluster has no serviceAccountToken, and the gate runs in no pod"));
        check(&[(CLUSTER, Ok(" "))], Err("misconfigured: the service account's token is empty"));
        check(&[(CLUSTER, Ok("")), (POD, Ok("p"))], Err("misconfigured: the service account's token is empty"));
        let unreadable = Err("unavailable: a secret of the cluster cannot be read");
        check(&[(POD, Err("secret `pod/token` cannot be read"))], unreadable);
        check(&[(CLUSTER, Err("gone")), (POD, Ok("p"))], unreadable);
    }

    #[track_caller]
    fn check(granted: &[(&str, Result<&str, &str>)], expected: Result<&str, &str>) {
        let auth = request_auth(&[("serviceaccount", None, "brought by the client")]);
        let got = with_secrets(granted, || ServiceAccount.credential(&cluster("one", &[]), &auth, None));
        let got = got.map_err(|error| match error {
            AuthError::Misconfigured(text) => format!("misconfigured: {text}"),
            AuthError::Unavailable(text) => format!("unavailable: {text}"),
            other => format!("{other:?}"),
        });
        assert_eq!(got, expected.map(Grant::bearer_token).map_err(ToOwned::to_owned));
    }
}
