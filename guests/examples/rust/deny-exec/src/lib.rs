//! Nobody opens a shell in a container, but the groups that the settings name.

use serde::Deserialize;
use witgate_sdk::{ActionClass, Decision, Policy, PolicyQuery, UserInfo};

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
#[derive(Default)]
struct Settings {
    exempt_groups: Vec<String>,
}

struct DenyExec {
    exempt_groups: Vec<String>,
}

impl Policy for DenyExec {
    type Settings = Settings;

    /// Takes the settings in, once; an error lists what is wrong with them.
    fn configure(settings: Settings) -> Result<Self, Vec<String>> {
        Ok(Self { exempt_groups: settings.exempt_groups })
    }

    /// Judges one query.
    fn handle(&self, query: &PolicyQuery, user: Option<&UserInfo>) -> Decision {
        let (Some(request), Some(user)) = (&query.request, user) else { return Decision::NoOpinion };
        let exempt = user.groups.iter().any(|group| self.exempt_groups.contains(group));
        if request.action_class != ActionClass::Exec || exempt {
            return Decision::NoOpinion;
        }
        Decision::Deny("running things in containers is not allowed here".to_owned())
    }
}

witgate_sdk::export_policy!(DenyExec);

#[cfg(test)]
mod tests {
    use witgate_sdk::testing::{path_request, proxy_query, user};

    use super::*;

    #[test]
    fn a_shell_is_denied() {
        let policy = DenyExec::configure(Settings { exempt_groups: vec!["sre".to_owned()] }).unwrap();
        let query = proxy_query(path_request("one", "GET", "get", "/exec", ActionClass::Exec));
        let denied = Decision::Deny("running things in containers is not allowed here".to_owned());
        assert_eq!(policy.handle(&query, Some(&user("jane", &["dev"]))), denied);
        assert_eq!(policy.handle(&query, Some(&user("joe", &["sre"]))), Decision::NoOpinion);
    }
}
