//! kubectl's streams through the gate, by WebSocket and by SPDY: `exec`, `attach`, `cp`, `port-forward`, `logs -f`.
//!
//! The fake kubelet's own log says by which protocol a stream came, so that neither transport can stand in for the other.
//! Where the rig or kubectl is not on the machine, these tests say so and pass.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use witgate_tests::authority::{Authority, client_tls};
use witgate_tests::client::Client;
use witgate_tests::gate::Gate;
use witgate_tests::kube_rig::{self, KubeRig};
use witgate_tests::kubectl::{Kubectl, Transport};
use witgate_tests::waiting::{SOON, soon};

/// Both transports.
const TRANSPORTS: [Transport; 2] = [Transport::WebSocket, Transport::Spdy];

/// The parts of a run, or the end of the test.
macro_rules! run_or_skip {
    ($policies:expr) => {
        match Run::start($policies).await {
            Ok(run) => run,
            Err(why) => return println!("skipped: {why}"),
        }
    };
}

/// What a command in the container does: its arguments, its input, and the exit code, output and errors that must come.
type Row<'a> = (&'a [&'a str], Option<&'a str>, i32, &'a str, &'a str);

#[tokio::test]
async fn exec_carries_input_output_errors_and_the_exit_code() {
    let run = run_or_skip!(&[]);
    let long = "y\n".repeat(1 << 20);
    let exit_7 = "command terminated with exit code 7";
    let not_found = "fake: none: not found\ncommand terminated with exit code 127";
    let much = "y\n".repeat(1 << 21);
    let rows: [Row<'_>; 7] = [
        (&["echo", "hello", "there"], None, 0, "hello there", ""),
        (&["exit", "7"], None, 7, "", exit_7),
        (&["stderr", "bad", "news"], None, 0, "", "bad news"),
        (&["none"], None, 127, "", not_found),
        (&["cat"], Some("typed in"), 0, "typed in", ""),
        (&["cat"], Some(&long), 0, long.trim_end(), ""), // 2 MiB there and back
        (&["yes", "4194304"], None, 0, much.trim_end(), ""),
    ];

    for transport in TRANSPORTS {
        for row in &rows {
            run.check(transport, row).await;
        }
    }
}

#[tokio::test]
async fn exec_on_a_terminal_carries_its_size_and_what_is_typed() {
    let run = run_or_skip!(&[]);

    for transport in TRANSPORTS {
        let kubectl = run.kubectl(transport);
        let arguments = ["exec", "-it", "-n", "dev", "run-2", "--", "sh"];
        let (process, mut terminal) = match kubectl.start_on_terminal(111, 33, &arguments) {
            Ok(started) => started,
            Err(why) => return println!("skipped: {why}"),
        };
        let line_with = |text: &'static str| move |line: &str| line.contains(text).then_some(());
        process.stdout.wait_for("the terminal's size", 1, line_with("[resize 111x33]")).await;
        terminal.write_all(b"echo typed\n").unwrap();
        process.stdout.wait_for("the answer", 1, |line| (line.trim_end() == "typed").then_some(())).await;
        terminal.write_all(b"exit 5\n").unwrap();

        let ended = process.ended().await;
        assert_eq!(ended.code, Some(5), "{transport:?}: {}{}", ended.stdout, ended.stderr);
    }
}

#[tokio::test]
async fn attach_follows_what_runs() {
    let run = run_or_skip!(&[]);

    for transport in TRANSPORTS {
        let kubectl = run.kubectl(transport);
        let attached = kubectl.start(&["attach", "-n", "dev", "run-3"]);
        for tick in ["tick 0", "tick 1", "tick 2"] {
            attached.stdout.wait_for(tick, 1, |line| (line == tick).then_some(())).await;
        }
        attached.terminate();
        run.assert_transport(transport, "/attach/dev/run-3/");
    }
}

