//! The texts of policies, and places in them: what a person needs to find a fault.

use std::collections::{BTreeMap, HashMap};

use cedar_policy::{ParseErrors, PolicyId, PolicySet};
use miette::Diagnostic;

/// Texts of policies by the key under which they stand in the settings.
pub(crate) struct Sources {
    texts: Vec<Source>,
    /// In which text each policy stands.
    text_of: HashMap<PolicyId, usize>,
}

struct Source {
    /// `policies`, or `policies.NAME`.
    key: String,
    /// Before the names of policies without `@id`: empty, or `NAME/`.
    prefix: String,
    text: String,
}

impl Sources {
    pub(crate) fn one(text: String) -> Self {
        Self::of(vec![Source { key: "policies".to_owned(), prefix: String::new(), text }])
    }

    pub(crate) fn many(texts: BTreeMap<String, String>) -> Self {
        let source = |(name, text)| Source { key: format!("policies.{name}"), prefix: format!("{name}/"), text };
        Self::of(texts.into_iter().map(source).collect())
    }

    fn of(texts: Vec<Source>) -> Self {
        Self { texts, text_of: HashMap::new() }
    }

    /// All policies, each under its `@id`, or as Cedar numbers them: `policy0`.
    pub(crate) fn parse(&mut self) -> Result<PolicySet, Vec<String>> {
        let mut all = PolicySet::new();
        let mut faults = Vec::new();
        for (index, Source { key, prefix, text }) in self.texts.iter().enumerate() {
            let policies: PolicySet = match text.parse() {
                Ok(policies) => policies,
                Err(errors) => {
                    let errors: &ParseErrors = &errors;
                    faults.extend(errors.iter().map(|error| at(key, text, error)));
                    continue;
                }
            };
            if let Some(template) = policies.templates().next() {
                let id = template.annotation("id").map_or_else(|| template.id().to_string(), str::to_owned);
                faults.push(format!(
                    "{key}: policy `{id}` has a slot; templates are linked by nobody here, so write out who and what"
                ));
            }
            for policy in policies.policies() {
                let id = policy.annotation("id").filter(|id| !id.is_empty());
                let id = id.map_or_else(|| format!("{prefix}{}", policy.id()), str::to_owned);
                let named = PolicyId::new(&id);
                self.text_of.insert(named.clone(), index);
                if all.add(policy.new_id(named)).is_err() {
                    faults.push(format!("{key}: there are two policies with `@id({id:?})`"));
                }
            }
        }
        if faults.is_empty() { Ok(all) } else { Err(faults) }
    }

    /// What is wrong with a policy, and where.
    pub(crate) fn located(&self, id: &PolicyId, error: &dyn Diagnostic) -> String {
        let Some(Source { key, text, .. }) = self.text_of.get(id).and_then(|index| self.texts.get(*index)) else {
            return format!("policy `{id}`: {}", diagnosed(error));
        };
        let line = place(text, error).map(|(line, _)| format!(", line {line}")).unwrap_or_default();
        format!("{key}: policy `{id}`{line}: {}", without_policy(&diagnosed(error), id))
    }
}

/// A fault in `text`, which stands under `key`.
pub(crate) fn at(key: &str, text: &str, error: &dyn Diagnostic) -> String {
    match place(text, error) {
        Some((line, column)) => format!("{key}: line {line}, column {column}: {}", diagnosed(error)),
        None => format!("{key}: {}", diagnosed(error)),
    }
}

/// What an error says, why, what it points at, and what it advises: in one line.
pub(crate) fn diagnosed(error: &dyn Diagnostic) -> String {
    let mut parts = vec![error.to_string()];
    let mut cause = error.source();
    while let Some(error) = cause {
        parts.push(error.to_string());
        cause = error.source();
    }
    parts.extend(error.labels().into_iter().flatten().filter_map(|label| label.label().map(str::to_owned)));
    parts.extend(error.help().map(|help| help.to_string()));
    // A transparent error has its cause's words.
    let mut said: Vec<String> = Vec::new();
    for part in parts.into_iter().map(|part| part.split_whitespace().collect::<Vec<_>>().join(" ")) {
        if !part.is_empty() && !said.iter().any(|known| known.contains(&part)) {
            said.push(part);
        }
    }
    said.join("; ")
}

/// Cedar names the policy once more.
fn without_policy<'a>(text: &'a str, id: &PolicyId) -> &'a str {
    text.strip_prefix(&format!("for policy `{id}`, ")).unwrap_or(text)
}

/// Line and column, from 1, of the first place that an error points at.
fn place(text: &str, error: &dyn Diagnostic) -> Option<(usize, usize)> {
    let offset = error.labels()?.next()?.offset();
    let before = text.get(..offset)?;
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let column = before.get(line_start..)?.chars().count() + 1;
    Some((before.matches('\n').count() + 1, column))
}
