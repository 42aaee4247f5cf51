//! Lines in the host's log, under the plug-in's name. The host cuts long ones and drops floods.
//!
//! Never log a credential: the host cannot know what is one. In native tests lines are kept for
//! [`testing::log_lines`](crate::testing::log_lines).

use crate::bindings::policy::witgate::auth::log::Level;

/// A person should look.
pub fn error(message: &str) {
    write(Level::Error, message);
}

/// Degraded, still correct.
pub fn warn(message: &str) {
    write(Level::Warn, message);
}

/// Part of the life of the plug-in.
pub fn info(message: &str) {
    write(Level::Info, message);
}

/// Of use while developing.
pub fn debug(message: &str) {
    write(Level::Debug, message);
}

#[cfg(target_family = "wasm")]
fn write(level: Level, message: &str) {
    crate::bindings::policy::witgate::auth::log::log(level, message);
}

#[cfg(not(target_family = "wasm"))]
fn write(level: Level, message: &str) {
    let level = match level {
        Level::Error => "error",
        Level::Warn => "warn",
        Level::Info => "info",
        Level::Debug => "debug",
    };
    crate::testing::keep_log_line(format!("{level}: {message}"));
}
