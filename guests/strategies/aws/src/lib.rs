//! `authProvider: aws`: EKS's token, which is a presigned URL of STS.
//!
//! The API server calls the URL and learns from STS who signed it. Who signs is the identity of the sidecar's secrets
//! ([`identity`]), or the role of the cluster's `kubernetes.io/aws-assume-role` that it takes on ([`sts`]). Nothing of it is
//! the caller's.

mod answer;
mod endpoint;
mod identity;
mod signature;
mod sts;

use std::time::Duration;

use serde::Deserialize;
use witgate_sdk::{AuthError, ClusterDetails, Grant, Metadata, RequestAuth, Strategy, UserInfo, clock};

use crate::endpoint::Endpoint;
use crate::identity::Identity;
use crate::sts::Role;

/// What an operator may set.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Settings {
    /// Of STS; `us-east-1` if absent.
    region: Option<String>,
    /// STS itself, where it is not `https://sts.REGION.amazonaws.com`.
    sts_endpoint: Option<String>,
    /// The role of the secret `web-identity-token`.
    role_arn: Option<String>,
    /// What CloudTrail calls the session of a role; the JavaScript SDK's `aws-sdk-js-MILLISECONDS` if absent.
    role_session_name: Option<String>,
}

struct Aws {
    endpoint: Endpoint,
    web_identity_role: Option<String>,
    session_name: Option<String>,
}

impl Strategy for Aws {
    type Settings = Settings;

    fn configure(settings: Settings) -> Result<Self, Vec<String>> {
        let Settings { region, sts_endpoint, role_arn, role_session_name } = settings;
        let mut faults = Vec::new();
        let endpoint = Endpoint::new(region.as_deref().unwrap_or(DEFAULT_REGION), sts_endpoint.as_deref());
        if let Some(arn) = role_arn.as_deref().filter(|arn| !is_role_arn(arn)) {
            faults.push(format!("`roleArn` is `{}`: expected {ROLE_ARN}", arn.escape_debug()));
        }
        if let Some(name) = role_session_name.as_deref().filter(|name| !is_session_name(name)) {
            faults.push(format!(
                "`roleSessionName` is `{}`: expected 2 to 64 letters, digits or characters of `_=,.@-`",
                name.escape_debug()
            ));
        }
        match endpoint {
            Ok(endpoint) if faults.is_empty() => {
                Ok(Self { endpoint, web_identity_role: role_arn, session_name: role_session_name })
            }
            Ok(_) => Err(faults),
            Err(fault) => {
                faults.insert(0, fault);
                Err(faults)
            }
        }
    }

    fn credential(
        &self,
        cluster: &ClusterDetails,
        _request_auth: &RequestAuth,
        _caller: Option<&UserInfo>,
    ) -> Result<Grant, AuthError> {
        let metadata = |key: &str| find(&cluster.auth_metadata, key);
        let id = metadata(CLUSTER_ID).unwrap_or(&cluster.name);
        if !is_cluster_id(id) {
            return Err(AuthError::Misconfigured(format!("`{CLUSTER_ID}` is no cluster name of EKS's")));
        }
        let session_name = self.session_name();
        let base = Identity::find()?.ok_or_else(|| AuthError::Misconfigured(NO_IDENTITY.to_owned()))?;
        let mut credentials = base.credentials(&self.endpoint, self.web_identity_role.as_deref(), &session_name)?;
        if let Some(arn) = metadata(ASSUME_ROLE) {
            let role = Role { arn, session_name: &session_name, external_id: metadata(EXTERNAL_ID) };
            credentials = sts::assume_role(&self.endpoint, &credentials, &role)?;
        }
        let now = clock::now();
        let url = signature::presign(&self.endpoint, &credentials, id, now)?;
        let end = now.saturating_add(TOKEN_LIFE.as_secs());
        Ok(Grant::bearer_token(signature::token(&url)).expires_at(credentials.expires_at.map_or(end, |at| at.min(end))))
    }

