//! A fake Pinniped Concierge: it takes TokenCredentialRequests in exactly their form, and signs client certificates.
//!
//! It is the part of an API server that answers one path; a test puts it into an [`ApiServer`](crate::api_server::ApiServer)'s
//! handler, or behind a real API server as an aggregated one.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls_pki_types::CertificateDer;
use serde_json::{Value, json};

use crate::api_server::{Reply, Request};
use crate::authority::Authority;

/// A Concierge of one API group suffix.
pub struct Concierge {
    group_suffix: String,
    authenticator: Value,
    clients: Authority,
    users: Mutex<BTreeMap<String, User>>,
    issued: Mutex<Vec<CertificateDer<'static>>>,
    complaints: Mutex<Vec<String>>,
}

/// Whom a token names.
#[derive(Clone)]
struct User {
    name: String,
    group: String,
    life: Duration,
}

impl Concierge {
    /// A Concierge as Pinniped installs it, whose certificates are signed by `clients`.
    pub fn new(clients: Authority) -> Self {
        Self::with_suffix(clients, "pinniped.dev")
    }

    /// A Concierge whose API groups end with `group_suffix`.
    pub fn with_suffix(clients: Authority, group_suffix: &str) -> Self {
        let api_group = format!("authentication.concierge.{group_suffix}");
        Self {
            group_suffix: group_suffix.into(),
            authenticator: json!({ "apiGroup": api_group, "kind": "JWTAuthenticator", "name": "supervisor" }),
            clients,
            users: Mutex::default(),
            issued: Mutex::default(),
            complaints: Mutex::default(),
        }
    }

    /// Takes requests for another authenticator.
    #[must_use]
    pub fn with_authenticator(self, authenticator: Value) -> Self {
        Self { authenticator, ..self }
    }

    /// Believes `token` to be of this user; its certificates are good for `life`.
    pub fn knows(&self, token: &str, name: &str, group: &str, life: Duration) {
        let user = User { name: name.into(), group: group.into(), life };
        self.users.lock().unwrap().insert(token.into(), user);
    }

    /// Where it is asked.
    pub fn path(&self) -> String {
        format!("/apis/login.concierge.{}/v1alpha1/tokencredentialrequests", self.group_suffix)
    }

    /// The certificates given out so far.
    pub fn issued(&self) -> Vec<CertificateDer<'static>> {
        self.issued.lock().unwrap().clone()
    }

    /// What was wrong with the requests so far.
    pub fn complaints(&self) -> Vec<String> {
        self.complaints.lock().unwrap().clone()
    }

    /// The answer to `request`; none where it is for somebody else.
    pub fn answer(&self, request: &Request) -> Option<Reply> {
        if !request.target.starts_with(&self.path()) {
            return None;
        }
        Some(match self.token_of(request) {
            Ok(token) => self.exchange(&token),
            Err(complaint) => {
                self.complaints.lock().unwrap().push(complaint.clone());
                Reply::json(400, json!({ "kind": "Status", "status": "Failure", "message": complaint }).to_string())
            }
        })
    }

    /// The token that `request` brings, if everything about it is as it must be.
    fn token_of(&self, request: &Request) -> Result<String, String> {
        if (request.method.as_str(), request.target.as_str()) != ("POST", self.path().as_str()) {
            return Err(format!("{} {}", request.method, request.target));
        }
        let forbidden = ["authorization", "cookie", "backstage-", "impersonate-", "witgate-"];
        if let Some(name) =
            request.header_names().into_iter().find(|name| forbidden.iter().any(|begin| name.starts_with(begin)))
        {
            return Err(format!("the header {name}"));
        }
        if request.header("content-type") != Some("application/json") {
            return Err(format!("content-type {:?}", request.header("content-type")));
        }
        let mut body: Value = serde_json::from_str(request.body.text()).map_err(|error| error.to_string())?;
        let token =
            body.pointer_mut("/spec/token").map(Value::take).and_then(|token| token.as_str().map(str::to_owned));
        let expected = json!({
            "apiVersion": format!("login.concierge.{}/v1alpha1", self.group_suffix), "kind": "TokenCredentialRequest",
            "spec": { "authenticator": self.authenticator, "token": null },
        });
        match token {
            Some(token) if body == expected => Ok(token),
            _ => Err(format!("the body {body}")),
        }
    }

    fn exchange(&self, token: &str) -> Reply {
        let Some(User { name, group, life }) = self.users.lock().unwrap().get(token).cloned() else {
            return self.status(json!({ "message": "authentication failed" }));
        };
        let until = SystemTime::now() + life;
        let identity = self.clients.client_until(&name, &[&group], until);
        self.issued.lock().unwrap().push(identity.certificate_der());
        self.status(json!({ "credential": {
            "clientCertificateData": identity.certificate_pem(),
            "clientKeyData": identity.key_pem(),
            "expirationTimestamp": rfc3339(until),
        } }))
    }

    /// An answer with this `status`, as the test may give one of its own.
    pub fn status(&self, status: Value) -> Reply {
        let answer = json!({
            "kind": "TokenCredentialRequest",
            "apiVersion": format!("login.concierge.{}/v1alpha1", self.group_suffix),
            "metadata": {}, "spec": {}, "status": status,
        });
        Reply::json(201, answer.to_string())
    }
}

/// A time as Kubernetes writes it.
pub fn rfc3339(time: SystemTime) -> String {
    let seconds = i64::try_from(time.duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap();
    let (days, seconds) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Day by day from 1970, as it is only ever today or tomorrow: nothing to get wrong.
    let is_leap = |year: i64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let (mut year, mut left) = (1970, days);
    while left >= 365 + i64::from(is_leap(year)) {
        left -= 365 + i64::from(is_leap(year));
        year += 1;
    }
    let lengths = [31, 28 + i64::from(is_leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 1;
    for length in lengths {
        if left < length {
            break;
        }
        left -= length;
        month += 1;
    }
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{:02}T{hour:02}:{minute:02}:{second:02}Z", left + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: times are written as they are. Method: rows, as `date -u` prints them.
    #[test]
    fn a_time_is_written_as_it_is() {
        let at = |seconds| rfc3339(UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(at(0), "1970-01-01T00:00:00Z");
        assert_eq!(at(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(at(1_735_689_599), "2024-12-31T23:59:59Z");
        assert_eq!(at(1_769_860_800), "2026-01-31T12:00:00Z");
    }
}
