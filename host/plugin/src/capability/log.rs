//! The capability `log`: lines under the plug-in's name, in the target `witgate::plugin`.
//!
//! A guest may print anything, as often as it likes. So lines are cut, counted for each call and each
//! second, stripped of control characters, and searched for the secrets that this call was handed.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use witgate_core::{PluginName, Redacted};

use crate::bindings::log;
use crate::bindings::policy_v0_2::witgate::auth::log as log_v0_2;
use crate::sandbox::Sandbox;

/// How much a line matters.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Level {
    Error,
    Warn,
    Info,
    Debug,
}

/// The log of one plug-in, over all its calls.
pub(crate) struct PluginLog {
    plugin: PluginName,
    bytes_per_call_max: usize,
    second: Mutex<Second>,
}

/// What was written in one second.
struct Second {
    since: Instant,
    lines: u32,
}

/// The log of one call.
pub(crate) struct CallLog {
    plugin: Arc<PluginLog>,
    call: Mutex<CallLines>,
}

struct CallLines {
    written: u32,
    bytes: usize,
    /// Whether the log was told that a line found no room.
    is_cut: bool,
    /// What this call was handed in confidence.
    hidden: Vec<Redacted<String>>,
}

impl PluginLog {
    /// One call may write so many bytes.
    pub(crate) fn new(plugin: PluginName, bytes_per_call_max: usize) -> Self {
        Self { plugin, bytes_per_call_max, second: Mutex::new(Second { since: Instant::now(), lines: 0 }) }
    }

    /// Counts one line; true while there is room in this second.
    fn admit(&self, now: Instant) -> bool {
        let mut second = self.second.lock().unwrap_or_else(PoisonError::into_inner);
        if now.duration_since(second.since).as_secs() >= 1 {
            *second = Second { since: now, lines: 0 };
        }
        second.lines = second.lines.saturating_add(1);
        if second.lines == LINES_PER_SECOND_MAX + 1 {
            tracing::warn!(
                target: "witgate::plugin", plugin = %self.plugin,
                "more than {LINES_PER_SECOND_MAX} lines in a second; the rest of it is dropped"
            );
        }
        second.lines <= LINES_PER_SECOND_MAX
    }
}

impl CallLog {
    pub(crate) fn new(plugin: Arc<PluginLog>) -> Self {
        Self { plugin, call: Mutex::new(CallLines { written: 0, bytes: 0, is_cut: false, hidden: Vec::new() }) }
    }

    /// Remembers what must not appear in a line, nor in a text for the caller.
    pub(crate) fn hide(&self, secret: Redacted<String>) {
        // Shorter ones would black out ordinary words, and are no secrets.
        if secret.expose().len() >= HIDDEN_BYTES_MIN {
            self.lines().hidden.push(secret);
        }
    }

    /// Forgets what was handed to this call, which is over.
    pub(crate) fn forget(&self) {
        self.lines().hidden = Vec::new();
    }

    /// `text` without what was handed to this call in confidence.
    pub(crate) fn without_hidden(&self, text: String) -> String {
        self.lines().hidden.iter().fold(text, |text, secret| {
            if text.contains(secret.expose().as_str()) { text.replace(secret.expose(), "[redacted]") } else { text }
        })
    }

    /// Writes one line.
    pub(crate) fn write(&self, level: Level, message: &str) {
        let enabled = match level {
            Level::Error => tracing::enabled!(target: "witgate::plugin", tracing::Level::ERROR),
            Level::Warn => tracing::enabled!(target: "witgate::plugin", tracing::Level::WARN),
            Level::Info => tracing::enabled!(target: "witgate::plugin", tracing::Level::INFO),
            Level::Debug => tracing::enabled!(target: "witgate::plugin", tracing::Level::DEBUG),
        };
        if !enabled || !self.admit() || !self.plugin.admit(Instant::now()) {
            return;
        }
        // Hidden before it is cut: half a secret would no longer be found.
        let line = escaped(&self.without_hidden(message.to_owned()));
        if !self.has_room_for(line.len()) {
            return;
        }
        let plugin = &self.plugin.plugin;
        match level {
            Level::Error => tracing::error!(target: "witgate::plugin", %plugin, "{line}"),
            Level::Warn => tracing::warn!(target: "witgate::plugin", %plugin, "{line}"),
            Level::Info => tracing::info!(target: "witgate::plugin", %plugin, "{line}"),
            Level::Debug => tracing::debug!(target: "witgate::plugin", %plugin, "{line}"),
        }
    }

