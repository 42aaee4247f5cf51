//! What the documentation promises of the ready policies, tried: their own cases, and each recipe of the cookbook.

use std::collections::BTreeMap;
use std::path::Path;

use witgate_tests::author_desk::AuthorDesk;

const POLICIES: [&str; 6] = ["backstage-rules", "cedar", "namespace-tenancy", "rbac", "read-only", "rego"];

/// One test after the other, so that the second finds what the first compiled: cedar alone takes a core for most of a minute.
static COMPILING: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// The files that a text's blocks hold, by section: a block's first line is `# NAME`.
fn files(markdown: &str) -> BTreeMap<&str, Vec<(&str, &str)>> {
    let mut sections = BTreeMap::<_, Vec<_>>::new();
    for section in markdown.split("\n## ").skip(1) {
        let title = section.lines().next().unwrap_or_default();
        for block in section.split("```yaml\n").skip(1) {
            let text = block.split("\n```").next().unwrap_or_default();
            let name = text.lines().next().and_then(|line| line.strip_prefix("# policies/"));
            sections.entry(title).or_default().push((name.unwrap_or_else(|| panic!("{title}: no name: {text}")), text));
        }
    }
    sections
}

/// Goal: a recipe does what it says. Method: its files beside the policies, and `witgate plugin test` of its cases.
#[tokio::test]
async fn each_recipe_passes_its_cases() {
    let _one_at_a_time = COMPILING.lock().await;
    let markdown = std::fs::read_to_string(repository().join("docs/policy-cookbook.md")).unwrap();
    let recipes = files(&markdown);
    assert!(recipes.len() >= 12, "{}", recipes.len());
    let mut failures = Vec::new();
    for (title, files) in recipes {
        let mut desk = AuthorDesk::new();
        for (name, text) in &files {
            desk = desk.file(name, text);
        }
        for policy in
            POLICIES.iter().chain(&["allow-all"]).filter(|policy| files.iter().any(|(_, text)| text.contains(**policy)))
        {
            desk = desk.guest(&format!("policies/{policy}"));
        }
        let cases = files.iter().find(|(name, _)| name.ends_with(".test.yaml"));
        let (cases, _) = cases.unwrap_or_else(|| panic!("{title}: no cases"));
        let ended = desk.plugin(&["test", cases]).await;
        if ended.code != Some(0) || ended.stdout.contains("\n0 passed") {
            failures.push(format!("{title}\n{}{}", ended.stdout, ended.stderr));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// Goal: the ready policies pass the cases beside their sources.
#[tokio::test]
async fn the_ready_policies_pass_their_cases() {
    let _one_at_a_time = COMPILING.lock().await;
    for policy in POLICIES {
        let source = repository().join("guests/policies").join(policy);
        let cases = std::fs::read_to_string(source.join(format!("{policy}.test.yaml"))).unwrap();
        // There, they name the component where it is built.
        let built = format!("../../../target/guests/policies/{policy}.wasm");
        let desk = AuthorDesk::new().file("cases.test.yaml", &cases.replace(&built, &format!("{policy}.wasm")));
        let desk = desk.guest(&format!("policies/{policy}"));
        let ended = desk.plugin(&["test", "cases.test.yaml"]).await;
        assert_eq!(ended.code, Some(0), "{policy}\n{}\n{}", ended.stdout, ended.stderr);
    }
}
