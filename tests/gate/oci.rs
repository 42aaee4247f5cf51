//! Plug-ins from an OCI registry: by digest, kept on disk, and believed no more than a file of the folder.

use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use witgate_tests::api_server::ApiServer;
use witgate_tests::artifacts;
use witgate_tests::authority::Authority;
use witgate_tests::cluster::Cluster;
use witgate_tests::gate::{Gate, GateBuilder};
use witgate_tests::minisign::Signer;
use witgate_tests::oci_registry::{Asks, Content, OciRegistry, WASM, digest_of};
use witgate_tests::plugin_folder::Plugin;
use witgate_tests::secrets::secret;

const POD: &str = "/api/v1/namespaces/dev/pods/p";

/// What a test needs: who signs for registries, and a folder for what gates keep.
struct Stage {
    api_server: ApiServer,
    authority: Authority,
    cache: tempfile::TempDir,
}

impl Stage {
    async fn new() -> Self {
        let (api_server, authority) = (ApiServer::start().await, Authority::new("registries"));
        let stage = Self { api_server, authority, cache: tempfile::tempdir().unwrap() };
        stage.compiled("compiled");
        stage
    }

    async fn registry(&self) -> OciRegistry {
        OciRegistry::start(&self.authority).await
    }

    fn cache(&self) -> &Path {
        self.cache.path()
    }

    /// A cache folder of its own, with the compiled plug-ins that other gates have left: compiling the built-in ones
    /// takes a loaded machine half a minute.
    fn compiled(&self, name: &str) -> PathBuf {
        let folder = self.cache().join(name);
        fs::DirBuilder::new().mode(0o700).create(&folder).unwrap();
        for entry in fs::read_dir(artifacts::plugin_cache()).into_iter().flatten().flatten() {
            if entry.path().is_file() {
                // Another gate may be writing it.
                let _ = fs::copy(entry.path(), folder.join(entry.file_name()));
            }
        }
        folder
    }

    /// A gate with these plug-ins beside `allow-all` in its folder.
    fn gate(&self, plugins: Value) -> GateBuilder {
        self.gate_with(plugins, json!({}))
    }

    /// The same with further keys of `plugins.registry`.
    fn gate_with(&self, oci: Value, mut registry: Value) -> GateBuilder {
        registry["caFile"] = json!("registries.crt");
        let plugins = json!({
            "directory": "policies", "cacheDirectory": self.cache().join("compiled"), "oci": oci, "registry": registry,
        });
        Gate::builder(&self.api_server).file("registries.crt", &self.authority.pem()).set("plugins", plugins)
    }
}

/// A policy that denies everything through the proxy.
fn deny_proxy() -> Vec<u8> {
    Plugin::policy("deny-proxy").component().to_vec()
}

fn named(name: &str, reference: &str) -> Value {
    json!([{ "name": name, "ref": reference }])
}

#[tokio::test]
async fn a_plugin_is_fetched_once_and_serves_without_its_registry() {
    let stage = Stage::new().await;
    let registry = stage.registry().await;
    let reference = registry.push("team/deny-proxy", &deny_proxy(), WASM, json!({}));
    let plugins = named("deny-proxy", &reference);

    let gate = stage.gate(plugins.clone()).start().await;

    let denied = gate.client_as("jane").get(POD).await;
    assert_eq!(denied.status(), 403, "{}", denied.body());
    assert_eq!(gate.decision_of(&denied).await["policy"], "deny-proxy");
    let status = gate.status().await;
    let told = status["plugins"].as_array().unwrap().iter().find(|plugin| plugin["name"] == "deny-proxy").unwrap();
    assert_eq!((&told["reference"], &told["builtin"]), (&json!(reference), &json!(false)), "{told}");
    assert_eq!(told["digest"], digest_of(&deny_proxy()).strip_prefix("sha256:").unwrap());
    // The folder changes; nothing is fetched again.
    gate.plugins().put_whole(&Plugin::policy("read-only"));
    gate.status_when("the folder's change", |status| status["generation"] == 2).await;
    assert_eq!(registry.asked().len(), 2, "{:?}", registry.asked());
    drop((gate, registry));

    let gate = stage.gate(plugins.clone()).start().await;
    assert_eq!(gate.client_as("jane").get(POD).await.status(), 403, "from the disk");
    drop(gate);

    // What was changed on the disk is not used, and there is nobody to fetch it from.
    let kept = stage.cache().join("compiled/oci").join(digest_of(&deny_proxy()).replace("sha256:", "") + ".wasm");
    fs::write(&kept, Plugin::policy("allow-all").component()).unwrap();
    let refused = stage.gate(plugins).refused_start().await;
    assert_eq!(refused.code, Some(1));
    let text = format!("`deny-proxy` from {reference}: cannot reach {}", host_of(&reference));
    assert!(refused.stderr.contains(&text), "{}", refused.stderr);
    assert!(
        refused.stderr.contains("witgate.yaml:") && refused.stderr.contains("plugins.oci[0]"),
        "{}",
        refused.stderr
    );
}

