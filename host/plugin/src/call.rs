//! One call into a guest: its permit, its store, its deadline, and how it can fail.
//!
//! Two clocks bound it. The engine's epoch interrupts a guest that computes, and lets others run on this
//! thread every few milliseconds ([`Pace`]); a timeout around the whole ends one that waits inside a host call. Neither
//! counts the time in which the guest could run and others did ([`CallClock`]).
//!
//! Around both stands the [`Quarantine`]: who keeps failing is not called.
//!
//! Cancel safety: dropping a call ends its guest and gives its permit and memory back.

use std::future::{Future, poll_fn};
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, SemaphorePermit};
use tracing::{debug, info, warn};
use wasmtime::{Engine, PoolConcurrencyLimitError, Store, Trap, UpdateDeadline, WasmBacktrace};
use witgate_core::{
    CallError, CallMeter, Digest, Limit, Paused, PluginName, Quarantine, QuarantineChange, SecretStore,
};

use crate::Limits;
use crate::call_clock::CallClock;
use crate::capability::http::HttpState;
use crate::capability::http::send::Outbound;
use crate::capability::log::{CallLog, PluginLog};
use crate::capability::wasi::Surroundings;
use crate::host::Shared;
use crate::limits::{LIFTED_BYTES_FOR_EACH, LIFTED_BYTES_MIN, LOAD_DEADLINE, slow_calls_max};
use crate::pace::Pace;
use crate::sandbox::{Budget, Sandbox, SecretStores};
use crate::ticker::Ticking;
use crate::warm::WarmInstances;

/// What all calls of one plug-in share.
pub(crate) struct Runner {
    pub(crate) name: PluginName,
    pub(crate) digest: Digest,
    /// Counts its calls.
    pub(crate) meter: Arc<CallMeter>,
    limits: Limits,
    permits: Semaphore,
    /// Calls that wait for a permit.
    waiting: AtomicU32,
    /// For guests that compute for long.
    turns: Arc<Semaphore>,
    quarantine: Arc<Quarantine>,
    log: Arc<PluginLog>,
    secrets: Arc<dyn SecretStore>,
    /// Where it may send HTTP requests; none where nowhere.
    outbound: Option<Arc<Outbound>>,
    /// Keeps the engine's clock going for as long as anything can be called.
    host: Arc<Shared>,
}

/// One call. Its fields are dropped in this order: the memory goes back before the permit does.
pub(crate) struct Call<'a> {
    pub(crate) store: Store<Sandbox>,
    pub(crate) deadline: Deadline,
    runner: &'a Runner,
    _permit: SemaphorePermit<'a>,
    /// Without it nothing would interrupt the guest.
    _ticking: Ticking<'a>,
}

/// Ticks of the engine's clock, a millisecond each, that a guest may compute before others get their turn. More than
/// one, so that a burst of short calls ends one after the other instead of all of them late.
const TICKS_AT_A_TIME: u64 = 4;

/// When a call must have ended.
#[derive(Clone)]
pub(crate) struct Deadline {
    pace: Arc<Pace>,
    given: Duration,
}

/// A place in the queue of those that wait to begin; given back when dropped.
struct Place<'a>(&'a AtomicU32);

/// How long a call may queue for a thread, all together, on top of its deadline.
const QUEUEING_MAX: Duration = Duration::from_secs(1);

/// How often a call that queues is looked at; as much later may it end than at its deadline.
const QUEUEING_LOOK: Duration = Duration::from_millis(10);

/// Raised inside a guest that still computes at its deadline.
#[derive(Debug, thiserror::Error)]
#[error("the deadline has passed")]
struct DeadlinePassed;

/// The outer timeout went off: the guest was waiting in a host call.
pub(crate) struct WaitedTooLong;

