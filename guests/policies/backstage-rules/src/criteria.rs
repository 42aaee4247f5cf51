//! Conditions as Backstage's permission framework writes them: a rule with its parameters, or `anyOf`, `allOf`, `not`.

use std::collections::BTreeMap;

use serde::Deserialize;
use witgate_sdk::ActionClass;
use witgate_sdk::condition::{
    Expression, all_of, any_of, is_action, is_cluster, is_namespace, is_resource_type, is_verb, not,
};

/// One node as it is written. Of its kinds exactly one is given; an untagged enum would not say what is wrong.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Criteria {
    any_of: Option<Vec<Self>>,
    all_of: Option<Vec<Self>>,
    not: Option<Box<Self>>,
    rule: Option<String>,
    resource_type: Option<String>,
    params: Option<BTreeMap<String, Vec<String>>>,
}

impl Criteria {
    /// What it says; none where something is wrong with it, which `faults` tells with its key.
    pub(crate) fn expression(self, key: &str, faults: &mut Vec<String>) -> Option<Expression> {
        let Self { any_of: any, all_of: all, not: inner, rule, resource_type, params } = self;
        let kinds = [any.is_some(), all.is_some(), inner.is_some(), rule.is_some()];
        let given = kinds.into_iter().filter(|given| *given).count();
        if given != 1 {
            let given = if given == 0 { "is none".to_owned() } else { format!("are {given}") };
            faults.push(format!("{key}: give one of `rule`, `anyOf`, `allOf` and `not`; there {given}"));
            return None;
        }
        if let Some(rule) = rule {
            return of_rule(&rule, resource_type, params.unwrap_or_default(), key, faults);
        }
        if resource_type.is_some() || params.is_some() {
            faults.push(format!("{key}: `params` and `resourceType` belong to a `rule`"));
            return None;
        }
        if let Some(inner) = inner {
            return inner.expression(&format!("{key}.not"), faults).map(not);
        }
        let (name, parts, vacuous) = match (any, all) {
            (Some(parts), _) => ("anyOf", parts, "nothing"),
            (None, parts) => ("allOf", parts.unwrap_or_default(), "everything"),
        };
        if parts.is_empty() {
            faults.push(format!("{key}.{name}: is empty; it would hold for {vacuous}"));
            return None;
        }
        let count = parts.len();
        let numbered = parts.into_iter().enumerate();
        let parts: Vec<_> =
            numbered.filter_map(|(index, part)| part.expression(&format!("{key}.{name}[{index}]"), faults)).collect();
        (parts.len() == count).then(|| if name == "anyOf" { any_of(parts) } else { all_of(parts) })
    }
}

fn of_rule(
    rule: &str,
    resource_type: Option<String>,
    params: BTreeMap<String, Vec<String>>,
    key: &str,
    faults: &mut Vec<String>,
) -> Option<Expression> {
    let before = faults.len();
    if let Some(other) = resource_type.filter(|given| given != RESOURCE_TYPE) {
        faults.push(format!("{key}.resourceType: is `{other}`; conditions here are about `{RESOURCE_TYPE}`"));
    }
    type Check = fn(&str) -> Result<(), String>;
    let (param, check): (&str, Check) = match rule {
        "IS_CLUSTER" => ("clusters", |value| named(value, "a cluster's name")),
        "IS_NAMESPACE" => ("namespaces", any_name),
        "IS_RESOURCE_TYPE" => ("resourceTypes", any_name),
        "IS_ACTION" => ("actions", |value| value.parse::<ActionClass>().map(drop)),
        "IS_VERB" => ("verbs", verb),
        _ => {
            faults.push(format!(
                "{key}.rule: unknown rule `{rule}`; known are IS_CLUSTER, IS_NAMESPACE, IS_RESOURCE_TYPE, IS_ACTION and IS_VERB"
            ));
            return None;
        }
    };
    let mut params = params.into_iter();
    let values = match (params.next(), params.next()) {
        (Some((name, values)), None) if name == param && !values.is_empty() => values,
        _ => {
            faults.push(format!("{key}.params: {rule} takes `{param}` with at least one value, and nothing else"));
            return None;
        }
    };
    for (index, value) in values.iter().enumerate() {
        if let Err(fault) = check(value) {
            faults.push(format!("{key}.params.{param}[{index}]: {fault}"));
        }
    }
    (faults.len() == before).then(|| match rule {
        "IS_CLUSTER" => is_cluster(values),
        "IS_NAMESPACE" => is_namespace(values),
        "IS_RESOURCE_TYPE" => is_resource_type(values),
        "IS_ACTION" => is_action(values.iter().filter_map(|class| class.parse().ok())),
        _ => is_verb(values),
    })
}

/// Any text without a wildcard; the empty one stands for what lies in no namespace, or names no resource.
fn any_name(value: &str) -> Result<(), String> {
    if value.contains('*') {
        return Err(format!("`{value}` has a wildcard; conditions compare whole values, so write out each"));
    }
    Ok(())
}

fn named(value: &str, what: &str) -> Result<(), String> {
    if value.is_empty() { Err(format!("is empty; write {what}")) } else { any_name(value) }
}

fn verb(value: &str) -> Result<(), String> {
    if VERBS.contains(&value) {
        return Ok(());
    }
    Err(format!(
        "unknown verb `{value}`; known are get, list, watch, create, update, patch, delete, deletecollection, proxy and impersonate, \
         and for paths that name no resource get, head, options, post, put, patch and delete"
    ))
}

/// Kubernetes' verbs, and the methods that stand for one where the path names no resource. A misspelt verb in a `not` would
/// hold for everything.
const VERBS: [&str; 14] = [
    "get",
    "list",
    "watch",
    "create",
    "update",
    "patch",
    "delete",
    "deletecollection",
    "proxy",
    "impersonate",
    "head",
    "options",
    "post",
    "put",
];

/// What the conditions are about.
const RESOURCE_TYPE: &str = "kubernetes-proxy-request";