#[tokio::test]
async fn a_sidecar_stands_in_the_configuration_or_in_the_folder() {
    let stage = Stage::new().await;
    let registry = stage.registry().await;
    let layer = "application/vnd.wasm.content.layer.v1+wasm";
    let reference = registry.push("deny-proxy", &deny_proxy(), layer, json!({}));
    let shadow = json!({ "mode": "shadow" });
    let with_sidecar = json!([{ "name": "deny-proxy", "ref": reference, "sidecar": shadow }]);

    let gate = stage.gate(with_sidecar.clone()).start().await;
    assert_eq!(gate.client_as("jane").get(POD).await.status(), 200, "it is asked and not counted");
    drop(gate);

    let gate = stage.gate(named("deny-proxy", &reference)).start().await;
    assert_eq!(gate.client_as("jane").get(POD).await.status(), 403);
    fs::write(gate.folder().join("policies/deny-proxy.yaml"), "mode: shadow\n").unwrap();
    gate.status_when("the sidecar", |status| status["generation"] == 2).await;
    assert_eq!(gate.client_as("jane").get(POD).await.status(), 200);
    drop(gate);

    let both = stage.gate(with_sidecar).file("policies/deny-proxy.yaml", "mode: shadow\n").refused_start().await;
    assert!(both.stderr.contains("deny-proxy.yaml is its sidecar, and so is its `sidecar`"), "{}", both.stderr);
    let bytes = stage.gate(named("allow-all", &reference)).refused_start().await;
    assert!(bytes.stderr.contains("allow-all.wasm is a plug-in of that name too"), "{}", bytes.stderr);
    let pinned = json!([{ "name": "deny-proxy", "ref": reference, "sidecar": { "sha256": "0".repeat(64) } }]);
    let pinned = stage.gate(pinned).refused_start().await;
    assert!(pinned.stderr.contains(&format!("{reference} has the SHA-256")), "{}", pinned.stderr);
}

