//! What is known of one request so far, for its line in the decision log.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{Method, StatusCode};
use witgate_core::{Credential, Generation, Permission, PluginName, RequestAttributes, UserInfo, Verdict};

use crate::authorize::{Judgement, Traced};
use crate::body::OnClose;
use crate::counts::{GateCounts, LongLived, OpenStream, RouteKind};
use crate::decision::{DecisionId, DecisionLog, DecisionRecord, Outcome, Place, RequestFields};
use crate::respond::GateError;
use crate::snapshot::Cluster;
use crate::trace::{Step, StepName, Trace, Tracer};
use crate::upstream::Upstream;

/// A decision record in the making. It says `deny` until a verdict says otherwise.
#[derive(Debug)]
pub(crate) struct Trail {
    record: DecisionRecord,
    started: Instant,
    place: Place,
    /// The cluster that counts it.
    upstream: Option<Arc<Upstream>>,
    trace: Option<Box<Trace>>,
    /// What the policies have to tell the caller; not part of the record.
    warnings: Vec<String>,
}

impl Trail {
    pub(crate) fn begin(id: DecisionId, method: &Method, trace: Option<Box<Trace>>) -> Self {
        let record = DecisionRecord {
            id,
            time: jiff::Timestamp::now().to_string(),
            user: None,
            groups: None,
            permission: None,
            request: RequestFields { method: method.to_string().into(), ..RequestFields::default() },
            decision: Outcome::Deny,
            reason: None,
            policy: None,
            digest: None,
            generation: Generation::default(),
            policy_us: None,
            strategy: None,
            credential: None,
            cache_hit: None,
            strategy_us: None,
            status: None,
            bytes: None,
            duration_ms: None,
            close_reason: None,
        };
        Self { record, started: Instant::now(), place: Place::default(), upstream: None, trace, warnings: Vec::new() }
    }

    pub(crate) const fn id(&self) -> DecisionId {
        self.record.id
    }

    /// Its record has a place in the log.
    pub(crate) fn admitted(&mut self, place: Place) {
        self.place = place;
    }

    /// The cluster that was named is there; it counts the request, whatever the verdict will be.
    pub(crate) fn aims_at(&mut self, cluster: Option<&Arc<Cluster>>) {
        self.upstream = cluster.map(|cluster| Arc::clone(&cluster.upstream));
    }

    /// Whether somebody wants to know of its steps.
    pub(crate) const fn traced(&self) -> Traced {
        if self.trace.is_some() { Traced::Yes } else { Traced::No }
    }

    /// When a step begins; none where nobody wants to know.
    pub(crate) fn begin_step(&self) -> Option<Instant> {
        self.trace.as_ref().map(|_| Instant::now())
    }

    /// A step that began then is over.
    pub(crate) fn end_step(
        &mut self,
        name: StepName,
        plugin: Option<&PluginName>,
        began: Option<Instant>,
        passed: bool,
    ) {
        if let (Some(trace), Some(began)) = (&mut self.trace, began) {
            trace.steps.push(Step { name, plugin: plugin.cloned(), began, took: began.elapsed(), passed });
        }
    }

    pub(crate) fn called_by(&mut self, user: &UserInfo) {
        self.record.user = Some(Arc::from(user.name.as_str()));
        self.record.groups = Some(Arc::from(user.groups.as_slice()));
    }

    pub(crate) const fn judged_by(&mut self, generation: Generation) {
        self.record.generation = generation;
    }

    pub(crate) const fn asks_for(&mut self, permission: &Permission) {
        self.record.permission = Some(permission.name);
    }

    pub(crate) fn is_about(&mut self, attributes: &RequestAttributes) {
        self.record.request = RequestFields::from(attributes);
    }

    pub(crate) fn judged(&mut self, judgement: &Judgement) {
        if let Some(trace) = &mut self.trace {
            trace.steps.extend(judgement.steps.iter().cloned());
        }
        self.warnings.extend_from_slice(&judgement.warnings);
        self.record.policy = judgement.policy().cloned();
        self.record.digest = judgement.digest.map(|digest| digest.to_string());
        let before = self.record.policy_us.unwrap_or_default();
        self.record.policy_us = Some(before.saturating_add(micros(judgement.took)));
        self.record.decision = match judgement.verdict {
            Verdict::Allow { .. } => Outcome::Allow,
            Verdict::Deny(_) => Outcome::Deny,
        };
    }

    pub(crate) fn asked_strategy(&mut self, strategy: &PluginName, took: Duration) {
        self.record.strategy = Some(strategy.clone());
        self.record.strategy_us = Some(micros(took));
    }

    pub(crate) const fn sends(&mut self, credential: &Credential, cache_hit: Option<bool>) {
        self.record.credential = Some(credential.kind());
        self.record.cache_hit = cache_hit;
    }

    pub(crate) fn answered(&mut self, status: StatusCode, bytes: Option<u64>) {
        self.record.status = Some(status.as_u16());
        self.record.bytes = bytes;
    }

    pub(crate) fn failed(&mut self, error: &GateError, status: StatusCode) {
        self.record.reason = Some(error.to_string());
        self.record.status = Some(status.as_u16());
        match error {
            GateError::Upstream(error) => {
                if let Some(upstream) = &self.upstream {
                    upstream.counts().failed(error);
                }
            }
            GateError::Denied(_)
            | GateError::ImpersonationRefused(_)
            | GateError::NoVerb(_)
            | GateError::ForeignOrigin(_)
            | GateError::Unrecorded(_) => self.record.decision = Outcome::Deny,
            _ => {}
        }
    }

    pub(crate) fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Counts the request, writes its line, and gives its trace away.
    pub(crate) fn write(
        &mut self,
        route: RouteKind,
        log: &dyn DecisionLog,
        counts: &GateCounts,
        tracer: Option<&dyn Tracer>,
    ) {
        let took = self.started.elapsed();
        let record = &mut self.record;
        record.duration_ms = Some(millis(took));
        if record.status.is_none() {
            record.reason.get_or_insert_with(|| "the client left before the answer".to_owned());
        }
        let requests = match &self.upstream {
            Some(upstream) => upstream.counts().requests(),
            None => counts.elsewhere(),
        };
        requests.count(route, record.decision, record.status, took);
        if let Some(class) = record.request.action_class {
            counts.decisions().count(&record.request.verb, class, record.decision);
        }
        log.record(std::mem::take(&mut self.place), record);
        if let (Some(tracer), Some(mut trace)) = (tracer, self.trace.take()) {
            trace.took = trace.began.elapsed();
            tracer.end(*trace, record);
        }
    }

    /// Writes the second line of a stream, with the status that every stream begins with.
    pub(crate) fn on_close(&self, log: Arc<dyn DecisionLog>, status: StatusCode, kind: LongLived) -> OnClose {
        let open = OpenStream::enter(self.upstream.clone(), kind);
        let mut record = self.record.clone();
        let started = self.started;
        Box::new(move |reason, bytes| {
            record.status = Some(status.as_u16());
            record.bytes = Some(bytes);
            record.duration_ms = Some(millis(started.elapsed()));
            record.close_reason = Some(reason);
            open.ended(reason, bytes);
            // The request has its line; where there is no room for this one, there is nothing left to refuse.
            log.record(Place::default(), &record);
        })
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
