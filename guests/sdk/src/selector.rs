//! What a label selector pins down: for policies that let a caller see what is labelled as theirs.
//!
//! ```
//! use witgate_sdk::selector::required_labels;
//!
//! assert_eq!(required_labels("team=a,tier in (web),!old"), [("team", "a"), ("tier", "web")]);
//! ```

/// The labels that every selected object has: from `key=value`, `key==value`, and `key in (value)` with one value.
///
/// Other requirements only narrow the selection further, so they may be passed over. A text that is not a label selector pins nothing
/// down: the API server refuses it in any case.
pub fn required_labels(selector: &str) -> Vec<(&str, &str)> {
    let mut labels = Vec::new();
    for requirement in requirements(selector) {
        match label(requirement) {
            Ok(Some(label)) => labels.push(label),
            Ok(None) => {}
            Err(NoRequirement) => return Vec::new(),
        }
    }
    labels
}

/// A text that a selector cannot have.
struct NoRequirement;

/// What stands between commas; those in parentheses separate values.
fn requirements(selector: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0_i32;
    selector.split(move |character| {
        match character {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        character == ',' && depth == 0
    })
}

fn label(requirement: &str) -> Result<Option<(&str, &str)>, NoRequirement> {
    let requirement = requirement.trim();
    if let Some((key, value)) = requirement.split_once('=') {
        if let Some(key) = key.strip_suffix('!') {
            return is_key(key.trim()).then_some(None).ok_or(NoRequirement);
        }
        let (key, value) = (key.trim(), value.strip_prefix('=').unwrap_or(value).trim());
        return if is_key(key) && is_value(value) { Ok(Some((key, value))) } else { Err(NoRequirement) };
    }
    if let Some(key) = requirement.strip_prefix('!') {
        return if is_key(key.trim()) { Ok(None) } else { Err(NoRequirement) };
    }
    let Some((key, rest)) = requirement.split_once(char::is_whitespace) else {
        // `key` alone, or `key>1`.
        let key = requirement.split(['<', '>']).next().unwrap_or("");
        return if is_key(key) { Ok(None) } else { Err(NoRequirement) };
    };
    let rest = rest.trim();
    let Some(values) = rest.strip_prefix("in").or_else(|| rest.strip_prefix("notin")) else {
        return if rest.starts_with(['<', '>']) && is_key(key) { Ok(None) } else { Err(NoRequirement) };
    };
    let values = values.trim().strip_prefix('(').and_then(|values| values.strip_suffix(')')).ok_or(NoRequirement)?;
    let mut values = values.split(',').map(str::trim);
    match (values.next(), values.next()) {
        _ if !is_key(key) => Err(NoRequirement),
        (Some(value), None) if !rest.starts_with("notin") && is_value(value) => Ok(Some((key, value))),
        _ => Ok(None),
    }
}

/// A label's name, perhaps with a domain before it.
fn is_key(key: &str) -> bool {
    !key.is_empty() && key.chars().all(|character| character.is_ascii_alphanumeric() || "-_./".contains(character))
}

/// A label's value; the empty one is one too.
fn is_value(value: &str) -> bool {
    value.chars().all(|character| character.is_ascii_alphanumeric() || "-_.".contains(character))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: nothing is taken for pinned down that is not. Method: rows of a selector and what it pins down.
    #[test]
    fn only_what_is_pinned_down_counts() {
        check("", "");
        check("team=a", "team=a");
        check(" team == a , tier=web", "team=a tier=web");
        check("example.com/team=a", "example.com/team=a");
        check("team in (a)", "team=a");
        check("team in ( a )", "team=a");
        check("team=", "team=");
        check("team in (a,b)", "");
        check("team in (a,b),tier=web", "tier=web");
        check("team notin (a)", "");
        check("team!=a", "");
        check("team,!old,tier=web", "tier=web");
        check("size>1,team=a", "team=a");
        check("size > 1,team=a", "team=a");
        check("team=a,team=b", "team=a team=b"); // selects nothing at all
        for odd in [
            "team=a b",
            "team=a)",
            "(team=a",
            "x (team=a)",
            "team=a,=b",
            "team in a,tier=web",
            "x like y,team=a",
            "a=b=c",
            "ä=b",
        ] {
            check(odd, "");
        }
    }

    #[track_caller]
    fn check(selector: &str, expected: &str) {
        let labels: Vec<_> = required_labels(selector).iter().map(|(key, value)| format!("{key}={value}")).collect();
        assert_eq!(labels.join(" "), expected, "{selector}");
    }
}
