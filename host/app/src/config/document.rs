//! YAML as a tree that remembers its lines.
//!
//! It knows no key and no meaning. The tree has no `Debug`, and an error holds no
//! piece of the text, because both could show a secret.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_saphyr::budget::BudgetBreach;
use serde_saphyr::{DuplicateKeyPolicy, MessageFormatter as _, Spanned};

/// One value, with the line where it stands.
pub(super) struct Node {
    pub(super) line: u64,
    pub(super) value: Value,
}

/// What a value is.
pub(super) enum Value {
    Null,
    Boolean(bool),
    /// A number, as text: no key of ours is computed with.
    Number(String),
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

impl Value {
    /// The same as JSON. A number that JSON does not know is text.
    pub(super) fn to_json(&self) -> serde_json::Value {
        match self {
            Self::Null => serde_json::Value::Null,
            Self::Boolean(value) => (*value).into(),
            Self::Number(number) => {
                let number = serde_json::from_str::<serde_json::Number>(number).map_err(|_| number.clone());
                number.map_or_else(serde_json::Value::from, serde_json::Value::Number)
            }
            Self::Text(text) => text.as_str().into(),
            Self::List(items) => items.iter().map(|item| item.value.to_json()).collect(),
            Self::Map(entries) => {
                let entries = entries.iter().map(|entry| (entry.key.clone(), entry.node.value.to_json()));
                serde_json::Value::Object(entries.collect())
            }
        }
    }
}

/// One key of a map, with its value.
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) line: u64,
    pub(super) node: Node,
}

/// Why a text is not YAML that we read.
pub(super) struct DocumentError {
    /// The line, 0 where it is not known.
    pub(super) line: u64,
    pub(super) message: String,
}

/// Reads one YAML document.
///
/// `{ file: - }` is read as `{ file: '-' }`: strict YAML has no such text, but people write it.
///
/// # Errors
/// On a syntax error, a key that stands twice in one map, a second document, or a limit that is reached.
pub(super) fn parse(text: &str) -> Result<Node, DocumentError> {
    let mut text = Cow::Borrowed(text);
    for _ in 0..LONE_DASHES_MAX {
        match parse_strictly(&text) {
            Ok(root) => return Ok(root),
            Err(error) => match quote_lone_dash(&text, &error) {
                Some(quoted) => text = Cow::Owned(quoted),
                None => break,
            },
        }
    }
    parse_strictly(&text).map_err(|error| DocumentError {
        line: error.location().map_or(0, |location| location.line()),
        message: message(&error),
    })
}

fn parse_strictly(text: &str) -> Result<Node, serde_saphyr::Error> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: DEPTH_MAX,
            max_nodes: NODES_MAX,
            max_aliases: ALIASES_MAX,
            max_documents: 1,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: NODES_MAX,
        },
        duplicate_keys: DuplicateKeyPolicy::Error,
        // As Backstage reads YAML: `yes` and `on` are text.
        strict_booleans: true,
        // A snippet would repeat the lines around an error, tokens included.
        with_snippet: false,
    };
    let root: Spanned<Value> = serde_saphyr::from_str_with_options(text, options)?;
    Ok(Node { line: root.referenced.line(), value: root.value })
}

/// The text with the `-` in quotes at which the parser stopped, if one stands there alone.
fn quote_lone_dash(text: &str, error: &serde_saphyr::Error) -> Option<String> {
    let location = error.location()?;
    let message = serde_saphyr::DefaultMessageFormatter.format_message(error.without_snippet());
    if !message.contains(LONE_DASH) {
        return None;
    }
    let (line, column) = (usize::try_from(location.line()).ok()?, usize::try_from(location.column()).ok()?);
    let start = text.split_inclusive('\n').take(line.checked_sub(1)?).map(str::len).sum::<usize>();
    let rest = text.get(start..)?;
    let dash = start + rest.char_indices().nth(column.checked_sub(1)?)?.0;
    let (before, after) = (text.get(..dash)?, text.get(dash..)?.strip_prefix('-')?);
    Some(format!("{before}'-'{after}"))
}

