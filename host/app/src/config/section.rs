//! Reads typed values out of a YAML tree, and says what is wrong with those that do not fit.
//!
//! Why not derived deserializers: those stop at the first problem and put the value
//! into the message. Here all problems of a file are gathered, each with its line,
//! and a value that is secret, or that came from a variable or a file, is never shown.
//! Variables are filled in when a value is asked for, so that a key that nobody asks
//! for needs none.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use witgate_core::Redacted;

use super::document::{Entry, Node, Value};
use super::interpolation::{self, Environment};
use super::report::Report;
use super::suggestion::closest;

/// What reading one file needs to know.
pub(super) struct Scope<'a> {
    pub(super) report: &'a Report,
    /// Where relative paths begin.
    pub(super) folder: &'a Path,
    /// For `~`, and for variables where they are filled in.
    pub(super) environment: Environment<'a>,
    pub(super) variables: Variables,
}

/// Whether `${VAR}`, `$env` and `$file` mean something.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(super) enum Variables {
    Filled,
    /// In a kubeconfig they are text.
    AsWritten,
}

/// Whose manners a section has.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(super) enum Dialect {
    /// Ours: a key without a value is a problem, and only `true` and `false` are booleans.
    Witgate,
    /// Backstage's, and Kubernetes': a key without a value is absent, and `"yes"` is a boolean too.
    Backstage,
}

/// One value, where it stands, and how to speak of it.
#[derive(Clone)]
pub(super) struct Field<'a> {
    scope: &'a Scope<'a>,
    dialect: Dialect,
    pub(super) path: String,
    pub(super) line: u64,
    node: &'a Node,
}

/// Text with how it may be shown.
pub(super) struct Text {
    pub(super) text: String,
    /// `` `…` `` as written in the file, or ``the value of `${VAR}` ``.
    pub(super) shown: String,
    /// Whether it stands in the file as it is.
    pub(super) literal: bool,
    /// The file that it came from.
    pub(super) file: Option<PathBuf>,
}

/// A map, of which each key is asked for once.
pub(super) struct Section<'a> {
    pub(super) field: Field<'a>,
    entries: &'a [Entry],
    asked: RefCell<BTreeSet<&'static str>>,
}

impl<'a> Field<'a> {
    /// The whole of a document.
    pub(super) const fn root(scope: &'a Scope<'a>, node: &'a Node) -> Self {
        Self { scope, dialect: Dialect::Witgate, path: String::new(), line: node.line, node }
    }

    /// This value, to be read with other manners.
    pub(super) fn in_dialect(self, dialect: Dialect) -> Self {
        Self { dialect, ..self }
    }

    /// What reading this file needs to know.
    pub(super) const fn scope(&self) -> &'a Scope<'a> {
        self.scope
    }

    /// Reports something that a start refuses.
    pub(super) fn problem(&self, text: impl Display) {
        self.scope.report.problem(self.line, &self.path, text);
    }

    /// Reports something to know.
    pub(super) fn note(&self, text: impl Display) {
        self.scope.report.note(self.line, &self.path, text);
    }

    /// File, line and key.
    pub(super) fn place(&self) -> String {
        self.scope.report.place(self.line, &self.path)
    }

    /// The text, filled in; none where a problem was reported.
    pub(super) fn text(&self) -> Option<Text> {
        self.read_text(true)
    }

    /// The text of a key that may hold a secret: never shown. None where a problem was reported.
    pub(super) fn secret(&self) -> Option<(Redacted<String>, Option<PathBuf>)> {
        self.read_text(false).map(|text| (Redacted::new(text.text), text.file))
    }

