//! The credential cache: one exchange, however many requests wait for its credential.
//!
//! It stands between the data plane and the strategies, as a strategy itself: one [`CachedStrategy`] a cluster, around
//! one loaded plug-in. That plug-in is the cache's first key: a reload that loads it anew, for other bytes or another
//! sidecar, makes a new cache and drops the old one with its generation; a reload of anything else keeps it. The
//! other keys are what the strategy is shown: the caller and the whole request-auth, or less of them where the
//! plug-in's [`DependsOn`] says so. What does not count is not shown, so the answer cannot depend on it.
//!
//! - A grant with an expiry is kept until [`EXPIRY_MARGIN`] before it. One without is good for its own request only, unless the host
//!   knows for how long the same question has the same answer ([`Issued::same_for`]) and no token of a caller is in the question:
//!   a secret of the configuration lasts as long as the configuration, one in a file is looked at again each second.
//! - One exchange at a time for each key, in a task of its own: a caller who leaves cancels nobody's. It ends within the
//!   plug-in's deadline, and so does everybody's wait for it.
//! - A credential that is near its end is renewed in the background, by the first request that sees it; all are
//!   served the old one meanwhile. A renewal that fails is tried again, more and more rarely.
//! - A failure of an exchange is remembered for [`FAILURE_KEPT`].
//! - A credential that the API server answers with 401 is dropped, at most once in [`REJECTION_PAUSE`] for each key.
//!
//! Promise: no credential is handed out at or after its expiry; no failure becomes a credential; nothing here
//! prints or keeps a caller's token.

mod clock;
mod counts;
mod failure;
mod held;
mod key;
mod store;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tracing::{Instrument as _, Span, debug};
use witgate_core::{
    AuthError, AuthenticationStrategy, BoxFuture, CallError, ClusterDetails, ClusterName, Credential, Grant, Issued,
    Metadata, PluginName, RequestAuth, SecretStore, UserInfo,
};

use crate::plugins::DependsOn;
use clock::Clock;
pub(crate) use counts::CacheStatus;
use counts::Counts;
use failure::Failure;
use key::{Key, KeySecret};
use store::{Step, Store};

type Answer = Result<Result<Issued, AuthError>, CallError>;
type Outcome = Result<Grant, Failure>;

/// The caches of all clusters that serve, and what they have in common.
pub(crate) struct CredentialCache {
    secret: KeySecret,
    clock: Clock,
    counts: Arc<Counts>,
    serving: Mutex<HashMap<ClusterName, CachedStrategy>>,
}

impl CredentialCache {
    /// A cache of nothing yet.
    pub(crate) fn new() -> Self {
        Self::with_clock(clock::system())
    }

    fn with_clock(clock: Clock) -> Self {
        Self { secret: KeySecret::generate(), clock, counts: Arc::default(), serving: Mutex::default() }
    }

    /// `strategy` for `cluster` alone, with the cache that it has already where it serves that cluster now.
    pub(crate) fn around(
        &self,
        strategy: &Arc<dyn AuthenticationStrategy>,
        depends_on: DependsOn,
        cluster: &ClusterDetails,
        secrets: &Arc<dyn SecretStore>,
    ) -> CachedStrategy {
        let serving = self.serving.lock().unwrap_or_else(PoisonError::into_inner);
        let known = serving.get(&cluster.name).filter(|known| {
            // The very instance: loaded from the same bytes and the same sidecar, in the same generation.
            Arc::ptr_eq(&known.0.strategy, strategy)
                && known.0.depends_on == depends_on
                && known.0.cluster == *cluster
                && Arc::ptr_eq(&known.0.secrets, secrets)
        });
        known.cloned().unwrap_or_else(|| {
            CachedStrategy(Arc::new(Inner {
                strategy: Arc::clone(strategy),
                depends_on,
                cluster: cluster.clone(),
                secrets: Arc::clone(secrets),
                secret: self.secret.clone(),
                clock: Arc::clone(&self.clock),
                counts: Arc::clone(&self.counts),
                store: Store::default(),
                per_request: AtomicBool::new(false),
                failing: AtomicBool::new(false),
                last_failure: Mutex::default(),
            }))
        })
    }

