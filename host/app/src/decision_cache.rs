//! Answers for a policy that promised the same conditional to every query of a user: a policy around a policy.
//!
//! What is kept is the conditional, never what came of it: its conditions are checked against each request, by the same fold
//! as any answer. Only `reusable-for` makes an answer fit to be kept; an `allow`, a `deny` or a failure is asked for again.
//! The time is the query's own `now`, the clock that the policy saw. A new generation begins with nothing.
//!
//! Nothing waits here: of several requests that miss at once each asks the policy, which costs microseconds.

use std::collections::HashMap;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use witgate_core::{
    Answer, BoxFuture, CallError, Conditional, Decision, Digest, PermissionPolicy, PluginName, PolicyMode, PolicyQuery,
    Quarantine, Shadow, UserInfo,
};

/// A policy of one generation, and what it promised.
pub(crate) struct CachedPolicy {
    policy: Arc<dyn PermissionPolicy>,
    /// By the permission's name, of which there are few.
    promises: Mutex<HashMap<&'static str, Promises>>,
}

/// Promises for one permission, by user. When `recent` is full it becomes `older`, and what was older is gone: bounded, and
/// no request pays for looking through all of them.
#[derive(Default)]
struct Promises {
    recent: HashMap<UserInfo, Promise>,
    older: HashMap<UserInfo, Promise>,
}

/// One conditional, good for a while.
struct Promise {
    conditional: Conditional,
    /// The seconds in which it is good: from the query that it answered, to before the second.
    from: u64,
    until: u64,
}

impl CachedPolicy {
    /// Nothing is kept yet.
    pub(crate) fn around(policy: Arc<dyn PermissionPolicy>) -> Self {
        Self { policy, promises: Mutex::default() }
    }

    fn promised(&self, query: &PolicyQuery, user: &UserInfo) -> Option<Conditional> {
        let promises = self.promises();
        let promise = promises.get(query.permission.name)?.find(user)?;
        promise.is_good(query.now).then(|| promise.conditional.clone())
    }

    fn keep(&self, query: &PolicyQuery, user: &UserInfo, decision: &Decision) {
        let Decision::Conditional(conditional) = decision else { return };
        if let Some(promise) = Promise::new(conditional, query)
            && user_bytes(user) <= USER_BYTES_MAX
        {
            self.promises().entry(query.permission.name).or_default().keep(user.clone(), promise);
        }
    }

    fn promises(&self) -> MutexGuard<'_, HashMap<&'static str, Promises>> {
        self.promises.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PermissionPolicy for CachedPolicy {
    fn name(&self) -> &PluginName {
        self.policy.name()
    }

    fn digest(&self) -> Digest {
        self.policy.digest()
    }

    fn mode(&self) -> PolicyMode {
        self.policy.mode()
    }

    fn quarantine(&self) -> Option<&Arc<Quarantine>> {
        self.policy.quarantine()
    }

    fn shadow(&self) -> Option<&Arc<Shadow>> {
        self.policy.shadow()
    }

    fn handle<'a>(
        &'a self,
        query: &'a PolicyQuery,
        user: Option<&'a UserInfo>,
    ) -> BoxFuture<'a, Result<Decision, CallError>> {
        Box::pin(async move { self.answer(query, user).await.map(|answer| answer.decision) })
    }

    fn answer<'a>(
        &'a self,
        query: &'a PolicyQuery,
        user: Option<&'a UserInfo>,
    ) -> BoxFuture<'a, Result<Answer, CallError>> {
        let Some(user) = user else { return self.policy.answer(query, None) };
        if let Some(conditional) = self.promised(query, user) {
            return Box::pin(std::future::ready(Ok(Decision::Conditional(conditional).into())));
        }
        Box::pin(async move {
            let answer = self.policy.answer(query, Some(user)).await?;
            // A warning is of one request: who has one is asked again.
            if answer.warnings.is_empty() {
                self.keep(query, user, &answer.decision);
            }
            Ok(answer)
        })
    }

    /// Asks the policy itself, whatever it promised: who tries something out wants to know what it says, and how long it takes.
    fn try_out<'a>(
        &'a self,
        query: &'a PolicyQuery,
        user: Option<&'a UserInfo>,
    ) -> BoxFuture<'a, Result<Answer, CallError>> {
        self.policy.try_out(query, user)
    }
}

