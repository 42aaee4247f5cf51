//! Certificates, authorities and tokens that change under a running gate, without a failed request.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use witgate_tests::api_server::{ApiServer, Reply};
use witgate_tests::authority::Authority;
use witgate_tests::client::Client;
use witgate_tests::cluster::Cluster;
use witgate_tests::gate::Gate;
use witgate_tests::secrets;
use witgate_tests::waiting::{soon, until, within};

const PODS: &str = "/api/v1/namespaces/dev/pods";

/// A caller that asks without a pause, and counts.
struct Busy {
    stop: Arc<AtomicBool>,
    answers_count: watch::Receiver<usize>,
    asking: JoinHandle<Vec<String>>,
}

impl Busy {
    fn start(client: Client) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let stopped = Arc::clone(&stop);
        let (counting, answers_count) = watch::channel(0);
        let asking = tokio::spawn(async move {
            let mut failures = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                let answer = client.get(PODS).await;
                if answer.status() != 200 {
                    failures.push(answer.summary());
                }
                counting.send_modify(|count| *count += 1);
            }
            failures
        });
        Self { stop, answers_count, asking }
    }

    /// Waits for so many more answers.
    async fn answers(&mut self, more: usize) {
        let before = *self.answers_count.borrow();
        soon("more answers", self.answers_count.wait_for(|count| *count >= before + more)).await.unwrap();
    }

    /// Waits until some requests that began after this have been answered.
    async fn goes_on(&mut self) {
        self.answers(5).await;
    }

    /// The failures so far.
    async fn failures(self) -> Vec<String> {
        self.stop.store(true, Ordering::Relaxed);
        self.asking.await.unwrap()
    }
}

/// Goal: a cluster moves from one authority to another. Method: as operators do it: both are believed, the server's
/// certificate is replaced, the old one is believed no more; meanwhile a caller asks without a pause.
#[tokio::test]
async fn authorities_rotate_without_a_failed_request() {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let api_server = ApiServer::answering(|_| Reply::default()).tls(&old).start().await;
    let cluster = Cluster::at("one", &api_server, "anonymous").without("caData").with("caFile", "ca.crt");
    let gate = Gate::without_clusters().file("ca.crt", &old.pem()).cluster(cluster).start().await;
    let file = gate.folder().join("ca.crt");
    let mut busy = Busy::start(gate.client_as("jane"));
    busy.goes_on().await;

    fs::write(&file, format!("{}{}", old.pem(), new.pem())).unwrap();
    replaced(&gate, 1).await;
    busy.goes_on().await;
    api_server.show(&new.server(), None);
    fs::write(&file, "-----BEGIN CERTIFICATE-----\nhalf").unwrap();
    gate.log_line_with("new certificate authorities are refused").await;
    fs::write(&file, new.pem()).unwrap();
    replaced(&gate, 2).await;
    busy.goes_on().await;

    assert_eq!(busy.failures().await, Vec::<String>::new());
    assert_eq!(api_server.connections_count(), 3, "one a set of authorities");
    // The old one is believed no more.
    api_server.show(&old.server(), None);
    fs::write(&file, format!("{}{}", new.pem(), new.pem())).unwrap();
    replaced(&gate, 3).await;
    assert_eq!(gate.client_as("jane").get(PODS).await.status(), 502);
}

async fn replaced(gate: &Gate, times: usize) {
    until("the authorities are replaced", || async {
        (gate.log().matches("certificate authorities were replaced").count() == times).then_some(())
    })
    .await;
}

/// A watch that was opened before a rotation goes on.
#[tokio::test]
async fn a_watch_outlives_the_rotation_of_authorities() {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let (reply, writer) = Reply::streamed();
    let api_server = ApiServer::replying([reply]).tls(&old).start().await;
    let cluster = Cluster::at("one", &api_server, "anonymous").without("caData").with("caFile", "ca.crt");
    let gate = Gate::without_clusters().file("ca.crt", &old.pem()).cluster(cluster).start().await;
    let jane = gate.client_as("jane");
    let mut watch = jane.get("/api/v1/pods?watch=1").open().await;

    api_server.show(&new.server(), None);
    fs::write(gate.folder().join("ca.crt"), new.pem()).unwrap();
    replaced(&gate, 1).await;
    assert_eq!(gate.client_as("john").get(PODS).await.status(), 200);

    writer.write("event").await;
    assert_eq!(watch.next_piece().await.unwrap().unwrap(), "event");
    drop(writer);
    assert!(watch.next_piece().await.is_none());
}

