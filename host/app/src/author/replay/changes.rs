//! What a replay found, grouped: bounded, however long the log is.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Value, json};
use witgate_core::Verdict;

use super::record::{Recalled, Recorded, Skipped};

/// What a replay found so far.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Lines that were asked again.
    pub(crate) replayed: u64,
    /// Of those, how many would be decided otherwise.
    pub(crate) changed: u64,
    /// Lines that were not, by why, each with the first line's number.
    pub(crate) skipped: BTreeMap<Skipped, (u64, u64)>,
    /// Decisions that would change.
    groups: HashMap<Key, Group>,
    /// Changed decisions that found no group any more.
    ungrouped: u64,
}

/// What the decisions of a group have in common.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) struct Key {
    /// What it was.
    pub(crate) was: Recalled,
    permission: &'static str,
    cluster: String,
    verb: String,
    resource: String,
    namespace: String,
    /// The caller's groups; the caller, where there are none.
    who: String,
    /// Why it was decided as it was.
    was_why: String,
    /// Why it would be decided otherwise.
    now_why: String,
}

/// How many, and who for example.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    /// How many decisions.
    pub(crate) count: u64,
    /// One of them, as the log names it.
    pub(crate) example: String,
    /// Who that was.
    user: String,
}

impl Tally {
    /// Counts a line that was asked again.
    pub(crate) fn count(&mut self, recorded: &Recorded, verdict: &Verdict) {
        self.replayed += 1;
        let (is, now_why) = match verdict {
            Verdict::Allow { policy: Some(policy) } => (Recalled::Allow, format!("allowed by policy `{policy}`")),
            Verdict::Allow { policy: None } => (Recalled::Allow, "allowed".to_owned()),
            Verdict::Deny(reason) => (Recalled::Deny, reason.to_string()),
        };
        if is == recorded.decision {
            return;
        }
        self.changed += 1;
        let group = Group { count: 1, example: recorded.id.clone(), user: recorded.user.name.clone() };
        self.add(Key::of(recorded, now_why), group);
    }

    /// Counts a line that was not.
    pub(crate) fn skip(&mut self, why: Skipped, line: u64) {
        let (count, first) = self.skipped.entry(why).or_insert((0, line));
        *count += 1;
        *first = line.min(*first);
    }

    /// Takes in what another thread found.
    pub(crate) fn merge(&mut self, other: Self) {
        let Self { replayed, changed, skipped, groups, ungrouped } = other;
        self.replayed += replayed;
        self.changed += changed;
        self.ungrouped += ungrouped;
        for (why, (count, line)) in skipped {
            let (all, first) = self.skipped.entry(why).or_insert((0, line));
            *all += count;
            *first = line.min(*first);
        }
        for (key, group) in groups {
            self.add(key, group);
        }
    }

    /// Lines that were not asked again.
    pub(crate) fn skipped_count(&self) -> u64 {
        self.skipped.values().map(|(count, _)| count).sum()
    }

    /// The groups, the largest first.
    pub(crate) fn groups(&self) -> Vec<(&Key, &Group)> {
        let mut groups: Vec<_> = self.groups.iter().collect();
        groups.sort_by(|(key, one), (other_key, other)| other.count.cmp(&one.count).then_with(|| key.cmp(other_key)));
        groups
    }

    /// Changed decisions that are in none of them.
    pub(crate) const fn ungrouped(&self) -> u64 {
        self.ungrouped
    }

    fn add(&mut self, key: Key, group: Group) {
        if let Some(known) = self.groups.get_mut(&key) {
            known.count += group.count;
            if group.example < known.example {
                known.example = group.example;
                known.user = group.user;
            }
        } else if self.groups.len() < GROUPS_MAX {
            self.groups.insert(key, group);
        } else {
            self.ungrouped += group.count;
        }
    }
}

