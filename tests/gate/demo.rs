//! `witgate demo`: what it prints can be typed, and does what it says.

use std::process::Command;

use tempfile::TempDir;
use witgate_tests::client::Client;
use witgate_tests::process::{Ended, Process};
use witgate_tests::waiting::until;
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
    let last_line = |line: &str| line.contains("Ctrl-C here").then_some(());
    demo.stdout.wait_for("the end of the instructions", 1, last_line).await;
    for name in ["jane.token", "joe.token"] {
        secrets::register(name, std::fs::read_to_string(playground.join(name)).unwrap().trim());
    }
    let text = demo.stdout.text();
    let typed: Vec<_> = text.split("\n\n").filter(|block| is_command(block)).collect();
    let [setup, curl, list, watch, drop_in, tenancy] = typed.as_slice() else { panic!("six commands in:\n{text}") };
    let shell = Shell { setup, home: folder.path() };
    let admin = Client::new(admin_address(&text), None);

    let clock = succeeded(shell.run(curl).await);
    assert!(clock.contains(r#""kind":"ConfigMap""#) || clock.contains(r#""kind": "ConfigMap""#), "{clock}");

    let pods = succeeded(shell.run(list).await);
    assert!(pods.lines().any(|line| line.contains("team-a") && line.contains("web-1")), "{pods}");

    let watching = Process::start(&mut shell.command(&format!("exec {}", watch.trim_start())));
    watching.stdout.wait_for("two ticks of the watch", 2, |line| (!line.is_empty()).then_some(())).await;
    watching.terminate();

    let (copy, delete) = drop_in.split_once('\n').unwrap();
    succeeded(shell.run(copy).await);
    status_names(&admin, "read-only").await;
    let denied = shell.run(delete).await;
    assert!(denied.stderr.contains("Forbidden") && denied.stderr.contains("read-only"), "{denied:?}");

    let (copy, list) = tenancy.split_once('\n').unwrap();
    succeeded(shell.run(copy).await);
    status_names(&admin, "namespace-tenancy").await;
    let listed = shell.run(list).await;
    assert!(listed.stdout.contains("web-1"), "joe sees his own: {listed:?}");
    assert!(listed.stderr.contains("Forbidden"), "joe sees no other: {listed:?}");

    demo.terminate();
    assert_eq!(demo.exit_status().await.code(), Some(0));
    demo.kill();
    secrets::assert_none_in("the demo's output", &demo.stdout.text());
    secrets::assert_none_in("the demo's log", &demo.stderr.text());
}

/// A terminal in which the demo's first command has been typed.
struct Shell<'a> {
    setup: &'a str,
    home: &'a std::path::Path,
}

impl Shell<'_> {
    fn command(&self, typed: &str) -> Command {
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("{}\n{typed}", self.setup)]).env("HOME", self.home);
        shell
    }

    async fn run(&self, typed: &str) -> Ended {
        Process::run(&mut self.command(typed)).await
    }
}

/// The second that the demo's commands sleep may be short on a machine that is busy elsewhere.
async fn status_names(admin: &Client, plugin: &str) {
    until("the demo's gate has the plug-in", || async {
        let status = admin.get("/status").await.json();
        let names = |known: &serde_json::Value| known["name"] == plugin && known.get("error").is_none();
        status["plugins"].as_array().unwrap().iter().any(names).then_some(())
    })
    .await;
}

fn admin_address(text: &str) -> std::net::SocketAddr {
    let (_, url) = text.split_once("http://").unwrap();
    url.split('/').next().unwrap().parse().unwrap()
}

fn is_command(block: &str) -> bool {
    ["  cd ", "  curl ", "  kubectl ", "  cp "].iter().any(|start| block.starts_with(start))
}

fn succeeded(ended: Ended) -> String {
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    ended.stdout
}
