//! Where an issuer's keys come from, and when they are asked for again.
//!
//! A file is looked at once a second, or when a token names a key that is not
//! known. A URL is fetched in the background every five minutes, or when a token
//! names an unknown key; never twice within ten seconds and never twice at once. Keys
//! that were good stay until others are: an identity provider that is down locks
//! nobody out. Only where nobody asked for longer than ten minutes does the next
//! caller wait for a fetch, so that a key that was withdrawn meanwhile is not
//! believed once more.
//!
//! Promise: a caller waits no longer than [`FETCH_TIMEOUT`] and a second, and a
//! caller that leaves does not end a fetch that others wait for.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use arc_swap::ArcSwap;
use tokio::sync::Semaphore;
use witgate_core::Digest;

use super::fetch::FetchJwks;
use super::jwks::{KEY_SET_BYTES_MAX, KeySet};
use super::now::Now;
use super::reread::Reread;

/// Yields the keys of one issuer.
pub(super) struct KeySource {
    origin: Origin,
    /// Callers that wait because of an unknown key.
    waiting: Semaphore,
}

enum Origin {
    File(Reread<KeySet>),
    Url(Arc<RemoteKeys>),
}

impl KeySource {
    /// Reads keys from `path`. Blocks.
    ///
    /// # Errors
    /// When the file cannot be read or holds no usable key.
    pub(super) fn file(path: &Path) -> anyhow::Result<Self> {
        Ok(Self::new(Origin::File(Reread::open(path, KEY_SET_BYTES_MAX, KeySet::parse)?)))
    }

    /// Fetches keys from `url` when the first caller comes.
    pub(super) fn url(url: String, fetcher: Arc<dyn FetchJwks>) -> Self {
        Self::new(Origin::Url(Arc::new(RemoteKeys::new(url, fetcher))))
    }

    fn new(origin: Origin) -> Self {
        Self { origin, waiting: Semaphore::new(WAITING_MAX) }
    }

    /// The keys as they are known now; looks for newer ones where that is due.
    pub(super) async fn keys(&self, now: Now) -> Arc<KeySet> {
        match &self.origin {
            Origin::File(file) => {
                file.refresh(now).await;
                file.current()
            }
            Origin::Url(remote) => {
                remote.refresh(now).await;
                remote.current.load_full()
            }
        }
    }

    /// The keys after another look, because `known` does not hold the one that is needed. None: nothing newer is to be had now.
    pub(super) async fn newer_than(&self, known: &Arc<KeySet>, now: Now) -> Option<Arc<KeySet>> {
        // Full: whoever waits already brings the keys; this caller comes again.
        let _waiting = self.waiting.try_acquire().ok()?;
        let keys = match &self.origin {
            Origin::File(file) => {
                file.look_again().await;
                file.current()
            }
            Origin::Url(remote) => {
                remote.fetch_and_wait(now).await;
                remote.current.load_full()
            }
        };
        (!Arc::ptr_eq(&keys, known)).then_some(keys)
    }
}

/// Keys behind a URL.
struct RemoteKeys {
    url: String,
    fetcher: Arc<dyn FetchJwks>,
    current: ArcSwap<KeySet>,
    started_at: Instant,
    /// Milliseconds after `started_at` from which the keys are fetched again in the background.
    due_ms: AtomicU64,
    /// Milliseconds after `started_at` from which a caller waits for that.
    stale_ms: AtomicU64,
    /// Held while a fetch runs.
    flight: tokio::sync::Mutex<()>,
    last: Mutex<LastFetch>,
}

#[derive(Default)]
struct LastFetch {
    begun_at: Option<Instant>,
    digest: Option<Digest>,
    /// What was last said to be wrong, so that it is said once.
    complaint: Option<String>,
}

impl RemoteKeys {
    fn new(url: String, fetcher: Arc<dyn FetchJwks>) -> Self {
        Self {
            url,
            fetcher,
            current: ArcSwap::from_pointee(KeySet::empty()),
            started_at: Instant::now(),
            due_ms: AtomicU64::new(0),
            stale_ms: AtomicU64::new(0),
            flight: tokio::sync::Mutex::new(()),
            last: Mutex::default(),
        }
    }

    async fn refresh(self: &Arc<Self>, now: Now) {
        let now_ms = self.milliseconds(now);
        let due_ms = self.due_ms.load(Ordering::Relaxed);
        if now_ms < due_ms {
            return;
        }
        if now_ms >= self.stale_ms.load(Ordering::Relaxed) {
            self.fetch_and_wait(now).await;
            return;
        }
        let next_ms = now_ms.saturating_add(millis(FETCH_INTERVAL_MIN));
        if self.due_ms.compare_exchange(due_ms, next_ms, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            drop(tokio::spawn(Arc::clone(self).fetch(now)));
        }
    }

    /// Fetches, unless that was done a moment ago, or waits for the fetch that runs.
    async fn fetch_and_wait(self: &Arc<Self>, now: Now) {
        // A task of its own: a caller that leaves must not end it for the others.
        let fetch = tokio::spawn(Arc::clone(self).fetch(now));
        // Past the limit, or after a panic that was logged, the last good keys serve.
        drop(tokio::time::timeout(FETCH_TIMEOUT + Duration::from_secs(1), fetch).await);
    }

