//! A fake API server: it answers what a test tells it to, and keeps what it was asked.
//!
//! It speaks HTTP/1.1, over TLS also HTTP/2, and can ask for client certificates. It is for
//! well-formed answers, however odd; a peer that breaks the protocol is a
//! [`BrokenUpstream`](crate::broken_upstream::BrokenUpstream).

mod reply;
mod request;

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ServerConfig;
use rustls_pki_types::CertificateDer;
use sha2::Digest as _;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

pub use reply::Reply;
pub use request::{BodySeen, Request};

use crate::authority::{Authority, HTTP2_AND_HTTP1, Identity, server_tls, server_tls_asking};
use crate::body::Body;
use crate::waiting::soon;

/// A running fake API server; it ends with the test's runtime.
pub struct ApiServer {
    address: SocketAddr,
    certificate_authority: Option<String>,
    tls: Option<CurrentTls>,
    state: Arc<State>,
}

/// What new connections are shown; a test may replace it.
type CurrentTls = Arc<Mutex<TlsAcceptor>>;

type Handler = Box<dyn Fn(&Request) -> Reply + Send + Sync>;

struct State {
    handler: Handler,
    requests: Mutex<Vec<Request>>,
    connections_count: Mutex<usize>,
    changed: watch::Sender<()>,
}

/// How an API server shows itself, chosen before it starts.
pub struct ApiServerBuilder {
    handler: Handler,
    tls: Option<(Arc<ServerConfig>, String)>,
}

impl ApiServer {
    /// A server over plain HTTP that answers every request with 200 and an empty list.
    pub async fn start() -> Self {
        Self::answering(|_| Reply::default()).start().await
    }

