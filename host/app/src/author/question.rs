//! A question to the policies, as authors write one: in a test case, as JSON, or by flags.
//!
//! All three come to the same keys, and the same keys to the same query.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use witgate_core::{ClusterName, Impersonation, Permission, PolicyQuery, RequestAttributes, UserInfo};
use witgate_proxy::impersonation;

use crate::request_line::{RequestLine, Subject};

/// Who asks, and about what: the keys of `defaults`, of a case, and of `--query`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct QuestionKeys {
    /// The caller's name.
    pub(crate) user: Option<String>,
    /// The caller's groups.
    pub(crate) groups: Option<Vec<String>>,
    /// The caller's stable identifier.
    pub(crate) uid: Option<String>,
    /// What else is known of the caller.
    pub(crate) extra: Option<BTreeMap<String, Vec<String>>>,
    /// Whom the caller asks to be, as with `kubectl --as`.
    #[serde(rename = "as")]
    pub(crate) impersonate: Option<IdentityKeys>,
    /// Which cluster.
    pub(crate) cluster: Option<String>,
    /// The time that policies are told: seconds, or RFC 3339.
    pub(crate) now: Option<Value>,
    /// `kubernetes.proxy` or `kubernetes.clusters.read`.
    pub(crate) permission: Option<String>,
    /// A request line, or several.
    pub(crate) request: Option<OneOrMany>,
    /// kubectl's words, or several.
    pub(crate) kubectl: Option<OneOrMany>,
    /// Headers that matter: `Content-Type` and `Upgrade`.
    pub(crate) headers: Option<BTreeMap<String, String>>,
    /// What the report calls it; of a case alone.
    pub(crate) name: Option<String>,
    /// What must come of it; of cases and their defaults alone.
    pub(crate) decision: Option<String>,
    /// What the denial's reason holds; of a case alone.
    pub(crate) reason: Option<String>,
}

/// Whom to be: the keys of `as`, each an `Impersonate-` header or several.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct IdentityKeys {
    /// The name.
    pub(crate) user: Option<String>,
    /// The groups.
    #[serde(default)]
    pub(crate) groups: Vec<String>,
    /// The stable identifier.
    pub(crate) uid: Option<String>,
    /// Anything else, by key.
    #[serde(default)]
    pub(crate) extra: BTreeMap<String, Vec<String>>,
}

/// A text or a list of texts.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct OneOrMany(pub(crate) Vec<String>);

/// One query of one caller.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    /// Who asks.
    pub(crate) user: UserInfo,
    /// What is asked.
    pub(crate) query: PolicyQuery,
    /// Whom the caller asks to be.
    pub(crate) impersonate: Option<Impersonation>,
    /// As it was written, for people.
    pub(crate) written: String,
}

impl QuestionKeys {
    /// These keys, and those of `defaults` where they are absent.
    pub(crate) fn over(&self, defaults: &Self) -> Self {
        let Self {
            user,
            groups,
            uid,
            extra,
            impersonate,
            cluster,
            now,
            permission,
            request,
            kubectl,
            headers,
            name,
            decision,
            reason,
        } = self.clone();
        let or = defaults.clone();
        Self {
            user: user.or(or.user),
            groups: groups.or(or.groups),
            uid: uid.or(or.uid),
            extra: extra.or(or.extra),
            impersonate: impersonate.or(or.impersonate),
            cluster: cluster.or(or.cluster),
            now: now.or(or.now),
            permission: permission.or(or.permission),
            headers: headers.or(or.headers),
            decision: decision.or(or.decision),
            request,
            kubectl,
            name,
            reason,
        }
    }

