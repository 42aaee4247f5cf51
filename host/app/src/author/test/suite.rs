//! `NAME.test.yaml`: what must come of which questions. `docs/policy-tests.md` is its description.
//!
//! Parsed here, once, into cases that can be asked. Every error names file and line, what stands there, and what would be right.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;
use serde_saphyr::Spanned;

use super::super::question::{OneOrMany, Question, QuestionKeys};
use crate::config::suggestion::closest;

/// The cases of one file.
#[derive(Debug)]
pub(crate) struct Suite {
    /// The file.
    pub(crate) path: PathBuf,
    /// What is asked.
    pub(crate) policies: Vec<PolicyUnderTest>,
    /// In the order of the file, the matrix last.
    pub(crate) cases: Vec<Case>,
}

/// A component that is tested.
#[derive(Clone, Debug)]
pub(crate) struct PolicyUnderTest {
    /// Where it stands.
    pub(crate) file: PathBuf,
    /// Instead of its sidecar's.
    pub(crate) settings: Option<Value>,
}

/// One question, and what must come of it.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    /// What the report calls it.
    pub(crate) name: String,
    /// Where it stands.
    pub(crate) line: u64,
    /// What is asked.
    pub(crate) question: Question,
    /// What must come of it.
    pub(crate) expected: Expected,
    /// What the denial's reason holds.
    pub(crate) reason: Option<String>,
}

/// What must come of a question.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Expected {
    /// It is let through.
    Allow,
    /// It is refused, by a policy or because none says anything.
    Deny,
    /// It is refused because none says anything.
    NoOpinion,
}

impl Expected {
    /// As it stands in the file.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::NoOpinion => "no-opinion",
        }
    }
}

/// What is wrong with a file of cases.
#[derive(Debug, thiserror::Error)]
#[error("{}:{line}: {text}", .path.display())]
pub(crate) struct SuiteError {
    path: PathBuf,
    line: u64,
    text: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    policies: Option<Vec<Spanned<Value>>>,
    defaults: Option<Spanned<QuestionKeys>>,
    #[serde(default)]
    cases: Vec<Spanned<QuestionKeys>>,
    matrix: Option<Spanned<Matrix>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Matrix {
    users: BTreeMap<String, Spanned<QuestionKeys>>,
    requests: BTreeMap<String, Spanned<String>>,
    #[serde(default)]
    allow: BTreeMap<String, Spanned<Vec<String>>>,
}

impl Suite {
    /// Reads `text`, which stands in `path`.
    ///
    /// # Errors
    /// With the first thing that is wrong.
    pub(crate) fn parse(path: &Path, text: &str) -> Result<Self, SuiteError> {
        let error = |line: u64, text: String| SuiteError { path: path.to_owned(), line, text };
        let options = serde_saphyr::options! { with_snippet: false };
        let file: File = serde_saphyr::from_str_with_options(text, options)
            .map_err(|fault| error(fault.location().map_or(1, |location| location.line()), in_words(&fault)))?;
        let File { policies, defaults, cases, matrix } = file;
        let defaults = match defaults {
            None => QuestionKeys::default(),
            Some(defaults) => {
                let line = defaults.referenced.line();
                let QuestionKeys { name, request, kubectl, reason, .. } = &defaults.value;
                let of_a_case = [
                    ("name", name.is_some()),
                    ("request", request.is_some()),
                    ("kubectl", kubectl.is_some()),
                    ("reason", reason.is_some()),
                ];
                if let Some((key, _)) = of_a_case.into_iter().find(|(_, given)| *given) {
                    return Err(error(line, format!("`{key}` is a case's own: it has no place in `defaults`")));
                }
                defaults.value
            }
        };
        let mut suite = Self { path: path.to_owned(), policies: Vec::new(), cases: Vec::new() };
        match policies {
            None => suite.policies.push(PolicyUnderTest { file: beside(path), settings: None }),
            Some(policies) => {
                for policy in policies {
                    let line = policy.referenced.line();
                    suite.policies.push(PolicyUnderTest::parse(path, policy.value).map_err(|text| error(line, text))?);
                }
            }
        }
        for case in cases {
            let line = case.referenced.line();
            suite.add(&case.value.over(&defaults), line).map_err(|text| error(line, text))?;
        }
        if let Some(matrix) = matrix {
            suite.add_matrix(&matrix.value, &defaults).map_err(|(line, text)| error(line, text))?;
        }
        if suite.cases.is_empty() {
            return Err(error(1, "there are no cases: write some under `cases` or `matrix`".to_owned()));
        }
        Ok(suite)
    }