impl Promises {
    fn find(&self, user: &UserInfo) -> Option<&Promise> {
        self.recent.get(user).or_else(|| self.older.get(user))
    }

    fn keep(&mut self, user: UserInfo, promise: Promise) {
        if self.recent.len() >= RECENT_MAX && !self.recent.contains_key(&user) {
            self.older = mem::take(&mut self.recent);
        }
        self.recent.insert(user, promise);
    }
}

impl Promise {
    /// None where the policy promised nothing, or something that is not to be kept.
    fn new(conditional: &Conditional, query: &PolicyQuery) -> Option<Self> {
        let seconds = conditional.reusable_for?.min(REUSED_SECONDS_MAX);
        // A malformed one denies; it is asked for again, so that its policy's next answer counts.
        if seconds == 0 || bytes(conditional) > CONDITIONAL_BYTES_MAX || conditional.holds(None).is_err() {
            return None;
        }
        Some(Self {
            conditional: conditional.clone(),
            from: query.now,
            until: query.now.saturating_add(u64::from(seconds)),
        })
    }

    /// A clock that was set back makes it as worthless as one that ran on.
    const fn is_good(&self, now: u64) -> bool {
        self.from <= now && now < self.until
    }
}

fn user_bytes(UserInfo { name, uid, groups, extra }: &UserInfo) -> usize {
    let texts = |texts: &[String]| texts.iter().map(|text| text.len() + size_of::<String>()).sum::<usize>();
    let extra = extra.iter().map(|(key, values)| key.len() + texts(values)).sum::<usize>();
    name.len() + uid.as_ref().map_or(0, String::len) + texts(groups) + extra
}

/// What it holds, roughly.
fn bytes(conditional: &Conditional) -> usize {
    let texts = |texts: &[String]| texts.iter().map(|text| text.len() + size_of::<String>()).sum::<usize>();
    let conditions = conditional.any_of.iter().flatten();
    let of_condition = |condition: &witgate_core::Condition| {
        let params = condition.params.iter().map(|(name, values)| name.len() + texts(values)).sum::<usize>();
        size_of_val(condition) + condition.rule.len() + params
    };
    conditional.any_of.len() * size_of::<Vec<()>>() + conditions.map(of_condition).sum::<usize>()
}

/// Users whose promises are kept, twice, for each permission and policy.
const RECENT_MAX: usize = 4096;

/// Larger ones are asked for each time: with `RECENT_MAX` these bound what a policy's promises take.
const CONDITIONAL_BYTES_MAX: usize = 4 << 10;
const USER_BYTES_MAX: usize = 4 << 10;