    fn read_text(&self, may_show: bool) -> Option<Text> {
        let wrong_kind = || {
            let quote = matches!(self.node.value, Value::Number(_) | Value::Boolean(_));
            let hint = if quote { "; put it in quotes" } else { "" };
            if may_show {
                self.problem(format_args!("{}; it must be text{hint}", self.shown()));
            } else {
                self.problem(format_args!("{} is not text{hint}", self.node.value.kind()));
            }
        };
        let text = match &self.node.value {
            Value::Text(raw) if self.scope.variables == Variables::AsWritten => {
                Text { text: raw.clone(), shown: quoted(raw), literal: true, file: None }
            }
            Value::Text(raw) => match interpolation::fill(raw, self.scope.environment) {
                Ok(filled) if filled.changed => Text {
                    text: filled.text,
                    // What surrounds the variables may be secret too, in a key that is not known as such.
                    shown: format!("the value of {}", quoted(raw)),
                    literal: false,
                    file: None,
                },
                Ok(filled) => Text { text: filled.text, shown: quoted(raw), literal: true, file: None },
                Err(why) => {
                    self.problem(why);
                    return None;
                }
            },
            Value::Map(entries) if self.scope.variables == Variables::Filled => match self.include(entries) {
                Some(included) => included?,
                None => {
                    wrong_kind();
                    return None;
                }
            },
            Value::Null | Value::Boolean(_) | Value::Number(_) | Value::List(_) | Value::Map(_) => {
                wrong_kind();
                return None;
            }
        };
        if text.text.is_empty() {
            if text.literal {
                self.problem("is empty text")
            } else {
                self.problem(format_args!("{} is empty", text.shown))
            }
            return None;
        }
        Some(text)
    }

    /// `$env`, `$file`: none where this is neither; some none where a problem was reported.
    fn include(&self, entries: &[Entry]) -> Option<Option<Text>> {
        let include = entries.iter().find(|entry| matches!(entry.key.as_str(), "$env" | "$file" | "$include"))?;
        let field = self.child(&include.key, include.line, &include.node);
        if entries.len() > 1 {
            field.problem(format_args!("`{}` must be the only key of its map", include.key));
            return Some(None);
        }
        if include.key == "$include" {
            field.problem("`$include` is not supported; use `$file` for one text, or write the keys here");
            return Some(None);
        }
        let Some(target) = field.text() else { return Some(None) };
        let read = if include.key == "$env" {
            interpolation::variable_named(&target.text, self.scope.environment).map(|text| (text, None))
        } else {
            let path = self.scope.resolve(&target.text);
            self.scope.report.reads(path.clone());
            interpolation::file_text(path, Path::new(&target.text)).map(|(text, path)| (text, Some(path)))
        };
        Some(match read {
            Ok((text, file)) => Some(Text {
                text,
                shown: format!("the value of `{}: {}`", include.key, target.text.escape_debug()),
                literal: false,
                file,
            }),
            Err(why) => {
                field.problem(why);
                None
            }
        })
    }

    /// A value of `authMetadata`: text, or a scalar as text. None where it is absent or a problem was reported.
    pub(super) fn metadata_value(&self) -> Option<String> {
        match &self.node.value {
            Value::Null => None,
            Value::Boolean(value) => Some(value.to_string()),
            Value::Number(value) => Some(value.clone()),
            Value::Text(_) | Value::Map(_) => self.secret().map(|(text, _)| text.into_exposed()),
            Value::List(_) => {
                self.problem("is a list; a value of authMetadata must be text");
                None
            }
        }
    }

    /// A boolean; none where a problem was reported.
    pub(super) fn boolean(&self) -> Option<bool> {
        match &self.node.value {
            Value::Boolean(value) => return Some(*value),
            Value::Text(_) | Value::Map(_) => {
                let text = self.text()?;
                let words = self.dialect == Dialect::Backstage;
                match text.text.to_ascii_lowercase().as_str() {
                    "true" if words || !text.literal => return Some(true),
                    "false" if words || !text.literal => return Some(false),
                    "y" | "yes" | "on" | "1" if words => return Some(true),
                    "n" | "no" | "off" | "0" if words => return Some(false),
                    _ => self.problem(format_args!("{} is text; write `true` or `false`, without quotes", text.shown)),
                }
            }
            Value::Null | Value::Number(_) | Value::List(_) => {
                self.problem(format_args!("{}; it must be `true` or `false`", self.shown()));
            }
        }
        None
    }

    /// A time in milliseconds, within `bounds`; none where a problem was reported.
    pub(super) fn milliseconds(&self, bounds: RangeInclusive<u64>) -> Option<Duration> {
        let given = match &self.node.value {
            Value::Number(value) => value.parse().ok().filter(|given| bounds.contains(given)),
            Value::Null | Value::Boolean(_) | Value::Text(_) | Value::List(_) | Value::Map(_) => None,
        };
        if given.is_none() {
            let (least, most) = (bounds.start(), bounds.end());
            self.problem(format_args!("{}; it must be whole milliseconds between {least} and {most}", self.shown()));
        }
        given.map(Duration::from_millis)
    }

