//! The threads that serve connections, each with a runtime of its own.
//!
//! A connection stays on one thread, and so does what its requests need: the policies' instances, the connections to API
//! servers. Nothing of a request wakes another thread or moves to another processor's cache, which on one runtime of
//! many threads was a third of what a request costs (`docs/performance.md`). What balances is where a connection begins,
//! at the worker with the fewest; and a worker with many requests to answer gives some to another ([`Turn`]), so that
//! one busy HTTP/2 connection is not bound to one processor.

use std::cell::Cell;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::{fmt, io, panic, thread};

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

/// Requests that a worker answers at once before it looks for another.
const ANSWERING_MIN: usize = 4;

thread_local! {
    /// Which worker this thread is; most are none.
    static HERE: Cell<Option<usize>> = const { Cell::new(None) };
    /// Whom this worker looks at next.
    static NEXT: Cell<usize> = const { Cell::new(0) };
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
    runtime: Handle,
    connections: AtomicUsize,
    answering: AtomicUsize,
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
            let (connections, answering) = (AtomicUsize::new(0), AtomicUsize::new(0));
            all.push(Arc::new(Worker { runtime: runtime.handle().clone(), connections, answering }));
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

    /// Runs a connection at the worker that has the fewest.
    pub(crate) fn spawn<F>(&self, connection: impl FnOnce(Arc<Seat>) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let Some(worker) = self.all.iter().min_by_key(|worker| worker.connections.load(Ordering::Relaxed)) else {
            return;
        };
        worker.connections.fetch_add(1, Ordering::Relaxed);
        let seat = Seat { worker: Arc::clone(worker), all: Arc::clone(&self.all) };
        worker.runtime.spawn(connection(Arc::new(seat)));
    }
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
        let here = self.worker.answering.load(Ordering::Relaxed);
        if here < ANSWERING_MIN {
            return None;
        }
        let next = NEXT.replace(NEXT.get().wrapping_add(1));
        let other = self.all.get(next.checked_rem(self.all.len())?)?;
        let there = other.answering.load(Ordering::Relaxed);
        (here >= ANSWERING_MIN + 2 * there).then_some(other) // never so of itself
    }
}

impl Turn {
    /// The worker to answer at, where it is not the connection's own.
    pub(crate) fn elsewhere(&self) -> Option<&Handle> {
        self.is_elsewhere.then_some(&self.worker.runtime)
    }
}

/// Runs `work` at another worker. Dropped, it ends there too; a panic goes on here.
pub(crate) async fn run_at<T: Send + 'static>(runtime: &Handle, work: impl Future<Output = T> + Send + 'static) -> T {
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

    /// Goal: connections spread over the workers, also after some have ended.
    /// Method: four that last, and then two whose neighbours have left.
    #[tokio::test]
    async fn a_connection_begins_where_there_are_fewest() {
        let Some(workers) = two() else { return };
        let (seats, mut given) = tokio::sync::mpsc::unbounded_channel();
        let connect = || {
            workers.spawn(|seat| {
                seats.send(seat).unwrap();
                pending()
            });
        };
        (0..4).for_each(|_| connect());
        assert_eq!(connections(&workers), [2, 2]);

        let mut first = Vec::new();
        while let Ok(seat) = given.try_recv() {
            first.push(seat);
        }
        first.retain(|seat| Arc::ptr_eq(&seat.worker, &workers.all[1]));
        assert_eq!(connections(&workers), [0, 2]);
        (0..2).for_each(|_| connect());

        assert_eq!(connections(&workers), [2, 2]);
    }

    /// Goal: a connection that asks for much at once does not stay on one processor; one that asks for little does.
    #[tokio::test]
    async fn a_worker_with_much_to_answer_gives_some_away() {
        let Some(workers) = two() else { return };
        let (seats, mut given) = tokio::sync::mpsc::unbounded_channel();
        workers.spawn(|seat| {
            seats.send(seat).unwrap();
            pending()
        });
        let seat = given.recv().await.unwrap();
        let few: Vec<Turn> = (0..ANSWERING_MIN).map(|_| seat.turn()).collect();
        assert!(few.iter().all(|turn| turn.elsewhere().is_none()));

        let more: Vec<Turn> = (0..28).map(|_| seat.turn()).collect();

        let given_away = more.iter().filter(|turn| turn.elsewhere().is_some()).count();
        assert!((8..=16).contains(&given_away), "{given_away} of 32");
        drop((few, more));
        assert!(seat.turn().elsewhere().is_none(), "a turn that is over does not count");
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
