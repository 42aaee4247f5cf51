//! An authentication strategy that runs as WebAssembly.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tracing::{Instrument, debug_span};
use witgate_core::{
    AuthError, AuthenticationStrategy, BoxFuture, CallError, CallMeter, ClusterDetails, Credential, Digest, Grant,
    Impersonation, Issued, Metadata, PluginName, PrivateKeyPair, Quarantine, Redacted, RequestAuth, RequestAuthEntry,
    SecretStore, UserInfo,
};

use crate::answer::{self, Size};
use crate::bindings::types;
use crate::call::{Call, Runner};
use crate::capability::wasi::Surroundings;
use crate::contract::Wasi;
use crate::credential_check::{CredentialFault, check_credential, check_impersonation};
use crate::lower::lower_user;
use crate::start_state::{Start, StartState};
use crate::worlds::StrategyPre;

/// An authentication strategy that runs as WebAssembly.
pub struct WasmStrategy {
    runner: Runner,
    state: StartState<StrategyPre>,
    start: Start,
    wasi: Wasi,
}

impl WasmStrategy {
    pub(crate) const fn new(runner: Runner, state: StartState<StrategyPre>, start: Start, wasi: Wasi) -> Self {
        Self { runner, state, start, wasi }
    }

    /// The version of the contract that it speaks.
    pub(crate) const fn contract(&self) -> &'static str {
        self.state.linked().version().as_str()
    }

    /// How its calls come to the state that `configure` left.
    pub(crate) const fn start(&self) -> &Start {
        &self.start
    }

    pub(crate) const fn meter(&self) -> &Arc<CallMeter> {
        &self.runner.meter
    }

    async fn call_credential(
        &self,
        details: &ClusterDetails,
        secrets: &Arc<dyn SecretStore>,
        request_auth: &RequestAuth,
        caller: Option<&UserInfo>,
    ) -> Result<Result<Issued, AuthError>, CallError> {
        let secrets = self.runner.secrets(Some(Arc::clone(secrets)));
        let (mut call, warm) = self.state.begin(&self.runner, secrets).await?;
        for entry in request_auth.entries() {
            call.store.data().log.hide(entry.value.clone());
        }
        let cluster = lower_cluster(details);
        let entries: Vec<_> = request_auth.entries().iter().map(lower_entry).collect();
        let caller = caller.map(lower_user);
        let ended = {
            let guest = pin!(async {
                let meter = &self.runner.meter;
                let leased = meter.measure_instantiation(pin!(self.state.instance(&mut call.store, warm))).await?;
                call.store.data_mut().enter(Surroundings::Real);
                call.store.data_mut().http.open(Some(details));
                let store = &mut call.store;
                let answer = leased.instance.get_credential(store, &cluster, &entries, caller.as_ref()).await?;
                Ok((answer, leased))
            });
            call.deadline.bound(guest).await
        };
        let (answer, leased) = call.outcome(ended)?;
        let answer = match answer {
            Ok(grant) => {
                Ok(Issued { grant: self.lift_grant(grant)?, cache_hit: false, same_for: self.same_for(&call) })
            }
            Err(error) => Err(lift_error(&call, error)),
        };
        self.state.end(call, leased);
        Ok(answer)
    }

    /// How long the answer of this call is the answer to the same question. A guest that imports neither a clock nor a way out
    /// sees its arguments and the secrets that it asks for, and in a fresh instance nothing of other calls.
    fn same_for(&self, call: &Call<'_>) -> Option<Duration> {
        match (self.wasi, self.state.is_fresh()) {
            (Wasi::Absent, true) if call.store.data().secrets.may_change => Some(CHANGING_SECRET_BELIEVED),
            (Wasi::Absent, true) => Some(Duration::MAX),
            (Wasi::Imported, _) | (_, false) => None,
        }
    }

    async fn call_present(&self, metadata: &Metadata) -> Result<Metadata, CallError> {
        let (mut call, warm) = self.state.begin(&self.runner, self.runner.secrets(None)).await?;
        let entries = lower_metadata(metadata);
        let answer = call.deadline.bound(async {
            let leased = self.state.instance(&mut call.store, warm).await?;
            call.store.data_mut().enter(Surroundings::Real);
            call.store.data_mut().http.open(None);
            Ok((leased.instance.present_auth_metadata(&mut call.store, &entries).await?, leased))
        });
        let ended = answer.await;
        let (entries, leased) = call.outcome(ended)?;
        let metadata = self.lift_metadata(entries)?;
        self.state.end(call, leased);
        Ok(metadata)
    }

    async fn call_validate(&self, metadata: &Metadata) -> Result<Vec<String>, CallError> {
        let (mut call, warm) = self.state.begin(&self.runner, self.runner.secrets(None)).await?;
        let entries = lower_metadata(metadata);
        let answer = call.deadline.bound(async {
            let leased = self.state.instance(&mut call.store, warm).await?;
            call.store.data_mut().enter(Surroundings::Real);
            call.store.data_mut().http.open(None);
            Ok((leased.instance.validate_cluster(&mut call.store, &entries).await?, leased))
        });
        let ended = answer.await;
        let (faults, leased) = call.outcome(ended)?;
        let clean = |fault| call.store.data().log.without_hidden(fault);
        let faults = answer::texts(faults.into_iter().map(clean).collect());
        self.state.end(call, leased);
        Ok(faults)
    }

    fn lift_grant(&self, grant: types::Grant) -> Result<Grant, CallError> {
        let types::Grant { credential, expires_at, impersonate } = grant;
        let mut size = Size::default();
        // Wrapped before anything can fail, so that no message can hold one.
        let credential = match credential {
            types::Credential::BearerToken(token) => {
                size.add(&token);
                Credential::BearerToken(Redacted::new(token))
            }
            types::Credential::X509ClientCertificate(types::ClientCertificate { cert, key }) => {
                size.add(&cert);
                size.add(&key);
                Credential::X509ClientCertificate(PrivateKeyPair { certificate: cert, key: Redacted::new(key) })
            }
            types::Credential::Anonymous => Credential::Anonymous,
        };
        let malformed = |fault: CredentialFault| self.runner.malformed(fault.to_string());
        check_credential(&credential).map_err(malformed)?;
        let impersonate =
            impersonate.map(|impersonation| self.lift_impersonation(impersonation, &mut size)).transpose()?;
        if size.exceeds(self.runner.output_bytes_max()) {
            return Err(self.runner.output_limit());
        }
        Ok(Grant { credential, expires_at, impersonate })
    }

    fn lift_impersonation(
        &self,
        impersonation: types::Impersonation,
        size: &mut Size,
    ) -> Result<Impersonation, CallError> {
        let types::Impersonation { user, uid, groups, extra } = impersonation;
        let mut by_key = BTreeMap::new();
        for (key, values) in extra {
            size.add(&key);
            values.iter().for_each(|value| size.add(value));
            if by_key.insert(key, values).is_some() {
                return Err(self.runner.malformed("an `extra` key of the impersonation is given twice"));
            }
        }
        size.add(&user);
        groups.iter().chain(&uid).for_each(|value| size.add(value));
        let impersonation = Impersonation { user, uid, groups, extra: by_key };
        check_impersonation(&impersonation).map_err(|fault| self.runner.malformed(fault.to_string()))?;
        Ok(impersonation)
    }

    fn lift_metadata(&self, entries: Vec<(String, String)>) -> Result<Metadata, CallError> {
        let mut size = Size::default();
        let mut metadata = Metadata::new();
        for (key, value) in entries {
            size.add(&key);
            size.add(&value);
            if metadata.insert(key, value).is_some() {
                return Err(self.runner.malformed("a key of the metadata is given twice"));
            }
        }
        if size.exceeds(self.runner.output_bytes_max()) { Err(self.runner.output_limit()) } else { Ok(metadata) }
    }
}

