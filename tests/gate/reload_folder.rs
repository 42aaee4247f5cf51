//! Whatever happens to the plug-in folder, what serves is what it last held that was good.

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::Value;
use witgate_tests::api_server::ApiServer;
use witgate_tests::gate::Gate;
use witgate_tests::plugin_folder::Plugin;
use witgate_tests::waiting::until;

const POD: &str = "/api/v1/namespaces/dev/pods/p";

/// A folder that vanishes is no folder without policies, and when it returns it counts as it is then.
#[tokio::test]
async fn a_folder_that_vanishes_and_returns() {
    let api_server = ApiServer::start().await;
    let gate = Gate::builder(&api_server).policy("read-only").start().await;
    let jane = gate.client_as("jane");
    let folder = gate.plugins().path();
    let away = folder.with_extension("away");

    for (turn, what) in ["renamed", "renamed again"].into_iter().enumerate() {
        fs::rename(folder, &away).unwrap();
        gate.status_when(what, |status| error_of(status).contains("does not exist")).await;
        assert_eq!((jane.get(POD).await.status(), jane.delete(POD).await.status()), (200, 403), "{what}");
        fs::rename(&away, folder).unwrap();
        gate.status_when("the folder is back", |status| error_of(status).is_empty()).await;
        assert_eq!(gate.status().await["generation"], 1, "{turn}: nothing changed");
    }

    // In its place stands a file; then a new folder, with another policy in it.
    fs::rename(folder, &away).unwrap();
    fs::write(folder, "not a folder").unwrap();
    gate.status_when("the refusal", |status| error_of(status).contains("is not a folder")).await;
    assert_eq!(jane.delete(POD).await.status(), 403);
    fs::remove_file(folder).unwrap();
    fs::create_dir(folder).unwrap();
    gate.plugins().put_whole(&Plugin::policy("allow-all"));
    until("deletes are allowed", || async { (jane.delete(POD).await.status() == 200).then_some(()) }).await;
    gate.plugins().put_whole(&Plugin::policy("deny-proxy"));
    until("the new folder is watched", || async { (jane.get(POD).await.status() == 403).then_some(()) }).await;
}

/// A file that cannot be read is refused by name, as who may not read it would find: root may read everything, so a link
/// to nowhere, a directory and a pipe stand for what cannot be read.
#[tokio::test]
async fn a_file_that_cannot_be_read_changes_nothing() {
    let api_server = ApiServer::start().await;
    let gate = Gate::builder(&api_server).policy("read-only").start().await;
    let jane = gate.client_as("jane");
    let place = gate.plugins().path().join("read-only.wasm");
    let good = fs::read(&place).unwrap();

    fs::remove_file(&place).unwrap();
    symlink("nowhere", &place).unwrap();
    gate.status_when("a dangling link", |status| error_of(status).contains("read-only.wasm cannot be read")).await;
    assert_eq!(jane.delete(POD).await.status(), 403, "the policy serves on");

    fs::remove_file(&place).unwrap();
    symlink("/dev/null", &place).unwrap();
    gate.status_when("a device", |status| error_of(status).contains("is neither a file nor a link to one")).await;
    assert_eq!(jane.delete(POD).await.status(), 403, "the policy serves on");

    fs::remove_file(&place).unwrap();
    fs::write(&place, good).unwrap();
    gate.status_when("it is back", |status| error_of(status).is_empty()).await;
    assert_eq!(gate.status().await["generation"], 1, "nothing changed");
}

/// What editors and tools leave is not seen; what they rename into place is.
#[tokio::test]
async fn editors_leave_files_behind() {
    let api_server = ApiServer::start().await;
    let gate = Gate::builder(&api_server).start().await;
    let jane = gate.client_as("jane");
    let at = |name: &str| gate.plugins().path().join(name);
    let deny = Plugin::policy("deny-proxy").component().to_vec();

    for litter in [".deny.wasm.swp", "deny.wasm~", ".#deny.wasm", "#deny.wasm#", "deny.wasm.part", "4913"] {
        fs::write(at(litter), &deny).unwrap();
    }
    assert_eq!(gate.admin().post("/reload", "").await.json()["generation"], 1, "none of them counts");
    assert_eq!(jane.get(POD).await.status(), 200);

    // A long write in place: the beginning alone is refused at most, and the whole serves.
    let (begin, end) = deny.split_at(deny.len() / 2);
    fs::write(at("deny.wasm"), begin).unwrap();
    assert_eq!(gate.admin().post("/reload", "").await.status(), 409);
    assert_eq!(jane.get(POD).await.status(), 200);
    let mut file = fs::File::options().append(true).open(at("deny.wasm")).unwrap();
    std::io::Write::write_all(&mut file, end).unwrap();
    drop(file);
    until("the whole file denies", || async { (jane.get(POD).await.status() == 403).then_some(()) }).await;

    // Renamed to another name: another plug-in; renamed to none: gone.
    fs::rename(at("deny.wasm"), at("renamed.wasm")).unwrap();
    gate.status_when("the new name", |status| names(status).contains(&"renamed".to_owned())).await;
    assert_eq!(jane.get(POD).await.status(), 403);
    fs::rename(at("renamed.wasm"), at("renamed.off")).unwrap();
    until("it is gone", || async { (jane.get(POD).await.status() == 200).then_some(()) }).await;
}

/// Many files at once are compiled once for all of the same bytes, and become one generation or a few.
#[tokio::test]
async fn three_hundred_files_at_once() {
    let api_server = ApiServer::start().await;
    let gate = Gate::builder(&api_server).start().await;
    let before = gate.status().await;
    let read_only = Plugin::policy("read-only");
    for number in 0..300 {
        gate.plugins().put(&read_only.clone().named(&format!("p{number}")));
    }

    let is_ours = |name: &&String| name.strip_prefix('p').is_some_and(|number| number.parse::<u16>().is_ok());
    let is_there = |status: &Value| names(status).iter().filter(is_ours).count() == 300;
    let status = gate.status_when("all of them serve", is_there).await;

    let compiled = |status: &Value| status["compilations"]["compiled"].as_u64().unwrap();
    // The component, and the copy that it is configured in.
    assert!(compiled(&status) <= compiled(&before) + 2, "{status}");
    assert!(status["generation"].as_u64().unwrap() <= 10, "{}", status["generation"]);
    assert_eq!(gate.client_as("jane").delete(POD).await.status(), 403);
}

fn error_of(status: &Value) -> &str {
    status["lastReload"]["error"].as_str().unwrap_or_default()
}

fn names(status: &Value) -> Vec<String> {
    let plugins = status["plugins"].as_array().unwrap().iter();
    plugins
        .filter(|plugin| plugin["kind"].is_string())
        .map(|plugin| plugin["name"].as_str().unwrap().to_owned())
        .collect()
}
