//! `kubectl --as`: a client that asks to be somebody else.
//!
//! Each header is one more question to the policies, put as the API server puts it to
//! its authorizer: verb `impersonate`, a resource that names what kind of identity
//! it is, and the identity as name (`k8s.io/apiserver/pkg/endpoints/filters/impersonation.go`).

use http::{HeaderMap, HeaderName};
use witgate_core::{ActionClass, Impersonation, RequestAttributes, RequestInfo};

use crate::respond::GateError;

const PREFIX: &str = "impersonate-";
const USER: HeaderName = HeaderName::from_static("impersonate-user");
const UID: HeaderName = HeaderName::from_static("impersonate-uid");
const GROUP: HeaderName = HeaderName::from_static("impersonate-group");
const EXTRA_PREFIX: &str = "impersonate-extra-";
const SERVICE_ACCOUNT_PREFIX: &str = "system:serviceaccount:";
/// How many `Impersonate-*` headers one request may bring: each is a question to every policy.
pub const IDENTITIES_MAX: usize = 64;

/// The identity that the client asks for; none where it brings no such header.
///
/// # Errors
/// When the headers do not make one identity.
pub(crate) fn requested(headers: &HeaderMap) -> Result<Option<Impersonation>, GateError> {
    // Underscores are compared too: a header that some server might read as one of these is one of these.
    if !headers.keys().any(|name| name.as_str().replace('_', "-").starts_with(PREFIX)) {
        return Ok(None);
    }
    let bad = |text: &str| GateError::BadRequest(text.to_owned());
    let mut identity = Impersonation::default();
    let mut users = 0_usize;
    let mut count = 0_usize;
    for (name, value) in headers {
        if !name.as_str().replace('_', "-").starts_with(PREFIX) {
            continue;
        }
        count += 1;
        if count > IDENTITIES_MAX {
            return Err(bad("too many impersonation headers"));
        }
        let value = value.to_str().map_err(|_| bad("an impersonation header is not ASCII"))?.to_owned();
        if name == USER {
            users += 1;
            identity.user = value;
        } else if name == UID {
            if identity.uid.replace(value).is_some() {
                return Err(bad("header `Impersonate-Uid` is given more than once"));
            }
        } else if name == GROUP {
            identity.groups.push(value);
        } else if let Some(key) = name.as_str().strip_prefix(EXTRA_PREFIX) {
            let key = unescape(key)
                .ok_or_else(|| bad("an `Impersonate-Extra-` header's name is not percent-encoded UTF-8"))?;
            identity.extra.entry(key).or_default().push(value);
        } else {
            return Err(bad("unknown impersonation header"));
        }
    }
    if users > 1 {
        return Err(bad("header `Impersonate-User` is given more than once"));
    }
    if identity.user.is_empty() {
        // The API server's own rule: groups, uid and extra belong to a user.
        return Err(bad("impersonation headers without `Impersonate-User`"));
    }
    Ok(Some(identity))
}

/// What the policies are asked besides `request`, once they have let it through: one request's attributes for each identity
/// that the client asks for, in the order in which they are put. All must be allowed, and the first that is not ends it.
///
/// ```
/// use witgate_core::{ClusterName, Impersonation, RequestAttributes, RequestTarget};
/// use witgate_proxy::impersonation::questions;
///
/// let target = RequestTarget::parse("/api/v1/pods").unwrap();
/// let request = RequestAttributes::of(ClusterName::try_from("one").unwrap(), "GET", &target, false, None).unwrap();
/// let kim = Impersonation { user: "kim".to_owned(), groups: vec!["ops".to_owned()], ..Impersonation::default() };
/// let asked: Vec<_> = questions(&kim, &request)
///     .into_iter()
///     .map(|question| format!("{} {} {}", question.info.verb, question.info.resource, question.info.name))
///     .collect();
/// assert_eq!(asked, ["impersonate users kim", "impersonate groups ops"]);
/// ```
pub fn questions(identity: &Impersonation, request: &RequestAttributes) -> Vec<RequestAttributes> {
    let ask = |api_group: &str, namespace: &str, resource: &str, subresource: &str, name: &str| RequestAttributes {
        info: RequestInfo {
            is_resource_request: true,
            verb: "impersonate".to_owned(),
            api_group: api_group.to_owned(),
            api_version: "v1".to_owned(),
            namespace: namespace.to_owned(),
            resource: resource.to_owned(),
            subresource: subresource.to_owned(),
            name: name.to_owned(),
            ..RequestInfo::default()
        },
        action_class: ActionClass::Escalate,
        ..request.clone()
    };
    let service_account =
        identity.user.strip_prefix(SERVICE_ACCOUNT_PREFIX).and_then(|account| account.split_once(':'));
    let mut questions = vec![match service_account {
        Some((namespace, name)) => ask("", namespace, "serviceaccounts", "", name),
        None => ask("", "", "users", "", &identity.user),
    }];
    questions.extend(identity.groups.iter().map(|group| ask("", "", "groups", "", group)));
    questions.extend(identity.uid.iter().map(|uid| ask("authentication.k8s.io", "", "uids", "", uid)));
    for (key, values) in &identity.extra {
        questions.extend(values.iter().map(|value| ask("authentication.k8s.io", "", "userextras", key, value)));
    }
    questions
}