    /// The queries that the keys come to: one for each request, or the one that has none.
    ///
    /// # Errors
    /// With the key, what is wrong with it, and what would be right.
    pub(crate) fn questions(&self) -> Result<Vec<Question>, String> {
        let name = self.user.clone().filter(|name| !name.is_empty());
        let user = UserInfo {
            name: name.ok_or("`user` is missing: say who asks, such as `user: user:default/jane`")?,
            uid: self.uid.clone(),
            groups: self.groups.clone().unwrap_or_default(),
            extra: self.extra.clone().unwrap_or_default(),
        };
        let cluster = self.cluster.as_deref().unwrap_or(CLUSTER);
        let cluster = ClusterName::try_from(cluster).map_err(|error| format!("`cluster`: {error}"))?;
        let impersonate = self.impersonate.as_ref().map(IdentityKeys::identity).transpose()?;
        let now = self.now()?;
        let lines = self.lines()?;
        let of_clusters = match self.permission.as_deref() {
            None => None,
            Some(name) if name == Permission::PROXY.name => Some(false),
            Some(name) if name == Permission::CLUSTERS_READ.name => Some(true),
            Some(other) => {
                return Err(format!(
                    "`permission` is `{other}`: known are `kubernetes.proxy` and `kubernetes.clusters.read`"
                ));
            }
        };
        let question = |request: Option<RequestAttributes>, written: String| {
            let permission = if request.is_some() { Permission::PROXY } else { Permission::CLUSTERS_READ };
            Question {
                user: user.clone(),
                query: PolicyQuery { permission, resource_ref: None, request, now },
                impersonate: impersonate.clone(),
                written,
            }
        };
        if lines.is_empty() {
            return match of_clusters {
                Some(true) if impersonate.is_some() => Err(OF_A_REQUEST.to_owned()),
                Some(true) => Ok(vec![question(None, "the list of clusters".to_owned())]),
                Some(false) | None => Err("write what is asked for: `request: GET /api/v1/namespaces/dev/pods`, \
                                           `kubectl: get pods -n dev`, or `permission: kubernetes.clusters.read`"
                    .to_owned()),
            };
        }
        if of_clusters == Some(true) {
            return Err("`permission: kubernetes.clusters.read` is about no request: remove `request` or `kubectl`, or the permission".to_owned());
        }
        let read = |(written, line): (String, RequestLine)| match line.subject(&cluster)? {
            Subject::Clusters if impersonate.is_some() => Err(OF_A_REQUEST.to_owned()),
            Subject::Clusters => Ok(question(None, written)),
            Subject::Request(request) => Ok(question(Some(*request), written)),
        };
        lines.into_iter().map(read).collect()
    }

    /// The request lines, each as it was written.
    fn lines(&self) -> Result<Vec<(String, RequestLine)>, String> {
        let headers = self.headers.clone().unwrap_or_default();
        let impersonates = |name: &&String| name.to_ascii_lowercase().replace('_', "-").starts_with("impersonate-");
        if let Some(name) = headers.keys().find(impersonates) {
            return Err(format!("`headers` has `{name}`: write `as: {{ user: NAME, groups: [GROUP] }}` instead"));
        }
        let mut lines = Vec::new();
        match (&self.request, &self.kubectl) {
            (Some(_), Some(_)) => {
                return Err("`request` and `kubectl` say the same thing: write one of them".to_owned());
            }
            (None, None) => {}
            (Some(OneOrMany(requests)), None) => {
                for request in requests {
                    let pairs = headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
                    lines.push((request.clone(), RequestLine::parse(request, pairs)?));
                }
            }
            (None, Some(OneOrMany(commands))) => {
                for command in commands {
                    let words = command.trim().strip_prefix("kubectl ").unwrap_or(command.trim());
                    lines.push((format!("kubectl {words}"), RequestLine::of_kubectl(words)?));
                }
            }
        }
        if lines.is_empty() && (self.request.is_some() || self.kubectl.is_some()) {
            return Err("the list of requests is empty".to_owned());
        }
        Ok(lines)
    }