impl Key {
    fn of(recorded: &Recorded, now_why: String) -> Self {
        let Recorded { user, query, decision, why, .. } = recorded;
        let request = query.request.as_ref();
        let text = |read: fn(&witgate_core::RequestAttributes) -> String| request.map(read).unwrap_or_default();
        let who = if user.groups.is_empty() { user.name.clone() } else { user.groups.join(", ") };
        Self {
            was: *decision,
            permission: query.permission.name,
            cluster: text(|request| request.cluster.to_string()),
            verb: text(|request| request.info.verb.clone()),
            resource: text(|request| {
                let info = &request.info;
                match (info.resource.as_str(), info.subresource.as_str()) {
                    ("", _) => request.path.clone(),
                    (resource, "") => resource.to_owned(),
                    (resource, subresource) => format!("{resource}/{subresource}"),
                }
            }),
            namespace: text(|request| request.info.namespace.clone()),
            who,
            was_why: why.clone(),
            now_why,
        }
    }

    /// For people, a line each.
    pub(crate) fn describe(&self, group: &Group) -> Vec<String> {
        let Self { permission, cluster, verb, resource, namespace, who, was_why, now_why, .. } = self;
        let change = self.change();
        let what = if verb.is_empty() {
            (*permission).to_owned()
        } else if namespace.is_empty() {
            format!("{verb} {resource} of cluster `{cluster}`")
        } else {
            format!("{verb} {resource} in `{namespace}` of cluster `{cluster}`")
        };
        let Group { count, example, user } = group;
        vec![
            format!("{count:>8}  {change}  {what}, for {who}"),
            format!("          was: {was_why}"),
            format!("          now: {now_why}"),
            format!("          such as {example} (`{user}`)"),
        ]
    }

    /// For programs.
    pub(crate) fn as_json(&self, group: &Group) -> Value {
        let Self { was, permission, cluster, verb, resource, namespace, who, was_why, now_why } = self;
        let (old, new) = match was {
            Recalled::Allow => ("allow", "deny"),
            Recalled::Deny => ("deny", "allow"),
        };
        json!({
            "count": group.count, "old": old, "new": new, "permission": permission, "cluster": cluster, "verb": verb,
            "resource": resource, "namespace": namespace, "who": who, "oldReason": was_why, "newReason": now_why,
            "exampleId": group.example, "exampleUser": group.user,
        })
    }

    const fn change(&self) -> &'static str {
        match self.was {
            Recalled::Allow => "allow → deny ",
            Recalled::Deny => "deny → allow ",
        }
    }
}

/// How many groups are kept apart.
const GROUPS_MAX: usize = 1_000;

#[cfg(test)]
mod tests {
    use witgate_core::{DenyReason, Permission, PolicyQuery, UserInfo};

    use super::*;

    fn recorded(user: &str) -> Recorded {
        Recorded {
            id: format!("id-{user}"),
            user: UserInfo::named(user),
            query: PolicyQuery { permission: Permission::CLUSTERS_READ, resource_ref: None, request: None, now: 0 },
            decision: Recalled::Allow,
            why: "allowed by policy `p`".into(),
        }
    }

    /// Goal: groups are bounded, and nothing that changed is lost. Method: one more caller than there are groups, on two threads.
    #[test]
    fn groups_are_bounded() {
        let denied = Verdict::Deny(DenyReason::Silence);
        let mut tally = Tally::default();
        for number in 0..=GROUPS_MAX {
            tally.count(&recorded(&format!("{number:05}")), &denied);
        }
        assert_eq!((tally.groups.len(), tally.ungrouped, tally.changed), (GROUPS_MAX, 1, 1_001));
        let mut other = Tally::default();
        other.count(&recorded("00000"), &denied);
        other.count(&recorded("unchanged"), &Verdict::Allow { policy: None });
        other.skip(Skipped::NotARecord, 7);
        tally.merge(other);
        assert_eq!((tally.replayed, tally.changed, tally.skipped_count()), (1_003, 1_002, 1));
        let (key, group) = *tally.groups().first().unwrap();
        assert_eq!((group.count, key.was), (2, Recalled::Allow));
        assert_eq!(
            key.describe(group).first().unwrap(),
            "       2  allow → deny   kubernetes.clusters.read, for 00000"
        );
    }
}