impl Runner {
    pub(crate) fn new(
        name: PluginName,
        digest: Digest,
        limits: Limits,
        secrets: Arc<dyn SecretStore>,
        outbound: Option<Arc<Outbound>>,
        host: Arc<Shared>,
    ) -> Self {
        // A u32 fits a usize on every target that the engine has.
        let permits = Semaphore::new(limits.concurrency_max as usize);
        let log = Arc::new(PluginLog::new(name.clone(), limits.log_bytes_max));
        Self {
            name,
            digest,
            meter: Arc::default(),
            limits,
            permits,
            waiting: AtomicU32::new(0),
            turns: Arc::new(Semaphore::new(slow_calls_max())),
            quarantine: Arc::default(),
            log,
            secrets,
            outbound,
            host,
        }
    }

    /// Asks for `caller` unless it is quarantined, and keeps count of what comes of it.
    pub(crate) async fn guarded<T>(
        &self,
        caller: impl Hash,
        call: impl Future<Output = Result<T, CallError>>,
    ) -> Result<T, CallError> {
        let admitted = self
            .quarantine
            .admit(caller, Instant::now())
            .map_err(|Paused { retry_after }| CallError::Quarantined { plugin: self.name.clone(), retry_after })?;
        let answer = call.await;
        let change = match &answer {
            Ok(_) => admitted.succeeded(Instant::now()),
            Err(error) if error.is_the_guests() => admitted.failed(Instant::now()),
            Err(_) => None, // it says nothing about the guest
        };
        self.tell(change, answer.as_ref().err());
        answer
    }

    /// Said once when it begins and once when it is over, however many callers it is about.
    fn tell(&self, change: Option<QuarantineChange>, error: Option<&CallError>) {
        let (plugin, code) = (&self.name, error.map_or("", CallError::code));
        match change {
            None => {}
            Some(QuarantineChange::Begun { pause, callers: 1 }) => {
                warn!(%plugin, code, ?pause, "a plug-in keeps failing for a caller, and is not called for it for a while");
            }
            Some(QuarantineChange::Begun { pause, callers }) => {
                debug!(%plugin, code, ?pause, callers, "a plug-in keeps failing for one more caller");
            }
            Some(QuarantineChange::Prolonged { pause }) => {
                debug!(%plugin, code, ?pause, "a plug-in still fails for a caller");
            }
            Some(QuarantineChange::Lifted { callers: 0 }) => {
                info!(%plugin, "a plug-in that kept failing answers again");
            }
            Some(QuarantineChange::Lifted { callers }) => {
                debug!(%plugin, callers, "a plug-in answers one caller again")
            }
        }
    }

    /// Whom it is not called for.
    pub(crate) const fn quarantine(&self) -> &Arc<Quarantine> {
        &self.quarantine
    }

    /// Bytes of the texts in one answer.
    pub(crate) const fn output_bytes_max(&self) -> usize {
        self.limits.output_bytes_max
    }

    /// Begins a call, in the store that `warm` yields where there is one. It is asked only once the call is admitted.
    pub(crate) async fn begin<T>(
        &self,
        secrets: SecretStores,
        warm: impl FnOnce() -> Option<(Store<Sandbox>, T)>,
    ) -> Result<(Call<'_>, Option<T>), CallError> {
        let permit = match self.admit() {
            Ok(permit) => permit,
            Err(_full) => self.wait_for_permit(self.limits.deadline).await?,
        };
        let sandbox = self.sandbox(self.limits.deadline, secrets);
        let deadline = sandbox.deadline.clone();
        let (store, kept) = match warm() {
            None => (self.new_store(&self.host.engine, sandbox), None),
            Some((mut store, kept)) => {
                store.data_mut().begin_again(sandbox);
                store.set_epoch_deadline(TICKS_AT_A_TIME);
                (store, Some(kept))
            }
        };
        Ok((Call { store, deadline, runner: self, _permit: permit, _ticking: self.host.ticker.ticking() }, kept))
    }

    /// The secrets of a strategy's call; `cluster` are those of the cluster at hand.
    pub(crate) fn secrets(&self, cluster: Option<Arc<dyn SecretStore>>) -> SecretStores {
        SecretStores { sidecar: Some(Arc::clone(&self.secrets)), cluster, asked: false, may_change: false }
    }

