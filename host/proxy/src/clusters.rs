//! `GET /api/kubernetes/clusters`: what callers may know of the clusters. Never a URL, a CA or a token.

use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response};
use serde::Serialize;
use witgate_core::Metadata;

use crate::authorize::Authorized;
use crate::body::Body;
use crate::snapshot::{Cluster, Snapshot};

/// Permission to list the clusters; what it is worth once a policy has let it through.
#[derive(Debug)]
pub(crate) struct ListClusters;

#[derive(Serialize)]
struct Listed<'a> {
    items: Vec<Item<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Item<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dashboard_url: Option<&'a str>,
    auth_provider: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    oidc_token_provider: Option<&'a str>,
    #[serde(skip_serializing_if = "Metadata::is_empty")]
    auth: &'a Metadata,
}

/// The answer, in the order of the configuration.
pub(crate) fn list(authorized: Authorized<ListClusters>, snapshot: &Snapshot) -> Response<Body> {
    let ListClusters = authorized.into_inner();
    let items = snapshot.clusters.iter().map(|cluster| item(cluster)).collect();
    // Names, titles and metadata are text, which always serializes.
    let body = serde_json::to_vec(&Listed { items }).unwrap_or_default();
    let mut response = Response::new(Body::full(body));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn item(cluster: &Cluster) -> Item<'_> {
    Item {
        name: cluster.details.name.as_str(),
        title: cluster.details.title.as_deref(),
        dashboard_url: cluster.dashboard_url.as_deref(),
        auth_provider: cluster.strategy.name().as_str(),
        oidc_token_provider: cluster.oidc_token_provider.as_deref(),
        auth: &cluster.presented_metadata,
    }
}
