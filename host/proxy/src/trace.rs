//! One request as a trace: its steps, when each began and ended, and what ties it to the traces of others.
//!
//! Only requests that the [`Tracer`] takes pay for it; where there is no tracer, nothing is measured. A trace holds
//! names of steps and of plug-ins, and the decision record beside it: nothing that a caller or a guest wrote.

use std::time::{Duration, Instant, SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue};
use witgate_core::PluginName;

use crate::decision::DecisionRecord;

/// W3C Trace Context's header.
pub(crate) static TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Says which requests are traced, and takes their traces. Never blocks.
pub trait Tracer: Send + Sync {
    /// Where the request stands in a trace, if it is to be traced.
    fn begin(&self, parent: Option<TraceParent>) -> Option<TraceContext>;

    /// Takes a trace that is over, with what was decided.
    fn end(&self, trace: Trace, record: &DecisionRecord);
}

/// What a client's `traceparent` says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TraceParent {
    /// The trace.
    pub trace_id: u128,
    /// The client's span.
    pub span_id: u64,
    /// Whether the client traces it.
    pub sampled: bool,
}

/// Where one request stands in a trace.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TraceContext {
    /// The trace.
    pub trace_id: u128,
    /// The client's span, where it brought one.
    pub parent_span_id: Option<u64>,
    /// The request's own span.
    pub span_id: u64,
    /// The span of the step that asks the API server: what goes up is its child.
    pub forward_span_id: u64,
}

/// A request that is traced.
#[derive(Clone, Debug)]
pub struct Trace {
    /// Where it stands.
    pub context: TraceContext,
    /// When it came.
    pub began_at: SystemTime,
    /// The same, on the clock of the steps.
    pub began: Instant,
    /// How long its answer took to begin.
    pub took: Duration,
    /// What was done, in the order in which it ended.
    pub steps: Vec<Step>,
}

/// One step of a request.
#[derive(Clone, Debug)]
pub struct Step {
    /// Which.
    pub name: StepName,
    /// The plug-in that was asked, for a step that is a call.
    pub plugin: Option<PluginName>,
    /// When it began.
    pub began: Instant,
    /// How long it took.
    pub took: Duration,
    /// Whether it let the request go on.
    pub passed: bool,
}

/// The steps of a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum StepName {
    /// Who calls.
    Authenticate,
    /// May they: all policies together.
    Authorize,
    /// One policy of those.
    Policy,
    /// The cluster's credential.
    Credential,
    /// Up to the API server, to the head of its answer.
    Forward,
}

impl StepName {
    /// In a word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Authenticate => "authenticate",
            Self::Authorize => "authorize",
            Self::Policy => "policy",
            Self::Credential => "credential",
            Self::Forward => "forward",
        }
    }
}

impl Trace {
    /// Begins the trace of a request with these headers, if `tracer` takes it; what goes up then names its step.
    pub(crate) fn begin(tracer: Option<&dyn Tracer>, headers: &mut HeaderMap) -> Option<Box<Self>> {
        let parent = headers.get(&TRACEPARENT).and_then(|value| TraceParent::parse(value.to_str().ok()?));
        let context = tracer?.begin(parent)?;
        if let Ok(value) = HeaderValue::from_str(&context.traceparent()) {
            headers.insert(TRACEPARENT.clone(), value);
        }
        let (began_at, began) = (SystemTime::now(), Instant::now());
        Some(Box::new(Self { context, began_at, began, took: Duration::ZERO, steps: Vec::new() }))
    }
}

impl TraceContext {
    /// The header for the API server.
    fn traceparent(&self) -> String {
        format!("00-{:032x}-{:016x}-01", self.trace_id, self.forward_span_id)
    }
}

impl TraceParent {
    /// Reads the header; none where it is not what the specification asks for.
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let (version, trace_id, span_id, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let is_hex = |text: &str, length| {
            text.len() == length && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        };
        let whole = is_hex(version, 2) && is_hex(trace_id, 32) && is_hex(span_id, 16) && is_hex(flags, 2);
        // A later version may have more parts; of this one there are four.
        if !whole || version == "ff" || (version == "00" && parts.next().is_some()) {
            return None;
        }
        let parent = Self {
            trace_id: u128::from_str_radix(trace_id, 16).ok()?,
            span_id: u64::from_str_radix(span_id, 16).ok()?,
            sampled: u8::from_str_radix(flags, 16).ok()? & 1 == 1,
        };
        (parent.trace_id != 0 && parent.span_id != 0).then_some(parent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a header that is not one of the specification's is as none. Method: rows, the first from the specification.
    #[test]
    fn only_a_whole_traceparent_counts() {
        check("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", Some(true));
        check("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00", Some(false));
        check("01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-03-more", Some(true));
        check("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more", None);
        check("ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", None);
        check("00-00000000000000000000000000000000-b7ad6b7169203331-01", None);
        check("00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01", None);
        check("00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01", None);
        check("00-+af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", None);
        check("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331", None);
        check("", None);
    }

    #[track_caller]
    fn check(text: &str, sampled: Option<bool>) {
        assert_eq!(TraceParent::parse(text).map(|parent| parent.sampled), sampled, "{text}");
    }
}
