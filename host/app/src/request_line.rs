//! A request as it stands in a log or on the wire, read as the gate reads it.
//!
//! The path may be the API server's own, or one of the gate's routes, which then name the cluster. What the gate would refuse before
//! any policy is asked is refused here, in its words.

use witgate_core::{ClusterName, RequestAttributes, RequestTarget};
use witgate_proxy::route::{self, Route};

/// What a request is about.
#[derive(Clone, Debug)]
pub(crate) enum Subject {
    /// The list of clusters.
    Clusters,
    /// A request to one.
    Request(Box<RequestAttributes>),
}

/// A request in its parts, before it is read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct RequestLine {
    /// HTTP's method.
    pub(crate) method: String,
    /// Path and query.
    pub(crate) target: String,
    /// Whether another protocol is asked for.
    pub(crate) upgrade: bool,
    /// The body's media type.
    pub(crate) content_type: Option<String>,
}

impl RequestLine {
    /// Reads `METHOD /path?query`, with or without the protocol behind it; without a method it is a GET. `headers` may
    /// say what the body is and that an upgrade is asked for.
    ///
    /// # Errors
    /// With what is wrong and what would be right.
    pub(crate) fn parse<'a>(line: &str, headers: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self, String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (method, target) = match words.as_slice() {
            [target] if target.starts_with('/') => ("GET", *target),
            [method, target] => (*method, *target),
            [method, target, protocol] if protocol.starts_with("HTTP/") => (*method, *target),
            _ => return Err(not_a_line(line)),
        };
        let is_method = !method.is_empty() && method.bytes().all(|byte| byte.is_ascii_alphabetic());
        if !is_method || !target.starts_with('/') {
            return Err(not_a_line(line));
        }
        if method.bytes().any(|byte| byte.is_ascii_lowercase()) || matches!(method, "CONNECT" | "TRACE" | "TRACK") {
            return Err(format!("the gate answers 405 to the method `{method}` before any policy is asked"));
        }
        let mut request =
            Self { method: method.to_owned(), target: target.to_owned(), upgrade: false, content_type: None };
        for (name, value) in headers {
            if name.eq_ignore_ascii_case("upgrade") {
                request.upgrade = true;
            } else if name.eq_ignore_ascii_case("content-type") {
                request.content_type = Some(value.to_owned());
            }
        }
        Ok(request)
    }

    /// What it is about; `cluster` is which one, where the path does not say.
    ///
    /// # Errors
    /// When the gate would refuse it before any policy is asked.
    pub(crate) fn subject(&self, cluster: &ClusterName) -> Result<Subject, String> {
        let (cluster, path_and_query) = match Route::of(&self.target) {
            Route::BackstageClusters => return Ok(Subject::Clusters),
            Route::BackstageProxy { rest } => (cluster.clone(), rest.to_path_and_query()),
            Route::Kubernetes { cluster, rest } => {
                let named =
                    route::cluster_name(cluster).ok_or_else(|| format!("`{cluster}` is not a cluster's name"))?;
                (named, rest.to_path_and_query())
            }
            Route::Unknown => (cluster.clone(), self.target.clone()),
        };
        let refused = |why: &dyn std::fmt::Display| {
            format!("the gate answers 400 to `{} {}` before any policy is asked: {why}", self.method, self.target)
        };
        let target = RequestTarget::parse(&path_and_query).map_err(|error| refused(&error))?;
        let attributes =
            RequestAttributes::of(cluster, &self.method, &target, self.upgrade, self.content_type.as_deref())
                .map_err(|error| refused(&error))?;
        if attributes.info.verb.is_empty() {
            return Err(format!(
                "the gate answers 403 to `{} {}` before any policy is asked: the API server knows no verb for it",
                self.method, self.target
            ));
        }
        Ok(Subject::Request(Box::new(attributes)))
    }
}

fn not_a_line(line: &str) -> String {
    let shown: String = line.chars().take(SHOWN_CHARS_MAX).flat_map(char::escape_debug).collect();
    format!("`{shown}` is not a request line: write `METHOD /path?query`")
}

/// As much of what was given as helps to find it.
const SHOWN_CHARS_MAX: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a line means what the gate would make of it. Method: a line, and what is asked for or why nothing is.
    #[test]
    fn a_request_line_is_read_as_the_gate_reads_it() {
        check("GET /api/v1/namespaces/dev/pods?watch=1", "here: watch pods in dev, read");
        check("/api/v1/pods", "here: list pods in , read");
        check(
            "DELETE /k8s/clusters/eks%3Aprod/api/v1/namespaces/a/pods/b HTTP/1.1",
            "eks:prod: delete pods in a, delete",
        );
        check("GET /api/kubernetes/proxy/api/v1/namespaces/a/pods/b/exec", "here: get pods in a, exec");
        check("GET /api/kubernetes/clusters", "the clusters");
        check("get /api", "the gate answers 405 to the method `get` before any policy is asked");
        check("GET api", "`GET api` is not a request line: write `METHOD /path?query`");
        check("", "`` is not a request line: write `METHOD /path?query`");
        check("GET /api//v1", "the gate answers 400 to `GET /api//v1` before any policy is asked: `//` in the path");
        check(
            "OPTIONS /api/v1/pods",
            "the gate answers 403 to `OPTIONS /api/v1/pods` before any policy is asked: the API server knows no verb for it",
        );
    }

    #[track_caller]
    fn check(line: &str, expected: &str) {
        let here = ClusterName::try_from("here").unwrap();
        let got = match RequestLine::parse(line, []).and_then(|line| line.subject(&here)) {
            Ok(Subject::Clusters) => "the clusters".to_owned(),
            Ok(Subject::Request(request)) => {
                let info = &request.info;
                let class = request.action_class;
                format!("{}: {} {} in {}, {class}", request.cluster, info.verb, info.resource, info.namespace)
            }
            Err(error) => error,
        };
        assert_eq!(got, expected, "{line}");
    }

    #[test]
    fn headers_make_upgrades_and_patch_types() {
        let line = |headers: &[(&'static str, &'static str)]| {
            RequestLine::parse("PATCH /api/v1/namespaces/a/pods/b", headers.iter().copied()).unwrap()
        };
        assert!(line(&[("Upgrade", "websocket")]).upgrade);
        assert_eq!(
            line(&[("content-type", "application/apply-patch+yaml")]).content_type.unwrap(),
            "application/apply-patch+yaml"
        );
    }
}
