//! Which objects a list or a watch is about: `labelSelector` and `fieldSelector`, as far as the demo needs them.
//!
//! Equality and existence of labels; the fields `metadata.name` and `metadata.namespace`. Anything else is refused,
//! never ignored: a selector that is dropped would show more than was asked for.

use serde_json::Value;

use super::failure::Failure;

/// All requirements must hold.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Selector(Vec<Requirement>);

#[derive(Clone, Debug, Eq, PartialEq)]
struct Requirement {
    subject: Subject,
    test: Test,
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Subject {
    Label(String),
    Field(&'static str),
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Test {
    Is(String),
    IsNot(String),
    Exists,
    Absent,
}

impl Selector {
    /// Reads both parameters; absent or empty selects everything.
    pub(crate) fn parse(labels: Option<&str>, fields: Option<&str>) -> Result<Self, Failure> {
        let mut requirements = Vec::new();
        for part in split(labels) {
            if part.contains(['(', ')', ' ']) {
                let message =
                    format!("the sample API server reads `key=value`, `key!=value`, `key` and `!key`, not `{part}`");
                return Err(Failure::bad_request(message));
            }
            let (key, test) = comparison(part);
            requirements.push(Requirement { subject: Subject::Label(key.to_owned()), test });
        }
        for part in split(fields) {
            let (key, test) = comparison(part);
            let field = FIELDS.into_iter().find(|(name, _)| *name == key).map(|(_, pointer)| pointer);
            match (field, test) {
                (Some(pointer), test @ (Test::Is(_) | Test::IsNot(_))) => {
                    requirements.push(Requirement { subject: Subject::Field(pointer), test });
                }
                _ => return Err(Failure::bad_request(format!("field label not supported: {part}"))),
            }
        }
        Ok(Self(requirements))
    }

    /// Whether `object` is meant.
    pub(crate) fn matches(&self, object: &Value) -> bool {
        self.0.iter().all(|requirement| requirement.holds(object))
    }
}

impl Requirement {
    fn holds(&self, object: &Value) -> bool {
        let value = match &self.subject {
            Subject::Label(key) => object.pointer("/metadata/labels").and_then(|labels| labels.get(key)),
            Subject::Field(pointer) => object.pointer(pointer),
        };
        let value = value.and_then(Value::as_str);
        match &self.test {
            Test::Is(expected) => value == Some(expected),
            Test::IsNot(unwanted) => value != Some(unwanted),
            Test::Exists => value.is_some(),
            Test::Absent => value.is_none(),
        }
    }
}

fn split(selector: Option<&str>) -> impl Iterator<Item = &str> {
    selector.unwrap_or_default().split(',').map(str::trim).filter(|part| !part.is_empty())
}

fn comparison(part: &str) -> (&str, Test) {
    if let Some((key, value)) = part.split_once("!=") {
        (key, Test::IsNot(value.to_owned()))
    } else if let Some((key, value)) = part.split_once('=') {
        (key, Test::Is(value.strip_prefix('=').unwrap_or(value).to_owned()))
    } else if let Some(key) = part.strip_prefix('!') {
        (key, Test::Absent)
    } else {
        (part, Test::Exists)
    }
}

const FIELDS: [(&str, &str); 2] = [("metadata.name", "/metadata/name"), ("metadata.namespace", "/metadata/namespace")];

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Goal: each form selects as the real server's does. Method: one object, one row a selector.
    #[test]
    fn a_selector_selects_or_is_refused() {
        check("", "", "yes");
        check("app=web", "", "yes");
        check("app==web", "", "yes");
        check("app=web,tier=back", "", "no");
        check("app!=web", "", "no");
        check("tier!=back", "", "yes");
        check("app", "", "yes");
        check("!app", "", "no");
        check("!tier", "metadata.name=web-1", "yes");
        check("", "metadata.name=web-2", "no");
        check("", "metadata.namespace=default", "yes");
        check("", "metadata.namespace!=default", "no");
        check("app in (web)", "", "refused");
        check("", "spec.nodeName=x", "refused");
        check("", "metadata.name", "refused");
    }

    #[track_caller]
    fn check(labels: &str, fields: &str, expected: &str) {
        let object = json!({ "metadata": { "name": "web-1", "namespace": "default", "labels": { "app": "web" } } });
        let got = match Selector::parse(Some(labels), Some(fields)) {
            Ok(selector) if selector.matches(&object) => "yes",
            Ok(_) => "no",
            Err(_) => "refused",
        };
        assert_eq!(got, expected, "{labels} {fields}");
    }
}
