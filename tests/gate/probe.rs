//! What orchestrators ask, by `witgate probe`, and what systemd is told.

use std::process::Command;

use serde_json::json;
use witgate_tests::api_server::{ApiServer, Reply};
use witgate_tests::artifacts;
use witgate_tests::authority::Authority;
use witgate_tests::black_hole::BlackHole;
use witgate_tests::gate::Gate;
use witgate_tests::process::{Ended, Process};
use witgate_tests::waiting::{soon, until};

async fn probe(arguments: &[&str]) -> Ended {
    let mut command = Command::new(artifacts::witgate());
    command.arg("probe").args(arguments);
    for (name, _) in
        std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(|name| name.starts_with("WITGATE_")))
    {
        command.env_remove(name);
    }
    Process::run(&mut command).await
}

#[tokio::test]
async fn a_gate_that_serves_lives_and_is_ready_until_it_stops() {
    let (reply, writer) = Reply::streamed();
    let api_server = ApiServer::replying([reply]).start().await;
    let gate = Gate::builder(&api_server).start().await;
    let admin = gate.admin_address().to_string();
    for check in ["livez", "readyz"] {
        let ended = probe(&[check, "--admin", &admin]).await;
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), "ok"), "{check}: {}", ended.stderr);
    }
    let mut answer = gate.client_as("jane").get("/api/v1/pods").open().await;
    writer.write("first").await;
    answer.next_piece().await.unwrap().unwrap();

    gate.terminate();

    let unready = until("it is not ready", || async {
        let ended = probe(&["--admin", &admin]).await;
        (ended.code == Some(1)).then_some(ended.stderr)
    });
    assert_eq!(unready.await, "503: not ready: the gate is draining");
    assert_eq!(probe(&["livez", "--admin", &admin]).await.code, Some(0), "it lives until it is gone");
    drop(writer);
    gate.exit_status().await;
    let gone = probe(&["livez", "--admin", &admin]).await;
    assert_eq!(gone.code, Some(1));
    assert!(gone.stderr.contains(&format!("error: cannot ask {admin}; is it `admin`")), "{}", gone.stderr);
}

#[tokio::test]
async fn a_socket_and_a_listener_with_certificates_are_asked_too() {
    let api_server = ApiServer::start().await;
    let builder = Gate::builder(&api_server).set("admin", "unix:admin.sock");
    let socket = format!("unix:{}", builder.folder().join("admin.sock").display());
    let _gate = builder.start().await;
    assert_eq!(probe(&["--admin", &socket]).await.code, Some(0));

    let (servers, operators) = (Authority::new("admin"), Authority::new("operators"));
    let (server, operator) = (servers.server_named(&["gate.example"]), operators.client("probe", &[]));
    let tls = json!({ "certFile": "admin.crt", "keyFile": "admin.key", "clientCaFile": "operators.crt" });
    let builder = Gate::builder(&api_server)
        .file("admin.crt", &server.certificate_pem())
        .file("admin.key", &server.key_pem())
        .file("operators.crt", &operators.pem())
        .file("servers.crt", &servers.pem())
        .file("probe.crt", &operator.certificate_pem())
        .file("probe.key", &operator.key_pem())
        .set("admin", json!({ "listen": "127.0.0.1:0", "tls": tls }));
    let path = |name: &str| builder.folder().join(name).to_str().unwrap().to_owned();
    let (ca, certificate, key) = (path("servers.crt"), path("probe.crt"), path("probe.key"));
    let other_ca = path("operators.crt");
    let gate = builder.start().await;
    let admin = format!("https://{}", gate.listener_address("admin").await);
    let with = |ca: &str, name: &str| {
        let words = ["readyz", "--admin", &admin, "--ca-file", ca, "--cert-file", &certificate, "--key-file", &key];
        words.into_iter().chain(["--server-name", name]).map(str::to_owned).collect::<Vec<_>>()
    };
    for (words, code, said) in [
        (with(&ca, "gate.example"), Some(0), ""),
        (with(&ca, "other.example"), Some(1), "certificate not valid for name \"other.example\""),
        (with(&other_ca, "gate.example"), Some(1), "invalid peer certificate"),
        (vec!["--admin".into(), admin.clone()], Some(1), "give --ca-file, --cert-file and --key-file"),
    ] {
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        let ended = probe(&words).await;
        assert_eq!(ended.code, code, "{words:?}: {}", ended.stderr);
        assert!(ended.stderr.contains(said), "{words:?}: {}", ended.stderr);
    }
}

#[tokio::test]
async fn a_gate_that_does_not_answer_is_given_up() {
    let silent = BlackHole::start().await;
    let ended = probe(&["--admin", silent.url().trim_start_matches("http://"), "--timeout-ms", "50"]).await;
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(1), "error: no answer within 50 ms (`--timeout-ms`)"));
}

/// A unit of `Type=notify` is started when the gate serves, and not before.
#[tokio::test]
async fn systemd_is_told_that_the_gate_serves_and_that_it_stops() {
    let api_server = ApiServer::start().await;
    let builder = Gate::builder(&api_server);
    let path = builder.folder().join("notify.sock");
    let socket = tokio::net::UnixDatagram::bind(&path).unwrap();
    let told = async || {
        let mut buffer = [0; 64];
        let length = soon("systemd is told", socket.recv(&mut buffer)).await.unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    };
    let gate = builder.variable("NOTIFY_SOCKET", path.to_str().unwrap()).start().await;

    assert_eq!(told().await, "READY=1\n");
    assert_eq!(gate.client_as("jane").get("/api/v1/pods").await.status(), 200);
    gate.terminate();
    assert_eq!(told().await, "STOPPING=1\n");
    assert_eq!(gate.exit_status().await.code(), Some(0));
}
