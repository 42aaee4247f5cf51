//! API servers that close HTTP/2 connections in good order: what is retried, what is the client's to send again, and
//! what goes on.

use witgate_tests::authority::Authority;
use witgate_tests::gate::Gate;
use witgate_tests::http2_server::{Http2Connection, Http2Server, RequestHead};

const PODS: &str = "/api/v1/namespaces/dev/pods";

/// How a server says that it did not look at a request.
#[derive(Clone, Copy, Debug)]
enum NotLookedAt {
    GoAway,
    RefusedStream,
}

impl NotLookedAt {
    async fn say(self, connection: &mut Http2Connection, request: RequestHead) {
        match self {
            Self::GoAway => connection.go_away(request.stream - 1).await,
            Self::RefusedStream => connection.refuse(request.stream).await,
        }
    }
}

/// Goal: a request without a body that was not looked at reaches the API server on another connection, whatever its
/// method. Method: rows of method and refusal; the second connection answers.
#[tokio::test]
async fn a_request_without_a_body_that_was_not_looked_at_is_sent_again() {
    for (method, refusal) in
        [("GET", NotLookedAt::GoAway), ("DELETE", NotLookedAt::GoAway), ("GET", NotLookedAt::RefusedStream)]
    {
        let peer = Http2Server::start(&Authority::new("cluster")).await;
        let gate = Gate::without_clusters().cluster(peer.cluster("one")).start().await;
        let jane = gate.client_as("jane");

        let (answer, _connections) = tokio::join!(jane.call(method, PODS).into_future(), async {
            let mut first = peer.accept().await;
            let request = first.next_request().await;
            refusal.say(&mut first, request).await;
            let mut second = peer.accept().await;
            let again = second.next_request().await;
            assert_eq!(again.method, request.method);
            second.answer(again.stream, "done").await;
            (first, second)
        });

        assert_eq!(answer.summary(), "200 done", "{method} {refusal:?}");
    }
}

/// Goal: a body that is gone is the client's to send again. Method: rows of refusals; the answer says when.
#[tokio::test]
async fn a_request_with_a_body_that_was_not_looked_at_is_429() {
    for refusal in [NotLookedAt::GoAway, NotLookedAt::RefusedStream] {
        let peer = Http2Server::start(&Authority::new("cluster")).await;
        let gate = Gate::without_clusters().cluster(peer.cluster("one")).start().await;
        let jane = gate.client_as("jane");

        let (answer, _connection) = tokio::join!(jane.post(PODS, "{}").into_future(), async {
            let mut first = peer.accept().await;
            let request = first.next_request().await;
            assert_eq!(request.method, "POST");
            refusal.say(&mut first, request).await;
            first
        });

        assert_eq!((answer.status(), answer.header("retry-after")), (429, Some("1")), "{refusal:?}: {}", answer.body());
        assert!(!peer.has_another_connection().await, "{refusal:?}: a POST is not sent again");
    }
}

/// Goal: GOAWAY ends nothing that was looked at: a watch goes on where it is, the next request elsewhere.
#[tokio::test]
async fn a_watch_goes_on_while_new_requests_go_elsewhere() {
    let peer = Http2Server::start(&Authority::new("cluster")).await;
    let gate = Gate::without_clusters().cluster(peer.cluster("one")).start().await;
    let jane = gate.client_as("jane");

    let (mut watch, (mut first, watched)) =
        tokio::join!(jane.get("/api/v1/namespaces/dev/pods?watch=1").open(), async {
            let mut first = peer.accept().await;
            let watched = first.next_request().await.stream;
            first.answer_head(watched).await;
            (first, watched)
        });
    first.go_away(watched).await;
    first.data(watched, "event one").await;
    assert_eq!(watch.next_piece().await.unwrap().unwrap(), "event one");

    let other = gate.client_as("john");
    let (answer, _second) = tokio::join!(other.post(PODS, "{}").into_future(), async {
        let mut second = peer.accept().await;
        let request = second.next_request().await;
        second.answer(request.stream, "done").await;
        second
    });

    assert_eq!(answer.summary(), "200 done", "a POST that was never written is sent on the new connection");
    first.data(watched, "event two").await;
    assert_eq!(watch.next_piece().await.unwrap().unwrap(), "event two");
    first.last_data(watched, "").await;
    assert!(watch.next_piece().await.is_none_or(|piece| piece.unwrap().is_empty()));
}

/// Goal: what may have been looked at is not sent again. Method: GOAWAY that names the stream as looked at, and a
/// connection that ends.
#[tokio::test]
async fn a_request_that_may_have_been_looked_at_is_not_sent_again() {
    for method in ["GET", "DELETE", "POST"] {
        let peer = Http2Server::start(&Authority::new("cluster")).await;
        let gate = Gate::without_clusters().cluster(peer.cluster("one")).start().await;
        let jane = gate.client_as("jane");

        let (answer, ()) = tokio::join!(jane.call(method, PODS).body("{}").into_future(), async {
            let mut first = peer.accept().await;
            let request = first.next_request().await;
            first.go_away(request.stream).await;
        });

        assert_eq!(answer.status(), 502, "{method}: {}", answer.body());
        assert!(!peer.has_another_connection().await, "{method}");
    }
}

/// Goal: retries end. Method: a server that refuses whatever comes.
#[tokio::test]
async fn a_server_that_refuses_everything_is_asked_three_times() {
    let peer = Http2Server::start(&Authority::new("cluster")).await;
    let gate = Gate::without_clusters().cluster(peer.cluster("one")).start().await;
    let jane = gate.client_as("jane");

    let (answer, _connections) = tokio::join!(jane.get(PODS).into_future(), async {
        let mut connections = Vec::new();
        for _ in 0..3 {
            let mut connection = peer.accept().await;
            let request = connection.next_request().await;
            connection.refuse(request.stream).await;
            connections.push(connection);
        }
        connections
    });

    assert_eq!((answer.status(), answer.header("retry-after")), (429, Some("1")));
    assert!(!peer.has_another_connection().await);
}
