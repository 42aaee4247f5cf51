//! What should serve, by what stands in the folder, and how each of it becomes callable.
//!
//! Components and sidecars are joined here, files with built-ins, and every rule about how they fit together has its
//! place here. When that happens, and what a failure means, is [`reload`](super::reload)'s.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use witgate_core::{Digest, Generation, PluginName};
use witgate_plugin::PluginKind;

use super::builtin::Defaults;
use super::folder::{ComponentFile, FolderContents, SidecarFile};
use super::load::{Load, Source};
use super::sidecar::{SelfTest, Sidecar};
use super::{DependsOn, Origin, Plugin, PluginEntry, Problem, builtin, self_test};
use crate::cli::environment;

/// Plug-ins that are loaded, by name.
pub(crate) type Plugins = BTreeMap<PluginName, Served>;

/// A plug-in that is loaded, and what it was loaded from.
#[derive(Clone)]
pub(crate) struct Served {
    /// What the generation is made of.
    pub(crate) entry: PluginEntry,
    /// What it was loaded from.
    pub(crate) print: Fingerprint,
}

/// What makes a plug-in another one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Fingerprint {
    origin: Origin,
    component: Digest,
    sidecar: Option<Digest>,
}

impl Fingerprint {
    /// Whether it is a built-in that no sidecar changes.
    pub(crate) fn is_plain_builtin(&self) -> bool {
        self.origin == Origin::Builtin && self.sidecar.is_none()
    }
}

/// What should serve, by what stands in the folder.
#[derive(Clone, Eq, PartialEq)]
pub(crate) struct Wanted {
    /// By name.
    pub(crate) plugins: BTreeMap<PluginName, WantedPlugin>,
    /// Files that cannot be used; with one of them, nothing of the rest serves either.
    pub(crate) problems: Vec<Problem>,
}

/// One plug-in that should serve.
#[derive(Clone, Eq, PartialEq)]
pub(crate) struct WantedPlugin {
    component: Component,
    sidecar: Option<SidecarFile>,
    /// Equal to that of a plug-in that serves: then it need not be loaded.
    pub(crate) print: Fingerprint,
    /// Whether a built-in strategy has this name too.
    replaces_builtin: bool,
}

#[derive(Clone, Eq, PartialEq)]
enum Component {
    Builtin(&'static [u8]),
    File(ComponentFile),
}

impl Wanted {
    /// Joins components with sidecars: files win over built-ins of their name, and a sidecar without
    /// a file is the built-in's.
    pub(crate) fn join(
        contents: FolderContents,
        builtins: &'static [(&'static str, &'static [u8])],
    ) -> (Self, Vec<String>) {
        let FolderContents { components, mut sidecars, problems, mut notes } = contents;
        let mut joined: BTreeMap<PluginName, (Component, bool)> = builtins
            .iter()
            .filter_map(|(name, bytes)| Some((PluginName::try_from(*name).ok()?, (Component::Builtin(bytes), false))))
            .collect();
        for (name, file) in components {
            let replaces_builtin = joined.contains_key(&name);
            joined.insert(name, (Component::File(file), replaces_builtin));
        }
        let plugins = joined
            .into_iter()
            .map(|(name, (component, replaces_builtin))| {
                let sidecar = sidecars.remove(&name);
                let print = Fingerprint {
                    origin: component.origin(),
                    component: component.digest(),
                    sidecar: sidecar.as_ref().map(|sidecar| Digest::of(sidecar.text.as_bytes())),
                };
                (name, WantedPlugin { component, sidecar, print, replaces_builtin })
            })
            .collect();
        for (name, sidecar) in sidecars {
            notes.push(format!("{} is passed over: there is no `{name}.wasm` beside it", sidecar.path.display()));
        }
        (Self { plugins, problems }, notes)
    }

    /// The components that it is made of.
    pub(crate) fn components(&self) -> impl Iterator<Item = Digest> {
        self.plugins.values().map(|plugin| plugin.print.component)
    }

    /// Whether nothing would change.
    pub(crate) fn serves_already(&self, serving: &Plugins) -> bool {
        let wanted = self.plugins.iter().map(|(name, plugin)| (name, plugin.print));
        self.problems.is_empty() && wanted.eq(serving.iter().map(|(name, served)| (name, served.print)))
    }
}

impl Component {
    const fn origin(&self) -> Origin {
        match self {
            Self::Builtin(_) => Origin::Builtin,
            Self::File(ComponentFile { reference: Some(_), .. }) => Origin::Registry,
            Self::File(_) => Origin::File,
        }
    }

