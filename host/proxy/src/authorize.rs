//! Asks every policy, folds what they say, and hands out the only key to forwarding.
//!
//! [`Authorized`] is made here and nowhere else, and forwarding takes it: a path that
//! skips the policies does not compile.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures_util::future::join_all;
use tracing::{debug, warn};
use witgate_core::{
    Answer, CallError, Decision, DenyReason, Digest, Permission, PermissionPolicy, PluginName, PolicyAnswer,
    PolicyMode, PolicyQuery, RequestAttributes, UserInfo, Verdict, verdict,
};

use crate::shadow;
use crate::snapshot::{PermissionRule, Snapshot};
use crate::trace::{Step, StepName};

/// Something that the policies, together, have let through.
#[derive(Debug)]
pub struct Authorized<R>(R);

impl<R> Authorized<R> {
    /// What was let through.
    pub fn into_inner(self) -> R {
        self.0
    }
}

/// A verdict, with who decided and how long it took; for the decision log.
#[derive(Debug)]
pub(crate) struct Judgement {
    pub(crate) verdict: Verdict,
    pub(crate) digest: Option<Digest>,
    pub(crate) took: Duration,
    /// The policies' calls and all of them together, where the request is traced.
    pub(crate) steps: Vec<Step>,
    /// What the policies have to tell the caller.
    pub(crate) warnings: Vec<String>,
}

/// Whether the steps of a judgement are wanted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Traced {
    Yes,
    No,
}

impl Judgement {
    /// The policy that decided, where one did.
    pub(crate) const fn policy(&self) -> Option<&PluginName> {
        match &self.verdict {
            Verdict::Allow { policy } => policy.as_ref(),
            Verdict::Deny(reason) => reason.policy(),
        }
    }

    /// The subject, if it was let through.
    pub(crate) fn authorized<R>(&self, subject: R) -> Result<Authorized<R>, DenyReason> {
        match &self.verdict {
            Verdict::Allow { .. } => Ok(Authorized(subject)),
            Verdict::Deny(reason) => Err(reason.clone()),
        }
    }
}

/// Asks every enforcing policy of the snapshot, and leaves the question for the shadow policies to be asked later.
pub(crate) async fn judge(
    snapshot: &Snapshot,
    user: &UserInfo,
    permission: Permission,
    request: Option<RequestAttributes>,
    traced: Traced,
) -> (Judgement, Option<RequestAttributes>) {
    match snapshot.permission {
        PermissionRule::Disabled => {
            let judgement = Judgement {
                verdict: Verdict::Allow { policy: None },
                digest: None,
                took: Duration::ZERO,
                steps: Vec::new(),
                warnings: Vec::new(),
            };
            return (judgement, request);
        }
        PermissionRule::Enabled => {}
    }
    let started = Instant::now();
    let query = PolicyQuery { permission, resource_ref: None, request, now: now() };
    let calls = (traced == Traced::Yes).then(Mutex::default);
    let mut enforcing = snapshot.policies.iter().filter(|policy| policy.mode() == PolicyMode::Enforce);
    let answers = match (enforcing.next(), enforcing.next()) {
        (None, _) => Vec::new(),
        (Some(only), None) => vec![ask(only.as_ref(), &query, user, calls.as_ref()).await],
        (Some(first), Some(second)) => {
            let several = [first, second].into_iter().chain(enforcing);
            join_all(several.map(|policy| ask(policy.as_ref(), &query, user, calls.as_ref()))).await
        }
    };
    let took = started.elapsed();
    let (answers, warnings): (Vec<_>, Vec<_>) = answers.into_iter().unzip();
    let verdict = verdict(answers, query.request.as_ref());
    shadow::ask_later(&snapshot.policies, &query, user, &verdict);
    let mut steps = calls.map_or_else(Vec::new, |calls| calls.into_inner().unwrap_or_else(PoisonError::into_inner));
    if traced == Traced::Yes {
        let passed = matches!(verdict, Verdict::Allow { .. });
        steps.push(Step { name: StepName::Authorize, plugin: None, began: started, took, passed });
    }
    let mut judgement = Judgement { verdict, digest: None, took, steps, warnings: warnings.concat() };
    judgement.digest = judgement
        .policy()
        .and_then(|name| snapshot.policies.iter().find(|policy| policy.name() == name))
        .map(|policy| policy.digest());
    (judgement, query.request)
}

async fn ask<'a>(
    policy: &'a dyn PermissionPolicy,
    query: &PolicyQuery,
    user: &UserInfo,
    calls: Option<&Mutex<Vec<Step>>>,
) -> (PolicyAnswer<'a>, Vec<String>) {
    let began = calls.map(|_| Instant::now());
    let answer = policy.answer(query, Some(user)).await;
    if let (Some(calls), Some(began)) = (calls, began) {
        let passed = !matches!(answer, Ok(Answer { decision: Decision::Deny(_), .. }) | Err(_));
        let plugin = Some(policy.name().clone());
        let step = Step { name: StepName::Policy, plugin, began, took: began.elapsed(), passed };
        calls.lock().unwrap_or_else(PoisonError::into_inner).push(step);
    }
    match &answer {
        // It was said when it began, and its failures before that.
        Err(error @ CallError::Quarantined { .. }) => debug!(policy = %policy.name(), %error, "a policy was not asked"),
        Err(error) => {
            warn!(policy = %policy.name(), code = error.code(), error = %chain(error), "a policy gave no answer");
        }
        Ok(_) => {}
    }
    let (answer, warnings) = match answer {
        Ok(Answer { decision, warnings }) => (Ok(decision), warnings),
        Err(error) => (Err(error), Vec::new()),
    };
    (PolicyAnswer { policy: policy.name(), mode: policy.mode(), answer }, warnings)
}

/// An error and its causes on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
