//! The strategies that are embedded in the binary: guests like any other, built from `guests/strategies`.
//!
//! They are ours, so an operator who names one as `authProvider` gets it without a sidecar: what it is granted then, and
//! what a sidecar that leaves a key out does not take away, is [`Defaults`].

include!(concat!(env!("OUT_DIR"), "/builtins.rs"));

mod defaults;

pub(crate) use defaults::Defaults;

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

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: no built-in is shown more than it needs, because somebody forgot to say so. Method: all of them.
    #[test]
    fn every_builtin_says_what_it_depends_on() {
        for (name, _) in BUILTINS {
            assert_ne!(depends_on(name), DependsOn::Caller, "{name}");
        }
        assert_eq!(depends_on("mine"), DependsOn::Caller);
    }
}
