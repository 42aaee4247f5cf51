//! The settings, as they are written and as they are used.

use serde::Deserialize;
use witgate_sdk::condition::allow_if;
use witgate_sdk::pattern::Patterns;
use witgate_sdk::{Condition, Decision};

use crate::criteria::Criteria;

/// The sidecar's `settings`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Settings {
    /// Seconds for which the host may go on with an answer.
    pub(crate) reusable_for: Option<u32>,
    rules: Vec<RawRule>,
}

/// One rule as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RawRule {
    #[serde(default)]
    groups: Vec<String>,
    #[serde(default)]
    users: Vec<String>,
    conditions: Option<Criteria>,
    #[serde(default)]
    list_clusters: bool,
}

/// One rule: whom it is for, and what it opens to them.
#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) groups: Patterns,
    pub(crate) users: Patterns,
    /// The conditions as the contract has them; none where the rule is about the list of clusters alone.
    pub(crate) any_of: Vec<Vec<Condition>>,
    pub(crate) list_clusters: bool,
}

impl Settings {
    /// The rules, or every fault with its key. A rule that could never open anything is a fault: it is a mistake.
    pub(crate) fn rules(self) -> Result<Vec<Rule>, Vec<String>> {
        let mut faults = Vec::new();
        if self.rules.is_empty() {
            faults.push("rules: name at least one rule; without any, this policy opens nothing".to_owned());
        }
        if let Some(seconds) = self.reusable_for
            && !(1..=REUSABLE_SECONDS_MAX).contains(&seconds)
        {
            faults
                .push(format!("reusableFor: is {seconds}; leave it out, or give 1 to {REUSABLE_SECONDS_MAX} seconds"));
        }
        let numbered = self.rules.into_iter().enumerate();
        let rules: Vec<_> = numbered.map(|(index, raw)| raw.rule(&format!("rules[{index}]"), &mut faults)).collect();
        let alternatives: usize = rules.iter().map(|rule| rule.any_of.len()).sum();
        if alternatives > ALTERNATIVES_MAX {
            faults.push(format!(
                "rules: unfold into {alternatives} alternatives together; at most {ALTERNATIVES_MAX} are sent to the host"
            ));
        }
        if faults.is_empty() { Ok(rules) } else { Err(faults) }
    }
}

impl RawRule {
    fn rule(self, key: &str, faults: &mut Vec<String>) -> Rule {
        let mut patterns = |name: &str, texts: Vec<String>| {
            for (index, _) in texts.iter().enumerate().filter(|(_, text)| text.is_empty()) {
                faults.push(format!("{key}.{name}[{index}]: is empty; write a name, or `*` for any"));
            }
            Patterns::new(texts)
        };
        let groups = patterns("groups", self.groups);
        let users = patterns("users", self.users);
        if groups.is_empty() && users.is_empty() {
            faults.push(format!("{key}: name at least one group or user, or `*` for everybody"));
        }
        if self.conditions.is_none() && !self.list_clusters {
            faults.push(format!("{key}: opens nothing; give `conditions` or `listClusters: true`"));
        }
        let key = format!("{key}.conditions");
        let any_of = match self.conditions.and_then(|criteria| criteria.expression(&key, faults)).map(allow_if) {
            Some(Decision::Conditional(conditional)) => conditional.any_of,
            Some(Decision::Deny(fault)) => {
                faults.push(format!("{key}: {fault}"));
                Vec::new()
            }
            Some(Decision::Allow | Decision::NoOpinion) | None => Vec::new(),
        };
        Rule { groups, users, any_of, list_clusters: self.list_clusters }
    }
}

/// The host keeps an answer for an hour at most.
const REUSABLE_SECONDS_MAX: u32 = 3600;

/// What one caller may be sent, whichever rules name them.
const ALTERNATIVES_MAX: usize = 1024;