fn unescape(key: &str) -> Option<String> {
    let mut bytes = key.bytes();
    let mut plain = Vec::with_capacity(key.len());
    while let Some(byte) = bytes.next() {
        plain.push(match byte {
            b'%' => {
                let high = char::from(bytes.next()?).to_digit(16)?;
                let low = char::from(bytes.next()?).to_digit(16)?;
                u8::try_from(high * 16 + low).ok()?
            }
            other => other,
        });
    }
    String::from_utf8(plain).ok()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use witgate_core::{ClusterName, RequestTarget};

    use super::*;

    /// Goal: each header is one question, as the API server asks it. Method: headers on the left, questions on the right.
    #[test]
    fn each_identity_is_one_question() {
        check("accept: x", "none");
        check("impersonate-user: jane", "/users/jane");
        check("impersonate-user: jane|impersonate-group: a|impersonate-group: b", "/users/jane /groups/a /groups/b");
        check("impersonate-user: system:serviceaccount:ci:bot", "/serviceaccounts/bot in ci");
        check("impersonate-user: j|impersonate-uid: 7", "/users/j authentication.k8s.io/uids/7");
        check(
            "impersonate-user: j|impersonate-extra-acme.io%2fteam: x",
            "/users/j authentication.k8s.io/userextras/acme.io/team/x",
        );
        check("impersonate-group: system:masters", "impersonation headers without `Impersonate-User`");
        check("impersonate-user: a|impersonate-user: b", "header `Impersonate-User` is given more than once");
        check("impersonate-user: a|impersonate-nonsense: b", "unknown impersonation header");
        check("impersonate_user: a", "unknown impersonation header");
        check(
            "impersonate-user: a|impersonate-extra-%zz: b",
            "an `Impersonate-Extra-` header's name is not percent-encoded UTF-8",
        );
    }

    #[track_caller]
    fn check(given: &str, expected: &str) {
        let mut headers = HeaderMap::new();
        for line in given.split('|') {
            let (name, value) = line.split_once(": ").unwrap();
            headers.append(HeaderName::try_from(name).unwrap(), HeaderValue::from_str(value).unwrap());
        }
        let target = RequestTarget::parse("/api/v1/pods").unwrap();
        let request =
            RequestAttributes::of(ClusterName::try_from("one").unwrap(), "GET", &target, false, None).unwrap();
        let got = match requested(&headers) {
            Err(error) => error.to_string(),
            Ok(None) => "none".to_owned(),
            Ok(Some(identity)) => {
                let shown: Vec<_> = questions(&identity, &request)
                    .iter()
                    .map(|question| {
                        assert_eq!(question.action_class, ActionClass::Escalate);
                        let info = &question.info;
                        let key =
                            if info.subresource.is_empty() { String::new() } else { format!("/{}", info.subresource) };
                        let place =
                            if info.namespace.is_empty() { String::new() } else { format!(" in {}", info.namespace) };
                        format!("{}/{}{key}/{}{place}", info.api_group, info.resource, info.name)
                    })
                    .collect();
                shown.join(" ")
            }
        };
        assert_eq!(got, expected, "given {given}");
    }
}
