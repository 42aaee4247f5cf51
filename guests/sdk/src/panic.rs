//! Says in the host's log why the guest is about to trap.
//!
//! Without it, a panic in a component is a bare `unreachable`, and its author has nothing to go by.

/// Sends the text and place of a panic to the log. The panic itself still traps.
pub(crate) fn log_panics() {
    #[cfg(target_family = "wasm")]
    std::panic::set_hook(Box::new(|panic| crate::log::error(&panic.to_string())));
}
