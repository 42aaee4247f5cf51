//! The one value that a component holds: the plug-in as `configure` made it.

use std::sync::OnceLock;

/// A plug-in that the host configures once and then only reads.
#[derive(Debug)]
pub struct Plugin<T>(OnceLock<T>);

impl<T> Plugin<T> {
    /// Before `configure`.
    pub const fn unconfigured() -> Self {
        Self(OnceLock::new())
    }

    /// Parses `settings` and makes the plug-in of them.
    ///
    /// # Errors
    /// When the settings are wrong, or when there is a plug-in already: the host calls `configure` once.
    pub fn configure<S: serde::de::DeserializeOwned>(
        &self,
        settings: &str,
        make: impl FnOnce(S) -> Result<T, Vec<String>>,
    ) -> Result<(), Vec<String>> {
        crate::panic::log_panics();
        let plugin = make(crate::settings::parse(settings)?)?;
        self.0.set(plugin).map_err(|_| vec!["configure was called twice".to_owned()])
    }

    /// The plug-in. A host that calls anything before `configure` breaks the contract: that traps.
    pub fn configured(&self) -> &T {
        self.0.get().expect("the host calls `configure` first")
    }
}
