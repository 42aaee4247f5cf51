//! Raw requests by which somebody would get past the gate: each refused, with nothing forwarded, or forwarded as
//! exactly what was judged.
//!
//! One table a kind. A row is a name, the bytes that a client writes, the status that it reads (0: closed without an
//! answer), and what the API server has heard of it. All rows of a table meet one gate, so that a row also shows that the gate
//! lives on after those before it.

use witgate_tests::api_server::{ApiServer, Request};
use witgate_tests::authority::{Authority, client_tls};
use witgate_tests::gate::Gate;
use witgate_tests::raw_client::{RawAnswer, RawClient};

use crate::NOTHING;

/// A gate, its API server, and the rows that were not as they should be.
struct Table {
    api_server: ApiServer,
    gate: Gate,
    wrong: Vec<String>,
    rows_count: usize,
}

impl Table {
    async fn new() -> Self {
        let api_server = ApiServer::start().await;
        let gate = Gate::builder(&api_server).start().await;
        Self { api_server, gate, wrong: Vec::new(), rows_count: 0 }
    }

    /// A head of `line` with a good caller's token, these headers, and what is behind the head.
    fn request(&self, line: &str, headers: &str, behind: &str) -> Vec<u8> {
        let token = self.gate.token_of("jane");
        let close = if headers.to_ascii_lowercase().contains("connection:") { "" } else { "connection: close\r\n" };
        format!("{line}\r\nhost: gate\r\nauthorization: Bearer {token}\r\n{close}{headers}\r\n{behind}").into_bytes()
    }

    /// Writes `raw`; the gate must answer `status`, close, and send up just `heard`. Gives what the API server got.
    async fn check(&mut self, name: &str, raw: Vec<u8>, status: u16, heard: &[&str]) -> (RawAnswer, Vec<Request>) {
        self.rows_count += 1;
        let before = self.api_server.requests().len();
        let mut client = self.gate.raw_client().await;
        client.write(&raw).await;
        let answer = client.read_to_close().await;
        let got = answer.status.unwrap_or(0);
        let requests = self.api_server.requests().split_off(before);
        let sent: Vec<_> = requests.iter().map(|request| format!("{} {}", request.method, request.target)).collect();
        if (got, &sent[..]) != (status, &heard.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>()[..]) {
            self.wrong
                .push(format!("{name}: answered {got} instead of {status}; sent up {sent:?} instead of {heard:?}"));
        }
        (answer, requests)
    }

    /// A GET of the kubectl route with a path or headers that must be refused.
    async fn refused(&mut self, target: &str, headers: &str, status: u16) {
        let name = format!("GET {target} {headers:?}");
        let raw = self.request(&format!("GET {target} HTTP/1.1"), headers, "");
        self.check(&name, raw, status, &NOTHING).await;
    }

    /// A GET that goes up without the headers of these names.
    async fn stripped(&mut self, headers: &str, gone: &[&str]) {
        let raw = self.request("GET /k8s/clusters/one/version HTTP/1.1", headers, "");
        let (_, requests) = self.check(headers, raw, 200, &["GET /version"]).await;
        for request in requests {
            let known = ["host", "authorization"];
            let left: Vec<_> = request.header_names().into_iter().filter(|name| gone.contains(name)).collect();
            if !left.is_empty() || known.iter().any(|name| request.header(name).is_none()) {
                self.wrong.push(format!("{headers:?}: {:?} went up", request.header_names()));
            }
            if request.header("authorization").is_none_or(|value| value.contains(self.gate.token_of("jane"))) {
                self.wrong.push(format!("{headers:?}: the caller's token went up"));
            }
        }
    }

    #[track_caller]
    fn done(self, rows_count_min: usize) {
        assert!(self.wrong.is_empty(), "{} rows:\n{}", self.wrong.len(), self.wrong.join("\n"));
        assert!(self.rows_count >= rows_count_min, "{} rows", self.rows_count);
    }
}

const POST: &str = "POST /k8s/clusters/one/api/v1/namespaces HTTP/1.1";
const GET: &str = "GET /k8s/clusters/one/version HTTP/1.1";