#[tokio::test]
async fn a_credential_reaches_its_registry_alone() {
    let stage = Stage::new().await;
    let (registry, storage) = (stage.registry().await, stage.registry().await);
    let reference = registry.push("team/deny-proxy", &deny_proxy(), WASM, json!({}));
    let (user, password) = ("robot".to_owned(), secret("a registry's password"));
    let docker = json!({ "auths": { registry.host(): { "username": user, "password": password } } }).to_string();
    let blob = format!("/blobs/{}", digest_of(&deny_proxy()));
    storage.answer(&blob, Content::Bytes(deny_proxy()));
    let elsewhere = Content::Redirect(format!("https://{}{blob}", storage.alias()));
    registry.answer(&format!("/v2/team/deny-proxy{blob}"), elsewhere);
    let start = |cache: &str, credentials: Option<&str>| {
        let registry = credentials.map_or(json!({}), |_| json!({ "credentialsFile": "docker.json" }));
        let builder = stage.gate_with(named("deny-proxy", &reference), registry);
        let builder = builder.file("docker.json", credentials.unwrap_or("{}"));
        builder.set_in("plugins", "cacheDirectory", json!(stage.compiled(cache)))
    };

    registry.asks(Asks::Token { user: user.clone(), password: password.clone() });
    let gate = start("tokens", Some(&docker)).start().await;
    assert_eq!(gate.client_as("jane").get(POD).await.status(), 403);
    let shown: Vec<_> = registry.asked().into_iter().map(|asked| asked.authorization.unwrap_or_default()).collect();
    assert_eq!(shown, ["", "Basic", "Bearer", "Bearer"], "{:?}", registry.asked());
    let stored = storage.asked();
    assert_eq!(stored.len(), 1);
    assert_eq!(stored[0].authorization, None, "{stored:?}");

    registry.asks(Asks::Basic { user, password });
    assert_eq!(start("basic", Some(&docker)).start().await.client_as("jane").get(POD).await.status(), 403);
    assert_eq!(storage.asked().iter().filter(|asked| asked.authorization.is_some()).count(), 0);

    let refused = start("none", None).refused_start().await;
    let text =
        format!("{} asks for a credential, and `plugins.registry.credentialsFile` has none for it", registry.host());
    assert!(refused.stderr.contains(&text), "{}", refused.stderr);
    let wrong = docker.replace("robot", "rabbit");
    let refused = start("wrong", Some(&wrong)).refused_start().await;
    assert!(
        refused.stderr.contains("answers 401 for the manifest: give a credential that may pull it"),
        "{}",
        refused.stderr
    );

    // A registry that wants the credential sent in the clear gets nothing.
    registry.asks(Asks::TokenOf(format!("http://{}/token", storage.host())));
    let before = storage.asked().len();
    let refused = start("clear", Some(&docker)).refused_start().await;
    assert!(refused.stderr.contains("a place for tokens that is not `https://HOST/…`"), "{}", refused.stderr);
    assert_eq!(storage.asked().len(), before);
}

