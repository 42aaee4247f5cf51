//! An API server that is asked for an upgrade: it keeps every byte that it gets, and answers what the test says.
//!
//! It works on bytes, so it can answer wrongly, speak early, and see what must never arrive. With an answer that is never
//! a 101 it is any server under suspicion, and one that nobody may connect to is a canary.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, split};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::authority::{Authority, HTTP2_AND_HTTP1, server_tls};
use crate::cluster::Cluster;
use crate::waiting::soon;

/// A running peer; it ends with the test's runtime.
pub struct UpgradePeer {
    address: SocketAddr,
    certificate_authority: Option<String>,
    state: Arc<State>,
}

type Answering = Box<dyn Fn(&Heard) -> String + Send + Sync>;

struct State {
    answering: Answering,
    then: Then,
    heard: Mutex<Vec<Heard>>,
    changed: watch::Sender<()>,
}

/// What a peer does once it has answered a head. It reads on to the end, whatever it does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Then {
    /// Says nothing more.
    Listen,
    /// Sends back what it gets.
    Echo,
    /// Sends without end.
    Flood,
    /// Sends no more, and says so.
    HalfClose,
}

/// What came on one connection.
#[derive(Clone, Debug, Default)]
pub struct Heard {
    /// Every byte.
    pub bytes: Vec<u8>,
    /// Whether the other side has ended the connection.
    pub has_ended: bool,
    /// What TLS settled on.
    pub alpn: Option<String>,
}

/// How a peer behaves, chosen before it starts.
pub struct UpgradePeerBuilder {
    answering: Answering,
    then: Then,
    tls: Option<(Arc<ServerConfig>, String)>,
}

impl UpgradePeer {
    /// A peer that writes what `answering` makes of the request's head.
    pub fn answering(answering: impl Fn(&Heard) -> String + Send + Sync + 'static) -> UpgradePeerBuilder {
        UpgradePeerBuilder { answering: Box::new(answering), then: Then::Listen, tls: None }
    }

    /// A peer that writes `answer`, whatever it is asked.
    pub fn saying(answer: impl Into<String>) -> UpgradePeerBuilder {
        let answer = answer.into();
        Self::answering(move |_| answer.clone())
    }

    /// A peer that switches to what it is asked for, as an API server does.
    pub fn switching() -> UpgradePeerBuilder {
        Self::answering(Heard::switching)
    }

    /// Its URL.
    pub fn url(&self) -> String {
        let scheme = if self.certificate_authority.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// It as cluster `one`, with the strategy `authProvider`.
    pub fn cluster(&self, auth_provider: &str) -> Cluster {
        let cluster = Cluster::at_url("one", &self.url(), auth_provider);
        match &self.certificate_authority {
            None => cluster,
            Some(pem) => cluster.ca_data(pem),
        }
    }

    /// What came, one entry a connection.
    pub fn heard(&self) -> Vec<Heard> {
        self.state.heard.lock().unwrap().clone()
    }

    /// Waits until what came is as `wanted` says, and gives it.
    pub async fn wait_for(&self, what: &str, wanted: impl Fn(&[Heard]) -> bool) -> Vec<Heard> {
        let mut changed = self.state.changed.subscribe();
        soon(what, async {
            while !wanted(&self.state.heard.lock().unwrap()) {
                changed.changed().await.expect("the state outlives the wait");
            }
        })
        .await;
        self.heard()
    }

    /// Waits until `count` connections have ended, which are all there were, and gives what came on them.
    pub async fn ended(&self, count: usize) -> Vec<Heard> {
        let all_ended = |heard: &[Heard]| heard.len() >= count && heard.iter().all(|heard| heard.has_ended);
        let heard = self.wait_for("the gate closes its connections", all_ended).await;
        assert_eq!(heard.len(), count, "connections at the peer");
        heard
    }
}

impl UpgradePeerBuilder {
    /// Goes on with `then`.
    #[must_use]
    pub fn then(mut self, then: Then) -> Self {
        self.then = then;
        self
    }

    /// Speaks TLS with a certificate of `authority`, and offers HTTP/2 too.
    #[must_use]
    pub fn tls(mut self, authority: &Authority) -> Self {
        self.tls = Some((server_tls(&authority.server(), None, &HTTP2_AND_HTTP1), authority.pem()));
        self
    }

