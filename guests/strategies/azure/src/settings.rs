//! What an operator may set, and what becomes of it.

use serde::Deserialize;

use crate::origin::{Scheme, is_origin};

/// As it is written.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(crate) struct Settings {
    /// The tenant of the application.
    pub(crate) tenant_id: Option<String>,
    /// The application; of a managed identity, which one, where the machine has several.
    pub(crate) client_id: Option<String>,
    /// Entra ID; of another cloud than the public one, if given.
    pub(crate) authority_host: Option<String>,
    /// Whether the machine's managed identity may be asked.
    pub(crate) managed_identity: bool,
    /// Where that is asked; the machine's metadata service if absent.
    pub(crate) managed_identity_endpoint: Option<String>,
}

/// An application of Entra ID.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Application {
    pub(crate) authority: String,
    pub(crate) tenant_id: String,
    pub(crate) client_id: String,
}

impl Application {
    /// Where it asks for tokens.
    pub(crate) fn token_url(&self) -> String {
        format!("{}/{}/oauth2/v2.0/token", self.authority, self.tenant_id)
    }
}

/// A machine's identity.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct ManagedIdentity {
    pub(crate) endpoint: String,
    pub(crate) client_id: Option<String>,
}

impl Settings {
    /// The application and the managed identity, as far as they are set.
    ///
    /// # Errors
    /// With what is wrong, one text each.
    pub(crate) fn checked(self) -> Result<(Option<Application>, Option<ManagedIdentity>), Vec<String>> {
        let Self { tenant_id, client_id, authority_host, managed_identity, managed_identity_endpoint } = self;
        let mut faults = Vec::new();
        let mut wrong = |key: &str, value: &str, expected: &str| {
            faults.push(format!("`{key}` is `{}`: expected {expected}", value.escape_debug()));
        };
        // Ids, and a tenant's domain: nothing that could leave its place in a URL.
        let is_name = |text: &str| {
            (1..=253).contains(&text.len())
                && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.')
                && text.bytes().any(|byte| byte != b'.')
        };
        if let Some(tenant) = tenant_id.as_deref().filter(|tenant| !is_name(tenant)) {
            wrong("tenantId", tenant, "a tenant's id or domain");
        }
        if let Some(client) = client_id.as_deref().filter(|client| !is_name(client)) {
            wrong("clientId", client, "an application's id");
        }
        let authority = authority_host.unwrap_or_else(|| PUBLIC_CLOUD.to_owned());
        let authority = authority.strip_suffix('/').unwrap_or(&authority);
        // Secrets go there.
        if !is_origin(authority, Scheme::Https) {
            wrong("authorityHost", authority, "`https://HOST[:PORT]`");
        }
        let endpoint = managed_identity_endpoint.unwrap_or_else(|| METADATA_SERVICE.to_owned());
        let endpoint = endpoint.strip_suffix('/').unwrap_or(&endpoint);
        if !is_origin(endpoint, Scheme::Any) {
            wrong("managedIdentityEndpoint", endpoint, "`http://HOST[:PORT]`");
        }
        match (&tenant_id, &client_id) {
            (Some(_), None) => faults.push("`tenantId` is set and `clientId` is not".to_owned()),
            (None, Some(_)) if !managed_identity => {
                faults.push("`clientId` is set, and neither `tenantId` nor `managedIdentity`".to_owned());
            }
            (Some(_) | None, Some(_)) | (None, None) => {}
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        let application = tenant_id.zip(client_id.clone()).map(|(tenant_id, client_id)| Application {
            authority: authority.to_owned(),
            tenant_id,
            client_id,
        });
        let identity = managed_identity.then(|| ManagedIdentity { endpoint: endpoint.to_owned(), client_id });
        Ok((application, identity))
    }
}

const PUBLIC_CLOUD: &str = "https://login.microsoftonline.com";
const METADATA_SERVICE: &str = "http://169.254.169.254";
