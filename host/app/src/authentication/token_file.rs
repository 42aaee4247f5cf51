//! Callers by a file of tokens: for machines, tests and small teams.
//!
//! ```yaml
//! - { token: "…", user: "user:default/jane", groups: [dev] }
//! - { sha256: "64 hexadecimal digits", user: ci, groups: [], uid: "7", extra: { team: [build] } }
//! ```
//! Only digests are kept. Names under `system:` are taken as they stand: the file is
//! the operator's, like the configuration beside it.
//!
//! Promise: no message about the file repeats anything out of it but line numbers.

use std::collections::{BTreeMap, HashMap};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;
use serde_saphyr::Spanned;
use witgate_core::{Redacted, UserInfo};

use super::now::Now;
use super::reread::Reread;
use super::token_digest::TokenDigest;

/// Believes the tokens of one file.
#[derive(Debug)]
pub(super) struct TokenFile {
    users: Reread<Users>,
}

type Users = HashMap<TokenDigest, Arc<UserInfo>>;

impl TokenFile {
    /// Reads `path`. Blocks.
    ///
    /// # Errors
    /// When it cannot be read, or an entry is not what it should be.
    pub(super) fn open(path: &Path) -> anyhow::Result<Self> {
        let users = Reread::open(path, FILE_BYTES_MAX, parse)?;
        if std::fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o004 != 0) {
            tracing::warn!(path = %path.display(), "everybody on this machine can read the token file; `chmod o-r` it");
        }
        Ok(Self { users })
    }

    /// Who brought this token.
    pub(super) async fn find(&self, digest: &TokenDigest, now: Now) -> Option<Arc<UserInfo>> {
        self.users.refresh(now).await;
        self.users.current().get(digest).cloned()
    }
}

/// One entry as written. Everything is optional here, so that what is missing is said by line.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawEntry {
    token: Option<Redacted<String>>,
    sha256: Option<Redacted<String>>,
    user: Option<String>,
    #[serde(default)]
    groups: Vec<String>,
    uid: Option<String>,
    #[serde(default)]
    extra: BTreeMap<String, Vec<String>>,
}

impl RawEntry {
    fn read(self) -> Result<(TokenDigest, UserInfo), &'static str> {
        let digest = match (self.token, self.sha256) {
            (Some(token), None) => {
                let token = token.expose();
                // Others could not be sent in an `Authorization` header.
                if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
                    return Err("`token` must be visible ASCII without spaces");
                }
                TokenDigest::of(token)
            }
            (None, Some(digits)) => TokenDigest::from_hex(digits.expose())
                .ok_or("`sha256` must be the 64 hexadecimal digits of the token's SHA-256")?,
            _ => return Err("needs one of `token` and `sha256`"),
        };
        let name = self.user.ok_or("needs `user`, a name")?;
        let values = self.extra.iter().flat_map(|(key, values)| std::iter::once(key).chain(values));
        if ![&name].into_iter().chain(&self.groups).chain(&self.uid).chain(values).all(|text| usable(text)) {
            return Err("names must not be empty nor hold control characters");
        }
        Ok((digest, UserInfo { name, uid: self.uid, groups: self.groups, extra: self.extra }))
    }
}

fn usable(text: &str) -> bool {
    !text.trim().is_empty() && !text.chars().any(char::is_control)
}

fn parse(content: &[u8]) -> anyhow::Result<Users> {
    let options = serde_saphyr::options! { with_snippet: false };
    let entries: Vec<Spanned<RawEntry>> = serde_saphyr::from_slice_with_options(content, options).map_err(|error| {
        // The parser's own text quotes what it met, and that may be a token.
        let place = error.location().map_or_else(String::new, |at| format!("line {}: ", at.line()));
        anyhow::anyhow!(
            "{place}is not a list of `{{ token: … | sha256: …, user: …, groups: […], uid: …, extra: {{…}} }}`"
        )
    })?;
    let mut users = Users::with_capacity(entries.len());
    let mut lines: HashMap<TokenDigest, u64> = HashMap::with_capacity(entries.len());
    let mut problems = Vec::new();
    for entry in entries {
        let line = entry.referenced.line();
        match entry.value.read() {
            Ok((digest, user)) => {
                if let Some(earlier) = lines.insert(digest, line) {
                    problems.push(format!("line {line}: the same token as in line {earlier}"));
                }
                users.insert(digest, Arc::new(user));
            }
            Err(problem) => problems.push(format!("line {line}: {problem}")),
        }
    }
    let more = problems.len().saturating_sub(PROBLEMS_MAX);
    if more > 0 {
        problems.truncate(PROBLEMS_MAX);
        problems.push(format!("and {more} more"));
    }
    anyhow::ensure!(problems.is_empty(), problems.join("; "));
    Ok(users)
}

