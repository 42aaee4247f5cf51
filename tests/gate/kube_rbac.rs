//! The policy `rbac` beside the API server's own RBAC authorizer: the same objects, the same requests, the same answers.
//!
//! Where the rig is not on the machine, this test says so and passes.

use std::fmt::Write as _;

use serde_json::{Value, json};
use witgate_tests::api_server::ApiServer;
use witgate_tests::authority::client_tls_trusting_pem;
use witgate_tests::client::Client;
use witgate_tests::gate::Gate;
use witgate_tests::kube_rig::{self, KubeRig};
use witgate_tests::plugin_folder::Plugin;
use witgate_tests::secrets;
use witgate_tests::waiting::until;

/// Requests that both are asked about.
const CASES: usize = 600;

const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";
const NAMESPACES: [&str; 2] = ["rbac-a", "rbac-b"];

/// Who asks: name and groups.
const CALLERS: [(&str, &[&str]); 4] = [
    ("wg-u0", &["wg-g0"]),
    ("wg-u1", &["wg-g1", "wg-g2"]),
    ("wg-u2", &[]),
    ("system:serviceaccount:rbac-a:wg-bot", &["system:serviceaccounts:rbac-a", "wg-g2"]),
];

/// Goal: the policy's semantics are Kubernetes'. Method: generated roles and bindings, in the API server and in the policy's settings; generated
/// requests, each as a SubjectAccessReview there and through a gate in front of a fake API server here.
#[tokio::test]
async fn rbac_decides_as_the_api_server_does() {
    let rig = match kube_rig::shared() {
        Ok(rig) => rig,
        Err(why) => return println!("skipped: {why}"),
    };
    let admin = admin(rig);
    let mut random = Random(20_260_101);
    let objects = objects(&mut random);
    create(&admin, &objects).await;

    let api_server = ApiServer::start().await;
    let tokens = CALLERS.map(|(name, _)| secrets::secret(&format!("caller token of {name}")));
    let people: Vec<_> = CALLERS
        .iter()
        .zip(&tokens)
        .map(|((name, groups), token)| json!({ "token": token, "user": name, "groups": groups }))
        .collect();
    let policy = Plugin::policy("rbac").sidecar(json!({ "settings": { "items": objects } }));
    let gate = Gate::builder(&api_server)
        .without_allow_all()
        .plugin(policy)
        .file("tokens.yaml", &Value::from(people).to_string())
        .log_level("info")
        .start()
        .await;

    let (mut allowed, mut different) = (0, String::new());
    for _ in 0..CASES {
        let caller = random.below(CALLERS.len());
        let request = Request::any(&mut random);
        let expected = review(&admin, CALLERS[caller], &request).await;
        let client = gate.client().with_token(&tokens[caller]).kubernetes("one");
        let answer = client.call(request.method, &request.path).await;
        let got = match answer.status() {
            200 => true,
            403 => false,
            _ => panic!("{} {}: {}", request.method, request.path, answer.summary()),
        };
        if got != expected {
            let (user, _) = CALLERS[caller];
            let _ = writeln!(different, "{user}: {} {}: the API server says {expected}", request.method, request.path);
        }
        allowed += usize::from(expected);
    }

    assert_eq!(different, "", "of {CASES} cases");
    assert!((CASES / 20..CASES * 19 / 20).contains(&allowed), "{allowed} of {CASES} allowed: the cases tell little");
}

/// A client of the API server, as its administrator.
fn admin(rig: &KubeRig) -> Client {
    let address = rig.url().strip_prefix("https://").unwrap().parse().unwrap();
    let tls = client_tls_trusting_pem(&rig.certificate_authority(), &["h2"]);
    Client::new(address, Some(tls)).with_token(rig.token_of("admin"))
}

