//! Takes the console's pictures for the documentation: `cargo run --example console_pictures`.
//!
//! A gate with some traffic, a shadow policy, a policy that fails for one caller, and a plug-in that was refused; pictured in both
//! colour schemes, as `docs/images/console-{light,dark}.png` (`pngquant --ext .png --force 96` makes them small), and on a small
//! screen in `target/pictures`.

#![expect(clippy::indexing_slicing, reason = "JSON is read by key: what is not there fails the program")]

use std::fs;
use std::path::Path;

use serde_json::json;
use witgate_tests::api_server::ApiServer;
use witgate_tests::broken_upstream::BrokenUpstream;
use witgate_tests::browser::{self, Browser, Scheme};
use witgate_tests::cluster::Cluster;
use witgate_tests::gate::Gate;
use witgate_tests::plugin_folder::Plugin;

#[tokio::main]
async fn main() {
    let program = browser::program().expect("a browser");
    let api_server = ApiServer::start().await;
    let gate = Gate::builder(&api_server)
        .cluster(Cluster::at("staging", &api_server, "anonymous"))
        .cluster(Cluster::at_url("edge", &BrokenUpstream::refusing_url().await, "anonymous"))
        .policy("read-only")
        .plugin(Plugin::fixture("trap-sometimes"))
        .plugin(Plugin::policy("deny-proxy").named("freeze").sidecar(json!({ "mode": "shadow" })))
        .start()
        .await;
    let mut page = Browser::start(&program).await;
    page.look_like(1360, 900, Scheme::Light).await;
    page.open(&format!("http://{}/", gate.admin_address())).await;
    page.until("the page is live", "document.querySelector('#link').dataset.state === 'live'").await;

    let (jane, john) = (gate.caller("jane"), gate.caller("john"));
    for round in 0..14 {
        let (one, staging) = (jane.clone().backstage("one"), john.clone().kubernetes("staging"));
        one.get("/api/v1/namespaces/shop/pods?limit=50").await;
        one.get(&format!("/api/v1/namespaces/shop/pods/cart-{round}")).await;
        staging.get("/apis/apps/v1/namespaces/shop/deployments").await;
        if round % 3 == 0 {
            one.delete(&format!("/api/v1/namespaces/shop/pods/cart-{round}")).await;
            john.clone().kubernetes("edge").get("/version").await;
            jane.clone().backstage("one").get("/api/v1/namespaces/trap/pods").await;
        }
        if round % 4 == 1 {
            let patch = "/apis/apps/v1/namespaces/shop/deployments/cart/scale";
            one.call("PATCH", patch).header("content-type", "application/merge-patch+json").body("{}").await;
        }
        if round == 5 {
            gate.plugins().put_whole(&Plugin::fixture("no-opinion").named("audit-note"));
            gate.status_when("the next generation", |status| status["generation"] == 2).await;
        }
    }
    gate.plugins().put_whole(&Plugin::of_bytes("tenancy", b"half of a component"));
    gate.status_when("the refusal", |status| status["lastReload"]["result"] == "refused").await;
    page.until("the refusal", "/tenancy/.test(document.querySelector('#notices').innerText)").await;
    for (id, text) in [("try-user", "user:default/jane"), ("try-cluster", "one"), ("try-groups", "group:default/dev")] {
        page.evaluate(&format!("document.querySelector('#{id}').value = {}", json!(text))).await;
    }
    page.evaluate("document.querySelector('#try-request').value = 'DELETE /api/v1/namespaces/shop/pods/cart-1'").await;
    page.evaluate("document.querySelector('#try').requestSubmit()").await;
    page.until("the answer", "document.querySelector('#try-answer').childElementCount > 0").await;
    page.until("rest", "!document.querySelector('tr.new') || document.getAnimations().length === 0").await;

    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/images");
    fs::create_dir_all(&folder).unwrap();
    let other = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/pictures");
    fs::create_dir_all(&other).unwrap();
    for (name, scheme) in [("light", Scheme::Light), ("dark", Scheme::Dark)] {
        page.look_like(1360, 1560, scheme).await;
        picture(&mut page, &folder.join(format!("console-{name}.png"))).await;
        page.look_like(360, 1600, scheme).await;
        picture(&mut page, &other.join(format!("console-{name}-narrow.png"))).await;
    }
    println!("complaints: {:#?}", page.complaints());
}

async fn picture(page: &mut Browser, path: &Path) {
    let png = page.screenshot().await;
    fs::write(path, &png).unwrap();
    println!("{}: {} KiB", path.display(), png.len() >> 10);
}
