//! Why an exchange brought no credential, in a form that all who waited for it can be told.

use std::fmt;
use std::sync::Arc;

use witgate_core::{AuthError, CallError, PluginName};

use super::Answer;

/// A failure that can be told more than once.
#[derive(Clone, Debug)]
pub(super) enum Failure {
    /// The strategy said why.
    Refused(AuthError),
    /// It gave no answer.
    Unanswered(Arc<CallError>),
}

impl Failure {
    /// A strategy that yielded something that must not be sent.
    pub(super) fn expired(plugin: &PluginName) -> Self {
        let reason = "its credential has expired already".to_owned();
        CallError::Malformed { plugin: plugin.clone(), reason }.into()
    }

    /// An exchange that ended without a word; its task died.
    pub(super) fn died(plugin: &PluginName) -> Self {
        CallError::Trapped { plugin: plugin.clone(), source: "the exchange ended without an answer".into() }.into()
    }

    /// Whether asking again at once would most likely cost the same wait for the same answer: a role that may not be
    /// taken on is `Misconfigured`, and somebody was asked for it. What is full may have room the next moment.
    pub(super) fn is_remembered(&self) -> bool {
        match self {
            Self::Refused(AuthError::Unavailable(_) | AuthError::Refused(_) | AuthError::Misconfigured(_)) => true,
            Self::Refused(AuthError::MissingToken(_)) => false,
            Self::Unanswered(error) => match **error {
                CallError::DeadlineExceeded { .. } => true,
                CallError::Saturated { .. }
                | CallError::Quarantined { .. }
                | CallError::LimitReached { .. }
                | CallError::Trapped { .. }
                | CallError::Malformed { .. } => false,
            },
        }
    }

    /// Whether it says something of the cluster, and not of one caller or one moment.
    pub(super) fn is_of_cluster(&self) -> bool {
        match self {
            Self::Refused(AuthError::Unavailable(_) | AuthError::Misconfigured(_)) => true,
            Self::Refused(AuthError::MissingToken(_) | AuthError::Refused(_)) => false,
            Self::Unanswered(error) => !matches!(**error, CallError::Saturated { .. }),
        }
    }

    /// As the strategy itself would have said it.
    pub(super) fn into_answer(self) -> Answer {
        match self {
            Self::Refused(error) => Ok(Err(error)),
            Self::Unanswered(error) => Err(Arc::try_unwrap(error).unwrap_or_else(|shared| copy(&shared))),
        }
    }
}

impl From<AuthError> for Failure {
    fn from(error: AuthError) -> Self {
        Self::Refused(error)
    }
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        Self::Unanswered(Arc::new(error))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(error) => error.fmt(f),
            Self::Unanswered(error) => error.fmt(f),
        }
    }
}

fn copy(error: &Arc<CallError>) -> CallError {
    match &**error {
        CallError::DeadlineExceeded { plugin, deadline } => {
            CallError::DeadlineExceeded { plugin: plugin.clone(), deadline: *deadline }
        }
        CallError::Saturated { plugin, max } => CallError::Saturated { plugin: plugin.clone(), max: *max },
        CallError::LimitReached { plugin, limit } => CallError::LimitReached { plugin: plugin.clone(), limit: *limit },
        CallError::Trapped { plugin, .. } => {
            CallError::Trapped { plugin: plugin.clone(), source: Box::new(SharedCause(Arc::clone(error))) }
        }
        CallError::Malformed { plugin, reason } => {
            CallError::Malformed { plugin: plugin.clone(), reason: reason.clone() }
        }
        CallError::Quarantined { plugin, retry_after } => {
            CallError::Quarantined { plugin: plugin.clone(), retry_after: *retry_after }
        }
    }
}

/// The cause of an error that several are told.
#[derive(Debug)]
struct SharedCause(Arc<CallError>);

impl SharedCause {
    fn cause(&self) -> &dyn std::error::Error {
        let error: &dyn std::error::Error = &*self.0;
        error.source().unwrap_or(error)
    }
}

impl fmt::Display for SharedCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.cause(), f)
    }
}

impl std::error::Error for SharedCause {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        let error: &(dyn std::error::Error + 'static) = &*self.0;
        error.source().and_then(std::error::Error::source)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Goal: everybody hears the same, cause included, and what is worth remembering is. Method: rows, each told twice.
    #[test]
    fn a_failure_is_told_alike_to_all() {
        let plugin = || PluginName::try_from("aws").unwrap();
        check(AuthError::Unavailable("down".into()).into(), true, "down");
        check(AuthError::Refused("no".into()).into(), true, "no");
        check(AuthError::MissingToken("none".into()).into(), false, "none");
        check(AuthError::Misconfigured("no role".into()).into(), true, "no role");
        let late = CallError::DeadlineExceeded { plugin: plugin(), deadline: Duration::from_secs(1) };
        check(late.into(), true, "plug-in `aws` did not answer within 1s");
        check(
            CallError::Saturated { plugin: plugin(), max: 3 }.into(),
            false,
            "plug-in `aws` already has its 3 calls in flight",
        );
        let trapped = CallError::Trapped { plugin: plugin(), source: "unreachable".into() };
        check(trapped.into(), false, "plug-in `aws` trapped: unreachable");
        let memory = CallError::LimitReached { plugin: plugin(), limit: witgate_core::Limit::Memory };
        check(memory.into(), false, "plug-in `aws` reached its limit of memory");
        let expired = "plug-in `aws` gave a malformed answer: its credential has expired already";
        check(Failure::expired(&plugin()), false, expired);
        check(Failure::died(&plugin()), false, "plug-in `aws` trapped: the exchange ended without an answer");
    }

    #[track_caller]
    fn check(failure: Failure, remembered: bool, expected: &str) {
        assert_eq!(failure.is_remembered(), remembered);
        for failure in [failure.clone(), failure] {
            let text = match failure.into_answer() {
                Ok(Ok(_)) => "a credential".to_owned(),
                Ok(Err(error)) => error.to_string(),
                Err(error) => format!("{:#}", anyhow::Error::from(error)),
            };
            assert_eq!(text, expected);
        }
    }
}
