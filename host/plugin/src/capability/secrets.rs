//! The capability `secrets`: the sidecar's own by their names, then those of the cluster at hand.
//!
//! A read may wait, on a disk for instance; the call's deadline ends it.

use witgate_core::{Redacted, SecretError, SecretStore};

use crate::bindings::secrets;
use crate::bindings::strategy_v0_2::witgate::auth::secrets as secrets_v0_2;
use crate::sandbox::Sandbox;

impl secrets::Host for Sandbox {
    async fn get(&mut self, name: String) -> Result<String, String> {
        self.secrets.asked = true;
        let mut answer = Err(SecretError::NotGranted(shown(&name)));
        for store in [&self.secrets.sidecar, &self.secrets.cluster].into_iter().flatten() {
            self.secrets.may_change |= !store.is_fixed(&name);
            answer = lookup(store.as_ref(), &name).await;
            // Only absence goes on: a secret that cannot be read is not taken from elsewhere.
            if !matches!(answer, Err(SecretError::NotGranted(_))) {
                break;
            }
        }
        match answer {
            Ok(secret) => {
                self.log.hide(secret.clone());
                Ok(secret.into_exposed())
            }
            Err(error) => Err(error.to_string()),
        }
    }
}

impl secrets_v0_2::Host for Sandbox {
    async fn get(&mut self, name: String) -> Result<String, String> {
        secrets::Host::get(self, name).await
    }
}

async fn lookup(store: &dyn SecretStore, name: &str) -> Result<Redacted<String>, SecretError> {
    match store.get(name).await {
        Err(SecretError::NotGranted(_)) => Err(SecretError::NotGranted(shown(name))),
        answer => answer,
    }
}

/// A guest chooses the name that it asks for, and the error repeats it.
fn shown(name: &str) -> String {
    name.chars().take(NAME_CHARS_MAX).collect()
}

const NAME_CHARS_MAX: usize = 128;