/// Whatever a registry does, what starts is what was asked for, or nothing.
#[tokio::test]
async fn a_hostile_registry_is_refused_in_words() {
    let stage = Stage::new().await;
    let registry = stage.registry().await;
    let component = deny_proxy();
    let digest = digest_of(&component);
    let manifest = |media_type: &str, size: usize, count: usize| {
        let layer = json!({ "mediaType": media_type, "digest": digest, "size": size });
        json!({ "schemaVersion": 2, "layers": vec![layer; count] })
    };
    let blob = |repository: &str, content: Content| {
        let reference = registry.push_manifest(repository, &manifest(WASM, component.len(), 1));
        registry.answer(&format!("/v2/{repository}/blobs/{digest}"), content);
        reference
    };
    let other_bytes = registry.push("other-manifest", &component, WASM, json!({}));
    let path = format!("/v2/other-manifest/manifests/{}", other_bytes.split('@').nth(1).unwrap());
    registry.answer(&path, Content::Bytes(b"{}".to_vec()));
    let endless_manifest = registry.reference("endless-manifest", &digest);
    registry.answer(&format!("/v2/endless-manifest/manifests/{digest}"), Content::Endless);
    let silent = registry.reference("silent", &digest);
    registry.answer(&format!("/v2/silent/manifests/{digest}"), Content::Silence);
    let circle = format!("/v2/circle/blobs/{digest}");
    let index = json!({ "schemaVersion": 2, "manifests": [{ "digest": digest, "size": 1, "mediaType": "x" }] });
    let mut changed = component.clone();
    changed.push(0);
    changed.remove(0);

    for (reference, why) in [
        (other_bytes, format!("the manifest that came has the digest {}, not the", digest_of(b"{}"))),
        (endless_manifest, "sends a manifest of more than 4194304 bytes".to_owned()),
        (silent, "did not deliver it within 1500 ms (`plugins.registry.timeoutMs`)".to_owned()),
        (registry.reference("nothing", &digest), "has no such manifest: push it there".to_owned()),
        (
            registry.push_manifest("index", &index),
            "is an index of several manifests: write the digest of one".to_owned(),
        ),
        (registry.push_manifest("two", &manifest(WASM, 8, 2)), "has 2 layers; a plug-in's manifest has one".to_owned()),
        (
            registry.push_manifest("image", &manifest("application/vnd.oci.image.layer.v1.tar+gzip", 8, 1)),
            "has a layer of type `application/vnd.oci.image.layer.v1.tar+gzip`, which is no WebAssembly".to_owned(),
        ),
        (
            registry.push_manifest("huge", &manifest(WASM, 1 << 40, 1)),
            "has a layer of 1099511627776 bytes; a component has 67108864 at most".to_owned(),
        ),
        (blob("endless", Content::Endless), format!("sends a component of more than {} bytes", component.len())),
        (blob("changed", Content::Bytes(changed)), "the component that came has the digest sha256:".to_owned()),
        (
            blob("short", Content::Bytes(component[1..].to_vec())),
            "the component that came has the digest sha256:".to_owned(),
        ),
        (blob("broken", Content::Status(500)), "answers 500 for the component".to_owned()),
        (
            blob("clear", Content::Redirect(format!("http://{}/x", registry.host()))),
            "redirects to what is not `https://HOST/…`".to_owned(),
        ),
        (blob("circle", Content::Redirect(circle)), "redirects more than 3 times".to_owned()),
    ] {
        let builder = stage.gate_with(named("deny-proxy", &reference), json!({ "timeoutMs": 1500 }));
        let refused = builder.refused_start().await;
        assert_eq!(refused.code, Some(1), "{reference}");
        assert!(refused.stderr.contains(&why), "{reference}: not `{why}`:\n{}", refused.stderr);
        assert!(refused.stderr.contains(&format!("`deny-proxy` from {reference}: ")), "{}", refused.stderr);
    }
    let kept = fs::read_dir(stage.cache().join("compiled/oci")).map_or(0, Iterator::count);
    assert_eq!(kept, 0, "nothing of it is kept");

    // Somebody else's certificate is not the registry's.
    let stranger = OciRegistry::start(&Authority::new("strangers")).await;
    let reference = stranger.push("deny-proxy", &component, WASM, json!({}));
    let refused = stage.gate(named("deny-proxy", &reference)).refused_start().await;
    assert!(refused.stderr.contains("invalid peer certificate"), "{}", refused.stderr);
}

#[tokio::test]
async fn trusted_keys_hold_for_registries_too() {
    let stage = Stage::new().await;
    let registry = stage.registry().await;
    let signer = Signer::of_seed(7);
    let signed = |name: &str, signer: &Signer| json!({ "dev.witgate.minisig": signer.sign(name, &deny_proxy()) });
    let of = |repository: &str, annotations: Value| registry.push(repository, &deny_proxy(), WASM, annotations);
    let start = |reference: &str| {
        let builder = stage.gate(json!([{ "name": "deny-proxy", "ref": reference, "sidecar": { "selfTest": true } }]));
        let builder = builder.without_allow_all();
        builder.set_in("plugins", "trustedKeys", json!([signer.public_key()]))
    };
    for (reference, why) in [
        (
            of("unsigned", json!({})),
            "the signature of `deny-proxy.wasm` is the annotation `dev.witgate.minisig`: is not signed",
        ),
        (of("strange", signed("deny-proxy.wasm", &Signer::of_seed(8))), "is signed with a key that is not in"),
        (of("other-name", signed("allow-all.wasm", &signer)), "has a signature that is not for this name"),
    ] {
        let refused = start(&reference).refused_start().await;
        assert!(refused.stderr.contains(why), "{reference}: {}", refused.stderr);
    }
    let gate = start(&of("signed", signed("deny-proxy.wasm", &signer))).start().await;
    assert_eq!(gate.client_as("jane").get(POD).await.status(), 403);
}

