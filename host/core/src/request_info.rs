//! What the API server will make of a request: verb, group, version, namespace, resource, name.
//!
//! By the rules of `k8s.io/apiserver/pkg/endpoints/request/requestinfo.go` (Kubernetes 1.34), its
//! oddities included: a policy that judges another request than the one the API server serves
//! is worse than none. `tests/data/requestinfo.tsv` holds vectors checked against the real implementation.
//!
//! Nothing here refuses ambiguous paths: [`RequestTarget`](crate::RequestTarget) did. Nothing
//! judges either: [`classify`](crate::classify) does.

mod field_selector;
mod label_selector;

use std::borrow::Cow;

use crate::Query;

/// A request in Kubernetes' terms.
///
/// ```
/// use witgate_core::RequestInfo;
///
/// let info = RequestInfo::of("GET", "/api/v1/namespaces/dev/pods/web-0/log", Some("follow=true"))?;
/// assert_eq!((info.verb.as_str(), info.namespace.as_str()), ("get", "dev"));
/// assert_eq!((info.resource.as_str(), info.name.as_str(), info.subresource.as_str()), ("pods", "web-0", "log"));
/// assert!(info.long_running);
/// # Ok::<(), witgate_core::RequestInfoError>(())
/// ```
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct RequestInfo {
    /// Whether the path names an API resource (`/api/v1/pods`) rather than something else (`/healthz`).
    pub is_resource_request: bool,
    /// Kubernetes' verb: `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`, `proxy`;
    /// for other paths the method in lower case; empty for a method that the API server does not know.
    pub verb: String,
    /// `api`, `apis`, or empty.
    pub api_prefix: String,
    /// The API group; empty for the core group.
    pub api_group: String,
    /// The API group's version.
    pub api_version: String,
    /// The namespace; empty for cluster-scoped requests.
    pub namespace: String,
    /// The resource, in the plural.
    pub resource: String,
    /// The subresource, such as `log` or `exec`.
    pub subresource: String,
    /// The object's name.
    pub name: String,
    /// What follows the subresource, as in `.../proxy/<subpath>`, cleaned as the API server cleans it before
    /// it hands it over: no empty segments. Also without a slash at either end, so that a rule about `metrics`
    /// needs no second spelling; who must tell `metrics/` from `metrics` finds the path as it came beside this.
    pub subpath: String,
    /// The `fieldSelector` of a list, watch or deletecollection; an empty one is none.
    pub field_selector: Option<String>,
    /// The `labelSelector` of a list, watch or deletecollection; an empty one is none.
    pub label_selector: Option<String>,
    /// Whether the API server gives it no deadline: watches, proxies, logs, exec, attach, port-forward.
    pub long_running: bool,
}

/// Why a request cannot be read. The API server answers such a request with an error too.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("unable to determine kind and namespace from url")]
pub struct RequestInfoError {
    /// What was known up to there; for the log, never to decide on.
    pub known: Box<RequestInfo>,
}

impl RequestInfo {
    /// Reads a request's method, path and query. The path is decoded once, as the API server decodes it.
    ///
    /// # Errors
    /// When the path ends behind a `watch` or `proxy` that announces a resource.
    pub fn of(method: &str, decoded_path: &str, query: Option<&str>) -> Result<Self, RequestInfoError> {
        let mut info = Self { verb: method.to_ascii_lowercase(), ..Self::default() };
        let result = info.read_path(method, decoded_path, Query::new(query.unwrap_or("")));
        info.long_running = info.is_long_running(decoded_path);
        match result {
            Ok(()) => Ok(info),
            Err(NoResource) => Err(RequestInfoError { known: Box::new(info) }),
        }
    }

    fn read_path(&mut self, method: &str, path: &str, query: Query<'_>) -> Result<(), NoResource> {
        let mut parts = Parts::of(path);
        let Some(prefix @ ("api" | "apis")) = parts.first().filter(|_| parts.are_at_least(3)) else {
            return Ok(());
        };
        prefix.clone_into(&mut self.api_prefix);
        parts.skip(1);
        if prefix == "apis" {
            if !parts.are_at_least(3) {
                return Ok(());
            }
            self.api_group = parts.take();
        }

        self.is_resource_request = true;
        self.api_version = parts.take();
        if matches!(parts.first(), Some("watch" | "proxy")) {
            if !parts.are_at_least(2) {
                return Err(NoResource);
            }
            self.verb = parts.take();
        } else {
            verb_of(method).clone_into(&mut self.verb);
        }

        if parts.first() == Some("namespaces")
            && let Some(namespace) = parts.nth(1)
        {
            namespace.clone_into(&mut self.namespace);
            // `namespaces/dev/status` is the namespace's own; any other third part begins a resource in it.
            if parts.nth(2).is_some_and(|third| third != "status" && third != "finalize") {
                parts.skip(2);
            }
        }

        self.resource = parts.take();
        self.name = parts.take();
        if self.verb != "proxy" {
            self.subresource = parts.take(); // the old `/api/v1/proxy/…` has none
        }
        self.subpath = parts.joined();

        self.read_options(query);
        Ok(())
    }

    /// What the query decides: list or watch, and a single object's name. For a verb from the path it decides
    /// nothing: the API server honours selectors on some of these watches only, so it counts them on none.
    fn read_options(&mut self, query: Query<'_>) {
        if !self.name.is_empty() {
            return;
        }
        let options = match self.verb.as_str() {
            "get" => {
                let options = ListOptions::of(query);
                let (verb, name) = options.verb_and_name();
                verb.clone_into(&mut self.verb);
                self.name = name;
                options
            }
            "delete" => {
                "deletecollection".clone_into(&mut self.verb);
                ListOptions::of(query)
            }
            _ => return,
        };
        self.field_selector = options.field_selector.filter(|text| !text.is_empty()).map(Cow::into_owned);
        self.label_selector = options.label_selector.filter(|text| !text.is_empty()).map(Cow::into_owned);
    }

