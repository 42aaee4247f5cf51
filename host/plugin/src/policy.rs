//! A policy that runs as WebAssembly.

use std::pin::pin;
use std::sync::Arc;

use tracing::{Instrument, debug_span};
use witgate_core::{
    ActionClass, Answer, BoxFuture, CallError, CallMeter, Condition, Conditional, Decision, Digest, PermissionPolicy,
    PluginName, PolicyMode, PolicyQuery, Quarantine, RequestAttributes, Shadow, UserInfo,
};

use crate::answer::{self, Size};
use crate::bindings::policy::exports::witgate::auth::permission_policy as contract;
use crate::bindings::types;
use crate::call::Runner;
use crate::capability::wasi::Surroundings;
use crate::contract::Wasi;
use crate::lower::lower_user;
use crate::sandbox::SecretStores;
use crate::start_state::{Start, StartState};
use crate::worlds::PolicyPre;

/// A policy that runs as WebAssembly.
pub struct WasmPolicy {
    runner: Runner,
    state: StartState<PolicyPre>,
    start: Start,
    mode: PolicyMode,
    shadow: Option<Arc<Shadow>>,
    wasi: Wasi,
}

impl WasmPolicy {
    pub(crate) fn new(
        runner: Runner,
        state: StartState<PolicyPre>,
        start: Start,
        mode: PolicyMode,
        wasi: Wasi,
    ) -> Self {
        let shadow = match mode {
            PolicyMode::Enforce => None,
            PolicyMode::Shadow => Some(Arc::default()),
        };
        Self { runner, state, start, mode, shadow, wasi }
    }

    /// The version of the contract that it speaks.
    pub(crate) const fn contract(&self) -> &'static str {
        self.state.linked().version().as_str()
    }

    /// How its calls come to the state that `configure` left.
    pub(crate) const fn start(&self) -> &Start {
        &self.start
    }

    pub(crate) const fn meter(&self) -> &Arc<CallMeter> {
        &self.runner.meter
    }

    /// Calls it unless it is quarantined for `user`, and counts what comes of it.
    // Pinned, here and below: a future that is handed on by value is held twice by the one that takes it.
    async fn counted_call(&self, query: &PolicyQuery, user: Option<&UserInfo>) -> Result<Answer, CallError> {
        let caller = user.map(|user| user.name.as_str());
        let call = pin!(self.call(query, user, &self.runner.meter));
        let guarded = pin!(self.runner.guarded(caller, call));
        self.runner.meter.measure(guarded).await
    }

    async fn call(&self, query: &PolicyQuery, user: Option<&UserInfo>, meter: &CallMeter) -> Result<Answer, CallError> {
        let (mut call, warm) = self.state.begin(&self.runner, SecretStores::default()).await?;
        // Pinned, here and below: a future that is handed on by value is held twice by the one that it is handed to.
        let ended = {
            let guest = pin!(async {
                let leased = meter.measure_instantiation(pin!(self.state.instance(&mut call.store, warm))).await?;
                match self.wasi {
                    Wasi::Imported => call.store.data_mut().enter(Surroundings::of_query(query, user)),
                    Wasi::Absent => {}
                }
                let user = user.map(lower_user);
                let answer = leased.instance.handle(&mut call.store, lower_query(query), user).await?;
                Ok((answer, leased))
            });
            call.deadline.bound(guest).await
        };
        let ((decision, warnings), leased) = call.outcome(ended)?;
        let answer = self.lift(decision, &warnings)?;
        self.state.end(call, leased);
        Ok(answer)
    }

    fn lift(&self, decision: contract::Decision, warnings: &[String]) -> Result<Answer, CallError> {
        let mut size = Size::default();
        warnings.iter().for_each(|warning| size.add(warning));
        let decision = match decision {
            contract::Decision::Allow => Decision::Allow,
            contract::Decision::Deny(reason) => {
                size.add(&reason);
                Decision::Deny(answer::text(&reason))
            }
            contract::Decision::NoOpinion => Decision::NoOpinion,
            contract::Decision::Conditional(contract::Conditional { any_of, reusable_for }) => {
                let any_of = any_of
                    .into_iter()
                    .map(|all_of| all_of.into_iter().map(|condition| lift_condition(condition, &mut size)).collect())
                    .collect();
                Decision::Conditional(Conditional { any_of, reusable_for })
            }
        };
        if let Decision::Conditional(conditional) = &decision {
            // Read without a request, so that one that nobody could check is malformed for every request.
            conditional.holds(None).map_err(|unknown| self.runner.malformed(unknown.to_string()))?;
        }
        if size.exceeds(self.runner.output_bytes_max()) {
            return Err(self.runner.output_limit());
        }
        Ok(Answer { decision, warnings: answer::warnings(warnings) })
    }
}

