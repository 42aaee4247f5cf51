//! The admin listener.

use insta::assert_snapshot;
use serde_json::{Value, json};
use witgate_tests::api_server::ApiServer;
use witgate_tests::authority::{Authority, client_tls};
use witgate_tests::client::Client;
use witgate_tests::cluster::Cluster;
use witgate_tests::gate::Gate;
use witgate_tests::raw_client::RawClient;

#[tokio::test]
async fn livez_and_readyz_say_ok() {
    let api_server = ApiServer::start().await;
    let gate = Gate::builder(&api_server).start().await;

    for path in ["/livez", "/readyz"] {
        assert_eq!(gate.admin().get(path).await.summary(), "200 ok\n", "{path}");
    }
}

#[tokio::test]
async fn readyz_fails_before_the_end() {
    let (reply, writer) = witgate_tests::api_server::Reply::streamed();
    let api_server = ApiServer::replying([reply]).start().await;
    let gate = Gate::builder(&api_server).start().await;
    let jane = gate.client_as("jane");
    let mut answer = jane.get("/api/v1/pods").open().await;
    writer.write("first").await;
    answer.next_piece().await.unwrap().unwrap();

    gate.terminate();

    witgate_tests::waiting::until("readyz fails", || async {
        (gate.admin().get("/readyz").await.status() == 503).then_some(())
    })
    .await;
    drop(writer);
}

const SHOWN: [&str; 9] = [
    "aks",
    "allow-all",
    "anonymous",
    "google",
    "kubeconfig",
    "localKubectlProxy",
    "oidc",
    "read-only",
    "serviceAccount",
];

