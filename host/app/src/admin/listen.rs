//! The admin listener's connections: on a loopback address, on a socket in the file system, or for holders of a certificate.

use std::convert::Infallible;
use std::fs;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tracing::{debug, warn};
use witgate_proxy::listener::CurrentTls;

use super::AdminState;
use super::guard::Exposure;

/// Where the admin routes listen.
pub(crate) enum Listener {
    /// On a loopback address.
    Loopback(TcpListener),
    /// On a socket in the file system.
    Unix {
        /// Takes the connections.
        listener: UnixListener,
        /// Its file, while it listens.
        _file: SocketFile,
    },
    /// For holders of a certificate.
    MutualTls(TcpListener, CurrentTls),
}

/// The file of a socket; removed when it is dropped.
pub(crate) struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Somebody may have removed it before.
        let _ = fs::remove_file(&self.0);
    }
}

impl Listener {
    /// Listens on a socket that only this user may open. A file that a gate which is gone has left is replaced.
    ///
    /// # Errors
    /// When somebody listens there, something else stands there, or it cannot be made.
    pub(crate) async fn unix(path: &Path) -> anyhow::Result<Self> {
        let shown = path.display();
        match fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("cannot listen on {shown} (`admin`)")),
            Ok(metadata) => {
                anyhow::ensure!(
                    metadata.file_type().is_socket(),
                    "cannot listen on {shown} (`admin`): it is no socket"
                );
                let is_served = UnixStream::connect(path).await.is_ok();
                anyhow::ensure!(!is_served, "cannot listen on {shown} (`admin`); another process listens there");
            }
        }
        // Made where nobody else can look, and put in its place with its mode: there is no moment in which others could open it.
        let folder = path.parent().unwrap_or(Path::new("")).join(format!(".witgate-{}", std::process::id()));
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&folder)
            .with_context(|| format!("cannot make a folder beside {shown} (`admin`)"))?;
        let made = folder.join("s");
        let listener = UnixListener::bind(&made).and_then(|listener| {
            fs::set_permissions(&made, fs::Permissions::from_mode(0o600))?;
            fs::rename(&made, path)?;
            Ok(listener)
        });
        let _ = fs::remove_file(&made);
        let _ = fs::remove_dir(&folder);
        let listener = listener.with_context(|| format!("cannot listen on {shown} (`admin`)"))?;
        Ok(Self::Unix { listener, _file: SocketFile(path.to_owned()) })
    }

    /// Its address, where it has one.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Loopback(listener) | Self::MutualTls(listener, _) => listener.local_addr().ok(),
            Self::Unix { .. } => None,
        }
    }
}

/// Answers the admin routes until `shutdown` is over, then lets requests in flight end.
pub(crate) async fn serve(listener: Listener, state: Arc<AdminState>, shutdown: impl Future<Output = ()> + Send) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let (stop, stopping) = watch::channel(());
    let mut connections = JoinSet::new();
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener) => accepted,
            Some(_) = connections.join_next() => continue,
            () = &mut shutdown => break,
        };
        let connection = match accepted {
            Ok(connection) => connection,
            Err(error) => {
                // Out of file descriptors, most likely: trying again at once would only burn the processor.
                warn!(%error, "the admin listener cannot accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else {
            debug!("the admin listener has its {CONNECTIONS_MAX} connections");
            continue;
        };
        let connection = connection.serve(Arc::clone(&state), stopping.clone());
        connections.spawn(async move {
            // A client that reads slowly, or never, must not keep its slot.
            if tokio::time::timeout(CONNECTION_AGE_MAX, connection).await.is_err() {
                debug!("an admin connection is closed at its greatest age");
            }
            drop(slot);
        });
    }
    drop((listener, stop));
    let ended = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(SHUTDOWN_GRACE, ended).await.is_err() {
        debug!("admin connections are cut off");
    }
}

/// A connection that was taken.
enum Connection {
    Tcp(tokio::net::TcpStream),
    Unix(UnixStream),
    Tls(tokio::net::TcpStream, CurrentTls),
}

async fn accept(listener: &Listener) -> io::Result<Connection> {
    match listener {
        Listener::Loopback(listener) => Ok(Connection::Tcp(listener.accept().await?.0)),
        Listener::Unix { listener, .. } => Ok(Connection::Unix(listener.accept().await?.0)),
        Listener::MutualTls(listener, tls) => Ok(Connection::Tls(listener.accept().await?.0, Arc::clone(tls))),
    }
}

impl Connection {
    async fn serve(self, state: Arc<AdminState>, stopping: watch::Receiver<()>) {
        match self {
            Self::Tcp(stream) => serve_connection(stream, state, Exposure::AnyName, stopping).await,
            Self::Unix(stream) => serve_connection(stream, state, Exposure::Known, stopping).await,
            Self::Tls(stream, tls) => match handshake(stream, &tls).await {
                Ok(stream) => serve_connection(stream, state, Exposure::Known, stopping).await,
                Err(error) => debug!(%error, "an admin connection is refused"),
            },
        }
    }
}

/// The handshake with who has a certificate of the authorities.
async fn handshake(
    stream: tokio::net::TcpStream,
    tls: &CurrentTls,
) -> io::Result<tokio_rustls::server::TlsStream<tokio::net::TcpStream>> {
    let mut config = rustls::ServerConfig::clone(&tls.load());
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let accepting = TlsAcceptor::from(Arc::new(config)).accept(stream);
    let stream = tokio::time::timeout(HEADER_TIMEOUT, accepting).await??;
    // One that is shown was verified; here it must be shown.
    if stream.get_ref().1.peer_certificates().is_none_or(<[_]>::is_empty) {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "no client certificate"));
    }
    Ok(stream)
}

/// Serves one connection to its end, which is near once the sender of `stopping` is gone.
async fn serve_connection<S>(stream: S, state: Arc<AdminState>, exposure: Exposure, mut stopping: watch::Receiver<()>)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let service = service_fn(move |request: Request<Incoming>| {
        let state = Arc::clone(&state);
        async move { Ok::<_, Infallible>(state.respond(request, exposure).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        // It also ends a connection that is idle between two requests.
        .header_read_timeout(HEADER_TIMEOUT)
        .max_headers(HEADERS_MAX)
        .max_buf_size(BUFFER_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = &mut connection => ended,
        _ = stopping.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        debug!(%error, "an admin connection broke off");
    }
}

/// Connections at once; a further one is closed, as a probe should rather fail than wait.
const CONNECTIONS_MAX: usize = 64;
/// How long a request's head may take.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
const HEADERS_MAX: usize = 64;
const BUFFER_BYTES_MAX: usize = 32 << 10;
/// How long a connection may last, however much it is used.
const CONNECTION_AGE_MAX: Duration = Duration::from_secs(600);
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
pub(super) const SHUTDOWN_GRACE: Duration = Duration::from_secs(5);
