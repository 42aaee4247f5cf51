//! Policies in Cedar (<https://www.cedarpolicy.com>).
//!
//! ```yaml
//! settings:
//!   policies: |
//!     permit (principal in Group::"group:default/developers", action, resource)
//!     when { context.actionClass == "read" };
//!
//!     @id("no-exec-in-production")
//!     @reason("nobody opens a shell in production")
//!     forbid (principal, action, resource in Cluster::"production")
//!     when { context.actionClass == "exec" };
//! ```
//!
//! A `forbid` that applies is a deny, with the policy's `@reason` or `@id`; else a `permit` that applies is an allow; else there is no
//! opinion. So a `permit` opens only what no other policy of the gate denies. `witgate.cedarschema` says what policies may speak of.
//!
//! All is parsed and validated in `configure`; a request only evaluates. Cedar skips a policy whose evaluation fails: of a `permit`
//! that is safe, of a `forbid` it would open what was to be closed, so here that denies.

mod model;
mod settings;
mod source;

use cedar_policy::{AuthorizationError, Authorizer, Effect, Entities, PolicyId, PolicySet, Response};
use settings::Settings;
use witgate_sdk::{Decision, Policy, PolicyQuery, UserInfo, log};

struct Cedar {
    policies: PolicySet,
    entities: Entities,
    authorizer: Authorizer,
}

impl Policy for Cedar {
    type Settings = Settings;

    fn configure(settings: Settings) -> Result<Self, Vec<String>> {
        let (policies, entities) = settings.parse()?;
        Ok(Self { policies, entities, authorizer: Authorizer::new() })
    }

    fn handle(&self, query: &PolicyQuery, user: Option<&UserInfo>) -> Decision {
        let Some(user) = user else { return Decision::NoOpinion };
        let asked = match model::question(query, user, &self.entities) {
            Ok(Some(asked)) => asked,
            Ok(None) => return Decision::NoOpinion,
            Err(fault) => {
                log::error(&format!("the request could not be put to Cedar: {fault}"));
                return Decision::Deny("the request could not be judged".to_owned());
            }
        };
        let response = self.authorizer.is_authorized(&asked.request, &self.policies, &asked.entities);
        self.decision(&response)
    }
}

witgate_sdk::export_policy!(Cedar);

impl Cedar {
    fn decision(&self, response: &Response) -> Decision {
        let mut failed_forbid = None;
        for AuthorizationError::PolicyEvaluationError(error) in response.diagnostics().errors() {
            let id = error.policy_id();
            log::warn(&format!("policy `{id}` could not be evaluated: {}", error.inner()));
            if self.effect(id) == Some(Effect::Forbid) {
                failed_forbid = failed_forbid.min(Some(id)).or(Some(id));
            }
        }
        // In no order of their own: the least name, so that one request always has one reason.
        let decided_by = response.diagnostics().reason().min();
        match (response.decision(), decided_by, failed_forbid) {
            (cedar_policy::Decision::Deny, Some(id), _) => Decision::Deny(self.reason(id)),
            (_, _, Some(id)) => Decision::Deny(format!("policy `{id}` could not be evaluated")),
            (cedar_policy::Decision::Allow, _, None) => Decision::Allow,
            (cedar_policy::Decision::Deny, None, None) => Decision::NoOpinion,
        }
    }

    fn effect(&self, id: &PolicyId) -> Option<Effect> {
        self.policies.policy(id).map(cedar_policy::Policy::effect)
    }

    fn reason(&self, id: &PolicyId) -> String {
        match self.policies.annotation(id, "reason") {
            Some(reason) if !reason.is_empty() => reason.to_owned(),
            _ => format!("forbidden by `{id}`"),
        }
    }
}

#[cfg(test)]
mod tests;
