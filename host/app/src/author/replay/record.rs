//! One line of a decision log, as the question that it answered.
//!
//! A line that cannot be asked again is a [`Skipped`], with why: counted, never guessed at. The log holds neither a caller's
//! uid and extra nor a patch type or dry run, so no policy is told of them.

use std::fmt;

use serde::Deserialize;
use witgate_core::{ActionClass, ClusterName, Permission, PolicyQuery, RequestAttributes, RequestInfo, UserInfo};

/// A decision that can be asked for again.
#[derive(Clone, Debug)]
pub(crate) struct Recorded {
    /// Names it in the log.
    pub(crate) id: String,
    /// Who asked.
    pub(crate) user: UserInfo,
    /// What was asked, at the time when it was.
    pub(crate) query: PolicyQuery,
    /// What was decided.
    pub(crate) decision: Recalled,
    /// Why, as far as the log says.
    pub(crate) why: String,
}

/// What was decided.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Recalled {
    /// Let through.
    Allow,
    /// Refused.
    Deny,
}

/// Whether lines with masked values are asked about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum MaskedLines {
    /// They are not: a policy would see the mask where the value was.
    Skipped,
    /// They are, with the mask for the value.
    Asked,
}

/// Why a line is not asked again.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Skipped {
    /// It is not a line of the log.
    NotARecord,
    /// It is longer than any.
    TooLong,
    /// The request has another line.
    EndOfStream,
    /// The gate refused before it asked a policy.
    NeverAsked,
    /// Something else than a policy refused it afterwards.
    RefusedElsewhere,
    /// These fields are masked.
    Masked(String),
}

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotARecord => f.write_str("not a line of a decision log"),
            Self::TooLong => f.write_str("longer than a line of a decision log can be"),
            Self::EndOfStream => f.write_str("the end of a stream, whose beginning has a line of its own"),
            Self::NeverAsked => f.write_str("refused before any policy was asked"),
            Self::RefusedElsewhere => f.write_str("refused by something else than a policy"),
            Self::Masked(fields) => {
                write!(
                    f,
                    "masked in the log, so that a policy would see the mask: {fields} (--masked ask asks all the same)"
                )
            }
        }
    }
}

/// A line, with the keys of `witgate_proxy::decision::DecisionRecord` that count here.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    id: String,
    time: String,
    user: Option<String>,
    groups: Option<Vec<String>>,
    permission: Option<String>,
    cluster: Option<String>,
    #[serde(default)]
    verb: String,
    #[serde(default)]
    api_group: String,
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    resource: String,
    #[serde(default)]
    subresource: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    subpath: String,
    field_selector: Option<String>,
    label_selector: Option<String>,
    #[serde(default)]
    method: String,
    #[serde(default)]
    path: String,
    action_class: Option<ActionClass>,
    #[serde(default)]
    upgrade: bool,
    decision: Recalled,
    reason: Option<String>,
    policy: Option<String>,
    policy_us: Option<u64>,
    close_reason: Option<serde::de::IgnoredAny>,
}

impl Recorded {
    /// Reads one line.
    ///
    /// # Errors
    /// With why it cannot be asked again.
    pub(crate) fn parse(line: &[u8], masked: MaskedLines) -> Result<Self, Skipped> {
        let line: Line = serde_json::from_slice(line).map_err(|_| Skipped::NotARecord)?;
        if line.close_reason.is_some() {
            return Err(Skipped::EndOfStream);
        }
        let permission = match line.permission.as_deref() {
            Some(name) if name == Permission::PROXY.name => Permission::PROXY,
            Some(name) if name == Permission::CLUSTERS_READ.name => Permission::CLUSTERS_READ,
            Some(_) => return Err(Skipped::NotARecord),
            None => return Err(Skipped::NeverAsked),
        };
        if line.policy_us.is_none() {
            return Err(Skipped::NeverAsked);
        }
        let why = line.why()?;
        if masked == MaskedLines::Skipped {
            let fields = line.masked_fields(permission == Permission::PROXY);
            if !fields.is_empty() {
                return Err(Skipped::Masked(fields.join(", ")));
            }
        }
        let time: jiff::Timestamp = line.time.parse().map_err(|_| Skipped::NotARecord)?;
        let now = u64::try_from(time.as_second()).map_err(|_| Skipped::NotARecord)?;
        let user = UserInfo {
            name: line.user.clone().unwrap_or_default(),
            groups: line.groups.clone().unwrap_or_default(),
            ..UserInfo::default()
        };
        let (id, decision) = (line.id.clone(), line.decision);
        let request = if permission == Permission::PROXY { Some(line.request()?) } else { None };
        Ok(Self { id, user, query: PolicyQuery { permission, resource_ref: None, request, now }, decision, why })
    }
}

impl Line {
    fn request(self) -> Result<RequestAttributes, Skipped> {
        let cluster =
            self.cluster.and_then(|name| ClusterName::try_from(name.as_str()).ok()).ok_or(Skipped::NotARecord)?;
        let api_prefix = self.path.split('/').nth(1).filter(|first| matches!(*first, "api" | "apis"));
        let is_resource_request = !self.resource.is_empty();
        Ok(RequestAttributes {
            cluster,
            info: RequestInfo {
                is_resource_request,
                api_prefix: api_prefix.filter(|_| is_resource_request).unwrap_or_default().to_owned(),
                verb: self.verb,
                api_group: self.api_group,
                api_version: self.api_version,
                namespace: self.namespace,
                resource: self.resource,
                subresource: self.subresource,
                name: self.name,
                subpath: self.subpath,
                field_selector: self.field_selector,
                label_selector: self.label_selector,
                long_running: false, // no policy sees it
            },
            method: self.method,
            path: self.path,
            action_class: self.action_class.ok_or(Skipped::NotARecord)?,
            upgrade: self.upgrade,
            patch_type: None,
            dry_run: false,
        })
    }

