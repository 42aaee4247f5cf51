//! The strategies that are embedded in the binary: guests like any other, built from `guests/strategies`.

include!(concat!(env!("OUT_DIR"), "/builtins.rs"));

use super::DependsOn;

/// What a built-in strategy's credentials depend on; a sidecar may say otherwise. A name that is not here is shown everything.
pub(crate) fn depends_on(name: &str) -> DependsOn {
    match name {
        "anonymous"
        | "aws"
        | "azure"
        | "googleServiceAccount"
        | "kubeconfig"
        | "localKubectlProxy"
        | "serviceAccount" => DependsOn::Cluster,
        "aks" | "google" | "oidc" | "pinniped" => DependsOn::RequestAuth,
        _ => DependsOn::Caller,
    }
}

/// Where a built-in strategy may go, as its sidecar would say it; a sidecar that has `outboundHosts` says otherwise.
pub(crate) fn outbound_hosts(name: &str) -> &'static [&'static str] {
    match name {
        "googleServiceAccount" => &["https://oauth2.googleapis.com"],
        "pinniped" => &["cluster"],
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use witgate_core::PluginName;

    use super::*;
    use crate::plugins::sidecar::Sidecar;

    /// Goal: what is granted here is written as a sidecar would have it. Method: all of them.
    #[test]
    fn every_builtin_has_a_sidecar() {
        for (name, _) in BUILTINS {
            let sidecar = Sidecar::of_builtin(&PluginName::try_from(*name).unwrap());
            assert_eq!(sidecar.outbound_hosts.len(), outbound_hosts(name).len());
        }
    }

    /// Goal: no built-in is shown more than it needs, because somebody forgot to say so. Method: all of them.
    #[test]
    fn every_builtin_says_what_it_depends_on() {
        for (name, _) in BUILTINS {
            assert_ne!(depends_on(name), DependsOn::Caller, "{name}");
        }
        assert_eq!(depends_on("mine"), DependsOn::Caller);
    }
}
