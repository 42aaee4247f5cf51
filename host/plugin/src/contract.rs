//! What a component claims to be: its kind, the contract's version, and what it wants of the host.
//!
//! The engine's linker would refuse a misfit too, but in words that name neither the plug-in nor the
//! remedy. It is asked afterwards, for the types behind the names.

use std::fmt;

use wasmtime::Engine;
use wasmtime::component::types;
use witgate_core::PluginName;

use crate::LoadError;
use crate::capability::{http, wasi};

/// A version of the contract that is served.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum ContractVersion {
    V0_1,
    V0_2,
}

impl ContractVersion {
    const ALL: [Self; 2] = [Self::V0_1, Self::V0_2];

    /// As `/status` shows it.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::V0_1 => "auth@0.1.0",
            Self::V0_2 => "auth@0.2.0",
        }
    }

    /// The interface that every plug-in exports.
    pub(crate) const fn plugin(self) -> &'static str {
        match self {
            Self::V0_1 => "witgate:auth/plugin@0.1.0",
            Self::V0_2 => "witgate:auth/plugin@0.2.0",
        }
    }

    /// The interface that a policy exports.
    const fn policy(self) -> &'static str {
        match self {
            Self::V0_1 => "witgate:auth/permission-policy@0.1.0",
            Self::V0_2 => "witgate:auth/permission-policy@0.2.0",
        }
    }

    /// The interface that a strategy exports.
    const fn strategy(self) -> &'static str {
        match self {
            Self::V0_1 => "witgate:auth/authentication-strategy@0.1.0",
            Self::V0_2 => "witgate:auth/authentication-strategy@0.2.0",
        }
    }

    /// Whether `version` is one of those that are served.
    fn serves(version: &str) -> bool {
        Self::ALL.into_iter().any(|served| served.as_str().strip_prefix("auth@") == Some(version))
    }
}

/// What a plug-in does.
#[derive(Clone, Copy, Debug, Eq, PartialEq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PluginKind {
    /// Judges requests.
    Policy,
    /// Yields credentials.
    Strategy,
}

impl PluginKind {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Policy => "policy",
            Self::Strategy => "strategy",
        }
    }

    /// The interfaces of the contract that it may import. `types` holds no functions.
    const fn capabilities(self) -> &'static [&'static str] {
        match self {
            Self::Policy => &["types", "log"],
            Self::Strategy => &["types", "log", "secrets"],
        }
    }
}

impl fmt::Display for PluginKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whether a component imports any of WASI.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Wasi {
    Imported,
    Absent,
}

/// Finds out what `component` is, and refuses what it may not have.
pub(crate) fn inspect(
    plugin: &PluginName,
    engine: &Engine,
    component: &types::Component,
    outbound: bool,
) -> Result<(PluginKind, Wasi), LoadError> {
    let exports: Vec<&str> = component.exports(engine).map(|(name, _)| name).collect();
    let imports: Vec<&str> = component.imports(engine).map(|(name, _)| name).collect();
    let kind = inspect_names(plugin, &exports, &imports, outbound)?;
    let wasi = imports.iter().any(|import| import.starts_with("wasi:"));
    Ok((kind, if wasi { Wasi::Imported } else { Wasi::Absent }))
}

fn inspect_names(
    plugin: &PluginName,
    exports: &[&str],
    imports: &[&str],
    outbound: bool,
) -> Result<PluginKind, LoadError> {
    for (uses, items) in [("exports", exports), ("imports", imports)] {
        let other = items.iter().find(|item| match Item::parse(item) {
            Item::Contract { version, .. } => !ContractVersion::serves(version),
            Item::Wasi { .. } | Item::Other => false,
        });
        if let Some(item) = other {
            return Err(LoadError::OtherContract { plugin: plugin.clone(), uses, item: (*item).to_owned() });
        }
    }
    let mut found = None;
    for version in ContractVersion::ALL {
        for (kind, export) in [(PluginKind::Policy, version.policy()), (PluginKind::Strategy, version.strategy())] {
            if exports.contains(&export) && found.replace((kind, version)).is_some() {
                return Err(LoadError::TwoKinds { plugin: plugin.clone() });
            }
        }
    }
    let Some((kind, version)) = found else {
        return Err(LoadError::UnknownKind { plugin: plugin.clone(), exports: quoted(exports) });
    };
    if !exports.contains(&version.plugin()) {
        return Err(LoadError::MissingExport { plugin: plugin.clone(), kind, export: version.plugin() });
    }
    // A sidecar that lists hosts grants HTTP, whatever the hosts are.
    let http = outbound && kind == PluginKind::Strategy;
    let unknown: Vec<&str> = imports.iter().copied().filter(|import| !is_granted(kind, http, import)).collect();
    if unknown.is_empty() {
        return Ok(kind);
    }
    Err(LoadError::NotGranted { plugin: plugin.clone(), imports: quoted(&unknown) })
}