    fn add(&mut self, keys: &QuestionKeys, line: u64) -> Result<(), String> {
        let expected = match keys.decision.as_deref() {
            None | Some("deny") => Expected::Deny,
            Some("allow") => Expected::Allow,
            Some("no-opinion") => Expected::NoOpinion,
            Some(other) => {
                return Err(format!("`decision` is `{other}`: write `allow`, `deny` or `no-opinion`"));
            }
        };
        if keys.reason.is_some() && expected != Expected::Deny {
            return Err(format!("`reason` is of a denial, and `decision` is `{}`", expected.as_str()));
        }
        let named = keys.name.as_deref().map(|name| format!("case `{name}`: ")).unwrap_or_default();
        let questions = keys.questions().map_err(|text| format!("{named}{text}"))?;
        let several = questions.len() > 1;
        for question in questions {
            let name = match &keys.name {
                Some(name) if several => format!("{name}: {}", question.written),
                Some(name) => name.clone(),
                None => match &question.impersonate {
                    None => format!("{}: {}", question.user.name, question.written),
                    Some(identity) => format!("{} as {}: {}", question.user.name, identity.user, question.written),
                },
            };
            self.cases.push(Case { name, line, question, expected, reason: keys.reason.clone() });
        }
        Ok(())
    }

    fn add_matrix(&mut self, matrix: &Matrix, defaults: &QuestionKeys) -> Result<(), (u64, String)> {
        let users: Vec<&str> = matrix.users.keys().map(String::as_str).collect();
        let requests: Vec<&str> = matrix.requests.keys().map(String::as_str).collect();
        for (user, allowed) in &matrix.allow {
            let line = allowed.referenced.line();
            if !matrix.users.contains_key(user) {
                return Err((line, unknown("`matrix.allow` has the user", user, &users)));
            }
            if let Some(request) = allowed.value.iter().find(|request| !matrix.requests.contains_key(*request)) {
                return Err((line, unknown(&format!("`matrix.allow.{user}` has the request"), request, &requests)));
            }
        }
        for (user, keys) in &matrix.users {
            let keys_line = keys.referenced.line();
            for (name, request) in &matrix.requests {
                let text = request.value.clone();
                let of_kubectl = text.trim_start().starts_with("kubectl ");
                let line = OneOrMany(vec![text]);
                let (request_line, kubectl) = if of_kubectl { (None, Some(line)) } else { (Some(line), None) };
                let is_allowed = matrix.allow.get(user).is_some_and(|allowed| allowed.value.contains(name));
                let case = QuestionKeys {
                    name: Some(format!("{user}: {name}")),
                    decision: Some(if is_allowed { "allow" } else { "deny" }.to_owned()),
                    request: request_line,
                    kubectl,
                    ..keys.value.clone()
                };
                let line = if case.user.is_none() { keys_line } else { request.referenced.line() };
                self.add(&case.over(defaults), line).map_err(|text| (line, text))?;
            }
        }
        Ok(())
    }
}

impl PolicyUnderTest {
    fn parse(suite: &Path, value: Value) -> Result<Self, String> {
        const EXPECTED: &str = "write a path, or `{ file: PATH, settings: {…} }`";
        let folder = suite.parent().unwrap_or(Path::new(""));
        match value {
            Value::String(file) => Ok(Self { file: folder.join(file), settings: None }),
            Value::Object(mut keys) => {
                let Some(Value::String(file)) = keys.remove("file") else {
                    return Err(format!("a policy without `file`: {EXPECTED}"));
                };
                let settings = keys.remove("settings");
                match keys.keys().next() {
                    None => Ok(Self { file: folder.join(file), settings }),
                    Some(key) => Err(unknown("a policy has the key", key, &["file", "settings"])),
                }
            }
            _ => Err(format!("a policy is neither text nor a mapping: {EXPECTED}")),
        }
    }
}

/// `NAME.wasm` beside `NAME.test.yaml`.
fn beside(suite: &Path) -> PathBuf {
    let name = suite.file_name().unwrap_or_default().to_string_lossy();
    suite.with_file_name(format!("{}.wasm", name.strip_suffix(SUFFIX).unwrap_or(&name)))
}

fn unknown(what: &str, given: &str, known: &[&str]) -> String {
    let meant = closest(given, known).map(|word| format!("did you mean `{word}`? ")).unwrap_or_default();
    let known: Vec<_> = known.iter().map(|word| format!("`{word}`")).collect();
    format!("{what} `{given}`, which is unknown: {meant}known are {}", known.join(", "))
}

/// What is wrong, in words for the writer of the file.
fn in_words(error: &serde_saphyr::Error) -> String {
    use serde_saphyr::Error;
    match error {
        Error::SerdeUnknownField { field, expected, .. } => unknown("the key", field, expected),
        Error::SerdeMissingField { field, .. } => format!("the key `{field}` is missing"),
        Error::SerdeInvalidType { unexpected, expected, .. } => format!("{unexpected} where {expected} belongs"),
        Error::DuplicateMappingKey { key: Some(key), .. } => format!("the key `{key}` stands twice in one mapping"),
        other => {
            use serde_saphyr::MessageFormatter as _;
            serde_saphyr::DefaultMessageFormatter.format_message(other).into_owned()
        }
    }
}

/// What names of such files end with.
pub(crate) const SUFFIX: &str = ".test.yaml";

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: cases, lists and the matrix become what is asked, with defaults. Method: one file with all of them.
    #[test]
    fn a_file_becomes_cases() {
        let suite = parse(
            "defaults: { user: jane, cluster: one }\n\
             cases:\n\
             - kubectl: get pods -n a\n  \
               decision: allow\n\
             - { kubectl: get pods -n a, as: { user: kim, groups: [ops] } }\n\
             - name: both\n  \
               user: eve\n  \
               request: [GET /api/v1/pods, DELETE /api/v1/namespaces/a/pods/b]\n  \
               reason: not you\n\
             matrix:\n  \
               users: { jane: { user: jane }, eve: { user: eve } }\n  \
               requests: { list: kubectl get pods, raw: GET /healthz }\n  \
               allow: { jane: [list] }\n",
        )
        .unwrap();
        assert_eq!(suite.policies.first().unwrap().file, Path::new("folder/x.wasm"));
        let shown: Vec<_> = suite
            .cases
            .iter()
            .map(|case| format!("{} {} {} {:?}", case.line, case.name, case.expected.as_str(), case.reason))
            .collect();
        insta::assert_snapshot!(shown.join("\n"), @r#"
        3 jane: kubectl get pods -n a allow None
        5 jane as kim: kubectl get pods -n a deny None
        6 both: GET /api/v1/pods deny Some("not you")
        6 both: DELETE /api/v1/namespaces/a/pods/b deny Some("not you")
        12 eve: list deny None
        12 eve: raw deny None
        12 jane: list allow None
        12 jane: raw deny None
        "#);
    }

    /// Goal: a mistake is told with file, line and what would be right. Method: a row a mistake.
    #[test]
    fn a_mistake_says_where_and_what() {
        check(
            "cases:\n- user: j\n  kubctl: get pods\n",
            "folder/x.test.yaml:3: the key `kubctl`, which is unknown: did you mean `kubectl`? known are ",
        );
        check("case: []\n", "folder/x.test.yaml:1: the key `case`, which is unknown: did you mean `cases`? known are ");
        check("cases: []\n", "folder/x.test.yaml:1: there are no cases");
        check("cases:\n- user: j\n", "folder/x.test.yaml:2: write what is asked for");
        check("cases:\n- kubectl: get pods\n", "folder/x.test.yaml:2: `user` is missing");
        check(
            "cases:\n- user: j\n  name: n\n  request: GET /a//b\n",
            "folder/x.test.yaml:2: case `n`: the gate answers 400 to `GET /a//b`",
        );
        check(
            "cases:\n- user: j\n  kubectl: version\n  decision: denied\n",
            "folder/x.test.yaml:2: `decision` is `denied`: write `allow`, `deny` or `no-opinion`",
        );
        check(
            "cases:\n- { user: j, kubectl: version, decision: allow, reason: x }\n",
            "folder/x.test.yaml:2: `reason` is of a denial",
        );
        check("defaults: { reason: x }\n", "folder/x.test.yaml:1: `reason` is a case's own");
        check(
            "defaults: { user: j, decision: maybe }\ncases:\n- kubectl: version\n",
            "folder/x.test.yaml:3: `decision` is `maybe`",
        );
        check("policies: [{ path: x }]\n", "folder/x.test.yaml:1: a policy without `file`");
        check(
            "policies: [{ file: x, setings: 1 }]\n",
            "folder/x.test.yaml:1: a policy has the key `setings`, which is unknown: did you mean `settings`?",
        );
        check(
            "matrix:\n  users: { j: { user: j } }\n  requests: { r: GET /api }\n  allow: { j: [s] }\n",
            "folder/x.test.yaml:4: `matrix.allow.j` has the request `s`, which is unknown: ",
        );
        check("cases: {\n", "folder/x.test.yaml:");
        check("cases:\n- user: [j]\n", "folder/x.test.yaml:2: ");
        check(
            "cases:\n- { user: j, kubectl: version, as: { user: k, group: g } }\n",
            "folder/x.test.yaml:2: the key `group`, which is unknown: did you mean `groups`? known are ",
        );
        check(
            "cases:\n- { name: n, user: j, kubectl: version, as: { groups: [g] } }\n",
            "folder/x.test.yaml:2: case `n`: `as`: the gate answers 400 before any policy is asked: it has no `user`",
        );
    }

    fn parse(text: &str) -> Result<Suite, SuiteError> {
        Suite::parse(Path::new("folder/x.test.yaml"), text)
    }

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let error = parse(text).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{text}: {error}");
    }
}
