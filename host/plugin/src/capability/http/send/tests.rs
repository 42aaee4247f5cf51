//! Exchanges with servers of this machine, under names that a fake resolver knows.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use rcgen::{CertificateParams, KeyPair};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use witgate_core::{ClusterName, Metadata, PluginName};

use super::*;
use crate::capability::http::resolve::tests::FakeResolver;
use crate::capability::log::{CallLog, PluginLog};

/// A server that answers each connection with the same bytes, and keeps what it was sent first.
struct Server {
    port: u16,
    connections: Arc<AtomicUsize>,
    heads: Arc<Mutex<Vec<String>>>,
}

/// What a server does when it has read a head.
#[derive(Clone)]
enum Does {
    /// Writes this and closes.
    Answer(String),
    /// Writes this, and then nothing more.
    Hang(String),
    /// Writes this, and then more and more of it.
    Endless(String),
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi";

impl Server {
    async fn start(does: Does) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").await.unwrap(), does, None)
    }

    fn on(listener: TcpListener, does: Does, tls: Option<TlsAcceptor>) -> Self {
        let port = listener.local_addr().unwrap().port();
        let (connections, heads) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::new())));
        let (counted, kept) = (Arc::clone(&connections), Arc::clone(&heads));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
                let (does, kept, tls) = (does.clone(), Arc::clone(&kept), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => serve(stream, does, kept).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, does, kept).await;
                            }
                        }
                    }
                });
            }
        });
        Self { port, connections, heads }
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, does: Does, heads: Arc<Mutex<Vec<String>>>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else { return };
        head.push(byte);
    }
    heads.lock().unwrap().push(String::from_utf8(head).unwrap());
    match does {
        Does::Answer(bytes) => {
            drop(stream.write_all(bytes.as_bytes()).await);
            drop(stream.shutdown().await);
        }
        Does::Hang(bytes) => {
            drop(stream.write_all(bytes.as_bytes()).await);
            // Until the peer gives up.
            while stream.read_u8().await.is_ok() {}
        }
        Does::Endless(bytes) => while stream.write_all(bytes.as_bytes()).await.is_ok() {},
    }
}

fn limits() -> HttpLimits {
    HttpLimits { response_body_bytes_max: 1000, request_body_bytes_max: 1000, ..HttpLimits::default() }
}

fn outbound(hosts: &[String], addresses: &[&[&str]]) -> Outbound {
    outbound_within(limits(), hosts, addresses)
}

fn outbound_within(limits: HttpLimits, hosts: &[String], addresses: &[&[&str]]) -> Outbound {
    let loopback = "127.0.0.2".parse().unwrap();
    let host = |text: &String| OutboundHost::parse(text).unwrap().with_addresses([loopback]);
    Outbound::with(hosts.iter().map(host).collect(), limits, Box::new(FakeResolver::answering(addresses)))
}

fn report(origin: Option<&Origin>) -> Report {
    let plugin = PluginLog::new(PluginName::try_from("x").unwrap(), 1 << 16);
    Report::new(Arc::new(CallLog::new(Arc::new(plugin))), origin)
}

fn get(url: &str) -> Request<WasiBody> {
    post(url, "")
}

fn post(url: &str, body: &str) -> Request<WasiBody> {
    let body = Full::new(Bytes::from(body.to_owned())).map_err(|never: Infallible| match never {});
    let uri: Uri = url.parse().unwrap();
    let host = uri.authority().unwrap().to_string();
    Request::post(uri).header("host", host).body(body.boxed_unsync()).unwrap()
}

/// Status and body, or the code.
async fn send(outbound: &Outbound, request: Request<WasiBody>, cluster: Option<&ClusterServer>) -> String {
    match outbound.exchange(request, RequestOptions::default(), cluster, report).await {
        Err(code) => format!("{code:?}"),
        Ok((response, _driver)) => {
            let status = response.status().as_u16();
            match response.into_body().collect().await {
                Ok(body) => format!("{status} {}", String::from_utf8_lossy(&body.to_bytes())),
                Err(code) => format!("{status} {code:?}"),
            }
        }
    }
}

