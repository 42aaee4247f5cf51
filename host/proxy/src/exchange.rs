//! One request as it came, before it is judged.

use http::header::{CONTENT_TYPE, HOST};
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderMap, Method, Version};
use hyper::body::Incoming;
use witgate_core::{ClusterName, RequestAttributes, RequestTarget};

use crate::drain::Watcher;
use crate::forward::{Pending, Upgrade, UpgradeForm};
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
    /// Framing that the listener refused, CONNECT, TRACE and TRACK (an API server has no use for them), methods in lower case, a URL in absolute form, no `Host`
    /// or several, an upgrade to a protocol that is not tunnelled or by a browser on another site.
    pub(crate) fn check_form(&self) -> Result<(), GateError> {
        let bad = |text: &str| Err(GateError::BadRequest(text.to_owned()));
        if let Some(why) = self.parts.headers.get(REFUSED) {
            return bad(why.to_str().unwrap_or("bad framing"));
        }
        if let Some(wish) = &self.upgrade
            && !upgrade::is_tunnelled(wish)
        {
            return match wish.form {
                UpgradeForm::Http1 => bad("only upgrades to `websocket` and `SPDY/3.1` are served"),
                UpgradeForm::ExtendedConnect => bad("only extended CONNECT to `websocket` is served"),
            };
        }
        // Methods have a case, verbs have none: `get` would be judged as GET and served as who knows what.
        let method = self.parts.method.as_str();
        let is_odd = method == "TRACK" || method.bytes().any(|byte| byte.is_ascii_lowercase());
        if is_odd || matches!(self.parts.method, Method::CONNECT | Method::TRACE) {
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
        } else if hosts > 1 || self.names_two_hosts() {
            return bad("`Host` and `:authority` are not the same");
        }
        if self.upgrade.is_some() {
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
        self.authority().or_else(|| self.host_header())
    }

    /// RFC 9113 §8.3.1: such a request is malformed.
    fn names_two_hosts(&self) -> bool {
        match (self.authority(), self.parts.headers.get(HOST)) {
            (Some(authority), Some(host)) => !host.as_bytes().eq_ignore_ascii_case(authority.as_bytes()),
            (None, _) | (_, None) => false,
        }
    }

    fn authority(&self) -> Option<&str> {
        self.parts.uri.authority().map(Authority::as_str)
    }

    fn host_header(&self) -> Option<&str> {
        self.parts.headers.get(HOST).and_then(|value| value.to_str().ok())
    }
}
