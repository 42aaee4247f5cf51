//! What time it is: for strategies that deal with expiring tokens and sign things.
//!
//! While a plug-in is configured the clock stands still. In native tests the time is that of
//! [`testing::at_time`](crate::testing::at_time), and 0 without it.

/// Seconds since the Unix epoch.
#[cfg(target_family = "wasm")]
pub fn now() -> u64 {
    crate::bindings::outgoing::wasi::clocks::wall_clock::now().seconds
}

/// Seconds since the Unix epoch.
#[cfg(not(target_family = "wasm"))]
pub fn now() -> u64 {
    crate::testing::time()
}
