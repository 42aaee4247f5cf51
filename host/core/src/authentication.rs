//! Finding out who calls: what a caller shows, and the trait that judges it.

use crate::{BoxError, BoxFuture, Redacted, UserInfo};

/// What a caller brought to prove who it is.
#[derive(Clone, Debug, Default)]
pub struct CallerCredentials {
    /// The token of `Authorization: Bearer …`, or of the browser's WebSocket subprotocol.
    pub bearer_token: Option<Redacted<String>>,
    /// Whether there was an `Authorization` of another scheme.
    pub other_scheme: bool,
    /// The certificate of the TLS handshake, already verified against the listener's CA.
    pub client_certificate: Option<ClientCertificate>,
}

/// A client's leaf certificate that the handshake has verified, as DER.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ClientCertificate(pub std::sync::Arc<[u8]>);

/// A request's caller, known. Only an [`Authenticator`] that was asked can be the reason that one exists.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Authenticated {
    /// Who calls.
    pub user: UserInfo,
}

/// Finds out who calls.
pub trait Authenticator: Send + Sync {
    /// Who brought these credentials.
    ///
    /// # Errors
    /// When they are missing or not believed. Never waits on the network for longer than its own limit.
    fn authenticate<'a>(
        &'a self,
        credentials: &'a CallerCredentials,
    ) -> BoxFuture<'a, Result<Authenticated, AuthenticationError>>;
}

/// Why a caller is not known. The caller reads the text; the log also reads the cause.
#[derive(Debug, thiserror::Error)]
pub enum AuthenticationError {
    /// Nothing that any authenticator could judge (Backstage's text).
    #[error("Missing credentials")]
    Missing,
    /// A token or certificate that none believes (Backstage's text).
    #[error("Illegal token")]
    Invalid(#[source] BoxError),
}