/// What is wrong, in words for the writer of the file.
fn message(error: &serde_saphyr::Error) -> String {
    use serde_saphyr::Error;
    match error {
        Error::AliasError { error, .. } | Error::WithSnippet { error, .. } => message(error),
        Error::DuplicateMappingKey { key: Some(key), .. } => {
            format!("the key `{}` stands twice in one map", key.escape_debug())
        }
        Error::DuplicateMappingKey { key: None, .. } => "a key stands twice in one map".to_owned(),
        Error::Budget { breach: BudgetBreach::Documents { .. }, .. } | Error::MultipleDocuments { .. } => {
            "a second document (`---`) begins here; the file must be one document".to_owned()
        }
        Error::Budget { breach: BudgetBreach::Depth { .. }, .. } => {
            format!("maps and lists stand more than {DEPTH_MAX} deep in one another")
        }
        Error::Budget { .. } | Error::AliasReplayLimitExceeded { .. } | Error::AliasReplayStackDepthExceeded { .. } => {
            format!("the document is too large; with its aliases written out, it may have {NODES_MAX} values")
        }
        Error::NonFiniteFloat { .. } => "a number here is not finite; put it in quotes if it is text".to_owned(),
        other => format!("not YAML: {}", serde_saphyr::DefaultMessageFormatter.format_message(other)),
    }
}

impl Value {
    /// The kind, for messages.
    pub(super) const fn kind(&self) -> &'static str {
        match self {
            Self::Null => "empty",
            Self::Boolean(_) => "a boolean",
            Self::Number(_) => "a number",
            Self::Text(_) => "text",
            Self::List(_) => "a list",
            Self::Map(_) => "a map",
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        Value::deserialize(deserializer)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Boolean(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.to_string()))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.to_string()))
    }

    fn visit_i128<E: Error>(self, value: i128) -> Result<Value, E> {
        Ok(Value::Number(value.to_string()))
    }

    fn visit_u128<E: Error>(self, value: u128) -> Result<Value, E> {
        Ok(Value::Number(value.to_string()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Number(value.to_string()))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.to_owned()))
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Value, E> {
        Ok(Value::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element::<Spanned<Value>>()? {
            list.push(Node { line: item.referenced.line(), value: item.value });
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Vec::new();
        while let Some(key) = entries.next_key::<Spanned<String>>()? {
            let node = entries.next_value::<Spanned<Value>>()?;
            map.push(Entry {
                key: key.value,
                line: key.referenced.line(),
                node: Node { line: node.referenced.line(), value: node.value },
            });
        }
        Ok(Value::Map(map))
    }
}

/// What the parser says of `{ file: - }`.
const LONE_DASH: &str = "\"-\" is only valid inside a block";

/// How many of those a document may have.
const LONE_DASHES_MAX: usize = 8;

/// How deep maps and lists may stand in one another.
const DEPTH_MAX: usize = 32;

/// How many values a document may have, aliases written out.
const NODES_MAX: usize = 100_000;

/// How many aliases a document may have.
const ALIASES_MAX: usize = 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a lone dash in a flow map is text, and anything else about dashes is YAML's. Method: rows.
    #[test]
    fn a_lone_dash_is_text() {
        check("decisionLog: { file: - }", "{decisionLog:{file:-}}");
        check("x: 1\nä: { ö: - , b: [ - ] }", "{x:1,ä:{ö:-,b:[-]}}");
        check("a:\n  - -1\n  - '-'\n  - - x", "{a:[-1,-,[x]]}");
        check("a: { b: - c }", "error in line 1");
        check(&format!("[{}]", "- ,".repeat(LONE_DASHES_MAX + 1)), "error in line 1");
    }

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let got = parse(text).map_or_else(|error| format!("error in line {}", error.line), |root| written(&root.value));
        assert_eq!(got, expected);
    }

    fn written(value: &Value) -> String {
        match value {
            Value::Null => "null".to_owned(),
            Value::Boolean(value) => value.to_string(),
            Value::Number(value) | Value::Text(value) => value.clone(),
            Value::List(items) => {
                let items: Vec<_> = items.iter().map(|item| written(&item.value)).collect();
                format!("[{}]", items.join(","))
            }
            Value::Map(entries) => {
                let entries: Vec<_> =
                    entries.iter().map(|entry| format!("{}:{}", entry.key, written(&entry.node.value))).collect();
                format!("{{{}}}", entries.join(","))
            }
        }
    }
}
