//! What one call into a plug-in may spend.
//!
//! The limits that an operator chooses are [`Limits`]; the rest are constants here, the
//! same for every plug-in.

use std::num::NonZeroU32;
use std::time::Duration;

/// What one call into a plug-in may spend, checked.
///
/// As a sidecar's `limits`: `{ deadlineMs: 50, memoryMiB: 64, concurrency: 64, instanceCalls: 1000 }`, which are also the
/// defaults of keys that are absent.
///
/// ```
/// use std::time::Duration;
/// use witgate_plugin::Limits;
///
/// let limits: Limits = serde_json::from_str(r#"{ "deadlineMs": 10000 }"#)?;
/// assert_eq!(limits.deadline, Duration::from_secs(10));
/// assert_eq!(limits.memory_bytes_max, Limits::default().memory_bytes_max);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq, serde::Deserialize)]
#[serde(try_from = "RawLimits")]
#[non_exhaustive] // so that no other crate can build one past the checks
pub struct Limits {
    /// Time until the call is interrupted: computing and waiting count, queueing for a processor does not.
    pub deadline: Duration,
    /// Linear memory that one instance may reach, all its memories together.
    pub memory_bytes_max: usize,
    /// Calls that one plug-in may have in flight; further ones are refused, not queued.
    pub concurrency_max: NonZeroU32,
    /// Calls that one instance serves before it is dropped, where instances are reused.
    pub instance_calls_max: NonZeroU32,
}

/// `Limits` as written in the file: any number, not yet a promise.
#[derive(serde::Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
struct RawLimits {
    deadline_ms: u64,
    #[serde(rename = "memoryMiB")]
    memory_mib: u64,
    concurrency: u32,
    instance_calls: u32,
}

/// Why numbers are not limits.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidLimits {
    /// Of the deadline.
    #[error("`deadlineMs` is {given_ms}; it must be between 1 and {DEADLINE_MS_MAX}")]
    Deadline {
        /// What was given.
        given_ms: u64,
    },
    /// Of the memory.
    #[error("`memoryMiB` is {given_mib}; it must be between 1 and {MEMORY_MIB_MAX}")]
    Memory {
        /// What was given.
        given_mib: u64,
    },
    /// Of an instance's calls.
    #[error("`instanceCalls` is {given}; it must be between 1 and {INSTANCE_CALLS_MAX}")]
    InstanceCalls {
        /// What was given.
        given: u32,
    },
    /// Of the concurrency.
    #[error("`concurrency` is {given}; it must be between 1 and {CONCURRENCY_MAX}")]
    Concurrency {
        /// What was given.
        given: u32,
    },
}

impl Limits {
    /// Checks limits that do not come from a file.
    ///
    /// # Errors
    /// When one of them is out of bounds.
    pub fn new(deadline_ms: u64, memory_mib: u64, concurrency: u32) -> Result<Self, InvalidLimits> {
        Self::try_from(RawLimits { deadline_ms, memory_mib, concurrency, ..RawLimits::default() })
    }

    /// The same, with so many calls for an instance that is reused.
    ///
    /// # Errors
    /// When that is out of bounds.
    pub fn with_instance_calls(self, instance_calls: u32) -> Result<Self, InvalidLimits> {
        match NonZeroU32::new(instance_calls) {
            Some(max) if max.get() <= INSTANCE_CALLS_MAX => Ok(Self { instance_calls_max: max, ..self }),
            _ => Err(InvalidLimits::InstanceCalls { given: instance_calls }),
        }
    }
}

impl TryFrom<RawLimits> for Limits {
    type Error = InvalidLimits;

    fn try_from(raw: RawLimits) -> Result<Self, Self::Error> {
        let RawLimits { deadline_ms, memory_mib, concurrency, instance_calls } = raw;
        if !(1..=DEADLINE_MS_MAX).contains(&deadline_ms) {
            return Err(InvalidLimits::Deadline { given_ms: deadline_ms });
        }
        let memory_bytes_max = match usize::try_from(memory_mib) {
            Ok(mib @ 1..=MEMORY_MIB_MAX) => mib << 20,
            _ => return Err(InvalidLimits::Memory { given_mib: memory_mib }),
        };
        let concurrency_max = match NonZeroU32::new(concurrency) {
            Some(max) if max.get() <= CONCURRENCY_MAX => max,
            _ => return Err(InvalidLimits::Concurrency { given: concurrency }),
        };
        let deadline = Duration::from_millis(deadline_ms);
        Self { deadline, memory_bytes_max, concurrency_max, instance_calls_max: NonZeroU32::MIN }
            .with_instance_calls(instance_calls)
    }
}