    /// A whole number within `bounds`; none where a problem was reported.
    pub(super) fn count(&self, bounds: RangeInclusive<usize>) -> Option<usize> {
        let given = match &self.node.value {
            Value::Number(value) => value.parse().ok().filter(|given| bounds.contains(given)),
            Value::Null | Value::Boolean(_) | Value::Text(_) | Value::List(_) | Value::Map(_) => None,
        };
        if given.is_none() {
            let (least, most) = (bounds.start(), bounds.end());
            self.problem(format_args!("{}; it must be a whole number between {least} and {most}", self.shown()));
        }
        given
    }

    /// A share between 0 and 1; none where a problem was reported.
    pub(super) fn ratio(&self) -> Option<f64> {
        let given = match &self.node.value {
            Value::Number(value) => value.parse().ok().filter(|given| (0.0..=1.0).contains(given)),
            Value::Null | Value::Boolean(_) | Value::Text(_) | Value::List(_) | Value::Map(_) => None,
        };
        if given.is_none() {
            self.problem(format_args!("{}; it must be a number between 0 and 1", self.shown()));
        }
        given
    }

    /// A path, with `~` and relative ones resolved; none where a problem was reported.
    pub(super) fn path(&self) -> Option<(PathBuf, Text)> {
        let text = self.text()?;
        if text.text.contains('\0') {
            self.problem("holds a zero byte");
            return None;
        }
        if (text.text == "~" || text.text.starts_with("~/")) && (self.scope.environment)("HOME").is_none() {
            self.problem(format_args!(
                "{} begins with `~`, but the environment variable `HOME` is not set",
                text.shown
            ));
            return None;
        }
        Some((self.scope.resolve(&text.text), text))
    }

    /// The values of a list; none where a problem was reported.
    pub(super) fn list(&self) -> Option<Vec<Self>> {
        let Value::List(items) = &self.node.value else {
            // Whatever stands here, it may be a secret that was put into the wrong place.
            self.problem(format_args!("is {}; it must be a list (`- …`)", self.node.value.kind()));
            return None;
        };
        let item = |(index, node): (usize, &'a Node)| Self {
            scope: self.scope,
            dialect: self.dialect,
            path: format!("{}[{index}]", self.path),
            line: node.line,
            node,
        };
        Some(items.iter().enumerate().map(item).collect())
    }

    /// The texts of a list, without those that are problems; none where it is no list.
    pub(super) fn texts(&self) -> Option<Vec<String>> {
        Some(self.list()?.iter().filter_map(Self::text).map(|text| text.text).collect())
    }

    /// The keys of a map; none where a problem was reported.
    pub(super) fn section(&self) -> Option<Section<'a>> {
        let Value::Map(entries) = &self.node.value else {
            self.problem(format_args!("is {}; it must be a map (`key: value`)", self.node.value.kind()));
            return None;
        };
        Some(Section { field: self.clone(), entries, asked: RefCell::default() })
    }

    /// A key and value of this one.
    fn child(&self, key: &str, line: u64, node: &'a Node) -> Self {
        let key: String = key.chars().take(SHOWN_CHARS_MAX).flat_map(char::escape_debug).collect();
        let path = if self.path.is_empty() { key } else { format!("{}.{key}", self.path) };
        Self { scope: self.scope, dialect: self.dialect, path, line, node }
    }

    /// The value as JSON, as it is written: variables are not filled in.
    pub(super) fn as_json(&self) -> serde_json::Value {
        self.node.value.to_json()
    }

    /// Whether it is a map of keys, and not an include (`$env`, `$file`).
    pub(super) fn is_map(&self) -> bool {
        matches!(&self.node.value, Value::Map(entries) if !entries.iter().any(|entry| entry.key.starts_with('$')))
    }

    /// Whether there is no value.
    pub(super) fn is_null(&self) -> bool {
        matches!(self.node.value, Value::Null)
    }

    /// The value with its kind, as far as it may be shown: `` `yes` is text ``.
    fn shown(&self) -> String {
        match &self.node.value {
            Value::Boolean(value) => format!("`{value}` is a boolean"),
            Value::Number(value) => format!("`{value}` is a number"),
            Value::Text(value) => format!("{} is text", quoted(value)),
            other @ (Value::Null | Value::List(_) | Value::Map(_)) => format!("is {}", other.kind()),
        }
    }
}