    /// Calls that an instance may serve, where it is reused, and the places of those that wait.
    pub(crate) fn warm_instances<T>(&self) -> WarmInstances<T> {
        WarmInstances::new(self.limits.instance_calls_max, Arc::clone(&self.host.warm_places))
    }

    /// Begins the call that configures a plug-in when it is loaded, by what `engine` compiled.
    pub(crate) fn begin_loading(&self, engine: &Engine) -> Result<Call<'_>, CallError> {
        let permit = self.admit()?;
        let sandbox = self.sandbox(LOAD_DEADLINE, self.secrets(None));
        let deadline = sandbox.deadline.clone();
        let store = self.new_store(engine, sandbox);
        Ok(Call { store, deadline, runner: self, _permit: permit, _ticking: self.host.ticker.ticking() })
    }

    fn admit(&self) -> Result<SemaphorePermit<'_>, CallError> {
        self.permits.try_acquire().map_err(|_full| self.saturated())
    }

    /// A time that begins now.
    pub(crate) fn deadline(&self, given: Duration) -> Deadline {
        let pace = Pace::begin(CallClock::begin(), Arc::clone(&self.turns));
        Deadline { pace: Arc::new(pace), given }
    }

    fn sandbox(&self, given: Duration, secrets: SecretStores) -> Sandbox {
        let log = Arc::new(CallLog::new(Arc::clone(&self.log)));
        Sandbox {
            deadline: self.deadline(given),
            budget: Budget::new(&self.limits),
            secrets,
            surroundings: Surroundings::STILL,
            wasi: None,
            http: HttpState::new(self.outbound.clone(), Arc::clone(&log)),
            log,
        }
    }

    fn new_store(&self, engine: &Engine, sandbox: Sandbox) -> Store<Sandbox> {
        let mut store = Store::new(engine, sandbox);
        store.limiter(|sandbox| &mut sandbox.budget);
        let lifted_bytes_max = self.limits.output_bytes_max.saturating_mul(LIFTED_BYTES_FOR_EACH);
        store.set_hostcall_fuel(lifted_bytes_max.max(LIFTED_BYTES_MIN));
        store.set_epoch_deadline(TICKS_AT_A_TIME);
        store.epoch_deadline_callback(|context| {
            let deadline = &context.data().deadline;
            if deadline.has_passed() {
                return Err(wasmtime::Error::new(DeadlinePassed));
            }
            Ok(UpdateDeadline::YieldCustom(TICKS_AT_A_TIME, deadline.pace.next_turn()))
        });
        store
    }

    /// Waits where the plug-in's queue has room, at most as long as a call may take.
    async fn wait_for_permit(&self, patience: Duration) -> Result<SemaphorePermit<'_>, CallError> {
        let _place = Place::take(&self.waiting, self.limits.queue_max).ok_or_else(|| self.saturated())?;
        match tokio::time::timeout(patience, self.permits.acquire()).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) | Err(_) => Err(self.saturated()),
        }
    }

    /// An answer that the contract does not allow.
    pub(crate) fn malformed(&self, reason: impl Into<String>) -> CallError {
        CallError::Malformed { plugin: self.name.clone(), reason: reason.into() }
    }

    /// An answer that is too large.
    pub(crate) fn output_limit(&self) -> CallError {
        CallError::LimitReached { plugin: self.name.clone(), limit: Limit::Output }
    }

    fn saturated(&self) -> CallError {
        CallError::Saturated { plugin: self.name.clone(), max: self.limits.concurrency_max }
    }
}