    async fn fetch(self: Arc<Self>, now: Now) {
        let _flight = self.flight.lock().await;
        {
            let mut last = self.last();
            let recent = |begun: Instant| now.monotonic.saturating_duration_since(begun) < FETCH_INTERVAL_MIN;
            if last.begun_at.is_some_and(recent) {
                return;
            }
            last.begun_at = Some(now.monotonic);
        }
        let fetched = match tokio::time::timeout(FETCH_TIMEOUT, self.fetcher.fetch(&self.url)).await {
            Ok(answer) => answer.map_err(|error| anyhow::anyhow!(error).context("cannot be fetched")),
            Err(_) => Err(anyhow::anyhow!("did not answer within {} s", FETCH_TIMEOUT.as_secs())),
        };
        let taken = fetched.and_then(|content| self.take(&content));
        let interval = if taken.is_ok() { REFRESH_INTERVAL } else { FETCH_INTERVAL_MIN };
        let now_ms = self.milliseconds(now);
        self.due_ms.store(now_ms.saturating_add(millis(interval)), Ordering::Relaxed);
        self.stale_ms.store(now_ms.saturating_add(millis(STALE_AFTER)), Ordering::Relaxed);
        let complaint = taken.err().map(|error| format!("{error:#}"));
        let mut last = self.last();
        match &complaint {
            Some(error) if last.complaint.as_ref() != Some(error) => {
                tracing::warn!(url = self.shown_url(), error, "keys not fetched; the last good ones still serve");
            }
            None if last.complaint.is_some() => tracing::info!(url = self.shown_url(), "keys fetched again"),
            Some(_) | None => {}
        }
        last.complaint = complaint;
    }

    fn take(&self, content: &[u8]) -> anyhow::Result<()> {
        let within = u64::try_from(content.len()).is_ok_and(|bytes| bytes <= KEY_SET_BYTES_MAX);
        anyhow::ensure!(within, "is larger than {KEY_SET_BYTES_MAX} bytes");
        let digest = Digest::of(content);
        if self.last().digest == Some(digest) {
            return Ok(());
        }
        let keys = KeySet::parse(content).context("answered with something else than keys")?;
        self.current.store(Arc::new(keys));
        self.last().digest = Some(digest);
        Ok(())
    }

    /// Without the query, which can hold a key to the keys.
    fn shown_url(&self) -> &str {
        self.url.split('?').next().unwrap_or_default()
    }

    fn last(&self) -> std::sync::MutexGuard<'_, LastFetch> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn milliseconds(&self, now: Now) -> u64 {
        millis(now.monotonic.saturating_duration_since(self.started_at))
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// How often keys are fetched while callers come.
const REFRESH_INTERVAL: Duration = Duration::from_secs(5 * 60);

/// The least time between two fetches, whoever asks.
const FETCH_INTERVAL_MIN: Duration = Duration::from_secs(10);

/// Keys that nobody tried to refresh for this long are not used before somebody does.
const STALE_AFTER: Duration = Duration::from_secs(10 * 60);

/// How long a fetch may take.
pub(super) const FETCH_TIMEOUT: Duration = Duration::from_secs(10);

/// How many callers may wait for an unknown key at once; further ones are refused.
const WAITING_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use jsonwebtoken::Algorithm;
    use tokio::sync::Notify;
    use witgate_core::{BoxError, BoxFuture};

    use super::super::issuer::{Issuer, key_set};
    use super::super::jwks::Unverified;
    use super::*;

    /// An identity provider that answers what a test says.
    struct Provider {
        answer: Mutex<Result<String, &'static str>>,
        fetches: AtomicUsize,
        /// Told when a fetch begins.
        asked: Notify,
        /// Whether a fetch waits for `released`.
        holds: bool,
        released: Notify,
    }

    impl FetchJwks for Provider {
        fn fetch<'a>(&'a self, url: &'a str) -> BoxFuture<'a, Result<Vec<u8>, BoxError>> {
            Box::pin(async move {
                assert_eq!(url, "https://id.example/keys");
                self.fetches.fetch_add(1, Ordering::Relaxed);
                self.asked.notify_one();
                if self.holds {
                    self.released.notified().await;
                }
                Ok(self.answer.lock().unwrap().clone()?.into_bytes())
            })
        }
    }

    fn provider(holds: bool) -> (Arc<Provider>, KeySource) {
        let provider = Arc::new(Provider {
            answer: Mutex::new(Err("is down")),
            fetches: AtomicUsize::new(0),
            asked: Notify::new(),
            holds,
            released: Notify::new(),
        });
        let source = KeySource::url("https://id.example/keys".into(), Arc::clone(&provider) as Arc<dyn FetchJwks>);
        (provider, source)
    }

    fn knows(keys: &KeySet, key_id: &str) -> bool {
        match keys.verify(Some(key_id), Algorithm::ES256, "m", "AAAA") {
            Err(Unverified::UnknownKey) => false,
            Err(Unverified::Signature) => true,
            other => panic!("{other:?}"),
        }
    }