    /// A server that answers with what `handler` makes of each request, once its body is here.
    pub fn answering(handler: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> ApiServerBuilder {
        ApiServerBuilder { handler: Box::new(handler), tls: None }
    }

    /// A server that gives `replies` one after the other, and then empty lists.
    pub fn replying(replies: impl IntoIterator<Item = Reply>) -> ApiServerBuilder {
        let replies = Mutex::new(replies.into_iter().collect::<VecDeque<_>>());
        Self::answering(move |_| replies.lock().unwrap().pop_front().unwrap_or_default())
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its URL, as a cluster's configuration names it.
    pub fn url(&self) -> String {
        let scheme = if self.certificate_authority.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// The certificate that signed its own, where it speaks TLS.
    pub fn certificate_authority(&self) -> Option<&str> {
        self.certificate_authority.as_deref()
    }

    /// The requests whose heads have arrived, in that order.
    pub fn requests(&self) -> Vec<Request> {
        self.state.requests.lock().unwrap().clone()
    }

    /// Method and target of each request: `GET /api/v1/pods?limit=1`.
    pub fn heard(&self) -> Vec<String> {
        self.requests().iter().map(|request| format!("{} {}", request.method, request.target)).collect()
    }

    /// The only request.
    #[track_caller]
    pub fn only_request(&self) -> Request {
        let mut requests = self.requests();
        assert_eq!(requests.len(), 1, "requests at the API server: {:?}", self.heard());
        requests.remove(0)
    }

    /// How many connections were opened.
    pub fn connections_count(&self) -> usize {
        *self.state.connections_count.lock().unwrap()
    }

    /// Shows another certificate to new connections, and takes clients of another authority.
    pub fn show(&self, identity: &Identity, clients_of: Option<&Authority>) {
        let tls = self.tls.as_ref().expect("the server speaks TLS");
        *tls.lock().unwrap() = TlsAcceptor::from(server_tls(identity, clients_of, &HTTP2_AND_HTTP1));
    }

    /// Waits until the requests, bodies included, are as `wanted` says.
    pub async fn wait_for(&self, what: &str, wanted: impl Fn(&[Request]) -> bool) {
        let mut changed = self.state.changed.subscribe();
        soon(what, async {
            while !wanted(&self.state.requests.lock().unwrap()) {
                changed.changed().await.expect("the state outlives the wait");
            }
        })
        .await;
    }
}

impl ApiServerBuilder {
    /// Speaks TLS with a certificate of `authority`, and HTTP/2 to who wants it.
    #[must_use]
    pub fn tls(self, authority: &Authority) -> Self {
        self.tls_as(&authority.server(), authority, None)
    }

    /// Speaks TLS and takes only clients with a certificate of `clients_of`.
    #[must_use]
    pub fn tls_for_clients_of(self, authority: &Authority, clients_of: &Authority) -> Self {
        self.tls_as(&authority.server(), authority, Some(clients_of))
    }

    /// Speaks TLS, asks for a certificate of `clients`, and takes who has none as nobody.
    #[must_use]
    pub fn tls_asking_clients_of(mut self, authority: &Authority, clients: &Authority) -> Self {
        self.tls = Some((server_tls_asking(&authority.server(), clients, &HTTP2_AND_HTTP1), authority.pem()));
        self
    }

    /// Speaks TLS as `identity`, a server of `authority`; takes only clients of `clients_of`, if given.
    #[must_use]
    pub fn tls_as(mut self, identity: &Identity, authority: &Authority, clients_of: Option<&Authority>) -> Self {
        self.tls = Some((server_tls(identity, clients_of, &HTTP2_AND_HTTP1), authority.pem()));
        self
    }

    /// Starts it on a free port.
    pub async fn start(self) -> ApiServer {
        self.start_on(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    /// Starts it on a port that the test has.
    pub fn start_on(self, listener: TcpListener) -> ApiServer {
        let address = listener.local_addr().unwrap();
        let (tls, certificate_authority) = self.tls.unzip();
        let state = Arc::new(State {
            handler: self.handler,
            requests: Mutex::default(),
            connections_count: Mutex::default(),
            changed: watch::Sender::default(),
        });
        let tls: Option<CurrentTls> = tls.map(|config| Arc::new(Mutex::new(TlsAcceptor::from(config))));
        tokio::spawn(accept(listener, tls.clone(), Arc::clone(&state)));
        ApiServer { address, certificate_authority, tls, state }
    }
}

async fn accept(listener: TcpListener, tls: Option<CurrentTls>, state: Arc<State>) {
    while let Ok((stream, _)) = listener.accept().await {
        let connection = {
            let mut count = state.connections_count.lock().unwrap();
            *count += 1;
            *count
        };
        let tls = tls.as_ref().map(|tls| tls.lock().unwrap().clone());
        tokio::spawn(handshake(stream, tls, connection, Arc::clone(&state)));
    }
}

async fn handshake(stream: TcpStream, tls: Option<TlsAcceptor>, connection: usize, state: Arc<State>) {
    stream.set_nodelay(true).unwrap();
    let Some(tls) = tls else {
        return serve(stream, Protocol::Http1, connection, None, state).await;
    };
    // A client that does not trust the server, or shows no certificate, ends here: that is what some tests want to see.
    let Ok(stream) = tls.accept(stream).await else { return };
    let (_, session) = stream.get_ref();
    let protocol = if session.alpn_protocol() == Some(b"h2") { Protocol::Http2 } else { Protocol::Http1 };
    let peer = session.peer_certificates().and_then(|chain| chain.first()).map(|leaf| leaf.clone().into_owned());
    serve(stream, protocol, connection, peer, state).await;
}

enum Protocol {
    Http1,
    Http2,
}

async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    protocol: Protocol,
    connection: usize,
    peer: Option<CertificateDer<'static>>,
    state: Arc<State>,
) {
    let service = service_fn(move |request| answer(request, connection, peer.clone(), Arc::clone(&state)));
    let stream = TokioIo::new(stream);
    // How a connection ended is the peer's business; what it carried is in the requests.
    let _ended = match protocol {
        Protocol::Http1 => hyper::server::conn::http1::Builder::new().serve_connection(stream, service).await,
        Protocol::Http2 => {
            hyper::server::conn::http2::Builder::new(TokioExecutor::new()).serve_connection(stream, service).await
        }
    };
}

async fn answer(
    request: http::Request<Incoming>,
    connection: usize,
    peer: Option<CertificateDer<'static>>,
    state: Arc<State>,
) -> Result<http::Response<Body>, Infallible> {
    let (head, mut body) = request.into_parts();
    let index = {
        let mut requests = state.requests.lock().unwrap();
        requests.push(Request::of_head(&head, connection, peer));
        requests.len() - 1
    };
    let seen = |change: &dyn Fn(&mut BodySeen)| {
        let mut requests = state.requests.lock().unwrap();
        let request = requests.get_mut(index).expect("requests are only added");
        change(&mut request.body);
        state.changed.send_replace(());
        request.clone()
    };
    seen(&|_| {});
    let mut digest = sha2::Sha256::new();
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => {
                if let Some(data) = frame.data_ref() {
                    digest.update(data);
                    seen(&|body| body.count(data));
                }
            }
            Err(_) => {
                seen(&|body| body.broken = true);
                return std::future::pending().await; // the connection is gone, and this future with it
            }
        }
    }
    let digest: [u8; 32] = digest.finalize().into();
    let request = seen(&|body| body.complete(digest));
    (state.handler)(&request).into_response().await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authority::client_tls;
    use crate::client::Client;

    /// Goal: a test may trust what the fake server says it saw. Method: the harness's own client, and no gate between.
    #[tokio::test]
    async fn requests_are_kept_as_they_arrived() {
        let api_server = ApiServer::replying([Reply::json(299, "first")]).start().await;
        let client = Client::new(api_server.address(), None).with_header("x-a", "1");

        let first = client.post("/a//b?c=%2F", "body").await;
        client.get("/second").await;

        assert_eq!(first.summary(), "299 first");
        assert_eq!(api_server.heard(), ["POST /a//b?c=%2F", "GET /second"]);
        assert_eq!(api_server.connections_count(), 1);
        let request = api_server.requests().remove(0);
        assert_eq!((request.body.text(), request.header("x-a")), ("body", Some("1")));
    }

    #[tokio::test]
    async fn tls_takes_only_clients_of_the_authority() {
        let authority = Authority::new("both");
        let server =
            ApiServer::answering(|_| Reply::default()).tls_for_clients_of(&authority, &authority).start().await;
        let alice = authority.client("alice", &["dev"]);
        let with = Client::new(server.address(), Some(client_tls(&authority, Some(&alice), &HTTP2_AND_HTTP1)));
        let without = Client::new(server.address(), Some(client_tls(&authority, None, &["http/1.1"])));

        assert_eq!(with.get("/").await.version(), "HTTP/2.0");
        assert!(without.get("/").try_open().await.is_err());

        assert_eq!(server.only_request().peer_certificate, Some(alice.certificate_der()));
    }

    #[tokio::test]
    async fn a_streamed_reply_arrives_as_it_is_written() {
        let (reply, writer) = Reply::streamed();
        let server = ApiServer::replying([reply]).start().await;
        let client = Client::new(server.address(), None);

        let mut answer = client.get("/").open().await;
        for piece in ["one", "two"] {
            writer.write(piece).await;
            assert_eq!(answer.next_piece().await.unwrap().unwrap(), piece);
        }
        writer.abort().await;

        assert!(answer.next_piece().await.unwrap().is_err());
    }
}
