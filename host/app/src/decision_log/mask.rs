//! What of a decision nobody is to read: removed, or replaced by a keyed hash that stays the same for the same value.
//!
//! A value that is masked is masked wherever the record repeats it: a masked name in the path too, a masked user in the
//! reason that a policy gave.

use std::borrow::Cow;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use witgate_core::Redacted;
use witgate_proxy::decision::DecisionRecord;

/// What is masked, and how. Masks nothing by default.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Mask {
    rules: Vec<(MaskedField, MaskedAs)>,
    key: Redacted<Vec<u8>>,
}

/// A field that can be masked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum MaskedField {
    User,
    Groups,
    Namespace,
    Name,
    Subpath,
    FieldSelector,
    LabelSelector,
    Path,
    Reason,
}

/// What stands in a masked field's place.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum MaskedAs {
    /// Nothing.
    Removed,
    /// `#` and the first 16 digits of a keyed SHA-256.
    Hashed,
}

impl MaskedField {
    /// All of them.
    pub(crate) const ALL: [Self; 9] = [
        Self::User,
        Self::Groups,
        Self::Namespace,
        Self::Name,
        Self::Subpath,
        Self::FieldSelector,
        Self::LabelSelector,
        Self::Path,
        Self::Reason,
    ];

    /// Its key in the log.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Groups => "groups",
            Self::Namespace => "namespace",
            Self::Name => "name",
            Self::Subpath => "subpath",
            Self::FieldSelector => "fieldSelector",
            Self::LabelSelector => "labelSelector",
            Self::Path => "path",
            Self::Reason => "reason",
        }
    }
}

impl Mask {
    /// Masks by `rules`; hashes are made with `key`.
    pub(crate) const fn new(rules: Vec<(MaskedField, MaskedAs)>, key: Redacted<Vec<u8>>) -> Self {
        Self { rules, key }
    }

    /// The record as it may be read.
    pub(crate) fn apply<'a>(&self, record: &'a DecisionRecord) -> Cow<'a, DecisionRecord> {
        if self.rules.is_empty() {
            return Cow::Borrowed(record);
        }
        let mut masked = record.clone();
        let mut replaced = Vec::new();
        for (field, how) in &self.rules {
            self.mask(&mut masked, *field, *how, &mut replaced);
        }
        let request = &mut masked.request;
        for (value, mask) in &replaced {
            for text in [&mut request.subpath, &mut request.path] {
                *text = without(text, value, mask).into();
            }
            for text in
                [&mut request.field_selector, &mut request.label_selector, &mut masked.reason].into_iter().flatten()
            {
                *text = without(text, value, mask);
            }
        }
        Cow::Owned(masked)
    }

    fn mask(
        &self,
        record: &mut DecisionRecord,
        field: MaskedField,
        how: MaskedAs,
        replaced: &mut Vec<(String, String)>,
    ) {
        let mut mask = |value: &str| {
            let mask = match how {
                MaskedAs::Removed => String::new(),
                MaskedAs::Hashed => self.hash(value),
            };
            replaced.push((value.to_owned(), if mask.is_empty() { "…".to_owned() } else { mask.clone() }));
            mask
        };
        let removed = how == MaskedAs::Removed;
        let request = &mut record.request;
        match field {
            MaskedField::User => record.user = record.user.take().map(|user| mask(&user).into()).filter(|_| !removed),
            MaskedField::Groups => {
                let groups =
                    record.groups.take().map(|groups| groups.iter().map(|group| mask(group)).collect::<Vec<_>>());
                record.groups = groups.filter(|_| !removed).map(Arc::from);
            }
            MaskedField::Namespace | MaskedField::Name | MaskedField::Subpath | MaskedField::Path => {
                let text = match field {
                    MaskedField::Namespace => &mut request.namespace,
                    MaskedField::Name => &mut request.name,
                    MaskedField::Subpath => &mut request.subpath,
                    _ => &mut request.path,
                };
                if !text.is_empty() {
                    *text = mask(text).into();
                }
            }
            MaskedField::FieldSelector | MaskedField::LabelSelector | MaskedField::Reason => {
                let text = match field {
                    MaskedField::FieldSelector => &mut request.field_selector,
                    MaskedField::LabelSelector => &mut request.label_selector,
                    _ => &mut record.reason,
                };
                *text = text.take().map(|text| mask(&text)).filter(|_| !removed);
            }
        }
    }

    fn hash(&self, value: &str) -> String {
        let mut hash = Sha256::new();
        // The key behind its length, so that no key and value are another key and value.
        hash.update((self.key.expose().len() as u64).to_be_bytes());
        hash.update(self.key.expose());
        hash.update(value.as_bytes());
        let digits = hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect::<String>();
        format!("#{digits}")
    }
}

/// `text` with `mask` wherever `value` stands as a word of its own.
fn without(text: &str, value: &str, mask: &str) -> String {
    let is_word = |character: char| character.is_alphanumeric() || matches!(character, '-' | '_');
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(value).filter(|_| !value.is_empty()) {
        let (before, from) = rest.split_at(at);
        let after = from.get(value.len()..).unwrap_or_default();
        let begins = !before.chars().next_back().or_else(|| out.chars().next_back()).is_some_and(is_word);
        let ends = !after.chars().next().is_some_and(is_word);
        out.push_str(before);
        out.push_str(if begins && ends { mask } else { value });
        rest = after;
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a value is masked where it is a word, and nowhere inside another. Method: rows.
    #[test]
    fn a_value_is_masked_as_a_word() {
        check("/api/v1/namespaces/dev/pods/p", "p", "/api/v1/namespaces/dev/pods/#");
        check("/api/v1/namespaces/dev/pods/p", "dev", "/api/v1/namespaces/#/pods/p");
        check("metadata.name=web", "web", "metadata.name=#");
        check("web-1 is not web", "web", "web-1 is not #");
        check("webweb web", "web", "webweb #");
        check("", "web", "");
        check("anything", "", "anything");
    }

    #[track_caller]
    fn check(text: &str, value: &str, expected: &str) {
        assert_eq!(without(text, value, "#"), expected);
    }

    /// Goal: a hash depends on its key, and on nothing else but the value. Method: two keys, two values.
    #[test]
    fn a_hash_is_keyed() {
        let with = |key: &str| Mask::new(Vec::new(), Redacted::new(key.as_bytes().to_vec()));
        assert_eq!(with("a").hash("jane"), with("a").hash("jane"));
        assert_ne!(with("a").hash("jane"), with("b").hash("jane"));
        assert_ne!(with("a").hash("jane"), with("a").hash("john"));
        assert_ne!(with("a").hash("bc"), with("ab").hash("c"));
        assert_eq!(with("a").hash("jane").len(), 17);
    }
}
