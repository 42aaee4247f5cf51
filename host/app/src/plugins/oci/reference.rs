//! `oci://REGISTRY/REPOSITORY[:TAG]@sha256:DIGEST`: which artifact, and from where.
//!
//! The digest says what is run, so it must be there; a tag is a note for readers, as whoever can push could move it.

use std::fmt;

/// An artifact of a registry, by digest.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Reference {
    /// As it was written.
    text: Box<str>,
    /// `HOST[:PORT]`.
    pub(crate) registry: Box<str>,
    /// `team/name`.
    pub(crate) repository: Box<str>,
    /// Of the manifest.
    pub(crate) digest: Sha256,
}

/// A SHA-256, as 64 lower-case hexadecimal digits.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Sha256(Box<str>);

/// Why a text is not a reference, as a predicate.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum InvalidReference {
    /// It has no digest.
    #[error(
        "has no digest, and whoever can push could put other code behind a tag: write `{without_digest}@sha256:…`, as the registry or \
         `oras resolve` says it"
    )]
    NoDigest {
        /// The reference as far as it goes.
        without_digest: String,
    },
    /// Its digest is none.
    #[error("has a digest that is none: it must be `sha256:` and 64 hexadecimal digits in lower case")]
    Digest,
    /// It is something else.
    #[error("is not a reference: write `oci://REGISTRY/REPOSITORY@sha256:DIGEST`")]
    Form,
}

impl Sha256 {
    /// Of `sha256:` and 64 digits.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix("sha256:")?;
        let is_lower_hex = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        (digits.len() == 64 && digits.as_bytes().iter().all(is_lower_hex)).then(|| Self(digits.into()))
    }

    /// The digits alone.
    pub(crate) fn digits(&self) -> &str {
        &self.0
    }

    /// Whether `bytes` hash to it.
    pub(crate) fn matches(&self, bytes: &[u8]) -> bool {
        *self.0 == *witgate_core::Digest::of(bytes).to_string()
    }
}

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.0)
    }
}

impl Reference {
    /// Takes `text` apart.
    ///
    /// # Errors
    /// When it is none, or has no digest.
    pub(crate) fn parse(text: &str) -> Result<Self, InvalidReference> {
        let rest = text.strip_prefix("oci://").ok_or(InvalidReference::Form)?;
        let (place, digest) = match rest.split_once('@') {
            Some((place, digest)) => (place, Some(digest)),
            None => (rest, None),
        };
        let (registry, path) = place.split_once('/').ok_or(InvalidReference::Form)?;
        let (repository, tag) = match path.rsplit_once(':') {
            Some((repository, tag)) => (repository, Some(tag)),
            None => (path, None),
        };
        let well_formed = is_registry(registry)
            && repository.len() <= REPOSITORY_BYTES_MAX
            && repository.split('/').all(is_component)
            && tag.is_none_or(is_tag);
        if !well_formed {
            return Err(InvalidReference::Form);
        }
        let digest = digest
            .ok_or_else(|| InvalidReference::NoDigest { without_digest: format!("oci://{registry}/{repository}") })?;
        let digest = Sha256::parse(digest).ok_or(InvalidReference::Digest)?;
        Ok(Self { text: text.into(), registry: registry.into(), repository: repository.into(), digest })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// `HOST[:PORT]`, where HOST is a DNS name or an IP address, in brackets if it is of version 6.
fn is_registry(text: &str) -> bool {
    let Ok(authority) = text.parse::<http::uri::Authority>() else { return false };
    let port = authority.as_str().strip_prefix(authority.host());
    let port_is_good = match port {
        Some("") => true,
        Some(port) => port.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok_and(|port| port > 0)),
        None => false,
    };
    let is_name_byte = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'[' | b']' | b':');
    port_is_good && !authority.host().is_empty() && authority.host().bytes().all(is_name_byte)
}

/// Lower-case letters and digits, with `.`, `_` and `-` between them.
fn is_component(text: &str) -> bool {
    let is_alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let ends = text.bytes().next().zip(text.bytes().next_back());
    ends.is_some_and(|(first, last)| is_alphanumeric(first) && is_alphanumeric(last))
        && !text.contains("..")
        && text.bytes().all(|byte| is_alphanumeric(byte) || matches!(byte, b'.' | b'_' | b'-'))
}

fn is_tag(text: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    text.len() <= 128
        && text.bytes().next().is_some_and(is_word)
        && text.bytes().all(|byte| is_word(byte) || matches!(byte, b'.' | b'-'))
}

/// As registries themselves bound it.
const REPOSITORY_BYTES_MAX: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    /// Goal: a reference names registry, repository and digest, and nothing that only looks like it is taken. Method: rows.
    #[test]
    fn a_reference_has_a_digest() {
        let no_digest = |text: &str| Err(InvalidReference::NoDigest { without_digest: text.to_owned() });
        check("oci://registry.example/witgate/rbac@DIGEST", Ok("registry.example witgate/rbac"));
        check("oci://registry.example:5000/rbac:1.2@DIGEST", Ok("registry.example:5000 rbac"));
        check("oci://[::1]:5000/a/b/c_d-e.f@DIGEST", Ok("[::1]:5000 a/b/c_d-e.f"));
        check("oci://registry.example/rbac:1.2", no_digest("oci://registry.example/rbac"));
        check("oci://registry.example/rbac", no_digest("oci://registry.example/rbac"));
        check("oci://registry.example/rbac@sha256:abc", Err(InvalidReference::Digest));
        check("oci://registry.example/rbac@sha512:00", Err(InvalidReference::Digest));
        for text in [
            "",
            "registry.example/rbac@DIGEST",
            "https://registry.example/rbac@DIGEST",
            "oci://rbac@DIGEST",
            "oci:///rbac@DIGEST",
            "oci://registry.example/@DIGEST",
            "oci://registry.example/a//b@DIGEST",
            "oci://registry.example/../b@DIGEST",
            "oci://registry.example/a..b@DIGEST",
            "oci://registry.example/A@DIGEST",
            "oci://registry.example/a?x@DIGEST",
            "oci://registry.example/a b@DIGEST",
            "oci://registry.example/a:@DIGEST",
            "oci://registry.example:0/a@DIGEST",
            "oci://registry.example:x/a@DIGEST",
            "oci://user:password@registry.example/a@DIGEST",
        ] {
            check(text, Err(InvalidReference::Form));
        }
        let upper = format!("oci://registry.example/a@{}", DIGEST.replace('a', "A"));
        check(&upper, Err(InvalidReference::Digest));
    }

    #[track_caller]
    fn check(text: &str, expected: Result<&str, InvalidReference>) {
        let text = text.replace("DIGEST", DIGEST);
        let got = Reference::parse(&text).map(|reference| {
            assert_eq!((reference.to_string(), reference.digest.to_string().as_str()), (text.clone(), DIGEST));
            format!("{} {}", reference.registry, reference.repository)
        });
        assert_eq!(got, expected.map(str::to_owned), "{text}");
    }
}
