//! The cache over a strategy that counts its calls and takes as long as a test says; time is paused.

use std::sync::atomic::AtomicU64;

use proptest::prelude::*;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use witgate_core::{Redacted, RequestAuthEntry, SecretError};

use super::clock::Now;
use super::*;

const NOW: u64 = 1_700_000_000;

/// What the fake does next.
#[derive(Clone, Copy, Debug)]
enum Behaviour {
    /// A token that is good for so many seconds.
    Good(u64),
    /// A token for one request.
    PerRequest,
    /// One without an end, that is known to be the answer for so many seconds.
    SameFor(u64),
    Expired,
    Unavailable,
    Trapped,
    Panics,
}

struct Fake {
    name: PluginName,
    begun: Instant,
    calls: AtomicU64,
    plan: Mutex<(Duration, Behaviour)>,
}

/// A cache, what it stands in front of, and its time.
struct Stage {
    fake: Arc<Fake>,
    cache: CredentialCache,
    cached: CachedStrategy,
    secrets: Arc<dyn SecretStore>,
    begun: Instant,
}

impl Stage {
    fn new(depends_on: DependsOn, took: u64, behaviour: Behaviour) -> Self {
        let begun = Instant::now();
        let clock: Clock =
            Arc::new(move || Now { monotonic: Instant::now(), unix: Duration::from_secs(NOW) + begun.elapsed() });
        let name = PluginName::try_from("fake").unwrap();
        let plan = Mutex::new((Duration::from_secs(took), behaviour));
        let fake = Arc::new(Fake { name, begun, calls: AtomicU64::new(0), plan });
        let cache = CredentialCache::with_clock(clock);
        let secrets: Arc<dyn SecretStore> = Arc::new(NoSecrets);
        let strategy: Arc<dyn AuthenticationStrategy> = Arc::clone(&fake) as _;
        let cached = cache.around(&strategy, depends_on, &cluster(), &secrets);
        cache.serve(HashMap::from([(cluster().name, cached.clone())]));
        Self { fake, cache, cached, secrets, begun }
    }

    fn next(&self, took: u64, behaviour: Behaviour) {
        *self.fake.plan.lock().unwrap() = (Duration::from_secs(took), behaviour);
    }

    async fn ask(&self, caller: &str, token: &str) -> String {
        ask(&self.cached, caller, token).await
    }

    fn reject(&self, text: &str) -> bool {
        let credential = Credential::BearerToken(Redacted::new(text.rsplit(' ').next().unwrap().to_owned()));
        self.cached.rejected(&cluster(), &tokens("t"), Some(&UserInfo::named("jane")), &credential)
    }

    fn calls(&self) -> u64 {
        self.fake.calls.load(Ordering::SeqCst)
    }
}

/// `hit TOKEN`, `miss TOKEN`, or what went wrong.
async fn ask(cached: &CachedStrategy, caller: &str, token: &str) -> String {
    let secrets: Arc<dyn SecretStore> = Arc::new(NoSecrets);
    match cached.credential(&cluster(), &secrets, &tokens(token), Some(&UserInfo::named(caller))).await {
        Ok(Ok(Issued { grant, cache_hit, .. })) => {
            let Credential::BearerToken(token) = grant.credential else { panic!("not what the fake yields") };
            format!("{} {}", if cache_hit { "hit" } else { "miss" }, token.expose())
        }
        Ok(Err(error)) => error.to_string(),
        Err(error) => format!("{:#}", anyhow::Error::from(error)),
    }
}

/// Goal: 500 requests on a cold cache are one exchange, and who leaves cancels nobody's. Method: 500 callers of a strategy
/// that takes 5 s, of whom the first leaves.
#[tokio::test(start_paused = true)]
async fn a_cold_cache_asks_once() {
    let stage = Stage::new(DependsOn::Cluster, 5, Behaviour::Good(3600));
    let (first, cached) = (stage.cached.clone(), stage.cached.clone());
    let first = tokio::spawn(async move { ask(&first, "first", "t").await });
    sleep(Duration::from_secs(1)).await;
    let mut asking = JoinSet::new();
    for number in 0..500 {
        let cached = cached.clone();
        asking.spawn(async move { ask(&cached, &format!("caller {number}"), "t").await });
    }
    first.abort();
    let answers = asking.join_all().await;
    assert!(answers.iter().all(|answer| answer == "hit 1//"), "{answers:?}");
    assert_eq!((stage.calls(), stage.begun.elapsed().as_secs()), (1, 5));
    let expected = CacheStatus { entries: 1, hits: 500, misses: 1, ..CacheStatus::default() };
    assert_eq!(stage.cache.status(), expected);
}