    /// Counts one line; true while there is room in this call.
    fn admit(&self) -> bool {
        let mut call = self.lines();
        call.written = call.written.saturating_add(1);
        if call.written == LINES_PER_CALL_MAX + 1 {
            tracing::warn!(
                target: "witgate::plugin", plugin = %self.plugin.plugin,
                "more than {LINES_PER_CALL_MAX} lines in a call; the rest of it is dropped"
            );
        }
        call.written <= LINES_PER_CALL_MAX
    }

    /// Counts the bytes of one line; true while there is room for it in this call.
    fn has_room_for(&self, bytes: usize) -> bool {
        let mut call = self.lines();
        call.bytes = call.bytes.saturating_add(bytes);
        let bytes_max = self.plugin.bytes_per_call_max;
        let fits = call.bytes <= bytes_max;
        if !fits && !std::mem::replace(&mut call.is_cut, true) {
            tracing::warn!(
                target: "witgate::plugin", plugin = %self.plugin.plugin,
                "more than {bytes_max} bytes of lines in a call; the rest of it is dropped"
            );
        }
        fits
    }

    fn lines(&self) -> std::sync::MutexGuard<'_, CallLines> {
        self.call.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One line of bounded length in which nothing moves a terminal's cursor or forges another line.
fn escaped(message: &str) -> String {
    let mut line = String::with_capacity(message.len().min(LINE_CHARS_MAX));
    let mut chars = message.chars();
    for character in chars.by_ref().take(LINE_CHARS_MAX) {
        if steers(character) {
            line.extend(character.escape_default());
        } else {
            line.push(character);
        }
    }
    let cut = chars.count();
    if cut > 0 {
        let _infallible = write!(line, " … ({cut} more characters)");
    }
    line
}

/// Whether a character acts on how others are shown, rather than showing itself.
pub(crate) fn steers(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

impl log::Host for Sandbox {
    fn log(&mut self, level: log::Level, message: String) {
        use log::Level as Guest;
        let level = match level {
            Guest::Error => Level::Error,
            Guest::Warn => Level::Warn,
            Guest::Info => Level::Info,
            Guest::Debug => Level::Debug,
        };
        self.log.write(level, &message);
    }
}

impl log_v0_2::Host for Sandbox {
    fn log(&mut self, level: log_v0_2::Level, message: String) {
        use log_v0_2::Level as Guest;
        let level = match level {
            Guest::Error => Level::Error,
            Guest::Warn => Level::Warn,
            Guest::Info => Level::Info,
            Guest::Debug => Level::Debug,
        };
        self.log.write(level, &message);
    }
}

/// Characters of one line.
pub(crate) const LINE_CHARS_MAX: usize = 1024;
const LINES_PER_CALL_MAX: u32 = 64;
const LINES_PER_SECOND_MAX: u32 = 256;
const HIDDEN_BYTES_MIN: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn plugin_log() -> Arc<PluginLog> {
        Arc::new(PluginLog::new(PluginName::try_from("chatty").unwrap(), 100))
    }

    /// Goal: a line stays one line and shows what it holds. Method: rows.
    #[test]
    fn a_line_steers_nothing() {
        for (message, expected) in [
            ("plain ä", "plain ä"),
            ("a\nINFO forged", "a\\nINFO forged"),
            ("\u{1b}[2Jgone", "\\u{1b}[2Jgone"),
            ("\u{202e}txt", "\\u{202e}txt"),
        ] {
            assert_eq!(escaped(message), expected);
        }
        let long = escaped(&"x".repeat(LINE_CHARS_MAX + 7));
        assert!(long.ends_with("x … (7 more characters)"), "{long}");
    }

    /// Goal: full means dropped, for a call and for a second. Method: one line more than fits.
    #[test]
    fn lines_are_counted() {
        let plugin = plugin_log();
        let call = CallLog::new(Arc::clone(&plugin));
        assert!((0..LINES_PER_CALL_MAX).all(|_| call.admit()));
        assert!(!call.admit());

        assert!(call.has_room_for(99) && call.has_room_for(1));
        assert!(!call.has_room_for(1));

        let start = plugin.second.lock().unwrap().since;
        assert!((0..LINES_PER_SECOND_MAX).all(|_| plugin.admit(start)));
        assert!(!plugin.admit(start));
        assert!(plugin.admit(start + std::time::Duration::from_secs(1)), "the next second has room again");
    }

    /// Goal: what a call was handed does not come out. Method: a text with the secret twice.
    #[test]
    fn what_was_handed_in_confidence_is_hidden() {
        let call = CallLog::new(plugin_log());
        call.hide(Redacted::new("s3cret".into()));
        call.hide(Redacted::new("a".into()));
        assert_eq!(call.without_hidden("as3crets3cret".into()), "a[redacted][redacted]");
    }
}
