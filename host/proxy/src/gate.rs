//! The life of a request, from top to bottom.
//!
//! route → authenticate → RequestInfo → policies → cluster → strategy → forward. Each
//! step is a module; this one puts them in order and nothing else. Whatever fails
//! becomes an answer in one place ([`respond`]), and each request leaves one line
//! in the decision log, two where it is a stream.

use std::net::SocketAddr;
use std::sync::Arc;

use http::header::{CONTENT_LENGTH, UPGRADE};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use tracing::{Instrument as _, debug, debug_span, error, warn};
use witgate_core::{
    CallError, ClientCertificate, ClusterName, Credential, Impersonation, Permission, RequestAttributes, RequestTarget,
    UserInfo,
};

use crate::authorize::{chain, judge};
use crate::body::Body;
use crate::caller;
use crate::clusters::{self, ListClusters};
use crate::counts::{GateCounts, LongLived, RouteKind};
use crate::decision::{DecisionId, DecisionLog};
use crate::drain::Watcher;
use crate::exchange::Exchange;
use crate::forward::{self, Identity, Stream, forward};
use crate::impersonation;
use crate::limits::Limits;
use crate::renewal::Renewal;
use crate::respond::{self, Asked, GateError};
use crate::route::{self, Route};
use crate::snapshot::{ClientAuthorization, ClientImpersonation, Cluster, CurrentSnapshot, Snapshot};
use crate::trace::{StepName, Trace, Tracer};
use crate::trail::Trail;
use crate::upgrade::{self, Tunnel, upgrade};

/// The data plane: what every connection shares.
pub struct Gate {
    /// Who is believed, the policies and the clusters, replaced whole by a reload.
    pub snapshot: Arc<CurrentSnapshot>,
    /// Where decisions are written.
    pub decision_log: Arc<dyn DecisionLog>,
    /// What all requests come to.
    pub counts: Arc<GateCounts>,
    /// Takes the traces of some requests; none where nobody wants them.
    pub tracer: Option<Arc<dyn Tracer>>,
    /// What a request may take.
    pub limits: Limits,
}

/// The other end of a client's connection.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Where it calls from.
    pub address: SocketAddr,
    /// What it showed in the TLS handshake, verified.
    pub client_certificate: Option<ClientCertificate>,
}

impl Gate {
    /// Answers one request. Always answers: an error is an answer too.
    pub async fn handle(&self, request: Request<Incoming>, peer: &Peer, drain: &Watcher) -> Response<Body> {
        let id = DecisionId::generate();
        let span = debug_span!("request", %id, method = %request.method(), peer = %peer.address);
        self.answer(id, request, peer, drain).instrument(span).await
    }

    async fn answer(
        &self,
        id: DecisionId,
        mut request: Request<Incoming>,
        peer: &Peer,
        drain: &Watcher,
    ) -> Response<Body> {
        // First, because an extended CONNECT is judged, logged and answered as the GET that it stands for.
        let upgrade = upgrade::wished(&mut request);
        let upgrade_form = upgrade.as_ref().map(|wish| wish.form);
        let trace = Trace::begin(self.tracer.as_deref(), request.headers_mut());
        let (parts, body) = request.into_parts();
        let method = parts.method.clone();
        let path_and_query = parts.uri.path_and_query().map_or("/", PathAndQuery::as_str).to_owned();
        let route = Route::of(&path_and_query);
        let mut record = Record { trail: Trail::begin(id, &method, trace), route: RouteKind::of(&route), gate: self };
        let trail = &mut record.trail;
        // Wider than `upgrade`: the listener stops looking at framing behind any such request, one that cannot be read too.
        let leaves_http = parts.headers.contains_key(UPGRADE) || method == Method::CONNECT;
        let exchange = Exchange { parts, body, upgrade, peer, drain };
        let mut response = match self.serve(&route, exchange, trail).await {
            Ok(response) => {
                trail.answered(response.status(), forward::announced_bytes(response.headers()));
                response
            }
            Err(error) => {
                log_failure(&error);
                let path = path_and_query.split('?').next().unwrap_or_default();
                let asked = Asked { manners: route.manners(), method: &method, path };
                let response = respond::failure(&error, asked);
                trail.failed(&error, response.status());
                response
            }
        };
        if method == Method::HEAD
            && let Some(length) = response.body_mut().take_content()
        {
            response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
        }
        if leaves_http && upgrade_form.is_none_or(|form| form.success() != response.status()) {
            // The client may have sent bytes of the other protocol already; they are nobody's request.
            forward::close_after(response.headers_mut());
        }
        respond::warn(response.headers_mut(), trail.warnings());
        drop(record);
        respond::stamp(&mut response, id);
        response
    }

