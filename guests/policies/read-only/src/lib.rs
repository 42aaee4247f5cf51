//! Lets nobody change a cluster: denies every request but those that read.
//!
//! It opens nothing: reading still needs a policy that allows it.

use witgate_sdk::{ActionClass, Decision, NoSettings, Policy, PolicyQuery, UserInfo};

struct ReadOnly;

impl Policy for ReadOnly {
    type Settings = NoSettings;

    fn configure(_settings: NoSettings) -> Result<Self, Vec<String>> {
        Ok(Self)
    }

    fn handle(&self, query: &PolicyQuery, _user: Option<&UserInfo>) -> Decision {
        match query.request.as_ref().map(|request| request.action_class) {
            None | Some(ActionClass::Read) => Decision::NoOpinion,
            Some(class) => Decision::Deny(format!("read-only: `{class}` is more than reading")),
        }
    }
}

witgate_sdk::export_policy!(ReadOnly);

#[cfg(test)]
mod tests {
    use witgate_sdk::ActionClass::{Credential, Delete, Escalate, Exec, Read, Write};
    use witgate_sdk::testing::{clusters_read_query, proxy_query, resource_request};

    use super::*;

    /// Goal: only reading passes, whatever the HTTP method. Method: one row an action class.
    #[test]
    fn only_reading_is_left_to_others() {
        check("get", Read, "no opinion");
        check("create", Read, "no opinion"); // a SelfSubjectAccessReview: kubectl sends them to look
        check("create", Write, "read-only: `write` is more than reading");
        check("delete", Delete, "read-only: `delete` is more than reading");
        check("get", Exec, "read-only: `exec` is more than reading"); // a WebSocket exec is a GET
        check("get", Credential, "read-only: `credential` is more than reading");
        check("create", Escalate, "read-only: `escalate` is more than reading");
    }

    #[test]
    fn listing_the_clusters_is_left_to_others() {
        assert_eq!(ReadOnly.handle(&clusters_read_query(), None), Decision::NoOpinion);
    }

    #[track_caller]
    fn check(verb: &str, class: ActionClass, expected: &str) {
        let query = proxy_query(resource_request("one", verb, "dev", "pods", class));
        let got = match ReadOnly.handle(&query, None) {
            Decision::NoOpinion => "no opinion".to_owned(),
            Decision::Deny(reason) => reason,
            other => format!("{other:?}"),
        };
        assert_eq!(got, expected);
    }
}