impl PermissionPolicy for WasmPolicy {
    fn name(&self) -> &PluginName {
        &self.runner.name
    }

    fn digest(&self) -> Digest {
        self.runner.digest
    }

    fn mode(&self) -> PolicyMode {
        self.mode
    }

    fn quarantine(&self) -> Option<&Arc<Quarantine>> {
        Some(self.runner.quarantine())
    }

    fn shadow(&self) -> Option<&Arc<Shadow>> {
        self.shadow.as_ref()
    }

    fn handle<'a>(
        &'a self,
        query: &'a PolicyQuery,
        user: Option<&'a UserInfo>,
    ) -> BoxFuture<'a, Result<Decision, CallError>> {
        Box::pin(async move { self.answer(query, user).await.map(|answer| answer.decision) })
    }

    fn answer<'a>(
        &'a self,
        query: &'a PolicyQuery,
        user: Option<&'a UserInfo>,
    ) -> BoxFuture<'a, Result<Answer, CallError>> {
        let span = debug_span!("call_plugin", plugin = %self.runner.name, function = "handle");
        Box::pin(self.counted_call(query, user).instrument(span))
    }

    fn try_out<'a>(
        &'a self,
        query: &'a PolicyQuery,
        user: Option<&'a UserInfo>,
    ) -> BoxFuture<'a, Result<Answer, CallError>> {
        let span = debug_span!("try_plugin", plugin = %self.runner.name, function = "handle");
        Box::pin(async move { self.call(query, user, &CallMeter::default()).await }.instrument(span))
    }
}

fn lower_query(query: &PolicyQuery) -> contract::PolicyQuery {
    let permission = &query.permission;
    contract::PolicyQuery {
        permission: contract::Permission {
            name: permission.name.to_owned(),
            action: permission.action.map(str::to_owned),
            resource_type: permission.resource_type.map(str::to_owned),
        },
        resource_ref: query.resource_ref.clone(),
        request: query.request.as_ref().map(lower_request),
        now: query.now,
    }
}

fn lower_request(request: &RequestAttributes) -> types::RequestAttributes {
    let info = &request.info;
    types::RequestAttributes {
        cluster: request.cluster.as_str().to_owned(),
        verb: info.verb.clone(),
        api_group: info.api_group.clone(),
        api_version: info.api_version.clone(),
        namespace: info.namespace.clone(),
        resource: info.resource.clone(),
        subresource: info.subresource.clone(),
        name: info.name.clone(),
        subpath: info.subpath.clone(),
        field_selector: info.field_selector.clone(),
        label_selector: info.label_selector.clone(),
        resource_request: info.is_resource_request,
        method: request.method.clone(),
        path: request.path.clone(),
        action_class: match request.action_class {
            ActionClass::Read => types::ActionClass::Read,
            ActionClass::Write => types::ActionClass::Write,
            ActionClass::Delete => types::ActionClass::Delete,
            ActionClass::Exec => types::ActionClass::Exec,
            ActionClass::Credential => types::ActionClass::Credential,
            ActionClass::Escalate => types::ActionClass::Escalate,
        },
        upgrade: request.upgrade,
        patch_type: request.patch_type.clone(),
        dry_run: request.dry_run,
    }
}

fn lift_condition(condition: contract::Condition, size: &mut Size) -> Condition {
    let contract::Condition { rule, params, negated } = condition;
    size.add(&rule);
    for (name, values) in &params {
        size.add(name);
        values.iter().for_each(|value| size.add(value));
    }
    Condition { rule, params, negated }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: what a call needs is allocated and moved once for each request, and should fit the processor's first cache
    /// beside what else is there. Method: its size.
    #[test]
    fn a_call_is_small() {
        fn size<A, F>(_: impl Fn(A) -> F) -> usize {
            size_of::<F>()
        }
        type Arguments = (&'static WasmPolicy, &'static PolicyQuery, Option<&'static UserInfo>);
        let bytes = size(|(policy, query, user): Arguments| policy.counted_call(query, user));
        assert!(bytes <= 8 * 1024, "{bytes} bytes");
    }
}
