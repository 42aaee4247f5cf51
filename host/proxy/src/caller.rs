//! What a request brings to prove who calls, and for its cluster.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::{AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL};
use http::{HeaderMap, HeaderName, HeaderValue};
use witgate_core::{CallerCredentials, ClientCertificate, ClusterName, Redacted, RequestAuth, RequestAuthEntry};

use crate::headers::tokens;
use crate::respond::{CLUSTER_HEADER, GateError};

/// The subprotocol in which a browser brings its bearer token (kubernetes/kubernetes#47740).
const BEARER_SUBPROTOCOL: &str = "base64url.bearer.authorization.k8s.io.";
const CLUSTER: HeaderName = HeaderName::from_static("backstage-kubernetes-cluster");
const CLUSTER_AUTHORIZATION: HeaderName = HeaderName::from_static("backstage-kubernetes-authorization");
const CLUSTER_AUTHORIZATION_PREFIX: &str = "backstage-kubernetes-authorization-";
/// A token larger than a whole header block cannot have come by a header.
const TOKEN_BYTES_MAX: usize = 16 * 1024;

/// Reads the caller's credentials, and removes the browser's token from the subprotocols.
///
/// # Errors
/// When a header that names an identity comes twice or cannot be read.
pub(crate) fn credentials(
    headers: &mut HeaderMap,
    client_certificate: Option<&ClientCertificate>,
) -> Result<CallerCredentials, GateError> {
    let mut credentials = CallerCredentials { client_certificate: client_certificate.cloned(), ..Default::default() };
    if let Some(value) = only(headers, &AUTHORIZATION, "Authorization")? {
        match bearer(value)? {
            Some(token) => credentials.bearer_token = Some(token),
            None => credentials.other_scheme = true,
        }
    }
    if let Some(token) = take_websocket_token(headers)? {
        if credentials.bearer_token.is_some() || credentials.other_scheme {
            return Err(GateError::BadRequest("a token is given both as header and as WebSocket subprotocol".into()));
        }
        credentials.bearer_token = Some(token);
    }
    Ok(credentials)
}

/// The cluster that `Backstage-Kubernetes-Cluster` names.
///
/// # Errors
/// When it comes twice, or is no cluster's name (which no cluster can have).
pub(crate) fn cluster_header(headers: &HeaderMap) -> Result<Option<ClusterName>, GateError> {
    let Some(value) = only(headers, &CLUSTER, CLUSTER_HEADER)? else { return Ok(None) };
    let text = value.to_str().map_err(|_| GateError::BadRequest(format!("header `{CLUSTER_HEADER}` is not ASCII")))?;
    if text.contains(',') {
        // Two headers that a hop before us has joined.
        return Err(GateError::RepeatedHeader(CLUSTER_HEADER));
    }
    match ClusterName::try_from(text) {
        Ok(name) => Ok(Some(name)),
        Err(_) => Err(GateError::BadRequest(format!("header `{CLUSTER_HEADER}` is not a cluster's name"))),
    }
}

/// The `Authorization` that the client brings for the cluster itself.
///
/// # Errors
/// When it comes twice.
pub(crate) fn cluster_authorization(headers: &HeaderMap) -> Result<Option<HeaderValue>, GateError> {
    Ok(only(headers, &CLUSTER_AUTHORIZATION, "Backstage-Kubernetes-Authorization")?.cloned())
}

/// The tokens that the client brings for the cluster's strategy.
///
/// # Errors
/// When two of them contradict each other, or one is not text.
pub(crate) fn request_auth(headers: &HeaderMap) -> Result<RequestAuth, GateError> {
    let mut auth = RequestAuth::none();
    for (name, value) in headers {
        let Some(provider) = name.as_str().strip_prefix(CLUSTER_AUTHORIZATION_PREFIX) else { continue };
        let (provider, sub_provider) = match provider.split_once('-') {
            None => (provider, None),
            Some((provider, sub)) => (provider, Some(sub)),
        };
        if provider.is_empty() || sub_provider == Some("") {
            return Err(GateError::BadRequest("a Backstage-Kubernetes-Authorization header names no provider".into()));
        }
        let value = value
            .to_str()
            .map_err(|_| GateError::BadRequest("a Backstage-Kubernetes-Authorization header is not ASCII".into()))?;
        auth.insert(RequestAuthEntry {
            provider: provider.to_owned(),
            sub_provider: sub_provider.map(str::to_owned),
            value: Redacted::new(value.to_owned()),
        })?;
    }
    Ok(auth)
}

fn only<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
    shown: &'static str,
) -> Result<Option<&'a HeaderValue>, GateError> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    if values.next().is_some() { Err(GateError::RepeatedHeader(shown)) } else { Ok(first) }
}

/// The token of `Bearer …`; none where the scheme is another.
fn bearer(value: &HeaderValue) -> Result<Option<Redacted<String>>, GateError> {
    let bad = || GateError::BadRequest("header `Authorization` is not ASCII".into());
    let text = value.to_str().map_err(|_| bad())?;
    let Some((scheme, token)) = text.split_once(' ') else { return Ok(None) };
    if !scheme.eq_ignore_ascii_case("bearer") || token.trim().is_empty() {
        return Ok(None);
    }
    Ok(Some(Redacted::new(token.trim().to_owned())))
}