#[tokio::test]
async fn check_asks_no_registry_unless_it_is_told_to() {
    let stage = Stage::new().await;
    let registry = stage.registry().await;
    let strategy = Plugin::strategy("anonymous");
    let reference = registry.push("mine", strategy.component(), WASM, json!({}));
    let builder = || {
        let cluster = Cluster::at("two", &stage.api_server, "mine");
        stage.gate(named("mine", &reference)).cluster(cluster)
    };

    let checked = builder().check().await;
    assert_eq!(checked.code, Some(0), "{}", checked.stderr);
    let note = format!(
        "plugins.oci[0]: `mine` was not fetched from {reference} yet, so it is not checked, nor 1 cluster whose strategy it would be: \
         `--fetch` fetches it"
    );
    assert!(checked.stderr.contains(&note), "{}", checked.stderr);
    assert!(
        checked.stdout.starts_with("ok: 2 clusters, 1 plug-in in ") && checked.stdout.ends_with(", 1 from registries"),
        "{}",
        checked.stdout
    );
    assert!(registry.asked().is_empty());

    let fetched = builder().check_with(&["--fetch"]).await;
    assert_eq!((fetched.code, fetched.stderr.contains("was not fetched")), (Some(0), false), "{}", fetched.stderr);
    assert_eq!(registry.asked().len(), 2);
    let checked = builder().check().await;
    assert_eq!((checked.code, checked.stderr.contains("was not fetched")), (Some(0), false), "{}", checked.stderr);
    assert_eq!(registry.asked().len(), 2, "it is at hand");
}

#[tokio::test]
async fn what_cannot_work_is_refused_before_anything_is_fetched() {
    let stage = Stage::new().await;
    let digest = format!("sha256:{}", "a".repeat(64));
    let reference = format!("oci://registry.example/rbac@{digest}");
    for (plugins, why) in [
        (
            named("rbac", "oci://registry.example/rbac:1.2"),
            "plugins.oci[0].ref: `oci://registry.example/rbac:1.2` has no digest, and whoever can push could put other code behind a tag: write `oci://registry.example/rbac@sha256:…`",
        ),
        (named("rbac", "registry.example/rbac"), "is not a reference: write `oci://REGISTRY/REPOSITORY@sha256:DIGEST`"),
        (named("-", &reference), "plugins.oci[0].name: `-` is not a plug-in name"),
        (json!([{ "ref": reference }]), "`name` is missing"),
        (json!([{ "name": "rbac" }]), "`ref` is missing"),
        (json!([{ "name": "rbac", "ref": reference, "digest": 1 }]), "plugins.oci[0].digest: unknown key"),
        (
            json!([{ "name": "rbac", "ref": reference }, { "name": "rbac", "ref": reference }]),
            "plugins.oci[1]: `rbac` stands at",
        ),
        (
            json!([{ "name": "rbac", "ref": reference, "sidecar": { "mode": "dry-run", "limit": {} } }]),
            "plugins.oci[0].sidecar: the file has the unknown key `limit`",
        ),
        (json!({}), "plugins.oci: is a map; it must be a list"),
    ] {
        let (check, start) = stage.gate(plugins.clone()).check_and_refused_start().await;
        for ended in [check, start] {
            assert_eq!(ended.code, Some(1), "{plugins}");
            assert!(ended.stderr.contains(why), "{plugins}: {}", ended.stderr);
        }
    }
    let nowhere = stage
        .gate(named("rbac", &reference))
        .set("plugins", json!({ "directory": "policies", "oci": named("rbac", &reference) }));
    let checked = nowhere.check().await;
    assert!(checked.stderr.contains("`plugins.oci` needs `plugins.cacheDirectory`"), "{}", checked.stderr);
    for (registry, why) in [
        (json!({ "credentialsFile": "none.json" }), "plugins.registry.credentialsFile: `none.json` does not exist"),
        (json!({ "timeoutMs": 1 }), "plugins.registry.timeoutMs: `1` is a number; it must be whole milliseconds"),
        (json!({ "insecure": true }), "plugins.registry.insecure: unknown key"),
    ] {
        let checked = stage.gate_with(named("rbac", &reference), registry).check().await;
        assert!(checked.stderr.contains(why), "{}", checked.stderr);
    }
}

fn host_of(reference: &str) -> &str {
    reference.strip_prefix("oci://").and_then(|rest| rest.split('/').next()).unwrap()
}
