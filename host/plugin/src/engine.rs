//! The engine that compiles and runs every guest, tuned.
//!
//! Figures (LESSONS, B.2: a Rust policy, fresh instance and call): 41 µs on demand, 23 µs pooling,
//! 11 µs pooling with resident memory that `PAGEMAP_SCAN` resets. That call needs Linux 6.7, so there
//! is a pool without it, and without any pool a slower way that says so.

use std::num::NonZeroU32;
use std::sync::Arc;

use tracing::{debug, warn};
use wasmtime::{
    Config, Enabled, Engine, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig, RegallocAlgorithm,
    WasmBacktraceDetails,
};

use crate::function_cache::FunctionCache;
use crate::limits::{MEMORY_BYTES_MAX, TABLE_ELEMENTS_MAX, WASM_STACK_BYTES_MAX};

/// Builds the engine, with the fastest allocator that this machine lets us have.
pub(crate) fn build(instances_max: NonZeroU32, functions: &Arc<FunctionCache>) -> wasmtime::Result<Engine> {
    match Engine::new(&pooling(instances_max, functions, Enabled::Yes)?) {
        Ok(engine) => return Ok(engine),
        Err(error) => debug!(error = format!("{error:#}"), "no PAGEMAP_SCAN on this machine"),
    }
    match Engine::new(&pooling(instances_max, functions, Enabled::No)?) {
        Ok(engine) => Ok(engine),
        Err(error) => {
            warn!(
                error = format!("{error:#}"),
                "no memory pool for plug-ins on this machine; each call allocates anew and is slower"
            );
            Engine::new(&common(functions)?)
        }
    }
}

/// An engine for code that runs once, when a plug-in is configured: it compiles fast, and what it compiles is slow.
pub(crate) fn build_throw_away(functions: &Arc<FunctionCache>) -> wasmtime::Result<Engine> {
    let mut config = common(functions)?;
    config.cranelift_opt_level(OptLevel::None).cranelift_regalloc_algorithm(RegallocAlgorithm::SinglePass);
    Engine::new(&config)
}

fn common(functions: &Arc<FunctionCache>) -> wasmtime::Result<Config> {
    let mut config = Config::new();
    config
        .wasm_component_model(true)
        // Only WASI 0.3 needs it, and calls are slower with it.
        .concurrency_support(false)
        .epoch_interruption(true)
        .max_wasm_stack(WASM_STACK_BYTES_MAX)
        // Host calls run on the guest's stack: leave them room.
        .async_stack_size(WASM_STACK_BYTES_MAX + HOST_STACK_BYTES)
        // A policy is a pure function of its input, on every machine.
        .cranelift_nan_canonicalization(true)
        .relaxed_simd_deterministic(true)
        // Otherwise an environment variable decides.
        .wasm_backtrace_details(WasmBacktraceDetails::Disable)
        .enable_incremental_compilation(Arc::clone(functions) as _)?;
    Ok(config)
}

fn pooling(
    instances_max: NonZeroU32,
    functions: &Arc<FunctionCache>,
    pagemap_scan: Enabled,
) -> wasmtime::Result<Config> {
    let instances_max = instances_max.get();
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(instances_max)
        .total_stacks(instances_max)
        .total_memories(instances_max.saturating_mul(2))
        .total_tables(instances_max.saturating_mul(4))
        .total_core_instances(instances_max.saturating_mul(32))
        .max_memory_size(MEMORY_BYTES_MAX)
        .table_elements(TABLE_ELEMENTS_MAX)
        .max_tables_per_module(8)
        .max_memories_per_module(4)
        .max_unused_warm_slots(WARM_SLOTS_MAX);
    match pagemap_scan {
        Enabled::Yes | Enabled::Auto => {
            pool.linear_memory_keep_resident(MEMORY_KEEP_RESIDENT).table_keep_resident(TABLE_KEEP_RESIDENT);
        }
        // Without the scan all of it would be written anew at each call, which is slower than giving it back.
        Enabled::No => {}
    }
    pool.pagemap_scan(pagemap_scan);
    let mut config = common(functions)?;
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    Ok(config)
}

const HOST_STACK_BYTES: usize = 1 << 20;

/// Holds the image of a Rust guest (1 MiB of stack, then its data) and what it allocates in a call.
const MEMORY_KEEP_RESIDENT: usize = 4 << 20;
const TABLE_KEEP_RESIDENT: usize = 64 << 10;

/// Times `MEMORY_KEEP_RESIDENT`, this bounds the memory of guests that do not run.
const WARM_SLOTS_MAX: u32 = 64;
