//! A registry of artifacts: the pull half of OCI's distribution specification, with tokens, and with all that a registry can do wrong.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::stream;
use http::{Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use sha2::Digest as _;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use crate::authority::{Authority, server_tls};
use crate::secrets::secret;

/// What WebAssembly is pushed as.
pub const WASM: &str = "application/wasm";

/// A running registry; it is gone when it is dropped.
pub struct OciRegistry {
    address: SocketAddr,
    state: Arc<State>,
    serving: JoinHandle<()>,
}

/// What a path answers.
#[derive(Clone)]
pub enum Content {
    /// These bytes.
    Bytes(Vec<u8>),
    /// This status alone.
    Status(u16),
    /// That they are elsewhere.
    Redirect(String),
    /// Bytes without end.
    Endless,
    /// Nothing, ever.
    Silence,
}

/// How it wants to be asked.
#[derive(Clone)]
pub enum Asks {
    /// By anybody.
    Nobody,
    /// With user and password.
    Basic {
        /// Who.
        user: String,
        /// With what.
        password: String,
    },
    /// With a token that it gives out for user and password.
    Token {
        /// Who.
        user: String,
        /// With what.
        password: String,
    },
    /// With a token that somebody else gives out, under this URL.
    TokenOf(String),
}

/// One request.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Its path and query.
    pub path: String,
    /// What it showed, by scheme: `Basic` or `Bearer`.
    pub authorization: Option<String>,
}

struct State {
    asks: Mutex<Asks>,
    token: String,
    contents: Mutex<HashMap<String, Content>>,
    asked: Mutex<Vec<Asked>>,
}

impl OciRegistry {
    /// An empty one that anybody may ask.
    pub async fn start(authority: &Authority) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            asks: Mutex::new(Asks::Nobody),
            token: secret("a registry's token"),
            contents: Mutex::default(),
            asked: Mutex::default(),
        });
        let acceptor = TlsAcceptor::from(server_tls(&authority.server(), None, &["http/1.1"]));
        let served = Arc::clone(&state);
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, state) = (acceptor.clone(), Arc::clone(&served));
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let service = service_fn(move |request| answer(request, Arc::clone(&state), address));
                    // Its end, however it comes, is the gate's business.
                    drop(http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
                });
            }
        });
        Self { address, state, serving }
    }

    /// Wants to be asked so, from now on.
    pub fn asks(&self, asks: Asks) {
        *self.state.asks.lock().unwrap() = asks;
    }

    /// `HOST:PORT`, as references name it.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// The same registry under another name.
    pub fn alias(&self) -> String {
        format!("localhost:{}", self.address.port())
    }

    /// The reference of `REPOSITORY@DIGEST` here.
    pub fn reference(&self, repository: &str, digest: &str) -> String {
        format!("oci://{}/{repository}@{digest}", self.address)
    }

    /// Keeps a component and its manifest, and gives the reference.
    pub fn push(&self, repository: &str, component: &[u8], media_type: &str, annotations: Value) -> String {
        let digest = digest_of(component);
        self.answer(&format!("/v2/{repository}/blobs/{digest}"), Content::Bytes(component.to_vec()));
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": { "mediaType": "application/vnd.oci.empty.v1+json", "digest": digest_of(b"{}"), "size": 2 },
            "layers": [{ "mediaType": media_type, "digest": digest, "size": component.len() }],
            "annotations": annotations,
        });
        self.push_manifest(repository, &manifest)
    }

    /// Keeps a manifest, whatever it says, and gives the reference.
    pub fn push_manifest(&self, repository: &str, manifest: &Value) -> String {
        let manifest = manifest.to_string().into_bytes();
        let digest = digest_of(&manifest);
        self.answer(&format!("/v2/{repository}/manifests/{digest}"), Content::Bytes(manifest));
        self.reference(repository, &digest)
    }

    /// Answers a path so from now on.
    pub fn answer(&self, path: &str, content: Content) {
        self.state.contents.lock().unwrap().insert(path.to_owned(), content);
    }

    /// What was asked so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.state.asked.lock().unwrap().clone()
    }
}

impl Drop for OciRegistry {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// `sha256:…` of some bytes.
pub fn digest_of(bytes: &[u8]) -> String {
    let digits: String = sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{digits}")
}

type Body = BoxBody<Bytes, Infallible>;

async fn answer(
    request: Request<Incoming>,
    state: Arc<State>,
    address: SocketAddr,
) -> Result<Response<Body>, Infallible> {
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str()).to_owned();
    let shown = request.headers().get("authorization").map(|value| value.to_str().unwrap().to_owned());
    let scheme = shown.as_deref().and_then(|shown| shown.split(' ').next()).map(str::to_owned);
    state.asked.lock().unwrap().push(Asked { path: path.clone(), authorization: scheme });
    let asks = state.asks.lock().unwrap().clone();
    let basic = |user: &str, password: &str| format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
    let realm = match &asks {
        Asks::Nobody => None,
        Asks::Basic { user, password } => {
            (shown.as_deref() != Some(&basic(user, password))).then(|| "Basic realm=\"registry\"".to_owned())
        }
        Asks::Token { user, password } => {
            if let Some(query) = path.strip_prefix("/token?") {
                let good = shown.as_deref() == Some(&basic(user, password))
                    && query.contains("service=registry")
                    && query.contains("scope=repository%3A");
                let token = json!({ "token": state.token }).to_string();
                return Ok(if good { whole(200, token.into_bytes()) } else { whole(401, Vec::new()) });
            }
            (shown.as_deref() != Some(&format!("Bearer {}", state.token)))
                .then(|| format!("Bearer realm=\"https://{address}/token\",service=\"registry\""))
        }
        Asks::TokenOf(realm) => Some(format!("Bearer realm=\"{realm}\",service=\"registry\"")),
    };
    if let Some(challenge) = realm {
        let mut refused = whole(401, Vec::new());
        refused.headers_mut().insert("www-authenticate", challenge.parse().unwrap());
        return Ok(refused);
    }
    let content = state.contents.lock().unwrap().get(&path).cloned().unwrap_or(Content::Status(404));
    Ok(match content {
        Content::Bytes(bytes) => whole(200, bytes),
        Content::Status(status) => whole(status, Vec::new()),
        Content::Redirect(to) => {
            let mut answer = whole(307, Vec::new());
            answer.headers_mut().insert("location", to.parse().unwrap());
            answer
        }
        Content::Endless => {
            let piece = || Ok(Frame::data(Bytes::from_static(&[b'x'; 1 << 16])));
            Response::new(StreamBody::new(stream::repeat_with(piece)).boxed())
        }
        Content::Silence => std::future::pending().await,
    })
}

fn whole(status: u16, body: Vec<u8>) -> Response<Body> {
    let mut answer = Response::new(Full::new(Bytes::from(body)).boxed());
    *answer.status_mut() = StatusCode::from_u16(status).unwrap();
    answer
}
