//! Measures what an idle watch costs the gate in memory: `cargo run --example idle_watches -- [COUNT [SECONDS [ROW]]]`.
//!
//! COUNT watches (2000) are opened and held for SECONDS (60). It tells the gate's resident memory before, when all are
//! open, and at the end; and the difference a watch. The rows, of which ROW names some by a part of their names:
//! downstream plain HTTP/1.1, HTTP/1.1 with TLS (a connection each), and HTTP/2 with TLS (200 a connection); upstream
//! a fake API server by plain HTTP/1.1 (a connection each), and by HTTP/2 with TLS. An HTTP/1.1 connection on both
//! sides takes two file descriptors a watch: see `ulimit -n`.
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

/// How many watches are being opened at once.
const OPENING: usize = 32;
/// Watches of one HTTP/2 connection; the gate takes 250.
const STREAMS: usize = 200;

/// How the watches come to the gate.
#[derive(Clone, Copy)]
enum Downstream {
    Plain,
    Tls(&'static str),
}

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let mut number = |otherwise| arguments.next().map_or(otherwise, |text| text.parse::<u64>().expect("a number"));
    let (count, seconds) = (number(2000) as usize, number(60));
    let row = arguments.next().unwrap_or_default();
    println!("{count} idle watches for {seconds} s");

    let downstream = [
        ("plain HTTP/1.1", Downstream::Plain),
        ("HTTP/1.1", Downstream::Tls("http/1.1")),
        ("HTTP/2", Downstream::Tls("h2")),
    ];
    for (down, downstream) in downstream {
        for upstream_tls in [false, true] {
            let name =
                format!("{down} downstream, {} upstream", if upstream_tls { "HTTP/2" } else { "plain HTTP/1.1" });
            if name.contains(&row) {
                measure(&name, downstream, upstream_tls, count, seconds).await;
            }
        }
    }
}

async fn measure(name: &str, downstream: Downstream, upstream_tls: bool, count: usize, seconds: u64) {
    let (writers, kept) = std::sync::mpsc::channel::<BodyWriter>();
    let writers = std::sync::Mutex::new(writers);
    let api_server = ApiServer::answering(move |_| {
        let (reply, writer) = Reply::streamed();
        writers.lock().unwrap().send(writer).expect("they are kept to the end");
        reply
    });
    let upstream = Authority::new("cluster");
    let api_server = if upstream_tls { api_server.tls(&upstream) } else { api_server }.start().await;
    let authority = Authority::new("gate");
    let builder = Gate::without_clusters().cluster(Cluster::at("rig", &api_server, "anonymous"));
    let (builder, config, together) = match downstream {
        Downstream::Plain => (builder, None, 1),
        Downstream::Tls(protocol) => {
            let together = if protocol == "h2" { STREAMS } else { 1 };
            (builder.tls(&authority, None), Some(client_tls(&authority, None, &[protocol])), together)
        }
    };
    let gate = builder.start().await;
    let jane = Client::new(gate.address(), config).with_token(gate.token_of("jane")).kubernetes("rig");
    // The first ones pay for what all share.
    let mut open = open_watches(&jane, 10, together).await;
    let before = gate.process().memory_kib("VmRSS");

    open.extend(open_watches(&jane, count, together).await);
    let opened = gate.process().memory_kib("VmRSS");
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let after = gate.process().memory_kib("VmRSS");

    let each = (after as f64 - before as f64) / count as f64;
    println!("{name}: {before} KiB before, {opened} KiB opened, {after} KiB after {seconds} s; {each:.1} KiB a watch");
    drop((open, api_server, kept));
}

/// Opens `count` watches, so many `together` on a connection.
async fn open_watches(client: &Client, count: usize, together: usize) -> Vec<OpenAnswer> {
    let connections: Vec<Client> = (0..count.div_ceil(together)).map(|_| client.clone().on_new_connection()).collect();
    let one = |number: usize| {
        let client = connections.get(number / together).expect("one for each group");
        async move {
            let path = format!("/api/v1/namespaces/dev/configmaps?watch=true&labelSelector=idle%3D{number}");
            let answer = client.get(&path).open().await;
            assert_eq!(answer.status(), 200);
            answer
        }
    };
    stream::iter(0..count).map(one).buffer_unordered(OPENING).collect().await
}
