//! Asks a cluster's strategy who a request goes up as; and again, once, where the API server did not know the answer.
//!
//! A strategy's credential may be kept for a while, and the API server may stop to believe it before that: a token is
//! revoked, a signing key is rotated. The first 401 is then not the caller's, and a request that can be sent again
//! is, with another credential. What may be dropped, and how often, is the cache's to say
//! ([`AuthenticationStrategy::rejected`](witgate_core::AuthenticationStrategy::rejected)).

use std::time::Instant;

use tracing::{debug, warn};
use witgate_core::{Credential, Impersonation, RequestAuth, UserInfo};

use crate::authorize::chain;
use crate::forward::Identity;
use crate::respond::GateError;
use crate::snapshot::Cluster;
use crate::trace::StepName;
use crate::trail::Trail;

/// What a cluster's strategy is asked with, for one request.
#[derive(Clone)]
pub(crate) struct Renewal<'a> {
    pub(crate) cluster: &'a Cluster,
    pub(crate) request_auth: RequestAuth,
    pub(crate) caller: &'a UserInfo,
    pub(crate) client_impersonation: Option<Impersonation>,
}

impl Renewal<'_> {
    /// As whom the request goes up, and whether the credential is one that is kept: then there may be another one.
    pub(crate) async fn ask(&self, trail: &mut Trail) -> Result<(Identity, bool), GateError> {
        let Self { cluster, request_auth, caller, client_impersonation } = self;
        let started = Instant::now();
        let ask = || cluster.strategy.credential(&cluster.details, &cluster.secrets, request_auth, Some(caller));
        let mut answer = ask().await;
        if let Ok(Ok(issued)) = &answer
            && cluster.upstream.is_mismatched(&issued.grant.credential)
        {
            // The strategy read the certificate before its files were rotated, and the key after. Once more, and no oftener.
            self.rejected(&issued.grant.credential);
            answer = ask().await;
        }
        trail.asked_strategy(cluster.strategy.name(), started.elapsed());
        trail.end_step(StepName::Credential, Some(cluster.strategy.name()), Some(started), matches!(answer, Ok(Ok(_))));
        let issued = answer.map_err(GateError::StrategyFailed)?.map_err(GateError::Strategy)?;
        trail.sends(&issued.grant.credential, Some(issued.cache_hit));
        let impersonate = match (client_impersonation.clone(), issued.grant.impersonate) {
            // An API server takes on one identity, so one of the two would be lost.
            (Some(_), Some(_)) => return Err(GateError::ImpersonationRefused(cluster.details.name.clone())),
            (client, grant) => client.or(grant),
        };
        // One without an end may have come out of the cache too; one that was just made is the newest there is.
        let kept = issued.grant.expires_at.is_some() || issued.cache_hit;
        Ok((Identity { credential: issued.grant.credential, verbatim: None, impersonate }, kept))
    }

    /// Drops `credential`, which the API server answered with 401. Says whether there may be another one.
    pub(crate) fn rejected(&self, credential: &Credential) -> bool {
        let Self { cluster, request_auth, caller, .. } = self;
        cluster.strategy.rejected(&cluster.details, request_auth, Some(caller), credential)
    }

    /// Another identity than the one that the API server answered with 401; none where there is none, and the 401 stands.
    pub(crate) async fn instead_of(&self, rejected: &Identity, trail: &mut Trail) -> Option<Identity> {
        if !self.rejected(&rejected.credential) {
            return None;
        }
        match self.ask(trail).await {
            Ok((identity, _)) if identity.credential != rejected.credential => {
                debug!(cluster = %self.cluster.details.name, "a kept credential was answered with 401; trying another");
                Some(identity)
            }
            Ok(_) => None,
            Err(error) => {
                warn!(error = %chain(&error), "a kept credential was answered with 401, and there is no other");
                None
            }
        }
    }
}
