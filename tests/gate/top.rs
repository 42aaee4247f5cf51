//! `witgate top`: what it prints once, and what it shows in a terminal.

use std::io::Write as _;
use std::process::Command;

use witgate_tests::api_server::ApiServer;
use witgate_tests::artifacts;
use witgate_tests::authority::Authority;
use witgate_tests::gate::Gate;
use witgate_tests::plugin_folder::Plugin;
use witgate_tests::process::Process;

const POD: &str = "/api/v1/namespaces/dev/pods/web-1";

fn top(arguments: &[&str]) -> Command {
    let mut command = Command::new(artifacts::witgate());
    command.arg("top").args(arguments).env_remove("WITGATE_ADMIN").env_remove("WITGATE_LOG");
    command
}

/// Everything that the console shows, in plain columns; text of callers is harmless in it.
#[tokio::test]
async fn one_look_is_printed_for_scripts() {
    let api_server = ApiServer::start().await;
    let gate = Gate::builder(&api_server).policy("read-only").start().await;
    for _ in 0..3 {
        gate.client_as("jane").get(POD).await;
    }
    gate.client_as("john").delete(POD).await;
    gate.client_as("john").get("/api/v1/namespaces/%1b%5b2J/pods").await;
    gate.plugins().put(&Plugin::of_bytes("torn", b"garbage"));
    gate.status_when("the refusal", |status| status["lastReload"]["result"] == "refused").await;

    let url = gate.admin_address().to_string();
    let ended = Process::run(&mut top(&["--once", "--interval", "0.1", "--admin", &url])).await;

    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    let text = ended.stdout;
    assert!(text.starts_with("witgate 0.1.0 at 127.0.0.1:"), "{text}");
    assert!(text.contains(": generation 1, ready, up "), "{text}");
    assert!(!text.chars().any(|character| character.is_control() && character != '\n'), "{text:?}");
    let words = |begin: &str| {
        let line = text.lines().find(|line| line.starts_with(begin)).unwrap_or_else(|| panic!("no {begin}: {text}"));
        line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(words("requests 5 (0.0/s), ")[3..7], ["allowed", "3", "(0.0/s),", "denied"]);
    assert_eq!(words("allow-all")[..5], ["allow-all", "policy", "enforce", "1", "4"]);
    assert_eq!(words("torn")[..5], ["torn", "-", "-", "-", "0"]);
    assert_eq!(words("one ")[..4], ["one", "serviceAccount", "5", "0"]);
    assert!(text.contains("the reload of ") && text.contains("was refused"), "{text}");
    let denied = text.lines().find(|line| line.contains("delete pods dev/web-1 @ one")).unwrap();
    assert!(denied.contains("user:default/john") && denied.contains("denied by policy `read-only`"), "{denied}");
}

/// By socket, and by TLS with a certificate; a place where no gate is is said in a line.
#[tokio::test]
async fn it_asks_wherever_the_admin_routes_are() {
    let api_server = ApiServer::start().await;
    let gate = Gate::builder(&api_server).set("admin", "unix:admin.sock").start().await;
    let socket = format!("unix:{}", gate.folder().join("admin.sock").display());
    let ended = Process::run(&mut top(&["--once", "--interval", "0.1", "--admin", &socket])).await;
    assert!(ended.code == Some(0) && ended.stdout.contains("allow-all"), "{ended:?}");

    let (servers, operators) = (Authority::new("admin"), Authority::new("operators"));
    let (server, me) = (servers.server(), operators.client("op", &[]));
    let tls = serde_json::json!({ "certFile": "admin.crt", "keyFile": "admin.key", "clientCaFile": "operators.crt" });
    let gate = Gate::builder(&api_server)
        .file("admin.crt", &server.certificate_pem())
        .file("admin.key", &server.key_pem())
        .file("operators.crt", &operators.pem())
        .file("ca.crt", &servers.pem())
        .file("me.crt", &me.certificate_pem())
        .file("me.key", &me.key_pem())
        .set("admin", serde_json::json!({ "listen": "127.0.0.1:0", "tls": tls }))
        .start()
        .await;
    let url = format!("https://{}", gate.listener_address("admin").await);
    let mut command =
        top(&["--once", "--interval", "0.1", "--admin", &url, "--ca-file", "ca.crt", "--cert-file", "me.crt"]);
    let ended = Process::run(command.args(["--key-file", "me.key"]).current_dir(gate.folder())).await;
    assert!(ended.code == Some(0) && ended.stdout.contains("allow-all"), "{ended:?}");

    let ended = Process::run(&mut top(&["--once", "--admin", "127.0.0.1:1"])).await;
    assert_eq!(ended.code, Some(1));
    let expected = "error: cannot ask 127.0.0.1:1; is it `admin` in the gate's witgate.yaml?";
    assert!(ended.stderr.starts_with(expected), "{}", ended.stderr);
    let ended = Process::run(&mut top(&["--admin", &socket])).await;
    assert!(ended.code == Some(1), "{ended:?}");
}

/// In a terminal of its own: it takes the screen, shows the gate, and gives the screen back at `q`.
#[tokio::test]
async fn it_shows_the_gate_in_a_terminal() {
    if Command::new("script").arg("--version").output().is_err() {
        return println!("skipped: no `script` (util-linux), which makes a terminal");
    }
    let api_server = ApiServer::start().await;
    let gate = Gate::builder(&api_server).policy("read-only").start().await;
    gate.client_as("john").delete(POD).await;
    let witgate = artifacts::witgate();
    let shown = format!("stty cols 130 rows 30; exec {} top --admin {}", witgate.display(), gate.admin_address());
    let mut command = Command::new("script");
    command.args(["--quiet", "--return", "--flush", "--command", &shown, "/dev/null"]).env("TERM", "xterm-256color");
    let (terminal, mut keys) = Process::start_with_input(&mut command);
    // Whenever it begins to listen: a terminal keeps what is typed.
    keys.write_all(b"dq").unwrap();
    keys.flush().unwrap();

    let ended = terminal.ended().await;

    assert_eq!(ended.code, Some(0), "{ended:?}");
    for told in ["\u{1b}[?1049h", "Plug-ins", "read-only", "Clusters", "Decisions", "q ends", "\u{1b}[?1049l"] {
        assert!(ended.stdout.contains(told), "{told:?}: {:?}", ended.stdout);
    }
}