/// `kubectl cp` is `tar` at both ends of an exec: an archive with bytes of every value there, and the same one back.
#[tokio::test]
async fn cp_brings_a_file_there_and_back() {
    let run = run_or_skip!(&[]);
    if let Err(why) = run.rig.containers_have_tar() {
        return println!("skipped: {why}");
    }
    let bytes: Vec<u8> = (0..3_000_000_u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8).collect();

    for transport in TRANSPORTS {
        let kubectl = run.kubectl(transport);
        let name = format!("{transport:?}.bin");
        std::fs::write(kubectl.folder().join(&name), &bytes).unwrap();
        let in_container = format!("dev/run-1:{name}");
        kubectl.succeed(&["cp", &name, &in_container]).await;
        kubectl.succeed(&["cp", &in_container, "back.bin"]).await;
        let back = std::fs::read(kubectl.folder().join("back.bin")).unwrap();
        assert!(back == bytes, "{transport:?}: {} of {} bytes came back, or others", back.len(), bytes.len());
        run.assert_transport(transport, &format!("command={name}"));
    }
}

/// Data both ways on several connections of one port-forward, and half a connection closed: the rest still comes.
#[tokio::test]
async fn port_forward_carries_both_ways_and_half_closes() {
    let run = run_or_skip!(&[]);

    for transport in TRANSPORTS {
        let kubectl = run.kubectl(transport);
        let forward = kubectl.start(&["port-forward", "-n", "dev", "pod/run-0", ":7", ":8080"]);
        let port_of = |line: &str| {
            let (local, remote) = line.strip_prefix("Forwarding from 127.0.0.1:")?.split_once(" -> ")?;
            Some((remote.parse::<u16>().ok()?, local.parse::<u16>().ok()?))
        };
        let ports = forward.stdout.wait_for("both ports", 2, port_of).await;
        let local = |wanted: u16| ports.iter().find(|(remote, _)| *remote == wanted).expect("both were named").1;
        let (echo, http) = (local(7), local(8080));

        let busy = (0..4_u8).map(|number| tokio::task::spawn_blocking(move || echo_rounds(echo, number)));
        for one in busy.collect::<Vec<_>>() {
            soon("the busy connections", one).await.unwrap();
        }
        let ask = move || exchange(http, b"GET /x HTTP/1.1\r\n\r\n");
        let answer = soon("an answer", tokio::task::spawn_blocking(ask)).await.unwrap();
        assert!(String::from_utf8_lossy(&answer).contains("hello from fake pod port 8080: GET /x"), "{answer:?}");
        assert!(!forward.has_ended(), "{transport:?}: {}", forward.stderr.text());
        forward.terminate();
        run.assert_transport(transport, "/portForward/dev/run-0");
    }
}

#[tokio::test]
async fn logs_are_followed() {
    let run = run_or_skip!(&[]);
    let kubectl = run.kubectl(Transport::WebSocket);
    let logs = kubectl.start(&["logs", "-f", "--tail=1", "-n", "dev", "run-2"]);

    for line in ["dev/run-2/main line 19", "dev/run-2/main line 20", "dev/run-2/main line 24"] {
        logs.stdout.wait_for(line, 1, |written| (written == line).then_some(())).await;
    }
    logs.terminate();
}

