//! Turns what the policies say into one verdict.
//!
//! Nothing here calls a plug-in or knows how one is run: the caller passes the
//! answers in. That keeps the rule that decides access small enough to read in
//! one sitting and to test with a table.
//!
//! Promise: no input, the empty one included, yields `Allow` unless some
//! enforcing policy said `Allow`, or said `Conditional` and its conditions hold.

use std::fmt;

use crate::{CallError, Conditional, PluginName, PolicyMode, RequestAttributes};

/// What a policy is asked.
#[derive(Clone, Debug)]
pub struct PolicyQuery {
    /// The permission at stake.
    pub permission: Permission,
    /// The one thing it is about, where the permission is about one.
    pub resource_ref: Option<String>,
    /// The request to the cluster; none where the permission is not about one.
    pub request: Option<RequestAttributes>,
    /// Seconds since the Unix epoch. In the query, so that a decision can be replayed.
    pub now: u64,
}

/// A permission, in Backstage's terms.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Permission {
    /// `kubernetes.proxy` or `kubernetes.clusters.read`.
    pub name: &'static str,
    /// `read` for reading permissions.
    pub action: Option<&'static str>,
    /// The type of thing that conditions are about.
    pub resource_type: Option<&'static str>,
}

impl Permission {
    /// To send a request to a cluster through the gate.
    pub const PROXY: Self =
        Self { name: "kubernetes.proxy", action: None, resource_type: Some("kubernetes-proxy-request") };
    /// To list the clusters.
    pub const CLUSTERS_READ: Self =
        Self { name: "kubernetes.clusters.read", action: Some("read"), resource_type: None };
}

/// One policy's answer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Decision {
    /// Let it through, unless another policy denies.
    Allow,
    /// Refuse it, and say why.
    Deny(String),
    /// No rule about this request.
    NoOpinion,
    /// Let it through if the conditions hold.
    Conditional(Conditional),
}

/// What one policy says, and what the caller should hear beside it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Answer {
    /// What counts.
    pub decision: Decision,
    /// For the caller to read, whatever the verdict is; never counts.
    pub warnings: Vec<String>,
}

impl From<Decision> for Answer {
    fn from(decision: Decision) -> Self {
        Self { decision, warnings: Vec::new() }
    }
}

/// One policy's answer, or why there is none, with who gave it.
#[derive(Debug)]
pub struct PolicyAnswer<'a> {
    /// Who was asked.
    pub policy: &'a PluginName,
    /// Whether it counts.
    pub mode: PolicyMode,
    /// What it said.
    pub answer: Result<Decision, CallError>,
}

/// All policies together. `NoOpinion` is gone, because silence means no.
#[derive(Clone, Debug, Eq, PartialEq)]
#[must_use = "a verdict that nobody reads lets every request through"]
pub enum Verdict {
    /// Let it through.
    Allow {
        /// The policy that opened; none where the rule is turned off.
        policy: Option<PluginName>,
    },
    /// Refuse it.
    Deny(DenyReason),
}

/// Why a request is refused.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum DenyReason {
    /// A policy said so.
    Policy {
        /// Which.
        policy: PluginName,
        /// What it said; for the caller to read.
        reason: String,
    },
    /// A policy gave no answer.
    PolicyFailed {
        /// Which.
        policy: PluginName,
        /// How: [`CallError::code`].
        code: &'static str,
    },
    /// No policy has a rule that allows it.
    Silence,
}

impl DenyReason {
    /// The policy that decided, where one did.
    pub const fn policy(&self) -> Option<&PluginName> {
        match self {
            Self::Policy { policy, .. } | Self::PolicyFailed { policy, .. } => Some(policy),
            Self::Silence => None,
        }
    }
}

/// What the caller and the decision log read.
impl fmt::Display for DenyReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Policy { policy, reason } => write!(f, "denied by policy `{policy}`: {reason}"),
            Self::PolicyFailed { policy, code } => write!(f, "policy `{policy}` gave no answer: {code}"),
            Self::Silence => f.write_str("no policy allows this request"),
        }
    }
}