#[tokio::test]
async fn status_tells_plugins_reload_and_clusters() {
    let api_server = ApiServer::start().await;
    let gate = Gate::builder(&api_server).cluster(Cluster::at("two", &api_server, "google")).policy("read-only");
    let gate = gate.start().await;

    let mut status = gate.status().await;

    assert!(status["lastReload"]["time"].is_string(), "{status}");
    status["lastReload"]["time"] = "…".into();
    let told = status.as_object_mut().unwrap();
    let reloads = told.shift_remove("reloads").unwrap();
    assert_eq!((&reloads[0]["cause"], &reloads[0]["generation"]), (&json!("start"), &json!(1)));
    assert!(reloads[0]["phasesMs"]["load"].as_f64().unwrap() > 0.0, "{reloads}");
    assert!(told.shift_remove("compilations").unwrap()["compiled"].is_u64());
    // The others are like these.
    let shown = |plugin: &Value| plugin["name"].as_str().is_some_and(|name| SHOWN.contains(&name));
    status["plugins"].as_array_mut().unwrap().retain(shown);
    for plugin in status["plugins"].as_array_mut().unwrap() {
        assert_eq!(plugin["digest"].as_str().unwrap().len(), 64, "{plugin}");
        plugin["digest"] = "…".into();
    }
    assert_snapshot!(serde_json::to_string_pretty(&status).unwrap(), @r#"
    {
      "generation": 1,
      "plugins": [
        {
          "name": "aks",
          "kind": "strategy",
          "digest": "…",
          "contract": "auth@0.1.0",
          "isolation": "fresh",
          "start": "snapshot",
          "generation": 1,
          "builtin": true
        },
        {
          "name": "allow-all",
          "kind": "policy",
          "digest": "…",
          "contract": "auth@0.1.0",
          "mode": "enforce",
          "isolation": "fresh",
          "start": "snapshot",
          "generation": 1,
          "builtin": false
        },
        {
          "name": "anonymous",
          "kind": "strategy",
          "digest": "…",
          "contract": "auth@0.1.0",
          "isolation": "fresh",
          "start": "snapshot",
          "generation": 1,
          "builtin": true
        },
        {
          "name": "google",
          "kind": "strategy",
          "digest": "…",
          "contract": "auth@0.1.0",
          "isolation": "fresh",
          "start": "snapshot",
          "generation": 1,
          "builtin": true
        },
        {
          "name": "kubeconfig",
          "kind": "strategy",
          "digest": "…",
          "contract": "auth@0.1.0",
          "isolation": "fresh",
          "start": "snapshot",
          "generation": 1,
          "builtin": true
        },
        {
          "name": "localKubectlProxy",
          "kind": "strategy",
          "digest": "…",
          "contract": "auth@0.1.0",
          "isolation": "fresh",
          "start": "snapshot",
          "generation": 1,
          "builtin": true
        },
        {
          "name": "oidc",
          "kind": "strategy",
          "digest": "…",
          "contract": "auth@0.1.0",
          "isolation": "fresh",
          "start": "snapshot",
          "generation": 1,
          "builtin": true
        },
        {
          "name": "read-only",
          "kind": "policy",
          "digest": "…",
          "contract": "auth@0.1.0",
          "mode": "enforce",
          "isolation": "fresh",
          "start": "snapshot",
          "generation": 1,
          "builtin": false
        },
        {
          "name": "serviceAccount",
          "kind": "strategy",
          "digest": "…",
          "contract": "auth@0.1.0",
          "isolation": "fresh",
          "start": "snapshot",
          "generation": 1,
          "builtin": true
        }
      ],
      "lastReload": {
        "time": "…",
        "result": "published"
      },
      "keptGenerations": [],
      "clusters": [
        {
          "name": "one",
          "authProvider": "serviceAccount"
        },
        {
          "name": "two",
          "authProvider": "google"
        }
      ],
      "credentialCache": {
        "entries": 0,
        "hits": 0,
        "misses": 0,
        "refreshes": 0,
        "failures": 0,
        "rejections": 0
      }
    }
    "#);
}

#[tokio::test]
async fn the_admin_listener_serves_no_cluster_and_the_data_plane_no_status() {
    let api_server = ApiServer::start().await;
    let gate = Gate::builder(&api_server).start().await;

    for path in ["/k8s/clusters/one/version", "/api/kubernetes/clusters", "/api/kubernetes/proxy/version"] {
        assert_eq!(gate.admin().with_token(gate.token_of("jane")).get(path).await.status(), 404, "{path}");
    }
    for path in ["/status", "/livez", "/readyz"] {
        assert_eq!(gate.caller("jane").get(path).await.status(), 404, "{path}");
    }
    assert!(api_server.requests().is_empty());
}

/// On a socket that only this user may open; one that a gate left behind is taken over.
#[tokio::test]
async fn the_admin_routes_may_be_on_a_socket() {
    let api_server = ApiServer::start().await;
    let builder = Gate::builder(&api_server).set("admin", "unix:admin.sock");
    let path = builder.folder().join("admin.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap()); // left behind
    let gate = builder.start().await;
    let answer = ask_socket(&path).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\nok\n"), "{answer}");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);

    let second = Gate::builder(&api_server).set("admin", format!("unix:{}", path.display()));
    let refused = second.refused_start().await;
    assert!(refused.stderr.contains("another process listens there"), "{}", refused.stderr);

    assert!(gate.stop_gracefully().await.success());
    assert!(!path.exists());
}

async fn ask_socket(path: &std::path::Path) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::UnixStream::connect(path).await.unwrap();
    stream.write_all(b"GET /livez HTTP/1.1\r\nhost: any.name\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// On an address that others reach, only who has a certificate of the authorities is answered.
#[tokio::test]
async fn the_admin_routes_may_ask_for_certificates() {
    let api_server = ApiServer::start().await;
    let (servers, operators) = (Authority::new("admin"), Authority::new("operators"));
    let server = servers.server();
    let tls = json!({ "certFile": "admin.crt", "keyFile": "admin.key", "clientCaFile": "operators.crt" });
    let gate = Gate::builder(&api_server)
        .file("admin.crt", &server.certificate_pem())
        .file("admin.key", &server.key_pem())
        .file("operators.crt", &operators.pem())
        .set("admin", json!({ "listen": "127.0.0.1:0", "tls": tls }))
        .start()
        .await;
    let address = gate.listener_address("admin").await;

    let operator = operators.client("op", &[]);
    let known = Client::new(address, Some(client_tls(&servers, Some(&operator), &["http/1.1"])));
    assert_eq!(known.get("/livez").await.summary(), "200 ok\n");

    let stranger = Authority::new("strangers").client("op", &[]);
    for identity in [None, Some(&stranger)] {
        let config = client_tls(&servers, identity, &["http/1.1"]);
        let mut raw = RawClient::connect_tls(address, config).await;
        raw.write("GET /livez HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n").await;
        assert_eq!(raw.read_to_close().await.status, None);
    }
}

#[tokio::test]
async fn an_open_admin_address_is_refused() {
    let api_server = ApiServer::start().await;
    for (admin, why) in [
        (json!("0.0.0.0:7008"), "can be reached by other machines"),
        (json!({ "listen": "[::]:7008" }), "can be reached by other machines"),
        (json!("unix:missing/admin.sock"), "stands in a folder that does not exist"),
    ] {
        let (check, start) = Gate::builder(&api_server).set("admin", admin).check_and_refused_start().await;
        for ended in [check, start] {
            assert_eq!(ended.code, Some(1));
            assert!(ended.stderr.contains(why), "{}", ended.stderr);
        }
    }
}

#[tokio::test]
async fn the_log_level_changes_while_the_gate_runs() {
    let api_server = ApiServer::start().await;
    let gate = Gate::builder(&api_server).start().await;
    let admin = gate.admin();
    let put = |text: &'static str| admin.call("PUT", "/log-level").body(text).into_future();
    assert_eq!(gate.admin().get("/log-level").await.json()["level"], "trace");

    assert_eq!(put("warn,witgate_proxy=debug\n").await.json()["level"], "warn,witgate_proxy=debug");
    gate.log_line_with("the log level was changed").await;
    for wrong in ["debgu", "", "info,[x{y=.*}]=trace"] {
        assert_eq!(put(wrong).await.status(), 400, "{wrong}");
    }
    assert_eq!(gate.admin().get("/log-level").await.json()["level"], "warn,witgate_proxy=debug");
    assert_eq!(put("trace").await.status(), 200);
    gate.client_as("jane").get("/version").await; // the end of the test searches what it logged
}

/// A page that an operator looks at must not ask in the operator's name.
#[tokio::test]
async fn other_sites_are_kept_out() {
    let api_server = ApiServer::start().await;
    let gate = Gate::builder(&api_server).start().await;
    let own = format!("http://{}", gate.admin_address());
    for (headers, status) in [
        (&[("host", "attacker.example:7008")][..], 421),
        (&[("origin", "https://attacker.example")], 403),
        (&[("origin", "null")], 403),
        (&[("sec-fetch-site", "cross-site")], 403),
        (&[("origin", own.as_str()), ("sec-fetch-site", "same-origin")], 200),
    ] {
        for (method, path) in [("GET", "/decisions"), ("PUT", "/log-level")] {
            let admin = gate.admin();
            let call = headers.iter().fold(admin.call(method, path), |call, (name, value)| call.header(name, value));
            let answer = call.body(if method == "PUT" { "trace" } else { "" }).await;
            assert_eq!(answer.status(), status, "{method} {headers:?}: {}", answer.body());
            assert_eq!(answer.header("access-control-allow-origin"), None);
        }
    }
    assert_eq!(gate.admin().call("OPTIONS", "/log-level").await.status(), 405, "no preflight is answered");
}

#[tokio::test]
async fn readyz_names_its_checks_when_asked() {
    let api_server = ApiServer::start().await;
    let gate = Gate::builder(&api_server).start().await;
    let answer = gate.admin().get("/readyz?verbose").await;
    assert_eq!(answer.summary(), "200 [+] drain ok\n[+] plugins ok\n[+] listener ok\n[+] decision-log ok\nready\n");
}