/// Goal: a URL is sent nowhere but to its granted origin. Method: a grant for one server, a canary beside it, and rows of
/// URLs that mean the canary, or could be read so.
#[tokio::test]
async fn only_the_granted_origin_is_reached() {
    let (server, canary) = (Server::start(Does::Answer(OK.into())).await, Server::start(Does::Answer(OK.into())).await);
    let (granted, other) = (server.port, canary.port);
    let outbound = outbound(&[format!("http://127.0.0.1:{granted}")], &[&["127.0.0.1"]]);
    assert_eq!(send(&outbound, get(&format!("http://127.0.0.1:{granted}/a?b")), None).await, "200 hi");
    assert!(server.heads.lock().unwrap().first().unwrap().starts_with("POST /a?b HTTP/1.1\r\nhost: 127.0.0.1:"));
    for url in [
        format!("http://127.0.0.1:{other}/"),
        format!("http://localhost:{other}/"),
        format!("http://localhost:{granted}/"),
        format!("http://a.example:{other}/"),
        format!("http://[::1]:{other}/"),
        format!("http://[::ffff:127.0.0.1]:{granted}/"),
        format!("http://2130706433:{other}/"),
        format!("http://0x7f000001:{other}/"),
        format!("http://017700000001:{other}/"),
        format!("http://127.1:{other}/"),
        format!("http://127.1:{granted}/"),
        format!("http://0177.0.0.1:{granted}/"),
        format!("http://127.0.0.1.:{granted}/"),
        format!("http://127.0.0.1:{granted}@127.0.0.1:{other}/"),
        format!("http://user:password@127.0.0.1:{granted}/"),
        format!("https://127.0.0.1:{granted}/"),
        "http://127.0.0.1/".to_owned(),
    ] {
        assert_eq!(send(&outbound, get(&url), None).await, "HttpRequestDenied", "{url}");
    }
    assert_eq!((server.connections(), canary.connections()), (1, 0));
}

/// Goal: a granted name is not dialled where it must not be. Method: rows of addresses, a canary at each of them that is
/// of this machine.
#[tokio::test]
async fn a_granted_name_at_a_prohibited_address_is_not_dialled() {
    let canary = Server::start(Does::Answer(OK.into())).await;
    let url = format!("http://a.example:{}", canary.port);
    for addresses in
        [&["127.0.0.1"][..], &["::1"], &["::ffff:127.0.0.1"], &["169.254.169.254"], &["127.0.0.2", "127.0.0.1"]]
    {
        let outbound = outbound(std::slice::from_ref(&url), &[addresses]);
        assert_eq!(send(&outbound, get(&url), None).await, "DestinationIpProhibited", "{addresses:?}");
    }
    let unknown = outbound(std::slice::from_ref(&url), &[]);
    assert_eq!(send(&unknown, get(&url), None).await, "DnsError { rcode: None, info_code: None }");
    assert_eq!(canary.connections(), 0);
}

/// Goal: what was checked is what is dialled. Method: a name that is at a granted address when it is first looked up, and at
/// another one ever after; on both the same port answers.
#[tokio::test]
async fn a_rebinding_name_is_dialled_where_it_was_checked() {
    let (server, canary) = loop {
        let canary = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = canary.local_addr().unwrap().port();
        if let Ok(server) = TcpListener::bind(("127.0.0.2", port)).await {
            let answer = Does::Answer(OK.into());
            break (Server::on(server, answer.clone(), None), Server::on(canary, answer, None));
        }
    };
    let url = format!("http://a.example:{}", server.port);
    let outbound = outbound(std::slice::from_ref(&url), &[&["127.0.0.2"], &["127.0.0.1"]]);
    assert_eq!(send(&outbound, get(&url), None).await, "200 hi");
    assert_eq!(send(&outbound, get(&url), None).await, "DestinationIpProhibited");
    assert_eq!((server.connections(), canary.connections()), (1, 0));
}

/// Goal: a redirect is an answer. Method: one to a canary, which nobody follows.
#[tokio::test]
async fn a_redirect_is_not_followed() {
    let canary = Server::start(Does::Answer(OK.into())).await;
    let to = format!("http://127.0.0.1:{}/", canary.port);
    let redirect = format!("HTTP/1.1 302 Found\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n");
    let server = Server::start(Does::Answer(redirect)).await;
    let url = format!("http://127.0.0.1:{}", server.port);
    let outbound = outbound(std::slice::from_ref(&url), &[]);
    assert_eq!(send(&outbound, get(&url), None).await, "302 ");
    assert_eq!(send(&outbound, get(&to), None).await, "HttpRequestDenied");
    assert_eq!(canary.connections(), 0);
}