/// Roles and bindings of all four kinds; the last of each is for `wg-canary`, who tells when the API server knows them all.
fn objects(random: &mut Random) -> Vec<Value> {
    let object = |kind: &str, name: &str, namespace: Option<&str>| {
        let mut metadata = json!({ "name": name });
        if let Some(namespace) = namespace {
            metadata["namespace"] = json!(namespace);
        }
        json!({ "apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": metadata })
    };
    let mut objects = Vec::new();
    for number in 0..8 {
        let mut role = object("ClusterRole", &format!("wg-{number}"), None);
        let path_rules = (0..random.below(2)).map(|_| any_path_rule(random)).collect::<Vec<_>>();
        role["rules"] = (0..=random.below(2)).map(|_| any_rule(random)).chain(path_rules).collect();
        objects.push(role);
        let mut role = object("Role", &format!("wg-{number}"), Some(NAMESPACES[number % 2]));
        role["rules"] = (0..=random.below(2)).map(|_| any_rule(random)).collect();
        objects.push(role);
    }
    for number in 0..6 {
        let mut binding = object("ClusterRoleBinding", &format!("wg-{number}"), None);
        binding["roleRef"] = role_ref("ClusterRole", &format!("wg-{number}"));
        binding["subjects"] = json!([any_subject(random, true)]);
        objects.push(binding);
    }
    for number in 0..12 {
        let namespace = NAMESPACES[number % 2];
        let mut binding = object("RoleBinding", &format!("wg-{number}"), Some(namespace));
        binding["roleRef"] = match random.below(2) {
            0 => role_ref("ClusterRole", &format!("wg-{}", random.below(8))),
            _ => role_ref("Role", &format!("wg-{}", random.below(4) * 2 + number % 2)),
        };
        binding["subjects"] = json!([any_subject(random, false), any_subject(random, false)]);
        objects.push(binding);
    }
    let canary = json!([{ "kind": "User", "name": "wg-canary" }]);
    let rules = json!([{ "apiGroups": ["*"], "resources": ["*"], "verbs": ["*"] }]);
    for (role_kind, binding_kind, namespace) in
        [("ClusterRole", "ClusterRoleBinding", None), ("Role", "RoleBinding", Some(NAMESPACES[0]))]
    {
        let mut role = object(role_kind, "wg-canary", namespace);
        role["rules"] = match namespace {
            Some(_) => rules.clone(),
            None => json!([{ "nonResourceURLs": ["/wg-canary"], "verbs": ["get"] }]),
        };
        let mut binding = object(binding_kind, "wg-canary", namespace);
        binding["subjects"] = canary.clone();
        binding["roleRef"] = role_ref(role_kind, "wg-canary");
        objects.extend([role, binding]);
    }
    objects
}

