//! The capability `wasi:http`: what a strategy may send, and where.
//!
//! A request is judged by its URL ([`allow_list`]), then by the address that its name means ([`resolve`],
//! [`address`]), and is sent over a connection of its own ([`send`]) to the very address that was judged. A guest that was
//! granted nothing cannot even be loaded when it imports the interfaces; if it could, every request would be denied here.
//!
//! While a plug-in is configured nothing is sent: that state is kept for all calls.

pub(crate) mod address;
pub(crate) mod allow_list;
pub(crate) mod authorities;
mod body;
mod failure;
mod limits;
mod resolve;
pub(crate) mod send;
mod trust;

use std::sync::Arc;

use http::{HeaderName, header};
use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource};
use wasmtime_wasi::WasiView as _;
use wasmtime_wasi_http::p2::bindings::http::types::ErrorCode;
use wasmtime_wasi_http::{
    DEFAULT_FORBIDDEN_HEADERS, Error, ForbiddenHeaderFilter, RequestOptions, WasiBody, WasiHttpCtx, WasiHttpCtxView,
    WasiHttpHooks, WasiHttpView,
};
use witgate_core::ClusterDetails;

use self::failure::{Failure, Report};
use self::limits::{FIELDS_BYTES_MAX, REQUEST_PIECE_BYTES_MAX};
use self::send::{ClusterServer, Outbound};
use super::log::CallLog;
use crate::sandbox::Sandbox;

/// The interfaces that a sidecar's `outboundHosts` grant; all of version 0.2.
pub(crate) const INTERFACES: [&str; 2] = ["wasi:http/outgoing-handler", "wasi:http/types"];

pub(crate) fn link(linker: &mut Linker<Sandbox>) -> wasmtime::Result<()> {
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(linker)?;
    // The library's own never finds the code of a body's error: it looks for another type than it stores.
    linker.allow_shadowing(true);
    linker.instance("wasi:http/types@0.2.12")?.func_wrap("http-error-code", http_error_code)?;
    linker.allow_shadowing(false);
    Ok(())
}

fn http_error_code(
    mut store: StoreContextMut<'_, Sandbox>,
    (error,): (Resource<wasmtime::Error>,),
) -> wasmtime::Result<(Option<ErrorCode>,)> {
    let error = store.data_mut().ctx().table.get(&error)?;
    let code = match error.downcast_ref::<Error>() {
        Some(Error::HttpResponseBodySize(bytes)) => Some(ErrorCode::HttpResponseBodySize(*bytes)),
        Some(Error::HttpRequestBodySize(bytes)) => Some(ErrorCode::HttpRequestBodySize(*bytes)),
        Some(Error::ConnectionReadTimeout) => Some(ErrorCode::ConnectionReadTimeout),
        Some(Error::HttpResponseIncomplete) => Some(ErrorCode::HttpResponseIncomplete),
        Some(_) => Some(ErrorCode::HttpProtocolError),
        None => error.downcast_ref::<ErrorCode>().cloned(),
    };
    Ok((code,))
}

/// HTTP's side of one instance.
pub(crate) struct HttpState {
    context: WasiHttpCtx,
    hooks: Hooks,
}

struct Hooks {
    outbound: Option<Arc<Outbound>>,
    reach: Reach,
    asked: bool,
    log: Arc<CallLog>,
}

/// How far a guest reaches at this moment.
#[derive(Clone)]
enum Reach {
    /// Nowhere: it is being configured.
    Nowhere,
    /// To the granted hosts, and to the server of the cluster at hand, if there is one and it is granted.
    Granted(Option<Arc<ClusterServer>>),
}

impl HttpState {
    pub(crate) fn new(outbound: Option<Arc<Outbound>>, log: Arc<CallLog>) -> Self {
        let mut context = WasiHttpCtx::new();
        context.set_field_size_limit(FIELDS_BYTES_MAX);
        Self { context, hooks: Hooks { outbound, reach: Reach::Nowhere, asked: false, log } }
    }

    /// Whether it may go anywhere at all.
    pub(crate) const fn goes_out(&self) -> bool {
        self.hooks.outbound.is_some()
    }

    /// Whether the guest has tried to send a request.
    pub(crate) const fn was_asked(&self) -> bool {
        self.hooks.asked
    }

    /// From now on the guest may go where its sidecar says; `cluster` is the one at hand.
    pub(crate) fn open(&mut self, cluster: Option<&ClusterDetails>) {
        if let Some(outbound) = &self.hooks.outbound {
            let server = cluster.and_then(|cluster| outbound.cluster_server(cluster));
            self.hooks.reach = Reach::Granted(server.map(Arc::new));
        }
    }
}

impl WasiHttpView for Sandbox {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        // The table comes with WASI's side, which is made when it is first asked for.
        self.make_wasi();
        let Self { http, wasi, .. } = self;
        let table = wasi.as_mut().expect("it was made a line ago").table();
        WasiHttpCtxView { ctx: &mut http.context, hooks: &mut http.hooks, table }
    }
}

/// What a request's future is to the library.
type Sent = Result<(http::Response<WasiBody>, Box<dyn Future<Output = Result<(), Error>> + Send>), Error>;

impl WasiHttpHooks for Hooks {
    fn forbidden_header_filter(&mut self) -> ForbiddenHeaderFilter {
        Arc::new(is_forbidden)
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        REQUEST_PIECE_BYTES_MAX
    }

    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        _processed: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = Sent> + Send> {
        self.asked = true;
        let Self { outbound, reach, log, asked: _ } = self;
        let (outbound, reach, log) = (outbound.clone(), reach.clone(), Arc::clone(log));
        Box::new(async move {
            let (Some(outbound), Reach::Granted(cluster)) = (outbound, reach) else {
                let failure = Failure::denied("no plug-in sends one while it is configured");
                Report::new(log, None).failed(&failure);
                return Err(failure.code);
            };
            let report = |origin: Option<&_>| Report::new(log, origin);
            let exchange = outbound.exchange(request, options.unwrap_or_default(), cluster.as_deref(), report);
            let (response, driver) = exchange.await?;
            let driven: Box<dyn Future<Output = Result<(), Error>> + Send> = Box::new(async move {
                driver.await;
                Ok(())
            });
            Ok((response, driven))
        })
    }
}

/// Headers that are of the connection, or would send the request elsewhere than it was judged for.
fn is_forbidden(name: &HeaderName) -> bool {
    DEFAULT_FORBIDDEN_HEADERS.contains(name) || [header::TE, header::TRAILER, header::EXPECT].contains(name)
}
