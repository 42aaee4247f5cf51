//! `witgate demo`: what it prints can be typed, and does what it says.

use std::process::Command;

use tempfile::TempDir;
use witgate_tests::plugin_folder::PluginFolder;
use witgate_tests::process::{Ended, Process};
use witgate_tests::{artifacts, kubectl, secrets};

/// Goal: nobody who follows the demo is led astray. Method: the printed commands themselves, typed in their order.
#[tokio::test]
async fn the_commands_of_the_demo_do_what_it_says() {
    if let Err(why) = kubectl::present() {
        return println!("skipped: {why}");
    }
    let folder = TempDir::with_prefix("witgate-demo-").unwrap();
    let playground = folder.path().join("demo");
    let mut command = Command::new(artifacts::witgate());
    command.arg("demo").arg("--directory").arg(&playground);
    let mut demo = Process::start(command.args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]));
    let printed =
        demo.stdout.wait_for("the end of the instructions", 1, |line| line.contains("Ctrl-C here").then_some(()));
    printed.await;
    for name in ["jane.token", "joe.token"] {
        secrets::register(name, std::fs::read_to_string(playground.join(name)).unwrap().trim());
    }
    let text = demo.stdout.text();
    let typed: Vec<_> = text.split("\n\n").filter(|block| is_command(block)).collect();
    let [setup, curl, list, watch, drop_in, tenancy] = typed.as_slice() else { panic!("six commands in:\n{text}") };
    PluginFolder::open(playground.join("policies")).make_patient(&["allow-all", "read-only"]);
    let shell = |command: &str| {
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("{setup}\n{command}")]).env("HOME", folder.path());
        shell
    };

    let clock = succeeded(Process::run(&mut shell(curl)).await);
    assert!(clock.contains(r#""kind":"ConfigMap""#) || clock.contains(r#""kind": "ConfigMap""#), "{clock}");

    let pods = succeeded(Process::run(&mut shell(list)).await);
    assert!(pods.lines().any(|line| line.contains("team-a") && line.contains("web-1")), "{pods}");

    let watching = Process::start(&mut shell(&format!("exec {}", watch.trim_start())));
    watching.stdout.wait_for("two ticks of the watch", 2, |line| (!line.is_empty()).then_some(())).await;
    watching.terminate();

    let denied = Process::run(&mut shell(drop_in)).await;
    assert!(denied.stderr.contains("Forbidden") && denied.stderr.contains("read-only"), "{denied:?}");

    let tenancy = Process::run(&mut shell(tenancy)).await;
    assert!(tenancy.stdout.contains("web-1"), "joe sees his own: {tenancy:?}");
    assert!(tenancy.stderr.contains("Forbidden"), "joe sees no other: {tenancy:?}");

    demo.terminate();
    assert_eq!(demo.exit_status().await.code(), Some(0));
    demo.kill();
    secrets::assert_none_in("the demo's output", &demo.stdout.text());
    secrets::assert_none_in("the demo's log", &demo.stderr.text());
}

fn is_command(block: &str) -> bool {
    ["  cd ", "  curl ", "  kubectl ", "  cp "].iter().any(|start| block.starts_with(start))
}

fn succeeded(ended: Ended) -> String {
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    ended.stdout
}