impl AuthenticationStrategy for WasmStrategy {
    fn name(&self) -> &PluginName {
        &self.runner.name
    }

    fn quarantine(&self) -> Option<&Arc<Quarantine>> {
        Some(self.runner.quarantine())
    }

    fn credential<'a>(
        &'a self,
        cluster: &'a ClusterDetails,
        secrets: &'a Arc<dyn SecretStore>,
        request_auth: &'a RequestAuth,
        caller: Option<&'a UserInfo>,
    ) -> BoxFuture<'a, Result<Result<Issued, AuthError>, CallError>> {
        let span = debug_span!("call_plugin", plugin = %self.runner.name, function = "get-credential");
        // By cluster too: one whose metadata traps the strategy takes no other one's credential.
        let whom = (cluster.name.as_str(), caller.map(|caller| caller.name.as_str()));
        let answer = async move {
            let call = pin!(self.call_credential(cluster, secrets, request_auth, caller));
            let guarded = pin!(self.runner.guarded(whom, call));
            self.runner.meter.measure(guarded).await
        };
        Box::pin(answer.instrument(span))
    }

    fn present_auth_metadata<'a>(&'a self, metadata: &'a Metadata) -> BoxFuture<'a, Result<Metadata, CallError>> {
        let span = debug_span!("call_plugin", plugin = %self.runner.name, function = "present-auth-metadata");
        Box::pin(self.call_present(metadata).instrument(span))
    }

    fn validate_cluster<'a>(&'a self, metadata: &'a Metadata) -> BoxFuture<'a, Result<Vec<String>, CallError>> {
        let span = debug_span!("call_plugin", plugin = %self.runner.name, function = "validate-cluster");
        Box::pin(self.call_validate(metadata).instrument(span))
    }
}

impl WasmStrategy {
    /// Which bytes it runs.
    pub const fn digest(&self) -> Digest {
        self.runner.digest
    }
}

fn lower_metadata(metadata: &Metadata) -> Vec<(String, String)> {
    metadata.iter().map(|(key, value)| (key.clone(), value.clone())).collect()
}

fn lower_cluster(cluster: &ClusterDetails) -> types::ClusterDetails {
    types::ClusterDetails {
        name: cluster.name.as_str().to_owned(),
        title: cluster.title.clone(),
        server: cluster.server.clone(),
        auth_metadata: lower_metadata(&cluster.auth_metadata),
        ca_data: cluster.ca_data.clone(),
        skip_tls_verify: cluster.skip_tls_verify,
    }
}

fn lower_entry(entry: &RequestAuthEntry) -> types::RequestAuthEntry {
    types::RequestAuthEntry {
        provider: entry.provider.clone(),
        sub_provider: entry.sub_provider.clone(),
        value: entry.value.expose().clone(),
    }
}

/// The text reaches the caller: without what this call was handed, and in one line.
fn lift_error(call: &Call<'_>, error: types::AuthError) -> AuthError {
    let clean = |reason: String| answer::text(&call.store.data().log.without_hidden(reason));
    match error {
        types::AuthError::MissingToken(reason) => AuthError::MissingToken(clean(reason)),
        types::AuthError::Refused(reason) => AuthError::Refused(clean(reason)),
        types::AuthError::Unavailable(reason) => AuthError::Unavailable(clean(reason)),
        types::AuthError::Misconfigured(reason) => AuthError::Misconfigured(clean(reason)),
    }
}

/// How long a secret in a file is taken for what it was: so much later may a rotated one count.
const CHANGING_SECRET_BELIEVED: Duration = Duration::from_secs(1);
