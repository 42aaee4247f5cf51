//! What is timed: a way to call one guest.

use std::sync::Arc;

use anyhow::{Context as _, bail};
use witgate_core::{
    ActionClass, ClusterName, Permission, PermissionPolicy as _, PluginName, PolicyQuery, RequestAttributes,
    RequestInfo, UserInfo,
};
use witgate_plugin::{Host, HostConfig, Isolation, Limits, LoadedPlugin, PluginSource, Start, WasmPolicy};

use crate::bare::{Bare, Warm};
use crate::guests::Guest;

/// One guest, ready to be called in each way.
pub(crate) struct Subjects {
    pub(crate) bare: Bare,
    pub(crate) start: Start,
    fresh: Arc<WasmPolicy>,
    reused: Arc<WasmPolicy>,
    query: PolicyQuery,
    user: UserInfo,
}

/// A way to call it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Way {
    BareInstantiate,
    BareFresh,
    BareWarm,
    HostFresh,
    HostWarm,
}

impl Way {
    pub(crate) const ALL: [Self; 5] =
        [Self::BareInstantiate, Self::BareFresh, Self::HostFresh, Self::BareWarm, Self::HostWarm];
}

impl Subjects {
    pub(crate) async fn new(guest: &Guest) -> anyhow::Result<Self> {
        let host = Host::new(HostConfig { snapshots: guest.snapshots, ..HostConfig::default() })?;
        let load = async |isolation| {
            // Neither a deadline nor an instance's last call is to be met here.
            let limits = Limits::new(10_000, 256, 64)?.with_instance_calls(1_000_000)?;
            let name = PluginName::try_from("bench")?;
            let source = PluginSource::without_sidecar(name, Arc::clone(&guest.bytes));
            let source = PluginSource { settings: guest.settings.clone(), limits, isolation, ..source };
            let loaded = host.load(source).await?;
            let start = loaded.start().clone();
            let LoadedPlugin::Policy(policy) = loaded else { bail!("`{}` is not a policy", guest.label) };
            anyhow::Ok((policy, start))
        };
        let (fresh, start) = load(Isolation::Fresh).await?;
        let (reused, _) = load(Isolation::Reused).await?;
        let bare = Bare::new(guest, &start).await.map_err(|error| anyhow::anyhow!("{error:#}"))?;
        Ok(Self { bare, start, fresh, reused, query: query()?, user: user() })
    }

    /// An instance for [`Way::BareWarm`].
    pub(crate) async fn warm(&self) -> anyhow::Result<Warm> {
        self.bare.warm().await.map_err(|error| anyhow::anyhow!("{error:#}"))
    }

    /// One call.
    pub(crate) async fn call(&self, way: Way, warm: &mut Warm) -> anyhow::Result<()> {
        let of_bare = |error: wasmtime::Error| anyhow::anyhow!("{error:#}");
        match way {
            Way::BareInstantiate => self.bare.instantiate().await.map(drop).map_err(of_bare),
            Way::BareFresh => {
                let mut fresh = self.warm().await?;
                self.bare.call(&mut fresh).await.map_err(of_bare)
            }
            Way::BareWarm => self.bare.call(warm).await.map_err(of_bare),
            Way::HostFresh => self.ask(&self.fresh).await,
            Way::HostWarm => self.ask(&self.reused).await,
        }
    }

    async fn ask(&self, policy: &WasmPolicy) -> anyhow::Result<()> {
        policy.handle(&self.query, Some(&self.user)).await.map(drop).context("the policy gave no answer")
    }
}

/// Jane reads pods in `dev` of `staging`.
fn query() -> anyhow::Result<PolicyQuery> {
    let request = RequestAttributes {
        cluster: ClusterName::try_from("staging")?,
        info: RequestInfo {
            is_resource_request: true,
            verb: "list".into(),
            api_version: "v1".into(),
            namespace: "dev".into(),
            resource: "pods".into(),
            ..RequestInfo::default()
        },
        method: "GET".into(),
        path: "/api/v1/namespaces/dev/pods".into(),
        action_class: ActionClass::Read,
        upgrade: false,
        patch_type: None,
        dry_run: false,
    };
    Ok(PolicyQuery { permission: Permission::PROXY, resource_ref: None, request: Some(request), now: 1_700_000_000 })
}

fn user() -> UserInfo {
    UserInfo { groups: vec!["group:default/developers".into()], ..UserInfo::named("user:default/jane") }
}