    /// What serves from now on; the caches of everything else are let go.
    pub(crate) fn serve(&self, caches: HashMap<ClusterName, CachedStrategy>) {
        let before = std::mem::replace(&mut *self.serving.lock().unwrap_or_else(PoisonError::into_inner), caches);
        drop(before); // not under the lock
    }

    /// Why the last exchange of a cluster that serves brought nothing, where that says something of the cluster.
    pub(crate) fn failure_of(&self, cluster: &ClusterName) -> Option<String> {
        let cache = self.serving.lock().unwrap_or_else(PoisonError::into_inner).get(cluster)?.clone();
        cache.0.last_failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What `/status` tells.
    pub(crate) fn status(&self) -> CacheStatus {
        let serving = self.serving.lock().unwrap_or_else(PoisonError::into_inner);
        self.counts.status(serving.values().map(|cache| cache.0.store.held_count()).sum())
    }
}

/// One cluster's strategy, with what it yielded and is still good. Cheap to clone.
#[derive(Clone)]
pub(crate) struct CachedStrategy(Arc<Inner>);

struct Inner {
    strategy: Arc<dyn AuthenticationStrategy>,
    depends_on: DependsOn,
    cluster: ClusterDetails,
    /// What the credentials were made from: other secrets, other credentials.
    secrets: Arc<dyn SecretStore>,
    secret: KeySecret,
    clock: Clock,
    counts: Arc<Counts>,
    store: Store,
    /// Whether the last grant had no expiry. Then requests do not wait for each other: they could not share the next either.
    per_request: AtomicBool,
    /// Whether there is a `last_failure`: a success looks here first, and seldom needs the lock.
    failing: AtomicBool,
    /// What `/status` tells of the last exchange; a success ends it.
    last_failure: Mutex<Option<String>>,
}

/// What one exchange is made from; owned, because it outlives the request that began it.
struct Question {
    secrets: Arc<dyn SecretStore>,
    request_auth: RequestAuth,
    caller: Option<UserInfo>,
}

impl CachedStrategy {
    async fn answer(
        &self,
        cluster: &ClusterDetails,
        secrets: &Arc<dyn SecretStore>,
        request_auth: &RequestAuth,
        caller: Option<&UserInfo>,
    ) -> Answer {
        let inner = &self.0;
        let (request_auth, caller) = inner.shown(request_auth, caller);
        if *cluster != inner.cluster {
            // Nobody asks it about another cluster; if somebody did, nothing kept here would be the answer.
            return inner.strategy.credential(cluster, secrets, request_auth, caller).await;
        }
        let key = inner.key(request_auth, caller);
        let question =
            || Question { secrets: Arc::clone(secrets), request_auth: request_auth.clone(), caller: caller.cloned() };
        let (mut ended, leads) = match inner.store.step(key, (inner.clock)(), inner.grants_are_per_request()) {
            Step::Held { grant, renewal } => {
                inner.counts.hit();
                if let Some(flight) = renewal {
                    inner.counts.refresh();
                    self.exchange(key, question(), flight);
                }
                return Ok(Ok(held(grant)));
            }
            Step::Failed(failure) => {
                inner.counts.hit();
                return failure.into_answer();
            }
            Step::Direct => return inner.ask_directly(key, secrets, request_auth, caller).await,
            Step::Wait(ended) => (ended, false),
            Step::Lead(flight) => {
                inner.counts.miss();
                let ended = flight.subscribe();
                self.exchange(key, question(), flight);
                (ended, true)
            }
        };
        let outcome = match ended.wait_for(Option::is_some).await {
            Ok(outcome) => outcome.clone(),
            Err(_) => None,
        };
        let outcome = outcome.unwrap_or_else(|| Err(Failure::died(inner.strategy.name())));
        match outcome {
            // Made for another request, and good for that one only.
            Ok(grant) if grant.expires_at.is_none() && !leads => match inner.store.step(key, (inner.clock)(), true) {
                Step::Held { grant, renewal: None } => {
                    inner.counts.hit();
                    Ok(Ok(held(grant)))
                }
                _ => inner.ask_directly(key, secrets, request_auth, caller).await,
            },
            Ok(grant) => {
                if !leads {
                    inner.counts.hit();
                }
                inner
                    .unexpired(grant)
                    .map_or_else(Failure::into_answer, |grant| Ok(Ok(Issued { cache_hit: !leads, ..held(grant) })))
            }
            Err(failure) => failure.into_answer(),
        }
    }

