//! The limits towards API servers, each reached.

use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use witgate_tests::api_server::{ApiServer, Reply};
use witgate_tests::body::BodyWriter;
use witgate_tests::broken_upstream::{BrokenUpstream, Fault};
use witgate_tests::cluster::Cluster;
use witgate_tests::gate::Gate;
use witgate_tests::waiting::{soon, until};

const PODS: &str = "/api/v1/namespaces/dev/pods";

#[tokio::test]
async fn a_cluster_with_all_its_places_taken_is_503() {
    let upstream = BrokenUpstream::start(Fault::Silent).await;
    let cluster = Cluster::at_url("one", &upstream.url(), "anonymous");
    let gate = Gate::without_clusters().cluster(cluster).set("upstream", json!({ "inFlightMax": 1 })).start().await;
    let first = gate.client_as("jane");
    let waiting = tokio::spawn(async move { first.get(PODS).try_open().await.map(drop) });
    until("the place is taken", || async { (upstream.heads_count() == 1).then_some(()) }).await;

    let refused = gate.client_as("jane").get(PODS).await;

    assert_eq!((refused.status(), refused.header("retry-after")), (503, Some("1")), "{}", refused.body());
    waiting.abort();
    until("the place is free", || async {
        let caller = gate.client_as("jane");
        let waiting = tokio::spawn(async move { caller.get(PODS).try_open().await.map(drop) });
        let taken = upstream.heads_count();
        let next = until("an answer or a request upstream", || async {
            (waiting.is_finished() || upstream.heads_count() > taken).then(|| !waiting.is_finished())
        });
        let got_through = next.await;
        waiting.abort();
        got_through.then_some(())
    })
    .await;
}

/// Goal: no more connections rest than may. Method: two at once need two; of these one rests, so the next two need one more.
#[tokio::test]
async fn no_more_connections_rest_than_may() {
    let (replies, writers): (Vec<Reply>, Vec<BodyWriter>) = (0..4).map(|_| Reply::streamed()).unzip();
    let api_server = ApiServer::replying(replies).start().await;
    let gate = Gate::builder(&api_server).set("upstream", json!({ "poolIdleMax": 1 })).start().await;
    let mut writers = writers.into_iter();

    for expected in [2, 3] {
        let (one, other) = (gate.client_as("jane"), gate.client_as("john"));
        let answers = [one.get(PODS).open().await, other.get(PODS).open().await];
        for (answer, writer) in answers.into_iter().zip(writers.by_ref()) {
            drop(writer);
            answer.whole().await;
        }
        assert_eq!(api_server.connections_count(), expected);
    }
}

/// Goal: a connection that rests too long is closed, though no request comes. Method: an API server that waits for its end.
#[tokio::test]
async fn a_connection_that_rests_too_long_is_closed() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let cluster = Cluster::at_url("one", &url, "anonymous");
    let gate =
        Gate::without_clusters().cluster(cluster).set("upstream", json!({ "poolIdleTimeoutMs": 200 })).start().await;
    let jane = gate.client_as("jane");

    let (answer, mut connection) = tokio::join!(jane.get(PODS).into_future(), async {
        let (mut connection, _) = listener.accept().await.unwrap();
        read_head(&mut connection).await;
        connection.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        connection
    });

    assert_eq!(answer.status(), 200);
    let ended = soon("the gate closes the connection", connection.read(&mut [0; 1])).await;
    assert_eq!(ended.unwrap(), 0);
}

/// An answer that stalls is cut, and does not look complete.
#[tokio::test]
async fn an_answer_that_stalls_is_cut() {
    let (reply, writer) = Reply::streamed();
    let api_server = ApiServer::replying([reply]).start().await;
    let gate = Gate::builder(&api_server).set("upstream", json!({ "idleTimeoutMs": 300 })).start().await;
    let jane = gate.client_as("jane");

    let mut answer = jane.get(PODS).open().await;
    writer.write("first").await;
    assert_eq!(answer.next_piece().await.unwrap().unwrap(), "first");

    assert!(answer.next_piece().await.unwrap().is_err());
    witgate_tests::waiting::within(Duration::from_secs(5), "the upstream request ends", writer.left()).await;
}

/// Goal: a connection that the API server closes as the next request is on its way costs a GET nothing, and a POST is
/// not sent twice. Method: an API server that reads a second request's head and closes.
#[tokio::test]
async fn a_stale_connection_costs_a_get_nothing_and_no_post_is_sent_twice() {
    for (method, expected, heads) in [("GET", 200, 3), ("POST", 502, 2)] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let gate = Gate::without_clusters().cluster(Cluster::at_url("one", &url, "anonymous")).start().await;
        let jane = gate.client_as("jane");
        let (counted, mut count) = tokio::sync::mpsc::unbounded_channel();
        tokio::spawn(async move {
            loop {
                let (mut connection, _) = listener.accept().await.unwrap();
                read_head(&mut connection).await;
                counted.send(()).unwrap();
                connection.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
                read_head(&mut connection).await;
                counted.send(()).unwrap();
            }
        });

        assert_eq!(jane.get(PODS).await.status(), 200);
        let second = jane.call(method, PODS).await;

        assert_eq!(second.status(), expected, "{method}: {}", second.body());
        let mut seen = 0;
        while count.try_recv().is_ok() {
            seen += 1;
        }
        assert_eq!(seen, heads, "{method}");
    }
}

async fn read_head(connection: &mut TcpStream) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match connection.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
}