    fn validate_cluster(&self, auth_metadata: &Metadata) -> Vec<String> {
        let mut faults = Vec::new();
        let wrong = |key: &str, expected: &str, is_right: fn(&str) -> bool| {
            let value = find(auth_metadata, key).filter(|value| !is_right(value))?;
            Some(format!("`{key}` is `{}`: expected {expected}", value.escape_debug()))
        };
        faults.extend(wrong(CLUSTER_ID, "the name of an EKS cluster", is_cluster_id));
        faults.extend(wrong(ASSUME_ROLE, ROLE_ARN, is_role_arn));
        // It is not shown: some treat it as a secret.
        if find(auth_metadata, EXTERNAL_ID).is_some_and(|id| !is_external_id(id)) {
            faults.push(format!(
                "`{EXTERNAL_ID}` is not 2 to 1224 letters, digits or characters of `_+=,.@:/-`, as external ids are"
            ));
        }
        if find(auth_metadata, EXTERNAL_ID).is_some() && find(auth_metadata, ASSUME_ROLE).is_none() {
            faults.push(format!("`{EXTERNAL_ID}` is for a role, and there is no `{ASSUME_ROLE}`"));
        }
        // One that cannot be read now may be there later: a mounted token, for instance.
        match Identity::find() {
            Ok(None) => faults.push(NO_IDENTITY.to_owned()),
            Ok(Some(identity)) => faults.extend(identity.fault(self.web_identity_role.as_deref())),
            Err(_) => {}
        }
        faults
    }
}

impl Aws {
    fn session_name(&self) -> String {
        // What Backstage's SDK sends; trust policies may ask for it by `sts:RoleSessionName`.
        self.session_name.clone().unwrap_or_else(|| format!("aws-sdk-js-{}000", clock::now()))
    }
}

/// A value of the cluster's metadata; an empty one counts as none.
fn find<'a>(metadata: &'a Metadata, key: &str) -> Option<&'a str> {
    metadata.iter().find(|(known, value)| known == key && !value.is_empty()).map(|(_, value)| value.as_str())
}

/// EKS's own rule is narrower; Backstage takes a cluster's display name too. It goes into a header.
fn is_cluster_id(id: &str) -> bool {
    (1..=253).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic())
}

fn is_role_arn(arn: &str) -> bool {
    let mut parts = arn.splitn(6, ':');
    let mut next = || parts.next().unwrap_or_default();
    let (scheme, partition, service, region, account, resource) = (next(), next(), next(), next(), next(), next());
    (20..=2048).contains(&arn.len())
        && arn.bytes().all(|byte| byte.is_ascii_graphic())
        && (scheme, service, region) == ("arn", "iam", "")
        && partition.starts_with("aws")
        && account.len() == 12
        && account.bytes().all(|byte| byte.is_ascii_digit())
        && resource.strip_prefix("role/").is_some_and(|name| !name.is_empty())
}

fn is_session_name(name: &str) -> bool {
    (2..=64).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_+=,.@-".contains(&byte))
}

fn is_external_id(id: &str) -> bool {
    (2..=1224).contains(&id.len())
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_+=,.@:/-".contains(&byte))
}

const CLUSTER_ID: &str = "kubernetes.io/x-k8s-aws-id";
const ASSUME_ROLE: &str = "kubernetes.io/aws-assume-role";
const EXTERNAL_ID: &str = "kubernetes.io/aws-external-id";
const ROLE_ARN: &str = "`arn:aws:iam::ACCOUNT:role/NAME`";
const DEFAULT_REGION: &str = "us-east-1";
/// STS takes a presigned URL for 15 minutes, whatever `X-Amz-Expires` says; `aws eks get-token` counts on 14 of them too.
const TOKEN_LIFE: Duration = Duration::from_secs(14 * 60);
const NO_IDENTITY: &str = "the strategy `aws` has no AWS identity: grant it `secrets` in the sidecar `aws.yaml`, \
    `access-key-id` and `secret-access-key` or `web-identity-token`, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY";

witgate_sdk::export_strategy!(Aws);

#[cfg(test)]
mod tests;