/// Goal: cases C23 and C24: a credential is renewed 15 minutes before its end. Method: Azure's lives of them, two minutes later.
#[tokio::test(start_paused = true)]
async fn a_credential_is_renewed_15_minutes_early() {
    for (life_minutes, calls) in [(20, 1), (16, 2)] {
        let stage = Stage::new(DependsOn::Cluster, 0, Behaviour::Good(life_minutes * 60));
        assert_eq!(stage.ask("jane", "t").await, "miss 1//");
        sleep(Duration::from_secs(2 * 60)).await;
        assert_eq!(stage.ask("jane", "t").await, "hit 1//", "nobody waits for the second");
        sleep(Duration::from_secs(1)).await;
        assert_eq!((stage.calls(), stage.ask("jane", "t").await), (calls, format!("hit {calls}//")));
    }
}

/// Goal: a renewal that takes 5 s keeps nobody waiting; one that fails leaves the old credential until it ends, and
/// no longer. Method: one life of a credential of 110 s, which is kept for 100 and renewed from 75 on.
#[tokio::test(start_paused = true)]
async fn a_renewal_keeps_nobody_waiting() {
    let stage = Stage::new(DependsOn::Caller, 0, Behaviour::Good(110));
    assert_eq!(stage.ask("jane", "t").await, "miss 1/jane/t");
    sleep(Duration::from_secs(74)).await;
    assert_eq!((stage.ask("jane", "t").await.as_str(), stage.calls()), ("hit 1/jane/t", 1));
    sleep(Duration::from_secs(2)).await;
    stage.next(5, Behaviour::Unavailable);
    for _ in 0..4 {
        let asked = Instant::now();
        assert_eq!(stage.ask("jane", "t").await, "hit 1/jane/t");
        assert!(asked.elapsed().is_zero());
        sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(stage.calls(), 2, "one renewal at a time");
    sleep(Duration::from_secs(5)).await;
    stage.next(5, Behaviour::Good(110));
    assert_eq!(stage.ask("jane", "t").await, "hit 1/jane/t", "the renewal failed, and the old one is good");
    sleep(Duration::from_secs(6)).await;
    assert_eq!((stage.ask("jane", "t").await.as_str(), stage.calls()), ("hit 3/jane/t", 3));
    stage.next(0, Behaviour::Unavailable);
    sleep(Duration::from_secs(200)).await;
    assert_eq!(stage.ask("jane", "t").await, "down");
    let status = stage.cache.status();
    assert_eq!((status.misses, status.refreshes, status.failures), (2, 2, 2));
}

/// Goal: what may not be kept is not; a failure is told alike, for a second, and is never a credential. Method: rows.
#[tokio::test(start_paused = true)]
async fn what_may_not_be_kept_is_asked_for_again() {
    check(Behaviour::PerRequest, ["miss 1/jane/t", "miss 2/jane/t", "miss 3/jane/t"]).await;
    check(Behaviour::Good(5), ["miss 1/jane/t", "miss 2/jane/t", "miss 3/jane/t"]).await;
    check(Behaviour::Good(60), ["miss 1/jane/t", "hit 1/jane/t", "hit 1/jane/t"]).await;
    check(Behaviour::Unavailable, ["down", "down", "down"]).await;
    let expired = "plug-in `fake` gave a malformed answer: its credential has expired already";
    check(Behaviour::Expired, [expired; 3]).await;
    check(Behaviour::Trapped, ["plug-in `fake` trapped: unreachable"; 3]).await;
    check(Behaviour::Panics, ["plug-in `fake` trapped: the exchange ended without an answer"; 3]).await;

    let stage = Stage::new(DependsOn::Caller, 0, Behaviour::Unavailable);
    for (wait, calls) in [(0, 1), (999, 1), (1, 2), (0, 2)] {
        sleep(Duration::from_millis(wait)).await;
        assert_eq!((stage.ask("jane", "t").await.as_str(), stage.calls()), ("down", calls));
    }
}

async fn check(behaviour: Behaviour, expected: [&str; 3]) {
    let stage = Stage::new(DependsOn::Caller, 0, behaviour);
    for expected in expected {
        assert_eq!(stage.ask("jane", "t").await, expected, "{behaviour:?}");
    }
}

/// Goal: callers share what does not depend on them, and only that. Method: rows of what the plug-in says.
#[tokio::test(start_paused = true)]
async fn callers_share_only_what_does_not_depend_on_them() {
    for (depends_on, expected) in [
        (DependsOn::Cluster, ["miss 1//", "hit 1//", "hit 1//"]),
        (DependsOn::RequestAuth, ["miss 1//t", "hit 1//t", "miss 2//u"]),
        (DependsOn::Caller, ["miss 1/jane/t", "miss 2/john/t", "miss 3/jane/u"]),
    ] {
        let stage = Stage::new(depends_on, 0, Behaviour::Good(3600));
        for ((caller, token), expected) in [("jane", "t"), ("john", "t"), ("jane", "u")].into_iter().zip(expected) {
            assert_eq!(stage.ask(caller, token).await, expected, "{depends_on:?}");
        }
    }
}

/// Goal: a 401 drops a credential, and a cluster that always says 401 costs no more than one exchange in a while.
/// Method: one life, in paused time.
#[tokio::test(start_paused = true)]
async fn a_rejected_credential_is_dropped_once_in_a_while() {
    let stage = Stage::new(DependsOn::Caller, 0, Behaviour::Good(3600));
    let first = stage.ask("jane", "t").await;
    assert!(stage.reject(&first));
    assert!(stage.reject(&first), "another request with the same one asks again too");
    let second = stage.ask("jane", "t").await;
    assert_eq!(second, "miss 2/jane/t");
    assert!(stage.reject(&first), "and one that comes late finds the second");
    assert!(!stage.reject(&second), "the second 401 stands");
    assert_eq!(stage.ask("jane", "t").await, "hit 2/jane/t");
    sleep(REJECTION_PAUSE).await;
    assert!(stage.reject(&second));
    assert_eq!(stage.ask("jane", "t").await, "miss 3/jane/t");
}

/// Goal: the cache is bounded, and what was used last stays. Method: one more caller than there is room for.
#[tokio::test(start_paused = true)]
async fn the_oldest_goes_first() {
    let stage = Stage::new(DependsOn::Caller, 0, Behaviour::Good(3600));
    for number in 0..ENTRIES_MAX {
        stage.ask(&number.to_string(), "t").await;
    }
    assert_eq!(stage.ask("0", "t").await, "hit 1/0/t");
    stage.ask("new", "t").await;
    assert_eq!(stage.cache.status().entries, ENTRIES_MAX);
    assert_eq!(stage.ask("0", "t").await, "hit 1/0/t");
    assert!(stage.ask("1", "t").await.starts_with("miss "), "it was not used for longest");
}

/// Goal: a grant without an end is kept for as long as it is known to be the answer, and the whole of a burst waits for one
/// exchange; never where a caller's token is in the question. Method: moments of one life, and a question with a token.
#[tokio::test(start_paused = true)]
async fn what_is_known_to_be_the_answer_is_kept() {
    let stage = Stage::new(DependsOn::Cluster, 1, Behaviour::SameFor(10));
    let burst = tokio::join!(stage.ask("jane", "t"), stage.ask("john", "t"), stage.ask("jane", "u"));
    assert_eq!(burst, ("miss 1//".into(), "hit 1//".into(), "hit 1//".into()));
    sleep(Duration::from_secs(9)).await;
    assert_eq!(stage.ask("john", "u").await, "hit 1//");
    sleep(Duration::from_secs(1)).await;
    assert_eq!(stage.ask("john", "u").await, "miss 2//");

    let stage = Stage::new(DependsOn::RequestAuth, 0, Behaviour::SameFor(10));
    assert_eq!(stage.ask("jane", "t").await, "miss 1//t");
    assert_eq!(stage.ask("jane", "t").await, "miss 2//t");
    assert_eq!(stage.cache.status().entries, 0, "a caller's token is not kept");
}

/// Goal: a cache lives as long as its plug-in's instance serves its cluster. Method: the same again, and each difference.
#[tokio::test(start_paused = true)]
async fn a_cache_belongs_to_one_instance_and_one_cluster() {
    let stage = Stage::new(DependsOn::Cluster, 0, Behaviour::Good(3600));
    let strategy: Arc<dyn AuthenticationStrategy> = Arc::clone(&stage.fake) as _;
    let same = |cached: &CachedStrategy| Arc::ptr_eq(&cached.0, &stage.cached.0);
    assert!(same(&stage.cache.around(&strategy, DependsOn::Cluster, &cluster(), &stage.secrets)));
    assert!(!same(&stage.cache.around(&strategy, DependsOn::Caller, &cluster(), &stage.secrets)));
    let moved = ClusterDetails { server: "https://elsewhere".into(), ..cluster() };
    assert!(!same(&stage.cache.around(&strategy, DependsOn::Cluster, &moved, &stage.secrets)));
    let other = Stage::new(DependsOn::Cluster, 0, Behaviour::Good(3600));
    let reloaded: Arc<dyn AuthenticationStrategy> = Arc::clone(&other.fake) as _;
    assert!(!same(&stage.cache.around(&reloaded, DependsOn::Cluster, &cluster(), &stage.secrets)));
    let secrets: Arc<dyn SecretStore> = Arc::new(NoSecrets);
    assert!(!same(&stage.cache.around(&strategy, DependsOn::Cluster, &cluster(), &secrets)));
    stage.cache.serve(HashMap::new());
    assert!(!same(&stage.cache.around(&strategy, DependsOn::Cluster, &cluster(), &stage.secrets)));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// Goal: in whatever order things happen, a token that is handed out is the asker's own and has not expired, and an error is
    /// an error. Method: random lives; each token says for whom it was made and until when it is good.
    #[test]
    fn nothing_expired_and_nobody_elses(steps in proptest::collection::vec((0..8_u8, 0..3_u8, 0..40_u64), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let stage = Stage::new(DependsOn::Caller, 0, Behaviour::Good(30));
            for (kind, who, amount) in steps {
                match kind {
                    0 => stage.next(amount % 7, Behaviour::Good(amount)),
                    1 => stage.next(0, Behaviour::Unavailable),
                    2 => stage.next(amount % 3, Behaviour::PerRequest),
                    3 => stage.next(1, Behaviour::Expired),
                    4 => sleep(Duration::from_secs(amount)).await,
                    _ => {
                        let caller = format!("c{who}");
                        let secrets: Arc<dyn SecretStore> = Arc::new(NoSecrets);
                        let user = UserInfo::named(&caller);
                        let answer = stage.cached.credential(&cluster(), &secrets, &tokens("t"), Some(&user)).await;
                        let Ok(Ok(issued)) = answer else { continue };
                        let Credential::BearerToken(token) = &issued.grant.credential else { panic!("anonymous") };
                        assert!(token.expose().ends_with(&format!("/{caller}/t")));
                        let now = NOW + stage.begun.elapsed().as_secs();
                        assert!(issued.grant.expires_at.is_none_or(|expires_at| now < expires_at));
                        assert!(issued.grant.expires_at.is_some() || !issued.cache_hit);
                    }
                }
            }
        });
    }
}