/// An exec by WebSocket is a GET: what only reads must not do it for that.
#[tokio::test]
async fn read_only_refuses_exec_by_either_transport() {
    let run = run_or_skip!(&["read-only"]);

    for transport in TRANSPORTS {
        let marker = format!("refused-{transport:?}");
        let denied = run.kubectl(transport).run(&["exec", "-n", "dev", "run-0", "--", "echo", &marker]).await;
        assert_eq!((denied.code, denied.stdout.as_str()), (Some(1), ""), "{transport:?}");
        assert!(denied.stderr.contains("denied by policy `read-only`"), "{transport:?}: {}", denied.stderr);
        assert_eq!(run.rig.kubelet_streams(&marker), [""; 0]);
        assert!(run.rig.audit_events(&marker).is_empty());
    }

    // `connection` and `upgrade` are HTTP/1.1's.
    let http1 = Client::new(run.gate.address(), Some(client_tls(&run.authority, None, &["http/1.1"])));
    let jane = http1.with_token(run.gate.token_of("jane")).kubernetes("rig");
    let exec = jane.get("/api/v1/namespaces/dev/pods/run-0/exec?command=echo&command=refused-raw&stdout=true");
    let answer = exec
        .header("connection", "upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "MDEyMzQ1Njc4OWFiY2RlZg==")
        .header("sec-websocket-protocol", "v5.channel.k8s.io")
        .await;
    assert_eq!((answer.status(), answer.json()["reason"].as_str()), (403, Some("Forbidden")));
    assert!(run.rig.audit_events("refused-raw").is_empty());
}

/// The rig, with a gate before it.
struct Run {
    rig: &'static KubeRig,
    authority: Authority,
    gate: Gate,
}

impl Run {
    async fn start(policies: &[&str]) -> Result<Self, &'static str> {
        witgate_tests::kubectl::present()?;
        let rig = kube_rig::shared()?;
        let authority = Authority::new("gate");
        let builder = Gate::without_clusters().tls(&authority, None).cluster(rig.cluster_as("robot"));
        let gate = policies.iter().fold(builder, |builder, policy| builder.policy(policy)).start().await;
        Ok(Self { rig, authority, gate })
    }

    fn kubectl(&self, transport: Transport) -> Kubectl {
        let url = format!("https://{}/k8s/clusters/rig", self.gate.address());
        let kubectl = Kubectl::new(&url, &self.authority.pem(), self.gate.token_of("jane"));
        kubectl.expect("it was there a moment ago").by(transport)
    }

    async fn check(&self, transport: Transport, (command, input, code, stdout, stderr): &Row<'_>) {
        let place = format!("{transport:?} {command:?}");
        let mut arguments = vec!["exec", "-n", "dev", "run-0"];
        arguments.extend(input.map(|_| "-i"));
        arguments.push("--");
        arguments.extend(*command);
        let kubectl = self.kubectl(transport);
        let ended = match input {
            None => kubectl.run(&arguments).await,
            Some(input) => {
                let (process, mut stdin) = kubectl.start_with_input(&arguments);
                let input = (*input).to_owned();
                let written = tokio::task::spawn_blocking(move || stdin.write_all(input.as_bytes()));
                let ended = process.ended().await;
                written.await.unwrap().unwrap();
                ended
            }
        };
        assert_eq!(ended.code, Some(*code), "{place}: {}", ended.stderr);
        assert!(ended.stdout == *stdout, "{place}: {} bytes, not {}", ended.stdout.len(), stdout.len());
        assert_eq!(ended.stderr, *stderr, "{place}");
        self.assert_transport(transport, &format!("/exec/dev/run-0/main?command={}", command[0]));
    }

    /// Streams whose request contains `part` came by `transport`.
    #[track_caller]
    fn assert_transport(&self, transport: Transport, part: &str) {
        let (method, protocol) = match transport {
            Transport::WebSocket => ("UPGRADE GET", " websocket "),
            Transport::Spdy => ("UPGRADE POST", " spdy/3.1 "),
        };
        let streams = self.rig.kubelet_streams(part);
        let is_it = |line: &String| line.contains(method) && line.contains(protocol);
        assert!(streams.iter().any(is_it), "no {protocol} with {part} among {streams:#?}");
    }
}

/// Sends blocks to the echo and reads each back; then closes its own half and reads what still comes.
fn echo_rounds(port: u16, number: u8) {
    let mut stream = connect(port);
    for round in 0..16_u8 {
        let block: Vec<u8> = (0..65_536_u32).map(|index| (index % 251) as u8 ^ round ^ (number << 4)).collect();
        stream.write_all(&block).unwrap();
        let mut back = vec![0; block.len()];
        stream.read_exact(&mut back).unwrap();
        assert!(back == block, "connection {number}, round {round}: other bytes came back");
    }
    stream.write_all(b"the last words").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    assert_eq!(rest, b"the last words", "connection {number}");
}

/// Sends `request` and reads until the body, which repeats its first line, has come.
fn exchange(port: u16, request: &[u8]) -> Vec<u8> {
    let mut stream = connect(port);
    stream.write_all(request).unwrap();
    let mut answer = Vec::new();
    let mut piece = [0; 1024];
    while !answer.ends_with(b"GET /x HTTP/1.1\n") {
        let count = stream.read(&mut piece).unwrap();
        assert!(count > 0, "the answer broke off: {answer:?}");
        answer.extend_from_slice(&piece[..count]);
    }
    answer
}

fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(SOON.as_secs()))).unwrap();
    stream
}
