//! `docs/write-a-strategy.md`: what it tells to type does what it says, in this order.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use witgate_tests::api_server::{ApiServer, Request};
use witgate_tests::artifacts;
use witgate_tests::authority::Authority;
use witgate_tests::cluster::Cluster;
use witgate_tests::concierge::Concierge;
use witgate_tests::gate::Gate;
use witgate_tests::plugin_folder::Plugin;
use witgate_tests::process::{Ended, Process};
use witgate_tests::secrets::secret;
use witgate_tests::typed_page::{Page, Terminal};

/// The SDK and what it stands on, for WebAssembly and for this machine.
const COMPILED: Duration = Duration::from_secs(400);
const PROJECT: &str = "pinnipedStrategy";

/// Goal: who types what the page says has the strategy that it promises, in front of a cluster. Method: the page's own blocks, commands and
/// sources; a Concierge of the tests' answers, and the gate's address and tokens take the place of the page's.
#[tokio::test]
async fn the_page_can_be_typed() {
    let page = Page::read("docs/write-a-strategy.md");
    let commands = page.blocks("sh");
    let [new, unit_tests, build, deliver, check, ask] = commands.as_slice() else {
        panic!("six blocks of commands: {commands:?}")
    };
    let terminal = Terminal::new();
    let home = terminal.home();
    let project = home.join(PROJECT);

    let made = ended(&terminal, ".", new).await;
    assert!(page.says(made.stdout.lines().next().unwrap()), "{}", made.stdout);
    crate::author_project::share_target_folder(&project);
    let [dependencies] = page.blocks("toml")[..] else { panic!("one block of TOML") };
    let manifest = fs::read_to_string(project.join("Cargo.toml")).unwrap();
    let (before, rest) = manifest.split_once("[dependencies]\n").unwrap();
    let (_, after) = rest.split_once("\n\n").unwrap();
    fs::write(project.join("Cargo.toml"), format!("{before}{dependencies}\n\n{after}")).unwrap();

    let sources = page.blocks("rust");
    let (smallest, pieces) = sources.split_first().unwrap();
    fs::write(project.join("src/lib.rs"), smallest).unwrap();
    ended(&terminal, PROJECT, build).await;
    let finished = artifacts::repository().join("guests/examples/pinnipedStrategy/src/lib.rs");
    let finished = fs::read_to_string(finished).unwrap();
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(pieces.len(), 2, "the exchange and the grant");
    for piece in pieces {
        assert!(words(&finished).contains(&words(piece)), "not of the finished source: {piece}");
    }
    fs::write(project.join("src/lib.rs"), finished).unwrap();
    let tested = ended(&terminal, PROJECT, unit_tests).await;
    assert!(tested.stdout.contains("test result: ok. "), "{}", tested.stdout);
    let built = ended(&terminal, PROJECT, build).await;
    let imports = |text: &str| text.split_once("KiB, ").map(|(_, imports)| imports.trim().to_owned());
    let told = page.blocks("text").into_iter().find(|block| block.starts_with("built ")).and_then(imports);
    assert_eq!(imports(&built.stdout), told, "{}", built.stdout);

    let yaml = page.blocks("yaml");
    let [sidecar, clusters] = yaml.as_slice() else { panic!("a sidecar and a configuration: {yaml:?}") };
    fs::write(project.join("pinnipedStrategy.yaml"), sidecar).unwrap();
    fs::create_dir(home.join("policies")).unwrap();
    ended(&terminal, PROJECT, deliver).await;
    fs::copy(artifacts::guest("policies/allow-all"), home.join("policies/allow-all.wasm")).unwrap();
    fs::write(home.join("production-ca.crt"), Authority::new("servers").pem()).unwrap();
    let own =
        "listen: 127.0.0.1:0\nauthentication: [{ anonymous: { user: guest } }]\nplugins: { directory: policies }\n";
    fs::write(home.join("witgate.yaml"), format!("{own}{clusters}\n")).unwrap();
    ended(&terminal, ".", check).await;

    let clients = Authority::new("clients");
    let concierge = Arc::new(Concierge::new(clients.again()));
    let token = secret("jane's token for the cluster");
    concierge.knows(&token, "jane", "dev", Duration::from_secs(300));
    let answering = Arc::clone(&concierge);
    let api_server = ApiServer::answering(move |request: &Request| answering.answer(request).unwrap_or_default());
    let api_server = api_server.tls_asking_clients_of(&Authority::new("servers"), &clients).start().await;
    assert!(
        sidecar.starts_with("outboundHosts: [cluster] ") && sidecar.contains("\ncredentialDependsOn: requestAuth ")
    );
    let sidecar = json!({ "outboundHosts": ["cluster"], "credentialDependsOn": "requestAuth", "limits": { "deadlineMs": 10000 } });
    let metadata = json!({ "kubernetes.io/x-pinniped-audience": "production-audience" });
    let cluster = Cluster::at("production", &api_server, PROJECT).with("authMetadata", metadata);
    let component = fs::read(home.join("policies/pinnipedStrategy.wasm")).unwrap();
    let plugin = Plugin::of_bytes(PROJECT, &component).sidecar(sidecar);
    let gate = Gate::without_clusters().plugin(plugin).cluster(cluster).start().await;
    let ask = ask.replace("https://gate.example", &format!("http://{}", gate.address()));
    let ask = ask.replace("curl ", "curl --silent --show-error --fail ");
    let mut typed = terminal.command(".", &ask);
    typed.env("BACKSTAGE_TOKEN", gate.token_of("jane")).env("ID_TOKEN", &token);
    let answer = Process::run(&mut typed).await;
    assert_eq!(answer.code, Some(0), "{}{} {:?}", answer.stdout, answer.stderr, concierge.complaints());
    let requests = api_server.requests();
    let forwarded = requests.iter().find(|request| request.target == "/api/v1/namespaces").unwrap();
    assert_eq!(forwarded.peer_certificate.as_ref(), concierge.issued().first());
}

/// What a terminal says to something that must work.
async fn ended(terminal: &Terminal, folder: &str, typed: &str) -> Ended {
    let ended = Process::start(&mut terminal.command(folder, typed)).ended_within(COMPILED).await;
    assert_eq!(ended.code, Some(0), "{typed}: {}{}", ended.stdout, ended.stderr);
    ended
}