    /// Asks the strategy in a task of its own, and tells everybody who waits on `flight`.
    fn exchange(&self, key: Key, question: Question, flight: watch::Sender<Option<Outcome>>) {
        let this = self.clone();
        let exchange = async move {
            let inner = &*this.0;
            let landing = Landing { store: &inner.store, key };
            let Question { secrets, request_auth, caller } = &question;
            let answer = inner.strategy.credential(&inner.cluster, secrets, request_auth, caller.as_ref()).await;
            let outcome = inner.settle(key, request_auth, answer);
            drop(landing);
            flight.send_replace(Some(outcome));
        };
        tokio::spawn(exchange.instrument(Span::current()));
    }
}

/// Takes a flight off the board when its task ends, however it ends.
struct Landing<'a> {
    store: &'a Store,
    key: Key,
}

impl Drop for Landing<'_> {
    fn drop(&mut self) {
        self.store.land(&self.key);
    }
}

impl Inner {
    /// What the strategy is shown of a request.
    fn shown<'a>(
        &self,
        request_auth: &'a RequestAuth,
        caller: Option<&'a UserInfo>,
    ) -> (&'a RequestAuth, Option<&'a UserInfo>) {
        static NO_TOKENS: RequestAuth = RequestAuth::none();
        match self.depends_on {
            DependsOn::Cluster => (&NO_TOKENS, None),
            DependsOn::RequestAuth => (request_auth, None),
            DependsOn::Caller => (request_auth, caller),
        }
    }

    fn key(&self, request_auth: &RequestAuth, caller: Option<&UserInfo>) -> Key {
        Key::of(&self.secret, request_auth, caller)
    }

    fn grants_are_per_request(&self) -> bool {
        self.per_request.load(Ordering::Relaxed)
    }

    /// Asks the strategy for this request alone: dropping the future ends the guest.
    async fn ask_directly(
        &self,
        key: Key,
        secrets: &Arc<dyn SecretStore>,
        request_auth: &RequestAuth,
        caller: Option<&UserInfo>,
    ) -> Answer {
        self.counts.miss();
        let answer = self.strategy.credential(&self.cluster, secrets, request_auth, caller).await;
        match self.settle(key, request_auth, answer) {
            Ok(grant) => Ok(Ok(Issued { cache_hit: false, ..held(grant) })),
            Err(failure) => failure.into_answer(),
        }
    }

    /// Keeps what an exchange brought, as far as it may be kept.
    fn settle(&self, key: Key, request_auth: &RequestAuth, answer: Answer) -> Outcome {
        // A caller's token may be the credential; it is not kept.
        let same_for = match &answer {
            Ok(Ok(issued)) if request_auth.entries().is_empty() => issued.same_for,
            _ => None,
        };
        let outcome = match answer {
            Ok(Ok(issued)) => self.unexpired(issued.grant),
            Ok(Err(error)) => Err(Failure::from(error)),
            Err(error) => Err(Failure::from(error)),
        };
        match &outcome {
            Ok(grant) => {
                self.per_request.store(grant.expires_at.is_none() && same_for.is_none(), Ordering::Relaxed);
                if self.failing.load(Ordering::Relaxed) {
                    self.last_exchange_was(None);
                }
            }
            Err(failure) => {
                self.counts.failure();
                if failure.is_of_cluster() {
                    self.last_exchange_was(Some(failure.to_string()));
                }
                debug!(plugin = %self.strategy.name(), error = %failure, "no credential");
            }
        }
        self.store.settle(key, (self.clock)(), &outcome, same_for);
        outcome
    }

    fn last_exchange_was(&self, failure: Option<String>) {
        let mut last_failure = self.last_failure.lock().unwrap_or_else(PoisonError::into_inner);
        self.failing.store(failure.is_some(), Ordering::Relaxed);
        *last_failure = failure;
    }

    /// The grant, unless its time is over.
    fn unexpired(&self, grant: Grant) -> Outcome {
        let expired = grant.expires_at.is_some_and(|expires_at| (self.clock)().unix.as_secs() >= expires_at);
        if expired { Err(Failure::expired(self.strategy.name())) } else { Ok(grant) }
    }
}

