//! What a request is about: its path and query, read once.

use std::collections::BTreeMap;

use super::resources::{Resource, Scope, VERSION};

/// What a path names.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Target {
    /// `/healthz` and its likes.
    Health,
    /// `/version`
    Version,
    /// `/api`
    CoreVersions,
    /// `/apis`
    Groups,
    /// `/apis/GROUP`
    Group(String),
    /// `/api/v1`, `/apis/GROUP/v1`
    Resources(String),
    /// `/openapi/v3`
    OpenapiIndex,
    /// `/openapi/v3/api/v1`, `/openapi/v3/apis/GROUP/v1`
    Openapi(String),
    /// A question of the group: `selfsubjectaccessreviews`, `selfsubjectreviews`.
    Review(String),
    /// All objects of a resource, in one namespace or in all.
    Collection(&'static Resource, Option<String>),
    /// One object, in a namespace or in the cluster.
    Object(&'static Resource, String, String),
    /// The log of a pod.
    Log(String, String),
}

impl Target {
    /// Reads a path; `None` where nothing is served.
    pub(crate) fn parse(path: &str) -> Option<Self> {
        let segments: Vec<String> = path.strip_prefix('/')?.split('/').map(percent_decoded).collect::<Option<_>>()?;
        let mut segments: Vec<&str> = segments.iter().map(String::as_str).collect();
        if segments.last() == Some(&"") {
            segments.pop();
        }
        match segments.as_slice() {
            ["healthz" | "livez" | "readyz", ..] => Some(Self::Health),
            ["version"] => Some(Self::Version),
            ["api"] => Some(Self::CoreVersions),
            ["apis"] => Some(Self::Groups),
            ["apis", group] => Some(Self::Group((*group).to_owned())),
            ["openapi", "v3"] => Some(Self::OpenapiIndex),
            ["openapi", "v3", "api", VERSION] => Some(Self::Openapi(String::new())),
            ["openapi", "v3", "apis", group, VERSION] => Some(Self::Openapi((*group).to_owned())),
            ["api", VERSION, rest @ ..] => Self::in_group("", rest),
            ["apis", group, VERSION, rest @ ..] => Self::in_group(group, rest),
            _ => None,
        }
    }

    fn in_group(group: &str, rest: &[&str]) -> Option<Self> {
        let find = |plural: &str, scope: Scope| Resource::find(group, plural).filter(|found| found.scope == scope);
        match *rest {
            [] => Some(Self::Resources(group.to_owned())),
            [review] if super::discovery::REVIEW_GROUPS.iter().any(|known| (known.0, known.1) == (group, review)) => {
                Some(Self::Review(group.to_owned()))
            }
            [plural] => Some(Self::Collection(Resource::find(group, plural)?, None)),
            ["namespaces", namespace, plural] => {
                Some(Self::Collection(find(plural, Scope::Namespace)?, Some(namespace.to_owned())))
            }
            ["namespaces", namespace, "pods", pod, "log"] if group.is_empty() => {
                Some(Self::Log(namespace.to_owned(), pod.to_owned()))
            }
            ["namespaces", namespace, plural, name] => {
                Some(Self::Object(find(plural, Scope::Namespace)?, namespace.to_owned(), name.to_owned()))
            }
            [plural, name] => Some(Self::Object(find(plural, Scope::Cluster)?, String::new(), name.to_owned())),
            _ => None,
        }
    }
}

/// The parameters of a request; of one that is given twice, the first counts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Parameters(BTreeMap<String, String>);

impl Parameters {
    /// Reads a query; pairs that cannot be decoded are dropped, as Go does.
    pub(crate) fn parse(query: Option<&str>) -> Self {
        let mut parameters = BTreeMap::new();
        for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty() && !pair.contains(';')) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let decoded = |text: &str| percent_decoded(&text.replace('+', " "));
            if let (Some(name), Some(value)) = (decoded(name), decoded(value)) {
                parameters.entry(name).or_insert(value);
            }
        }
        Self(parameters)
    }

    /// The value of a parameter that is given and not empty.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// Whether a switch is on: given, and neither `false` nor `0`.
    pub(crate) fn is_on(&self, name: &str) -> bool {
        self.0.get(name).is_some_and(|value| value != "false" && value != "0")
    }

    /// A number, if it is one.
    pub(crate) fn number(&self, name: &str) -> Option<u64> {
        self.text(name)?.parse().ok()
    }
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let mut digit = || char::from(bytes.next()?).to_digit(16);
            let value = digit()? * 16 + digit()?;
            decoded.push(u8::try_from(value).ok()?);
        } else {
            decoded.push(byte);
        }
    }
    String::from_utf8(decoded).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a path names one thing or nothing. Method: rows; the names are those of `Debug`, shortened.
    #[test]
    fn a_path_names_one_thing_or_nothing() {
        check("/api/v1/pods", "pods in *");
        check("/api/v1/namespaces", "namespaces in *");
        check("/api/v1/namespaces/dev/pods", "pods in dev");
        check("/api/v1/namespaces/dev/pods/", "pods in dev");
        check("/api/v1/namespaces/dev/pods/web", "pods dev/web");
        check("/api/v1/namespaces/dev", "namespaces /dev");
        check("/api/v1/namespaces/dev/pods/web/log", "log dev/web");
        check("/apis/apps/v1/namespaces/dev/deployments/web", "deployments dev/web");
        check("/api/v1/namespaces/d%65v/pods", "pods in dev");
        check("/api/v1/nodes/n", "nodes /n");
        check("/api/v1/pods/web", "nothing");
        check("/api/v1/namespaces/dev/nodes", "nothing");
        check("/api/v1/namespaces/dev/pods/web/exec", "nothing");
        check("/api/v2/pods", "nothing");
        check("/apis/apps/v1/pods", "nothing");
        check("/api/v1/namespaces/%zz", "nothing");
        check("", "nothing");
    }

    #[track_caller]
    fn check(path: &str, expected: &str) {
        let got = match Target::parse(path) {
            None => "nothing".to_owned(),
            Some(Target::Collection(resource, namespace)) => {
                format!("{} in {}", resource.plural, namespace.as_deref().unwrap_or("*"))
            }
            Some(Target::Object(resource, namespace, name)) => format!("{} {namespace}/{name}", resource.plural),
            Some(Target::Log(namespace, name)) => format!("log {namespace}/{name}"),
            Some(other) => format!("{other:?}"),
        };
        assert_eq!(got, expected, "{path}");
    }

    /// Goal: parameters read as Go reads them. Method: one query with every case.
    #[test]
    fn parameters_are_decoded_once() {
        let parameters = Parameters::parse(Some("watch&a=1&a=2&l=app%3Dweb+x&n=7&off=false&bad=%zz&semi=1;2"));
        assert!(parameters.is_on("watch") && !parameters.is_on("off") && !parameters.is_on("absent"));
        assert_eq!(parameters.text("a"), Some("1"));
        assert_eq!(parameters.text("l"), Some("app=web x"));
        assert_eq!(parameters.number("n"), Some(7));
        assert_eq!((parameters.text("bad"), parameters.text("semi")), (None, None));
    }
}