/// The largest file that is read.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// How many wrong entries are told apart.
const PROBLEMS_MAX: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: an entry is taken whole or refused by its line, and no message repeats a token. Method: rows of files.
    #[test]
    fn entries_are_taken_or_refused_by_line() {
        let digest = "b5bb9d8014a0f9b1d61e21e796d78dccdf1352f23cd32812f4850b878ae4944c";
        check("", "0 users");
        check("- { token: s3cret, user: jane, groups: [dev, ops] }", "1 users");
        check(&format!("- {{ sha256: {digest}, user: ci }}\n- {{ token: s3cret, user: ci }}"), "2 users");
        check("- { token: s3cret, user: 'system:admin', uid: '7', extra: { a: [b] } }", "1 users");
        check("- { user: jane }", "line 1: needs one of `token` and `sha256`");
        check(
            &format!("- {{ token: s3cret, sha256: {digest}, user: jane }}"),
            "line 1: needs one of `token` and `sha256`",
        );
        check("- { token: s3cret }", "line 1: needs `user`, a name");
        check("- { token: 's3cret s3cret', user: jane }", "line 1: `token` must be visible ASCII without spaces");
        check("- { token: '', user: jane }", "line 1: `token` must be visible ASCII without spaces");
        check(
            "- { sha256: s3cret, user: jane }",
            "line 1: `sha256` must be the 64 hexadecimal digits of the token's SHA-256",
        );
        let names = "names must not be empty nor hold control characters";
        check("- { token: s3cret, user: '' }", &format!("line 1: {names}"));
        check("- { token: s3cret, user: j, groups: [\"a\\nb\"] }", &format!("line 1: {names}"));
        check("- { token: s3cret, user: j, extra: { a: [''] } }", &format!("line 1: {names}"));
        check(
            "- { token: s3cret, user: a }\n- { token: t, user: b }\n- { token: s3cret, user: c }\n- { user: d }",
            "line 3: the same token as in line 1; line 4: needs one of `token` and `sha256`",
        );
        let digest_of_secret = "1ec1c26b50d5d3c58d9583181af8076655fe00756bf7285940ba3670f99fcba0";
        check(
            &format!("- {{ token: s3cret, user: a }}\n- {{ sha256: {digest_of_secret}, user: b }}"),
            "line 2: the same token as in line 1",
        );
        let form = "is not a list of `{ token: … | sha256: …, user: …, groups: […], uid: …, extra: {…} }`";
        check("- s3cret", &format!("line 1: {form}"));
        check("s3cret: jane", &format!("line 1: {form}"));
        check("- { token: t, user: a }\n- { s3cret: t, user: a }", &format!("line 2: {form}"));
        check("- { token: [s3cret], user: a }", &format!("line 1: {form}"));
        check("- { token: t, token: s3cret, user: a }", &format!("line 1: {form}"));
        check("- { token: 's3cret, user: a }", &format!("line 1: {form}"));
        let many = "- { user: a }\n".repeat(12);
        let got = parse(many.as_bytes()).unwrap_err().to_string();
        assert!(got.ends_with("line 10: needs one of `token` and `sha256`; and 2 more"), "{got}");
    }

    #[track_caller]
    fn check(content: &str, expected: &str) {
        let got = match parse(content.as_bytes()) {
            Ok(users) => format!("{} users", users.len()),
            Err(error) => format!("{error:#}"),
        };
        assert_eq!(got, expected);
        assert!(!got.contains("s3cret"));
    }

    /// Goal: tokens come and go with the file; a bad file changes nothing. Method: what is written, then who is known.
    #[tokio::test]
    async fn tokens_come_and_go_with_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens.yaml");
        std::fs::write(&path, "- { token: one, user: jane, groups: [dev] }").unwrap();
        let tokens = TokenFile::open(&path).unwrap();
        let start = Now::read();
        let one = tokens.find(&TokenDigest::of("one"), start).await.unwrap();
        assert_eq!(*one, UserInfo { groups: vec!["dev".into()], ..UserInfo::named("jane") });
        for (second, content, one, two) in [
            (1, "- { token: two, user: john }", None, Some("john")),
            (2, "- { token: one, user: j", None, Some("john")),
            (3, "[]", None, None),
            (4, "- { token: one, user: jim }", Some("jim"), None),
        ] {
            std::fs::write(&path, content).unwrap();
            let now = start.after(second);
            for (token, expected) in [("one", one), ("two", two)] {
                let found = tokens.find(&TokenDigest::of(token), now).await;
                assert_eq!(found.as_ref().map(|user| user.name.as_str()), expected, "{content}: {token}");
            }
        }
    }
}
