//! By what a credential is found again: a digest of all that its strategy was shown.
//!
//! The digest begins with a secret that each process makes for itself, so the cache holds no token and nothing that
//! a token could be guessed from.

use std::collections::BTreeMap;

use rustls::crypto::SecureRandom;
use sha2::{Digest as _, Sha256};
use witgate_core::{Redacted, RequestAuth, UserInfo};

/// What makes this process's keys its own.
#[derive(Clone)]
pub(super) struct KeySecret(Redacted<[u8; 32]>);

impl KeySecret {
    /// A new one.
    pub(super) fn generate() -> Self {
        let mut bytes = [0; 32];
        let random: &dyn SecureRandom = rustls::crypto::aws_lc_rs::default_provider().secure_random;
        random.fill(&mut bytes).expect("the operating system gives randomness");
        Self(Redacted::new(bytes))
    }
}

/// One key. It does not print: nobody could use it.
#[derive(Clone, Copy, Eq, Hash, PartialEq)]
pub(super) struct Key([u8; 32]);

impl Key {
    /// The key of one request, as its strategy is shown it.
    pub(super) fn of(secret: &KeySecret, request_auth: &RequestAuth, caller: Option<&UserInfo>) -> Self {
        let mut fields = Fields(Sha256::new());
        fields.0.update(secret.0.expose());
        fields.count(request_auth.entries().len());
        for entry in request_auth.entries() {
            fields.text(&entry.provider);
            fields.optional(entry.sub_provider.as_deref());
            fields.text(entry.value.expose());
        }
        fields.count(usize::from(caller.is_some()));
        if let Some(UserInfo { name, uid, groups, extra }) = caller {
            fields.text(name);
            fields.optional(uid.as_deref());
            fields.texts(groups);
            fields.texts_by_name(extra);
        }
        Self(fields.0.finalize().into())
    }
}

/// Hashes values so that no two different lists of them are the same bytes: each goes behind its length.
struct Fields(Sha256);

impl Fields {
    fn count(&mut self, count: usize) {
        self.0.update((count as u64).to_be_bytes());
    }

    fn text(&mut self, text: &str) {
        self.count(text.len());
        self.0.update(text.as_bytes());
    }

    fn optional(&mut self, text: Option<&str>) {
        self.count(usize::from(text.is_some()));
        text.into_iter().for_each(|text| self.text(text));
    }

    fn texts(&mut self, texts: &[String]) {
        self.count(texts.len());
        texts.iter().for_each(|text| self.text(text));
    }

    fn texts_by_name(&mut self, texts: &BTreeMap<String, Vec<String>>) {
        self.count(texts.len());
        for (name, texts) in texts {
            self.text(name);
            self.texts(texts);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use witgate_core::RequestAuthEntry;

    use super::*;

    fn tokens(entries: &[(&str, Option<&str>, &str)]) -> RequestAuth {
        let mut tokens = RequestAuth::none();
        for (provider, sub_provider, value) in entries {
            let entry = RequestAuthEntry {
                provider: (*provider).to_owned(),
                sub_provider: sub_provider.map(str::to_owned),
                value: Redacted::new((*value).to_owned()),
            };
            tokens.insert(entry).unwrap();
        }
        tokens
    }

    /// Goal: whatever differs in what a strategy is shown is another key. Method: neighbours that only lengths tell apart,
    /// with and without a caller; all keys differ, and each is the same when asked again.
    #[test]
    fn keys_never_meet() {
        let secret = KeySecret::generate();
        let all_tokens = [
            tokens(&[]),
            tokens(&[("oidc", None, "ab")]),
            tokens(&[("oidc", Some("a"), "b")]),
            tokens(&[("oidc", Some(""), "ab")]),
            tokens(&[("oidca", None, "b")]),
            tokens(&[("oidc", None, "a"), ("b", None, "")]),
            tokens(&[("b", None, ""), ("oidc", None, "a")]),
        ];
        let user = |name: &str, uid: Option<&str>, groups: &[&str], extra: &[(&str, &[&str])]| {
            Some(UserInfo {
                name: name.to_owned(),
                uid: uid.map(str::to_owned),
                groups: groups.iter().map(|group| (*group).to_owned()).collect(),
                extra: extra
                    .iter()
                    .map(|(name, values)| {
                        ((*name).to_owned(), values.iter().map(|value| (*value).to_owned()).collect())
                    })
                    .collect(),
            })
        };
        let callers = [
            None,
            user("", None, &[], &[]),
            user("ab", None, &[], &[]),
            user("a", Some("b"), &[], &[]),
            user("a", None, &["b"], &[]),
            user("a", None, &["b", ""], &[]),
            user("a", None, &["", "b"], &[]),
            user("a", None, &[], &[("b", &[])]),
            user("a", None, &[], &[("b", &[""])]),
            user("a", None, &[], &[("", &["b"])]),
        ];
        let mut seen = HashSet::new();
        for tokens in &all_tokens {
            for caller in &callers {
                let key = Key::of(&secret, tokens, caller.as_ref());
                assert!(seen.insert(key.0), "{tokens:?} {caller:?}");
                assert!(Key::of(&secret, tokens, caller.as_ref()) == key);
            }
        }
        assert!(
            !seen.contains(&Key::of(&KeySecret::generate(), &all_tokens[1], None).0),
            "another process, another key"
        );
    }
}
