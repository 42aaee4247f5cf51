//! Compiled components: each is compiled once while anybody may need it, and once for all restarts where there is a cache on disk.
//!
//! A reload that changes limits, a mode or grants loads a plug-in anew from the same bytes and settings; it finds their code here. Other
//! settings are another start state, which is part of the code: that much is compiled again, once.
//! What is kept is not guessed by age: whoever knows which plug-ins serve, or may serve again, says so with
//! [`CompiledCode::retain`], and the rest is let go.
//!
//! Promise: of the same bytes, one compilation runs at a time, and a compilation that fails leaves nothing.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use wasmtime::Engine;
use wasmtime::component::Component;
use witgate_core::{Digest, PluginName};

use crate::LoadError;
use crate::compiled_cache::CompiledCache;

/// The compiled components of one engine.
#[derive(Default)]
pub(crate) struct CompiledCode {
    held: Mutex<HashMap<Digest, Held>>,
    disk: Option<CompiledCache>,
    compiled: AtomicU64,
    from_disk: AtomicU64,
    from_memory: AtomicU64,
}

/// How often code was needed when a plug-in was loaded, by where it came from.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CompilationCounts {
    /// It was compiled.
    pub compiled: u64,
    /// An earlier run had compiled it.
    pub from_disk: u64,
    /// A plug-in of the same bytes was loaded before.
    pub from_memory: u64,
}

/// One component's code.
struct Held {
    /// Locked while it is compiled, so that others wait for it instead of compiling too.
    code: Arc<Mutex<Option<Component>>>,
    /// The component that was delivered, where the code is of something made of it.
    of: Digest,
}

impl CompiledCode {
    /// Keeps compiled code in memory, and on disk where there is a cache.
    pub(crate) fn new(disk: Option<CompiledCache>) -> Self {
        Self { disk, ..Self::default() }
    }

    /// The code of `bytes`, which hash to `digest`. Blocks: run it where blocking is allowed.
    pub(crate) fn component(
        &self,
        engine: &Engine,
        plugin: &PluginName,
        bytes: &[u8],
        digest: Digest,
    ) -> Result<Component, LoadError> {
        self.in_memory(digest, digest, || {
            if let Some(component) = self.on_disk(engine, digest) {
                return Ok(component);
            }
            let component = self
                .compile(engine, bytes)
                .map_err(|error| LoadError::Invalid { plugin: plugin.clone(), source: error.into() })?;
            self.keep_on_disk(&component, digest);
            Ok(component)
        })
    }

    /// Compiles `bytes`, and counts that.
    pub(crate) fn compile(&self, engine: &Engine, bytes: &[u8]) -> wasmtime::Result<Component> {
        let component = Component::from_binary(engine, bytes)?;
        self.compiled.fetch_add(1, Ordering::Relaxed);
        Ok(component)
    }

    /// What an earlier run compiled under `key`.
    pub(crate) fn on_disk(&self, engine: &Engine, key: Digest) -> Option<Component> {
        let component = self.disk.as_ref()?.find(engine, key)?;
        self.from_disk.fetch_add(1, Ordering::Relaxed);
        Some(component)
    }

    /// Keeps code for later runs, where there is a cache for it.
    pub(crate) fn keep_on_disk(&self, component: &Component, key: Digest) {
        if let Some(disk) = &self.disk {
            disk.keep(component, key);
        }
    }

    /// The code under `key`, made by `make` where there is none yet; it goes when the component `of` is not retained.
    pub(crate) fn in_memory<E>(
        &self,
        key: Digest,
        of: Digest,
        make: impl FnOnce() -> Result<Component, E>,
    ) -> Result<Component, E> {
        let slot = {
            let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
            let held = held.entry(key).or_insert_with(|| Held { code: Arc::default(), of });
            Arc::clone(&held.code)
        };
        // A compiler that panicked left nothing.
        let mut code = slot.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(component) = &*code {
            self.from_memory.fetch_add(1, Ordering::Relaxed);
            return Ok(component.clone());
        }
        let component = make()?;
        *code = Some(component.clone());
        Ok(component)
    }

