//! Asks the shadow policies, after the verdict.
//!
//! The request does not wait for them, whatever they do. Each policy is asked by one task at a time, which is there for as
//! long as questions wait.

use std::sync::Arc;
use std::time::Instant;

use tracing::{Instrument as _, Span, debug, info, warn};
use witgate_core::{
    Offered, PermissionPolicy, PolicyMode, PolicyQuery, Shadow, ShadowOutcome, ShadowQuestion, UserInfo, Verdict,
};

use crate::authorize::chain;

/// Lets the shadow policies among `policies` judge what was decided.
pub(crate) fn ask_later(
    policies: &[Arc<dyn PermissionPolicy>],
    query: &PolicyQuery,
    user: &UserInfo,
    verdict: &Verdict,
) {
    let mut shared = None;
    for policy in policies.iter().filter(|policy| policy.mode() == PolicyMode::Shadow) {
        let Some(shadow) = policy.shadow() else { continue };
        let question = shared.get_or_insert_with(|| {
            Arc::new(ShadowQuestion { query: query.clone(), user: user.clone(), verdict: verdict.clone() })
        });
        match shadow.offer(Arc::clone(question), Instant::now()) {
            Offered::Alone => {
                let asking = Asking { policy: Arc::clone(policy), shadow: Arc::clone(shadow), ended: false };
                tokio::spawn(asking.run().instrument(Span::none()));
            }
            Offered::Queued | Offered::Dropped => {}
        }
    }
}

/// Takes the questions of one policy out, until there are none.
struct Asking {
    policy: Arc<dyn PermissionPolicy>,
    shadow: Arc<Shadow>,
    /// Whether it went on to the end; others may have begun since.
    ended: bool,
}

impl Asking {
    async fn run(mut self) {
        while let Some(question) = self.shadow.next(Instant::now()) {
            let ShadowQuestion { query, user, verdict: _ } = &*question;
            let answer = self.policy.handle(query, Some(user)).await;
            let (policy, user) = (self.policy.name(), &user.name);
            match self.shadow.count(&question, &answer) {
                ShadowOutcome::Agreed => debug!(%policy, ?answer, "a shadow policy agreed"),
                ShadowOutcome::WouldDeny => {
                    info!(%policy, user, path = path(query), ?answer, "a shadow policy would have denied");
                }
                ShadowOutcome::WouldAllow => {
                    info!(%policy, user, path = path(query), "a shadow policy would have allowed");
                }
                ShadowOutcome::Failed => {
                    let (code, error) = match &answer {
                        Err(error) => (error.code(), chain(error)),
                        Ok(_) => ("malformed-answer", "its conditions cannot be checked".to_owned()),
                    };
                    warn!(%policy, code, error, "a shadow policy gave no answer");
                }
            }
        }
        self.ended = true;
    }
}

/// Whatever ends it, the next question finds somebody to ask it.
impl Drop for Asking {
    fn drop(&mut self) {
        if !self.ended {
            self.shadow.abandon();
        }
    }
}

fn path(query: &PolicyQuery) -> &str {
    query.request.as_ref().map_or("", |request| request.path.as_str())
}

#[cfg(test)]
mod tests {
    use tokio::sync::{Semaphore, watch};
    use witgate_core::{
        BoxFuture, CallError, Decision, Digest, Permission, PermissionPolicy, PluginName, ShadowCounts,
    };

    use super::*;

    /// Denies, once it is told to.
    struct Slow {
        name: PluginName,
        shadow: Arc<Shadow>,
        gate: Arc<Semaphore>,
        asked: watch::Sender<u32>,
    }

    impl PermissionPolicy for Slow {
        fn name(&self) -> &PluginName {
            &self.name
        }

        fn digest(&self) -> Digest {
            Digest::of(b"slow")
        }

        fn mode(&self) -> PolicyMode {
            PolicyMode::Shadow
        }

        fn shadow(&self) -> Option<&Arc<Shadow>> {
            Some(&self.shadow)
        }

        fn handle<'a>(
            &'a self,
            _query: &'a PolicyQuery,
            _user: Option<&'a UserInfo>,
        ) -> BoxFuture<'a, Result<Decision, CallError>> {
            Box::pin(async {
                self.asked.send_modify(|asked| *asked += 1);
                self.gate.acquire().await.expect("never closed").forget();
                Ok(Decision::Deny("no".to_owned()))
            })
        }
    }

    /// Goal: a shadow policy that takes for ever delays nobody, is asked one question at a time, and loses what finds no
    /// room. Method: one that waits to be told, 300 questions; then it is told.
    #[tokio::test]
    async fn a_slow_shadow_policy_is_bounded() {
        let (asked, mut seen) = watch::channel(0);
        let gate = Arc::new(Semaphore::new(0));
        let name = PluginName::try_from("slow").unwrap();
        let slow = Slow { name, shadow: Arc::default(), gate: Arc::clone(&gate), asked };
        let shadow = Arc::clone(&slow.shadow);
        let policies: Vec<Arc<dyn PermissionPolicy>> = vec![Arc::new(slow)];
        let query = PolicyQuery { permission: Permission::PROXY, resource_ref: None, request: None, now: 0 };
        let user = UserInfo::named("jane");
        let allowed = Verdict::Allow { policy: None };

        ask_later(&policies, &query, &user, &allowed);
        seen.wait_for(|asked| *asked == 1).await.unwrap();
        for _ in 0..300 {
            ask_later(&policies, &query, &user, &allowed);
        }
        assert_eq!(*seen.borrow(), 1, "one at a time");
        assert_eq!(shadow.counts(), ShadowCounts { dropped: 44, ..ShadowCounts::default() });

        gate.add_permits(1_000);
        seen.wait_for(|asked| *asked == 257).await.unwrap();
        while Arc::strong_count(&shadow) > 2 {
            tokio::task::yield_now().await; // until the task is gone
        }
        assert_eq!(shadow.counts(), ShadowCounts { would_deny: 257, dropped: 44, ..ShadowCounts::default() });
    }
}
