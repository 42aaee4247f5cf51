//! The threads that serve connections, each with a runtime of its own.
//!
//! A connection stays on one thread, and so does what its requests need: the policies' instances, the connections to API
//! servers. Nothing of a request wakes another thread or moves to another processor's cache. Few connections stay
//! together on one thread for the same reason: waking a thread costs a good part of what a request does
//! (`docs/performance.md`). What balances is where a connection begins, and that a worker which would take too long gives
//! requests to another: one busy HTTP/2 connection, or many on one thread, are not bound to one processor.

use std::cell::Cell;
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use std::{fmt, io, panic, thread};

use nix::time::{ClockId, clock_gettime};
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

/// Connections that a worker takes before the next one is given any.
const TOGETHER: usize = 16;
/// How long the requests at a worker may take it, before it looks for another: as long as a guest may compute until others
/// get their turn. A request that moves wakes two threads, so a shorter backlog is better worked off where it is.
const BACKLOG: Duration = Duration::from_millis(4);
/// What a request costs, until it was measured.
const COST_AT_FIRST: Duration = Duration::from_micros(100);
/// After how many requests a worker looks at its clock of processor time, which is a system call.
const MEASURED_EVERY: u32 = 16;

thread_local! {
    /// Which worker this thread is; most are none.
    static HERE: Cell<Option<usize>> = const { Cell::new(None) };
    /// Whom this worker looks at next.
    static NEXT: Cell<usize> = const { Cell::new(0) };
    /// What this worker has done since it looked at its clock.
    static MEASURED: Cell<Measured> = const { Cell::new(Measured { requests: 0, until: Duration::ZERO }) };
}

/// The threads that serve connections. When this is dropped they end, with all that they have under way.
pub struct Workers {
    all: Arc<[Arc<Worker>]>,
    /// Each ends its worker when it is dropped.
    _alive: Vec<oneshot::Sender<()>>,
}

/// One thread. Aligned so that its counts share no cache line with another's (processors fetch two lines at once).
#[repr(align(128))]
struct Worker {
    index: usize,
    runtime: Handle,
    connections: AtomicUsize,
    /// Requests that it answers.
    answering: AtomicUsize,
    /// What a request costs here, in nanoseconds of processor time: whatever the thread did, by the requests that it answered.
    cost: AtomicU64,
}

#[derive(Clone, Copy)]
struct Measured {
    requests: u32,
    /// The thread's processor time when it looked.
    until: Duration,
}

/// A connection's place at its worker.
pub(crate) struct Seat {
    worker: Arc<Worker>,
    all: Arc<[Arc<Worker>]>,
}

/// A request that some worker answers: the connection's own, or another that has less to do.
pub(crate) struct Turn {
    worker: Arc<Worker>,
    is_elsewhere: bool,
}

/// A `T` for each worker, made when it is first used, and one for all other threads.
pub(crate) struct PerWorker<T> {
    of_workers: Box<[OnceLock<T>]>,
    of_others: OnceLock<T>,
}

/// The processors that this process may use, a cgroup's quota counted.
#[must_use]
pub fn processors() -> NonZeroUsize {
    static PROCESSORS: OnceLock<NonZeroUsize> = OnceLock::new();
    *PROCESSORS.get_or_init(|| thread::available_parallelism().unwrap_or(NonZeroUsize::MIN))
}

impl Workers {
    /// Starts `count` workers, at most one for each of the [`processors`].
    ///
    /// # Errors
    /// When the system gives no thread, or no file descriptor to wait on.
    pub fn start(count: NonZeroUsize) -> io::Result<Self> {
        let (mut all, mut alive) = (Vec::new(), Vec::new());
        for index in 0..count.min(processors()).get() {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            all.push(Arc::new(Worker::new(index, runtime.handle().clone())));
            let (sender, ended) = oneshot::channel();
            alive.push(sender);
            thread::Builder::new().name(format!("witgate-worker-{index}")).spawn(move || {
                HERE.set(Some(index));
                // Nothing is ever sent: it ends when the sender is dropped.
                let _ = runtime.block_on(ended);
                runtime.shutdown_background();
            })?;
        }
        Ok(Self { all: all.into(), _alive: alive })
    }

    /// Runs a connection at the first worker of those that have the fewest, in groups of [`TOGETHER`].
    pub(crate) fn spawn<F>(&self, connection: impl FnOnce(Arc<Seat>) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let Some(worker) = self.all.iter().min_by_key(|worker| worker.connections.load(Ordering::Relaxed) / TOGETHER)
        else {
            return;
        };
        worker.connections.fetch_add(1, Ordering::Relaxed);
        let seat = Seat { worker: Arc::clone(worker), all: Arc::clone(&self.all) };
        worker.runtime.spawn(connection(Arc::new(seat)));
    }
}

