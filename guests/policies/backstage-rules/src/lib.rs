//! Gives users and groups conditions, in the words of Backstage's conditional decisions.
//!
//! ```yaml
//! settings:
//!   reusableFor: 300                      # seconds for which the host may go on with an answer by itself
//!   rules:
//!     - groups: ["group:default/developers"]   # or users: [...]; at least one of both
//!       conditions:
//!         anyOf:
//!           - { rule: IS_ACTION, params: { actions: [read] } }
//!           - allOf:
//!               - { rule: IS_CLUSTER, params: { clusters: [staging] } }
//!               - not: { rule: IS_NAMESPACE, params: { namespaces: [kube-system] } }
//!       listClusters: true
//! ```
//!
//! The policy looks at who calls and answers with the conditions of all rules that name them; the host checks these
//! against the request. So the answer depends on the caller alone, which is what makes it reusable. It only opens: a
//! request for which no condition holds is left to other policies, and silence denies.

mod criteria;
mod settings;

use settings::{Rule, Settings};
use witgate_sdk::{Conditional, Decision, Policy, PolicyQuery, UserInfo};

struct BackstageRules {
    rules: Vec<Rule>,
    reusable_for: Option<u32>,
}

impl Policy for BackstageRules {
    type Settings = Settings;

    fn configure(settings: Settings) -> Result<Self, Vec<String>> {
        let reusable_for = settings.reusable_for;
        Ok(Self { rules: settings.rules()?, reusable_for })
    }

    fn handle(&self, query: &PolicyQuery, user: Option<&UserInfo>) -> Decision {
        let Some(user) = user else { return Decision::NoOpinion };
        let mut rules = self.rules.iter().filter(|rule| rule.is_for(user));
        match query.permission.name.as_str() {
            "kubernetes.proxy" => {
                let any_of: Vec<_> = rules.flat_map(|rule| rule.any_of.iter().cloned()).collect();
                if any_of.is_empty() {
                    return Decision::NoOpinion; // an empty list would be malformed
                }
                Decision::Conditional(Conditional { any_of, reusable_for: self.reusable_for })
            }
            "kubernetes.clusters.read" if rules.any(|rule| rule.list_clusters) => Decision::Allow,
            _ => Decision::NoOpinion,
        }
    }
}

witgate_sdk::export_policy!(BackstageRules);

impl Rule {
    fn is_for(&self, user: &UserInfo) -> bool {
        self.users.matches(&user.name) || user.groups.iter().any(|group| self.groups.matches(group))
    }
}

#[cfg(test)]
mod tests {
    use witgate_sdk::testing::{clusters_read_query, proxy_query, resource_request, user};
    use witgate_sdk::{ActionClass, Condition};

    use super::*;

