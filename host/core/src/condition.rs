//! Conditional decisions: what a policy leaves to the host to check.
//!
//! A policy may answer "allow if any of (all of …) holds". The host knows the
//! rules below and nothing else; a rule that it does not know is a malformed
//! answer, and a malformed answer denies.

use crate::RequestAttributes;

/// Allow if any of (all of …) holds.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Conditional {
    /// The alternatives; each holds when all of its conditions do. None at all, or an empty alternative, is malformed.
    pub any_of: Vec<Vec<Condition>>,
    /// For how many seconds the policy promises this same answer to every query of this user for this permission.
    pub reusable_for: Option<u32>,
}

/// One condition on the request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Condition {
    /// Which rule, such as `IS_CLUSTER`.
    pub rule: String,
    /// The rule's parameters: a name and its values.
    pub params: Vec<(String, Vec<String>)>,
    /// Whether the condition holds where the rule does not.
    pub negated: bool,
}

/// Why a conditional cannot be checked.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum UnknownRule {
    /// No alternatives, or one without conditions: it would hold or fail by accident.
    #[error("an empty list of conditions")]
    Empty,
    /// The host has no such rule.
    #[error("unknown rule `{0}`; known are IS_CLUSTER, IS_NAMESPACE, IS_RESOURCE_TYPE, IS_ACTION and IS_VERB")]
    Rule(String),
    /// The rule takes another parameter.
    #[error("rule `{rule}` takes the parameter `{expected}` once, with at least one value, and no other")]
    Param {
        /// The rule.
        rule: String,
        /// Its only parameter.
        expected: &'static str,
    },
}

impl Conditional {
    /// Whether any alternative holds for `request`. Without a request nothing holds, negated conditions included.
    ///
    /// Every condition is read even when an earlier one has settled the answer, so that a
    /// malformed conditional is always malformed and not only for some requests.
    ///
    /// # Errors
    /// When a rule, a parameter or a list is not one that the contract names.
    pub fn holds(&self, request: Option<&RequestAttributes>) -> Result<bool, UnknownRule> {
        if self.any_of.is_empty() {
            return Err(UnknownRule::Empty);
        }
        let mut any = false;
        for alternative in &self.any_of {
            if alternative.is_empty() {
                return Err(UnknownRule::Empty);
            }
            let mut all = true;
            for condition in alternative {
                all &= condition.holds(request)?;
            }
            any |= all;
        }
        Ok(any)
    }
}

impl Condition {
    /// Whether it holds for `request`; without one it does not, negated or not.
    ///
    /// # Errors
    /// When the rule or its parameter is not one that the contract names.
    pub fn holds(&self, request: Option<&RequestAttributes>) -> Result<bool, UnknownRule> {
        type Read = fn(&RequestAttributes) -> &str;
        let (param, read): (&'static str, Read) = match self.rule.as_str() {
            "IS_CLUSTER" => ("clusters", |request| request.cluster.as_str()),
            "IS_NAMESPACE" => ("namespaces", |request| &request.info.namespace),
            "IS_RESOURCE_TYPE" => ("resourceTypes", |request| &request.info.resource),
            "IS_ACTION" => ("actions", |request| request.action_class.as_str()),
            "IS_VERB" => ("verbs", |request| &request.info.verb),
            _ => return Err(UnknownRule::Rule(self.rule.chars().take(64).collect())),
        };
        let [(name, values)] = self.params.as_slice() else {
            return Err(UnknownRule::Param { rule: self.rule.clone(), expected: param });
        };
        // No values would make a negated condition hold for everything.
        if name != param || values.is_empty() {
            return Err(UnknownRule::Param { rule: self.rule.clone(), expected: param });
        }
        let Some(request) = request else { return Ok(false) };
        let wanted = read(request);
        Ok(values.iter().any(|value| value == wanted) != self.negated)
    }
}