fn role_ref(kind: &str, name: &str) -> Value {
    json!({ "apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name })
}

fn any_rule(random: &mut Random) -> Value {
    let verbs = random.some(&["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection", "*"]);
    let groups = random.some(&["", "apps", "*"]);
    let resources = random.some(&[
        "pods",
        "pods/log",
        "pods/exec",
        "deployments",
        "deployments/scale",
        "*/scale",
        "*",
        "configmaps",
        "pods/*",
        "nodes",
        "namespaces",
    ]);
    let mut rule = json!({ "apiGroups": groups, "resources": resources, "verbs": verbs });
    if random.below(3) == 0 {
        rule["resourceNames"] = json!(random.some(&["a", "b", "rbac-a", "*"]));
    }
    rule
}

fn any_path_rule(random: &mut Random) -> Value {
    let paths = random.some(&["/version", "/healthz", "/healthz/*", "/apis*", "*", "/ap"]);
    json!({ "nonResourceURLs": paths, "verbs": random.some(&["get", "head", "post", "*"]) })
}

fn any_subject(random: &mut Random, cluster_wide: bool) -> Value {
    let user = |name: &str| json!({ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": name });
    let group = |name: &str| json!({ "apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": name });
    match random.below(7) {
        0 => user("wg-u0"),
        1 => user("wg-u1"),
        2 => group("wg-g0"),
        3 => group("wg-g1"),
        4 => group("wg-g2"),
        5 => group("wg-u2"), // a user's name, which is nobody's group
        _ if cluster_wide => json!({ "kind": "ServiceAccount", "name": "wg-bot", "namespace": "rbac-a" }),
        _ => json!({ "kind": "ServiceAccount", "name": "wg-bot" }), // of the binding's own namespace
    }
}

/// One request, as HTTP and as a SubjectAccessReview has it.
struct Request {
    method: &'static str,
    path: String,
    attributes: Value,
}

impl Request {
    fn any(random: &mut Random) -> Self {
        if random.below(8) == 0 {
            let path = *random.one(&["/version", "/healthz", "/healthz/etcd", "/apis", "/api", "/openapi/v2"]);
            let (method, verb) = *random.one(&[("GET", "get"), ("POST", "post")]);
            let attributes = json!({ "nonResourceAttributes": { "path": path, "verb": verb } });
            return Self { method, path: path.to_owned(), attributes };
        }
        let (method, verb) = *random.one(&[
            ("GET", "get"),
            ("GET", "list"),
            ("GET", "watch"),
            ("POST", "create"),
            ("PUT", "update"),
            ("PATCH", "patch"),
            ("DELETE", "delete"),
            ("DELETE", "deletecollection"),
        ]);
        let has_name = matches!(verb, "get" | "update" | "patch" | "delete");
        let (group, resource, subresources): (&str, &str, &[&str]) = *random.one(&[
            ("", "pods", &["", "", "log", "exec", "status"][..]),
            ("apps", "deployments", &["", "scale"]),
            ("", "configmaps", &[""]),
            ("", "nodes", &["", "status"]),
            ("", "scale", &[""]),
        ]);
        let namespaces: &[&str] = if resource == "nodes" { &[""] } else { &["", "rbac-a", "rbac-b", "default"] };
        // A name without a namespace is no object of a namespaced resource; the API server reads it all the same.
        let namespace = *random.one(namespaces);
        let mut name = if has_name { *random.one(&["a", "b", "c"]) } else { "" };
        let subresource = if has_name { *random.one(subresources) } else { "" };
        let root = if group.is_empty() { "/api/v1".to_owned() } else { format!("/apis/{group}/v1") };
        let scope = if namespace.is_empty() { String::new() } else { format!("/namespaces/{namespace}") };
        let mut path = format!("{root}{scope}/{resource}");
        for part in [name, subresource].into_iter().filter(|part| !part.is_empty()) {
            let _ = write!(path, "/{part}");
        }
        if matches!(verb, "list" | "watch") && random.below(2) == 0 {
            name = *random.one(&["a", "b", "c"]);
            let _ = write!(path, "?fieldSelector=metadata.name%3D{name}");
        }
        if verb == "watch" {
            path.push_str(if path.contains('?') { "&watch=1" } else { "?watch=1" });
        }
        let attributes = json!({ "resourceAttributes": {
            "verb": verb, "group": group, "version": "v1", "resource": resource, "subresource": subresource,
            "namespace": namespace, "name": name,
        } });
        Self { method, path, attributes }
    }
}

/// What the API server's authorizer says.
async fn review(admin: &Client, (user, groups): (&str, &[&str]), request: &Request) -> bool {
    let mut spec = request.attributes.clone();
    spec["user"] = json!(user);
    spec["groups"] = json!(groups);
    let review = json!({ "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec });
    let answer = admin.post("/apis/authorization.k8s.io/v1/subjectaccessreviews", review.to_string()).await;
    assert_eq!(answer.status(), 201, "{}", answer.body());
    answer.json()["status"]["allowed"].as_bool().unwrap()
}

/// Creates namespaces and objects, and waits until the API server's authorizer goes by them.
async fn create(admin: &Client, objects: &[Value]) {
    for namespace in NAMESPACES {
        let body = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": namespace } });
        let answer = admin.post("/api/v1/namespaces", body.to_string()).await;
        assert!([201, 409].contains(&answer.status()), "{}", answer.body());
    }
    for object in objects {
        let kind = object["kind"].as_str().unwrap();
        let scope = match object["metadata"]["namespace"].as_str() {
            Some(namespace) => format!("/namespaces/{namespace}"),
            None => String::new(),
        };
        let answer = admin.post(&format!("{RBAC}{scope}/{}s", kind.to_lowercase()), object.to_string()).await;
        assert_eq!(answer.status(), 201, "{object}: {}", answer.body());
    }
    let path = json!({ "nonResourceAttributes": { "path": "/wg-canary", "verb": "get" } });
    let pods = json!({ "resourceAttributes": { "verb": "get", "resource": "pods", "namespace": NAMESPACES[0] } });
    for attributes in [path, pods] {
        let request = Request { method: "GET", path: String::new(), attributes };
        until("the API server knows the roles", || async {
            review(admin, ("wg-canary", &[]), &request).await.then_some(())
        })
        .await;
    }
}

/// The same numbers at each run: Knuth's generator.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % end
    }

    fn one<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }

    /// One to three of them.
    fn some<'a>(&mut self, of: &[&'a str]) -> Vec<&'a str> {
        (0..=self.below(3)).map(|_| *self.one(of)).collect()
    }
}
