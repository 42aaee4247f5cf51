//! The versions of the contract side by side: one policy and one strategy inside, a world for each version outside.
//!
//! A component is of the version whose interfaces it exports. What differs between versions is converted here, at the
//! edge; nobody else knows that there is more than one. A new version is one more variant, and the compiler says where.

use wasmtime::Store;
use wasmtime::component::{Component, HasSelf, Instance, Linker};

use crate::bindings::policy::exports::witgate::auth::permission_policy as policy_contract;
use crate::bindings::policy_v0_2::exports::witgate::auth::permission_policy as policy_contract_v0_2;
use crate::bindings::{policy, policy_v0_2, strategy, strategy_v0_2, types};
use crate::contract::ContractVersion;
use crate::host::Linkers;
use crate::sandbox::Sandbox;
use crate::start_state::Linked;

/// The same thing in each version.
pub(crate) enum Versioned<A, B> {
    /// Of `auth@0.1.0`.
    V0_1(A),
    /// Of `auth@0.2.0`.
    V0_2(B),
}

/// A policy that is linked.
pub(crate) type PolicyPre = Versioned<policy::PolicyPre<Sandbox>, policy_v0_2::PolicyPre<Sandbox>>;
/// An instance of a policy.
pub(crate) type Policy = Versioned<policy::Policy, policy_v0_2::Policy>;
/// A strategy that is linked.
pub(crate) type StrategyPre = Versioned<strategy::StrategyPre<Sandbox>, strategy_v0_2::StrategyPre<Sandbox>>;
/// An instance of a strategy.
pub(crate) type Strategy = Versioned<strategy::Strategy, strategy_v0_2::Strategy>;

impl<A, B> Versioned<A, B> {
    /// The version of the contract.
    pub(crate) const fn version(&self) -> ContractVersion {
        match self {
            Self::V0_1(_) => ContractVersion::V0_1,
            Self::V0_2(_) => ContractVersion::V0_2,
        }
    }
}

impl Policy {
    /// Judges one query: a decision, and what the caller should hear.
    pub(crate) async fn handle(
        &self,
        store: &mut Store<Sandbox>,
        query: policy_contract::PolicyQuery,
        user: Option<types::UserInfo>,
    ) -> wasmtime::Result<(policy_contract::Decision, Vec<String>)> {
        match self {
            Self::V0_1(policy) => {
                let policy = policy.witgate_auth_permission_policy();
                let decision = policy.call_handle(store, &query, user.as_ref()).await?;
                Ok((decision, Vec::new()))
            }
            Self::V0_2(policy) => {
                let policy = policy.witgate_auth_permission_policy();
                let answer = policy.call_handle(store, &query_v0_2(query), user.as_ref()).await?;
                let policy_contract_v0_2::Answer { decision, warnings } = answer;
                Ok((decision_of_v0_2(decision), warnings))
            }
        }
    }
}

impl Strategy {
    pub(crate) async fn get_credential(
        &self,
        store: &mut Store<Sandbox>,
        cluster: &types::ClusterDetails,
        request_auth: &[types::RequestAuthEntry],
        caller: Option<&types::UserInfo>,
    ) -> wasmtime::Result<Result<types::Grant, types::AuthError>> {
        match self {
            Self::V0_1(strategy) => {
                let strategy = strategy.witgate_auth_authentication_strategy();
                strategy.call_get_credential(store, cluster, request_auth, caller).await
            }
            Self::V0_2(strategy) => {
                let strategy = strategy.witgate_auth_authentication_strategy();
                strategy.call_get_credential(store, cluster, request_auth, caller).await
            }
        }
    }

    pub(crate) async fn present_auth_metadata(
        &self,
        store: &mut Store<Sandbox>,
        metadata: &types::Metadata,
    ) -> wasmtime::Result<types::Metadata> {
        match self {
            Self::V0_1(strategy) => {
                strategy.witgate_auth_authentication_strategy().call_present_auth_metadata(store, metadata).await
            }
            Self::V0_2(strategy) => {
                strategy.witgate_auth_authentication_strategy().call_present_auth_metadata(store, metadata).await
            }
        }
    }

    pub(crate) async fn validate_cluster(
        &self,
        store: &mut Store<Sandbox>,
        metadata: &types::Metadata,
    ) -> wasmtime::Result<Vec<String>> {
        match self {
            Self::V0_1(strategy) => {
                strategy.witgate_auth_authentication_strategy().call_validate_cluster(store, metadata).await
            }
            Self::V0_2(strategy) => {
                strategy.witgate_auth_authentication_strategy().call_validate_cluster(store, metadata).await
            }
        }
    }
}

/// What components of the second version import, beside what those of the first do.
pub(crate) fn link_policy_v0_2(linker: &mut Linker<Sandbox>) -> wasmtime::Result<()> {
    linker.instance("witgate:auth/types@0.2.0")?;
    policy_v0_2::witgate::auth::log::add_to_linker::<_, HasSelf<_>>(linker, |sandbox: &mut Sandbox| sandbox)
}