impl<'a> Section<'a> {
    /// The value of `key`, where there is one.
    pub(super) fn optional(&self, key: &'static str) -> Option<Field<'a>> {
        self.asked.borrow_mut().insert(key);
        let entry = self.entries.iter().find(|entry| entry.key == key)?;
        let field = self.field.child(key, entry.line, &entry.node);
        if field.is_null() {
            if field.dialect == Dialect::Witgate {
                field.problem("is empty; give it a value or remove the key");
            }
            return None;
        }
        Some(field)
    }

    /// The value of `key`; where there is none, a problem that says `what` it is for.
    pub(super) fn required(&self, key: &'static str, what: &str) -> Option<Field<'a>> {
        let field = self.optional(key);
        let named = self.entries.iter().any(|entry| entry.key == key);
        if field.is_none() && !(named && self.field.dialect == Dialect::Witgate) {
            self.field.problem(format_args!("`{key}` is missing: {what}"));
        }
        field
    }

    /// Whether `key` is written, with a value or without.
    pub(super) fn has(&self, key: &'static str) -> bool {
        self.entries.iter().any(|entry| entry.key == key)
    }

    /// All keys with their values, for maps whose keys are the user's.
    pub(super) fn all(&self) -> impl Iterator<Item = (&'a str, Field<'a>)> + '_ {
        self.entries.iter().map(|entry| (entry.key.as_str(), self.field.child(&entry.key, entry.line, &entry.node)))
    }

    /// The fields of the keys that nobody asked for, each with the word it may have meant.
    pub(super) fn rest(&self) -> Vec<(&'a str, Field<'a>, Option<&'static str>)> {
        let asked = self.asked.borrow();
        let words: Vec<&'static str> = asked.iter().copied().collect();
        self.all()
            .filter(|(key, _)| !asked.contains(key))
            .map(|(key, field)| (key, field, closest(key, &words)))
            .collect()
    }

    /// Reports keys that nobody asked for as problems.
    pub(super) fn refuse_rest(&self) {
        for (_, field, meant) in self.rest() {
            match meant {
                Some(word) => field.problem(format_args!("unknown key; did you mean `{word}`?")),
                None => field.problem(format_args!("unknown key; known here: {}", self.known())),
            }
        }
    }

    /// Reports keys that nobody asked for as ignored.
    pub(super) fn ignore_rest(&self) {
        for (_, field, meant) in self.rest() {
            match meant {
                Some(word) => {
                    field.note(format_args!("ignored: witgate does not serve this key; did you mean `{word}`?"))
                }
                None => field.note("ignored: witgate does not serve this key"),
            }
        }
    }

    /// The keys that were asked for, for messages.
    pub(super) fn known(&self) -> String {
        self.asked.borrow().iter().copied().collect::<Vec<_>>().join(", ")
    }
}

impl Scope<'_> {
    /// Where a path of this file leads.
    fn resolve(&self, path: &str) -> PathBuf {
        let home = match path.strip_prefix("~/") {
            Some(rest) => Some(rest),
            None if path == "~" => Some(""),
            None => None,
        };
        let path = match (home, (self.environment)("HOME")) {
            (Some(rest), Some(home)) => Path::new(&home).join(rest),
            _ => self.folder.join(path),
        };
        path.components().collect() // without `./`
    }
}

/// `` `text` `` without control characters, cut where it is long.
fn quoted(text: &str) -> String {
    let cut: String = text.chars().take(SHOWN_CHARS_MAX).flat_map(char::escape_debug).collect();
    let more = if text.chars().nth(SHOWN_CHARS_MAX).is_some() { "…" } else { "" };
    format!("`{cut}{more}`")
}

/// How much of a value a message shows.
const SHOWN_CHARS_MAX: usize = 80;
