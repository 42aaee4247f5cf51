//! `witgate check`: everything that a start would refuse, without starting anything.
//!
//! It asks the same code that a start runs: the configuration's loader, the callers'
//! files, and the plug-ins with the clusters they serve.

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use crate::cli::environment;
use crate::config::Config;
use crate::plugins::oci::{Delivery, OciPlugin};
use crate::snapshot;

/// What becomes of plug-ins that a registry would have to deliver.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Undelivered {
    /// They are fetched, and kept for the start.
    Fetched,
    /// They are noted, with what depends on them.
    Noted,
}

/// Prints the problems and notes of a configuration: 0 when there is no problem, 1 otherwise.
pub(crate) async fn run(file: &Path, undelivered: Undelivered) -> ExitCode {
    let outcome = check(file, undelivered).await;
    for note in &outcome.notes {
        eprintln!("note: {note}");
    }
    for problem in &outcome.problems {
        eprintln!("error: {problem}");
    }
    match outcome.summary {
        Some(summary) if outcome.problems.is_empty() => {
            println!("{summary}");
            ExitCode::SUCCESS
        }
        Some(_) | None => ExitCode::FAILURE,
    }
}

/// What there is to say about a configuration.
struct Outcome {
    problems: Vec<String>,
    notes: Vec<String>,
    /// What a start would serve.
    summary: Option<String>,
}

async fn check(file: &Path, undelivered: Undelivered) -> Outcome {
    let mut config = match Config::load(file, &environment) {
        Ok(config) => config,
        Err(errors) => return Outcome { problems: errors.problems().to_vec(), notes: Vec::new(), summary: None },
    };
    let clusters = config.clusters.len();
    let delivered = config.plugins.oci.plugins.len();
    if undelivered == Undelivered::Noted {
        leave_undelivered_out(&mut config).await;
    }
    let problems = snapshot::check(&config).await;
    let mut summary = format!(
        "ok: {}, {} in {}",
        counted(clusters, "cluster"),
        counted(plugin_files(&config.plugins.directory), "plug-in"),
        config.plugins.directory.display(),
    );
    if delivered > 0 {
        summary.push_str(&format!(", {delivered} from registries"));
    }
    Outcome { problems, notes: config.notes, summary: Some(summary) }
}

/// Takes plug-ins that were not fetched yet out of the configuration, and clusters whose strategy may be one of them.
async fn leave_undelivered_out(config: &mut Config) {
    let Some(delivery) = Delivery::new(&config.plugins) else { return };
    for OciPlugin { name, reference, place, .. } in delivery.missing().await {
        config.plugins.oci.plugins.retain(|plugin| plugin.name != name);
        let clusters = config.clusters.len();
        config.clusters.retain(|cluster| cluster.auth_provider != name);
        let with_it = match clusters - config.clusters.len() {
            0 => String::new(),
            count => format!(", nor {} whose strategy it would be", counted(count, "cluster")),
        };
        config.notes.push(format!(
            "{place}: `{name}` was not fetched from {reference} yet, so it is not checked{with_it}: `--fetch` fetches it"
        ));
    }
}

/// How many plug-ins stand in the drop-in folder, the built-in ones left out.
fn plugin_files(directory: &Path) -> usize {
    fs::read_dir(directory).map_or(0, |entries| {
        entries.flatten().filter(|entry| entry.path().extension().is_some_and(|extension| extension == "wasm")).count()
    })
}

fn counted(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a file that a start refuses has no summary, and its problems name it. Method: a folder of its own.
    #[tokio::test]
    async fn a_refused_configuration_has_problems_and_no_summary() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("witgate.yaml");
        fs::write(&file, "lisen: 127.0.0.1:0\n").unwrap();
        let outcome = check(&file, Undelivered::Noted).await;
        assert!(outcome.summary.is_none());
        assert!(
            outcome.problems.iter().any(|problem| problem.ends_with("did you mean `listen`?")),
            "{:?}",
            outcome.problems
        );
    }

    #[test]
    fn counts_read_well() {
        assert_eq!(
            (counted(0, "plug-in"), counted(1, "plug-in"), counted(2, "plug-in")),
            ("0 plug-ins".into(), "1 plug-in".into(), "2 plug-ins".into())
        );
    }
}
