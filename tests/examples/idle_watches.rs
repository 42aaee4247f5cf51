//! Measures what an idle watch costs the gate in memory: `cargo run --example idle_watches -- [COUNT [SECONDS]]`.
//!
//! COUNT watches (2000) are opened over HTTP/1.1, a connection each, and held for SECONDS (60). It tells the gate's
//! resident memory before, when all are open, and at the end; and the difference a watch. The rows: plain HTTP or TLS
//! downstream; upstream the fake API server over plain HTTP/1.1 (two connections a watch), and the rig's real
//! one over TLS and HTTP/2, where the rig is on the machine.
//!
//! The gate is `target/debug/witgate`, or what `WITGATE_BIN` names: a figure for the record is that of a release build.
//! It is a measurement and no test: nothing asserts the result, because the machine decides it too.

use std::time::Duration;

use futures_util::stream::{self, StreamExt as _};
use witgate_tests::api_server::{ApiServer, Reply};
use witgate_tests::authority::{Authority, client_tls};
use witgate_tests::body::BodyWriter;
use witgate_tests::client::{Client, OpenAnswer};
use witgate_tests::cluster::Cluster;
use witgate_tests::gate::Gate;
use witgate_tests::kube_rig;

/// How many watches are being opened at once.
const OPENING: usize = 32;

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1).map(|text| text.parse::<u64>().expect("a number"));
    let count = arguments.next().unwrap_or(2000) as usize;
    let seconds = arguments.next().unwrap_or(60);
    println!("{count} idle watches for {seconds} s");

    for tls in [false, true] {
        let (writers, kept) = std::sync::mpsc::channel::<BodyWriter>();
        let writers = std::sync::Mutex::new(writers);
        let api_server = ApiServer::answering(move |_| {
            let (reply, writer) = Reply::streamed();
            writers.lock().unwrap().send(writer).expect("they are kept to the end");
            reply
        });
        let api_server = api_server.start().await;
        let cluster = Cluster::at("rig", &api_server, "anonymous");
        measure(cluster, tls, "the fake API server by HTTP/1.1", count, seconds).await;
        drop((api_server, kept));
        match kube_rig::shared() {
            Ok(rig) => measure(rig.cluster_as("robot"), tls, "the rig by TLS and HTTP/2", count, seconds).await,
            Err(why) => println!("skipped: {why}"),
        }
    }
}

async fn measure(cluster: Cluster, tls: bool, upstream: &str, count: usize, seconds: u64) {
    let authority = Authority::new("gate");
    let builder = Gate::without_clusters().cluster(cluster);
    let (builder, config) = if tls {
        (builder.tls(&authority, None), Some(client_tls(&authority, None, &["http/1.1"])))
    } else {
        (builder, None)
    };
    let gate = builder.start().await;
    let jane = Client::new(gate.address(), config).with_token(gate.token_of("jane")).kubernetes("rig");
    // The first ones pay for what all share.
    let mut open = open_watches(&jane, 10).await;
    let before = gate.process().memory_kib("VmRSS");

    open.extend(open_watches(&jane, count).await);
    let opened = gate.process().memory_kib("VmRSS");
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let after = gate.process().memory_kib("VmRSS");

    let each = (after as f64 - before as f64) / count as f64;
    let downstream = if tls { "TLS" } else { "plain HTTP" };
    println!(
        "{downstream} downstream, {upstream}: {before} KiB before, {opened} KiB opened, {after} KiB after {seconds} s; \
         {each:.1} KiB a watch"
    );
    drop(open);
}

async fn open_watches(client: &Client, count: usize) -> Vec<OpenAnswer> {
    let one = |number: usize| {
        let client = client.clone().on_new_connection();
        async move {
            let path = format!("/api/v1/namespaces/dev/configmaps?watch=true&labelSelector=idle%3D{number}");
            let answer = client.get(&path).open().await;
            assert_eq!(answer.status(), 200);
            answer
        }
    };
    stream::iter(0..count).map(one).buffer_unordered(OPENING).collect().await
}
