//! Streams over each pair of protocols: every part at once, trailers, backpressure, cancellation both ways, and no cut
//! body that looks complete.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;
use witgate_tests::api_server::{ApiServer, Reply, Request};
use witgate_tests::authority::{Authority, client_tls};
use witgate_tests::body::BodyWriter;
use witgate_tests::broken_upstream::{BrokenUpstream, Fault};
use witgate_tests::client::{BACKSTAGE_PROXY, Client};
use witgate_tests::cluster::Cluster;
use witgate_tests::gate::Gate;
use witgate_tests::upgrade_peer::UpgradePeer;
use witgate_tests::waiting::{until, within};

const WATCH: &str = "/api/v1/namespaces/dev/pods?watch=true";
const PODS: &str = "/api/v1/namespaces/dev/pods";

/// How soon the end of one side must reach the other.
const A_SECOND: Duration = Duration::from_secs(1);

/// The client's protocol and the API server's.
const PAIRS: [(&str, &str); 4] = [("http/1.1", "http/1.1"), ("http/1.1", "h2"), ("h2", "http/1.1"), ("h2", "h2")];

/// A gate between a client and an API server, each of its protocol. The server gives `replies`, then empty lists.
struct Between {
    // Kept alive to the end of the test.
    _gate: Gate,
    api_server: ApiServer,
    jane: Client,
}

impl Between {
    async fn start((downstream, upstream): (&str, &str), replies: impl IntoIterator<Item = Reply>) -> Self {
        let (gate_s, cluster_s) = (Authority::new("gate"), Authority::new("cluster"));
        let api_server = ApiServer::replying(replies);
        let api_server = if upstream == "h2" { api_server.tls(&cluster_s) } else { api_server };
        let api_server = api_server.start().await;
        let gate = Gate::builder(&api_server).tls(&gate_s, None).start().await;
        let client = Client::new(gate.address(), Some(client_tls(&gate_s, None, &[downstream])));
        let jane = client.with_token(gate.token_of("jane")).backstage("one");
        Self { _gate: gate, api_server, jane }
    }

    async fn streaming(pair: (&str, &str)) -> (Self, BodyWriter) {
        let (reply, writer) = Reply::streamed();
        (Self::start(pair, [reply.header("trailer", "x-checksum")]).await, writer)
    }
}

#[tokio::test]
async fn each_event_passes_at_once_and_trailers_at_the_end() {
    for pair in PAIRS {
        let (between, writer) = Between::streaming(pair).await;
        let mut answer = between.jane.get(WATCH).header("te", "trailers").open().await;
        for index in 0..20 {
            let event = format!("{{\"index\":{index}}}\n");
            writer.write(event.clone()).await;
            // The next event is written only when this one has arrived: nothing may wait for it.
            assert_eq!(answer.next_piece().await.unwrap().unwrap(), event, "{pair:?}");
        }
        writer.end_with_trailers([("x-checksum".parse().unwrap(), "abc".parse().unwrap())].into_iter().collect()).await;
        let answer = answer.whole().await;
        assert_eq!((answer.body(), answer.trailer("x-checksum")), ("", Some("abc")), "{pair:?}");
    }
}

/// Over HTTP/1.1 the client closes; over HTTP/2 it resets its stream, and the connection goes on.
#[tokio::test]
async fn a_caller_who_leaves_a_silent_watch_ends_it_upstream_within_a_second() {
    for pair in PAIRS {
        let (between, writer) = Between::streaming(pair).await;
        let answer = between.jane.get(WATCH).open().await;

        drop(answer);

        within(A_SECOND, &format!("{pair:?}: the upstream request ends"), writer.left()).await;
        assert_eq!(between.jane.get(PODS).await.status(), 200, "{pair:?}");
    }
}

#[tokio::test]
async fn a_caller_who_leaves_before_the_answer_ends_the_request_upstream_within_a_second() {
    let authority = Authority::new("gate");
    for protocol in ["http/1.1", "h2"] {
        let silent = UpgradePeer::saying("").start().await;
        let gate = Gate::without_clusters().cluster(silent.cluster("anonymous")).tls(&authority, None).start().await;
        let client = Client::new(gate.address(), Some(client_tls(&authority, None, &[protocol])));
        let jane = client.with_token(gate.token_of("jane")).backstage("one");
        let waiting = tokio::spawn(async move { jane.get(WATCH).try_open().await.map(drop) });
        let whole = |head: String| head.ends_with("\r\n\r\n");
        silent.wait_for("the request waits", |heard| heard.iter().any(|heard| whole(heard.head()))).await;

        waiting.abort();

        within(A_SECOND, &format!("{protocol}: the upstream connection ends"), silent.ended(1)).await;
    }
}

