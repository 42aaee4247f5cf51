//! Compiled functions: what the compiler made of each, so that a saved edit compiles only the functions that it changed.
//!
//! A policy that is edited and saved shares most of its functions, those of its language's library above all, with what it was
//! before; a snapshot of other settings shares them all. The compiler keys each function by a SHA-256 of its body, the target and
//! every flag that has a say, so what is found is what it would have made: engines with other flags share one cache.
//!
//! Bound: [`BYTES_MAX`] together; what was not asked for the longest goes first. Nothing is written to disk.

use std::borrow::Cow;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lru::LruCache;
use wasmtime::CacheStore;

/// The functions that were compiled lately.
pub(crate) struct FunctionCache(Mutex<Functions>);

struct Functions {
    compiled: LruCache<Arc<[u8]>, Arc<[u8]>>,
    bytes: usize,
    bytes_max: usize,
}

impl FunctionCache {
    /// Keeps up to `bytes_max` of keys and code.
    fn bounded(bytes_max: usize) -> Self {
        Self(Mutex::new(Functions { compiled: LruCache::unbounded(), bytes: 0, bytes_max }))
    }

    fn functions(&self) -> MutexGuard<'_, Functions> {
        // Whoever panicked did not do so between two of a change's steps that belong together.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for FunctionCache {
    fn default() -> Self {
        Self::bounded(BYTES_MAX)
    }
}

impl Functions {
    fn insert(&mut self, key: &[u8], code: Vec<u8>) -> bool {
        let size = size(key, &code);
        if size > self.bytes_max {
            return false;
        }
        if let Some((key, old)) = self.compiled.push(key.into(), code.into()) {
            self.bytes -= self::size(&key, &old);
        }
        self.bytes += size;
        while self.bytes > self.bytes_max {
            let Some((key, code)) = self.compiled.pop_lru() else { break };
            self.bytes -= self::size(&key, &code);
        }
        true
    }
}

/// Called from the compiler's threads, several at once.
impl CacheStore for FunctionCache {
    fn get(&self, key: &[u8]) -> Option<Cow<'_, [u8]>> {
        let code = Arc::clone(self.functions().compiled.get(key)?);
        Some(Cow::Owned(code.to_vec()))
    }

    fn insert(&self, key: &[u8], value: Vec<u8>) -> bool {
        self.functions().insert(key, value)
    }
}

/// Not what it holds: that is machine code.
impl fmt::Debug for FunctionCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let functions = self.functions();
        f.debug_struct("FunctionCache")
            .field("functions", &functions.compiled.len())
            .field("bytes", &functions.bytes)
            .finish_non_exhaustive()
    }
}

fn size(key: &[u8], code: &[u8]) -> usize {
    key.len() + code.len()
}

/// Room for the functions of the plug-ins that somebody works on.
const BYTES_MAX: usize = 16 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn held(cache: &FunctionCache) -> Vec<u8> {
        (0..=9).filter(|key| cache.functions().compiled.contains([*key].as_slice())).collect()
    }

    #[test]
    fn what_was_not_asked_for_the_longest_goes_first() {
        let cache = FunctionCache::bounded(33);
        for key in 0..3 {
            assert!(cache.insert(&[key], vec![key; 10]));
        }
        assert_eq!(cache.get(&[0]).as_deref(), Some([0; 10].as_slice()));
        assert!(cache.insert(&[3], vec![3; 10]));
        assert_eq!(held(&cache), [0, 2, 3]);
        assert_eq!(cache.functions().bytes, 33);
    }

    #[test]
    fn a_function_that_is_stored_again_counts_once() {
        let cache = FunctionCache::bounded(33);
        for length in [10, 30, 2] {
            assert!(cache.insert(&[1], vec![1; length]));
        }
        assert_eq!(cache.functions().bytes, 3);
        assert_eq!(cache.get(&[1]).as_deref(), Some([1, 1].as_slice()));
    }

    #[test]
    fn a_function_larger_than_the_cache_is_not_kept() {
        let cache = FunctionCache::bounded(33);
        assert!(cache.insert(&[1], vec![1; 10]));
        assert!(!cache.insert(&[2], vec![2; 33]));
        assert_eq!(held(&cache), [1]);
    }
}