impl Default for RawLimits {
    fn default() -> Self {
        Self { deadline_ms: 50, memory_mib: 64, concurrency: 64, instance_calls: 1000 }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::try_from(RawLimits::default()).expect("the defaults are within bounds")
    }
}

const DEADLINE_MS_MAX: u64 = 10_000;
const MEMORY_MIB_MAX: usize = 1024;
const CONCURRENCY_MAX: u32 = 1024;
const INSTANCE_CALLS_MAX: u32 = 1_000_000;

/// The largest linear memory that any sidecar can grant.
pub(crate) const MEMORY_BYTES_MAX: usize = MEMORY_MIB_MAX << 20;

/// How long `configure` may take when a plug-in is loaded. Generous: no request waits for it.
pub(crate) const LOAD_DEADLINE: Duration = Duration::from_secs(2);

/// Table elements of one instance. A Python interpreter has some 12,000.
pub(crate) const TABLE_ELEMENTS_MAX: usize = 100_000;

/// Core instances, tables and memories inside one instance of a component. A Python guest has some 30 of the first.
pub(crate) const CORE_INSTANCES_MAX: usize = 128;
pub(crate) const TABLES_MAX: usize = 32;
pub(crate) const MEMORIES_MAX: usize = 8;

/// Bytes of stack that a guest's own frames may use.
pub(crate) const WASM_STACK_BYTES_MAX: usize = 512 << 10;

/// Bytes of texts in one answer.
pub(crate) const OUTPUT_BYTES_MAX: usize = 1 << 20;

/// Bytes that the engine copies out of a guest in one step, before anything else looks at them. Above
/// `OUTPUT_BYTES_MAX`, because it also counts what lists cost; bounds one text shared by a million list items.
pub(crate) const LIFTED_BYTES_MAX: usize = 4 << 20;

/// Characters of a text that reaches a caller: a denial's reason, a strategy's error.
pub(crate) const REASON_CHARS_MAX: usize = 1024;

/// Handles to the host's resources (streams, pollables) that one instance may hold.
pub(crate) const RESOURCES_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a sidecar's numbers are bounded, and a misspelt key is not a default. Method: rows of JSON.
    #[test]
    fn limits_are_bounded() {
        check("{}", "50ms 67108864 64 1000");
        check(r#"{"deadlineMs":1,"memoryMiB":1,"concurrency":1,"instanceCalls":1}"#, "1ms 1048576 1 1");
        check(
            r#"{"deadlineMs":10000,"memoryMiB":1024,"concurrency":1024,"instanceCalls":1000000}"#,
            "10s 1073741824 1024 1000000",
        );
        check(r#"{"instanceCalls":0}"#, "`instanceCalls` is 0; it must be between 1 and 1000000");
        check(r#"{"instanceCalls":1000001}"#, "`instanceCalls` is 1000001; it must be between 1 and 1000000");
        check(r#"{"deadlineMs":0}"#, "`deadlineMs` is 0; it must be between 1 and 10000");
        check(r#"{"deadlineMs":10001}"#, "`deadlineMs` is 10001; it must be between 1 and 10000");
        check(r#"{"memoryMiB":0}"#, "`memoryMiB` is 0; it must be between 1 and 1024");
        check(
            r#"{"memoryMiB":18446744073709551615}"#,
            "`memoryMiB` is 18446744073709551615; it must be between 1 and 1024",
        );
        check(r#"{"concurrency":0}"#, "`concurrency` is 0; it must be between 1 and 1024");
        check(r#"{"concurrency":1025}"#, "`concurrency` is 1025; it must be between 1 and 1024");
        check(
            r#"{"memoryMib":1}"#,
            "unknown field `memoryMib`, expected one of `deadlineMs`, `memoryMiB`, `concurrency`, `instanceCalls` at line 1 column 12",
        );
    }

    #[track_caller]
    fn check(json: &str, expected: &str) {
        let got = match serde_json::from_str::<Limits>(json) {
            Ok(Limits { deadline, memory_bytes_max, concurrency_max, instance_calls_max }) => {
                format!("{deadline:?} {memory_bytes_max} {concurrency_max} {instance_calls_max}")
            }
            Err(error) => error.to_string(),
        };
        assert_eq!(got, expected);
    }
}
