//! Which cells of permission × action class have cases.

use std::collections::BTreeMap;
use std::fmt;

use witgate_core::{ActionClass, Permission, PolicyQuery, Verdict};

/// Cases that were allowed and denied, by permission and action class.
#[derive(Debug, Default)]
pub(crate) struct Coverage(BTreeMap<Cell, Counts>);

type Cell = (&'static str, &'static str);

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    allowed: usize,
    denied: usize,
}

impl Coverage {
    /// Counts one case.
    pub(crate) fn count(&mut self, query: &PolicyQuery, verdict: &Verdict) {
        let class = query.request.as_ref().map_or(NO_CLASS, |request| request.action_class.as_str());
        let counts = self.0.entry((query.permission.name, class)).or_default();
        match verdict {
            Verdict::Allow { .. } => counts.allowed += 1,
            Verdict::Deny(_) => counts.denied += 1,
        }
    }
}

/// Every cell that there is.
fn cells() -> impl Iterator<Item = Cell> {
    use ActionClass::{Credential, Delete, Escalate, Exec, Read, Write};
    let classes = [Read, Write, Delete, Exec, Credential, Escalate];
    let of_requests = classes.into_iter().map(|class| (Permission::PROXY.name, class.as_str()));
    of_requests.chain([(Permission::CLUSTERS_READ.name, NO_CLASS)])
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<26}{:<12}{:>8}{:>8}", "permission", "class", "allowed", "denied")?;
        let mut without = Vec::new();
        for (permission, class) in cells() {
            let Counts { allowed, denied } = self.0.get(&(permission, class)).copied().unwrap_or_default();
            let remark = match (allowed, denied) {
                (0, 0) => "  no case",
                (_, 0) => "  never denied",
                (0, _) => "  never allowed",
                (_, _) => "",
            };
            if allowed + denied == 0 {
                without.push(class);
            }
            writeln!(f, "{permission:<26}{class:<12}{allowed:>8}{denied:>8}{remark}")?;
        }
        let (all, covered) = (cells().count(), cells().count() - without.len());
        write!(f, "{covered} of {all} cells have cases")
    }
}

/// Of a permission that is about no request.
const NO_CLASS: &str = "-";