impl<'a> Place<'a> {
    fn take(waiting: &'a AtomicU32, max: u32) -> Option<Self> {
        let one_more = |waiting: u32| waiting.checked_add(1).filter(|waiting| *waiting <= max);
        waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).ok()?;
        Some(Self(waiting))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Deadline {
    /// Waits for `guest` until the deadline.
    pub(crate) async fn bound<T>(
        &self,
        guest: impl Future<Output = wasmtime::Result<T>>,
    ) -> Result<wasmtime::Result<T>, WaitedTooLong> {
        let mut guest = std::pin::pin!(guest);
        // Most calls end before they first give their thread up: no timer for them.
        if let Poll::Ready(ended) = poll_fn(|cx| Poll::Ready(guest.as_mut().poll(cx))).await {
            return Ok(ended);
        }
        let mut guest = poll_fn(|cx| {
            let polled = guest.as_mut().poll(cx);
            // Whatever came of it: an instance that is kept for later calls must not keep a turn.
            self.pace.rest();
            polled
        });
        let clock = &self.pace.clock;
        while !self.has_passed() {
            let mut remaining = self.given.saturating_sub(clock.taken());
            if clock.queues() {
                remaining = remaining.max(QUEUEING_LOOK); // its time stands still
            }
            if let Ok(ended) = tokio::time::timeout(remaining, &mut guest).await {
                return Ok(ended);
            }
        }
        Err(WaitedTooLong)
    }

    fn has_passed(&self) -> bool {
        let clock = &self.pace.clock;
        clock.taken() >= self.given || clock.elapsed() >= self.given + QUEUEING_MAX
    }
}

impl Call<'_> {
    /// Says in the contract's words what came of the guest.
    pub(crate) fn outcome<T>(&self, ended: Result<wasmtime::Result<T>, WaitedTooLong>) -> Result<T, CallError> {
        self.runner.meter.needed_memory(self.store.data().budget.memory_bytes());
        match ended {
            // An answer that was reached without the memory it asked for is no answer to rely on.
            Ok(Ok(answer)) => match self.store.data().budget.refused {
                None => Ok(answer),
                Some(limit) => Err(CallError::LimitReached { plugin: self.runner.name.clone(), limit }),
            },
            Ok(Err(error)) => Err(self.failure(error)),
            Err(WaitedTooLong) => Err(self.deadline_exceeded()),
        }
    }

    fn failure(&self, error: wasmtime::Error) -> CallError {
        let plugin = || self.runner.name.clone();
        let limit_reached = |limit| CallError::LimitReached { plugin: plugin(), limit };
        let trap = error.downcast_ref::<Trap>().copied();
        if error.is::<DeadlinePassed>() {
            return self.deadline_exceeded();
        }
        if error.is::<PoolConcurrencyLimitError>() {
            return self.runner.saturated();
        }
        if trap == Some(Trap::StackOverflow) {
            return limit_reached(Limit::Stack);
        }
        // These types are private to the engine; tests hold the texts.
        let cause = error.root_cause().to_string();
        if cause.contains("fuel allocated for hostcalls has been exhausted") {
            return limit_reached(Limit::Output);
        }
        if cause.contains("resource limit exceeded: ") {
            return limit_reached(Limit::Instances);
        }
        // A guest that was refused memory dies of it in its own way.
        if let Some(limit) = self.store.data().budget.refused {
            return limit_reached(limit);
        }
        // Answers are read when the guest's frames are gone.
        let reading = match trap {
            Some(
                Trap::InvalidChar
                | Trap::StringOutOfBounds
                | Trap::ListOutOfBounds
                | Trap::InvalidDiscriminant
                | Trap::UnalignedPointer,
            )
            | None => !error.is::<WasmBacktrace>(),
            Some(_) => false,
        };
        if reading {
            return CallError::Malformed { plugin: plugin(), reason: error.root_cause().to_string() };
        }
        CallError::Trapped { plugin: plugin(), source: error.into() }
    }

    fn deadline_exceeded(&self) -> CallError {
        CallError::DeadlineExceeded { plugin: self.runner.name.clone(), deadline: self.deadline.given }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: queueing has a limit of its own, behind the deadline. Method: calls that did nothing but queue.
    #[test]
    fn queueing_has_a_limit() {
        let given = Duration::from_secs(60);
        let passed = |queued| {
            let pace = Pace::begin(CallClock::queued_for(queued), Arc::new(Semaphore::new(1)));
            Deadline { pace: Arc::new(pace), given }.has_passed()
        };
        assert!(!passed(given));
        assert!(passed(given + QUEUEING_MAX));
    }
}