/// However long a policy promises: an hour.
const REUSED_SECONDS_MAX: u32 = 3600;

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use witgate_core::{Condition, Permission};

    use super::*;

    /// Answers with what it holds, and counts.
    struct Counting {
        name: PluginName,
        answer: Decision,
        asked: AtomicUsize,
    }

    impl PermissionPolicy for Counting {
        fn name(&self) -> &PluginName {
            &self.name
        }

        fn digest(&self) -> Digest {
            Digest::of(b"")
        }

        fn mode(&self) -> PolicyMode {
            PolicyMode::Enforce
        }

        fn handle<'a>(
            &'a self,
            _query: &'a PolicyQuery,
            _user: Option<&'a UserInfo>,
        ) -> BoxFuture<'a, Result<Decision, CallError>> {
            self.asked.fetch_add(1, Ordering::SeqCst);
            Box::pin(std::future::ready(Ok(self.answer.clone())))
        }
    }

    fn counting(answer: Decision) -> (CachedPolicy, Arc<Counting>) {
        let name = PluginName::try_from("p").unwrap();
        let policy = Arc::new(Counting { name, answer, asked: AtomicUsize::new(0) });
        (CachedPolicy::around(Arc::clone(&policy) as Arc<dyn PermissionPolicy>), policy)
    }

    fn conditional(cluster: &str, reusable_for: Option<u32>) -> Decision {
        let condition = Condition {
            rule: "IS_CLUSTER".into(),
            params: vec![("clusters".into(), vec![cluster.into()])],
            negated: false,
        };
        Decision::Conditional(Conditional { any_of: vec![vec![condition]], reusable_for })
    }

    fn query(permission: Permission, now: u64) -> PolicyQuery {
        PolicyQuery { permission, resource_ref: None, request: None, now }
    }

    fn named(name: &str) -> Option<UserInfo> {
        Some(UserInfo::named(name))
    }

    /// Goal: a promise is used for its user, its permission and its seconds, and for nothing else. Method: queries in turn,
    /// each with how often the policy has been asked after it.
    #[tokio::test]
    async fn a_promise_is_used_where_it_was_made() {
        let (cached, policy) = counting(conditional("x", Some(60)));
        let proxy = |now| query(Permission::PROXY, now);
        let in_group = Some(UserInfo { groups: vec!["g".into()], ..UserInfo::named("jane") });
        for (query, user, asked) in [
            (proxy(1000), named("jane"), 1),
            (proxy(1000), named("jane"), 1),
            (proxy(1059), named("jane"), 1),
            (proxy(1059), named("john"), 2),
            (proxy(1059), in_group, 3),
            (query(Permission::CLUSTERS_READ, 1059), named("jane"), 4),
            (proxy(1060), named("jane"), 5),
            (proxy(1119), named("jane"), 5),
            (proxy(1059), named("jane"), 6), // the clock was set back
            (proxy(1059), None, 7),
            (proxy(1059), None, 8),
        ] {
            let answer = cached.handle(&query, user.as_ref()).await.unwrap();
            assert_eq!(answer, policy.answer);
            assert_eq!(policy.asked.load(Ordering::SeqCst), asked, "{query:?} {user:?}");
        }
    }

    /// Goal: what was not promised is asked for each time. Method: one row an answer, asked twice.
    #[tokio::test]
    async fn what_was_not_promised_is_not_kept() {
        let malformed = Condition { rule: "IS_TUESDAY".into(), params: Vec::new(), negated: false };
        let malformed = Conditional { any_of: vec![vec![malformed]], reusable_for: Some(60) };
        for answer in [
            Decision::Allow,
            Decision::Deny("no".into()),
            Decision::NoOpinion,
            conditional("x", None),
            conditional("x", Some(0)),
            conditional(&"x".repeat(CONDITIONAL_BYTES_MAX), Some(60)),
            Decision::Conditional(malformed),
        ] {
            let (cached, policy) = counting(answer);
            for _ in 0..2 {
                cached.handle(&query(Permission::PROXY, 1000), named("jane").as_ref()).await.unwrap();
            }
            assert_eq!(policy.asked.load(Ordering::SeqCst), 2, "{:?}", policy.answer);
        }
    }

    /// Goal: a user with groups without end is asked about each time.
    #[tokio::test]
    async fn a_large_user_is_not_kept() {
        let (cached, policy) = counting(conditional("x", Some(60)));
        let user = UserInfo { groups: vec!["g".repeat(100); 50], ..UserInfo::named("jane") };
        for asked in [1, 2] {
            cached.handle(&query(Permission::PROXY, 0), Some(&user)).await.unwrap();
            assert_eq!(policy.asked.load(Ordering::SeqCst), asked);
        }
    }

    /// Goal: no promise outlives an hour.
    #[tokio::test]
    async fn a_promise_for_ever_ends() {
        let (cached, policy) = counting(conditional("x", Some(u32::MAX)));
        for (now, asked) in [(0, 1), (3599, 1), (3600, 2)] {
            cached.handle(&query(Permission::PROXY, now), named("jane").as_ref()).await.unwrap();
            assert_eq!(policy.asked.load(Ordering::SeqCst), asked, "{now}");
        }
    }

    /// Goal: however many users call, what is kept is bounded, and who called last is kept. Method: users without end.
    #[tokio::test]
    async fn what_is_kept_is_bounded() {
        let (cached, policy) = counting(conditional("x", Some(60)));
        let asks = async |number: usize| {
            let before = policy.asked.load(Ordering::SeqCst);
            let user = named(&format!("user-{number}"));
            cached.handle(&query(Permission::PROXY, 0), user.as_ref()).await.unwrap();
            policy.asked.load(Ordering::SeqCst) > before
        };
        for number in 0..RECENT_MAX * 3 + 1 {
            assert!(asks(number).await);
        }
        let kept = cached.promises().values().map(|kept| kept.recent.len() + kept.older.len()).sum::<usize>();
        assert_eq!(kept, RECENT_MAX + 1);
        assert!(!asks(RECENT_MAX * 3).await && !asks(RECENT_MAX * 2).await);
        assert!(asks(0).await);
    }
}