/// Goal: a client certificate rotates as a Kubernetes mount does, both files at once. Method: a swapped link under requests, each
/// to a cluster of its own, as a certificate that was read is kept for a second; nothing fails, and the new one is seen.
#[tokio::test]
async fn client_certificates_rotate_without_a_failed_request() {
    const CLUSTERS_COUNT: usize = 200;
    let (servers, clients) = (Authority::new("servers"), Authority::new("clients"));
    let (first, second) = (clients.client("alice", &["dev"]), clients.client("alice", &["dev"]));
    let api_server = ApiServer::answering(|_| Reply::default()).tls_for_clients_of(&servers, &clients).start().await;
    let context = |index| json!({ "name": format!("c{index}"), "context": { "cluster": "c", "user": "alice" } });
    let kubeconfig = json!({
        "clusters": [{ "name": "c", "cluster": { "server": api_server.url(), "certificate-authority": "ca.crt" } }],
        "users": [{ "name": "alice", "user": { "client-certificate": "now/tls.crt", "client-key": "now/tls.key" } }],
        "contexts": (0..CLUSTERS_COUNT).map(context).collect::<Vec<_>>(),
    });
    let builder = Gate::without_clusters();
    for (name, identity) in [("first", &first), ("second", &second)] {
        let folder = builder.folder().join(name);
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("tls.crt"), identity.certificate_pem()).unwrap();
        fs::write(folder.join("tls.key"), identity.key_pem()).unwrap();
    }
    link(builder.folder(), "first");
    let gate = builder
        .file("ca.crt", &servers.pem())
        .file("kubeconfig", &kubeconfig.to_string())
        .locator(json!({ "type": "kubeconfig", "file": "kubeconfig" }))
        .start()
        .await;
    let jane = |index: usize| gate.caller("jane").backstage(&format!("c{index}"));

    // At every point of a request's way, so that some fall between the reading of the certificate and that of the key.
    for later in 0..CLUSTERS_COUNT {
        let client = jane(later);
        let asking = tokio::spawn(async move { client.get(PODS).await });
        for _ in 0..later * 6 {
            tokio::task::yield_now().await;
        }
        link(gate.folder(), if later % 2 == 0 { "second" } else { "first" });
        let answer = asking.await.unwrap();
        assert_eq!(answer.status(), 200, "{}", answer.summary());
    }

    link(gate.folder(), "second");
    let seen = || api_server.requests().pop().unwrap().peer_certificate;
    let jane = jane(0);
    until("the new certificate", || async {
        assert_eq!(jane.get(PODS).await.status(), 200);
        (seen() == Some(second.certificate_der())).then_some(())
    })
    .await;
}

/// Lets `now` lead to `name`, in one step.
fn link(folder: &Path, name: &str) {
    let next = folder.join("next");
    std::os::unix::fs::symlink(name, &next).unwrap();
    fs::rename(next, folder.join("now")).unwrap();
}

/// A token file is looked at each second, so a new token is used soon.
#[tokio::test]
async fn token_files_rotate_without_a_failed_request() {
    let api_server = ApiServer::start().await;
    let (first, second) = (secrets::secret("first token"), secrets::secret("second token"));
    let new = format!("Bearer {second}");
    let cluster =
        Cluster::at("one", &api_server, "serviceAccount").with("serviceAccountToken", json!({ "$file": "token" }));
    let gate = Gate::without_clusters().file("token", &first).cluster(cluster).start().await;
    let mut busy = Busy::start(gate.client_as("jane"));
    busy.goes_on().await;

    let next = gate.folder().join("next");
    fs::write(&next, &second).unwrap();
    fs::rename(next, gate.folder().join("token")).unwrap();
    let is_used = || api_server.requests().iter().any(|request| request.header("authorization") == Some(&new));
    within(Duration::from_secs(5), "the new token", until("the new token", || async { is_used().then_some(()) })).await;
    busy.goes_on().await;

    assert_eq!(busy.failures().await, Vec::<String>::new());
    let mut tokens: Vec<_> =
        api_server.requests().iter().map(|request| request.header("authorization").unwrap().to_owned()).collect();
    tokens.dedup();
    assert_eq!(tokens, [format!("Bearer {first}"), new]);
}

/// A token that the API server stops to believe at the moment at which its file has another one: the gate may hold the old one
/// for a second yet, and no request may learn of it.
#[tokio::test]
async fn a_token_that_was_replaced_is_not_the_callers_to_know() {
    let (first, second) = (secrets::secret("token that is revoked"), secrets::secret("token that replaces it"));
    let believed = Arc::new(std::sync::Mutex::new(format!("Bearer {first}")));
    let api_server = ApiServer::answering({
        let believed = Arc::clone(&believed);
        move |request| match request.header("authorization") {
            Some(token) if *token == *believed.lock().unwrap() => Reply::default(),
            _ => Reply::json(401, "{}"),
        }
    })
    .start()
    .await;
    let cluster =
        Cluster::at("one", &api_server, "serviceAccount").with("serviceAccountToken", json!({ "$file": "token" }));
    let gate = Gate::without_clusters().file("token", &first).cluster(cluster).start().await;
    let jane = gate.client_as("jane");
    for _ in 0..2 {
        assert_eq!(jane.get(PODS).await.status(), 200);
    }

    let next = gate.folder().join("next");
    fs::write(&next, &second).unwrap();
    fs::rename(next, gate.folder().join("token")).unwrap();
    *believed.lock().unwrap() = format!("Bearer {second}");

    assert_eq!(jane.get(PODS).await.status(), 200);
}
