//! Decisions on their way out: masked once, written as one JSON line, and handed to whoever wants it.
//!
//! There are two who may: the log itself ([`json_lines`]), and the admin listener's recent decisions ([`recent`]). Both get the
//! same bytes, so what is masked in one is masked in the other.
//!
//! Promise: nothing here blocks. What the log has no room for is dropped and counted, or, where the configuration says that
//! there is no request without its record, refused before it begins.

pub(crate) mod json_lines;
pub(crate) mod mask;
pub(crate) mod recent;

use std::sync::Arc;

use bytes::Bytes;
use witgate_proxy::decision::{DecisionLog, DecisionRecord, LogFull, Place};

use json_lines::JsonLines;
use mask::Mask;
use recent::Recent;

/// Where decisions go.
pub(crate) struct Decisions {
    /// The log; none where none is configured.
    pub(crate) lines: Option<Arc<JsonLines>>,
    /// The last ones, for the admin listener; none where there is no such listener.
    pub(crate) recent: Option<Arc<Recent>>,
    /// What of them nobody is to read.
    pub(crate) mask: Mask,
}

impl DecisionLog for Decisions {
    fn admit(&self) -> Result<Place, LogFull> {
        self.lines.as_ref().map_or_else(|| Ok(Place::default()), |lines| lines.admit())
    }

    fn record(&self, place: Place, record: &DecisionRecord) {
        if self.lines.is_none() && self.recent.is_none() {
            return;
        }
        let record = self.mask.apply(record);
        let mut line = Vec::with_capacity(LINE_BYTES_USUAL);
        // Text and numbers, which always serialize.
        if serde_json::to_writer(&mut line, &*record).is_err() {
            return;
        }
        line.push(b'\n');
        let line = Bytes::from(line);
        if let Some(recent) = &self.recent {
            recent.put(line.clone());
        }
        if let Some(lines) = &self.lines {
            lines.put(place, line);
        }
    }
}

/// A line's first allocation; most fit.
const LINE_BYTES_USUAL: usize = 768;
