//! The settings, and what becomes of them.

use std::collections::BTreeMap;

use regorus::{Engine, Value};
use serde::Deserialize;
use witgate_sdk::{Permission, PolicyQuery, RequestAttributes, UserInfo};

use crate::fault::in_one_line;
use crate::input::input;

/// The sidecar's `settings`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    modules: Texts,
    /// What modules see as `data`, beside themselves.
    #[serde(default)]
    data: serde_json::Map<String, serde_json::Value>,
    /// The rule that allows; `data.kubernetes.allow` where it is there.
    allow: Option<String>,
    /// The rule that denies; `data.kubernetes.deny` where it is there.
    deny: Option<String>,
}

/// One module, or several by name.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "give one module as a text, or a mapping of names to modules")]
pub(crate) enum Texts {
    One(String),
    Many(BTreeMap<String, String>),
}

/// The rules that are evaluated; one of them at least.
#[derive(Debug)]
pub(crate) struct Entrypoints {
    pub(crate) allow: Option<String>,
    pub(crate) deny: Option<String>,
}

impl Settings {
    /// An engine that has read everything; or every fault with its place.
    pub(crate) fn parse(self) -> Result<(Engine, Entrypoints), Vec<String>> {
        let mut engine = Engine::new();
        // Of OPA's two ways the one in which a function that fails is a failure, and not undefined.
        engine.set_strict_builtin_errors(true);
        engine.set_gather_prints(true);
        let modules = match self.modules {
            Texts::One(text) => vec![("modules".to_owned(), text)],
            Texts::Many(texts) => texts.into_iter().map(|(name, text)| (format!("modules.{name}"), text)).collect(),
        };
        let mut faults = Vec::new();
        for (key, text) in modules {
            if let Err(error) = engine.add_policy(key.clone(), text) {
                let fault = in_one_line(&error);
                faults.push(if fault.starts_with(&key) { fault } else { format!("{key}: {fault}") });
            }
        }
        if let Err(error) = engine.add_data(Value::from(serde_json::Value::Object(self.data))) {
            faults.push(format!("data: {}", in_one_line(&error)));
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        let entrypoints = entrypoints(&mut engine, self.allow, self.deny)?;
        Ok((engine, entrypoints))
    }
}

/// Evaluates each rule once: so it is known to be there, and what is made at the first time is made here and not in every call.
fn entrypoints(engine: &mut Engine, allow: Option<String>, deny: Option<String>) -> Result<Entrypoints, Vec<String>> {
    engine.set_input(input(
        &sample(),
        &UserInfo { name: "sample".to_owned(), uid: None, groups: Vec::new(), extra: Vec::new() },
    ));
    let mut faults = Vec::new();
    let mut rule = |key: &str, given: Option<String>, default: &str| {
        let name = given.clone().unwrap_or_else(|| default.to_owned());
        if let Err(error) = engine.compile_with_entrypoint(&name.as_str().into()) {
            let fault = in_one_line(&error);
            match (is_missing(&fault), given.is_some()) {
                (true, true) => faults.push(format!("{key}: no module has a rule `{name}`")),
                (true, false) => {}
                (false, _) => faults.push(fault),
            }
            return None;
        }
        // What fails for a made-up request may be right for others; a function that is not there never is.
        let fault = engine.eval_rule(name.clone()).err().map(|error| in_one_line(&error));
        faults.extend(fault.filter(|fault| fault.contains("could not find function")));
        Some(name)
    };
    let entrypoints = Entrypoints {
        allow: rule("allow", allow, "data.kubernetes.allow"),
        deny: rule("deny", deny, "data.kubernetes.deny"),
    };
    if faults.is_empty() && entrypoints.allow.is_none() && entrypoints.deny.is_none() {
        faults.push(
            "modules: there is neither `data.kubernetes.allow` nor `data.kubernetes.deny`; name the rules with `allow` and `deny`".to_owned(),
        );
    }
    engine.take_prints().ok();
    // What is wrong in a module is wrong for both rules.
    faults.dedup();
    if faults.is_empty() { Ok(entrypoints) } else { Err(faults) }
}

fn is_missing(fault: &str) -> bool {
    fault.contains("not a valid rule path")
}

/// Someone lists pods.
fn sample() -> PolicyQuery {
    let request = RequestAttributes {
        cluster: "sample".to_owned(),
        verb: "list".to_owned(),
        api_group: String::new(),
        api_version: "v1".to_owned(),
        namespace: "default".to_owned(),
        resource: "pods".to_owned(),
        subresource: String::new(),
        name: String::new(),
        subpath: String::new(),
        field_selector: None,
        label_selector: None,
        resource_request: true,
        method: "GET".to_owned(),
        path: "/api/v1/namespaces/default/pods".to_owned(),
        action_class: witgate_sdk::ActionClass::Read,
        upgrade: false,
        patch_type: None,
        dry_run: false,
    };
    let permission = Permission {
        name: "kubernetes.proxy".to_owned(),
        action: None,
        resource_type: Some("kubernetes-proxy-request".to_owned()),
    };
    PolicyQuery { permission, resource_ref: None, request: Some(request), now: 0 }
}
