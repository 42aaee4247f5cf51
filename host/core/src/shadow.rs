//! What a shadow policy would have changed: counted, and nothing else.
//!
//! A shadow policy is asked after the verdict, about copies of the questions, one at a time: so it delays no request, and
//! one that computes for long takes one thread and not all. Questions wait in a bounded queue; what finds no
//! room, or waits too long, is dropped and counted.
//!
//! Nothing here calls a policy: whoever does takes questions out and puts outcomes in.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::{CallError, Decision, DenyReason, PolicyQuery, UserInfo, Verdict};

/// The questions and outcomes of one loaded shadow policy.
#[derive(Debug, Default)]
pub struct Shadow {
    agreed: AtomicU64,
    would_deny: AtomicU64,
    would_allow: AtomicU64,
    failed: AtomicU64,
    dropped: AtomicU64,
    queue: Mutex<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<(Instant, Arc<ShadowQuestion>)>,
    /// Whether somebody takes questions out.
    is_emptied: bool,
}

/// A question that was decided, to be asked once more.
#[derive(Debug)]
pub struct ShadowQuestion {
    /// What was asked.
    pub query: PolicyQuery,
    /// About whom.
    pub user: UserInfo,
    /// What the enforcing policies said.
    pub verdict: Verdict,
}

/// What became of a question.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Offered {
    /// It waits, and nobody takes questions out: whoever offered it now must.
    Alone,
    /// It waits.
    Queued,
    /// There was no room.
    Dropped,
}

/// What the verdict would have been, had the shadow policy been enforced as well.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ShadowOutcome {
    /// The same.
    Agreed,
    /// A denial instead of an allowance.
    WouldDeny,
    /// An allowance instead of silence.
    WouldAllow,
    /// The policy gave no answer; enforced, it would have denied.
    Failed,
}

/// How often each happened, since the policy was loaded.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ShadowCounts {
    /// The verdict would have been the same.
    pub agreed: u64,
    /// It would have been a denial.
    pub would_deny: u64,
    /// It would have been an allowance.
    pub would_allow: u64,
    /// The policy gave no answer.
    pub failed: u64,
    /// The policy was not asked, as too many questions waited already.
    pub dropped: u64,
}

impl Shadow {
    /// Lets a question wait. See [`Offered::Alone`].
    pub fn offer(&self, question: Arc<ShadowQuestion>, now: Instant) -> Offered {
        let mut queue = self.queue();
        if queue.waiting.len() >= QUESTIONS_MAX {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return Offered::Dropped;
        }
        queue.waiting.push_back((now, question));
        if std::mem::replace(&mut queue.is_emptied, true) { Offered::Queued } else { Offered::Alone }
    }

