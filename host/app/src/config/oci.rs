//! `plugins.oci` and `plugins.registry`: which plug-ins come from registries, and how those are asked.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use witgate_core::PluginName;

use super::files;
use super::section::{Field, Section};
use crate::plugins::folder::SidecarFile;
use crate::plugins::oci::reference::Reference;
use crate::plugins::oci::{OCI_PLUGINS_MAX, OciConfig, OciPlugin};
use crate::plugins::sidecar::Sidecar;

/// Long enough for one exchange, short enough that a start fails while somebody looks.
const TIMEOUT_MS: RangeInclusive<u64> = 100..=600_000;

/// Both keys of `plugins`; none where a problem was reported.
pub(super) fn oci(plugins: &Section<'_>) -> Option<OciConfig> {
    let (list, registry) = (plugins.optional("oci"), plugins.optional("registry"));
    let registry = match &registry {
        Some(field) => Some(self::registry(&field.section()?)?),
        None => None,
    };
    let read = match &list {
        Some(field) => self::plugins(field)?,
        None => Vec::new(),
    };
    Some(OciConfig { plugins: read, ..registry.unwrap_or_default() })
}

fn registry(section: &Section<'_>) -> Option<OciConfig> {
    let credentials_file = section.optional("credentialsFile").map(|field| readable(&field));
    let ca_file = section.optional("caFile").map(|field| super::listener::read(&field, files::certificates));
    let timeout = section.optional("timeoutMs").map(|field| field.milliseconds(TIMEOUT_MS));
    section.refuse_rest();
    Some(OciConfig {
        plugins: Vec::new(),
        credentials_file: given(credentials_file)?,
        ca_file: given(ca_file)?.map(|(path, _)| path),
        timeout: given(timeout)?,
    })
}

/// Outer none where a problem was reported with what was given.
fn given<T>(read: Option<Option<T>>) -> Option<Option<T>> {
    match read {
        None => Some(None),
        Some(read) => read.map(Some),
    }
}

/// A file that is there. What it holds is read when it is needed.
fn readable(field: &Field<'_>) -> Option<PathBuf> {
    let (path, text) = field.path()?;
    match files::read(&path) {
        Ok(_) => Some(path),
        Err(why) => {
            field.problem(files::about(Path::new(&text.text), &why));
            None
        }
    }
}

fn plugins(field: &Field<'_>) -> Option<Vec<OciPlugin>> {
    let items = field.list()?;
    if items.len() > OCI_PLUGINS_MAX {
        field.problem(format_args!("names {} plug-ins; it may name {OCI_PLUGINS_MAX}", items.len()));
        return None;
    }
    let mut places: BTreeMap<PluginName, String> = BTreeMap::new();
    let mut read = Vec::new();
    for item in &items {
        let plugin = plugin(item);
        if let Some(plugin) = &plugin
            && let Some(other) = places.insert(plugin.name.clone(), item.place())
        {
            item.problem(format_args!("`{}` stands at {other} too: give one of them another name", plugin.name));
        }
        read.push(plugin);
    }
    read.into_iter().collect()
}

fn plugin(field: &Field<'_>) -> Option<OciPlugin> {
    let section = field.section()?;
    let name = section.required("name", "what the plug-in is called, as `NAME.wasm` in the folder would be");
    let reference = section.required("ref", "where it is: `oci://REGISTRY/REPOSITORY@sha256:DIGEST`");
    let sidecar = section.optional("sidecar");
    section.refuse_rest();

    let name = name.and_then(|field| {
        let text = field.text()?;
        PluginName::try_from(text.text.as_str()).map_err(|error| field.problem(error)).ok()
    });
    let reference = reference.and_then(|field| {
        let text = field.text()?;
        Reference::parse(&text.text).map_err(|why| field.problem(format_args!("{} {why}", text.shown))).ok()
    });
    let sidecar = match sidecar {
        Some(field) => Some(self::sidecar(&field)?),
        None => None,
    };
    Some(OciPlugin { name: name?, reference: reference?, sidecar, place: field.place() })
}

/// What `NAME.yaml` would hold. JSON is YAML, and so it is read by the one reader of sidecars.
fn sidecar(field: &Field<'_>) -> Option<SidecarFile> {
    let sidecar = SidecarFile { path: field.place().into(), text: field.as_json().to_string().into() };
    // The reader's own messages name the place.
    match Sidecar::parse(&sidecar.path, &sidecar.text) {
        Ok(_) => Some(sidecar),
        Err(error) => {
            let place = format!("{}: ", field.place());
            field.problem(error.to_string().replace(&place, ""));
            None
        }
    }
}