/// Folds the policies' answers: any deny denies, else any allow, or a conditional that holds, allows;
/// silence denies. A failed call is a deny. Shadow policies never count.
///
/// ```
/// use witgate_core::{DenyReason, Verdict, verdict};
///
/// assert_eq!(verdict([], None), Verdict::Deny(DenyReason::Silence));
/// ```
pub fn verdict<'a>(
    answers: impl IntoIterator<Item = PolicyAnswer<'a>>,
    request: Option<&RequestAttributes>,
) -> Verdict {
    let mut allowed_by = None;
    for PolicyAnswer { policy, mode, answer } in answers {
        match mode {
            PolicyMode::Enforce => {}
            PolicyMode::Shadow => continue,
        }
        let opens = match answer {
            Ok(Decision::Allow) => true,
            Ok(Decision::NoOpinion) => false,
            Ok(Decision::Deny(reason)) => {
                return Verdict::Deny(DenyReason::Policy { policy: policy.clone(), reason });
            }
            Ok(Decision::Conditional(conditional)) => match conditional.holds(request) {
                Ok(holds) => holds,
                Err(_) => {
                    return Verdict::Deny(DenyReason::PolicyFailed {
                        policy: policy.clone(),
                        code: "malformed-answer",
                    });
                }
            },
            Err(error) => {
                return Verdict::Deny(DenyReason::PolicyFailed { policy: policy.clone(), code: error.code() });
            }
        };
        if opens && allowed_by.is_none() {
            allowed_by = Some(policy.clone());
        }
    }
    match allowed_by {
        Some(policy) => Verdict::Allow { policy: Some(policy) },
        None => Verdict::Deny(DenyReason::Silence),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::{ActionClass, ClusterName, Condition, RequestInfo};

    /// Goal: the fold fails closed. Method: every shape of answers, one line each,
    /// so that a new rule is a new line.
    #[test]
    fn a_deny_wins_and_silence_denies() {
        let silence = "deny: no policy allows this request";
        check([], silence);
        check([no_opinion()], silence);
        check([no_opinion(), allow()], "allow by p1");
        check([allow(), allow()], "allow by p0");
        check([deny("read-only"), allow()], "deny: denied by policy `p0`: read-only");
        check([allow(), deny("late")], "deny: denied by policy `p1`: late");
        check([allow(), timed_out()], "deny: policy `p1` gave no answer: deadline-exceeded");
        check([timed_out(), allow()], "deny: policy `p0` gave no answer: deadline-exceeded");
    }

    /// Goal: a conditional opens only where its conditions hold (cases F13 and G1 to G6).
    /// Method: a request to read pods in `dev` of `staging`, judged by each shape.
    #[test]
    fn a_conditional_allows_where_it_holds() {
        let silence = "deny: no policy allows this request";
        let malformed = "deny: policy `p0` gave no answer: malformed-answer";
        let cluster = |name: &str| is("IS_CLUSTER", "clusters", name);
        let action = |name: &str| is("IS_ACTION", "actions", name);

        check([conditional(vec![vec![action("read")]])], "allow by p0");
        check([conditional(vec![vec![action("delete")]])], silence);
        check([conditional(vec![vec![cluster("production")]])], silence);
        check([conditional(vec![vec![cluster("production")], vec![action("read")]])], "allow by p0");
        check([conditional(vec![vec![cluster("staging"), action("exec")]])], silence);
        check([conditional(vec![vec![is("IS_RESOURCE_TYPE", "resourceTypes", "pods")]])], "allow by p0");
        check([conditional(vec![vec![is("IS_NAMESPACE", "namespaces", "dev")]])], "allow by p0");
        check([conditional(vec![vec![is("IS_VERB", "verbs", "list")]])], "allow by p0");
        check([conditional(vec![vec![not(cluster("production"))]])], "allow by p0");
        check([conditional(vec![vec![not(cluster("staging"))]])], silence);
        check([conditional(vec![vec![action("read")]]), deny("no")], "deny: denied by policy `p1`: no");

        check([conditional(vec![])], malformed);
        check([conditional(vec![vec![]])], malformed);
        check([conditional(vec![vec![action("read")], vec![is("IS_TUESDAY", "days", "2")]])], malformed);
        check([conditional(vec![vec![is("IS_CLUSTER", "names", "staging")]])], malformed);
        let no_values = Condition { params: vec![("clusters".into(), vec![])], ..not(cluster("x")) };
        check([conditional(vec![vec![no_values]])], malformed);
    }

    /// Goal: without a request no condition holds, a negated one neither.
    #[test]
    fn a_condition_without_a_request_does_not_hold() {
        for condition in [is("IS_CLUSTER", "clusters", "x"), not(is("IS_CLUSTER", "clusters", "x"))] {
            let name = name(0);
            let answer =
                PolicyAnswer { policy: &name, mode: PolicyMode::Enforce, answer: conditional(vec![vec![condition]]) };
            assert_eq!(verdict([answer], None), Verdict::Deny(DenyReason::Silence));
        }
    }

    /// Goal: a shadow policy neither opens nor closes. Method: its answers beside an enforcing one's.
    #[test]
    fn a_shadow_policy_never_counts() {
        let shadow = name(0);
        let enforcing = name(1);
        let answers = |shadow_says, enforcing_says| {
            [
                PolicyAnswer { policy: &shadow, mode: PolicyMode::Shadow, answer: shadow_says },
                PolicyAnswer { policy: &enforcing, mode: PolicyMode::Enforce, answer: enforcing_says },
            ]
        };
        assert_eq!(verdict(answers(allow(), no_opinion()), None), Verdict::Deny(DenyReason::Silence));
        assert_eq!(verdict(answers(deny("x"), allow()), None), Verdict::Allow { policy: Some(enforcing.clone()) });
        assert_eq!(verdict(answers(timed_out(), allow()), None), Verdict::Allow { policy: Some(enforcing.clone()) });
    }

    fn any_answer() -> impl Strategy<Value = Result<Decision, &'static str>> {
        let conditional = |any_of| Ok(Decision::Conditional(Conditional { any_of, reusable_for: None }));
        prop_oneof![
            Just(Ok(Decision::Allow)),
            Just(Ok(Decision::NoOpinion)),
            Just(Ok(Decision::Deny("no".into()))),
            Just(conditional(vec![])),
            Just(conditional(vec![vec![is("IS_VERB", "verbs", "list")]])),
            Just(conditional(vec![vec![is("IS_VERB", "verbs", "list")], vec![is("IS_TUESDAY", "days", "2")]])),
            prop::sample::select(&["deadline", "saturated", "limit", "trapped", "malformed", "quarantined"][..])
                .prop_map(Err),
        ]
    }

    fn fault(kind: &str) -> CallError {
        let plugin = name(9);
        match kind {
            "deadline" => CallError::DeadlineExceeded { plugin, deadline: Duration::from_millis(50) },
            "saturated" => CallError::Saturated { plugin, max: 1 },
            "limit" => CallError::LimitReached { plugin, limit: crate::Limit::Instances },
            "trapped" => CallError::Trapped { plugin, source: "unreachable".into() },
            "malformed" => CallError::Malformed { plugin, reason: "odd".into() },
            _ => CallError::Quarantined { plugin, retry_after: Duration::from_secs(1) },
        }
    }

    proptest! {
        /// Goal: whatever fails and in whatever order, no fault ever yields an allowance, and none is passed over.
        /// Method: any policies with any answers; what an allowance needs is counted another way.
        #[test]
        fn no_fault_allows(policies in prop::collection::vec((any::<bool>(), any_answer()), 0..8), at_cluster: bool) {
            let request = at_cluster.then(request);
            let names: Vec<_> = (0..policies.len()).map(name).collect();
            let answers = names.iter().zip(&policies).map(|(policy, (shadow, answer))| PolicyAnswer {
                policy,
                mode: if *shadow { PolicyMode::Shadow } else { PolicyMode::Enforce },
                answer: answer.clone().map_err(fault),
            });
            let verdict = verdict(answers, request.as_ref());

            let enforcing = || policies.iter().filter(|(shadow, _)| !shadow).map(|(_, answer)| answer);
            let stops = |answer: &&Result<Decision, _>| match answer {
                Err(_) | Ok(Decision::Deny(_)) => true,
                Ok(Decision::Conditional(conditional)) => conditional.holds(None).is_err(),
                Ok(Decision::Allow | Decision::NoOpinion) => false,
            };
            let opens = |answer: &&Result<Decision, _>| match answer {
                Ok(Decision::Allow) => true,
                Ok(Decision::Conditional(conditional)) => conditional.holds(request.as_ref()) == Ok(true),
                Err(_) | Ok(Decision::Deny(_) | Decision::NoOpinion) => false,
            };
            let allows = !enforcing().any(|answer| stops(&answer)) && enforcing().any(|answer| opens(&answer));
            prop_assert_eq!(matches!(verdict, Verdict::Allow { .. }), allows, "{:?}", verdict);
        }
    }

    #[track_caller]
    fn check<const N: usize>(answers: [Result<Decision, CallError>; N], expected: &str) {
        let names: Vec<_> = (0..N).map(name).collect();
        let request = request();
        let answers = names.iter().zip(answers).map(|(policy, answer)| PolicyAnswer {
            policy,
            mode: PolicyMode::Enforce,
            answer,
        });
        let got = match verdict(answers, Some(&request)) {
            Verdict::Allow { policy } => format!("allow by {}", policy.unwrap()),
            Verdict::Deny(reason) => format!("deny: {reason}"),
        };
        assert_eq!(got, expected);
    }

    /// To list pods in `dev` of `staging`.
    fn request() -> RequestAttributes {
        RequestAttributes {
            cluster: ClusterName::try_from("staging").unwrap(),
            info: RequestInfo {
                is_resource_request: true,
                verb: "list".into(),
                namespace: "dev".into(),
                resource: "pods".into(),
                ..RequestInfo::default()
            },
            method: "GET".into(),
            path: "/api/v1/namespaces/dev/pods".into(),
            action_class: ActionClass::Read,
            upgrade: false,
            patch_type: None,
            dry_run: false,
        }
    }

    fn name(index: usize) -> PluginName {
        PluginName::try_from(format!("p{index}")).unwrap()
    }

    fn allow() -> Result<Decision, CallError> {
        Ok(Decision::Allow)
    }

    fn no_opinion() -> Result<Decision, CallError> {
        Ok(Decision::NoOpinion)
    }

    fn deny(reason: &str) -> Result<Decision, CallError> {
        Ok(Decision::Deny(reason.into()))
    }

    fn conditional(any_of: Vec<Vec<Condition>>) -> Result<Decision, CallError> {
        Ok(Decision::Conditional(Conditional { any_of, reusable_for: None }))
    }

    fn timed_out() -> Result<Decision, CallError> {
        Err(CallError::DeadlineExceeded { plugin: name(9), deadline: Duration::from_millis(50) })
    }

    fn is(rule: &str, param: &str, value: &str) -> Condition {
        Condition { rule: rule.into(), params: vec![(param.into(), vec![value.into()])], negated: false }
    }

    fn not(condition: Condition) -> Condition {
        Condition { negated: true, ..condition }
    }
}
