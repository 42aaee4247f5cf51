//! What surrounds one instance: its limits, its capabilities, its deadline. The data of a `Store`.

use std::sync::Arc;

use wasmtime::ResourceLimiter;
use witgate_core::{Limit, SecretStore};

use crate::Limits;
use crate::call::Deadline;
use crate::capability::http::HttpState;
use crate::capability::log::CallLog;
use crate::capability::wasi::{Surroundings, WasiState};
use crate::limits::{MEMORIES_MAX, TABLES_MAX};

/// The host's side of one instance.
pub(crate) struct Sandbox {
    /// When the guest is interrupted.
    pub(crate) deadline: Deadline,
    pub(crate) budget: Budget,
    pub(crate) log: Arc<CallLog>,
    /// Asked in this order. Empty for policies: they do not import `secrets`.
    pub(crate) secrets: SecretStores,
    pub(crate) surroundings: Surroundings,
    /// Made when the guest first asks for WASI; most never do.
    pub(crate) wasi: Option<Box<WasiState>>,
    /// What it may send. Nothing, unless a sidecar says so.
    pub(crate) http: HttpState,
}

/// The secrets that one call may ask for.
#[derive(Default)]
pub(crate) struct SecretStores {
    /// The sidecar's own.
    pub(crate) sidecar: Option<Arc<dyn SecretStore>>,
    /// Those of the cluster at hand.
    pub(crate) cluster: Option<Arc<dyn SecretStore>>,
    /// Whether the guest asked for one.
    pub(crate) asked: bool,
    /// Whether it asked for one that may be another by now.
    pub(crate) may_change: bool,
}

/// What an instance may allocate, what it has, and what it was refused.
pub(crate) struct Budget {
    memory_bytes_max: usize,
    table_elements_max: usize,
    core_instances_max: usize,
    memory_bytes: usize,
    /// The first limit that was reached. A guest may survive that; its answer then does not count.
    pub(crate) refused: Option<Limit>,
}

impl Budget {
    pub(crate) const fn new(limits: &Limits) -> Self {
        let Limits { memory_bytes_max, table_elements_max, core_instances_max, .. } = *limits;
        Self { memory_bytes_max, table_elements_max, core_instances_max, memory_bytes: 0, refused: None }
    }

    /// What the instance has; memory never shrinks, so also the most it had.
    pub(crate) const fn memory_bytes(&self) -> usize {
        self.memory_bytes
    }

    /// Room for the one page in which a memory's own size and place are told when it is read as a whole.
    pub(crate) const fn without_memory_limit(&mut self) {
        self.memory_bytes_max = usize::MAX;
    }
}

impl Sandbox {
    /// Becomes the sandbox of another call of the same instance: what the instance has stays, all else is the new call's.
    pub(crate) fn begin_again(&mut self, next: Self) {
        let Self { deadline, budget, log, secrets, surroundings, wasi, http } = next;
        drop(wasi);
        *self = Self {
            deadline,
            budget: Budget { memory_bytes: self.budget.memory_bytes, ..budget },
            secrets,
            surroundings,
            wasi: self.wasi.take(),
            http,
            log,
        };
        if let Some(wasi) = &self.wasi {
            wasi.begin_again(&self.log);
        }
    }

    /// The call is over and its instance may serve another. What the call was handed goes; says whether the instance is
    /// fit to be kept.
    pub(crate) fn end_call(&mut self) -> bool {
        self.secrets = SecretStores::default();
        if let Some(wasi) = &self.wasi {
            wasi.end_call();
        }
        self.log.forget();
        // A handle of a strategy that goes out may be half of an exchange, made for this call and nobody else's.
        let holds_an_exchange = self.http.goes_out() && self.wasi.as_ref().is_some_and(|wasi| wasi.holds_handles());
        self.budget.refused.is_none() && !holds_an_exchange
    }

    /// Why what the guest now holds in its memory must not become the start of every later call; none if it may.
    pub(crate) fn unfit_for_snapshot(&self) -> Option<&'static str> {
        if self.secrets.asked {
            return Some("`configure` asks for a secret, which may be another one tomorrow");
        }
        if self.http.was_asked() {
            return Some("`configure` tries to send an HTTP request");
        }
        if self.wasi.as_ref().is_some_and(|wasi| wasi.holds_handles()) {
            return Some("`configure` leaves a handle of the host's open");
        }
        None
    }
}

/// The interface holds types alone.
impl crate::bindings::types::Host for Sandbox {}

impl ResourceLimiter for Budget {
    fn memory_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        // All memories of the instance together: two halves are a whole.
        let total = self.memory_bytes.saturating_sub(current).saturating_add(desired);
        let fits = total <= self.memory_bytes_max;
        if fits {
            self.memory_bytes = total;
        } else {
            self.refused.get_or_insert(Limit::Memory);
        }
        Ok(fits)
    }

    fn table_growing(&mut self, _current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let fits = desired <= self.table_elements_max;
        if !fits {
            self.refused.get_or_insert(Limit::Table);
        }
        Ok(fits)
    }

    fn instances(&self) -> usize {
        self.core_instances_max
    }

    fn tables(&self) -> usize {
        TABLES_MAX
    }

    fn memories(&self) -> usize {
        MEMORIES_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: memories add up, and a refusal is remembered. Method: a row of growths, each (from, to, granted).
    #[test]
    fn memories_share_one_budget() {
        let mut budget = Budget::new(&Limits { memory_bytes_max: 100, ..Limits::default() });
        for (current, desired, granted) in [(0, 60, true), (0, 40, true), (60, 61, false), (40, 40, true)] {
            assert_eq!(budget.memory_growing(current, desired, None).unwrap(), granted, "{current} to {desired}");
        }
        assert_eq!(budget.refused, Some(Limit::Memory));
        let mut budget = Budget::new(&Limits { table_elements_max: 7, ..Limits::default() });
        assert!(budget.table_growing(0, 7, None).unwrap());
        assert!(!budget.table_growing(0, 8, None).unwrap());
        assert_eq!(budget.refused, Some(Limit::Table));
    }
}
