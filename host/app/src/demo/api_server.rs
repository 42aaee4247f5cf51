//! An API server in miniature, good enough for kubectl: the clusters behind `witgate demo`.
//!
//! It keeps its objects in memory, runs nothing, and knows one bearer token. It is no part of the gate: the gate reaches
//! it over the network, with TLS, as it reaches a real one.
//!
//! Promise: [`SampleApiServer::stop`] ends its streams and connections, and returns within [`STOP_TIMEOUT`].

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;
use witgate_core::Redacted;

use super::certificates::ServerCertificate;
use super::objects::Objects;
use super::routes::Cluster;
use super::sample_objects::{self, SampleObjects};

/// A running sample cluster.
#[derive(Debug)]
pub(crate) struct SampleApiServer {
    address: SocketAddr,
    authority: String,
    #[cfg(test)]
    objects: Arc<Objects>,
    stop: watch::Sender<bool>,
    server: JoinHandle<()>,
}

/// What a sample cluster is to be.
#[derive(Clone, Debug)]
pub(crate) struct SampleApiServerOptions {
    /// Its name, in its certificate.
    pub name: String,
    /// Where it listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The one bearer token that it takes: its service account's.
    pub token: Redacted<String>,
    /// What it begins with.
    pub objects: SampleObjects,
    /// What moves its clock.
    pub clock: Clock,
}

/// What moves the clock of a sample cluster.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Clock {
    /// A tick each second.
    EverySecond,
    /// `SampleApiServer::tick` alone.
    #[cfg(test)]
    ByHand,
}

impl SampleApiServer {
    /// Starts a cluster.
    ///
    /// # Errors
    /// When the address cannot be listened on, or no certificate can be made.
    pub(crate) async fn start(options: SampleApiServerOptions) -> anyhow::Result<Self> {
        let SampleApiServerOptions { name, listen, token, objects: samples, clock } = options;
        let hosts = ["localhost".to_owned(), listen.ip().to_string()];
        let certificate = ServerCertificate::generate(&format!("witgate demo {name}"), &hosts)?;
        let tls = TlsAcceptor::from(Arc::new(certificate.tls()?));
        let listener = TcpListener::bind(listen)
            .await
            .with_context(|| format!("the sample API server `{name}` cannot listen on {listen}"))?;
        let address = listener.local_addr()?;
        let objects = Arc::new(Objects::new());
        samples
            .create_in(&objects)
            .map_err(|failure| anyhow::anyhow!("sample objects of `{name}`: {}", failure.to_json()))?;
        let (stop, stopping) = watch::channel(false);
        let cluster = Arc::new(Cluster { objects: Arc::clone(&objects), token, stop: stopping.clone() });
        let server = tokio::spawn(serve(listener, tls, cluster, clock, stopping));
        Ok(Self {
            address,
            authority: certificate.authority,
            #[cfg(test)]
            objects,
            stop,
            server,
        })
    }

    /// Where it listens.
    pub(crate) const fn addr(&self) -> SocketAddr {
        self.address
    }

    /// Its URL.
    pub(crate) fn url(&self) -> String {
        format!("https://{}", self.addr())
    }

    /// The certificate authority that a client must trust, as PEM.
    pub(crate) fn authority(&self) -> &str {
        &self.authority
    }

    /// Moves the clock by a second: `default/clock` changes, pending pods run, followed logs get a line.
    #[cfg(test)]
    pub(crate) fn tick(&self) {
        tick(&self.objects);
    }

    /// Ends everything.
    pub(crate) async fn stop(self) {
        self.stop.send_replace(true);
        if self.server.await.is_err() {
            tracing::warn!("a sample API server ended by a panic");
        }
    }
}

/// Accepts connections until told to stop, then ends them.
async fn serve(
    listener: TcpListener,
    tls: TlsAcceptor,
    cluster: Arc<Cluster>,
    clock: Clock,
    stopping: watch::Receiver<bool>,
) {
    let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut tasks = JoinSet::new();
    let mut seconds = tokio::time::interval(Duration::from_secs(1));
    seconds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut stop = stopping.clone();
    loop {
        tokio::select! {
            () = stopped(&mut stop) => break,
            _ = seconds.tick(), if clock == Clock::EverySecond => tick(&cluster.objects),
            Some(_) = tasks.join_next() => {}
            accepted = listener.accept() => match accepted {
                // One connection too many is closed at once: the client sees it and tries again.
                Ok((stream, _)) => if let Ok(permit) = Arc::clone(&connections).try_acquire_owned() {
                    let (tls, cluster, stop) = (tls.clone(), Arc::clone(&cluster), stopping.clone());
                    tasks.spawn(async move {
                        connection(stream, tls, cluster, stop).await;
                        drop(permit);
                    });
                },
                Err(error) => {
                    tracing::warn!(%error, "a sample API server cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    let ended = async { while tasks.join_next().await.is_some() {} };
    if tokio::time::timeout(STOP_TIMEOUT, ended).await.is_err() {
        tasks.abort_all();
    }
}

/// Serves one connection in the protocol that its handshake chose.
async fn connection(stream: TcpStream, tls: TlsAcceptor, cluster: Arc<Cluster>, mut stop: watch::Receiver<bool>) {
    stream.set_nodelay(true).ok();
    let stream = match tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%error, "a handshake with a sample API server failed"),
        Err(_) => return,
    };
    let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let service = service_fn(move |request: Request<Incoming>| {
        let cluster = Arc::clone(&cluster);
        async move { Ok::<_, std::convert::Infallible>(cluster.answer(request).await) }
    });
    let stream = TokioIo::new(stream);
    let ended = if is_http2 {
        let mut server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        server.timer(TokioTimer::new()).max_concurrent_streams(HTTP2_STREAMS_MAX);
        let mut connection = std::pin::pin!(server.serve_connection(stream, service));
        tokio::select! {
            ended = connection.as_mut() => ended,
            () = stopped(&mut stop) => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        }
    } else {
        let mut server = hyper::server::conn::http1::Builder::new();
        server.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
        let mut connection = std::pin::pin!(server.serve_connection(stream, service));
        tokio::select! {
            ended = connection.as_mut() => ended,
            () = stopped(&mut stop) => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection to a sample API server broke off");
    }
}

/// Waits until the server is told to stop, or is gone.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    drop(stop.wait_for(|stop| *stop).await);
}

fn tick(objects: &Objects) {
    if let Err(failure) = sample_objects::tick(objects) {
        tracing::debug!(failure = %failure.to_json(), "a sample cluster's clock could not move");
    }
}

/// Connections to one sample cluster at a time.
const CONNECTIONS_MAX: usize = 512;
/// Requests on one HTTP/2 connection at a time.
const HTTP2_STREAMS_MAX: u32 = 256;
/// How long a TLS handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a request's head may take.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// What a failing accept waits, so that it cannot spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long connections may take to end.
pub(crate) const STOP_TIMEOUT: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests;
