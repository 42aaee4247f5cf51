//! `docs/write-your-first-policy.md`: what it tells to type does what it says, in this order.

use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;
use witgate_tests::process::{Ended, Process};
use witgate_tests::{artifacts, kubectl, secrets};

/// The first build of a Rust project compiles the SDK and what it stands on, twice here.
const SDK_COMPILED: Duration = Duration::from_secs(400);

/// Goal: a newcomer who types what the page says gets there. Method: the page's own blocks of commands, in Rust; kubectl's are typed in `demo`.
#[tokio::test]
async fn the_page_can_be_typed() {
    if let Err(why) = kubectl::present() {
        return println!("skipped: {why}");
    }
    let page = std::fs::read_to_string(artifacts::repository().join("docs/write-your-first-policy.md")).unwrap();
    let blocks: Vec<_> = page.split("```sh\n").skip(1).map(|rest| rest.split("\n```").next().unwrap()).collect();
    let [demo, new, dev, ask, deliver] = blocks.as_slice() else { panic!("five blocks of commands: {blocks:?}") };
    let home = TempDir::with_prefix("witgate-first-").unwrap();
    let terminal = Terminal { home: &home };

    // Other tests use the demo's addresses.
    let mut demo =
        Process::start(&mut terminal.command(".", &format!("exec {demo} --listen 127.0.0.1:0 --admin 127.0.0.1:0")));
    demo.stdout.wait_for("the end of the instructions", 1, |line| line.contains("Ctrl-C here").then_some(())).await;
    for name in ["jane.token", "joe.token"] {
        secrets::register(name, std::fs::read_to_string(home.path().join("demo").join(name)).unwrap().trim());
    }
    let text = demo.stdout.text();
    let admin = text.lines().find_map(|line| line.trim().strip_prefix("admin ")).unwrap().trim();
    let admin = admin.strip_prefix("http://").and_then(|rest| rest.split('/').next()).unwrap();

    let made = Process::run(&mut terminal.command(".", new)).await;
    assert_eq!(made.code, Some(0), "{}", made.stderr);
    assert!(page.contains(made.stdout.lines().next().unwrap()), "{}", made.stdout);
    crate::author_project::share_target_folder(&home.path().join("no-shells"));

    let dev = Process::start(terminal.command("no-shells", &format!("exec {dev}")).env("WITGATE_ADMIN", admin));
    let waits = |line: &str| line.starts_with("waiting for a save").then_some(());
    dev.stdout.wait_for_within(SDK_COMPILED, "the first round ends", 1, waits).await;
    let said = dev.stdout.text();
    assert!(said.contains("by generation 2 of the gate\n") && said.contains("6 passed, 0 failed"), "{said}");

    let denied = Process::run(&mut terminal.command("demo", ask)).await;
    assert!(page.contains(denied.stderr.trim()) && denied.stderr.contains("Forbidden"), "{denied:?}");

    dev.terminate();
    let Ended { code, stdout, stderr } =
        Process::start(&mut terminal.command("no-shells", &deliver.replace('\n', " && ")))
            .ended_within(SDK_COMPILED)
            .await;
    assert_eq!(code, Some(0), "{stdout}{stderr}");
    let cases: Vec<_> = stdout.lines().filter(|line| line.starts_with("  ok ")).collect();
    assert_eq!(cases.len(), 6, "{stdout}");
    assert!(cases.iter().all(|case| page.contains(*case)), "{stdout}");
    demo.terminate();
    assert_eq!(demo.exit_status().await.code(), Some(0));
    demo.kill();
}

/// A terminal of a newcomer's, with the tested `witgate` on its PATH.
struct Terminal<'a> {
    home: &'a TempDir,
}

impl Terminal<'_> {
    fn command(&self, folder: &str, typed: &str) -> Command {
        let witgate = artifacts::witgate();
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders = witgate.parent().map(ToOwned::to_owned).into_iter().chain(std::env::split_paths(&path));
        let mut shell = Command::new("sh");
        shell.args(["-ec", typed]).current_dir(self.home.path().join(folder));
        shell.env("PATH", std::env::join_paths(folders).unwrap()).env("KUBECACHEDIR", self.home.path().join("cache"));
        shell.env("WITGATE_CACHE_DIRECTORY", artifacts::plugin_cache());
        shell
    }
}
