//! A caller of the gate: hyper, one kept connection, and every answer searched for secrets.

mod answer;
mod connection;

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use rustls::ClientConfig;
use tokio::sync::Mutex;

pub use answer::{Answer, OpenAnswer};
use connection::Connection;

use crate::body::{Body, BodyWriter};
use crate::waiting::soon;

/// Where Backstage mounts its proxy.
pub const BACKSTAGE_PROXY: &str = "/api/kubernetes/proxy";

/// A caller. It uses one connection for as long as the server keeps it, and copies share it.
#[derive(Clone)]
pub struct Client {
    server: Server,
    mount: String,
    headers: Vec<(String, String)>,
    connection: Arc<Mutex<Kept>>,
}

#[derive(Clone)]
struct Server {
    address: SocketAddr,
    tls: Option<Arc<ClientConfig>>,
}

#[derive(Default)]
struct Kept {
    connection: Option<Connection>,
    opened_count: usize,
}

/// A request on its way to be sent: awaiting it sends it and reads the whole answer.
pub struct Call<'a> {
    client: &'a Client,
    method: &'a str,
    target: String,
    headers: Vec<(String, String)>,
    body: Body,
}

impl Client {
    /// A caller that shows no credentials. Paths are those of the server, from its root.
    pub fn new(address: SocketAddr, tls: Option<Arc<ClientConfig>>) -> Self {
        Self { server: Server { address, tls }, mount: String::new(), headers: Vec::new(), connection: Arc::default() }
    }

    /// The same caller with a header on each request.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// The same caller with a bearer token.
    #[must_use]
    pub fn with_token(self, token: &str) -> Self {
        self.with_header("authorization", &format!("Bearer {token}"))
    }

    /// The same caller, its paths below Backstage's proxy, asking for `cluster`.
    #[must_use]
    pub fn backstage(self, cluster: &str) -> Self {
        self.mounted_at(BACKSTAGE_PROXY).with_header("backstage-kubernetes-cluster", cluster)
    }

    /// The same caller, its paths below the kubectl route of `cluster`.
    #[must_use]
    pub fn kubernetes(self, cluster: &str) -> Self {
        self.mounted_at(&format!("/k8s/clusters/{cluster}"))
    }

    /// The same caller, its paths below `mount`.
    #[must_use]
    pub fn mounted_at(mut self, mount: &str) -> Self {
        self.mount = mount.into();
        self
    }

    /// The same caller on a connection of its own.
    #[must_use]
    pub fn on_new_connection(mut self) -> Self {
        self.connection = Arc::default();
        self
    }

    /// A GET.
    pub fn get(&self, path: &str) -> Call<'_> {
        self.call("GET", path)
    }

    /// A POST of JSON.
    pub fn post(&self, path: &str, json: impl Into<Bytes>) -> Call<'_> {
        self.call("POST", path).header("content-type", "application/json").body(json)
    }

    /// A DELETE.
    pub fn delete(&self, path: &str) -> Call<'_> {
        self.call("DELETE", path)
    }

    /// A request of any method.
    pub fn call<'a>(&'a self, method: &'a str, path: &str) -> Call<'a> {
        let target = format!("{}{path}", self.mount);
        Call { client: self, method, target, headers: self.headers.clone(), body: Body::Whole(None) }
    }

    /// How many connections the caller needed so far.
    pub async fn connections_opened_count(&self) -> usize {
        self.connection.lock().await.opened_count
    }

    /// Whether the kept connection takes no more requests: the client sends one to find out.
    pub async fn is_sent_away(&self) -> bool {
        let mut kept = self.connection.lock().await;
        let Some(connection) = &mut kept.connection else { return false };
        let probe = http::Request::get("/").body(Body::Whole(None)).expect("a head that HTTP can carry");
        !connection.ready().await || connection.send(probe).await.is_err()
    }

    async fn send(&self, request: http::Request<Body>) -> hyper::Result<OpenAnswer> {
        let answer = {
            let mut kept = self.connection.lock().await;
            let usable = match &mut kept.connection {
                Some(connection) => connection.ready().await,
                None => false,
            };
            if !usable {
                kept.connection = Some(Connection::open(self.server.address, self.server.tls.clone()).await);
                kept.opened_count += 1;
            }
            kept.connection.as_mut().expect("just opened").send(request)
        };
        Ok(OpenAnswer::new(answer.await?))
    }
}

impl<'a> Call<'a> {
    /// Adds a header; one that the caller sends anyway is then there twice.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Sets the body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = Body::whole(body);
        self
    }

    /// Leaves the body to the test, which writes it while the request runs.
    #[must_use]
    pub fn streamed_body(mut self) -> (Self, BodyWriter) {
        let (body, writer) = Body::streamed();
        self.body = body;
        (self, writer)
    }

    /// Sends it and waits for the answer's head alone.
    pub async fn open(self) -> OpenAnswer {
        let what = format!("an answer to {} {}", self.method, self.target);
        soon(&what, self.try_open()).await.unwrap_or_else(|error| panic!("{what}: {error:?}"))
    }

    /// Sends it; the connection may break instead of answering.
    pub async fn try_open(self) -> hyper::Result<OpenAnswer> {
        let mut request = http::Request::builder().method(self.method).uri(self.target);
        for (name, value) in self.headers {
            request = request.header(name, value);
        }
        let request = request.body(self.body).expect("a test gives a head that HTTP can carry");
        self.client.send(request).await
    }
}

impl<'a> IntoFuture for Call<'a> {
    type Output = Answer;
    type IntoFuture = Pin<Box<dyn Future<Output = Answer> + Send + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async { self.open().await.whole().await })
    }
}