    /// The next question; with none, whoever took them out is done, and the next offer is alone again.
    pub fn next(&self, now: Instant) -> Option<Arc<ShadowQuestion>> {
        let mut queue = self.queue();
        while let Some((since, question)) = queue.waiting.pop_front() {
            if now.saturating_duration_since(since) <= WAIT_MAX {
                return Some(question);
            }
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        queue.is_emptied = false;
        None
    }

    /// Whoever took questions out will not go on: those that wait are dropped.
    pub fn abandon(&self) {
        let mut queue = self.queue();
        let waiting = u64::try_from(queue.waiting.len()).unwrap_or(u64::MAX);
        self.dropped.fetch_add(waiting, Ordering::Relaxed);
        *queue = Queue::default();
    }

    /// Counts what the policy said to `question`.
    pub fn count(&self, question: &ShadowQuestion, answer: &Result<Decision, CallError>) -> ShadowOutcome {
        let outcome = ShadowOutcome::of(question, answer);
        let counter = match outcome {
            ShadowOutcome::Agreed => &self.agreed,
            ShadowOutcome::WouldDeny => &self.would_deny,
            ShadowOutcome::WouldAllow => &self.would_allow,
            ShadowOutcome::Failed => &self.failed,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        outcome
    }

    /// How often each happened so far.
    pub fn counts(&self) -> ShadowCounts {
        ShadowCounts {
            agreed: self.agreed.load(Ordering::Relaxed),
            would_deny: self.would_deny.load(Ordering::Relaxed),
            would_allow: self.would_allow.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            dropped: self.dropped.load(Ordering::Relaxed),
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ShadowOutcome {
    /// What `answer` would have changed.
    pub fn of(question: &ShadowQuestion, answer: &Result<Decision, CallError>) -> Self {
        let opens = match answer {
            Err(_) => return Self::Failed,
            Ok(Decision::Deny(_)) => {
                return match question.verdict {
                    Verdict::Allow { .. } => Self::WouldDeny,
                    Verdict::Deny(_) => Self::Agreed,
                };
            }
            Ok(Decision::NoOpinion) => false,
            Ok(Decision::Allow) => true,
            Ok(Decision::Conditional(conditional)) => match conditional.holds(question.query.request.as_ref()) {
                Ok(holds) => holds,
                Err(_) => return Self::Failed,
            },
        };
        match question.verdict {
            Verdict::Deny(DenyReason::Silence) if opens => Self::WouldAllow,
            Verdict::Deny(_) | Verdict::Allow { .. } => Self::Agreed,
        }
    }
}

/// Questions that may wait for one shadow policy.
const QUESTIONS_MAX: usize = 256;

/// How long one may wait.
const WAIT_MAX: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Conditional, Limit, Permission, PluginName, PolicyAnswer, PolicyMode, verdict};

    fn question(verdict: Verdict) -> Arc<ShadowQuestion> {
        let query = PolicyQuery { permission: Permission::PROXY, resource_ref: None, request: None, now: 0 };
        Arc::new(ShadowQuestion { query, user: UserInfo::named("jane"), verdict })
    }

    fn allowed() -> Verdict {
        Verdict::Allow { policy: None }
    }

    /// Goal: a full queue drops and counts, and one at a time empties it. Method: one question more than fits.
    #[test]
    fn questions_are_bounded() {
        let shadow = Shadow::default();
        let now = Instant::now();
        assert_eq!(shadow.offer(question(allowed()), now), Offered::Alone);
        for _ in 1..QUESTIONS_MAX {
            assert_eq!(shadow.offer(question(allowed()), now), Offered::Queued);
        }
        assert_eq!(shadow.offer(question(allowed()), now), Offered::Dropped);
        for _ in 0..QUESTIONS_MAX {
            assert!(shadow.next(now).is_some());
        }
        assert!(shadow.next(now).is_none());
        assert_eq!(shadow.offer(question(allowed()), now), Offered::Alone);
        assert!(shadow.next(now + WAIT_MAX + Duration::from_nanos(1)).is_none(), "it waited too long");
        assert_eq!(shadow.offer(question(allowed()), now), Offered::Alone);
        shadow.abandon();
        assert_eq!(shadow.counts(), ShadowCounts { dropped: 3, ..ShadowCounts::default() });
    }

    fn any_answer() -> impl Strategy<Value = Option<Decision>> {
        prop_oneof![
            Just(None),
            Just(Some(Decision::Allow)),
            Just(Some(Decision::NoOpinion)),
            Just(Some(Decision::Deny("no".into()))),
            Just(Some(Decision::Conditional(Conditional { any_of: vec![], reusable_for: None }))),
        ]
    }

    fn made(policy: &PluginName, answer: Option<Decision>) -> Result<Decision, CallError> {
        answer.ok_or_else(|| CallError::LimitReached { plugin: policy.clone(), limit: Limit::Memory })
    }

    proptest! {
        /// Goal: an outcome says what enforcing the policy would have changed. Method: the verdict with it and without it.
        #[test]
        fn an_outcome_is_the_difference(others in prop::collection::vec(any_answer(), 0..4), own in any_answer()) {
            let name = PluginName::try_from("p").unwrap();
            let answer = |decision| PolicyAnswer { policy: &name, mode: PolicyMode::Enforce, answer: made(&name, decision) };
            let without = verdict(others.iter().cloned().map(answer), None);
            let with = verdict(others.iter().cloned().chain([own.clone()]).map(answer), None);
            let allows = |verdict: &Verdict| matches!(verdict, Verdict::Allow { .. });
            let question = question(without.clone());
            match ShadowOutcome::of(&question, &made(&name, own)) {
                ShadowOutcome::Agreed => prop_assert_eq!(allows(&with), allows(&without)),
                ShadowOutcome::WouldDeny => prop_assert!(allows(&without) && !allows(&with)),
                ShadowOutcome::WouldAllow => prop_assert!(!allows(&without) && allows(&with)),
                ShadowOutcome::Failed => prop_assert!(!allows(&with)),
            }
        }
    }
}
