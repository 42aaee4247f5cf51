//! The contract `auth@0.2.0`: policies that answer with warnings.
//!
//! A warning reaches the caller as a `Warning` header, whatever the verdict is; kubectl prints it. Everything else is as in 0.1.0, and
//! the types are the same.
//!
//! ```
//! use witgate_sdk::v0_2::{Answer, Policy};
//! use witgate_sdk::{Decision, NoSettings, PolicyQuery, UserInfo};
//!
//! struct Retired;
//!
//! impl Policy for Retired {
//!     type Settings = NoSettings;
//!
//!     fn configure(_settings: NoSettings) -> Result<Self, Vec<String>> {
//!         Ok(Self)
//!     }
//!
//!     fn handle(&self, query: &PolicyQuery, _user: Option<&UserInfo>) -> Answer {
//!         match &query.request {
//!             Some(request) if request.namespace == "old" => {
//!                 Answer::from(Decision::NoOpinion).warning("namespace `old` will be closed on 1 May: move to `new`")
//!             }
//!             _ => Decision::NoOpinion.into(),
//!         }
//!     }
//! }
//!
//! witgate_sdk::export_policy_v0_2!(Retired);
//! ```

use crate::bindings::v0_2::policy::exports::witgate::auth::permission_policy as contract;
use crate::{Condition, Conditional, Decision, Permission, PolicyQuery, UserInfo};

/// Decides whether a caller may do one thing, and may warn. See [`crate::Policy`] for the rest.
pub trait Policy: Sized + Send + Sync + 'static {
    /// The sidecar's `settings`.
    type Settings: serde::de::DeserializeOwned;

    /// Makes the policy from its settings. Called once, when the plug-in is loaded.
    ///
    /// # Errors
    /// When the settings are wrong: one text for each fault, naming the key and what would be right.
    fn configure(settings: Self::Settings) -> Result<Self, Vec<String>>;

    /// Judges one query.
    fn handle(&self, query: &PolicyQuery, user: Option<&UserInfo>) -> Answer;
}

/// What a policy says, and what the caller should hear beside it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Answer {
    /// What it says.
    pub decision: Decision,
    /// What the caller should hear; the host passes 8 on, each cut at 256 characters.
    pub warnings: Vec<String>,
}

impl Answer {
    /// The same answer with one more warning.
    #[must_use]
    pub fn warning(mut self, text: impl Into<String>) -> Self {
        self.warnings.push(text.into());
        self
    }
}

impl From<Decision> for Answer {
    fn from(decision: Decision) -> Self {
        Self { decision, warnings: Vec::new() }
    }
}

/// From the contract to the trait and back; for the export macro.
pub fn answer<P: Policy>(policy: &P, query: contract::PolicyQuery, user: Option<&UserInfo>) -> contract::Answer {
    let contract::PolicyQuery { permission, resource_ref, request, now } = query;
    let contract::Permission { name, action, resource_type } = permission;
    let permission = Permission { name, action, resource_type };
    let query = PolicyQuery { permission, resource_ref, request, now };
    let Answer { decision, warnings } = policy.handle(&query, user);
    let decision = match decision {
        Decision::Allow => contract::Decision::Allow,
        Decision::Deny(reason) => contract::Decision::Deny(reason),
        Decision::NoOpinion => contract::Decision::NoOpinion,
        Decision::Conditional(Conditional { any_of, reusable_for }) => {
            let condition = |Condition { rule, params, negated }| contract::Condition { rule, params, negated };
            let any_of = any_of.into_iter().map(|all_of| all_of.into_iter().map(condition).collect()).collect();
            contract::Decision::Conditional(contract::Conditional { any_of, reusable_for })
        }
    };
    contract::Answer { decision, warnings }
}

/// Makes the crate a policy component of `auth@0.2.0`: exports this type, which implements [`v0_2::Policy`](crate::v0_2::Policy).
#[macro_export]
macro_rules! export_policy_v0_2 {
    ($policy:ty) => {
        #[cfg(not(target_family = "wasm"))]
        const _: () = {
            const fn is_policy<P: $crate::v0_2::Policy>() {}
            is_policy::<$policy>();
        };

        #[cfg(target_family = "wasm")]
        #[allow(unsafe_code, reason = "the component's exports are made by wit-bindgen")]
        const _: () = {
            use $crate::macro_support::v0_2::configurable::exports::witgate::auth::plugin;
            use $crate::macro_support::v0_2::policy::exports::witgate::auth::permission_policy;

            static PLUGIN: $crate::macro_support::Plugin<$policy> = $crate::macro_support::Plugin::unconfigured();

            struct Component;

            impl plugin::Guest for Component {
                fn configure(settings: String) -> Result<(), Vec<String>> {
                    PLUGIN.configure(&settings, <$policy as $crate::v0_2::Policy>::configure)
                }
            }

            impl permission_policy::Guest for Component {
                fn handle(
                    query: permission_policy::PolicyQuery,
                    user: Option<$crate::UserInfo>,
                ) -> permission_policy::Answer {
                    $crate::macro_support::answer(PLUGIN.configured(), query, user.as_ref())
                }
            }

            $crate::macro_support::v0_2::configurable::export_configurable_v0_2!(
                Component with_types_in $crate::macro_support::v0_2::configurable
            );
            $crate::macro_support::v0_2::policy::export_answering_v0_2!(
                Component with_types_in $crate::macro_support::v0_2::policy
            );
        };
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{NoSettings, testing};

    struct Fixture;

    impl Policy for Fixture {
        type Settings = NoSettings;

        fn configure(_settings: NoSettings) -> Result<Self, Vec<String>> {
            Ok(Self)
        }

        fn handle(&self, query: &PolicyQuery, user: Option<&UserInfo>) -> Answer {
            let name = user.map_or("nobody", |user| user.name.as_str());
            Answer::from(Decision::Deny(query.permission.name.clone())).warning(name).warning("second")
        }
    }

    /// Goal: query and answer pass through unchanged. Method: a policy that answers with what it was asked.
    #[test]
    fn an_answer_passes_through() {
        let permission =
            contract::Permission { name: "kubernetes.proxy".to_owned(), action: None, resource_type: None };
        let query = contract::PolicyQuery { permission, resource_ref: None, request: None, now: 7 };
        let contract::Answer { decision, warnings } = answer(&Fixture, query, Some(&testing::user("jane", &[])));
        assert!(matches!(decision, contract::Decision::Deny(reason) if reason == "kubernetes.proxy"));
        assert_eq!(warnings, ["jane", "second"]);
    }
}