    fn now(&self) -> Result<u64, String> {
        let wrong = |given: &Value| {
            format!("`now` is `{given}`: write seconds since 1970, or a time such as 2026-01-05T10:00:00Z")
        };
        match &self.now {
            None => Ok(NOW),
            Some(value @ Value::Number(number)) => number.as_u64().ok_or_else(|| wrong(value)),
            Some(value @ Value::String(text)) => {
                let time: Option<jiff::Timestamp> = text.parse().ok();
                let seconds = time.and_then(|time| u64::try_from(time.as_second()).ok());
                seconds.or_else(|| text.parse().ok()).ok_or_else(|| wrong(value))
            }
            Some(other) => Err(wrong(other)),
        }
    }
}

impl IdentityKeys {
    /// The identity that the gate would read from the headers that these keys stand for.
    fn identity(&self) -> Result<Impersonation, String> {
        let Self { user, groups, uid, extra } = self.clone();
        let refused = |why: &str| format!("`as`: the gate answers 400 before any policy is asked: {why}");
        let user = user.filter(|user| !user.is_empty());
        let user = user.ok_or_else(|| refused("it has no `user`, to whom groups, uid and extra belong"))?;
        // Names of headers have no case, and the gate asks for what it reads from them.
        let extra: BTreeMap<_, Vec<_>> = extra.into_iter().fold(BTreeMap::new(), |mut all, (key, values)| {
            all.entry(key.to_ascii_lowercase()).or_default().extend(values);
            all
        });
        let values: Vec<_> =
            std::iter::once(&user).chain(&groups).chain(&uid).chain(extra.values().flatten()).collect();
        if values.len() > impersonation::IDENTITIES_MAX {
            return Err(refused(&format!(
                "it comes to {} headers, and {} may be there",
                values.len(),
                impersonation::IDENTITIES_MAX
            )));
        }
        if let Some(value) = values.iter().find(|value| !value.bytes().all(|byte| matches!(byte, b' '..=b'~'))) {
            return Err(refused(&format!("`{}` is not ASCII", value.escape_debug())));
        }
        Ok(Impersonation { user, uid, groups, extra })
    }
}

impl Question {
    /// What the gate asks besides, once the policies have let the request through: whether the caller may be each part of
    /// the identity that is asked for. With it, what it is about.
    pub(crate) fn of_identities(&self) -> Vec<(String, PolicyQuery)> {
        let (Some(identity), Some(request)) = (&self.impersonate, &self.query.request) else { return Vec::new() };
        let query = |request: RequestAttributes| PolicyQuery { request: Some(request), ..self.query.clone() };
        let questions = impersonation::questions(identity, request).into_iter();
        questions.map(|request| (identity_in_words(&request), query(request))).collect()
    }

    /// Who asks for what, as the gate reads it, a line each.
    pub(crate) fn describe(&self) -> Vec<String> {
        let UserInfo { name, uid, groups, extra } = &self.user;
        let who = in_words(name, uid.as_ref(), groups, extra);
        let time = i64::try_from(self.query.now).ok().and_then(|now| jiff::Timestamp::from_second(now).ok());
        let time = time.map_or_else(|| self.query.now.to_string(), |time| time.to_string());
        let mut lines = vec![format!("user       {who}")];
        if let Some(Impersonation { user, uid, groups, extra }) = &self.impersonate {
            lines.push(format!("as         {}", in_words(user, uid.as_ref(), groups, extra)));
        }
        lines.push(format!("permission {} at {time}", self.query.permission.name));
        if let Some(request) = &self.query.request {
            lines.push(format!("request    {}", Described(request)));
            lines.push(format!(
                "class      {}{}{}{}",
                request.action_class,
                if request.upgrade { ", an upgrade" } else { "" },
                if request.dry_run { ", a dry run" } else { "" },
                request.patch_type.as_ref().map(|patch| format!(", {patch}")).unwrap_or_default()
            ));
        }
        lines
    }
}

