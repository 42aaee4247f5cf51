//! Asks a policy that was just loaded what it will be asked: a policy that cannot answer at all must not begin to deny everybody.
//!
//! Any decision will do; what counts is that there is one, within the policy's own limits. The caller and the cluster of
//! the probe exist nowhere. Strategies are not asked here: each is asked about its clusters when a generation is built.

use std::time::Duration;

use witgate_core::{
    ActionClass, CallError, ClusterName, Permission, PermissionPolicy, PolicyQuery, RequestAttributes, RequestTarget,
    UserInfo,
};

/// Asks both kinds of query that there are.
///
/// # Errors
/// With the failure of the first that got no answer.
pub(crate) async fn ask(policy: &dyn PermissionPolicy) -> Result<(), CallError> {
    let user = UserInfo::named(USER);
    for query in queries() {
        answered(policy, &query, &user).await?;
    }
    Ok(())
}

/// Asks once more where the machine, and not the policy, may be why there is no answer.
async fn answered(policy: &dyn PermissionPolicy, query: &PolicyQuery, user: &UserInfo) -> Result<(), CallError> {
    let mut tries = 1;
    loop {
        match policy.handle(query, Some(user)).await {
            Ok(_) => return Ok(()),
            Err(CallError::DeadlineExceeded { .. } | CallError::Saturated { .. }) if tries < TRIES_MAX => {
                tries += 1;
                tokio::time::sleep(TRY_PAUSE).await;
            }
            Err(error) => return Err(error),
        }
    }
}

fn queries() -> impl Iterator<Item = PolicyQuery> {
    let request = RequestTarget::parse(PATH)
        .ok()
        .zip(ClusterName::try_from(CLUSTER).ok())
        .and_then(|(target, cluster)| RequestAttributes::of(cluster, "GET", &target, false, None).ok());
    debug_assert!(request.as_ref().is_some_and(|request| request.action_class == ActionClass::Read));
    [(Permission::CLUSTERS_READ, None), (Permission::PROXY, request)].into_iter().map(|(permission, request)| {
        // Answers must not depend on the time of a reload.
        PolicyQuery { permission, resource_ref: None, request, now: NOW }
    })
}

/// How many queries [`ask`] asks of who answers.
pub(crate) const QUERIES: u32 = 2;

/// Who asks: a name that no caller has, as it is no user reference and no service account.
const USER: &str = "witgate:self-test";
const CLUSTER: &str = "witgate-self-test";
const PATH: &str = "/api/v1/namespaces/default/pods";
/// 2026-01-01.
const NOW: u64 = 1_767_225_600;
/// How often a policy is asked that was late or had no place to run.
const TRIES_MAX: usize = 3;
const TRY_PAUSE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use witgate_core::{BoxFuture, Decision, Digest, PluginName, PolicyMode};

    use super::*;

    /// Fails as often as it is told to, then answers.
    struct Fake {
        name: PluginName,
        failures: AtomicUsize,
        error: fn(PluginName) -> CallError,
        asked: Mutex<Vec<&'static str>>,
    }

    impl PermissionPolicy for Fake {
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
            query: &'a PolicyQuery,
            _user: Option<&'a UserInfo>,
        ) -> BoxFuture<'a, Result<Decision, CallError>> {
            self.asked.lock().unwrap().push(query.permission.name);
            let fails = self.failures.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
            let answer = if fails.is_ok() { Err((self.error)(self.name.clone())) } else { Ok(Decision::NoOpinion) };
            Box::pin(async { answer })
        }
    }

    fn trapped(plugin: PluginName) -> CallError {
        CallError::Trapped { plugin, source: "unreachable".into() }
    }

    fn late(plugin: PluginName) -> CallError {
        CallError::DeadlineExceeded { plugin, deadline: Duration::from_millis(50) }
    }

    /// Goal: who answers passes, whatever it says; who traps does not, at once; who is late has a few tries. Method: rows
    /// of failures, the queries that were asked, and the end.
    #[tokio::test(start_paused = true)]
    async fn who_cannot_answer_fails() {
        check(0, trapped, &["kubernetes.clusters.read", "kubernetes.proxy"], true).await;
        check(1, trapped, &["kubernetes.clusters.read"], false).await;
        let read = "kubernetes.clusters.read";
        check(2, late, &[read, read, read, "kubernetes.proxy"], true).await;
        check(3, late, &[read, read, read], false).await;
    }

    async fn check(failures: usize, error: fn(PluginName) -> CallError, asked: &[&str], passes: bool) {
        let name = PluginName::try_from("fake").unwrap();
        let fake = Fake { name, failures: failures.into(), error, asked: Mutex::default() };
        assert_eq!(ask(&fake).await.is_ok(), passes, "{failures}");
        assert_eq!(*fake.asked.lock().unwrap(), asked, "{failures}");
    }
}
