//! Closes the proxy, and allows everything else: Backstage's `KubernetesDenyAllProxyEndpointPolicy`.

use witgate_sdk::{Decision, NoSettings, Policy, PolicyQuery, UserInfo};

struct DenyProxy;

impl Policy for DenyProxy {
    type Settings = NoSettings;

    fn configure(_settings: NoSettings) -> Result<Self, Vec<String>> {
        Ok(Self)
    }

    fn handle(&self, query: &PolicyQuery, _user: Option<&UserInfo>) -> Decision {
        if query.permission.name == "kubernetes.proxy" {
            return Decision::Deny("the proxy is closed".to_owned());
        }
        Decision::Allow
    }
}

witgate_sdk::export_policy!(DenyProxy);

#[cfg(test)]
mod tests {
    use witgate_sdk::testing::{clusters_read_query, path_request, proxy_query};

    use super::*;

    /// Goal: the seed's policy, permission by permission.
    #[test]
    fn the_proxy_is_closed_and_all_else_is_open() {
        let query = proxy_query(path_request("one", "GET", "get", "/version", witgate_sdk::ActionClass::Read));
        assert_eq!(DenyProxy.handle(&query, None), Decision::Deny("the proxy is closed".to_owned()));
        assert_eq!(DenyProxy.handle(&clusters_read_query(), None), Decision::Allow);
    }
}