fn in_words(name: &str, uid: Option<&String>, groups: &[String], extra: &BTreeMap<String, Vec<String>>) -> String {
    let mut who = format!("`{name}`");
    if !groups.is_empty() {
        who.push_str(&format!(" in {}", groups.join(", ")));
    }
    if let Some(uid) = uid {
        who.push_str(&format!(", uid {uid}"));
    }
    if !extra.is_empty() {
        who.push_str(&format!(", extra {extra:?}"));
    }
    who
}

/// Such as `groups` and its name: what of an identity one question is about.
fn identity_in_words(request: &RequestAttributes) -> String {
    let info = &request.info;
    let key = if info.subresource.is_empty() { String::new() } else { format!("/{}", info.subresource) };
    let place = if info.namespace.is_empty() { String::new() } else { format!(" in namespace `{}`", info.namespace) };
    format!("{}{key} `{}`{place}", info.resource, info.name)
}

/// A request in Kubernetes' terms.
struct Described<'a>(&'a RequestAttributes);

impl fmt::Display for Described<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RequestAttributes { cluster, info, method, path, .. } = self.0;
        if info.is_resource_request {
            write!(f, "{} {}", info.verb, info.resource)?;
            if !info.subresource.is_empty() {
                write!(f, "/{}", info.subresource)?;
            }
            if !info.name.is_empty() {
                write!(f, " `{}`", info.name)?;
            }
            let group = if info.api_group.is_empty() { "core" } else { info.api_group.as_str() };
            write!(f, " ({group}/{})", info.api_version)?;
            if !info.namespace.is_empty() {
                write!(f, " in namespace `{}`", info.namespace)?;
            }
        } else {
            write!(f, "{} (no resource)", info.verb)?;
        }
        for (name, selector) in [("field", &info.field_selector), ("label", &info.label_selector)] {
            if let Some(selector) = selector {
                write!(f, ", {name} selector {selector}")?;
            }
        }
        write!(f, " of cluster `{cluster}`; {method} {path}")
    }
}

impl<'de> Deserialize<'de> for OneOrMany {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Texts;
        impl<'de> Visitor<'de> for Texts {
            type Value = OneOrMany;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text or a list of texts")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<OneOrMany, E> {
                Ok(OneOrMany(vec![text.to_owned()]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<OneOrMany, A::Error> {
                let mut texts = Vec::new();
                while let Some(text) = items.next_element()? {
                    texts.push(text);
                }
                Ok(OneOrMany(texts))
            }
        }
        deserializer.deserialize_any(Texts)
    }
}

const OF_A_REQUEST: &str = "`as` is about a request to a cluster, and the list of clusters is none: remove it";
/// The time where none is said: 2026-01-01.
const NOW: u64 = 1_767_225_600;
/// The cluster where none is said.
const CLUSTER: &str = "test";

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(json: &str) -> QuestionKeys {
        serde_json::from_str(json).unwrap()
    }

