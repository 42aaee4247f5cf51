//! What is known of one request so far, for its line in the decision log.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{Method, StatusCode};
use witgate_core::{Credential, Generation, Permission, PluginName, RequestAttributes, UserInfo, Verdict};

use crate::authorize::Judgement;
use crate::body::OnClose;
use crate::decision::{DecisionId, DecisionLog, DecisionRecord, Outcome, RequestFields};
use crate::respond::GateError;

/// A decision record in the making. It says `deny` until a verdict says otherwise.
#[derive(Clone, Debug)]
pub(crate) struct Trail {
    record: DecisionRecord,
    started: Instant,
}

impl Trail {
    pub(crate) fn begin(id: DecisionId, method: &Method) -> Self {
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
        Self { record, started: Instant::now() }
    }

    pub(crate) const fn id(&self) -> DecisionId {
        self.record.id
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
            GateError::Denied(_)
            | GateError::ImpersonationRefused(_)
            | GateError::NoVerb(_)
            | GateError::ForeignOrigin(_) => self.record.decision = Outcome::Deny,
            _ => {}
        }
    }

    pub(crate) fn write(&mut self, log: &dyn DecisionLog) {
        self.record.duration_ms = Some(millis(self.started.elapsed()));
        log.record(&self.record);
    }

    /// Writes the second line of a stream, with the status that every stream begins with.
    pub(crate) fn on_close(&self, log: Arc<dyn DecisionLog>, status: StatusCode) -> OnClose {
        let mut record = self.record.clone();
        let started = self.started;
        Box::new(move |reason, bytes| {
            record.status = Some(status.as_u16());
            record.bytes = Some(bytes);
            record.duration_ms = Some(millis(started.elapsed()));
            record.close_reason = Some(reason);
            log.record(&record);
        })
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
