//! What is logged, as it was started and as it may be changed while the gate runs.
//!
//! The log is the process's, so this is too. What must never be logged is not decided here: a filter of its own stands behind
//! this one (`cli.rs`), and no text that is taken here changes it.

use std::fmt;
use std::sync::{Mutex, OnceLock, PoisonError};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::reload;

/// Puts another filter in the place of the one that filters.
pub(crate) type Change = Box<dyn Fn(EnvFilter) -> Result<(), reload::Error> + Send + Sync>;

static LOG_LEVEL: OnceLock<LogLevel> = OnceLock::new();

struct LogLevel {
    current: Mutex<String>,
    change: Change,
}

/// Why the filter stays as it is.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum NotChanged {
    /// It is not one.
    Invalid(String),
    /// There is no log.
    NoLog,
}

impl fmt::Display for NotChanged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(part) => write!(
                f,
                "`{}` is not a log level; write error, warn, info, debug, trace or off, or a list such as \
                 `info,witgate_proxy=debug`",
                part.escape_debug()
            ),
            Self::NoLog => f.write_str("this process has no log whose level could be changed"),
        }
    }
}

/// The log was started with `level`, and `change` changes it.
pub(crate) fn started(level: &str, change: Change) {
    // There is one log in a process; a second start has failed before.
    let _ = LOG_LEVEL.set(LogLevel { current: Mutex::new(level.to_owned()), change });
}

/// The filter that is in force.
pub(crate) fn current() -> Option<String> {
    Some(LOG_LEVEL.get()?.current.lock().unwrap_or_else(PoisonError::into_inner).clone())
}

/// Filters by `text` from now on.
///
/// # Errors
/// When it is not a filter; the old one stays.
pub(crate) fn set(text: &str) -> Result<(), NotChanged> {
    let filter = parse(text)?;
    let log = LOG_LEVEL.get().ok_or(NotChanged::NoLog)?;
    let mut current = log.current.lock().unwrap_or_else(PoisonError::into_inner);
    (log.change)(filter).map_err(|_| NotChanged::NoLog)?;
    *current = text.trim().to_owned();
    Ok(())
}

/// Levels and `target=level` alone: the library also takes a misspelt level as the name of a target, and patterns for the
/// values of fields, which could be made to take long.
fn parse(text: &str) -> Result<EnvFilter, NotChanged> {
    let text = text.trim();
    for part in text.split(',') {
        let (target, level) = part.split_once('=').map_or((None, part), |(target, level)| (Some(target), level));
        let is_level = LEVELS.iter().any(|known| known.eq_ignore_ascii_case(level));
        let is_target = target.is_none_or(|target| {
            !target.is_empty() && target.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b':'))
        });
        if !is_level || !is_target || text.len() > FILTER_BYTES_MAX {
            return Err(NotChanged::Invalid(part.chars().take(80).collect()));
        }
    }
    EnvFilter::builder().parse(text).map_err(|_| NotChanged::Invalid(text.chars().take(80).collect()))
}

const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];

/// How long a filter may be.
pub(crate) const FILTER_BYTES_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: levels and targets are taken, and nothing that only looks like them. Method: rows.
    #[test]
    fn a_filter_is_levels_and_targets() {
        for good in ["info", "DEBUG", "off", "warn,witgate_proxy=debug", "info,witgate_proxy::gate=trace", " info\n"] {
            assert!(parse(good).is_ok(), "{good}");
        }
        for bad in ["", "debgu", "info,", "info,=debug", "x=y", "info,[span{field=.*}]=trace", "a b=info", "info;debug"]
        {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert!(parse(&["info"; 300].join(",")).is_err(), "too long");
    }
}
