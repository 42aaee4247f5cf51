//! The admin listener.

use insta::assert_snapshot;
use serde_json::{Value, json};
use witgate_tests::api_server::ApiServer;
use witgate_tests::cluster::Cluster;
use witgate_tests::gate::Gate;

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

    for path in ["/k8s/clusters/one/version", "/api/kubernetes/clusters", "/api/kubernetes/proxy/version", "/"] {
        assert_eq!(gate.admin().with_token(gate.token_of("jane")).get(path).await.status(), 404, "{path}");
    }
    for path in ["/status", "/livez", "/readyz"] {
        assert_eq!(gate.caller("jane").get(path).await.status(), 404, "{path}");
    }
    assert!(api_server.requests().is_empty());
}