impl Worker {
    fn new(index: usize, runtime: Handle) -> Self {
        let cost = AtomicU64::new(u64::try_from(COST_AT_FIRST.as_nanos()).unwrap_or(u64::MAX));
        Self { index, runtime, connections: AtomicUsize::new(0), answering: AtomicUsize::new(0), cost }
    }

    /// How long it takes to answer what it answers, if nobody else took from its processor.
    fn backlog(&self) -> Duration {
        let answering = u64::try_from(self.answering.load(Ordering::Relaxed)).unwrap_or(u64::MAX);
        Duration::from_nanos(self.cost.load(Ordering::Relaxed).saturating_mul(answering))
    }

    /// One more request was answered; measured where this thread is the worker's.
    fn answered(&self) {
        if HERE.get() != Some(self.index) {
            return;
        }
        let Measured { requests, until } = MEASURED.get();
        if requests + 1 < MEASURED_EVERY {
            return MEASURED.set(Measured { requests: requests + 1, until });
        }
        let now = processor_time();
        MEASURED.set(Measured { requests: 0, until: now });
        let nanoseconds = (now.saturating_sub(until) / MEASURED_EVERY).as_nanos();
        let before = self.cost.load(Ordering::Relaxed);
        // Smoothed: one dear request says little of the next.
        let cost = before - before / 4 + u64::try_from(nanoseconds).unwrap_or(u64::MAX) / 4;
        self.cost.store(cost, Ordering::Relaxed);
    }
}

/// This thread's.
fn processor_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map(Duration::from).unwrap_or_default()
}

impl Seat {
    /// For one more request, from now on until the turn is dropped.
    pub(crate) fn turn(&self) -> Turn {
        let other = self.less_busy();
        let worker = Arc::clone(other.unwrap_or(&self.worker));
        worker.answering.fetch_add(1, Ordering::Relaxed);
        Turn { worker, is_elsewhere: other.is_some() }
    }

    /// One other worker is looked at, each time the next: with many processors, to look at all would cost more than it
    /// brings (the power of two choices).
    fn less_busy(&self) -> Option<&Arc<Worker>> {
        let here = self.worker.backlog();
        if here < BACKLOG {
            return None;
        }
        let next = NEXT.replace(NEXT.get().wrapping_add(1));
        let other = self.all.get(next.checked_rem(self.all.len())?)?;
        (other.backlog() < here / 2).then_some(other) // never so of itself
    }
}

impl Turn {
    /// Whether another worker than the connection's own should answer.
    pub(crate) const fn is_elsewhere(&self) -> bool {
        self.is_elsewhere
    }

    /// Answers at the other worker. Dropped, it ends there too; a panic there goes on here.
    pub(crate) async fn answer<T: Send + 'static>(self, answer: Pin<Box<dyn Future<Output = T> + Send>>) -> T {
        let runtime = self.worker.runtime.clone();
        run_at(&runtime, async move {
            let _turn = self;
            answer.await
        })
        .await
    }
}

async fn run_at<T: Send + 'static>(runtime: &Handle, work: impl Future<Output = T> + Send + 'static) -> T {
    let mut set = JoinSet::new();
    set.spawn_on(work, runtime);
    match set.join_next().await {
        Some(Ok(output)) => output,
        Some(Err(error)) if error.is_panic() => panic::resume_unwind(error.into_panic()),
        // Only when the workers end, and with them who waits here.
        Some(Err(_)) | None => std::future::pending().await,
    }
}

impl<T> PerWorker<T> {
    pub(crate) fn new() -> Self {
        Self { of_workers: (0..processors().get()).map(|_| OnceLock::new()).collect(), of_others: OnceLock::new() }
    }

    /// This thread's.
    pub(crate) fn here(&self, make: impl FnOnce() -> T) -> &T {
        HERE.get().and_then(|index| self.of_workers.get(index)).unwrap_or(&self.of_others).get_or_init(make)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.worker.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.worker.answering.fetch_sub(1, Ordering::Relaxed);
        self.worker.answered();
    }
}

impl fmt::Debug for Workers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Workers").field("count", &self.all.len()).finish()
    }
}

impl<T: fmt::Debug> fmt::Debug for PerWorker<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.of_workers.iter().chain([&self.of_others]).filter_map(OnceLock::get)).finish()
    }
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "a test may panic")]
mod tests {
    use std::future::pending;

    use super::*;

    fn two() -> Option<Workers> {
        let two = NonZeroUsize::new(2).unwrap();
        if processors() < two {
            println!("skipped: one processor");
            return None;
        }
        Some(Workers::start(two).unwrap())
    }

    fn connections(workers: &Workers) -> Vec<usize> {
        workers.all.iter().map(|worker| worker.connections.load(Ordering::Relaxed)).collect()
    }