    /// `BasicLongRunningRequestCheck` with the verbs and subresources that kube-apiserver gives it.
    fn is_long_running(&self, path: &str) -> bool {
        let verb = matches!(self.verb.as_str(), "watch" | "proxy");
        let subresource = matches!(self.subresource.as_str(), "attach" | "exec" | "proxy" | "log" | "portforward");
        verb || (self.is_resource_request && subresource)
            || (!self.is_resource_request && path.starts_with("/debug/pprof/"))
    }
}

/// The path ended where a resource had to stand.
struct NoResource;

/// The verb of a method on a resource, before names and queries are looked at.
fn verb_of(method: &str) -> &'static str {
    match method {
        "POST" => "create",
        "GET" | "HEAD" => "get",
        "PUT" => "update",
        "PATCH" => "patch",
        "DELETE" => "delete",
        _ => "",
    }
}

/// The segments of a path that are not read yet; slashes at both ends do not count.
struct Parts<'a>(Option<&'a str>);

impl<'a> Parts<'a> {
    fn of(path: &'a str) -> Self {
        let trimmed = path.trim_matches('/');
        Self((!trimmed.is_empty()).then_some(trimmed))
    }

    fn nth(&self, index: usize) -> Option<&'a str> {
        let mut rest = self.0?;
        for _ in 0..index {
            rest = split_first(rest).1?;
        }
        Some(split_first(rest).0)
    }

    fn first(&self) -> Option<&'a str> {
        self.nth(0)
    }

    fn are_at_least(&self, count: usize) -> bool {
        self.nth(count - 1).is_some()
    }

    fn skip(&mut self, count: usize) {
        for _ in 0..count {
            self.0 = self.0.and_then(|rest| split_first(rest).1);
        }
    }

    /// The next one; empty where none is left.
    fn take(&mut self) -> String {
        let (first, rest) = self.0.map_or(("", None), split_first);
        self.0 = rest;
        first.to_owned()
    }

    /// All that are left, without the empty ones.
    fn joined(&self) -> String {
        let rest = self.0.unwrap_or("");
        if !rest.starts_with('/') && !rest.contains("//") {
            return rest.to_owned();
        }
        let segments: Vec<_> = rest.split('/').filter(|segment| !segment.is_empty()).collect();
        segments.join("/")
    }
}

/// The first segment, and what stands behind its slash. Segments are short: looking at byte after byte is the quickest.
fn split_first(path: &str) -> (&str, Option<&str>) {
    match path.bytes().position(|byte| byte == b'/') {
        Some(slash) => (path.get(..slash).unwrap_or_default(), path.get(slash + 1..)),
        None => (path, None),
    }
}

/// The first values of those `metav1.ListOptions` that RequestInfo depends on, or that can make it unreadable.
#[derive(Default)]
struct ListOptions<'a> {
    watch: Option<Cow<'a, str>>,
    field_selector: Option<Cow<'a, str>>,
    label_selector: Option<Cow<'a, str>>,
    limit: Option<Cow<'a, str>>,
    timeout_seconds: Option<Cow<'a, str>>,
}

impl<'a> ListOptions<'a> {
    fn of(query: Query<'a>) -> Self {
        let mut options = Self::default();
        for (key, value) in query.pairs() {
            let option = match &*key {
                "watch" => &mut options.watch,
                "fieldSelector" => &mut options.field_selector,
                "labelSelector" => &mut options.label_selector,
                "limit" => &mut options.limit,
                "timeoutSeconds" => &mut options.timeout_seconds,
                _ => continue,
            };
            option.get_or_insert(value);
        }
        options
    }

    /// What a GET without a name is: `list` or `watch`, and the name, if a selector pins one down.
    fn verb_and_name(&self) -> (&'static str, String) {
        let (watches, name) = match self.decoded_name() {
            Ok(name) => (self.watch.as_deref().is_some_and(|value| !is_false(value)), name),
            // What cannot be decoded counts for nothing, except that it may still be a watch.
            Err(Undecodable) => {
                let is_false = |value: &str| value == "0" || value.eq_ignore_ascii_case("false");
                (self.watch.as_deref().is_some_and(|value| !is_false(value)), None)
            }
        };
        // `content.IsPathSegmentName`: what could not stand in a path is no name.
        let name = name.filter(|name| name != "." && name != ".." && !name.contains(['/', '%'])).unwrap_or_default();
        (if watches { "watch" } else { "list" }, name)
    }

    fn decoded_name(&self) -> Result<Option<String>, Undecodable> {
        // Go's `ParseInt` in base 10 takes what Rust's `parse` takes, a sign included.
        let is_integer = |value: &Option<Cow<'_, str>>| value.as_ref().is_none_or(|v| v.parse::<i64>().is_ok());
        let labels = self.label_selector.as_deref().unwrap_or("");
        if !is_integer(&self.limit) || !is_integer(&self.timeout_seconds) || !label_selector::is_well_formed(labels) {
            return Err(Undecodable);
        }
        field_selector::exact_name(self.field_selector.as_deref().unwrap_or("")).map_err(|_| Undecodable)
    }
}

/// Options that the API server refuses when it serves the request.
struct Undecodable;

/// Go's `EqualFold(value, "false")`, or `0`. Unicode folds `ſ`, the long s, into `s`.
fn is_false(value: &str) -> bool {
    let fold = |character: char| if character == 'ſ' { 's' } else { character.to_ascii_lowercase() };
    value == "0" || value.chars().map(fold).eq("false".chars())
}
