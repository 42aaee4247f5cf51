//! The three routes, and what of the URL belongs to the cluster.
//!
//! Matching is on the bytes as they came. What follows the mount is read by
//! [`RequestTarget`](witgate_core::RequestTarget), which refuses whatever could be read in two ways.

use witgate_core::ClusterName;

/// Where a request goes, with the rest of its URL.
#[derive(Debug, Eq, PartialEq)]
pub enum Route<'a> {
    /// `ANY /api/kubernetes/proxy/<path>`: the cluster is in a header.
    BackstageProxy {
        /// Path and query for the API server.
        rest: Rest<'a>,
    },
    /// `GET /api/kubernetes/clusters`.
    BackstageClusters,
    /// `ANY /k8s/clusters/<name>/<path>`.
    Kubernetes {
        /// The name as it stands in the URL; not yet known to be one.
        cluster: &'a str,
        /// Path and query for the API server.
        rest: Rest<'a>,
    },
    /// None of them.
    Unknown,
}

/// What follows the mount: `""`, `?query`, or `/path?query`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Rest<'a>(&'a str);

impl Rest<'_> {
    /// Path and query as the API server gets them: a path is never empty.
    pub fn to_path_and_query(self) -> String {
        if self.0.starts_with('/') { self.0.to_owned() } else { format!("/{}", self.0) }
    }
}

/// How errors are told: as Backstage does, or as the API server does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Manners {
    /// `{"error": {"name", "message"}, "request": …, "response": …}`
    Backstage,
    /// `metav1.Status`
    Kubernetes,
}

impl<'a> Route<'a> {
    /// Reads path and query as they stand in the request line.
    pub fn of(path_and_query: &'a str) -> Self {
        if let Some(rest) = mount(path_and_query, "/api/kubernetes/proxy") {
            return Self::BackstageProxy { rest };
        }
        if let Some(Rest(rest)) = mount(path_and_query, "/api/kubernetes/clusters") {
            return if rest.is_empty() || rest.starts_with('?') { Self::BackstageClusters } else { Self::Unknown };
        }
        if let Some(named) = path_and_query.strip_prefix("/k8s/clusters/") {
            let end = named.find(['/', '?']).unwrap_or(named.len());
            let (cluster, rest) = named.split_at(end);
            if !cluster.is_empty() {
                return Self::Kubernetes { cluster, rest: Rest(rest) };
            }
        }
        Self::Unknown
    }

    /// How this route tells errors.
    pub const fn manners(&self) -> Manners {
        match self {
            Self::Kubernetes { .. } => Manners::Kubernetes,
            Self::BackstageProxy { .. } | Self::BackstageClusters | Self::Unknown => Manners::Backstage,
        }
    }
}

/// The cluster's name in `/k8s/clusters/<name>/`, unescaped once: client-go escapes a `:` in some versions.
pub fn cluster_name(segment: &str) -> Option<ClusterName> {
    if !segment.contains('%') {
        return ClusterName::try_from(segment).ok();
    }
    let mut name = Vec::with_capacity(segment.len());
    let mut bytes = segment.bytes();
    while let Some(byte) = bytes.next() {
        name.push(match byte {
            b'%' => {
                let high = char::from(bytes.next()?).to_digit(16)?;
                let low = char::from(bytes.next()?).to_digit(16)?;
                u8::try_from(high * 16 + low).ok()?
            }
            plain => plain,
        });
    }
    ClusterName::try_from(String::from_utf8(name).ok()?).ok()
}

fn mount<'a>(path_and_query: &'a str, prefix: &str) -> Option<Rest<'a>> {
    let rest = path_and_query.strip_prefix(prefix)?;
    (rest.is_empty() || rest.starts_with(['/', '?'])).then_some(Rest(rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: only whole mounts match, and the rest is kept byte for byte. Method: one URL a row.
    #[test]
    fn a_url_has_one_route() {
        let backstage = |rest| Route::BackstageProxy { rest: Rest(rest) };
        let kubernetes = |cluster, rest| Route::Kubernetes { cluster, rest: Rest(rest) };
        check("/api/kubernetes/proxy", backstage(""));
        check("/api/kubernetes/proxy/", backstage("/"));
        check("/api/kubernetes/proxy?a=1", backstage("?a=1"));
        check("/api/kubernetes/proxy/api/v1/pods?a=%2F", backstage("/api/v1/pods?a=%2F"));
        check("/api/kubernetes/proxyx/api", Route::Unknown);
        check("/api/kubernetes/clusters", Route::BackstageClusters);
        check("/api/kubernetes/clusters?x", Route::BackstageClusters);
        check("/api/kubernetes/clusters/one", Route::Unknown);
        check("/k8s/clusters/one/api/v1", kubernetes("one", "/api/v1"));
        check("/k8s/clusters/one", kubernetes("one", ""));
        check("/k8s/clusters/one?x=1", kubernetes("one", "?x=1"));
        check("/k8s/clusters//api", Route::Unknown);
        check("/k8s/clusters/", Route::Unknown);
        check("/K8S/clusters/one/", Route::Unknown);
        check("/", Route::Unknown);
        check("", Route::Unknown);
    }

    #[track_caller]
    fn check(url: &str, expected: Route<'_>) {
        assert_eq!(Route::of(url), expected, "{url}");
    }

    #[test]
    fn the_rest_is_never_an_empty_path() {
        assert_eq!(Rest("").to_path_and_query(), "/");
        assert_eq!(Rest("?a=1").to_path_and_query(), "/?a=1");
        assert_eq!(Rest("/x").to_path_and_query(), "/x");
    }

    #[test]
    fn a_cluster_segment_is_unescaped_once() {
        assert_eq!(cluster_name("eks%3Aprod").unwrap().as_str(), "eks:prod");
        for bad in ["a%2Fb", "a%2", "a%zz", "a%252Fb", "%ff", ".."] {
            assert_eq!(cluster_name(bad), None, "{bad}");
        }
    }
}
