//! What one call into a plug-in may spend.
//!
//! Those that an operator chooses are [`Limits`], and their defaults and bounds stand in one table, [`RANGES`]; the rest are
//! constants here, the same for every plug-in. `policies/README.md` shows the same table to operators, and a test holds
//! the two together.

use std::num::NonZeroU32;
use std::time::Duration;

/// What one call into a plug-in may spend, checked.
///
/// As a sidecar's `limits`: `{ deadlineMs: 50, memoryMiB: 64, concurrency: 64, … }`; a key that is absent has its default.
///
/// ```
/// use std::time::Duration;
/// use witgate_plugin::{LimitNumbers, Limits};
///
/// let mut numbers = LimitNumbers::default();
/// *numbers.slot("deadlineMs").unwrap() = 10_000;
/// let limits = Limits::try_from(numbers)?;
/// assert_eq!(limits.deadline, Duration::from_secs(10));
/// assert_eq!(limits.memory_bytes_max, Limits::default().memory_bytes_max);
/// # Ok::<(), witgate_plugin::InvalidLimit>(())
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive] // so that no other crate can build one past the checks
pub struct Limits {
    /// Time until the call is interrupted: computing and waiting count, queueing for a processor does not.
    pub deadline: Duration,
    /// Linear memory that one instance may reach, all its memories together.
    pub memory_bytes_max: usize,
    /// Elements that each of its tables may have.
    pub table_elements_max: usize,
    /// Core instances inside one instance of the component.
    pub core_instances_max: usize,
    /// Bytes of the texts in one answer.
    pub output_bytes_max: usize,
    /// Bytes of log lines that one call may write; further lines are dropped.
    pub log_bytes_max: usize,
    /// Calls that one plug-in may have in flight.
    pub concurrency_max: u32,
    /// Calls that may wait, as long as a call may take, for one of those to end; further ones are refused.
    pub queue_max: u32,
    /// Calls that one instance serves before it is dropped, where instances are reused.
    pub instance_calls_max: NonZeroU32,
}

/// The limits as they stand in a file: any numbers, not yet a promise.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LimitNumbers([u64; RANGES.len()]);

/// A number is not a limit.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("`{key}` is {given}; it must be between {min} and {max}")]
pub struct InvalidLimit {
    key: &'static str,
    given: u64,
    min: u64,
    max: u64,
}

/// A limit that an operator chooses.
struct Range {
    key: &'static str,
    default: u64,
    min: u64,
    max: u64,
}

/// All of them, in the order of [`Limits`].
const RANGES: [Range; 9] = [
    Range { key: "deadlineMs", default: 50, min: 1, max: 10_000 },
    Range { key: "memoryMiB", default: 64, min: 1, max: MEMORY_MIB_MAX },
    // A Python interpreter has some 12,000. More than the default no table of the memory pool could hold.
    Range { key: "tableElements", default: TABLE_ELEMENTS_MAX as u64, min: 1, max: TABLE_ELEMENTS_MAX as u64 },
    // A Python guest has some 30.
    Range { key: "coreInstances", default: 128, min: 1, max: 1024 },
    Range { key: "outputKiB", default: 1024, min: 1, max: 4096 },
    Range { key: "logKiB", default: 64, min: 0, max: 1024 },
    Range { key: "concurrency", default: 64, min: 1, max: 1024 },
    // Full means deny, not wait, unless somebody says otherwise.
    Range { key: "queue", default: 0, min: 0, max: 1024 },
    Range { key: "instanceCalls", default: 1000, min: 1, max: 1_000_000 },
];

impl LimitNumbers {
    /// The keys, in the order in which the documentation shows them.
    #[expect(clippy::indexing_slicing, reason = "of two arrays of one length, when this is compiled")]
    pub const KEYS: [&str; RANGES.len()] = {
        let mut keys = [""; RANGES.len()];
        let mut index = 0;
        while index < keys.len() {
            keys[index] = RANGES[index].key;
            index += 1;
        }
        keys
    };

    /// Where the number of this key stands; none for an unknown key.
    pub fn slot(&mut self, key: &str) -> Option<&mut u64> {
        let index = RANGES.iter().position(|range| range.key == key)?;
        self.0.get_mut(index)
    }
}

impl Default for LimitNumbers {
    fn default() -> Self {
        Self(RANGES.map(|range| range.default))
    }
}

impl Limits {
    /// Limits of which these three are not the default.
    ///
    /// # Errors
    /// When one of them is out of bounds.
    pub fn new(deadline_ms: u64, memory_mib: u64, concurrency: u32) -> Result<Self, InvalidLimit> {
        let mut numbers = LimitNumbers::default();
        let given = [("deadlineMs", deadline_ms), ("memoryMiB", memory_mib), ("concurrency", concurrency.into())];
        for (key, number) in given {
            if let Some(slot) = numbers.slot(key) {
                *slot = number;
            }
        }
        Self::try_from(numbers)
    }