    /// Goal: few connections stay together, many spread over the workers, also after some have ended.
    /// Method: three groups that last, and then one whose neighbours have left.
    #[tokio::test]
    async fn a_connection_begins_where_there_are_fewest() {
        let Some(workers) = two() else { return };
        let (seats, mut given) = tokio::sync::mpsc::unbounded_channel();
        let connect = |count| {
            for _ in 0..count {
                workers.spawn(|seat| {
                    seats.send(seat).unwrap();
                    pending()
                });
            }
        };
        connect(TOGETHER);
        assert_eq!(connections(&workers), [TOGETHER, 0]);
        connect(2 * TOGETHER);
        assert_eq!(connections(&workers), [2 * TOGETHER, TOGETHER]);

        let mut first = Vec::new();
        while let Ok(seat) = given.try_recv() {
            first.push(seat);
        }
        first.retain(|seat| Arc::ptr_eq(&seat.worker, &workers.all[1]));
        assert_eq!(connections(&workers), [0, TOGETHER]);
        connect(2 * TOGETHER);

        assert_eq!(connections(&workers), [2 * TOGETHER, TOGETHER]);
    }

    /// Goal: a connection that asks for much at once does not stay on one processor; one that asks for little does.
    /// Method: cheap requests until they are a backlog, and then one dear request.
    #[tokio::test]
    async fn a_worker_with_a_backlog_gives_some_away() {
        let Some(workers) = two() else { return };
        let (seats, mut given) = tokio::sync::mpsc::unbounded_channel();
        workers.spawn(|seat| {
            seats.send(seat).unwrap();
            pending()
        });
        let seat = given.recv().await.unwrap();
        // At 100 µs each, forty are a backlog of 4 ms.
        let few: Vec<Turn> = (0..40).map(|_| seat.turn()).collect();
        assert!(!few.iter().any(Turn::is_elsewhere));

        let more: Vec<Turn> = (0..60).map(|_| seat.turn()).collect();

        let given_away = more.iter().filter(|turn| turn.is_elsewhere()).count();
        assert!((20..=40).contains(&given_away), "{given_away} of 100");
        drop((few, more));
        assert!(!seat.turn().is_elsewhere(), "a turn that is over does not count");

        workers.all[0].cost.store(5_000_000, Ordering::Relaxed);
        let dear = seat.turn();
        assert!(!dear.is_elsewhere());
        assert!((0..4).any(|_| seat.turn().is_elsewhere()));
    }

    /// Goal: what a request costs is measured where it is answered.
    /// Method: requests that compute for a millisecond of processor time each.
    #[tokio::test]
    async fn what_a_request_costs_is_measured() {
        let Some(workers) = two() else { return };
        let (seats, mut given) = tokio::sync::mpsc::unbounded_channel();
        workers.spawn(|seat| async move {
            for _ in 0..8 * MEASURED_EVERY {
                let _turn = seat.turn();
                let until = processor_time() + Duration::from_millis(1);
                while processor_time() < until {}
            }
            seats.send(seat).unwrap();
        });

        let seat = given.recv().await.unwrap();

        let cost = Duration::from_nanos(seat.worker.cost.load(Ordering::Relaxed));
        assert!(Duration::from_micros(700) < cost && cost < Duration::from_millis(3), "{cost:?}");
    }

    /// Goal: who goes away takes along what runs elsewhere, and a panic there is a panic here.
    #[tokio::test]
    async fn work_elsewhere_is_as_if_it_were_here() {
        let Some(workers) = two() else { return };
        let runtime = &workers.all[1].runtime;
        assert_eq!(run_at(runtime, async { HERE.get() }).await, Some(1));

        let (held, dropped) = oneshot::channel::<()>();
        let waiting = run_at(runtime, async move {
            let _held = held;
            pending::<()>().await;
        });
        assert!(poll_once(waiting).await.is_none());
        assert!(dropped.await.is_err());

        let panics = tokio::spawn({
            let runtime = runtime.clone();
            async move { run_at(&runtime, async { panic!("there") }).await }
        });
        assert!(panics.await.unwrap_err().is_panic());
    }

    async fn poll_once<F: Future>(future: F) -> Option<F::Output> {
        tokio::select! {
            biased;
            output = future => Some(output),
            () = std::future::ready(()) => None,
        }
    }

    /// Goal: each worker has its own, and who is none shares one.
    #[tokio::test]
    async fn each_worker_has_its_own() {
        let Some(workers) = two() else { return };
        let each = Arc::new(PerWorker::new());
        let mut seen = Vec::new();
        for worker in workers.all.iter() {
            let each = Arc::clone(&each);
            seen.push(run_at(&worker.runtime, async move { *each.here(|| HERE.get()) }).await);
        }

        assert_eq!(seen, [Some(0), Some(1)]);
        assert_eq!(*each.here(|| HERE.get()), None);
        assert_eq!(thread::spawn(move || *each.here(|| Some(9))).join().unwrap(), None);
    }
}
