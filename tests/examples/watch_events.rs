//! Measures what the gate adds to the way of a watch's events: `cargo run --release --example watch_events -- [PAIRS [SECONDS]]`.
//!
//! A fake API server writes 1,000 events of 1 KB a second, in turn to 100 watches, for SECONDS (10): first to clients of
//! its own, then to clients of the gate, PAIRS times (3). An event holds the time when it was written, and its client tells how
//! long it took. TLS on all legs; HTTP/1.1 to the clients, HTTP/2 between the gate and the API server.
//!
//! The gate is `target/debug/witgate`, or what `WITGATE_BIN` names: a figure for the record is that of a release build.
//! It is a measurement and no test: nothing asserts the result, because the machine decides it too.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::time::{MissedTickBehavior, interval};
use witgate_tests::api_server::{ApiServer, Reply};
use witgate_tests::authority::{Authority, client_tls};
use witgate_tests::body::BodyWriter;
use witgate_tests::client::{Client, OpenAnswer};
use witgate_tests::cluster::Cluster;
use witgate_tests::gate::Gate;

const WATCHES: usize = 100;
const EVENTS_A_SECOND: u64 = 1000;
const EVENT_BYTES: usize = 1024;

/// How long events took from being written to being read.
struct Latency {
    p50: Duration,
    p99: Duration,
}

type Writers = Arc<Mutex<Vec<BodyWriter>>>;

#[tokio::main]
async fn main() {
    let mut numbers = std::env::args().skip(1).map(|text| text.parse::<u64>().expect("a number"));
    let (pairs, seconds) = (numbers.next().unwrap_or(3), numbers.next().unwrap_or(10));
    let writers = Writers::default();
    let (cluster, gates) = (Authority::new("cluster"), Authority::new("gate"));
    let api_server = ApiServer::answering({
        let writers = Arc::clone(&writers);
        move |_| {
            let (reply, writer) = Reply::streamed();
            writers.lock().unwrap().push(writer);
            reply
        }
    });
    let api_server = api_server.tls(&cluster).start().await;
    let gate = Gate::without_clusters().cluster(Cluster::at("rig", &api_server, "anonymous")).tls(&gates, None);
    let gate = gate.start().await;
    let direct = Client::new(api_server.address(), Some(client_tls(&cluster, None, &["http/1.1"])));
    let through = Client::new(gate.address(), Some(client_tls(&gates, None, &["http/1.1"])));
    let through = through.with_token(gate.token_of("jane")).kubernetes("rig");

    println!("{EVENTS_A_SECOND} events a second to {WATCHES} watches for {seconds} s");
    let (mut added_p50, mut added_p99) = (Vec::new(), Vec::new());
    for _ in 0..pairs {
        let direct = measure("direct", &direct, &writers, seconds).await;
        let through = measure("gate", &through, &writers, seconds).await;
        added_p50.push(through.p50.as_secs_f64() - direct.p50.as_secs_f64());
        added_p99.push(through.p99.as_secs_f64() - direct.p99.as_secs_f64());
    }
    let median = |mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        at_percent(&values, 50) * 1e6
    };
    println!("added, medians of {pairs}: p50 {:.0} µs, p99 {:.0} µs", median(added_p50), median(added_p99));
}

async fn measure(name: &str, client: &Client, writers: &Writers, seconds: u64) -> Latency {
    let open = (0..WATCHES).map(|number| {
        let client = client.clone().on_new_connection();
        async move { client.get(&format!("/api/v1/configmaps?watch=true&fieldSelector=n%3D{number}")).open().await }
    });
    let answers = join_all(open).await;
    let began = Instant::now();
    let readers: Vec<_> = answers.into_iter().map(|answer| tokio::spawn(read(answer, began))).collect();
    let writers = std::mem::take(&mut *writers.lock().unwrap());
    let mut ticks = interval(Duration::from_micros(1_000_000 / EVENTS_A_SECOND));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    for writer in writers.iter().cycle().take((EVENTS_A_SECOND * seconds) as usize) {
        ticks.tick().await;
        let written = began.elapsed().as_nanos();
        writer.write(format!("{written:<width$}\n", width = EVENT_BYTES - 1)).await;
    }
    drop(writers);
    let mut latencies: Vec<Duration> =
        join_all(readers).await.into_iter().flat_map(|read| read.expect("a client reads to the end")).collect();
    assert_eq!(latencies.len() as u64, EVENTS_A_SECOND * seconds, "each event came once");
    latencies.sort_unstable();
    let latency = Latency { p50: at_percent(&latencies, 50), p99: at_percent(&latencies, 99) };
    println!("{name}: p50 {:?}, p99 {:?}, the longest {:?}", latency.p50, latency.p99, latencies.last().unwrap());
    latency
}

fn at_percent<T: Copy>(sorted: &[T], percent: usize) -> T {
    *sorted.get(sorted.len() * percent / 100).expect("there are some")
}

/// How long each event took, to the end of the watch.
async fn read(mut answer: OpenAnswer, began: Instant) -> Vec<Duration> {
    assert_eq!(answer.status(), 200);
    let mut latencies = Vec::new();
    let mut text = String::new();
    while let Some(piece) = answer.next_piece().await {
        text.push_str(&piece.expect("a watch ends well"));
        while let Some((event, rest)) = text.split_once('\n') {
            let written = Duration::from_nanos(event.trim_end().parse().expect("the time when it was written"));
            latencies.push(began.elapsed().saturating_sub(written));
            text = rest.to_owned();
        }
    }
    latencies
}