    const SETTINGS: &str = r#"{
        "reusableFor": 300,
        "rules": [
            {"groups": ["developers"], "conditions": {"anyOf": [
                {"rule": "IS_ACTION", "params": {"actions": ["read"]}},
                {"allOf": [
                    {"rule": "IS_CLUSTER", "params": {"clusters": ["staging", "test"]}},
                    {"not": {"rule": "IS_NAMESPACE", "params": {"namespaces": ["kube-system"]}}}
                ]}
            ]}},
            {"users": ["jane"], "conditions": {"rule": "IS_VERB", "params": {"verbs": ["patch"]}}},
            {"users": ["ops-*"], "listClusters": true}
        ]
    }"#;

    /// Goal: a caller gets the conditions of every rule that names them, and of no other. Method: rows.
    #[test]
    fn conditions_are_those_of_the_caller() {
        let developers = "IS_ACTION(read) | IS_CLUSTER(staging,test) & !IS_NAMESPACE(kube-system)";
        check(user("john", &["developers"]), &format!("{developers} for 300"));
        check(user("jane", &[]), "IS_VERB(patch) for 300");
        check(user("jane", &["x", "developers"]), &format!("{developers} | IS_VERB(patch) for 300"));
        check(user("jim", &["x"]), "no opinion");
        check(user("developers", &[]), "no opinion");
        check(user("ops-1", &[]), "no opinion");
    }

    /// Goal: the promise of reuse is kept. Method: whatever the request, one caller has one answer.
    #[test]
    fn the_answer_depends_on_the_caller_alone() {
        let john = user("john", &["developers"]);
        let policy = policy(SETTINGS).unwrap();
        let answer = |cluster, verb, namespace, class| {
            policy.handle(&proxy_query(resource_request(cluster, verb, namespace, "pods", class)), Some(&john))
        };
        let first = answer("staging", "list", "dev", ActionClass::Read);
        assert_eq!(first, answer("production", "delete", "kube-system", ActionClass::Delete));
        let mut later = proxy_query(resource_request("x", "get", "", "nodes", ActionClass::Read));
        later.now = 2_000_000_000;
        assert_eq!(first, policy.handle(&later, Some(&john)));
    }

    #[test]
    fn listing_the_clusters_is_said_apart() {
        let policy = policy(SETTINGS).unwrap();
        let handle = |user: Option<UserInfo>| policy.handle(&clusters_read_query(), user.as_ref());
        assert_eq!(handle(Some(user("ops-1", &[]))), Decision::Allow);
        assert_eq!(handle(Some(user("john", &["developers"]))), Decision::NoOpinion);
        assert_eq!(handle(None), Decision::NoOpinion);
        let request = proxy_query(resource_request("staging", "list", "dev", "pods", ActionClass::Read));
        assert_eq!(policy.handle(&request, None), Decision::NoOpinion);
    }

    /// Goal: a mistake is refused with its key and what would be right. Method: rows of one rule and the fault.
    #[test]
    fn a_mistake_is_refused() {
        let users = r#""users": ["jane"]"#;
        let refused = |conditions: &str, fault: &str| {
            check_refused(&format!(r#"{{"rules": [{{{users}, "conditions": {conditions}}}]}}"#), fault);
        };
        let any = "rules[0].conditions";
        refused(r#"{"anyOf": []}"#, &format!("{any}.anyOf: is empty; it would hold for nothing"));
        refused(r#"{"allOf": []}"#, &format!("{any}.allOf: is empty; it would hold for everything"));
        refused("{}", &format!("{any}: give one of `rule`, `anyOf`, `allOf` and `not`; there is none"));
        refused(
            r#"{"not": {"anyOf": [{"rule": "IS_VERB", "params": {"verbs": ["get"]}, "not": {}}]}}"#,
            &format!("{any}.not.anyOf[0]: give one of `rule`, `anyOf`, `allOf` and `not`; there are 2"),
        );
        refused(
            r#"{"rule": "IS_TUESDAY", "params": {}}"#,
            &format!(
                "{any}.rule: unknown rule `IS_TUESDAY`; known are IS_CLUSTER, IS_NAMESPACE, IS_RESOURCE_TYPE, IS_ACTION and IS_VERB"
            ),
        );
        for params in [r#"{"names": ["a"]}"#, r#"{"clusters": []}"#, r#"{"clusters": ["a"], "b": ["c"]}"#, "{}"] {
            refused(
                &format!(r#"{{"rule": "IS_CLUSTER", "params": {params}}}"#),
                &format!("{any}.params: IS_CLUSTER takes `clusters` with at least one value, and nothing else"),
            );
        }
        refused(
            r#"{"rule": "IS_CLUSTER", "params": {"clusters": ["a", "b*"]}}"#,
            &format!(
                "{any}.params.clusters[1]: `b*` has a wildcard; conditions compare whole values, so write out each"
            ),
        );
        refused(
            r#"{"rule": "IS_CLUSTER", "params": {"clusters": [""]}}"#,
            &format!("{any}.params.clusters[0]: is empty; write a cluster's name"),
        );
        refused(
            r#"{"rule": "IS_ACTION", "params": {"actions": ["reed"]}}"#,
            &format!(
                "{any}.params.actions[0]: unknown action class `reed`; known are read, write, delete, exec, credential and escalate"
            ),
        );
        refused(
            r#"{"rule": "IS_VERB", "params": {"verbs": ["GET"]}}"#,
            &format!(
                "{any}.params.verbs[0]: unknown verb `GET`; known are get, list, watch, create, update, patch, delete, deletecollection, proxy and impersonate, and for paths that name no resource get, head, options, post, put, patch and delete"
            ),
        );
        refused(
            r#"{"rule": "IS_VERB", "resourceType": "catalog-entity", "params": {"verbs": ["get"]}}"#,
            &format!("{any}.resourceType: is `catalog-entity`; conditions here are about `kubernetes-proxy-request`"),
        );
        refused(
            r#"{"anyOf": [{"rule": "IS_VERB", "params": {"verbs": ["get"]}}], "params": {"verbs": ["get"]}}"#,
            &format!("{any}: `params` and `resourceType` belong to a `rule`"),
        );
        let pair = r#"{"anyOf": [{"rule": "IS_VERB", "params": {"verbs": ["get"]}},
                                 {"rule": "IS_VERB", "params": {"verbs": ["list"]}}]}"#;
        refused(
            &format!(r#"{{"allOf": [{}]}}"#, [pair; 11].join(",")),
            "rules[0].conditions: the policy's conditions unfold into more than 1024 alternatives",
        );

        check_refused(r#"{"rules": []}"#, "rules: name at least one rule; without any, this policy opens nothing");
        check_refused(
            r#"{"rules": [{"listClusters": true}]}"#,
            "rules[0]: name at least one group or user, or `*` for everybody",
        );
        check_refused(
            r#"{"rules": [{"users": ["x"]}]}"#,
            "rules[0]: opens nothing; give `conditions` or `listClusters: true`",
        );
        check_refused(
            r#"{"rules": [{"users": [""], "listClusters": true}]}"#,
            "rules[0].users[0]: is empty; write a name, or `*` for any",
        );
        let rule = format!(r#"{{"users": ["x"], "conditions": {{"allOf": [{}]}}}}"#, [pair; 10].join(","));
        check_refused(
            &format!(r#"{{"rules": [{rule}, {rule}]}}"#),
            "rules: unfold into 2048 alternatives together; at most 1024 are sent to the host",
        );
        check_refused(
            r#"{"reusableFor": 0, "rules": [{"users": ["x"], "listClusters": true}]}"#,
            "reusableFor: is 0; leave it out, or give 1 to 3600 seconds",
        );
    }

    /// Goal: Backstage's own form is taken as it is, `resourceType` included.
    #[test]
    fn backstages_form_is_understood() {
        let rule = r#"{"rule": "IS_NAMESPACE", "resourceType": "kubernetes-proxy-request", "params": {"namespaces": ["", "dev"]}}"#;
        let policy = policy(&format!(r#"{{"rules": [{{"users": ["*"], "conditions": {rule}}}]}}"#)).unwrap();
        assert_eq!(shown(&ask(&policy, &user("anybody", &[]))), "IS_NAMESPACE(,dev)");
    }

    #[track_caller]
    fn check(user: UserInfo, expected: &str) {
        assert_eq!(shown(&ask(&policy(SETTINGS).unwrap(), &user)), expected);
    }

    #[track_caller]
    fn check_refused(settings: &str, fault: &str) {
        assert_eq!(policy(settings).err(), Some(vec![fault.to_owned()]));
    }

    fn ask(policy: &BackstageRules, user: &UserInfo) -> Decision {
        policy.handle(&proxy_query(resource_request("staging", "list", "dev", "pods", ActionClass::Read)), Some(user))
    }

    fn shown(decision: &Decision) -> String {
        let Decision::Conditional(Conditional { any_of, reusable_for }) = decision else {
            assert_eq!(decision, &Decision::NoOpinion);
            return "no opinion".to_owned();
        };
        let condition = |Condition { rule, params, negated }: &Condition| {
            format!("{}{rule}({})", if *negated { "!" } else { "" }, params[0].1.join(","))
        };
        let all_of = |all: &Vec<Condition>| all.iter().map(condition).collect::<Vec<_>>().join(" & ");
        let any_of = any_of.iter().map(all_of).collect::<Vec<_>>().join(" | ");
        any_of + &reusable_for.map(|seconds| format!(" for {seconds}")).unwrap_or_default()
    }

    fn policy(settings: &str) -> Result<BackstageRules, Vec<String>> {
        BackstageRules::configure(serde_json::from_str(settings).unwrap())
    }
}