/// What a request is handed that its strategy was not asked for.
const fn held(grant: Grant) -> Issued {
    Issued { grant, cache_hit: true, same_for: None }
}

impl AuthenticationStrategy for CachedStrategy {
    fn name(&self) -> &PluginName {
        self.0.strategy.name()
    }

    fn credential<'a>(
        &'a self,
        cluster: &'a ClusterDetails,
        secrets: &'a Arc<dyn SecretStore>,
        request_auth: &'a RequestAuth,
        caller: Option<&'a UserInfo>,
    ) -> BoxFuture<'a, Answer> {
        Box::pin(self.answer(cluster, secrets, request_auth, caller))
    }

    fn rejected(
        &self,
        cluster: &ClusterDetails,
        request_auth: &RequestAuth,
        caller: Option<&UserInfo>,
        credential: &Credential,
    ) -> bool {
        let inner = &self.0;
        if *cluster != inner.cluster {
            return false;
        }
        let (request_auth, caller) = inner.shown(request_auth, caller);
        let again = inner.store.reject(inner.key(request_auth, caller), (inner.clock)(), credential);
        if again {
            inner.counts.rejection();
        }
        again
    }

    fn present_auth_metadata<'a>(&'a self, metadata: &'a Metadata) -> BoxFuture<'a, Result<Metadata, CallError>> {
        self.0.strategy.present_auth_metadata(metadata)
    }

    fn validate_cluster<'a>(&'a self, metadata: &'a Metadata) -> BoxFuture<'a, Result<Vec<String>, CallError>> {
        self.0.strategy.validate_cluster(metadata)
    }
}

/// How long before its expiry a credential is no longer taken from the cache: time for it to reach the API server,
/// which a new connection may take as long as `connect_timeout` to do.
const EXPIRY_MARGIN: Duration = Duration::from_secs(10);
/// How long a credential is kept at most, whatever it says of itself.
const HELD_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// A credential is renewed this long before its end, as Backstage does it with Azure's; one that is not good for so long, in
/// the last quarter of its time.
const REFRESH_AHEAD: Duration = Duration::from_secs(15 * 60);
/// One that is good for hardly longer is not renewed earlier than this after it came.
const REFRESH_AFTER_MIN: Duration = Duration::from_secs(5);
/// From one renewal of a credential to the next, and after failures how much more rarely in the end.
const REFRESH_PAUSE_MIN: Duration = Duration::from_secs(1);
const REFRESH_PAUSE_MAX: Duration = Duration::from_secs(60);
/// How long requests are answered with a failure without asking again.
const FAILURE_KEPT: Duration = Duration::from_secs(1);
/// From one credential that a 401 dropped to the next, for each key: a cluster that always answers 401 costs one exchange in
/// this time.
const REJECTION_PAUSE: Duration = Duration::from_secs(30);
/// Credentials that one cluster's cache holds; for a new one, the one that was not used for longest goes. As many
/// failures and rejections are remembered at most.
const ENTRIES_MAX: usize = 4096;
