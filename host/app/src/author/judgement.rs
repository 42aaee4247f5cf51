//! Asks policies as the gate asks them, and keeps the way to the verdict.
//!
//! The verdict is that of `witgate_core::verdict`, and each condition's outcome that of the host's own check: nothing here decides.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use witgate_core::{
    Answer, CallError, Condition, Conditional, Decision, PermissionPolicy, PluginName, PolicyAnswer, PolicyMode,
    PolicyQuery, RequestAttributes, UserInfo, Verdict, verdict,
};

use super::guest_log::{Listening, LogLine};
use super::question::Question;

/// What the policies said of one question, and what came of it.
#[derive(Debug)]
pub(crate) struct Judgement {
    /// Each policy's part, in the order in which the gate asks.
    pub(crate) answers: Vec<Asked>,
    /// What they come to for the request itself.
    of_request: Verdict,
    /// Where the request is let through and the caller asks to be somebody else: each part of that identity, up to the first
    /// that is refused.
    pub(crate) identities: Vec<Identity>,
}

/// One part of an identity that the caller asks for.
#[derive(Debug)]
pub(crate) struct Identity {
    /// Such as `groups` and its name.
    pub(crate) what: String,
    /// What was asked.
    pub(crate) query: PolicyQuery,
    /// Each policy's part.
    pub(crate) answers: Vec<Asked>,
    /// All of them together.
    pub(crate) verdict: Verdict,
}

/// One policy's part.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Asked {
    /// Who was asked.
    pub(crate) policy: PluginName,
    /// Whether it counts.
    pub(crate) mode: PolicyMode,
    /// What it said.
    #[serde(flatten)]
    pub(crate) said: Said,
    /// What the caller would hear beside it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) warnings: Vec<String>,
    /// What it logged.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) log: Vec<LogLine>,
    /// How long it took.
    #[serde(rename = "tookUs", serialize_with = "as_microseconds")]
    pub(crate) took: Duration,
}

/// An answer, or that there was none.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "said", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub(crate) enum Said {
    /// Let it through.
    Allow,
    /// Refuse it.
    Deny {
        /// Why.
        reason: String,
    },
    /// No rule.
    NoOpinion,
    /// Let it through where conditions hold.
    Conditional {
        /// Whether they do, for this request.
        holds: bool,
        /// The alternatives, each with its conditions.
        any_of: Vec<Vec<Checked>>,
        /// For how many seconds the gate may answer itself.
        #[serde(skip_serializing_if = "Option::is_none")]
        reusable_for: Option<u32>,
    },
    /// No answer, which denies.
    Failed {
        /// A short stable word.
        code: &'static str,
        /// For people.
        text: String,
    },
}

/// A condition, checked for one request.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Checked {
    /// Such as `IS_CLUSTER clusters=[one]`.
    pub(crate) condition: String,
    /// What this request is instead, or also.
    pub(crate) request: String,
    /// Whether it holds.
    pub(crate) holds: bool,
}

/// Asks every policy about the request, and then about each part of the identity that the caller asks for: as in the gate, all
/// must be allowed, and the first that is not decides.
pub(crate) async fn judge(policies: &[Arc<dyn PermissionPolicy>], question: &Question) -> Judgement {
    let (answers, of_request) = ask(policies, &question.query, &question.user).await;
    let mut judgement = Judgement { answers, of_request, identities: Vec::new() };
    for (what, query) in question.of_identities() {
        match judgement.verdict() {
            Verdict::Deny(_) => break,
            Verdict::Allow { .. } => {
                let (answers, verdict) = ask(policies, &query, &question.user).await;
                judgement.identities.push(Identity { what, query, answers, verdict });
            }
        }
    }
    judgement
}

/// Asks every policy, one after the other, and applies the rule. Who is late is asked again: the machine, and not the
/// policy, may be why.
async fn ask(policies: &[Arc<dyn PermissionPolicy>], query: &PolicyQuery, user: &UserInfo) -> (Vec<Asked>, Verdict) {
    let listening = Listening::begin();
    let (mut answers, mut counted) = (Vec::new(), Vec::new());
    for policy in policies {
        let mut began = Instant::now();
        let mut answer = policy.answer(query, Some(user)).await;
        for _ in 1..TRIES_MAX {
            if !matches!(answer, Err(CallError::DeadlineExceeded { .. })) {
                break;
            }
            began = Instant::now();
            answer = policy.answer(query, Some(user)).await;
        }
        let took = began.elapsed();
        let said = Said::of(&answer, query.request.as_ref());
        let (answer, warnings) = match answer {
            Ok(Answer { decision, warnings }) => (Ok(decision), warnings),
            Err(error) => (Err(error), Vec::new()),
        };
        let (name, mode) = (policy.name(), policy.mode());
        answers.push(Asked { policy: name.clone(), mode, said, warnings, log: listening.take(), took });
        counted.push(PolicyAnswer { policy: name, mode, answer });
    }
    (answers, verdict(counted, query.request.as_ref()))
}

impl Judgement {
    /// What comes of it in the gate.
    pub(crate) fn verdict(&self) -> &Verdict {
        let refused = self.identities.last().map(|identity| &identity.verdict);
        refused.filter(|verdict| matches!(verdict, Verdict::Deny(_))).unwrap_or(&self.of_request)
    }

