//! One call into a guest: its permit, its store, its deadline, and how it can fail.
//!
//! Two clocks bound it. The engine's epoch interrupts a guest that computes, and lets others run on this
//! thread every few milliseconds; a timeout around the whole ends one that waits inside a host call. Neither
//! counts the time in which the guest could run and others did ([`CallClock`]).
//!
//! Cancel safety: dropping a call ends its guest and gives its permit and memory back.

use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use wasmtime::{Engine, PoolConcurrencyLimitError, Store, Trap, UpdateDeadline, WasmBacktrace};
use witgate_core::{CallError, CallMeter, Digest, Limit, PluginName, SecretStore};

use crate::Limits;
use crate::call_clock::CallClock;
use crate::capability::http::HttpState;
use crate::capability::http::send::Outbound;
use crate::capability::log::{CallLog, PluginLog};
use crate::capability::wasi::Surroundings;
use crate::host::Shared;
use crate::limits::{LIFTED_BYTES_MAX, LOAD_DEADLINE};
use crate::sandbox::{Budget, Sandbox, SecretStores};
use crate::warm::WarmInstances;

/// What all calls of one plug-in share.
pub(crate) struct Runner {
    pub(crate) name: PluginName,
    pub(crate) digest: Digest,
    /// Counts its calls.
    pub(crate) meter: Arc<CallMeter>,
    limits: Limits,
    permits: Semaphore,
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
}

/// Ticks of the engine's clock, a millisecond each, that a guest may compute before others get their turn. More than
/// one, so that a burst of short calls ends one after the other instead of all of them late.
const TICKS_AT_A_TIME: u64 = 4;

/// When a call must have ended.
#[derive(Clone)]
pub(crate) struct Deadline {
    clock: Arc<CallClock>,
    given: Duration,
}

/// How long a call may queue for a thread, all together, on top of its deadline.
const QUEUEING_MAX: Duration = Duration::from_secs(1);

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
        let permits = Semaphore::new(limits.concurrency_max.get() as usize);
        let log = Arc::new(PluginLog::new(name.clone()));
        Self { name, digest, meter: Arc::default(), limits, permits, log, secrets, outbound, host }
    }

    /// Begins a call, in the store that `warm` yields where there is one. It is asked only once the call is admitted.
    pub(crate) fn begin<T>(
        &self,
        secrets: SecretStores,
        warm: impl FnOnce() -> Option<(Store<Sandbox>, T)>,
    ) -> Result<(Call<'_>, Option<T>), CallError> {
        let permit = self.admit()?;
        let sandbox = self.sandbox(self.limits.deadline, secrets);
        let deadline = sandbox.deadline.clone();
        let (store, kept) = match warm() {
            None => (new_store(&self.host.engine, sandbox), None),
            Some((mut store, kept)) => {
                store.data_mut().begin_again(sandbox);
                store.set_epoch_deadline(TICKS_AT_A_TIME);
                (store, Some(kept))
            }
        };
        Ok((Call { store, deadline, runner: self, _permit: permit }, kept))
    }

    /// The secrets of a strategy's call; `cluster` are those of the cluster at hand.
    pub(crate) fn secrets(&self, cluster: Option<Arc<dyn SecretStore>>) -> SecretStores {
        SecretStores { sidecar: Some(Arc::clone(&self.secrets)), cluster, asked: false }
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
        Ok(Call { store: new_store(engine, sandbox), deadline, runner: self, _permit: permit })
    }

    fn admit(&self) -> Result<SemaphorePermit<'_>, CallError> {
        self.permits.try_acquire().map_err(|_full| self.saturated())
    }

    fn sandbox(&self, given: Duration, secrets: SecretStores) -> Sandbox {
        let log = Arc::new(CallLog::new(Arc::clone(&self.log)));
        Sandbox {
            deadline: Deadline::begin(given),
            budget: Budget::new(self.limits.memory_bytes_max),
            secrets,
            surroundings: Surroundings::STILL,
            wasi: None,
            http: HttpState::new(self.outbound.clone(), Arc::clone(&log)),
            log,
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
        CallError::Saturated { plugin: self.name.clone(), max: self.limits.concurrency_max.get() }
    }
}

fn new_store(engine: &Engine, sandbox: Sandbox) -> Store<Sandbox> {
    let mut store = Store::new(engine, sandbox);
    store.limiter(|sandbox| &mut sandbox.budget);
    store.set_hostcall_fuel(LIFTED_BYTES_MAX);
    store.set_epoch_deadline(TICKS_AT_A_TIME);
    store.epoch_deadline_callback(|context| {
        let deadline = &context.data().deadline;
        if deadline.has_passed() {
            return Err(wasmtime::Error::new(DeadlinePassed));
        }
        deadline.clock.yields();
        // Tokio's own yield: the task goes to the back, and timers and sockets get their turn.
        Ok(UpdateDeadline::YieldCustom(TICKS_AT_A_TIME, Box::pin(tokio::task::yield_now())))
    });
    store
}

impl Deadline {
    /// Begins now.
    pub(crate) fn begin(given: Duration) -> Self {
        Self { clock: Arc::new(CallClock::begin()), given }
    }

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
            self.clock.resumes();
            guest.as_mut().poll(cx)
        });
        while !self.has_passed() {
            let remaining = self.given.saturating_sub(self.clock.taken());
            if let Ok(ended) = tokio::time::timeout(remaining, &mut guest).await {
                return Ok(ended);
            }
        }
        Err(WaitedTooLong)
    }

    fn has_passed(&self) -> bool {
        self.clock.taken() >= self.given || self.clock.elapsed() >= self.given + QUEUEING_MAX
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
        // The type is private to the engine; a test holds this text.
        if error.root_cause().to_string().contains("fuel allocated for hostcalls has been exhausted") {
            return limit_reached(Limit::Output);
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
        let passed = |queued| Deadline { clock: Arc::new(CallClock::queued_for(queued)), given }.has_passed();
        assert!(!passed(given));
        assert!(passed(given + QUEUEING_MAX));
    }
}