impl AuthenticationStrategy for Fake {
    fn name(&self) -> &PluginName {
        &self.name
    }

    /// The token is the number of the call, and what it was shown.
    fn credential<'a>(
        &'a self,
        _cluster: &'a ClusterDetails,
        _secrets: &'a Arc<dyn SecretStore>,
        request_auth: &'a RequestAuth,
        caller: Option<&'a UserInfo>,
    ) -> BoxFuture<'a, Answer> {
        Box::pin(async move {
            let number = self.calls.fetch_add(1, Ordering::SeqCst) + 1;
            let (took, behaviour) = *self.plan.lock().unwrap();
            if !took.is_zero() {
                sleep(took).await;
            }
            let now = NOW + self.begun.elapsed().as_secs();
            let caller = caller.map_or("", |caller| caller.name.as_str());
            let tokens: Vec<_> = request_auth.entries().iter().map(|entry| entry.value.expose().as_str()).collect();
            let credential = Credential::BearerToken(Redacted::new(format!("{number}/{caller}/{}", tokens.join(","))));
            let expires_at = match behaviour {
                Behaviour::Good(seconds) => Some(now + seconds),
                Behaviour::PerRequest | Behaviour::SameFor(_) => None,
                Behaviour::Expired => Some(NOW),
                Behaviour::Unavailable => return Ok(Err(AuthError::Unavailable("down".to_owned()))),
                Behaviour::Trapped => {
                    return Err(CallError::Trapped { plugin: self.name.clone(), source: "unreachable".into() });
                }
                Behaviour::Panics => panic!("the fake dies"),
            };
            let same_for = match behaviour {
                Behaviour::SameFor(seconds) => Some(Duration::from_secs(seconds)),
                _ => None,
            };
            let grant = Grant { credential, expires_at, impersonate: None };
            Ok(Ok(Issued { grant, cache_hit: false, same_for }))
        })
    }

    fn present_auth_metadata<'a>(&'a self, metadata: &'a Metadata) -> BoxFuture<'a, Result<Metadata, CallError>> {
        Box::pin(async { Ok(metadata.clone()) })
    }

    fn validate_cluster<'a>(&'a self, _metadata: &'a Metadata) -> BoxFuture<'a, Result<Vec<String>, CallError>> {
        Box::pin(async { Ok(Vec::new()) })
    }
}

#[derive(Debug)]
struct NoSecrets;

impl SecretStore for NoSecrets {
    fn get<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Redacted<String>, SecretError>> {
        Box::pin(async move { Err(SecretError::NotGranted(name.to_owned())) })
    }
}

fn cluster() -> ClusterDetails {
    ClusterDetails {
        name: ClusterName::try_from("one").unwrap(),
        title: None,
        server: "https://one".into(),
        auth_metadata: Metadata::new(),
        ca_data: None,
        skip_tls_verify: false,
    }
}

fn tokens(value: &str) -> RequestAuth {
    let mut tokens = RequestAuth::none();
    let entry = RequestAuthEntry { provider: "p".into(), sub_provider: None, value: Redacted::new(value.into()) };
    tokens.insert(entry).unwrap();
    tokens
}
