//! Measures how a request's cost grows with what the gate holds: `WITGATE_BIN=… cargo run --example growth`.
//!
//! Each row is a gate of its own with so many clusters, plug-ins and users, asked by all of the users about all of the clusters in turn, by
//! plain HTTP on 16 kept connections, each with a JWT (ES256) of its own; a gate with one of each is asked before and after. Told are the CPU time that the kernel counted for an
//! answer, its ratio to that gate's, the start until it listens, and its resident memory. A measurement and no test.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use witgate_tests::api_server::{ApiServer, Reply};
use witgate_tests::cluster::Cluster;
use witgate_tests::gate::Gate;
use witgate_tests::plugin_folder::Plugin;
use witgate_tests::secrets::secret;
use witgate_tests::token_issuer::{ISSUER, TokenIssuer};

#[path = "peers/cpu.rs"]
#[expect(dead_code, reason = "shared with another example, which reads more")]
mod cpu;

/// What a gate holds.
#[derive(Clone, Copy)]
struct Size {
    clusters: usize,
    policies: usize,
    users: usize,
}

/// A gate that is asked, and how.
struct Subject {
    gate: Gate,
    /// Heads of requests, in the order in which they are sent.
    requests: Arc<Vec<String>>,
    next: Arc<AtomicUsize>,
    started: Duration,
}

const ONE: Size = Size { clusters: 1, policies: 1, users: 1 };

#[tokio::main]
async fn main() {
    let api_server = ApiServer::answering(|_| Reply::default()).start().await;
    let one = Subject::start(&api_server, ONE).await;
    println!("| clusters | plug-ins | users | µs a request | to one of each | start s | memory MiB |");
    println!("|---|---|---|---|---|---|---|");
    println!("{}", one.row(ONE, one.cost().await, 1.0));
    let sizes = [
        Size { clusters: 10, ..ONE },
        Size { clusters: 100, ..ONE },
        Size { clusters: 1_000, ..ONE },
        Size { policies: 10, ..ONE },
        Size { policies: 100, ..ONE },
        Size { users: 1_000, ..ONE },
        Size { users: 5_000, ..ONE },
        Size { users: 100_000, ..ONE },
        Size { clusters: 1_000, users: 100_000, ..ONE },
    ];
    for size in sizes {
        let subject = Subject::start(&api_server, size).await;
        let (mut costs, mut ratios) = (Vec::new(), Vec::new());
        for _ in 0..PAIRS {
            let (before, cost, after) = (one.cost().await, subject.cost().await, one.cost().await);
            costs.push(cost);
            ratios.push(cost * 2.0 / (before + after));
        }
        println!("{}", subject.row(size, median(costs), median(ratios)));
    }
}

impl Subject {
    async fn start(api_server: &ApiServer, size: Size) -> Self {
        let token = secret("service-account token of all clusters");
        let mut builder = Gate::without_clusters().log_level("warn,witgate::serve=info");
        for index in 0..size.clusters {
            let cluster = Cluster::at(&format!("c{index}"), api_server, "serviceAccount");
            builder = builder.cluster(cluster.service_account_token(&token));
        }
        // `allow-all` is the first.
        for index in 1..size.policies {
            builder = builder.plugin(Plugin::policy("read-only").named(&format!("p{index}")).sidecar(json!({})));
        }
        let issuer = TokenIssuer::new("growth");
        builder = builder.file("jwks.json", &issuer.jwks());
        let jwt = json!({ "issuer": ISSUER, "audiences": ["backstage"], "jwksFile": "jwks.json" });
        builder = builder.set("authentication", json!([{ "jwt": jwt }]));
        let user = |index: usize| issuer.token(&format!("user:default/u{index}"), json!({}));
        let tokens: Vec<_> = (0..size.users).map(user).collect();
        let began = Instant::now();
        let gate = builder.start().await;
        let started = began.elapsed();
        let request = |index: usize| {
            // Steps that share no divisor with the sizes, so that all meet all.
            let (cluster, token) = (index * 7 % size.clusters, tokens.get(index * 11 % size.users).expect("in range"));
            format!(
                "GET /k8s/clusters/c{cluster}/api/v1/namespaces/dev/configmaps HTTP/1.1\r\nhost: gate\r\n\
                 authorization: Bearer {token}\r\n\r\n"
            )
        };
        let requests = (0..size.clusters.max(size.users).max(1_000)).map(request).collect();
        let subject = Self { gate, requests: Arc::new(requests), next: Arc::default(), started };
        subject.ask(REQUESTS.max(size.clusters * 2)).await; // connections to every cluster, and caches
        subject
    }

    /// CPU time of one request, in µs.
    async fn cost(&self) -> f64 {
        let pid = [self.gate.process().pid()];
        let before = cpu::time(&pid);
        self.ask(REQUESTS).await;
        (cpu::time(&pid) - before).as_secs_f64() * 1e6 / REQUESTS as f64
    }

    async fn ask(&self, requests: usize) {
        let callers = (0..CONNECTIONS).map(|_| {
            let (requests_of_all, next, address) =
                (Arc::clone(&self.requests), Arc::clone(&self.next), self.gate.address());
            tokio::spawn(call(address, requests_of_all, next, requests / CONNECTIONS))
        });
        for caller in callers.collect::<Vec<_>>() {
            caller.await.unwrap();
        }
    }

    fn row(&self, size: Size, cost: f64, ratio: f64) -> String {
        let Size { clusters, policies, users } = size;
        let (started, memory) = (self.started.as_secs_f64(), self.gate.memory_kib() as f64 / 1024.0);
        format!("| {clusters} | {policies} | {users} | {cost:.1} | {ratio:.2} | {started:.2} | {memory:.0} |")
    }
}

async fn call(address: SocketAddr, requests: Arc<Vec<String>>, next: Arc<AtomicUsize>, count: usize) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let mut answer = Vec::new();
    for _ in 0..count {
        let index = next.fetch_add(1, Ordering::Relaxed) % requests.len();
        let request = requests.get(index).expect("it is below the length");
        stream.write_all(request.as_bytes()).await.unwrap();
        answer.clear();
        while !answer.ends_with(END) {
            let read = stream.read_buf(&mut answer).await.unwrap();
            assert!(read > 0, "{request}{}", String::from_utf8_lossy(&answer));
        }
        assert!(answer.starts_with(b"HTTP/1.1 200 "), "{request}{}", String::from_utf8_lossy(&answer));
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// How the fake API server's answer ends.
const END: &[u8] = b"\"items\":[]}";
const REQUESTS: usize = 8_000;
const CONNECTIONS: usize = 16;
const PAIRS: usize = 3;
