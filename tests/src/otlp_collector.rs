//! A stand-in for an OTLP receiver: takes what is posted, as JSON, and keeps it.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpListener;

use crate::secrets;
use crate::waiting::until;

/// A running collector; it ends with the test's runtime.
pub struct OtlpCollector {
    address: SocketAddr,
    posts: Arc<Mutex<Vec<Post>>>,
}

/// One post.
#[derive(Clone, Debug)]
pub struct Post {
    /// `/v1/traces` or `/v1/metrics`.
    pub path: String,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Value,
}

impl OtlpCollector {
    /// Starts one over plain HTTP.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let posts = Arc::<Mutex<Vec<Post>>>::default();
        let kept = Arc::clone(&posts);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let kept = Arc::clone(&kept);
                let service = service_fn(move |request| keep(request, Arc::clone(&kept)));
                // Its end, however it comes, is the gate's business.
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        Self { address, posts }
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What came on a path. None of it may hold a secret.
    pub fn posts(&self, path: &str) -> Vec<Post> {
        let posts: Vec<_> = self.posts.lock().unwrap().iter().filter(|post| post.path == path).cloned().collect();
        posts.iter().for_each(|post| secrets::assert_none_in("what the OTLP receiver got", &post.body.to_string()));
        posts
    }

    /// All spans that came.
    pub fn spans(&self) -> Vec<Value> {
        let spans = |post: Post| post.body.pointer("/resourceSpans/0/scopeSpans/0/spans").cloned();
        self.posts("/v1/traces")
            .into_iter()
            .filter_map(spans)
            .flat_map(|spans| spans.as_array().cloned().unwrap())
            .collect()
    }

    /// Waits for the spans of one decision; the request's own is the first.
    pub async fn spans_of(&self, decision_id: &str) -> Vec<Value> {
        until("the trace", || async move {
            let is_meant = |span: &Value| attribute(span, "witgate.decision.id").as_deref() == Some(decision_id);
            let spans: Vec<_> = self.spans().into_iter().filter(is_meant).collect();
            (!spans.is_empty()).then_some(spans)
        })
        .await
    }
}

/// The text of a span's or point's attribute.
pub fn attribute(of: &Value, key: &str) -> Option<String> {
    let attribute =
        of.get("attributes")?.as_array()?.iter().find(|attribute| attribute.get("key").is_some_and(|k| k == key))?;
    let value = attribute.get("value")?;
    value.get("stringValue").or_else(|| value.get("intValue"))?.as_str().map(str::to_owned)
}

async fn keep(request: Request<Incoming>, posts: Arc<Mutex<Vec<Post>>>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let body = serde_json::from_slice(&body).expect("the body is JSON");
    posts.lock().unwrap().push(Post { path: head.uri.path().to_owned(), headers: head.headers, body });
    Ok(Response::new(Full::new(Bytes::from_static(b"{}"))))
}