#[tokio::test]
async fn an_upload_that_the_caller_breaks_off_is_broken_upstream() {
    for pair in PAIRS {
        let between = Between::start(pair, []).await;
        let (call, writer) = between.jane.call("POST", PODS).streamed_body();
        let half_arrived = |requests: &[Request]| requests.iter().any(|request| request.body.bytes_count == 14);
        let upload = async {
            writer.write("the first half").await;
            between.api_server.wait_for("half of the upload", half_arrived).await;
            writer.abort().await;
        };
        let (answer, ()) = tokio::join!(call.try_open(), upload);
        assert!(answer.is_err(), "{pair:?}");

        let broken = |requests: &[Request]| requests.iter().all(|request| request.body.broken);
        let told = between.api_server.wait_for("the upload is broken", broken);
        within(A_SECOND, &format!("{pair:?}: the upload is broken"), told).await;
        assert_eq!(between.api_server.requests().len(), 1, "{pair:?}: an upload is not sent again");
    }
}

#[tokio::test]
async fn a_body_that_the_api_server_breaks_off_never_looks_complete() {
    for pair in PAIRS {
        for path in [PODS, WATCH] {
            let (between, writer) = Between::streaming(pair).await;
            let mut answer = between.jane.get(path).open().await;
            writer.write("half").await;
            assert_eq!(answer.next_piece().await.unwrap().unwrap(), "half", "{pair:?}");
            writer.abort().await;
            assert!(answer.next_piece().await.unwrap().is_err(), "{pair:?} {path}: the answer looks complete");
        }
    }
}

/// On the wire: a chunked body has no last chunk, one with a length is short.
#[tokio::test]
async fn a_cut_body_is_cut_on_the_wire() {
    for answer in [
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello",
    ] {
        let upstream = BrokenUpstream::start(Fault::WriteThenClose(answer)).await;
        let cluster = Cluster::at_url("one", &upstream.url(), "anonymous");
        let gate = Gate::without_clusters().cluster(cluster).start().await;
        let token = gate.token_of("jane");
        let mut raw = gate.raw_client().await;

        raw.write(format!(
            "GET {BACKSTAGE_PROXY}{PODS} HTTP/1.1\r\nhost: gate\r\nauthorization: Bearer {token}\r\n\r\n"
        ))
        .await;

        let answer = raw.read_to_close().await;
        assert!(answer.text.trim_end().ends_with("hello"), "{}", answer.text);
    }
}

/// A stream may live as long as it likes; only an answer that is none has a limit between two parts.
#[tokio::test]
async fn a_silent_watch_outlives_every_timeout_and_a_silent_list_does_not() {
    let (watch, watch_writer) = Reply::streamed();
    let (list, list_writer) = Reply::streamed();
    let api_server = ApiServer::replying([watch, list]).start().await;
    let limits = json!({ "headerTimeoutMs": 200, "idleTimeoutMs": 200 });
    let gate = Gate::builder(&api_server).set("upstream", limits).start().await;
    let jane = gate.client_as("jane");
    let other = jane.clone().on_new_connection();
    let mut watch = jane.get(WATCH).open().await;
    let mut list = other.get(PODS).open().await;

    // The list's limit has passed when it ends; the watch began before it.
    assert!(list.next_piece().await.unwrap().is_err());
    list_writer.left().await;

    watch_writer.write("event").await;
    assert_eq!(watch.next_piece().await.unwrap().unwrap(), "event");
}

/// A reader who does not read holds a bounded part of the answer, and nobody else up.
#[tokio::test]
async fn a_slow_reader_costs_bounded_memory_and_nobody_else() {
    const MIB: usize = 1024 * 1024;
    for pair in PAIRS {
        let (between, writer) = Between::streaming(pair).await;
        let slow = between.jane.get(PODS).open().await;
        let written = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&written);
        let flood = tokio::spawn(async move {
            for _ in 0..64 {
                writer.write(vec![b'x'; MIB]).await;
                counted.fetch_add(1, Ordering::Relaxed);
            }
        });

        // The flood rests when it did not move while another reader was answered many times.
        let other = between.jane.clone().on_new_connection();
        let mut last = usize::MAX;
        until("the flood stops", || {
            let now = written.load(Ordering::Relaxed);
            let rests = now == last;
            last = now;
            let other = other.clone();
            async move {
                for _ in 0..10 {
                    assert_eq!(other.get(PODS).await.status(), 200);
                }
                rests.then_some(())
            }
        })
        .await;

        let held = written.load(Ordering::Relaxed);
        assert!(held < 32 && !flood.is_finished(), "{pair:?}: {held} MiB went into the gate and the sockets");
        flood.abort();
        drop(slow);
    }
}
