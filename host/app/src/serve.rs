//! `witgate serve`: wires the parts together, runs them, and takes them down in order.
//!
//! Up: plug-ins and clusters are tried, then the listeners open. Down: `/readyz` fails
//! first, after `drain.delayMs` the data plane takes nothing new, what is under way ends or is cut at
//! the deadline, the decision log is written to its end, and the exit code is 0.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::{Context as _, anyhow};
use sd_notify::NotifyState;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinSet;
use tracing::{error, info, warn};
use witgate_proxy::counts::GateCounts;
use witgate_proxy::drain::Drain;
use witgate_proxy::gate::Gate;
use witgate_proxy::listener;
use witgate_proxy::trace::Tracer;
use witgate_proxy::workers::{self, Workers};

use crate::admin::listen::{self, Listener};
use crate::admin::trial::Trials;
use crate::admin::{AdminSources, AdminState};
use crate::cluster_health::ClusterHealth;
use crate::config::{AdminListen, Config, PermissionRule};
use crate::decision_log::Decisions;
use crate::decision_log::json_lines::JsonLines;
use crate::decision_log::recent::Recent;
use crate::listener_tls;
use crate::metrics::{Metrics, text};
use crate::plugins::watch::FolderWatch;
use crate::snapshot::{self, Control};
use crate::telemetry::Telemetry;
use crate::trust_files;

/// A gate that serves.
pub(crate) struct Serving {
    /// Where the data plane listens.
    pub(crate) address: SocketAddr,
    /// Where the admin routes listen.
    pub(crate) admin: Option<SocketAddr>,
    gate: Arc<Gate>,
    drain: Arc<Drain>,
    admin_state: Arc<AdminState>,
    admin_stop: Option<oneshot::Sender<()>>,
    decision_log: Option<Arc<JsonLines>>,
    telemetry: Option<Arc<Telemetry>>,
    /// Ended when this is dropped.
    tasks: JoinSet<()>,
    _workers: Arc<Workers>,
}

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// When anything of the configuration turns out not to work.
pub(crate) async fn run(config: Config) -> anyhow::Result<()> {
    // Before anything else, so that a signal during a slow start is not lost.
    let stop = stop_signal()?;
    let serving = start(config).await?;
    tell_service_manager(NotifyState::Ready);
    let signal = stop.await;
    info!(signal, "stopping");
    tell_service_manager(NotifyState::Stopping);
    serving.stop().await;
    Ok(())
}

/// Tells systemd, where it asked to be told (`Type=notify`).
fn tell_service_manager(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        warn!(%error, "the service manager was not told");
    }
}

