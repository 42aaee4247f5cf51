//! How the calls of a loaded plug-in go, read at the moment of asking.

use std::sync::Arc;
use std::time::Instant;

use serde::{Serialize, Serializer};
use witgate_core::{Quarantine, QuarantineStanding, Shadow, ShadowCounts};

use super::Plugin;

/// Where the facts of one plug-in stand; for one that never served there are none. Keeps counters alive, not plug-ins.
#[derive(Clone, Debug, Default)]
pub(crate) struct CallFacts {
    quarantine: Option<Arc<Quarantine>>,
    shadow: Option<Arc<Shadow>>,
}

impl CallFacts {
    /// Those of `plugin`.
    pub(crate) fn of(plugin: &Plugin) -> Self {
        match plugin {
            Plugin::Policy(policy) => {
                Self { quarantine: policy.quarantine().cloned(), shadow: policy.shadow().cloned() }
            }
            Plugin::Strategy(strategy) => Self { quarantine: strategy.quarantine().cloned(), shadow: None },
        }
    }

    /// Callers that it is not called for now, and how often that was so.
    pub(crate) fn quarantine(&self) -> Option<QuarantineStanding> {
        self.quarantine.as_ref().map(|quarantine| quarantine.standing(Instant::now()))
    }

    /// What it would have changed, for a shadow policy.
    pub(crate) fn shadow(&self) -> Option<ShadowCounts> {
        self.shadow.as_ref().map(|shadow| shadow.counts())
    }
}

/// Two are the same as far as `/status` is about what was loaded: counters change all the time.
impl PartialEq for CallFacts {
    fn eq(&self, _other: &Self) -> bool {
        true
    }
}

impl Eq for CallFacts {}

impl Serialize for CallFacts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Shown {
            /// Absent where nobody ever was in it.
            #[serde(skip_serializing_if = "Option::is_none")]
            quarantine: Option<QuarantineStanding>,
            #[serde(skip_serializing_if = "Option::is_none")]
            shadow: Option<ShadowCounts>,
        }
        let quarantine = self.quarantine().filter(|standing| standing.begun > 0);
        Shown { quarantine, shadow: self.shadow() }.serialize(serializer)
    }
}