fn is_granted(kind: PluginKind, http: bool, import: &str) -> bool {
    match ImportGrant::of(kind, http, import) {
        ImportGrant::Contract | ImportGrant::InertWasi | ImportGrant::OutboundHttp => true,
        ImportGrant::NotGranted => false,
    }
}

/// What stands behind a name that a component imports.
#[derive(Clone, Copy, Debug, Eq, PartialEq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ImportGrant {
    /// The contract gives it to every plug-in of this kind.
    Contract,
    /// WASI that is there and leads nowhere: no arguments, variables, files or sockets.
    InertWasi,
    /// HTTP, because the sidecar lists `outboundHosts`.
    OutboundHttp,
    /// Nothing: the plug-in is refused.
    NotGranted,
}

impl ImportGrant {
    /// What a plug-in of this kind finds behind `import`; `goes_out` is whether its sidecar lists `outboundHosts`.
    pub fn of(kind: PluginKind, goes_out: bool, import: &str) -> Self {
        match Item::parse(import) {
            Item::Contract { interface, version }
                if ContractVersion::serves(version) && kind.capabilities().contains(&interface) =>
            {
                Self::Contract
            }
            Item::Wasi { interface, version } if version.starts_with("0.2.") => {
                if wasi::INTERFACES.contains(&interface) {
                    Self::InertWasi
                } else if goes_out && kind == PluginKind::Strategy && http::INTERFACES.contains(&interface) {
                    Self::OutboundHttp
                } else {
                    Self::NotGranted
                }
            }
            Item::Contract { .. } | Item::Wasi { .. } | Item::Other => Self::NotGranted,
        }
    }
}

/// An imported or exported name, such as `wasi:io/poll@0.2.0`.
enum Item<'a> {
    /// Of `witgate:auth`: the interface alone.
    Contract {
        interface: &'a str,
        version: &'a str,
    },
    /// Of a package of WASI: the interface with its package.
    Wasi {
        interface: &'a str,
        version: &'a str,
    },
    Other,
}

impl<'a> Item<'a> {
    fn parse(name: &'a str) -> Self {
        let (path, version) = name.split_once('@').unwrap_or((name, ""));
        match path.strip_prefix("witgate:auth/") {
            Some(interface) => Self::Contract { interface, version },
            None if path.starts_with("wasi:") => Self::Wasi { interface: path, version },
            None => Self::Other,
        }
    }
}

/// The first few names, for a message.
fn quoted(names: &[&str]) -> String {
    if names.is_empty() {
        return "nothing".to_owned();
    }
    let mut shown: Vec<String> = names.iter().take(NAMES_SHOWN_MAX).map(|name| format!("`{name}`")).collect();
    if let Some(more) = names.len().checked_sub(NAMES_SHOWN_MAX).filter(|more| *more > 0) {
        shown.push(format!("{more} more"));
    }
    shown.join(", ")
}