    /// Goal: what is wrong is told with its key and what would be right. Method: rows of keys and a piece of the error.
    #[test]
    fn a_wrong_question_says_what_would_be_right() {
        for (json, expected) in [
            (r#"{"request":"GET /api"}"#, "`user` is missing"),
            (r#"{"user":"j"}"#, "write what is asked for"),
            (r#"{"user":"j","request":"GET /api","kubectl":"version"}"#, "write one of them"),
            (r#"{"user":"j","request":"GET /api","permission":"kubernetes.clusters.read"}"#, "is about no request"),
            (r#"{"user":"j","permission":"k"}"#, "known are `kubernetes.proxy`"),
            (r#"{"user":"j","request":"GET /api","cluster":"a b"}"#, "`cluster`: "),
            (r#"{"user":"j","request":"GET /api","now":"tomorrow"}"#, "write seconds since 1970"),
            (r#"{"user":"j","request":[]}"#, "the list of requests is empty"),
            (r#"{"user":"j","request":"GET /api","as":{"groups":["g"]}}"#, "it has no `user`, to whom groups"),
            (r#"{"user":"j","request":"GET /api","as":{"user":""}}"#, "it has no `user`, to whom groups"),
            (r#"{"user":"j","request":"GET /api","as":{"user":"k\u00e9"}}"#, "`ké` is not ASCII"),
            (
                r#"{"user":"j","permission":"kubernetes.clusters.read","as":{"user":"k"}}"#,
                "the list of clusters is none",
            ),
            (
                r#"{"user":"j","request":"GET /api/kubernetes/clusters","as":{"user":"k"}}"#,
                "the list of clusters is none",
            ),
            (r#"{"user":"j","request":"GET /api","headers":{"Impersonate-User":"k"}}"#, "write `as: { user: NAME"),
        ] {
            let error = keys(json).questions().unwrap_err();
            assert!(error.contains(expected), "{json}: {error}");
        }
    }

    /// Goal: a list is one question each, and times are read in both forms. Method: one question of each sort.
    #[test]
    fn keys_become_queries() {
        let questions = keys(
            r#"{"user":"j","groups":["g"],"cluster":"one","now":"2026-01-05T10:00:00Z","kubectl":["get pods -n a","exec web -n a -- sh"]}"#,
        )
        .questions()
        .unwrap();
        let shown: Vec<_> = questions.iter().map(|question| question.describe().join("\n")).collect();
        insta::assert_snapshot!(shown.join("\n\n"), @r"
        user       `j` in g
        permission kubernetes.proxy at 2026-01-05T10:00:00Z
        request    list pods (core/v1) in namespace `a` of cluster `one`; GET /api/v1/namespaces/a/pods
        class      read

        user       `j` in g
        permission kubernetes.proxy at 2026-01-05T10:00:00Z
        request    get pods/exec `web` (core/v1) in namespace `a` of cluster `one`; GET /api/v1/namespaces/a/pods/web/exec
        class      exec, an upgrade
        ");
        let clusters = keys(r#"{"user":"j","permission":"kubernetes.clusters.read","now":7}"#).questions().unwrap();
        assert!(matches!(clusters.as_slice(), [Question { query: PolicyQuery { request: None, now: 7, .. }, .. }]));
    }

    /// Goal: an identity comes to the questions that the gate asks. Method: all of its parts, and one part too many.
    #[test]
    fn an_identity_becomes_questions() {
        let asked = keys(
            r#"{"user":"j","request":"GET /api/v1/pods","now":7,
                "as":{"user":"system:serviceaccount:ci:bot","groups":["a","b"],"uid":"9","extra":{"Team":["x"],"team":["y"]}}}"#,
        );
        let question = asked.questions().unwrap().remove(0);
        let shown: Vec<_> = question
            .of_identities()
            .into_iter()
            .map(|(what, query)| {
                let request = query.request.unwrap();
                format!("{} {what}, {}, at {}", request.info.verb, request.action_class, query.now)
            })
            .collect();
        insta::assert_snapshot!(shown.join("\n"), @r"
        impersonate serviceaccounts `bot` in namespace `ci`, escalate, at 7
        impersonate groups `a`, escalate, at 7
        impersonate groups `b`, escalate, at 7
        impersonate uids `9`, escalate, at 7
        impersonate userextras/team `x`, escalate, at 7
        impersonate userextras/team `y`, escalate, at 7
        ");
        let groups = |count: usize| QuestionKeys {
            impersonate: Some(IdentityKeys {
                user: Some("k".to_owned()),
                groups: vec!["g".to_owned(); count],
                ..IdentityKeys::default()
            }),
            ..keys(r#"{"user":"j","request":"GET /api"}"#)
        };
        assert_eq!(groups(63).questions().unwrap().remove(0).of_identities().len(), 64);
        let error = groups(64).questions().unwrap_err();
        assert!(error.contains("it comes to 65 headers, and 64 may be there"), "{error}");
    }
}
