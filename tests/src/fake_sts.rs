//! A stand-in of AWS's STS that gives out keys to who asks in the right form and proves who it is.
//!
//! What is wrong with a request is answered as STS does, and kept: [`FakeSts::complaints`].

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use crate::api_server::{ApiServer, Reply, Request};
use crate::authority::Authority;
use crate::secrets::secret;
use crate::sigv4::{self, AccessKey};

/// A running STS of one region.
pub struct FakeSts {
    server: ApiServer,
    state: Arc<State>,
}

/// How it answers who asks for a role of this name, instead of with keys.
pub type Faults = BTreeMap<&'static str, fn() -> Reply>;

struct State {
    region: &'static str,
    web_identity_token: String,
    faults: Faults,
    keys: Mutex<Vec<AccessKey>>,
    complaints: Mutex<Vec<String>>,
    taken_on: Mutex<Vec<String>>,
}

impl FakeSts {
    /// Starts one that knows `key`, and a web identity with this token.
    pub async fn start(region: &'static str, authority: &Authority, key: &AccessKey, web_identity_token: &str) -> Self {
        Self::with_faults(region, authority, key, web_identity_token, Faults::new()).await
    }

    /// The same with `faults`.
    pub async fn with_faults(
        region: &'static str,
        authority: &Authority,
        key: &AccessKey,
        web_identity_token: &str,
        faults: Faults,
    ) -> Self {
        let state = Arc::new(State {
            region,
            web_identity_token: web_identity_token.to_owned(),
            faults,
            keys: Mutex::new(vec![key.clone()]),
            complaints: Mutex::default(),
            taken_on: Mutex::default(),
        });
        let answering = Arc::clone(&state);
        let server = ApiServer::answering(move |request| answering.answer(request)).tls(authority).start().await;
        Self { server, state }
    }

    /// The server under it.
    pub fn server(&self) -> &ApiServer {
        &self.server
    }

    /// Its URL.
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// Its host and port.
    pub fn host(&self) -> String {
        self.server.address().to_string()
    }

    /// What was wrong with what it was asked.
    pub fn complaints(&self) -> Vec<String> {
        self.state.complaints.lock().unwrap().clone()
    }

    /// The roles that were taken on, in their order: action, role and, if one was given, external id.
    pub fn taken_on(&self) -> Vec<String> {
        self.state.taken_on.lock().unwrap().clone()
    }

    /// The keys that it gave out last.
    pub fn last_key(&self) -> AccessKey {
        self.state.keys.lock().unwrap().last().expect("it knows one from the start").clone()
    }
}

impl State {
    fn answer(&self, request: &Request) -> Reply {
        self.keys_for(request).unwrap_or_else(|complaint| {
            self.complaints.lock().unwrap().push(complaint.clone());
            refusal(400, "ValidationError", &complaint)
        })
    }

    fn keys_for(&self, request: &Request) -> Result<Reply, String> {
        let is = |what: &str, given: &str, expected: &str| {
            if given == expected { Ok(()) } else { Err(format!("{what} is `{given}`, not `{expected}`")) }
        };
        is("method", &request.method, "POST")?;
        is("target", &request.target, "/")?;
        let media_type = request.header("content-type").unwrap_or_default();
        is("content type", media_type, "application/x-www-form-urlencoded; charset=utf-8")?;
        let form = sigv4::form(request.body.text())?;
        let value = |name: &str| {
            let values: Vec<_> = form.iter().filter(|(known, _)| known == name).map(|(_, value)| value).collect();
            if let [value] = values[..] { Ok(value.as_str()) } else { Err(format!("{} of `{name}`", values.len())) }
        };
        is("Version", value("Version")?, "2011-06-15")?;
        let action = value("Action")?;
        let mut expected = vec!["Action", "Version", "RoleArn", "RoleSessionName"];
        match action {
            "AssumeRole" => {
                expected.extend(value("ExternalId").is_ok().then_some("ExternalId"));
                self.verify(request)?;
            }
            "AssumeRoleWithWebIdentity" => {
                expected.push("WebIdentityToken");
                is("web identity", value("WebIdentityToken")?, &self.web_identity_token)?;
                if request.header("authorization").is_some() {
                    return Err("a web identity's call is signed".to_owned());
                }
            }
            other => return Err(format!("action `{other}`")),
        }
        let names: Vec<_> = form.iter().map(|(name, _)| name.as_str()).collect();
        is("form", &names.join(" "), &expected.join(" "))?;
        if value("RoleSessionName")?.len() < 2 {
            return Err("a session without a name".to_owned());
        }
        let role = value("RoleArn")?;
        let name = role.strip_prefix("arn:aws:iam::123456789012:role/").ok_or("another account's role")?;
        if let Some(fault) = self.faults.get(name) {
            return Ok(fault());
        }
        let external_id = value("ExternalId").map(|id| format!(" {id}")).unwrap_or_default();
        self.taken_on.lock().unwrap().push(format!("{action} {name}{external_id}"));
        Ok(Reply::new(200, self.new_keys(action)).header("content-type", "text/xml"))
    }

    fn verify(&self, request: &Request) -> Result<(), String> {
        let authorization = request.header("authorization").ok_or("a call that is not signed")?;
        let keys = self.keys.lock().unwrap();
        let key = keys.iter().find(|key| authorization.contains(&format!("Credential={}/", key.id)));
        sigv4::verify_call(request, key.ok_or("signed by nobody that is known")?, self.region)
    }

    fn new_keys(&self, action: &str) -> String {
        let mut keys = self.keys.lock().unwrap();
        let key = AccessKey {
            id: format!("ASIATEMPORARY{}", keys.len()),
            secret: secret("temporary secret key"),
            session_token: Some(format!("{}/+==", secret("temporary session token"))),
        };
        keys.push(key.clone());
        let AccessKey { id, secret, session_token } = key;
        format!(
            "<{action}Response xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\n  <{action}Result>\n    <AssumedRoleUser>\
             <Arn>arn:aws:sts::123456789012:assumed-role/r/s</Arn></AssumedRoleUser>\n    <Credentials>\n      \
             <AccessKeyId>{id}</AccessKeyId>\n      <SecretAccessKey>{secret}</SecretAccessKey>\n      \
             <SessionToken>{}</SessionToken>\n      <Expiration>2099-01-01T00:00:00Z</Expiration>\n    </Credentials>\n  \
             </{action}Result>\n  <ResponseMetadata><RequestId>r</RequestId></ResponseMetadata>\n</{action}Response>\n",
            session_token.unwrap_or_default()
        )
    }
}

/// A refusal in STS's form.
pub fn refusal(status: u16, code: &str, message: &str) -> Reply {
    Reply::new(
        status,
        format!(
            "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Error><Type>Sender</Type><Code>{code}</Code>\
             <Message>{message}</Message></Error><RequestId>r</RequestId></ErrorResponse>"
        ),
    )
}