    /// What was asked, with what came of each: `query` is the request's own.
    pub(crate) fn verdicts<'a>(
        &'a self,
        query: &'a PolicyQuery,
    ) -> impl Iterator<Item = (&'a PolicyQuery, &'a Verdict)> {
        let of_identities = self.identities.iter().map(|identity| (&identity.query, &identity.verdict));
        std::iter::once((query, &self.of_request)).chain(of_identities)
    }

    /// The first policy that counts and gave no answer.
    pub(crate) fn failure(&self) -> Option<(&PluginName, &str)> {
        let of_identities = self.identities.iter().flat_map(|identity| &identity.answers);
        self.answers.iter().chain(of_identities).find_map(|asked| match (&asked.said, asked.mode) {
            (Said::Failed { text, .. }, PolicyMode::Enforce) => Some((&asked.policy, text.as_str())),
            _ => None,
        })
    }

    /// The verdict in a line.
    pub(crate) fn outcome(&self) -> String {
        match self.verdict() {
            Verdict::Allow { policy: Some(policy) } => format!("allow: policy `{policy}` allows it, and none denies"),
            Verdict::Allow { policy: None } => "allow".to_owned(),
            Verdict::Deny(reason) => format!("deny: {reason}"),
        }
    }

    /// The way to the verdict, a line each.
    pub(crate) fn trace(&self) -> Vec<String> {
        let mut lines = trace_of(&self.answers);
        for Identity { what, answers, verdict, .. } in &self.identities {
            let outcome = match verdict {
                Verdict::Allow { .. } => "allow".to_owned(),
                Verdict::Deny(reason) => format!("deny: {reason}"),
            };
            lines.push(format!("may they be {what}? {outcome}"));
            lines.extend(trace_of(answers).into_iter().map(|line| format!("  {line}")));
        }
        if self.answers.is_empty() {
            lines.push("there is no policy to ask".to_owned());
        }
        lines
    }
}

fn trace_of(answers: &[Asked]) -> Vec<String> {
    let mut lines = Vec::new();
    for Asked { policy, mode, said, warnings, log, took } in answers {
        let counts = match mode {
            PolicyMode::Enforce => "",
            PolicyMode::Shadow => " (shadow: it does not count)",
        };
        let took = took.as_secs_f64() * 1e6;
        lines.push(format!("policy `{policy}`{counts}: {} ({took:.0} µs)", said.in_words()));
        if let Said::Conditional { any_of, .. } = said {
            for (index, alternative) in any_of.iter().enumerate() {
                let holds = alternative.iter().all(|checked| checked.holds);
                let joined = if index == 0 { "if all of" } else { "or all of" };
                lines.push(format!("  {joined} these hold: {holds}"));
                for Checked { condition, request, holds } in alternative {
                    lines.push(format!("    {holds:<5} {condition} (the request: {request})"));
                }
            }
        }
        lines.extend(warnings.iter().map(|warning| format!("  warns the caller: {warning}")));
        lines.extend(log.iter().map(|LogLine { level, text }| format!("  log {level}: {text}")));
    }
    lines
}

impl Said {
    fn of(answer: &Result<Answer, CallError>, request: Option<&RequestAttributes>) -> Self {
        match answer {
            Ok(Answer { decision: Decision::Allow, .. }) => Self::Allow,
            Ok(Answer { decision: Decision::Deny(reason), .. }) => Self::Deny { reason: reason.clone() },
            Ok(Answer { decision: Decision::NoOpinion, .. }) => Self::NoOpinion,
            Ok(Answer { decision: Decision::Conditional(conditional), .. }) => {
                let check = |condition: &Condition| Checked::of(condition, request);
                Self::Conditional {
                    holds: conditional.holds(request).unwrap_or(false),
                    any_of: conditional.any_of.iter().map(|all_of| all_of.iter().map(check).collect()).collect(),
                    reusable_for: conditional.reusable_for,
                }
            }
            Err(error) => {
                let mut text = error.to_string();
                let mut cause = std::error::Error::source(error);
                while let Some(error) = cause {
                    text = format!("{text}: {error}");
                    cause = error.source();
                }
                Self::Failed { code: error.code(), text }
            }
        }
    }

    fn in_words(&self) -> String {
        match self {
            Self::Allow => "allow".to_owned(),
            Self::Deny { reason } => format!("deny: {reason}"),
            Self::NoOpinion => "no opinion".to_owned(),
            Self::Conditional { holds, reusable_for, .. } => {
                let outcome = if *holds { "allow, as its conditions hold" } else { "no opinion, as they do not hold" };
                let reusable = reusable_for.map(|seconds| format!("; reusable for {seconds} s")).unwrap_or_default();
                format!("conditional, which comes to {outcome}{reusable}")
            }
            Self::Failed { code, text } => format!("no answer ({code}), which denies: {text}"),
        }
    }
}

impl Checked {
    fn of(condition: &Condition, request: Option<&RequestAttributes>) -> Self {
        let Condition { rule, params, negated } = condition;
        let params: Vec<_> = params.iter().map(|(name, values)| format!("{name}=[{}]", values.join(", "))).collect();
        let not = if *negated { "not " } else { "" };
        let alone = Conditional { any_of: vec![vec![condition.clone()]], reusable_for: None };
        Self {
            condition: format!("{not}{rule} {}", params.join(" ")),
            request: request.map_or_else(|| "none".to_owned(), |request| compared(rule, request)),
            holds: alone.holds(request).unwrap_or(false),
        }
    }
}

/// What of the request a rule looks at.
fn compared(rule: &str, request: &RequestAttributes) -> String {
    let value = match rule {
        "IS_CLUSTER" => request.cluster.as_str(),
        "IS_NAMESPACE" => &request.info.namespace,
        "IS_RESOURCE_TYPE" => &request.info.resource,
        "IS_ACTION" => request.action_class.as_str(),
        "IS_VERB" => &request.info.verb,
        _ => "?",
    };
    if value.is_empty() { "none".to_owned() } else { value.to_owned() }
}

fn as_microseconds<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64((duration.as_secs_f64() * 1e7).round() / 10.0)
}

/// How often a policy is asked that is late.
const TRIES_MAX: usize = 3;