    /// Starts it on a free port.
    pub async fn start(self) -> UpgradePeer {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (tls, certificate_authority) = self.tls.unzip();
        let state = Arc::new(State {
            answering: self.answering,
            then: self.then,
            heard: Mutex::default(),
            changed: watch::Sender::default(),
        });
        let acceptor = tls.map(TlsAcceptor::from);
        let accepting = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(handshake(stream, acceptor.clone(), Arc::clone(&accepting)));
            }
        });
        UpgradePeer { address, certificate_authority, state }
    }
}

impl Heard {
    /// The request's head; all that came, where it is not whole.
    pub fn head(&self) -> String {
        String::from_utf8_lossy(self.bytes.get(..self.head_bytes()).unwrap_or(&self.bytes)).into_owned()
    }

    /// What came behind the head.
    pub fn behind_head(&self) -> &[u8] {
        self.bytes.get(self.head_bytes()..).unwrap_or_default()
    }

    /// A header's value, if the head has it once.
    pub fn header(&self, name: &str) -> Option<String> {
        let head = self.head();
        let mut values = head
            .lines()
            .skip(1)
            .filter_map(|line| line.split_once(": "))
            .filter(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.to_owned());
        let value = values.next();
        assert_eq!(values.next(), None, "`{name}` came more than once: {head}");
        value
    }

    /// A 101 to what this head asks for; with the first subprotocol that it offers.
    pub fn switching(&self) -> String {
        let protocol = self.header("upgrade").unwrap_or_default();
        let mut answer = format!("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\n");
        if let Some(key) = self.header("sec-websocket-key") {
            answer.push_str(&format!("Sec-WebSocket-Accept: {}\r\n", derive_accept_key(key.as_bytes())));
        }
        if let Some(offered) = self.header("sec-websocket-protocol") {
            let first = offered.split(',').next().unwrap_or_default().trim();
            answer.push_str(&format!("Sec-WebSocket-Protocol: {first}\r\n"));
        }
        answer + "\r\n"
    }

    fn head_bytes(&self) -> usize {
        self.bytes.windows(4).position(|window| window == b"\r\n\r\n").map_or(usize::MAX, |position| position + 4)
    }
}

async fn handshake(stream: TcpStream, tls: Option<TlsAcceptor>, state: Arc<State>) {
    stream.set_nodelay(true).unwrap();
    let Some(tls) = tls else { return converse(stream, None, &state).await };
    let Ok(stream) = tls.accept(stream).await else { return };
    let alpn = stream.get_ref().1.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned());
    converse(stream, alpn, &state).await;
}

async fn converse(stream: impl AsyncRead + AsyncWrite + Send + 'static, alpn: Option<String>, state: &Arc<State>) {
    let index = {
        let mut heard = state.heard.lock().unwrap();
        heard.push(Heard { alpn, ..Heard::default() });
        heard.len() - 1
    };
    let note = |change: &dyn Fn(&mut Heard)| {
        let mut heard = state.heard.lock().unwrap();
        let heard = heard.get_mut(index).expect("connections are only added");
        change(heard);
        state.changed.send_replace(());
        heard.clone()
    };
    note(&|_| {});
    let (mut reader, mut writer) = split(stream);
    let mut writer = Some(&mut writer);
    let mut answered = false;
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let length = match reader.read(&mut buffer).await {
            Ok(length) if length > 0 => length,
            _ => break,
        };
        let read = buffer.get(..length).unwrap_or_default();
        let heard = note(&|heard| heard.bytes.extend_from_slice(read));
        let echoed = if !answered && heard.head_bytes() != usize::MAX {
            answered = true;
            if let Some(writer) = &mut writer {
                let _gone = writer.write_all((state.answering)(&heard).as_bytes()).await;
            }
            heard.behind_head().to_vec()
        } else {
            read.to_vec()
        };
        match (state.then, &mut writer) {
            (Then::Echo, Some(writer)) if answered => {
                let _gone = writer.write_all(&echoed).await;
            }
            (Then::Flood, Some(writer)) if answered => while writer.write_all(&[0; 16 * 1024]).await.is_ok() {},
            (Then::HalfClose, Some(open)) if answered => {
                let _gone = open.shutdown().await;
                writer = None;
            }
            _ => {}
        }
    }
    note(&|heard| heard.has_ended = true);
}