/// Goal: every way in which a server misbehaves ends in a code of its own. Method: a row a way, short limits.
#[tokio::test]
async fn a_misbehaving_server_has_its_own_code() {
    let short = Duration::from_millis(50);
    let waiting = HttpLimits { first_byte_timeout: short, between_bytes_timeout: short, ..limits() };
    let head = |length: u32| format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n");
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    check(Does::Answer(OK.into()), limits(), "200 hi").await;
    check(Does::Answer(head(1000) + &"x".repeat(1000)), limits(), &format!("200 {}", "x".repeat(1000))).await;
    check(Does::Answer(head(1001) + &"x".repeat(1001)), limits(), "HttpResponseBodySize(Some(1000))").await;
    check(
        Does::Answer(format!("{chunked}3e9\r\n{}\r\n0\r\n\r\n", "x".repeat(1001))),
        limits(),
        "200 HttpResponseBodySize(Some(1000))",
    )
    .await;
    check(Does::Answer(head(10) + "short"), limits(), "200 HttpResponseIncomplete").await;
    check(Does::Answer(format!("{chunked}nonsense")), limits(), "200 HttpProtocolError").await;
    check(Does::Answer("nonsense\r\n\r\n".into()), limits(), "HttpProtocolError").await;
    check(Does::Answer(String::new()), limits(), "ConnectionTerminated").await;
    check(Does::Endless(format!("HTTP/1.1 200 OK\r\n{}", "x: y\r\n".repeat(50))), limits(), "HttpProtocolError").await;
    check(
        Does::Answer(format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(64 << 10))),
        limits(),
        "HttpResponseHeaderSectionSize(Some(32768))",
    )
    .await;
    check(Does::Hang(String::new()), waiting, "HttpResponseTimeout").await;
    check(Does::Hang("HTTP/1.1 200 ".into()), waiting, "HttpResponseTimeout").await;
    check(Does::Hang(head(10) + "slow"), waiting, "200 ConnectionReadTimeout").await;
}

async fn check(does: Does, limits: HttpLimits, expected: &str) {
    let server = Server::start(does).await;
    let url = format!("http://127.0.0.1:{}", server.port);
    let outbound = outbound_within(limits, std::slice::from_ref(&url), &[]);
    assert_eq!(send(&outbound, get(&url), None).await, expected);
}

/// Goal: a guest may shorten a wait, not lengthen it.
#[test]
fn a_guest_may_only_ask_for_less() {
    let seconds = Duration::from_secs;
    assert_eq!(within(None, seconds(5)), seconds(5));
    assert_eq!(within(Some(seconds(1)), seconds(5)), seconds(1));
    assert_eq!(within(Some(seconds(600)), seconds(5)), seconds(5));
}

/// Goal: what a guest sends is bounded, and some methods are never sent. Method: rows of requests, and what arrived.
#[tokio::test]
async fn a_request_is_bounded() {
    let server = Server::start(Does::Answer(OK.into())).await;
    let url = format!("http://127.0.0.1:{}", server.port);
    let outbound = outbound(std::slice::from_ref(&url), &[]);
    assert_eq!(send(&outbound, post(&url, &"x".repeat(1000)), None).await, "200 hi");
    let mut declared = post(&url, &"x".repeat(1001));
    declared.headers_mut().insert("content-length", 1001.into());
    assert_eq!(send(&outbound, declared, None).await, "HttpRequestBodySize(Some(1000))");
    assert_eq!(send(&outbound, post(&url, &"x".repeat(1001)), None).await, "HttpRequestBodySize(Some(1000))");
    for method in [Method::CONNECT, Method::TRACE] {
        let mut request = get(&url);
        *request.method_mut() = method;
        assert_eq!(send(&outbound, request, None).await, "HttpRequestMethodInvalid");
    }
    assert_eq!(server.heads.lock().unwrap().len(), 1);
}

/// Goal: exchanges of one plug-in are limited, and one that is let go of makes room. Method: a limit of one, and a server
/// that never answers.
#[tokio::test]
async fn exchanges_are_limited() {
    let server = Server::start(Does::Hang("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n".into())).await;
    let url = format!("http://127.0.0.1:{}", server.port);
    let outbound = outbound_within(HttpLimits { exchanges_max: 1, ..limits() }, std::slice::from_ref(&url), &[]);
    let exchange = || outbound.exchange(get(&url), RequestOptions::default(), None, report);
    let first = exchange().await.unwrap();
    assert!(matches!(exchange().await, Err(Error::ConnectionLimitReached)));
    drop(first);
    assert!(exchange().await.is_ok());
}