    /// The same, with so many calls for an instance that is reused.
    ///
    /// # Errors
    /// When that is out of bounds.
    pub fn with_instance_calls(self, instance_calls: u32) -> Result<Self, InvalidLimit> {
        let mut numbers = LimitNumbers::default();
        if let Some(slot) = numbers.slot("instanceCalls") {
            *slot = instance_calls.into();
        }
        Ok(Self { instance_calls_max: Self::try_from(numbers)?.instance_calls_max, ..self })
    }
}

impl TryFrom<LimitNumbers> for Limits {
    type Error = InvalidLimit;

    fn try_from(LimitNumbers(numbers): LimitNumbers) -> Result<Self, InvalidLimit> {
        for (given, Range { key, min, max, .. }) in numbers.into_iter().zip(RANGES) {
            if !(min..=max).contains(&given) {
                return Err(InvalidLimit { key, given, min, max });
            }
        }
        // All are within bounds that fit every type below.
        let [deadline_ms, memory_mib, tables, instances, output_kib, log_kib, concurrency, queue, calls] = numbers;
        let bytes = |number: u64, shift: u32| usize::try_from(number << shift).unwrap_or(usize::MAX);
        Ok(Self {
            deadline: Duration::from_millis(deadline_ms),
            memory_bytes_max: bytes(memory_mib, 20),
            table_elements_max: bytes(tables, 0),
            core_instances_max: bytes(instances, 0),
            output_bytes_max: bytes(output_kib, 10),
            log_bytes_max: bytes(log_kib, 10),
            concurrency_max: u32::try_from(concurrency).unwrap_or(u32::MAX),
            queue_max: u32::try_from(queue).unwrap_or(u32::MAX),
            instance_calls_max: u32::try_from(calls).ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MIN),
        })
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::try_from(LimitNumbers::default()).expect("the defaults are within bounds")
    }
}

const MEMORY_MIB_MAX: u64 = 1024;

/// The largest linear memory that any sidecar can grant.
pub(crate) const MEMORY_BYTES_MAX: usize = (MEMORY_MIB_MAX as usize) << 20;

/// The largest table that any sidecar can grant.
pub(crate) const TABLE_ELEMENTS_MAX: usize = 100_000;

/// How long `configure` may take when a plug-in is loaded. Generous: no request waits for it.
pub(crate) const LOAD_DEADLINE: Duration = Duration::from_secs(2);

/// Tables and memories inside one instance of a component.
pub(crate) const TABLES_MAX: usize = 32;
pub(crate) const MEMORIES_MAX: usize = 8;

/// Calls of one plug-in that compute for longer than a moment and have a processor at the same time: half of them, so that
/// plug-ins that never end leave the other half to everybody else.
pub(crate) fn slow_calls_max() -> usize {
    std::thread::available_parallelism().map_or(1, |processors| (processors.get() / 2).max(1))
}

/// Bytes of stack that a guest's own frames may use.
pub(crate) const WASM_STACK_BYTES_MAX: usize = 512 << 10;

/// Bytes that the engine copies out of a guest in one step, before anything else looks at them, for each byte that an
/// answer may have: it also counts what lists cost. Bounds one text shared by a million list items.
pub(crate) const LIFTED_BYTES_FOR_EACH: usize = 4;

/// No less than this, whatever an answer may have: requests and log lines are copied out in the same way.
pub(crate) const LIFTED_BYTES_MIN: usize = 4 << 20;

/// Characters of a text that reaches a caller: a denial's reason, a strategy's error.
pub(crate) const REASON_CHARS_MAX: usize = 1024;

/// Handles to the host's resources (streams, pollables) that one instance may hold.
pub(crate) const RESOURCES_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: each number is bounded at both ends, and the refusal says how. Method: the ends of each range, and one beyond.
    #[test]
    fn limits_are_bounded() {
        for Range { key, min, max, .. } in RANGES {
            let limits = |number: u64| {
                let mut numbers = LimitNumbers::default();
                *numbers.slot(key).unwrap() = number;
                Limits::try_from(numbers).map_err(|error| error.to_string())
            };
            assert!(limits(min).is_ok() && limits(max).is_ok(), "{key}");
            for given in [max + 1, u64::MAX].into_iter().chain(min.checked_sub(1)) {
                let expected = format!("`{key}` is {given}; it must be between {min} and {max}");
                assert_eq!(limits(given), Err(expected));
            }
        }
        assert_eq!(LimitNumbers::default().slot("memoryMib"), None);
    }

    /// Goal: operators read the numbers that hold. Method: the table of the README, row by row.
    #[test]
    fn the_documentation_shows_these_numbers() {
        let readme = include_str!("../../../policies/README.md");
        for Range { key, default, min, max } in RANGES {
            let row = format!("| `{key}` | {default} | {min} to {max} |");
            assert!(readme.contains(&row), "policies/README.md has no row `{row}`");
        }
        let stack = format!("| stack | {} KiB | fixed |", WASM_STACK_BYTES_MAX >> 10);
        assert!(readme.contains(&stack), "policies/README.md has no row `{stack}`");
        let defaults = format!("{:?}", Limits::default());
        assert!(defaults.starts_with("Limits { deadline: 50ms, memory_bytes_max: 67108864,"), "{defaults}");
    }
}
