//! What a guest's unit tests need on the host target: queries, callers, tokens, secrets, and the log.
//!
//! Everything is of the current thread: tests do not see each other.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use crate::bindings::policy::witgate::auth::types::RequestAuthEntry;
use crate::{ActionClass, ClusterDetails, Permission, PolicyQuery, RequestAttributes, RequestAuth, UserInfo, http};

/// A caller with these groups.
pub fn user(name: &str, groups: &[&str]) -> UserInfo {
    UserInfo {
        name: name.to_owned(),
        uid: None,
        groups: groups.iter().map(|group| (*group).to_owned()).collect(),
        extra: Vec::new(),
    }
}

/// A request for a resource of the core group; set further fields on the result.
pub fn resource_request(
    cluster: &str,
    verb: &str,
    namespace: &str,
    resource: &str,
    action_class: ActionClass,
) -> RequestAttributes {
    let method = match verb {
        "create" => "POST",
        "update" => "PUT",
        "patch" => "PATCH",
        "delete" | "deletecollection" => "DELETE",
        _ => "GET",
    };
    let scope = if namespace.is_empty() { String::new() } else { format!("/namespaces/{namespace}") };
    RequestAttributes {
        api_version: "v1".to_owned(),
        namespace: namespace.to_owned(),
        resource: resource.to_owned(),
        resource_request: true,
        ..path_request(cluster, method, verb, &format!("/api/v1{scope}/{resource}"), action_class)
    }
}

/// A request for a path that names no resource, such as `/version`.
pub fn path_request(
    cluster: &str,
    method: &str,
    verb: &str,
    path: &str,
    action_class: ActionClass,
) -> RequestAttributes {
    RequestAttributes {
        cluster: cluster.to_owned(),
        verb: verb.to_owned(),
        api_group: String::new(),
        api_version: String::new(),
        namespace: String::new(),
        resource: String::new(),
        subresource: String::new(),
        name: String::new(),
        subpath: String::new(),
        field_selector: None,
        label_selector: None,
        resource_request: false,
        method: method.to_owned(),
        path: path.to_owned(),
        action_class,
        upgrade: false,
        patch_type: None,
        dry_run: false,
    }
}

/// May this request be sent to its cluster?
pub fn proxy_query(request: RequestAttributes) -> PolicyQuery {
    PolicyQuery {
        permission: Permission {
            name: "kubernetes.proxy".to_owned(),
            action: None,
            resource_type: Some("kubernetes-proxy-request".to_owned()),
        },
        resource_ref: None,
        request: Some(request),
        now: 0,
    }
}

/// May the caller list the clusters?
pub fn clusters_read_query() -> PolicyQuery {
    PolicyQuery {
        permission: Permission {
            name: "kubernetes.clusters.read".to_owned(),
            action: Some("read".to_owned()),
            resource_type: None,
        },
        resource_ref: None,
        request: None,
        now: 0,
    }
}

/// A cluster with this metadata.
pub fn cluster(name: &str, auth_metadata: &[(&str, &str)]) -> ClusterDetails {
    ClusterDetails {
        name: name.to_owned(),
        title: None,
        server: "https://cluster.example".to_owned(),
        auth_metadata: auth_metadata.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
        ca_data: None,
        skip_tls_verify: false,
    }
}

/// The tokens of a request: provider, sub-provider, token.
pub fn request_auth(tokens: &[(&str, Option<&str>, &str)]) -> RequestAuth {
    let entry = |(provider, sub_provider, value): &(&str, Option<&str>, &str)| RequestAuthEntry {
        provider: (*provider).to_owned(),
        sub_provider: sub_provider.map(ToOwned::to_owned),
        value: (*value).to_owned(),
    };
    RequestAuth::from(tokens.iter().map(entry).collect::<Vec<_>>())
}

/// Runs `test` with these secrets granted: by name, what the host answers. Others are not granted.
pub fn with_secrets<R>(secrets: &[(&str, Result<&str, &str>)], test: impl FnOnce() -> R) -> R {
    let owned = secrets
        .iter()
        .map(|(name, answer)| ((*name).to_owned(), answer.map(ToOwned::to_owned).map_err(ToOwned::to_owned)));
    SECRETS.with_borrow_mut(|granted| *granted = owned.collect());
    let result = test();
    SECRETS.with_borrow_mut(BTreeMap::clear);
    result
}

/// Runs `test` with `server` as the other side of every HTTP request. Without, each is denied.
pub fn with_http<R>(
    server: impl Fn(&http::Request) -> Result<http::Response, http::Error> + 'static,
    test: impl FnOnce() -> R,
) -> R {
    SERVER.with_borrow_mut(|known| *known = Some(Rc::new(server)));
    let result = test();
    SERVER.with_borrow_mut(|known| *known = None);
    result
}

/// Runs `test` at this many seconds since the Unix epoch.
pub fn at_time<R>(seconds: u64, test: impl FnOnce() -> R) -> R {
    let before = TIME.replace(seconds);
    let result = test();
    TIME.set(before);
    result
}

/// Takes the lines that were logged since the last time, each as `level: message`.
pub fn log_lines() -> Vec<String> {
    LOG_LINES.take()
}

pub(crate) fn secret(name: &str) -> Result<String, String> {
    SECRETS.with_borrow(|granted| granted.get(name).cloned()).unwrap_or_else(|| Err(crate::secrets::not_granted(name)))
}

pub(crate) fn http(request: &http::Request) -> Result<http::Response, http::Error> {
    let server = SERVER.with_borrow(Clone::clone);
    server.map_or(Err(http::Error::Denied), |server| server(request))
}

pub(crate) fn time() -> u64 {
    TIME.get()
}

type Server = Rc<dyn Fn(&http::Request) -> Result<http::Response, http::Error>>;

pub(crate) fn keep_log_line(line: String) {
    LOG_LINES.with_borrow_mut(|lines| lines.push(line));
}

thread_local! {
    static SECRETS: RefCell<BTreeMap<String, Result<String, String>>> = const { RefCell::new(BTreeMap::new()) };
    static SERVER: RefCell<Option<Server>> = const { RefCell::new(None) };
    static TIME: Cell<u64> = const { Cell::new(0) };
    static LOG_LINES: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}