    /// Lets go of everything that was not made of these components.
    pub(crate) fn retain(&self, components: &BTreeSet<Digest>) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let gone: Vec<_> = held.extract_if(|_, held| !components.contains(&held.of)).collect();
        drop(held);
        drop(gone); // unmapping code takes time, and nobody should wait for it
    }

    /// What was counted so far.
    pub(crate) fn counts(&self) -> CompilationCounts {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        CompilationCounts {
            compiled: read(&self.compiled),
            from_disk: read(&self.from_disk),
            from_memory: read(&self.from_memory),
        }
    }

    #[cfg(test)]
    fn held_count(&self) -> usize {
        self.held.lock().unwrap().len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The smallest component, and another one: a custom section makes different bytes.
    fn bytes(number: u8) -> Vec<u8> {
        let mut bytes = b"\0asm\x0d\0\x01\0".to_vec();
        bytes.extend([0, 3, 1, b'n', number]);
        bytes
    }

    fn counts(code: &CompiledCode) -> [u64; 3] {
        let CompilationCounts { compiled, from_disk, from_memory } = code.counts();
        [compiled, from_disk, from_memory]
    }

    /// Goal: the same bytes are compiled once for as long as they are retained, other bytes and what was let go anew.
    /// Method: a life, step by step, with what was compiled, read and found.
    #[test]
    fn the_same_bytes_are_compiled_once() {
        let engine = Engine::default();
        let folder = tempfile::tempdir().unwrap();
        let disk = CompiledCache::open(folder.path().join("cache"), &engine).unwrap();
        let (memory_only, with_disk) = (CompiledCode::default(), CompiledCode::new(Some(disk)));
        let name = PluginName::try_from("x").unwrap();
        let load = |code: &CompiledCode, number| {
            let bytes = bytes(number);
            code.component(&engine, &name, &bytes, Digest::of(&bytes)).unwrap();
        };

        for _ in 0..3 {
            load(&memory_only, 1);
        }
        assert_eq!(counts(&memory_only), [1, 0, 2]);
        load(&memory_only, 2);
        assert_eq!(counts(&memory_only), [2, 0, 2]);
        memory_only.retain(&BTreeSet::from([Digest::of(&bytes(2))]));
        assert_eq!(memory_only.held_count(), 1);
        load(&memory_only, 2);
        load(&memory_only, 1);
        assert_eq!(counts(&memory_only), [3, 0, 3]);

        load(&with_disk, 1);
        with_disk.retain(&BTreeSet::new());
        assert_eq!(with_disk.held_count(), 0);
        load(&with_disk, 1);
        load(&with_disk, 1);
        assert_eq!(counts(&with_disk), [1, 1, 1]);
    }

    /// Goal: what does not compile is tried again, and not kept. Method: garbage, twice.
    #[test]
    fn a_failure_is_not_kept() {
        let engine = Engine::default();
        let code = CompiledCode::default();
        let name = PluginName::try_from("x").unwrap();
        for _ in 0..2 {
            code.component(&engine, &name, b"\0asm\x0d\0\x01\0\x07", Digest::of(b"")).unwrap_err();
        }
        assert_eq!(counts(&code), [0, 0, 0]);
    }

    /// Goal: many files of the same bytes cost one compilation. Method: threads that begin at once.
    #[test]
    fn one_compilation_at_a_time_for_the_same_bytes() {
        let engine = Engine::default();
        let code = CompiledCode::default();
        let name = PluginName::try_from("x").unwrap();
        let bytes = bytes(1);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| code.component(&engine, &name, &bytes, Digest::of(&bytes)).unwrap());
            }
        });
        assert_eq!(counts(&code), [1, 0, 7]);
    }
}