    /// What the log says of why.
    fn why(&self) -> Result<String, Skipped> {
        match (self.decision, &self.policy, &self.reason) {
            (Recalled::Allow, Some(policy), _) => Ok(format!("allowed by policy `{policy}`")),
            (Recalled::Allow, None, _) => Ok("allowed, as the rule was turned off".to_owned()),
            (Recalled::Deny, _, Some(reason)) if is_a_policys(reason) || is_masked(reason) => Ok(reason.clone()),
            (Recalled::Deny, _, Some(_)) => Err(Skipped::RefusedElsewhere),
            (Recalled::Deny, Some(policy), None) => Ok(format!("denied by policy `{policy}`")),
            (Recalled::Deny, None, None) => Ok("denied".to_owned()),
        }
    }

    /// Fields that hold a mask, or hold nothing where the log always has something.
    fn masked_fields(&self, is_request: bool) -> Vec<&'static str> {
        let groups = self.groups.as_ref().is_none_or(|groups| groups.iter().any(|group| is_masked(group)));
        let user = self.user.as_deref().is_none_or(is_masked);
        let mut fields = vec![("user", user), ("groups", groups)];
        if is_request {
            let some = |text: &Option<String>| text.as_deref().is_some_and(holds_mask);
            fields.extend([
                ("namespace", is_masked(&self.namespace)),
                ("name", is_masked(&self.name)),
                ("subpath", holds_mask(&self.subpath)),
                ("fieldSelector", some(&self.field_selector)),
                ("labelSelector", some(&self.label_selector)),
                // It repeats what was removed elsewhere.
                ("path", self.path.is_empty() || holds_mask(&self.path)),
            ]);
        }
        fields.into_iter().filter(|(_, masked)| *masked).map(|(field, _)| field).collect()
    }
}

/// The texts of `witgate_core::DenyReason`.
fn is_a_policys(reason: &str) -> bool {
    reason.starts_with("denied by policy `")
        || reason == "no policy allows this request"
        || (reason.starts_with("policy `") && reason.contains("` gave no answer: "))
}

/// `#` and 16 hexadecimal digits, which is what `decisionLog.mask` makes of a value.
fn is_masked(text: &str) -> bool {
    let digits = text.strip_prefix('#').unwrap_or_default();
    digits.len() == 16 && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The same inside a text, where a removed value is `…`.
fn holds_mask(text: &str) -> bool {
    text.contains('…') || text.split(['/', '=', ',', '!', ' ', '(', ')']).any(is_masked)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = r#"{"id":"1","time":"2026-01-02T03:04:05Z","user":"jane","groups":["g"],"permission":"kubernetes.proxy","cluster":"one","verb":"get","apiVersion":"v1","namespace":"dev","resource":"pods","name":"web","method":"GET","path":"/api/v1/namespaces/dev/pods/web","actionClass":"read","decision":"allow","policy":"p","generation":1,"policyUs":9,"status":200}"#;

    #[test]
    fn a_line_becomes_its_question() {
        let recorded = Recorded::parse(WHOLE.as_bytes(), MaskedLines::Skipped).unwrap();
        let request = recorded.query.request.unwrap();
        assert_eq!((recorded.user.name.as_str(), recorded.query.now), ("jane", 1_767_323_045));
        assert_eq!((request.info.verb.as_str(), request.info.api_prefix.as_str()), ("get", "api"));
        assert_eq!((recorded.decision, recorded.why.as_str()), (Recalled::Allow, "allowed by policy `p`"));
    }

    /// Goal: what cannot be asked again is said with why. Method: the whole line with one piece replaced, and the reason.
    #[test]
    fn a_line_that_cannot_be_asked_again_says_why() {
        use Skipped::{EndOfStream, NeverAsked, NotARecord, RefusedElsewhere};
        check("\"status\":200", "\"closeReason\":\"completed\"", EndOfStream);
        check("\"permission\":\"kubernetes.proxy\",", "", NeverAsked);
        check("\"policyUs\":9,", "", NeverAsked);
        check("\"allow\"", "\"deny\",\"reason\":\"kubectl --as is not allowed here\"", RefusedElsewhere);
        check("\"allow\"", "\"maybe\"", NotARecord);
        check("kubernetes.proxy", "other", NotARecord);
        check("\"read\"", "\"reed\"", NotARecord);
        check("\"2026", "\"then", NotARecord);
        check("\"jane\"", "\"#0123456789abcdef\"", Skipped::Masked("user".into()));
        check("\"user\":\"jane\",", "", Skipped::Masked("user".into()));
        check("\"groups\":[\"g\"],", "", Skipped::Masked("groups".into()));
        check("dev/pods/web", "…/pods/web", Skipped::Masked("path".into()));
        check("dev/pods/web", "#0123456789abcdef/pods/web", Skipped::Masked("path".into()));
    }

    #[test]
    fn masked_lines_are_asked_where_that_is_wished() {
        let line = WHOLE.replace("\"jane\"", "\"#0123456789abcdef\"");
        assert_eq!(Recorded::parse(line.as_bytes(), MaskedLines::Asked).unwrap().user.name, "#0123456789abcdef");
    }

    #[track_caller]
    fn check(piece: &str, other: &str, expected: Skipped) {
        assert!(WHOLE.contains(piece), "{piece}");
        let line = WHOLE.replace(piece, other);
        assert_eq!(Recorded::parse(line.as_bytes(), MaskedLines::Skipped).map(|_| ()), Err(expected), "{line}");
    }
}
