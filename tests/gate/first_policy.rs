//! `docs/write-your-first-policy.md`: what it tells to type does what it says, in this order.

use std::time::Duration;

use witgate_tests::process::{Ended, Process};
use witgate_tests::typed_page::{Page, Terminal};
use witgate_tests::{artifacts, kubectl, secrets};

/// The first build of a Rust project compiles the SDK and what it stands on, twice here; a debug gate compiles QuickJS.
const COMPILED: Duration = Duration::from_secs(400);

/// Goal: a newcomer who types what the page says gets there. Method: the page's own blocks of commands, in Rust; kubectl's are typed in `demo`.
#[tokio::test]
async fn the_page_can_be_typed() {
    type_the_page(Language::Rust).await;
}

/// Goal: the same in JavaScript. Method: the same blocks, but for the two commands that the page gives beside them.
#[tokio::test]
async fn the_page_can_be_typed_in_javascript() {
    if artifacts::toolchain("componentize-qjs-0.4.5/node_modules/.bin").is_none() {
        return println!(
            "skipped: a project in JavaScript: `cargo xtask examples` gets its toolchain, or says what it needs"
        );
    }
    type_the_page(Language::JavaScript).await;
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Language {
    Rust,
    JavaScript,
}

async fn type_the_page(language: Language) {
    if let Err(why) = kubectl::present() {
        return println!("skipped: {why}");
    }
    let page = Page::read("docs/write-your-first-policy.md");
    let blocks = page.blocks("sh");
    let [demo, new, dev, ask, deliver] = blocks.as_slice() else { panic!("five blocks of commands: {blocks:?}") };
    let terminal = Terminal::new();
    let home = terminal.home();

    // Other tests use the demo's addresses.
    let mut demo =
        Process::start(&mut terminal.command(".", &format!("exec {demo} --listen 127.0.0.1:0 --admin 127.0.0.1:0")));
    demo.stdout.wait_for("the end of the instructions", 1, |line| line.contains("Ctrl-C here").then_some(())).await;
    for name in ["jane.token", "joe.token"] {
        secrets::register(name, std::fs::read_to_string(home.join("demo").join(name)).unwrap().trim());
    }
    let text = demo.stdout.text();
    let admin = text.lines().find_map(|line| line.trim().strip_prefix("admin ")).unwrap().trim();
    let admin = admin.strip_prefix("http://").and_then(|rest| rest.split('/').next()).unwrap();

    match language {
        Language::Rust => {
            let made = Process::run(&mut terminal.command(".", new)).await;
            assert_eq!(made.code, Some(0), "{}", made.stderr);
            assert!(page.says(made.stdout.lines().next().unwrap()), "{}", made.stdout);
            crate::author_project::share_target_folder(&home.join("no-shells"));
        }
        Language::JavaScript => {
            let [new, install] = ["witgate plugin new --lang js no-shells", "npm install"];
            assert!(page.says(&format!("For JavaScript: `{new}`, and once, in the new folder, `{install}`.")));
            let made = Process::run(&mut terminal.command(".", new)).await;
            assert_eq!(made.code, Some(0), "{}", made.stderr);
            // What `cargo xtask examples` fetched need not be fetched again.
            let installed =
                Process::start(terminal.command("no-shells", install).env("npm_config_prefer_offline", "true"));
            let installed = installed.ended_within(COMPILED).await;
            assert_eq!(installed.code, Some(0), "{}{}", installed.stdout, installed.stderr);
        }
    }

    let dev = Process::start(terminal.command("no-shells", &format!("exec {dev}")).env("WITGATE_ADMIN", admin));
    let waits = |line: &str| line.starts_with("waiting for a save").then_some(());
    dev.stdout.wait_for_within(COMPILED, "the first round ends", 1, waits).await;
    let said = dev.stdout.text();
    assert!(said.contains("by generation 2 of the gate\n") && said.contains("6 passed, 0 failed"), "{said}");

    let denied = Process::run(&mut terminal.command("demo", ask)).await;
    assert!(page.says(denied.stderr.trim()) && denied.stderr.contains("Forbidden"), "{denied:?}");

    dev.terminate();
    let Ended { code, stdout, stderr } =
        Process::start(&mut terminal.command("no-shells", &deliver.replace('\n', " && "))).ended_within(COMPILED).await;
    assert_eq!(code, Some(0), "{stdout}{stderr}");
    let cases: Vec<_> = stdout.lines().filter(|line| line.starts_with("  ok ")).collect();
    assert_eq!(cases.len(), 6, "{stdout}");
    assert!(cases.iter().all(|case| page.says(case)), "{stdout}");
    demo.terminate();
    assert_eq!(demo.exit_status().await.code(), Some(0));
    demo.kill();
}