/// Starts to serve, and returns once it does.
///
/// # Errors
/// With everything that keeps the gate from serving.
pub(crate) async fn start(config: Config) -> anyhow::Result<Serving> {
    let started_at = SystemTime::now();
    for note in &config.notes {
        warn!("{note}");
    }
    if config.permission == PermissionRule::Disabled {
        warn!("`permission.enabled` is false: no policy is asked, and every authenticated caller may do everything");
    }
    let limits = config.limits;
    let decision_log =
        config.decision_log.as_ref().map(|log| JsonLines::start(&log.target, log.on_full, log.lines_max));
    let decision_log = decision_log.transpose()?.map(Arc::new);
    let telemetry = config.telemetry.as_ref().map(Telemetry::new).transpose()?;
    let (telemetry, sending) = telemetry.map(|(telemetry, sending)| (Arc::new(telemetry), sending)).unzip();
    let current = snapshot::empty();
    let changed = Arc::<Notify>::default();
    // Before the first scan, so that no change between the two is missed.
    let watch = FolderWatch::new(&config.plugins.directory, Arc::clone(&changed))?;
    let Control { reload, handle, status, credentials, refused, meters, plugin_trust, file } =
        Control::start(&config, Arc::clone(&current), Arc::clone(&changed))
            .await
            .map_err(|problems| anyhow!(problems.join("\n")))?;

    let tls = config.tls.as_ref().map(listener_tls::load).transpose()?;
    let listener = bind("listen", config.listen).await?;
    let mut tasks = JoinSet::new();
    let admin_listener = match &config.admin {
        Some(listen) => Some(admin_listener(listen, &mut tasks).await?),
        None => None,
    };

    let counts = Arc::<GateCounts>::default();
    let metrics = Arc::new(Metrics {
        started_at,
        counts: Arc::clone(&counts),
        current: Arc::clone(&current),
        credentials: Arc::clone(&credentials),
        plugins: meters,
        reloads: Arc::default(),
        decision_log: decision_log.clone(),
        telemetry: telemetry.as_ref().map(|telemetry| Arc::clone(telemetry.counts())),
    });
    tasks.spawn(Arc::clone(&metrics.reloads).follow(status.clone()));
    if let (Some(sending), Some(config)) = (sending, &config.telemetry) {
        if config.metrics {
            tasks.spawn(sending.metrics(Arc::clone(&metrics), config.metrics_interval));
        }
        if config.traces {
            tasks.spawn(sending.send_traces());
        }
    }
    let health = ClusterHealth {
        current: Arc::clone(&current),
        reload: status.clone(),
        refused,
        credentials: Arc::clone(&credentials),
    };
    let recent = admin_listener.as_ref().map(|_| Arc::<Recent>::default());
    let admin_state = Arc::new(AdminState::new(AdminSources {
        reload: status,
        clusters: Box::new(move || health.list()),
        credentials: Box::new(move || credentials.status()),
        configuration: Box::new({
            let file = Arc::clone(&file);
            move || file.status()
        }),
        metrics: Box::new(move || text::encode(&metrics)),
        log_refuses: Box::new({
            let log = decision_log.clone();
            move || log.as_ref().is_some_and(|log| log.refuses())
        }),
        recent: recent.clone().unwrap_or_default(),
        trials: Trials::new(Arc::clone(&current)),
        control: Some(handle.clone()),
    }));
    tasks.spawn(watch.run());
    tasks.spawn(reload.run());
    tasks.spawn(trust_files::follow(Arc::clone(&file), plugin_trust));
    tasks.spawn(Arc::clone(&file).follow(changed));
    if let Some(log) = decision_log.clone() {
        tasks.spawn(reopen_on_hangup(log)?);
    }
    tasks.spawn(async move {
        if let Err(error) = handle.trigger_on_hangup().await {
            warn!(%error, "SIGHUP is not listened to");
        }
    });
    let address = listener.local_addr()?;
    let (admin, admin_stop) = match admin_listener {
        None => (None, None),
        Some(listener) => {
            let address = listener.address();
            let (stop, stopped) = oneshot::channel::<()>();
            let state = Arc::clone(&admin_state);
            tasks.spawn(async move {
                listen::serve(listener, state, async move {
                    // Dropping the sender stops it too.
                    let _ = stopped.await;
                })
                .await;
            });
            match address {
                Some(address) => info!(listener = "admin", %address, "listening"),
                None => info!(listener = "admin", "listening on a socket"),
            }
            (address, Some(stop))
        }
    };
    if let (Some(files), Some(tls)) = (config.tls, &tls) {
        tasks.spawn(listener_tls::follow(files, Arc::clone(tls)));
    }
    let mask = config.decision_log.map(|log| log.mask).unwrap_or_default();
    let decisions = Arc::new(Decisions { lines: decision_log.clone(), recent, mask });
    let traces = config.telemetry.is_some_and(|telemetry| telemetry.traces);
    let tracer = telemetry.clone().filter(|_| traces).map(|telemetry| telemetry as Arc<dyn Tracer>);
    let gate = Arc::new(Gate { snapshot: current, decision_log: decisions, counts, tracer, limits });
    let drain = Arc::new(Drain::default());
    let workers =
        Workers::start(workers::processors()).context("the threads that serve connections cannot be started")?;
    let workers = Arc::new(workers);
    let scheme = if tls.is_some() { "https" } else { "http" };
    tasks.spawn({
        let (gate, drain) = (Arc::clone(&gate), Arc::clone(&drain));
        let workers = Arc::clone(&workers);
        async move { listener::serve(listener, tls, gate, &workers, &drain).await }
    });
    admin_state.data_plane_listens();
    info!(listener = "data plane", %address, scheme, "listening");
    Ok(Serving {
        address,
        admin,
        gate,
        drain,
        admin_state,
        admin_stop,
        decision_log,
        telemetry,
        tasks,
        _workers: workers,
    })
}

impl Serving {
    /// Takes the gate down; ends within the drain's delay and deadline and a little.
    pub(crate) async fn stop(mut self) {
        self.admin_state.drain_begins();
        // Whoever balances the load sends requests here until it has learned that this gate is not ready.
        tokio::time::sleep(self.gate.limits.drain_delay).await;
        if !self.drain.run(self.gate.limits.drain_deadline).await {
            warn!("connections were cut at the drain's deadline");
        }
        if let Some(telemetry) = self.telemetry.take() {
            telemetry.flush().await;
        }
        drop(self.admin_stop.take());
        self.tasks.abort_all();
        if let Some(log) = self.decision_log.take()
            && let Err(error) = tokio::task::spawn_blocking(move || log.close()).await
        {
            error!(%error, "the decision log was not closed");
        }
        info!("stopped");
    }
}

/// Opens the admin listener, and follows its certificate's files where it has one.
async fn admin_listener(listen: &AdminListen, tasks: &mut JoinSet<()>) -> anyhow::Result<Listener> {
    match listen {
        AdminListen::Loopback(address) => Ok(Listener::Loopback(bind("admin", *address).await?)),
        AdminListen::Unix(path) => Listener::unix(path).await,
        AdminListen::MutualTls(address, files) => {
            let tls = listener_tls::load(files)?;
            tasks.spawn(listener_tls::follow(files.clone(), Arc::clone(&tls)));
            Ok(Listener::MutualTls(bind("admin", *address).await?, tls))
        }
    }
}

/// Opens the decision log's file anew at each SIGHUP, which is how `logrotate` and others say that they moved it.
fn reopen_on_hangup(log: Arc<JsonLines>) -> anyhow::Result<impl Future<Output = ()>> {
    let mut hangups = signal(SignalKind::hangup()).context("cannot listen to SIGHUP")?;
    Ok(async move {
        while hangups.recv().await.is_some() {
            log.reopen();
        }
    })
}

async fn bind(key: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address} (`{key}`); is another process there?"))
}

/// Listens at once; ends with the name of the signal that came.
fn stop_signal() -> anyhow::Result<impl Future<Output = &'static str>> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen to SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen to SIGINT")?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        }
    })
}