/// Goal: no framing that two servers read in two ways gets a byte up. Method: each with a request behind it that must not be read.
#[tokio::test]
async fn smuggling_by_framing() {
    let mut table = Table::new().await;
    let second = "GET /k8s/clusters/one/smuggled HTTP/1.1\r\nhost: gate\r\n\r\n";
    for (name, headers, body) in [
        ("CL.TE", "content-length: 4\r\ntransfer-encoding: chunked\r\n", "0\r\n\r\n"),
        ("TE.CL", "transfer-encoding: chunked\r\ncontent-length: 4\r\n", "0\r\n\r\n"),
        ("TE.CL of 0", "transfer-encoding: chunked\r\ncontent-length: 0\r\n", "0\r\n\r\n"),
        ("TE.TE", "transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n", "0\r\n\r\n"),
        ("TE twice", "transfer-encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
        ("TE xchunked", "transfer-encoding: xchunked\r\n", "0\r\n\r\n"),
        ("TE chunked behind another", "transfer-encoding: gzip, chunked\r\n", "0\r\n\r\n"),
        ("TE chunked before another", "transfer-encoding: chunked, identity\r\n", "0\r\n\r\n"),
        ("TE identity", "transfer-encoding: identity\r\n", ""),
        ("TE quoted", "transfer-encoding: \"chunked\"\r\n", "0\r\n\r\n"),
        ("TE with VT", "transfer-encoding:\x0bchunked\r\n", "0\r\n\r\n"),
        ("TE empty", "transfer-encoding:\r\n", "0\r\n\r\n"),
        ("TE with a parameter", "transfer-encoding: chunked;a=b\r\n", "0\r\n\r\n"),
        ("TE with space before the colon", "transfer-encoding : chunked\r\n", "0\r\n\r\n"),
        ("TE folded", "transfer-encoding:\r\n chunked\r\n", "0\r\n\r\n"),
        ("TE hidden by LF", "x: y\ntransfer-encoding: chunked\r\n", "0\r\n\r\n"),
        ("TE hidden by CR", "x: y\rtransfer-encoding: chunked\r\n", "0\r\n\r\n"),
        ("TE with NUL", "transfer-encoding: chunked\0\r\n", "0\r\n\r\n"),
        ("CL twice, the same", "content-length: 4\r\ncontent-length: 4\r\n", "abcd"),
        ("CL twice", "content-length: 4\r\ncontent-length: 5\r\n", "abcd"),
        ("CL list", "content-length: 4, 4\r\n", "abcd"),
        ("CL with plus", "content-length: +4\r\n", "abcd"),
        ("CL negative", "content-length: -1\r\n", ""),
        ("CL hexadecimal", "content-length: 0x4\r\n", "abcd"),
        ("CL with a space inside", "content-length: 4 4\r\n", "abcd"),
        ("CL fraction", "content-length: 4.0\r\n", "abcd"),
        ("CL empty", "content-length:\r\n", ""),
        ("CL larger than 64 bits", "content-length: 18446744073709551620\r\n", "abcd"),
        ("CL with space before the colon", "content-length : 4\r\n", "abcd"),
        ("CL folded", "content-length: 4\r\n \r\n", "abcd"),
        ("first header folded", " x: y\r\n", ""),
        ("header folded by tab", "x: a\r\n\tb\r\n", ""),
        ("bare LF", "x: y\n", ""),
        ("bare LF ends the head", "x: y\r\n\n", ""),
        ("bare CR", "x: a\rb\r\n", ""),
        ("NUL in a value", "x: a\0b\r\n", ""),
        ("NUL in a name", "x\0: a\r\n", ""),
        ("control byte in a value", "x: a\x01b\r\n", ""),
        ("DEL in a value", "x: a\x7fb\r\n", ""),
        ("header without colon", "just text\r\n", ""),
        ("header without a name", ": x\r\n", ""),
        ("space in a name", "x y: z\r\n", ""),
        ("bytes over 127 in a name", "\u{e9}: z\r\n", ""),
    ] {
        let raw = table.request(POST, headers, &format!("{body}{second}"));
        let (answer, _) = table.check(name, raw, 400, &NOTHING).await;
        assert_eq!(answer.text.matches("HTTP/1.1 ").count(), 1, "{name}: {}", answer.text);
    }

    // What is plain, if odd, passes once.
    let http10 = format!("{}\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{second}", POST.replace("1.1", "1.0"));
    table.check("HTTP/1.0 with TE", http10.into_bytes(), 400, &NOTHING).await;
    let posted = ["POST /api/v1/namespaces"];
    let raw = table.request(POST, "content-length: \t4 \r\n", "abcd");
    table.check("CL between white space", raw, 200, &posted).await;
    let raw = table.request(POST, "Transfer_Encoding: chunked\r\ncontent-length: 4\r\n", "abcd");
    let (_, requests) = table.check("TE with an underscore", raw, 200, &posted).await;
    assert!(
        requests.iter().all(|request| request.header("transfer_encoding").is_none() && request.body.text() == "abcd")
    );
    let raw = table.request(GET, "content-length: 4\r\n", "abcd");
    let (_, requests) = table.check("GET with a body", raw, 200, &["GET /version"]).await;
    assert!(requests.iter().all(|request| request.body.text() == "abcd"));
    table.done(47);
}

/// Goal: a chunked body that is not plain ends the connection, the request it began never looks whole, and nothing behind
/// it is read as a request. Method: each body with a request behind it.
#[tokio::test]
async fn smuggling_by_chunks() {
    let api_server = ApiServer::start().await;
    let gate = Gate::builder(&api_server).start().await;
    let trailer = format!("0\r\nx: {}\r\n\r\n", "y".repeat(9000));
    let extension = format!("3;{}\r\nabc\r\n0\r\n\r\n", "y".repeat(20_000));
    let bodies = [
        "3;x=y\r\nabc\r\n0\r\n\r\n",
        "3;\r\nabc\r\n0\r\n\r\n",
        "3;a\nb\r\nabc\r\n0\r\n\r\n",
        "0x3\r\nabc\r\n0\r\n\r\n",
        "+3\r\nabc\r\n0\r\n\r\n",
        "-1\r\nabc\r\n0\r\n\r\n",
        " 3\r\nabc\r\n0\r\n\r\n",
        "3 \r\nabc\r\n0\r\n\r\n",
        "3\nabc\r\n0\r\n\r\n",
        "3\r\r\nabc\r\n0\r\n\r\n",
        "3\r\nabcd\r\n0\r\n\r\n",
        "3\r\nabc0\r\n\r\n",
        "3\r\nabc\n0\r\n\r\n",
        "\r\nabc\r\n0\r\n\r\n",
        "fffffffffffffffff\r\nabc\r\n0\r\n\r\n",
        "00000000000000000000000003\r\nabc\r\n0\r\n\r\n",
        &trailer,
        &extension,
    ];
    for (number, body) in bodies.iter().enumerate() {
        let token = gate.token_of("jane");
        let head = format!(
            "POST /k8s/clusters/one/api/v1/namespaces?case={number} HTTP/1.1\r\nhost: gate\r\nauthorization: Bearer {token}\r\n\
             transfer-encoding: chunked\r\n\r\n"
        );
        let mut client = gate.raw_client().await;
        client.write(format!("{head}{body}GET /k8s/clusters/one/smuggled HTTP/1.1\r\nhost: x\r\n\r\n")).await;
        let answer = client.read_to_close().await;

        assert!(answer.status.is_none_or(|status| status >= 400), "{body:.40?}: {}", answer.text);
        assert!(answer.text.matches("HTTP/1.1 ").count() <= 1, "{body:.40?}: {}", answer.text);
    }
    assert_eq!(gate.client_as("jane").get("/version").await.status(), 200);

    // The API server may tell of a body that broke off after the client was answered: so all are looked at in the end.
    let mut begun = api_server.requests();
    begun.retain(|request| request.target != "/version");
    for (number, body) in bodies.iter().enumerate() {
        let target = format!("/api/v1/namespaces?case={number}");
        let of_case: Vec<_> = begun.extract_if(.., |request| request.target == target).collect();
        assert!(of_case.len() <= 1, "{body:.40?}: {of_case:#?}");
        for request in of_case {
            assert_eq!(request.body.digest, None, "{body:.40?}: the body that broke off looks whole");
        }
    }
    assert!(begun.is_empty(), "smuggled: {begun:#?}");
}

/// Goal: a request line has one form. Method: the others.
#[tokio::test]
async fn forms_of_the_request_line() {
    let mut table = Table::new().await;
    for (line, status) in [
        ("GET http://gate/k8s/clusters/one/version HTTP/1.1", 400),
        ("GET http://api.example/version HTTP/1.1", 400),
        ("GET gate:80 HTTP/1.1", 400),
        ("OPTIONS * HTTP/1.1", 404),
        ("GET * HTTP/1.1", 404),
        ("GET k8s/clusters/one/version HTTP/1.1", 400),
        ("GET /k8s/clusters/one/version", 400),
        ("GET /k8s/clusters/one/version HTTP/0.9", 400),
        ("GET /k8s/clusters/one/version HTTP/1.2", 400),
        ("GET /k8s/clusters/one/version HTTP/2.0", 400),
        ("GET /k8s/clusters/one/version HTTP/1.1 ", 400),
        ("GET /k8s/clusters/one/version http/1.1", 400),
        ("GET  /k8s/clusters/one/version HTTP/1.1", 400),
        ("GET\t/k8s/clusters/one/version HTTP/1.1", 400),
        (" GET /k8s/clusters/one/version HTTP/1.1", 400),
        ("G\0T /k8s/clusters/one/version HTTP/1.1", 400),
        ("G@T /k8s/clusters/one/version HTTP/1.1", 400),
        ("PRI * HTTP/2.0", 400),
        ("CONNECT gate:443 HTTP/1.1", 405),
        ("CONNECT /k8s/clusters/one/version HTTP/1.1", 405),
        ("TRACE /k8s/clusters/one/version HTTP/1.1", 405),
        ("TRACK /k8s/clusters/one/version HTTP/1.1", 405),
        ("get /k8s/clusters/one/version HTTP/1.1", 405),
        ("Get /k8s/clusters/one/api/v1/pods HTTP/1.1", 405),
        ("BREW /k8s/clusters/one/api/v1/pods HTTP/1.1", 403),
        ("OPTIONS /k8s/clusters/one/api/v1/pods HTTP/1.1", 403),
    ] {
        let raw = table.request(line, "", "");
        table.check(line, raw, status, &NOTHING).await;
    }
    let token = table.gate.token_of("jane").to_owned();
    for (name, head, status) in [
        ("HTTP/0.9", "GET /k8s/clusters/one/version".to_owned(), 400),
        ("no host", format!("{GET}\r\nconnection: close\r\nauthorization: Bearer {token}"), 400),
        (
            "two hosts",
            format!("{GET}\r\nhost: a\r\nhost: b\r\nconnection: close\r\nauthorization: Bearer {token}"),
            400,
        ),
    ] {
        table.check(name, format!("{head}\r\n\r\n").into_bytes(), status, &NOTHING).await;
    }
    // Outside resources the verb is the method's name, whatever it is, so policies have judged it.
    let raw = table.request("BREW /k8s/clusters/one/version HTTP/1.1", "", "");
    table.check("a method of no resource", raw, 200, &["BREW /version"]).await;
    let raw = [b"\r\n\r\n".to_vec(), table.request(GET, "", "")].concat();
    table.check("empty lines before the request", raw, 200, &["GET /version"]).await;
    let close = format!("\r\n{}", String::from_utf8(table.request(GET, "", "")).unwrap());
    let raw = table.request(GET, "connection: keep-alive\r\ncontent-length: 6\r\n", &format!("abcdef{close}"));
    table.check("a body, and a request behind it", raw, 200, &["GET /version", "GET /version"]).await;
    let raw = table.request(GET, "connection: keep-alive\r\nx: a\nb\r\n", &close);
    table.check("a request behind one that is refused", raw, 400, &NOTHING).await;
    table.done(33);
}

/// Goal: each path that two readers read in two ways is 400, and what is merely odd goes up byte for byte. Method: rows.
#[tokio::test]
async fn tricks_with_the_path() {
    let mut table = Table::new().await;
    for path in [
        "/api/v1/namespaces/a%2Fb",
        "/api/v1/namespaces/a%2fb",
        "/a%5Cb",
        "/a%5cb",
        "/a\\b",
        "//api/v1/secrets",
        "/api//v1",
        "/api/v1//",
        "/./version",
        "/../version",
        "/api/v1/../../version",
        "/api/v1/..",
        "/%2e/version",
        "/%2e%2e/version",
        "/%2E%2E/version",
        "/.%2e/version",
        "/..;/version",
        "/..;a=b/version",
        "/%2e%2e;x/version",
        "/a%00",
        "/a%0a",
        "/a%0d%0aX-Remote-User:%20root",
        "/a%1f",
        "/a%7f",
        "/a%c2%85",
        "/a%ff",
        "/a%C0%AF",
        "/a%C3/%A9",
        "/a%252e",
        "/a%252F",
        "/a%25%32f",
        "/a%",
        "/a%2",
        "/a%zz",
        "/a%u002f",
        "/a#b",
        "/a?b#c",
        "/api/v1/nodes/n/proxy/../../secrets",
        "/api/v1/nodes/n/proxy/%2e%2e/x",
        "/api/v1/nodes/n/proxy/%252e%252e/x",
        "/api/v1/nodes/n/%70roxy/a%2Fb",
    ] {
        table.refused(&format!("/k8s/clusters/one{path}"), "", 400).await;
    }
    for (target, status) in [
        ("/api/kubernetes/proxy/../clusters", 400),
        ("/api/kubernetes/proxy/%2e%2e/clusters", 400),
        ("/api/kubernetes/proxy%2Fversion", 404),
        ("/api/kubernetes/clusters/../proxy/version", 404),
        ("/api/kubernetes//proxy/version", 404),
        ("/API/kubernetes/proxy/version", 404),
        ("/k8s/clusters/one/../one/version", 400),
        ("/k8s/clusters/../clusters/one/version", 404),
        ("/k8s/clusters/./one/version", 404),
        ("/k8s/clusters//version", 404),
        ("/k8s/clusters/", 404),
        ("/k8s//clusters/one/version", 404),
        ("/k8s/clusters/one%2Fversion", 404),
        ("/k8s/clusters/one%00/version", 404),
        ("/k8s/clusters/one%/version", 404),
        ("/k8s/clusters/%252e/version", 404),
        ("/k8s/clusters/one;a/version", 404),
        ("/k8s/clusters/ONE/version", 404),
        ("/%6b8s/clusters/one/version", 404),
        ("/../k8s/clusters/one/version", 404),
    ] {
        table.refused(target, "", status).await;
    }
    let raw = table.request("GET /k8s/clusters/one/caf\u{e9} HTTP/1.1", "", "");
    table.check("bytes over 127 in the path", raw, 400, &NOTHING).await;
    let mut raw = table.request("GET /k8s/clusters/one/a\u{1}b HTTP/1.1", "", "");
    table.check("a control byte in the path", raw.clone(), 400, &NOTHING).await;
    raw.iter_mut().filter(|byte| **byte == 1).for_each(|byte| *byte = 0xff);
    table.check("a path that is not UTF-8", raw, 400, &NOTHING).await;
    table.refused(&format!("/k8s/clusters/one/{}", "a".repeat(9000)), "", 400).await;
    table.refused(&format!("/k8s/clusters/{}/version", "a".repeat(300)), "", 404).await;

    for (asked, sent) in [
        ("/a;b=c/d", "/a;b=c/d"),
        ("/a./b../...", "/a./b../..."),
        ("/a%20b/%7Bc%7D", "/a%20b/%7Bc%7D"),
        ("/apis/x/v1/clusterroles/system%3Anode", "/apis/x/v1/clusterroles/system%3Anode"),
        (
            "/api/v1/pods?a=%0d%0aX-Remote-User:%20root&b=//../%00",
            "/api/v1/pods?a=%0d%0aX-Remote-User:%20root&b=//../%00",
        ),
        ("/api/v1/nodes/n/proxy/a%2Fb//c", "/api/v1/nodes/n/proxy/a%2Fb//c"),
        ("?x", "/?x"),
        ("", "/"),
    ] {
        let line = format!("GET /k8s/clusters/one{asked} HTTP/1.1");
        let raw = table.request(&line, "", "");
        table.check(&line, raw, 200, &[&format!("GET {sent}")]).await;
    }
    let raw = table.request("GET /k8s/clusters/%6fne/version HTTP/1.1", "", "");
    table.check("an escaped cluster name", raw, 200, &["GET /version"]).await;
    table.done(75);
}

/// Goal: nobody becomes somebody else by a header. Method: those that are refused, and those that end at the gate.
#[tokio::test]
async fn spoofed_identities() {
    let mut table = Table::new().await;
    for (headers, status) in [
        ("Impersonate-User: root\r\n", 403),
        ("impersonate-user: root\r\nimpersonate-group: system:masters\r\n", 403),
        ("IMPERSONATE-USER: root\r\n", 403),
        ("Impersonate-User: a\r\nImpersonate-User: b\r\n", 400),
        ("Impersonate-Group: system:masters\r\n", 400),
        ("Impersonate-Uid: 0\r\n", 400),
        ("Impersonate-Extra-Scopes: all\r\n", 400),
        ("Impersonate-User: a\r\nImpersonate-Extra-%zz: b\r\n", 400),
        ("Impersonate-Anything: x\r\n", 400),
        ("Impersonate_User: root\r\n", 400),
        ("impersonate_group: system:masters\r\n", 400),
        ("Impersonate-User: root\r\nconnection: impersonate-user, close\r\n", 403),
        ("Impersonate-User : root\r\n", 400),
        ("Impersonate-User: r\u{e9}\r\n", 400),
        ("Authorization: Bearer other\r\n", 400),
        ("AUTHORIZATION: Basic eDp5\r\n", 400),
        ("witgate-refused-framing: x\r\n", 400),
        ("Backstage-Kubernetes-Authorization-: t\r\n", 400),
        ("Backstage-Kubernetes-Authorization: a\r\nBackstage-Kubernetes-Authorization: b\r\n", 400),
        ("Backstage-Kubernetes-Authorization-Oidc: a\r\nBackstage-Kubernetes-Authorization-Oidc-X: b\r\n", 400),
        ("Host: other\r\n", 400),
    ] {
        table.refused("/k8s/clusters/one/version", headers, status).await;
    }
    for (headers, status) in [
        ("Backstage-Kubernetes-Cluster: one\r\nBackstage-Kubernetes-Cluster: one\r\n", 400),
        ("Backstage-Kubernetes-Cluster: one\r\nbackstage-kubernetes-cluster: two\r\n", 400),
        ("Backstage-Kubernetes-Cluster: one, two\r\n", 400),
        ("Backstage-Kubernetes-Cluster: ../one\r\n", 400),
        ("Backstage-Kubernetes-Cluster:\r\n", 400),
        ("Backstage-Kubernetes-Cluster: one\rX-Remote-User: root\r\n", 400),
        ("Backstage-Kubernetes-Cluster: one\nX-Remote-User: root\r\n", 400),
        ("Backstage-Kubernetes-Cluster: one%0d%0aX: y\r\n", 400),
        ("Backstage-Kubernetes-Cluster: on\u{e9}\r\n", 400),
        ("Backstage-Kubernetes-Cluster: ONE\r\n", 404),
    ] {
        table.refused("/api/kubernetes/proxy/version", headers, status).await;
    }
    for (headers, gone) in [
        ("X-Remote-User: root\r\n", "x-remote-user"),
        ("x-remote-GROUP: system:masters\r\n", "x-remote-group"),
        ("X-Remote-Extra-Scopes: all\r\n", "x-remote-extra-scopes"),
        ("X-Remote-Uid: 0\r\n", "x-remote-uid"),
        ("X_Remote_User: root\r\n", "x_remote_user"),
        ("X-Remote_User: root\r\n", "x-remote_user"),
        ("X-Forwarded-For: 127.0.0.1\r\n", "x-forwarded-for"),
        ("X-Forwarded-User: root\r\n", "x-forwarded-user"),
        ("X-Forwarded-Client-Cert: x\r\n", "x-forwarded-client-cert"),
        ("Forwarded: for=127.0.0.1\r\n", "forwarded"),
        ("X-Real-IP: 127.0.0.1\r\n", "x-real-ip"),
        ("Cookie: session=x\r\n", "cookie"),
        ("Proxy-Authorization: Basic eDp5\r\n", "proxy-authorization"),
        ("Witgate-Decision-Id: forged\r\n", "witgate-decision-id"),
        ("Backstage-Kubernetes-Authorization-Google: t\r\n", "backstage-kubernetes-authorization-google"),
        ("Backstage-Anything: t\r\n", "backstage-anything"),
        ("backstage_kubernetes_authorization: t\r\n", "backstage_kubernetes_authorization"),
        ("X-HTTP-Method-Override: DELETE\r\n", "x-http-method-override"),
        ("X-HTTP-Method: DELETE\r\n", "x-http-method"),
        ("X-Original-URL: /api/v1/secrets\r\n", "x-original-url"),
        ("X-Rewrite-URL: /api/v1/secrets\r\n", "x-rewrite-url"),
        ("Trailer: impersonate-user\r\n", "trailer"),
        ("Connection: close, authorization, host, X-A\r\nX-A: 1\r\n", "x-a"),
        ("Connection: close\r\nConnection: x-remote-user\r\nx-remote-user: root\r\n", "x-remote-user"),
        ("Connection: close, te\r\nTE: gzip\r\n", "te"),
        ("Keep-Alive: timeout=5\r\n", "keep-alive"),
        ("HTTP2-Settings: AAMAAABk\r\n", "http2-settings"),
        ("Upgrade: websocket\r\n", "upgrade"),
        ("Upgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\nConnection: close, HTTP2-Settings\r\n", "upgrade"),
    ] {
        table.stripped(headers, &[gone]).await;
    }
    let raw = table.request(GET, "X-A: caf\u{e9}\r\n", "");
    table.check("bytes over 127 in a value", raw, 200, &["GET /version"]).await;
    table.done(61);
}

/// Goal: trailers are headers that nobody looks at, so they end at the gate. Method: an identity in a chunked body's trailer.
#[tokio::test]
async fn a_trailer_carries_no_identity() {
    let mut table = Table::new().await;
    let raw = table.request(
        POST,
        "transfer-encoding: chunked\r\ntrailer: impersonate-user\r\n",
        "3\r\nabc\r\n0\r\nimpersonate-user: root\r\n\r\n",
    );
    let (_, requests) = table.check("an identity in the trailer", raw, 200, &["POST /api/v1/namespaces"]).await;
    assert!(requests.iter().all(|request| request.body.text() == "abc" && request.header("trailer").is_none()));
    table.done(1);
}

/// Goal: only a plain upgrade is one, and a refused one ends its connection. Method: each trick with a request behind it.
#[tokio::test]
async fn tricks_with_upgrades() {
    let mut table = Table::new().await;
    let websocket = "connection: upgrade\r\nupgrade: websocket\r\n";
    let exec = "/k8s/clusters/one/api/v1/namespaces/dev/pods/web/exec?command=sh";
    let behind = "GET /k8s/clusters/one/smuggled HTTP/1.1\r\nhost: gate\r\n\r\n";
    for (method, headers, body, status) in [
        ("GET", "connection: upgrade\r\nupgrade: websocket\r\nupgrade: h2c\r\n".to_owned(), "", 400),
        ("GET", "connection: upgrade\r\nupgrade: websocket, h2c\r\n".to_owned(), "", 400),
        (
            "GET",
            "connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABk\r\n".to_owned(),
            "",
            400,
        ),
        ("GET", "connection: upgrade\r\nupgrade: tls/1.0\r\n".to_owned(), "", 400),
        ("GET", "connection: upgrade\r\nupgrade: http/1.1\r\n".to_owned(), "", 400),
        ("PUT", websocket.to_owned(), "", 400),
        ("DELETE", websocket.to_owned(), "", 400),
        ("POST", format!("{websocket}content-length: 3\r\n"), "abc", 400),
        ("POST", format!("{websocket}transfer-encoding: chunked\r\n"), "0\r\n\r\n", 400),
        ("GET", format!("{websocket}origin: https://evil.example\r\n"), "", 403),
        ("GET", format!("{websocket}origin: null\r\n"), "", 403),
        ("GET", format!("{websocket}origin: http://gate.evil.example\r\n"), "", 403),
        ("GET", format!("{websocket}impersonate-user: root\r\n"), "", 403),
        (
            "GET",
            format!(
                "{websocket}sec-websocket-protocol: base64url.bearer.authorization.k8s.io.dA, v5.channel.k8s.io\r\n"
            ),
            "",
            400,
        ),
    ] {
        let raw = table.request(&format!("{method} {exec} HTTP/1.1"), &headers, &format!("{body}{behind}"));
        let (answer, _) = table.check(&format!("{method} {headers:?}"), raw, status, &NOTHING).await;
        assert_eq!(answer.text.matches("HTTP/1.1 ").count(), 1, "{headers:?}: {}", answer.text);
    }
    table.done(14);
}

/// Goal: a head has limits. Method: one more than each.
#[tokio::test]
async fn heads_that_are_too_large() {
    let mut table = Table::new().await;
    let long = |bytes: usize| format!("x: {}\r\n", "y".repeat(bytes));
    let many = |count: usize| (0..count).map(|index| format!("x-{index}: y\r\n")).collect::<String>();
    table.refused("/k8s/clusters/one/version", &long(17 * 1024), 431).await;
    table.refused("/k8s/clusters/one/version", &many(101), 431).await;
    table.refused("/k8s/clusters/one/version", &many(5000), 431).await;
    let raw = format!("GET /{} HTTP/1.1\r\n", "a".repeat(20 * 1024)).into_bytes();
    table.check("a request line longer than a head may be", raw, 431, &NOTHING).await;
    let raw = table.request(GET, &many(90), "");
    table.check("90 headers", raw, 200, &["GET /version"]).await;
    let raw = table.request(GET, &long(12 * 1024), "");
    table.check("a header of 12 KiB", raw, 200, &["GET /version"]).await;
    table.done(6);
}

/// Goal: a protocol is what TLS agreed on. Method: HTTP/2's preface where HTTP/1.1 was agreed, and the other way round.
#[tokio::test]
async fn the_wrong_protocol_after_tls() {
    let authority = Authority::new("gate");
    let api_server = ApiServer::start().await;
    let gate = Gate::builder(&api_server).tls(&authority, None).start().await;
    let authorization = format!("host: gate\r\nauthorization: Bearer {}\r\nconnection: close", gate.token_of("jane"));
    let request = format!("{GET}\r\n{authorization}\r\n\r\n");

    let mut client = RawClient::connect_tls(gate.address(), client_tls(&authority, None, &["http/1.1"])).await;
    client.write(format!("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n{request}")).await;
    assert_eq!(client.read_to_close().await.status, Some(400));

    let mut client = RawClient::connect_tls(gate.address(), client_tls(&authority, None, &["h2"])).await;
    client.write(&request).await;
    assert_eq!(client.read_to_close().await.status, None);

    assert_eq!(api_server.heard(), NOTHING);
    assert_eq!(gate.client_as("jane").get("/version").await.status(), 200);
}
