//! The settings, and what becomes of them.

use std::collections::BTreeMap;

use cedar_policy::{Entities, PolicySet, Schema, ValidationMode, Validator};
use serde::Deserialize;
use serde_json::Value;
use witgate_sdk::log;

use crate::source::{Sources, diagnosed};

/// The sidecar's `settings`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    policies: Texts,
    /// Cedar's own JSON form.
    #[serde(default)]
    entities: Vec<Value>,
    /// In Cedar's text form, instead of the gate's own.
    schema: Option<String>,
}

/// One text of policies, or several by name.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "give the policies as one text, or as a mapping of names to texts")]
pub(crate) enum Texts {
    One(String),
    Many(BTreeMap<String, String>),
}

impl Settings {
    /// Policies and entities, validated; or every fault with its place.
    pub(crate) fn parse(self) -> Result<(PolicySet, Entities), Vec<String>> {
        let schema = match &self.schema {
            Some(text) => schema(text)?,
            None => schema(SCHEMA)
                .map_err(|faults| faults.into_iter().map(|fault| format!("built-in {fault}")).collect::<Vec<_>>())?,
        };
        let mut sources = match self.policies {
            Texts::One(text) => Sources::one(text),
            Texts::Many(texts) => Sources::many(texts),
        };
        let policies = sources.parse()?;
        if policies.is_empty() {
            return Err(vec!["policies: there are none; a text of Cedar policies is wanted".to_owned()]);
        }
        let entities = Entities::from_json_value(Value::Array(self.entities), Some(&schema));
        let entities = entities.map_err(|error| vec![format!("entities: {}", diagnosed(&error))])?;
        let result = Validator::new(schema).validate(&policies, ValidationMode::default());
        for warning in result.validation_warnings() {
            log::warn(&sources.located(warning.policy_id(), warning));
        }
        let faults: Vec<_> =
            result.validation_errors().map(|error| sources.located(error.policy_id(), error)).collect();
        if faults.is_empty() { Ok((policies, entities)) } else { Err(sorted(faults)) }
    }
}

fn schema(text: &str) -> Result<Schema, Vec<String>> {
    match Schema::from_cedarschema_str(text) {
        Ok((schema, _)) => Ok(schema),
        Err(error) => Err(vec![crate::source::at("schema", text, &error)]),
    }
}

fn sorted(mut faults: Vec<String>) -> Vec<String> {
    faults.sort();
    faults.dedup();
    faults
}

/// What the gate's own model is.
pub(crate) const SCHEMA: &str = include_str!("../witgate.cedarschema");
