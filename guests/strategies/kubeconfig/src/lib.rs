//! `authProvider: kubeconfig`: the credential of a kubeconfig file's user, for the `kubeconfig` locator's clusters.
//!
//! A token goes before a client certificate, because a request can prove one identity only. A user with neither is
//! anonymous, as it is to kubectl.

use witgate_sdk::{AuthError, ClusterDetails, Grant, NoSettings, RequestAuth, Strategy, UserInfo, secrets};

struct Kubeconfig;

impl Strategy for Kubeconfig {
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
        if let Some(token) = secrets::find("cluster/token")? {
            return match token.expose_trimmed() {
                "" => Err(AuthError::Misconfigured("the kubeconfig user's token is empty".to_owned())),
                token => Ok(Grant::bearer_token(token)),
            };
        }
        match (secrets::find("cluster/client-certificate")?, secrets::find("cluster/client-key")?) {
            (Some(certificate), Some(key)) => Ok(Grant::x509(certificate.expose(), key.expose())),
            (None, None) => Ok(Grant::anonymous()),
            (Some(_), None) => Err(misconfigured("a client certificate without its key")),
            (None, Some(_)) => Err(misconfigured("a client key without its certificate")),
        }
    }
}

witgate_sdk::export_strategy!(Kubeconfig);

fn misconfigured(what: &str) -> AuthError {
    AuthError::Misconfigured(format!("the kubeconfig user has {what}"))
}

#[cfg(test)]
mod tests {
    use witgate_sdk::testing::{cluster, request_auth, with_secrets};

    use super::*;

    const TOKEN: &str = "cluster/token";
    const CERTIFICATE: &str = "cluster/client-certificate";
    const KEY: &str = "cluster/client-key";

    /// Goal: anonymous only where nothing is granted. Method: rows of what is granted.
    #[test]
    fn a_token_else_a_certificate_else_nobody() {
        check(&[(TOKEN, Ok("t\n"))], Ok(Grant::bearer_token("t")));
        check(&[(CERTIFICATE, Ok("c")), (KEY, Ok("k"))], Ok(Grant::x509("c", "k")));
        check(&[(TOKEN, Ok("t")), (CERTIFICATE, Ok("c")), (KEY, Ok("k"))], Ok(Grant::bearer_token("t")));
        check(&[], Ok(Grant::anonymous()));
        check(&[(TOKEN, Ok(""))], Err("misconfigured: the kubeconfig user's token is empty"));
        check(
            &[(CERTIFICATE, Ok("c"))],
            Err("misconfigured: the kubeconfig user has a client certificate without its key"),
        );
        check(&[(KEY, Ok("k"))], Err("misconfigured: the kubeconfig user has a client key without its certificate"));
        let unreadable = "unavailable: a secret of the cluster cannot be read";
        check(&[(TOKEN, Err("gone"))], Err(unreadable));
        check(&[(TOKEN, Err("gone")), (CERTIFICATE, Ok("c")), (KEY, Ok("k"))], Err(unreadable));
        check(&[(CERTIFICATE, Err("gone")), (KEY, Err("gone"))], Err(unreadable));
    }

    #[track_caller]
    fn check(granted: &[(&str, Result<&str, &str>)], expected: Result<Grant, &str>) {
        let got = with_secrets(granted, || Kubeconfig.credential(&cluster("one", &[]), &request_auth(&[]), None));
        let got = got.map_err(|error| match error {
            AuthError::Misconfigured(text) => format!("misconfigured: {text}"),
            AuthError::Unavailable(text) => format!("unavailable: {text}"),
            other => format!("{other:?}"),
        });
        assert_eq!(got, expected.map_err(ToOwned::to_owned));
    }
}