    async fn serve(
        &self,
        route: &Route<'_>,
        mut exchange: Exchange<'_>,
        trail: &mut Trail,
    ) -> Result<Response<Body>, GateError> {
        trail.admitted(self.decision_log.admit()?);
        exchange.check_form()?;
        if matches!(route, Route::Unknown) {
            return Err(GateError::UnknownRoute);
        }
        let snapshot = self.snapshot.read();
        trail.judged_by(snapshot.generation);
        let caller = authenticate(&snapshot, &mut exchange, trail).await?;
        match route {
            Route::Unknown => Err(GateError::UnknownRoute),
            Route::BackstageClusters => list_clusters(&snapshot, &exchange, &caller, trail).await,
            Route::BackstageProxy { rest } => {
                let cluster = named_or_only(exchange.headers(), &snapshot)?;
                self.proxy(&snapshot, &caller, cluster, &rest.to_path_and_query(), exchange, trail).await
            }
            Route::Kubernetes { cluster, rest } => {
                let cluster = route::cluster_name(cluster)
                    .ok_or_else(|| GateError::UnknownCluster(cluster.chars().take(253).collect()))?;
                self.proxy(&snapshot, &caller, cluster, &rest.to_path_and_query(), exchange, trail).await
            }
        }
    }

    async fn proxy(
        &self,
        snapshot: &Snapshot,
        caller: &UserInfo,
        cluster: ClusterName,
        path_and_query: &str,
        exchange: Exchange<'_>,
        trail: &mut Trail,
    ) -> Result<Response<Body>, GateError> {
        trail.aims_at(snapshot.clusters.find(&cluster));
        let target =
            RequestTarget::parse(path_and_query).map_err(|ambiguous| GateError::BadRequest(ambiguous.to_string()))?;
        let attributes = exchange.attributes(cluster, &target)?;
        trail.asks_for(&Permission::PROXY);
        trail.is_about(&attributes);
        if attributes.info.verb.is_empty() {
            return Err(GateError::NoVerb(attributes.method));
        }
        let impersonate = impersonation::requested(exchange.headers())?;

        let (judgement, attributes) =
            judge(snapshot, caller, Permission::PROXY, attributes.into(), trail.traced()).await;
        trail.judged(&judgement);
        judgement.authorized(()).map_err(GateError::Denied)?;
        let Some(attributes) = attributes else { return Err(GateError::UnknownRoute) };

        let cluster = find(snapshot, &attributes.cluster)?;
        if let Some(identity) = &impersonate {
            // Boxed, like all that few requests do: each would carry the room for it.
            Box::pin(self.authorize_impersonation(snapshot, cluster, caller, identity, &attributes, trail)).await?;
        }
        let in_flight =
            cluster.upstream.enter().ok_or_else(|| GateError::ClusterSaturated(cluster.details.name.clone()))?;
        let (identity, renewal) = identify(cluster, exchange.headers(), caller, impersonate, trail).await?;

        let drain = exchange.drain.clone();
        let upgrade_form = exchange.upgrade.as_ref().map(|wish| wish.form);
        let pending = judgement.authorized(exchange.into_pending(target)).map_err(GateError::Denied)?;
        if let Some(form) = upgrade_form {
            let on_close = trail.on_close(Arc::clone(&self.decision_log), form.success(), LongLived::Upgrade);
            let tunnel = Tunnel { drain, on_close };
            let began = trail.begin_step();
            let answer = Box::pin(upgrade(pending, cluster, &identity, in_flight, tunnel, &self.limits)).await;
            trail.end_step(StepName::Forward, None, began, answer.is_ok());
            let answer = answer?;
            if let Some(renewal) = renewal.filter(|_| answer.status() == StatusCode::UNAUTHORIZED) {
                renewal.rejected(&identity.credential); // the client's next try goes up with another
            }
            return Ok(answer);
        }
        let stream = attributes.info.long_running.then(|| Stream {
            drained: drain.stream_end(trail.id().share()),
            on_close: trail.on_close(Arc::clone(&self.decision_log), StatusCode::OK, LongLived::Stream),
        });
        let began = trail.begin_step();
        let renewal = renewal.map(|renewal| (renewal, &mut *trail));
        let answer = forward(pending, cluster, &identity, renewal, in_flight, stream, &self.limits).await;
        trail.end_step(StepName::Forward, None, began, answer.is_ok());
        answer
    }

    /// Asks the policies about each identity that the client wants to take on (`kubectl --as`).
    async fn authorize_impersonation(
        &self,
        snapshot: &Snapshot,
        cluster: &Cluster,
        caller: &UserInfo,
        identity: &Impersonation,
        attributes: &RequestAttributes,
        trail: &mut Trail,
    ) -> Result<(), GateError> {
        match cluster.client_impersonation {
            ClientImpersonation::Refused => {
                return Err(GateError::ImpersonationRefused(cluster.details.name.clone()));
            }
            ClientImpersonation::AskPolicies => {}
        }
        for question in impersonation::questions(identity, attributes) {
            let (judgement, _) = judge(snapshot, caller, Permission::PROXY, Some(question), trail.traced()).await;
            trail.judged(&judgement);
            judgement.authorized(()).map_err(GateError::Denied)?;
        }
        Ok(())
    }
}

/// Writes a request's trail when it is dropped: also that of a client who left, and with it the request, before the answer.
struct Record<'a> {
    trail: Trail,
    route: RouteKind,
    gate: &'a Gate,
}