/// The same for strategies.
pub(crate) fn link_strategy_v0_2(linker: &mut Linker<Sandbox>) -> wasmtime::Result<()> {
    link_policy_v0_2(linker)?;
    strategy_v0_2::witgate::auth::secrets::add_to_linker::<_, HasSelf<_>>(linker, |sandbox: &mut Sandbox| sandbox)
}

impl<A: Linked, B: Linked> Linked for Versioned<A, B> {
    type Instance = Versioned<A::Instance, B::Instance>;

    fn linker(linkers: &Linkers) -> &Linker<Sandbox> {
        A::linker(linkers)
    }

    fn link(linkers: &Linkers, component: &Component) -> wasmtime::Result<Self> {
        match component.get_export_index(None, ContractVersion::V0_2.plugin()) {
            None => A::link(linkers, component).map(Self::V0_1),
            Some(_) => B::link(linkers, component).map(Self::V0_2),
        }
    }

    fn exports(store: &mut Store<Sandbox>, instance: &Instance) -> wasmtime::Result<Self::Instance> {
        match instance.get_export_index(&mut *store, None, ContractVersion::V0_2.plugin()) {
            None => A::exports(store, instance).map(Versioned::V0_1),
            Some(_) => B::exports(store, instance).map(Versioned::V0_2),
        }
    }

    async fn instantiate(&self, store: &mut Store<Sandbox>) -> wasmtime::Result<Self::Instance> {
        match self {
            Self::V0_1(linked) => linked.instantiate(store).await.map(Versioned::V0_1),
            Self::V0_2(linked) => linked.instantiate(store).await.map(Versioned::V0_2),
        }
    }

    async fn configure(
        instance: &Self::Instance,
        store: &mut Store<Sandbox>,
        settings: &str,
    ) -> wasmtime::Result<Result<(), Vec<String>>> {
        match instance {
            Versioned::V0_1(instance) => A::configure(instance, store, settings).await,
            Versioned::V0_2(instance) => B::configure(instance, store, settings).await,
        }
    }
}

impl Linked for policy_v0_2::PolicyPre<Sandbox> {
    type Instance = policy_v0_2::Policy;

    fn linker(linkers: &Linkers) -> &Linker<Sandbox> {
        &linkers.policies
    }

    fn link(linkers: &Linkers, component: &Component) -> wasmtime::Result<Self> {
        Self::new(linkers.policies.instantiate_pre(component)?)
    }

    fn exports(store: &mut Store<Sandbox>, instance: &Instance) -> wasmtime::Result<Self::Instance> {
        policy_v0_2::Policy::new(store, instance)
    }

    async fn instantiate(&self, store: &mut Store<Sandbox>) -> wasmtime::Result<Self::Instance> {
        self.instantiate_async(store).await
    }

    async fn configure(
        policy: &Self::Instance,
        store: &mut Store<Sandbox>,
        settings: &str,
    ) -> wasmtime::Result<Result<(), Vec<String>>> {
        policy.witgate_auth_plugin().call_configure(store, settings).await
    }
}

impl Linked for strategy_v0_2::StrategyPre<Sandbox> {
    type Instance = strategy_v0_2::Strategy;

    fn linker(linkers: &Linkers) -> &Linker<Sandbox> {
        &linkers.strategies
    }

    fn link(linkers: &Linkers, component: &Component) -> wasmtime::Result<Self> {
        Self::new(linkers.strategies.instantiate_pre(component)?)
    }

    fn exports(store: &mut Store<Sandbox>, instance: &Instance) -> wasmtime::Result<Self::Instance> {
        strategy_v0_2::Strategy::new(store, instance)
    }

    async fn instantiate(&self, store: &mut Store<Sandbox>) -> wasmtime::Result<Self::Instance> {
        self.instantiate_async(store).await
    }

    async fn configure(
        strategy: &Self::Instance,
        store: &mut Store<Sandbox>,
        settings: &str,
    ) -> wasmtime::Result<Result<(), Vec<String>>> {
        strategy.witgate_auth_plugin().call_configure(store, settings).await
    }
}

fn query_v0_2(query: policy_contract::PolicyQuery) -> policy_contract_v0_2::PolicyQuery {
    let policy_contract::PolicyQuery { permission, resource_ref, request, now } = query;
    let policy_contract::Permission { name, action, resource_type } = permission;
    let permission = policy_contract_v0_2::Permission { name, action, resource_type };
    policy_contract_v0_2::PolicyQuery { permission, resource_ref, request, now }
}

fn decision_of_v0_2(decision: policy_contract_v0_2::Decision) -> policy_contract::Decision {
    use policy_contract_v0_2 as new;
    match decision {
        new::Decision::Allow => policy_contract::Decision::Allow,
        new::Decision::Deny(reason) => policy_contract::Decision::Deny(reason),
        new::Decision::NoOpinion => policy_contract::Decision::NoOpinion,
        new::Decision::Conditional(new::Conditional { any_of, reusable_for }) => {
            let condition =
                |new::Condition { rule, params, negated }| policy_contract::Condition { rule, params, negated };
            let any_of = any_of.into_iter().map(|all_of| all_of.into_iter().map(condition).collect()).collect();
            policy_contract::Decision::Conditional(policy_contract::Conditional { any_of, reusable_for })
        }
    }
}