/// Goal: a wait for a name or a connection is limited. Method: a resolver that never answers.
#[tokio::test]
async fn a_name_that_is_never_resolved_times_out() {
    struct Never;
    impl Resolve for Never {
        fn resolve<'a>(&'a self, _: &'a str) -> witgate_core::BoxFuture<'a, std::io::Result<Vec<IpAddr>>> {
            Box::pin(std::future::pending())
        }
    }
    let limits = HttpLimits { connect_timeout: Duration::from_millis(20), ..limits() };
    let outbound = Outbound::with(vec![OutboundHost::parse("http://a.example").unwrap()], limits, Box::new(Never));
    assert_eq!(send(&outbound, get("http://a.example"), None).await, "DnsTimeout");
}

/// Goal: a server is believed by the authorities of its grant, for the name that was asked for, and by no other's.
/// Method: a server with a certificate for one name, and rows of grants.
#[tokio::test]
async fn a_certificate_is_verified() {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(["a.example".to_owned()]).unwrap().self_signed(&key).unwrap();
    let server = tls_server(&certificate, &key).await;
    let other = CertificateParams::new(["a.example".to_owned()]).unwrap();
    let other = other.self_signed(&KeyPair::generate().unwrap()).unwrap().pem();
    for (name, pem, expected) in [
        ("a.example", Some(certificate.pem()), "200 hi"),
        ("b.example", Some(certificate.pem()), "TlsCertificateError"),
        ("a.example", Some(other), "TlsCertificateError"),
        ("a.example", None, "TlsCertificateError"),
    ] {
        let url = format!("https://{name}:{}", server.port);
        let mut host = OutboundHost::parse(&url).unwrap().with_addresses(["127.0.0.1".parse().unwrap()]);
        if let Some(pem) = pem {
            host = host.with_certificate_authorities(Arc::new(Authorities::of(&pem).unwrap()));
        }
        let resolver = Box::new(FakeResolver::answering(&[&["127.0.0.1"]]));
        let outbound = Outbound::with(vec![host], limits(), resolver);
        assert_eq!(send(&outbound, get(&url), None).await, expected, "{name}");
    }
}

async fn tls_server(certificate: &rcgen::Certificate, key: &KeyPair) -> Server {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der())),
        )
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    Server::on(listener, Does::Answer(OK.into()), Some(TlsAcceptor::from(Arc::new(config))))
}

/// Goal: the cluster at hand is reached by its own URL and authorities, even at a private address, and no other is.
/// Method: rows of a cluster and a grant.
#[tokio::test]
async fn the_cluster_at_hand_is_reached_by_its_own_trust() {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap().self_signed(&key).unwrap();
    let server = tls_server(&certificate, &key).await;
    let url = format!("https://127.0.0.1:{}", server.port);
    let cluster = |server: &str, ca_data, skip_tls_verify| ClusterDetails {
        name: ClusterName::try_from("one").unwrap(),
        title: None,
        server: server.to_owned(),
        auth_metadata: Metadata::new(),
        ca_data,
        skip_tls_verify,
    };
    let granted = outbound(&["cluster".to_owned()], &[]);
    let elsewhere = outbound(&["https://sts.example".to_owned()], &[]);
    let pem = Some(certificate.pem());
    for (outbound, cluster, expected) in [
        (&granted, cluster(&url, pem.clone(), false), "200 hi"),
        (&granted, cluster(&format!("{url}/k8s/clusters/c-1"), pem.clone(), false), "200 hi"),
        (&granted, cluster(&url, None, true), "200 hi"),
        (&granted, cluster(&url, None, false), "TlsCertificateError"),
        (&granted, cluster(&url, Some("no PEM".into()), false), "TlsCertificateError"),
        (&granted, cluster("https://127.0.0.1:1", pem.clone(), false), "HttpRequestDenied"),
        (&elsewhere, cluster(&url, pem, false), "HttpRequestDenied"),
    ] {
        let server = outbound.cluster_server(&cluster);
        assert_eq!(send(outbound, get(&format!("{url}/version")), server.as_ref()).await, expected, "{cluster:?}");
    }
    assert_eq!(send(&granted, get(&url), None).await, "HttpRequestDenied", "no cluster is at hand");
}