impl Drop for Record<'_> {
    fn drop(&mut self) {
        let Gate { decision_log, counts, tracer, .. } = self.gate;
        self.trail.write(self.route, decision_log.as_ref(), counts, tracer.as_deref());
    }
}

async fn authenticate(
    snapshot: &Snapshot,
    exchange: &mut Exchange<'_>,
    trail: &mut Trail,
) -> Result<UserInfo, GateError> {
    let began = trail.begin_step();
    let caller = find_caller(snapshot, exchange).await;
    trail.end_step(StepName::Authenticate, None, began, caller.is_ok());
    let caller = caller?;
    trail.called_by(&caller);
    Ok(caller)
}

async fn find_caller(snapshot: &Snapshot, exchange: &mut Exchange<'_>) -> Result<UserInfo, GateError> {
    let certificate = exchange.peer.client_certificate.as_ref();
    let credentials = caller::credentials(&mut exchange.parts.headers, certificate)?;
    Ok(snapshot.authenticator.authenticate(&credentials).await?.user)
}

async fn list_clusters(
    snapshot: &Snapshot,
    exchange: &Exchange<'_>,
    caller: &UserInfo,
    trail: &mut Trail,
) -> Result<Response<Body>, GateError> {
    if !matches!(exchange.parts.method, Method::GET | Method::HEAD) {
        return Err(GateError::MethodNotAllowed(exchange.parts.method.to_string()));
    }
    trail.asks_for(&Permission::CLUSTERS_READ);
    let (judgement, _) = judge(snapshot, caller, Permission::CLUSTERS_READ, None, trail.traced()).await;
    trail.judged(&judgement);
    let authorized = judgement.authorized(ListClusters).map_err(GateError::Denied)?;
    Ok(clusters::list(authorized, snapshot))
}

/// The cluster that the header names, or the only one there is.
fn named_or_only(headers: &HeaderMap, snapshot: &Snapshot) -> Result<ClusterName, GateError> {
    if let Some(name) = caller::cluster_header(headers)? {
        return Ok(name);
    }
    match snapshot.clusters.only() {
        Some(cluster) => Ok(cluster.details.name.clone()),
        None if snapshot.clusters.is_empty() => Err(GateError::NoClusters),
        None => Err(GateError::MissingClusterHeader),
    }
}

fn find<'a>(snapshot: &'a Snapshot, name: &ClusterName) -> Result<&'a Arc<Cluster>, GateError> {
    match snapshot.clusters.find(name) {
        Some(cluster) => Ok(cluster),
        None if snapshot.clusters.is_empty() => Err(GateError::NoClusters),
        None => Err(GateError::UnknownCluster(name.to_string())),
    }
}

/// As whom the request goes up: what the client brought for the cluster, else what the strategy yields.
/// With it, for a credential that may be kept, the way to another one.
async fn identify<'a>(
    cluster: &'a Cluster,
    headers: &HeaderMap,
    caller: &'a UserInfo,
    client_impersonation: Option<Impersonation>,
    trail: &mut Trail,
) -> Result<(Identity, Option<Renewal<'a>>), GateError> {
    let request_auth = caller::request_auth(headers)?;
    if let Some(verbatim) = caller::cluster_authorization(headers)? {
        return match cluster.client_authorization {
            ClientAuthorization::Taken => {
                let credential = Credential::Anonymous;
                trail.sends(&Credential::BearerToken(String::new().into()), None);
                Ok((Identity { credential, verbatim: Some(verbatim), impersonate: client_impersonation }, None))
            }
            ClientAuthorization::Refused => Err(GateError::BadRequest(format!(
                "cluster '{}' does not take `Backstage-Kubernetes-Authorization`",
                cluster.details.name
            ))),
        };
    }
    let renewal = Renewal { cluster, request_auth, caller, client_impersonation };
    let (identity, kept) = renewal.ask(trail).await?;
    Ok((identity, kept.then_some(renewal)))
}

/// Operators learn the cause of what callers only learn the reason of.
fn log_failure(failure: &GateError) {
    match failure {
        GateError::Tripwire(_) => error!(error = %chain(failure), "a header that must not go up was about to"),
        // It was said when it began.
        GateError::StrategyFailed(CallError::Quarantined { .. }) => debug!(error = %chain(failure), "request failed"),
        GateError::StrategyFailed(_)
        | GateError::Strategy(_)
        | GateError::Upstream(_)
        | GateError::UnusableCredential(_)
        | GateError::ClusterSaturated(_) => warn!(error = %chain(failure), "request failed"),
        _ => debug!(error = %chain(failure), "request refused"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a request's state is moved a few times before it is first polled, and should fit the processor's first cache
    /// beside what else is there. Method: its size; what few requests need is boxed.
    #[test]
    fn a_request_is_small() {
        fn size<A, F>(_: impl Fn(A) -> F) -> usize {
            size_of::<F>()
        }
        type Arguments = (&'static Gate, Request<Incoming>, &'static Peer, &'static Watcher);
        let bytes = size(|(gate, request, peer, drain): Arguments| gate.handle(request, peer, drain));
        assert!(bytes <= 9 * 1024, "{bytes} bytes");
    }
}
