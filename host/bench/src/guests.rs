//! Which guests are measured, with which settings.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use serde_json::{Value, json};
use witgate_plugin::Snapshots;

/// One row of the table.
pub(crate) struct Guest {
    /// The component's name, and what is special about this row.
    pub(crate) label: String,
    pub(crate) bytes: Arc<[u8]>,
    pub(crate) settings: Value,
    pub(crate) snapshots: Snapshots,
}

/// Every policy in `folders`; `namespace-tenancy` with one rule and with a thousand, these with and without a snapshot.
pub(crate) fn find(folders: &[PathBuf]) -> anyhow::Result<Vec<Guest>> {
    let mut guests = Vec::new();
    for folder in folders {
        let entries = fs::read_dir(folder).with_context(|| format!("cannot read `{}`", folder.display()))?;
        let mut paths: Vec<_> = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
        paths.sort();
        for path in paths.iter().filter(|path| path.extension().is_some_and(|extension| extension == "wasm")) {
            guests.extend(rows(path).with_context(|| format!("cannot read `{}`", path.display()))?);
        }
    }
    Ok(guests)
}

fn rows(path: &Path) -> anyhow::Result<Vec<Guest>> {
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    let bytes: Arc<[u8]> = fs::read(path)?.into();
    let export = b"witgate:auth/permission-policy@";
    if !bytes.windows(export.len()).any(|window| window == export) {
        println!("skipped: {name} is no policy");
        return Ok(Vec::new());
    }
    let row = |what: &str, settings, snapshots| Guest {
        label: format!("{name}{what}"),
        bytes: Arc::clone(&bytes),
        settings,
        snapshots,
    };
    if name == "namespace-tenancy" {
        return Ok(vec![
            row(", 1 rule", rules(1), Snapshots::WherePossible),
            row(", 1000 rules", rules(1000), Snapshots::WherePossible),
            row(", 1000 rules", rules(1000), Snapshots::Never),
        ]);
    }
    let settings = match fs::read_to_string(path.with_extension("json")) {
        Ok(text) => serde_json::from_str(&text)?,
        Err(_) => json!({}),
    };
    // With an interpreter inside, starting it is most of a call.
    if INTERPRETED.iter().any(|language| name.ends_with(language)) {
        return Ok(vec![
            row("", settings.clone(), Snapshots::WherePossible),
            row(", configured each", settings, Snapshots::Never),
        ]);
    }
    Ok(vec![row("", settings, Snapshots::WherePossible)])
}

/// How the names of examples end whose language brings an interpreter.
const INTERPRETED: [&str; 2] = ["-js", "-python"];

/// Tenants of which the last one is asked for.
fn rules(count: usize) -> Value {
    let tenant = |number: usize| {
        let namespace = if number + 1 == count { "dev".to_owned() } else { format!("team-{number}") };
        json!({ "groups": ["group:default/developers"], "clusters": ["staging"], "namespaces": [namespace], "actions": ["read"] })
    };
    json!({ "tenants": (0..count).map(tenant).collect::<Vec<_>>() })
}