    fn digest(&self) -> Digest {
        match self {
            Self::Builtin(bytes) => Digest::of(bytes),
            Self::File(file) => file.digest,
        }
    }
}

impl WantedPlugin {
    /// Makes it callable, or says what is wrong, in the words of whoever put it there.
    pub(crate) async fn load(
        self,
        loader: &impl Load,
        name: &PluginName,
        generation: Generation,
    ) -> Result<Served, Problem> {
        let Self { component, sidecar: sidecar_file, print, replaces_builtin } = self;
        let digest = Some(print.component);
        let refuse = |text: String| Problem::of_plugin(name, digest, text);
        let place = match &component {
            Component::Builtin(_) => format!("built-in strategy `{name}`"),
            Component::File(ComponentFile { reference: Some(reference), .. }) => reference.to_string(),
            Component::File(file) => file.path.display().to_string(),
        };
        let reference = match &component {
            Component::Builtin(_) => None,
            Component::File(file) => file.reference.clone(),
        };

        let defaults = match &component {
            Component::Builtin(_) => Some(Defaults::of(name.as_str(), &environment)),
            Component::File(_) => None,
        };
        let sidecar = match (&sidecar_file, &defaults) {
            (Some(file), Some(defaults)) => Sidecar::parse_for_builtin(&file.path, &file.text, defaults),
            (Some(file), None) => Sidecar::parse(&file.path, &file.text),
            (None, Some(defaults)) => Ok(Sidecar::of_builtin(defaults)),
            (None, None) => Ok(Sidecar::default()),
        };
        let sidecar = sidecar.map_err(|error| refuse(error.to_string()))?;
        let sidecar_place = sidecar_file.map(|file| file.path.display().to_string()).unwrap_or_default();
        if let Some(pin) = sidecar.sha256.as_ref().filter(|pin| !pin.matches(print.component)) {
            let given = print.component;
            return Err(refuse(format!("{place} has the SHA-256 {given}, but `sha256` in {sidecar_place} is {pin}")));
        }
        let bytes = match component {
            Component::Builtin(bytes) => bytes.into(),
            Component::File(file) => match tokio::task::spawn_blocking(move || file.read()).await {
                Ok(Ok(bytes)) => bytes,
                Ok(Err(error)) => return Err(refuse(format!("{place} {:#}", anyhow::Error::new(error)))),
                Err(_) => return Err(refuse(format!("{place}: reading it ended without a result"))),
            },
        };
        let source = Source { name: name.clone(), bytes, sidecar: sidecar.clone() };
        let loaded = match tokio::time::timeout(LOAD_DEADLINE, loader.load(source)).await {
            Ok(Ok(loaded)) => loaded,
            Ok(Err(error)) => return Err(refuse(format!("{place}: {error:#}"))),
            Err(_) => return Err(refuse(format!("{place}: was not loaded within {LOAD_DEADLINE:?}"))),
        };
        let kind = loaded.plugin.kind();
        if let Some(misfit) = sidecar.misfits(kind) {
            return Err(refuse(format!("{sidecar_place}: {misfit}")));
        }
        if replaces_builtin && kind != PluginKind::Strategy {
            return Err(refuse(format!(
                "{place} is a {kind}, but `{name}` is a built-in strategy, which only a strategy replaces: \
                 give the file another name"
            )));
        }
        if let (Plugin::Policy(policy), SelfTest::Asked) = (&loaded.plugin, sidecar.self_test) {
            self_test::ask(&**policy).await.map_err(|error| {
                let error = anyhow::Error::new(error);
                refuse(format!("{place}: fails its self-test, which `selfTest: false` in its sidecar skips: {error:#}"))
            })?;
            loaded.meter.begin();
        }
        let mode = match kind {
            PluginKind::Policy => Some(sidecar.mode.unwrap_or_default()),
            PluginKind::Strategy => None,
        };
        let depends_on = sidecar.credential_depends_on.unwrap_or_else(|| match print.origin {
            Origin::Builtin => builtin::depends_on(name.as_str()),
            Origin::File | Origin::Registry => DependsOn::default(),
        });
        let entry = PluginEntry {
            name: name.clone(),
            plugin: loaded.plugin,
            digest: print.component,
            meter: loaded.meter,
            contract: loaded.contract,
            isolation: sidecar.isolation,
            start: loaded.start,
            mode,
            depends_on,
            generation,
            origin: print.origin,
            reference,
        };
        Ok(Served { entry, print })
    }
}

/// What a new generation does to the plug-ins, for the log.
pub(crate) struct Differences {
    added: Vec<PluginName>,
    changed: Vec<PluginName>,
    removed: Vec<PluginName>,
}

impl Differences {
    /// What `new` does to `old`.
    pub(crate) fn between(old: &Plugins, new: &Plugins) -> Self {
        let names = |filter: &dyn Fn(&PluginName, &Served) -> bool, of: &Plugins| {
            of.iter().filter(|(name, served)| filter(name, served)).map(|(name, _)| name.clone()).collect()
        };
        Self {
            added: names(&|name, _| !old.contains_key(name), new),
            changed: names(&|name, served| old.get(name).is_some_and(|old| old.print != served.print), new),
            removed: names(&|name, _| !new.contains_key(name), old),
        }
    }
}

impl fmt::Display for Differences {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let signed = [("+", &self.added), ("~", &self.changed), ("-", &self.removed)];
        let names = signed.iter().flat_map(|(sign, names)| names.iter().map(move |name| format!("{sign}{name}")));
        f.write_str(&names.collect::<Vec<_>>().join(" "))
    }
}

/// How long one plug-in may take to load; a large Python guest takes some 11 s to compile.
const LOAD_DEADLINE: Duration = Duration::from_secs(120);
