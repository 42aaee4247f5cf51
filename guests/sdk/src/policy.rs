//! The trait of a policy, and its way to the contract.

use crate::{Decision, PolicyQuery, UserInfo};

/// Decides whether a caller may do one thing.
///
/// The host asks every policy about every request. Any deny denies; else any allow, or a conditional that holds,
/// allows; silence denies. A panic, an exhausted limit or a missed deadline is a deny.
pub trait Policy: Sized + Send + Sync + 'static {
    /// The sidecar's `settings`; [`NoSettings`](crate::NoSettings) for a policy that has none. Derive it with
    /// `#[serde(deny_unknown_fields)]`, so that a misspelt key is refused instead of ignored.
    type Settings: serde::de::DeserializeOwned;

    /// Makes the policy from its settings. Called once, when the plug-in is loaded: the place to build tables.
    ///
    /// # Errors
    /// When the settings are wrong: one text for each fault, naming the key and what would be right.
    fn configure(settings: Self::Settings) -> Result<Self, Vec<String>>;

    /// Judges one query. Each call starts from what [`configure`](Self::configure) made, in an instance of its own.
    fn handle(&self, query: &PolicyQuery, user: Option<&UserInfo>) -> Decision;
}

/// Makes the crate a policy component: exports this type, which implements [`Policy`].
///
/// Once in a crate. On targets other than WebAssembly it does nothing but check the type.
///
/// A policy without settings may be a function alone, said with `fn`:
///
/// ```
/// use witgate_sdk::{Decision, PolicyQuery, UserInfo};
///
/// fn nothing_in_old(query: &PolicyQuery, _user: Option<&UserInfo>) -> Decision {
///     match &query.request {
///         Some(request) if request.namespace == "old" => Decision::Deny("namespace `old` is closed".to_owned()),
///         _ => Decision::NoOpinion,
///     }
/// }
///
/// witgate_sdk::export_policy!(fn nothing_in_old);
/// ```
#[macro_export]
macro_rules! export_policy {
    (fn $handle:path) => {
        const _: () = {
            struct Function;

            impl $crate::Policy for Function {
                type Settings = $crate::NoSettings;

                fn configure(_settings: $crate::NoSettings) -> Result<Self, Vec<String>> {
                    Ok(Self)
                }

                fn handle(&self, query: &$crate::PolicyQuery, user: Option<&$crate::UserInfo>) -> $crate::Decision {
                    $handle(query, user)
                }
            }

            $crate::export_policy!(Function);
        };
    };
    ($policy:ty) => {
        #[cfg(not(target_family = "wasm"))]
        const _: () = {
            const fn is_policy<P: $crate::Policy>() {}
            is_policy::<$policy>();
        };

        #[cfg(target_family = "wasm")]
        #[allow(unsafe_code, reason = "the component's exports are made by wit-bindgen")]
        const _: () = {
            use $crate::macro_support::configurable::exports::witgate::auth::plugin;
            use $crate::macro_support::policy::exports::witgate::auth::permission_policy;

            static PLUGIN: $crate::macro_support::Plugin<$policy> = $crate::macro_support::Plugin::unconfigured();

            struct Component;

            impl plugin::Guest for Component {
                fn configure(settings: String) -> Result<(), Vec<String>> {
                    PLUGIN.configure(&settings, <$policy as $crate::Policy>::configure)
                }
            }

            impl permission_policy::Guest for Component {
                fn handle(query: $crate::PolicyQuery, user: Option<$crate::UserInfo>) -> $crate::Decision {
                    $crate::Policy::handle(PLUGIN.configured(), &query, user.as_ref())
                }
            }

            $crate::macro_support::configurable::export_configurable!(
                Component with_types_in $crate::macro_support::configurable
            );
            $crate::macro_support::policy::export_deciding!(
                Component with_types_in $crate::macro_support::policy
            );
        };
    };
}
