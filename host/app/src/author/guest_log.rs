//! What a guest logs while it is asked, heard by who asked.
//!
//! The host writes a guest's lines to the process's log. A tool listens on its own thread, for as long as it asks, and shows them
//! beside the answer; the process's log then hears nothing of them.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use tracing::field::{Field, Visit};
use tracing::subscriber::DefaultGuard;
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt as _};

/// One line of a guest.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub(crate) struct LogLine {
    /// How much it matters: `info`, for instance.
    pub(crate) level: String,
    /// What it says.
    pub(crate) text: String,
}

/// Listens on this thread until it is dropped.
pub(crate) struct Listening {
    lines: Arc<Mutex<Vec<LogLine>>>,
    _until_dropped: DefaultGuard,
}

impl Listening {
    /// Begins to listen.
    pub(crate) fn begin() -> Self {
        let lines = Arc::<Mutex<Vec<LogLine>>>::default();
        let listener = Listener(Arc::clone(&lines));
        let subscriber = tracing_subscriber::registry().with(listener);
        Self { lines, _until_dropped: tracing::subscriber::set_default(subscriber) }
    }

    /// What was heard since the last time.
    pub(crate) fn take(&self) -> Vec<LogLine> {
        std::mem::take(&mut *self.lines.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

struct Listener(Arc<Mutex<Vec<LogLine>>>);

impl<S: Subscriber> Layer<S> for Listener {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        // Whether a line would be heard is asked with metadata of neither kind.
        !metadata.is_span() && metadata.target() == TARGET
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut text = Message::default();
        event.record(&mut text);
        let level = event.metadata().level().as_str().to_ascii_lowercase();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(LogLine { level, text: text.0 });
    }
}

#[derive(Default)]
struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}

/// Where the host writes a guest's lines.
const TARGET: &str = "witgate::plugin";

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a guest's lines are heard, and nobody else's. Method: one of each.
    #[test]
    fn a_guests_lines_are_heard() {
        let listening = Listening::begin();
        assert!(tracing::enabled!(target: "witgate::plugin", tracing::Level::INFO));
        tracing::info!(target: "witgate::plugin", plugin = "x", "seen {}", 7);
        tracing::error!("not a guest's");
        assert_eq!(listening.take(), [LogLine { level: "info".into(), text: "seen 7".into() }]);
        assert_eq!(listening.take(), []);
    }
}
