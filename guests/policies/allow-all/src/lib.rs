//! Allows everything that no other policy denies.
//!
//! The counterpart of policies that only deny: silence denies, so something has to open.

use witgate_sdk::{Decision, NoSettings, Policy, PolicyQuery, UserInfo};

struct AllowAll;

impl Policy for AllowAll {
    type Settings = NoSettings;

    fn configure(_settings: NoSettings) -> Result<Self, Vec<String>> {
        Ok(Self)
    }

    fn handle(&self, _query: &PolicyQuery, _user: Option<&UserInfo>) -> Decision {
        Decision::Allow
    }
}

witgate_sdk::export_policy!(AllowAll);

#[cfg(test)]
mod tests {
    use witgate_sdk::testing::{clusters_read_query, path_request, proxy_query, user};

    use super::*;

    #[test]
    fn everything_is_allowed_to_everybody() {
        let query = proxy_query(path_request("one", "GET", "get", "/version", witgate_sdk::ActionClass::Read));
        assert_eq!(AllowAll.handle(&query, None), Decision::Allow);
        assert_eq!(AllowAll.handle(&clusters_read_query(), Some(&user("jane", &[]))), Decision::Allow);
    }
}