const NAMES_SHOWN_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    const PLUGIN: &str = ContractVersion::V0_1.plugin();
    const POLICY: &str = ContractVersion::V0_1.policy();
    const STRATEGY: &str = ContractVersion::V0_1.strategy();
    const LOG: &str = "witgate:auth/log@0.1.0";
    const SECRETS: &str = "witgate:auth/secrets@0.1.0";

    /// Goal: a component is refused by the name of what does not fit. Method: rows of exports and imports.
    #[test]
    fn misfits_are_refused_by_name() {
        check(&[PLUGIN, POLICY], &[LOG], "policy");
        check(&[PLUGIN, STRATEGY], &[LOG, SECRETS, "witgate:auth/types@0.1.0"], "strategy");
        check(&[PLUGIN, POLICY], &["wasi:cli/environment@0.2.6", "wasi:io/poll@0.2.0"], "policy");
        let (plugin, policy) = (ContractVersion::V0_2.plugin(), ContractVersion::V0_2.policy());
        check(&[plugin, policy], &[LOG, "witgate:auth/log@0.2.0"], "policy");
        check(
            &[plugin, POLICY],
            &[],
            "plug-in `x` does not export `witgate:auth/plugin@0.1.0`, which every policy must",
        );
        check(
            &[PLUGIN, plugin, POLICY, policy],
            &[],
            "plug-in `x` exports a policy or strategy more than once; it must be one of them, in one version",
        );

        check(
            &[],
            &[],
            "plug-in `x` exports neither `witgate:auth/permission-policy` nor `witgate:auth/authentication-strategy`; it exports nothing",
        );
        check(
            &["wasi:cli/run@0.2.0"],
            &[],
            "plug-in `x` exports neither `witgate:auth/permission-policy` nor `witgate:auth/authentication-strategy`; it exports `wasi:cli/run@0.2.0`",
        );
        check(
            &[PLUGIN, POLICY, STRATEGY],
            &[],
            "plug-in `x` exports a policy or strategy more than once; it must be one of them, in one version",
        );
        check(&[POLICY], &[], "plug-in `x` does not export `witgate:auth/plugin@0.1.0`, which every policy must");
        check(
            &[PLUGIN, "witgate:auth/permission-policy@0.3.0"],
            &[],
            "plug-in `x` exports `witgate:auth/permission-policy@0.3.0`; this witgate speaks auth@0.1.0 and auth@0.2.0",
        );
        check(
            &[PLUGIN, POLICY],
            &["witgate:auth/log@9.0.0"],
            "plug-in `x` imports `witgate:auth/log@9.0.0`; this witgate speaks auth@0.1.0 and auth@0.2.0",
        );
        check(
            &[PLUGIN, POLICY],
            &[SECRETS],
            "plug-in `x` imports `witgate:auth/secrets@0.1.0`, which its sidecar does not grant",
        );
        check(
            &[PLUGIN, POLICY],
            &[LOG, "wasi:http/outgoing-handler@0.2.0", "evil:door/open"],
            "plug-in `x` imports `wasi:http/outgoing-handler@0.2.0`, `evil:door/open`, which its sidecar does not grant",
        );
        check(
            &[PLUGIN, POLICY],
            &["wasi:cli/environment@0.3.0"],
            "plug-in `x` imports `wasi:cli/environment@0.3.0`, which its sidecar does not grant",
        );
        check(&[PLUGIN, POLICY], &["door"], "plug-in `x` imports `door`, which its sidecar does not grant");
    }

    /// Goal: listing hosts grants a strategy HTTP, and nothing else of WASI. Method: rows, with and without.
    #[test]
    fn outbound_hosts_grant_http() {
        let name = PluginName::try_from("x").unwrap();
        let granted = |kind, import, outbound| inspect_names(&name, &[PLUGIN, kind], &[import], outbound).is_ok();
        for import in ["wasi:http/types@0.2.0", "wasi:http/outgoing-handler@0.2.12"] {
            assert!(granted(STRATEGY, import, true));
            assert!(!granted(STRATEGY, import, false), "{import}");
            assert!(!granted(POLICY, import, true), "{import}");
        }
        for import in ["wasi:http/incoming-handler@0.2.0", "wasi:http/types@0.3.0", "wasi:keyvalue/store@0.2.0"] {
            assert!(!granted(STRATEGY, import, true), "{import}");
        }
    }

    #[track_caller]
    fn check(exports: &[&str], imports: &[&str], expected: &str) {
        let name = PluginName::try_from("x").unwrap();
        let got = match inspect_names(&name, exports, imports, false) {
            Ok(kind) => kind.to_string(),
            Err(error) => error.to_string(),
        };
        assert_eq!(got, expected);
    }
}