    /// Waits for a fetch in the background to be over.
    async fn settled(provider: &Provider, source: &KeySource) {
        provider.asked.notified().await;
        match &source.origin {
            Origin::Url(remote) => drop(remote.flight.lock().await),
            Origin::File(_) => panic!("not a URL"),
        }
    }

    /// Goal: keys are fetched when they are needed, in the background while callers come, and never too often.
    /// Method: a story of moments, with the fetches so far and the keys known.
    #[tokio::test]
    async fn keys_are_fetched_when_due() {
        let (one, two) = (Issuer::new(Algorithm::ES256, "one"), Issuer::new(Algorithm::ES256, "two"));
        let (provider, source) = provider(false);
        let start = Now::read();
        let check = async |after: u64, fetches: usize, known: &[&str]| {
            let keys = source.keys(start.after(after)).await;
            let got: Vec<_> = ["one", "two"].into_iter().filter(|key| knows(&keys, key)).collect();
            assert_eq!((got.as_slice(), provider.fetches.load(Ordering::Relaxed)), (known, fetches), "after {after} s");
            keys
        };
        let say = |answer: Result<String, &'static str>| *provider.answer.lock().unwrap() = answer;
        let asked = || provider.asked.notified();

        check(0, 1, &[]).await; // the provider is down
        asked().await;
        let none = check(9, 1, &[]).await;
        assert!(source.newer_than(&none, start.after(9)).await.is_none(), "too soon");
        say(Ok(key_set(&[&one])));
        let first = source.newer_than(&none, start.after(10)).await.expect("ten seconds have passed");
        asked().await;
        check(11, 2, &["one"]).await;

        say(Ok(key_set(&[&one, &two])));
        check(309, 2, &["one"]).await;
        check(310, 2, &["one"]).await; // five minutes: fetched in the background
        settled(&provider, &source).await;
        check(311, 3, &["one", "two"]).await;
        assert!(source.newer_than(&first, start.after(311)).await.is_some(), "newer ones are known already");

        say(Err("is down"));
        check(700, 3, &["one", "two"]).await;
        settled(&provider, &source).await;
        check(709, 4, &["one", "two"]).await;
        check(710, 4, &["one", "two"]).await; // tried again after ten seconds
        settled(&provider, &source).await;

        say(Ok("garbage".into()));
        check(720, 5, &["one", "two"]).await;
        settled(&provider, &source).await;
        say(Ok(" ".repeat(1024 * 1024) + &key_set(&[&one]))); // good, but too large
        check(730, 6, &["one", "two"]).await;
        settled(&provider, &source).await;

        say(Ok(key_set(&[&two])));
        check(1_329, 7, &["one", "two"]).await; // long ago, but not too long: in the background
        settled(&provider, &source).await;
        say(Ok(key_set(&[&one])));
        let before = check(1_929, 9, &["one"]).await; // ten minutes in which nobody came: waited for

        asked().await;
        check(2_229, 9, &["one"]).await;
        settled(&provider, &source).await;
        let after = check(2_230, 10, &["one"]).await;
        assert!(Arc::ptr_eq(&before, &after), "the same keys keep the tokens that they verified");
    }

    /// Goal: many callers with an unknown key cost one fetch. Method: more than may wait, at once.
    #[tokio::test]
    async fn callers_share_a_fetch() {
        let one = Issuer::new(Algorithm::ES256, "one");
        let (provider, source) = provider(true);
        *provider.answer.lock().unwrap() = Ok(key_set(&[&one]));
        let source = Arc::new(source);
        let now = Now::read();
        let none = Arc::new(KeySet::empty());
        let mut callers = tokio::task::JoinSet::new();
        for _ in 0..WAITING_MAX + 5 {
            let (source, none) = (Arc::clone(&source), Arc::clone(&none));
            callers.spawn(async move { source.newer_than(&none, now).await.is_some() });
        }
        provider.asked.notified().await;
        for _ in 0..5 {
            assert!(!callers.join_next().await.unwrap().unwrap(), "refused, not queued");
        }
        provider.released.notify_one();
        for served in callers.join_all().await {
            assert!(served);
        }
        assert_eq!(provider.fetches.load(Ordering::Relaxed), 1);
    }

    /// Goal: a caller that leaves does not end the fetch. Method: one that leaves while it waits, then one that comes.
    #[tokio::test]
    async fn a_caller_that_leaves_does_not_end_the_fetch() {
        let one = Issuer::new(Algorithm::ES256, "one");
        let (provider, source) = provider(true);
        *provider.answer.lock().unwrap() = Ok(key_set(&[&one]));
        let now = Now::read();
        tokio::select! {
            _ = source.keys(now) => panic!("answered by nobody"),
            () = provider.asked.notified() => {}
        }
        provider.released.notify_one();
        let keys = source.keys(now).await;
        assert!(knows(&keys, "one"));
        assert_eq!(provider.fetches.load(Ordering::Relaxed), 1);
    }
}
