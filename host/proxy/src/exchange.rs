//! One request as it came, before it is judged.

use http::header::{CONTENT_TYPE, HOST};
use http::request::Parts;
use http::{HeaderMap, Method, Version};
use hyper::body::Incoming;
use witgate_core::{ClusterName, RequestAttributes, RequestTarget};

use crate::drain::Watcher;
use crate::forward::{Pending, Upgrade};
use crate::gate::Peer;
use crate::listener::framing::REFUSED;
use crate::respond::GateError;
use crate::upgrade;

/// A client's request with its connection.
pub(crate) struct Exchange<'a> {
    pub(crate) parts: Parts,
    pub(crate) body: Incoming,
    pub(crate) upgrade: Option<Upgrade>,
    pub(crate) peer: &'a Peer,
    pub(crate) drain: &'a Watcher,
}

impl Exchange<'_> {
    /// Refuses methods and forms that are nobody's business here, before anything else is read.
    ///
    /// # Errors
    /// Framing that the listener refused, CONNECT and TRACE (an API server has no use for them), a URL in absolute form, no `Host`
    /// or several, an upgrade to a protocol that is not tunnelled or by a browser on another site.
    pub(crate) fn check_form(&self) -> Result<(), GateError> {
        let bad = |text: &str| Err(GateError::BadRequest(text.to_owned()));
        if let Some(why) = self.parts.headers.get(REFUSED) {
            return bad(why.to_str().unwrap_or("bad framing"));
        }
        if matches!(self.parts.method, Method::CONNECT | Method::TRACE) {
            return Err(GateError::MethodNotAllowed(self.parts.method.to_string()));
        }
        let hosts = self.parts.headers.get_all(HOST).iter().count();
        if self.parts.version < Version::HTTP_2 {
            if self.parts.uri.scheme().is_some() || self.parts.uri.authority().is_some() {
                return bad("the request line holds a whole URL; send the path alone");
            }
            if hosts > 1 || (hosts == 0 && self.parts.version == Version::HTTP_11) {
                return bad("HTTP/1.1 needs one `Host` header");
            }
        }
        if let Some(wish) = &self.upgrade {
            if !upgrade::is_tunnelled(&wish.protocol) {
                return bad("only upgrades to `websocket` and `SPDY/3.1` are served");
            }
            if !upgrade::is_upgrade_method(&self.parts.method) {
                return bad("an upgrade is asked for with GET or POST");
            }
            if let Some(origin) = upgrade::foreign_origin(&self.parts.headers, self.host()) {
                return Err(GateError::ForeignOrigin(origin.chars().take(200).collect()));
            }
        }
        Ok(())
    }

    /// What policies are asked about.
    ///
    /// # Errors
    /// When the API server itself could not say what the request is about.
    pub(crate) fn attributes(
        &self,
        cluster: ClusterName,
        target: &RequestTarget,
    ) -> Result<RequestAttributes, GateError> {
        let content_type = self.parts.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        RequestAttributes::of(cluster, self.parts.method.as_str(), target, self.upgrade.is_some(), content_type)
            .map_err(|error| GateError::BadRequest(error.to_string()))
    }

    /// The request as it may be forwarded, once it is authorized; and its headers as they came.
    pub(crate) fn into_pending(self, target: RequestTarget) -> Pending {
        Pending {
            method: self.parts.method,
            target,
            headers: self.parts.headers,
            body: self.body,
            upgrade: self.upgrade,
        }
    }

    pub(crate) const fn headers(&self) -> &HeaderMap {
        &self.parts.headers
    }

    fn host(&self) -> Option<&str> {
        match self.parts.uri.authority() {
            Some(authority) => Some(authority.as_str()),
            None => self.parts.headers.get(HOST).and_then(|value| value.to_str().ok()),
        }
    }
}
