//! Policies in Rego, the language of Open Policy Agent (<https://www.openpolicyagent.org/docs/policy-language>).
//!
//! ```yaml
//! settings:
//!   modules: |
//!     package kubernetes
//!
//!     allow if {
//!       "group:default/developers" in input.user.groups
//!       input.request.actionClass == "read"
//!     }
//!
//!     deny contains "nobody opens a shell in production" if {
//!       input.request.cluster == "production"
//!       input.request.actionClass == "exec"
//!     }
//! ```
//!
//! What `deny` holds is a deny, with its texts as the reason; else an `allow` that is `true` is an allow; else there is no opinion. So an
//! `allow` opens only what no other policy of the gate denies. [`input`] says what modules may speak of.
//!
//! Modules are parsed and scheduled in `configure`; a request only evaluates. What cannot be evaluated denies: Rego's own way, undefined,
//! would open what a `deny` was to close. There is no clock but `input.now`, no randomness and no network: functions that need
//! them do not exist here.

mod fault;
mod input;
mod settings;

use regorus::{Engine, Value};
use settings::{Entrypoints, Settings};
use witgate_sdk::{Decision, Policy, PolicyQuery, UserInfo, log};

struct Rego {
    /// With every module, and ready to evaluate; copied for each query, which shares all that was parsed.
    engine: Engine,
    entrypoints: Entrypoints,
}

impl Policy for Rego {
    type Settings = Settings;

    fn configure(settings: Settings) -> Result<Self, Vec<String>> {
        let (engine, entrypoints) = settings.parse()?;
        Ok(Self { engine, entrypoints })
    }

    fn handle(&self, query: &PolicyQuery, user: Option<&UserInfo>) -> Decision {
        let Some(user) = user else { return Decision::NoOpinion };
        let mut engine = self.engine.clone();
        engine.set_input(input::input(query, user));
        let decision = self.decision(&mut engine);
        for line in engine.take_prints().unwrap_or_default() {
            log::info(&line);
        }
        decision
    }
}

witgate_sdk::export_policy!(Rego);

impl Rego {
    fn decision(&self, engine: &mut Engine) -> Decision {
        let mut evaluate = |rule: &Option<String>| match rule {
            Some(rule) => engine.eval_rule(rule.clone()).map_err(|error| {
                log::error(&format!("`{rule}` could not be evaluated: {}", fault::in_one_line(&error)));
                Decision::Deny(format!("`{rule}` could not be evaluated"))
            }),
            None => Ok(Value::Undefined),
        };
        let denied = match evaluate(&self.entrypoints.deny).map(|value| denial(&value, &self.entrypoints)) {
            Ok(denied) => denied,
            Err(failed) => return failed,
        };
        if let Some(reason) = denied {
            return Decision::Deny(reason);
        }
        match evaluate(&self.entrypoints.allow) {
            Ok(Value::Bool(true)) => Decision::Allow,
            Ok(_) => Decision::NoOpinion,
            Err(failed) => failed,
        }
    }
}

/// What a value of `deny` says: none where it denies nothing. A value that is none of the known forms denies.
fn denial(value: &Value, entrypoints: &Entrypoints) -> Option<String> {
    let rule = entrypoints.deny.as_deref().unwrap_or_default();
    let messages: Vec<String> = match value {
        Value::Undefined | Value::Bool(false) => return None,
        Value::Bool(true) => return Some(format!("denied by `{rule}`")),
        Value::String(message) => vec![message.to_string()],
        Value::Set(messages) => messages.iter().map(message).collect(),
        Value::Array(messages) => messages.iter().map(message).collect(),
        Value::Null | Value::Number(_) | Value::Object(_) => {
            log::error(&format!("`{rule}` is {value}: neither texts nor true or false"));
            return Some(format!("`{rule}` is of a kind that is not understood"));
        }
    };
    (!messages.is_empty()).then(|| messages.join("; "))
}

/// A text, or an object with one under `msg`, as other users of Rego have it.
fn message(value: &Value) -> String {
    let text = |value: &Value| match value {
        Value::String(text) => Some(text.to_string()),
        _ => None,
    };
    text(value).or_else(|| text(&value["msg"])).unwrap_or_else(|| value.to_string())
}

#[cfg(test)]
mod tests;
