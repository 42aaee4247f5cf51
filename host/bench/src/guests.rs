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

/// Every policy in `folders`; those that live by their settings with one rule and with a thousand, these with and without a snapshot:
/// what it costs to evaluate them, and to parse them for each call.
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
    if let Some((_, rules)) = RULES.iter().find(|(of, _)| *of == name) {
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

/// Settings with so many rules, of which the last one is about the query.
type Rules = fn(usize) -> Value;

const RULES: [(&str, Rules); 5] = [
    ("namespace-tenancy", tenants),
    ("backstage-rules", conditions),
    ("rbac", bindings),
    ("cedar", cedar_policies),
    ("rego", rego_rules),
];

/// The namespace that rule `number` of `count` is about.
fn namespace(number: usize, count: usize) -> String {
    if number + 1 == count { "dev".to_owned() } else { format!("team-{number}") }
}

fn tenants(count: usize) -> Value {
    let tenant = |number| {
        json!({
            "groups": ["group:default/developers"], "clusters": ["staging"], "namespaces": [namespace(number, count)],
            "actions": ["read"],
        })
    };
    json!({ "tenants": (0..count).map(tenant).collect::<Vec<_>>() })
}

/// Of other users, but for the last one: all conditions of one user are sent to the host.
fn conditions(count: usize) -> Value {
    let rule = |number| {
        let namespace = namespace(number, count);
        let user = if namespace == "dev" { "user:default/jane".to_owned() } else { format!("user:default/{number}") };
        json!({ "users": [user], "conditions": { "rule": "IS_NAMESPACE", "params": { "namespaces": [namespace] } } })
    };
    json!({ "rules": (0..count).map(rule).collect::<Vec<_>>() })
}

fn bindings(count: usize) -> Value {
    let binding = |number| {
        json!({
            "metadata": { "name": "developers", "namespace": namespace(number, count) },
            "subjects": [{ "kind": "Group", "name": "group:default/developers" }],
            "roleRef": { "kind": "ClusterRole", "name": "viewer" },
        })
    };
    let rules = json!([{ "apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"] }]);
    json!({
        "clusterRoles": [{ "metadata": { "name": "viewer" }, "rules": rules }],
        "roleBindings": (0..count).map(binding).collect::<Vec<_>>(),
    })
}

fn cedar_policies(count: usize) -> Value {
    let policy = |number| {
        let namespace = namespace(number, count);
        format!(
            "permit (principal in Group::\"group:default/developers\", action, resource in Namespace::\"{namespace}\")\n\
             when {{ resource.cluster == \"staging\" && context.actionClass == \"read\" }};\n"
        )
    };
    json!({ "policies": (0..count).map(policy).collect::<String>() })
}

fn rego_rules(count: usize) -> Value {
    let rule = |number| {
        let namespace = namespace(number, count);
        format!(
            "allow if {{\n  input.request.namespace == \"{namespace}\"\n  input.request.cluster == \"staging\"\n  \
             \"group:default/developers\" in input.user.groups\n  input.request.actionClass == \"read\"\n}}\n"
        )
    };
    json!({ "modules": { "rules": format!("package kubernetes\n{}", (0..count).map(rule).collect::<String>()) } })
}