fn take_websocket_token(headers: &mut HeaderMap) -> Result<Option<Redacted<String>>, GateError> {
    if !headers.contains_key(SEC_WEBSOCKET_PROTOCOL) {
        return Ok(None);
    }
    let mut encoded: Vec<Cow<'_, str>> = Vec::new();
    let mut others = Vec::new();
    for protocol in tokens(headers, &SEC_WEBSOCKET_PROTOCOL) {
        match protocol.strip_prefix(BEARER_SUBPROTOCOL) {
            Some(token) => encoded.push(token.into()),
            None => others.push(protocol),
        }
    }
    let bad = |text: &str| GateError::BadRequest(text.to_owned());
    let token = match encoded.as_slice() {
        [] => return Ok(None),
        [one] if one.len() <= TOKEN_BYTES_MAX => {
            let bytes = URL_SAFE_NO_PAD
                .decode(one.trim_end_matches('='))
                .map_err(|_| bad("the WebSocket subprotocol with the bearer token is not base64url"))?;
            String::from_utf8(bytes).map_err(|_| bad("the WebSocket subprotocol's bearer token is not UTF-8"))?
        }
        _ => return Err(bad("more than one bearer token in the WebSocket subprotocols")),
    };
    if others.is_empty() {
        // The API server's own rule: the token alone is no subprotocol to settle on.
        return Err(bad("the WebSocket subprotocol with the bearer token needs another subprotocol beside it"));
    }
    let others = HeaderValue::from_str(&others.join(", ")).map_err(|_| bad("a WebSocket subprotocol is not ASCII"))?;
    headers.insert(SEC_WEBSOCKET_PROTOCOL, others);
    Ok(Some(Redacted::new(token)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(text: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in text.split('|').filter(|line| !line.is_empty()) {
            let (name, value) = line.split_once(": ").unwrap();
            headers.append(HeaderName::try_from(name).unwrap(), HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    /// Goal: a caller's token is found in either place, once. Method: headers on the left, what was read on the right.
    #[test]
    fn a_token_comes_by_header_or_subprotocol() {
        check("", "none");
        check("authorization: Bearer abc", "token abc");
        check("authorization: bearer   abc ", "token abc");
        check("authorization: Basic abc", "other scheme");
        check("authorization: Bearer", "other scheme");
        check("authorization: a|authorization: b", "header `Authorization` is given more than once");
        let browser = "sec-websocket-protocol: base64url.bearer.authorization.k8s.io.YWJj";
        check(&format!("{browser}, v5.channel.k8s.io"), "token abc, v5.channel.k8s.io");
        check(browser, "the WebSocket subprotocol with the bearer token needs another subprotocol beside it");
        check(
            "sec-websocket-protocol: base64url.bearer.authorization.k8s.io.%%%, v5",
            "the WebSocket subprotocol with the bearer token is not base64url",
        );
        check(
            &format!("authorization: Bearer x|{browser}, v5"),
            "a token is given both as header and as WebSocket subprotocol",
        );
        check("sec-websocket-protocol: v4.channel.k8s.io", "none, v4.channel.k8s.io");
    }

    #[track_caller]
    fn check(given: &str, expected: &str) {
        let mut headers = headers(given);
        let got = match credentials(&mut headers, None) {
            Err(error) => error.to_string(),
            Ok(found) => {
                let mut got = match found.bearer_token {
                    Some(token) => format!("token {}", token.expose()),
                    None if found.other_scheme => "other scheme".to_owned(),
                    None => "none".to_owned(),
                };
                for protocol in tokens(&headers, &SEC_WEBSOCKET_PROTOCOL) {
                    got.push_str(", ");
                    got.push_str(protocol);
                }
                got
            }
        };
        assert_eq!(got, expected, "given {given}");
    }

    /// Goal: case C3. Method: the headers of the case, the entries that a strategy gets.
    #[test]
    fn cluster_tokens_are_read_by_provider() {
        let auth = request_auth(&headers(
            "backstage-kubernetes-authorization-google: G|backstage-kubernetes-authorization-oidc-okta: O|\
             backstage-kubernetes-authorization-pinniped-au-b-c-d-e: P",
        ))
        .unwrap();
        let entries: Vec<_> = auth
            .entries()
            .iter()
            .map(|entry| (entry.provider.as_str(), entry.sub_provider.as_deref(), entry.value.expose().as_str()))
            .collect();
        assert_eq!(
            entries,
            [("google", None, "G"), ("oidc", Some("okta"), "O"), ("pinniped", Some("au-b-c-d-e"), "P")]
        );
        let conflict = "backstage-kubernetes-authorization-oidc: S|backstage-kubernetes-authorization-oidc-okta: C";
        assert!(request_auth(&headers(conflict)).is_err());
        assert!(request_auth(&headers("backstage-kubernetes-authorization-: S")).is_err());
    }

    #[test]
    fn a_cluster_is_named_once() {
        let name = |text| cluster_header(&headers(text)).map(|name| name.map(|name| name.to_string()));
        assert_eq!(name("").unwrap(), None);
        assert_eq!(name("backstage-kubernetes-cluster: one").unwrap().as_deref(), Some("one"));
        for bad in [
            "backstage-kubernetes-cluster: one|backstage-kubernetes-cluster: local",
            "backstage-kubernetes-cluster: one, local",
            "backstage-kubernetes-cluster: ../x",
        ] {
            assert_eq!(name(bad).unwrap_err().status_reason().code(), 400, "{bad}");
        }
    }
}
