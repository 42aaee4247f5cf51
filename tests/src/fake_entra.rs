//! A stand-in of Entra ID that gives tokens to an application that asks in the right form and proves who it is.

use std::sync::{Arc, Mutex};

use serde_json::json;

use crate::api_server::{ApiServer, Reply, Request};
use crate::authority::Authority;
use crate::secrets::secret;
use crate::sigv4::form;
use crate::token_issuer::TokenIssuer;

/// The tenant that it is for.
pub const TENANT: &str = "11111111-2222-3333-4444-555555555555";
/// The application that it knows.
pub const CLIENT: &str = "66666666-7777-8888-9999-000000000000";
/// What AKS is to it.
const AKS: &str = "6dae42f8-4368-4678-94ff-3960e28e3630";

/// What proves that the application asks.
pub enum Proof {
    /// Its client secret.
    ClientSecret(String),
    /// A token of this issuer for this subject.
    Federated(TokenIssuer, &'static str),
    /// Nothing: it is a machine's metadata service.
    Machine,
}

/// A running Entra ID, or a machine's metadata service.
pub struct FakeEntra {
    server: ApiServer,
    state: Arc<State>,
}

type Answers = Box<dyn Fn(usize, String) -> Reply + Send + Sync>;

struct State {
    proof: Proof,
    answers: Answers,
    complaints: Mutex<Vec<String>>,
    tokens: Mutex<Vec<String>>,
}

impl FakeEntra {
    /// One that gives tokens of `life` seconds. It speaks TLS unless it is a machine's.
    pub async fn start(authority: &Authority, proof: Proof, life: u64) -> Self {
        Self::answering(authority, proof, move |_, token| answer(&token, life)).await
    }

    /// One that answers to right questions with what `answers` makes of their number, from 0, and a new token.
    pub async fn answering(
        authority: &Authority,
        proof: Proof,
        answers: impl Fn(usize, String) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let plain = matches!(proof, Proof::Machine);
        let state = Arc::new(State {
            proof,
            answers: Box::new(answers),
            complaints: Mutex::default(),
            tokens: Mutex::default(),
        });
        let answering = Arc::clone(&state);
        let server = ApiServer::answering(move |request| answering.answer(request));
        let server = if plain { server } else { server.tls(authority) };
        Self { server: server.start().await, state }
    }

    /// Its URL.
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// What was wrong with what it was asked.
    pub fn complaints(&self) -> Vec<String> {
        self.state.complaints.lock().unwrap().clone()
    }

    /// How often it was asked.
    pub fn asked_count(&self) -> usize {
        self.server.heard().len()
    }

    /// The tokens that it made, in their order.
    pub fn tokens(&self) -> Vec<String> {
        self.state.tokens.lock().unwrap().clone()
    }
}

/// A token's answer, in Entra ID's form.
pub fn answer(token: &str, life: u64) -> Reply {
    let answer = json!({ "token_type": "Bearer", "expires_in": life, "ext_expires_in": life, "access_token": token });
    Reply::json(200, answer.to_string())
}

/// A refusal in Entra ID's form, with a text that nobody may repeat.
pub fn refusal(status: u16, error: &str) -> Reply {
    let text = secret("Entra ID's description of an error");
    let body = json!({ "error": error, "error_description": text, "error_codes": [7_000_215], "trace_id": "t" });
    Reply::json(status, body.to_string())
}

impl State {
    fn answer(&self, request: &Request) -> Reply {
        let wrong = match &self.proof {
            Proof::Machine => check_machine(request),
            Proof::ClientSecret(_) | Proof::Federated(..) => self.check_application(request),
        };
        if let Err(complaint) = wrong {
            self.complaints.lock().unwrap().push(complaint);
            return refusal(400, "invalid_request");
        }
        let token = secret("Entra ID's token");
        let mut tokens = self.tokens.lock().unwrap();
        tokens.push(token.clone());
        (self.answers)(tokens.len() - 1, token)
    }

    fn check_application(&self, request: &Request) -> Result<(), String> {
        is("method", &request.method, "POST")?;
        is("target", &request.target, &format!("/{TENANT}/oauth2/v2.0/token"))?;
        let media_type = request.header("content-type").unwrap_or_default();
        is("content type", media_type, "application/x-www-form-urlencoded")?;
        let scope = format!("{AKS}/.default");
        let mut expected = vec![("client_id", CLIENT), ("scope", &scope), ("grant_type", "client_credentials")];
        let pairs = form(request.body.text())?;
        let given = |name: &str| pairs.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value.as_str());
        match &self.proof {
            Proof::ClientSecret(secret) => expected.push(("client_secret", secret)),
            Proof::Federated(issuer, subject) => {
                let assertion = given("client_assertion");
                issuer.verify(assertion, "api://AzureADTokenExchange", subject)?;
                let kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
                expected.extend([("client_assertion_type", kind), ("client_assertion", assertion)]);
            }
            Proof::Machine => {}
        }
        same_pairs(&pairs, &expected)
    }
}

fn check_machine(request: &Request) -> Result<(), String> {
    is("method", &request.method, "GET")?;
    let (path, query) = request.target.split_once('?').ok_or("no query")?;
    is("path", path, "/metadata/identity/oauth2/token")?;
    is("the header `Metadata`", request.header("metadata").unwrap_or_default(), "true")?;
    if request.header("x-forwarded-for").is_some() {
        return Err("the metadata service refuses what was forwarded".to_owned());
    }
    same_pairs(&form(query)?, &[("api-version", "2018-02-01"), ("resource", AKS), ("client_id", CLIENT)])
}

fn same_pairs(given: &[(String, String)], expected: &[(&str, &str)]) -> Result<(), String> {
    let given: Vec<_> = given.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    if given == expected { Ok(()) } else { Err(format!("the form is {given:?}, not {expected:?}")) }
}

fn is(what: &str, given: &str, expected: &str) -> Result<(), String> {
    if given == expected { Ok(()) } else { Err(format!("{what} is `{given}`, not `{expected}`")) }
}
