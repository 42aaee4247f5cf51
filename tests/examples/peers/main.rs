//! Measures the gate beside its peers, in one run on one machine: `cargo xtask bench peers`.
//!
//! Every figure is a ratio of medians of paired runs: gate, peer, gate, peer. What is compared is the CPU time that
//! the kernel counted for a request, because throughput on a small machine tells who else was busy. Only answers 2xx
//! count; a run with any other is an error.
//!
//! nginx serves the API server's answers, so that the upstream is not what is measured. The load is h2load's: as fast
//! as it is answered for CPU, paced for latency. The tools are Debian's: `apt-get install nginx nghttp2-client`.

mod cpu;
mod load;
mod nginx;
mod report;
mod subjects;

use std::process::ExitCode;

use load::{Client, Load, Run};
use report::{Comparison, Latency, Report, Throughput};
use subjects::{Bench, Subject};

/// What the command line asks for.
struct Options {
    /// Pairs of runs a comparison.
    pairs: usize,
    /// Requests a run.
    requests: usize,
    /// Only comparisons whose name holds this.
    only: String,
    /// Whether `docs/performance.md` is to be written.
    write: bool,
}

const USAGE: &str = "usage: peers [--pairs N] [--requests N] [--only TEXT] [--write]
  --pairs N      pairs of runs a comparison; the medians are compared (5)
  --requests N   requests a run (20000)
  --only TEXT    only comparisons whose name holds TEXT
  --write        also write the tables to docs/performance.md and the plot to docs/peers.svg";

#[tokio::main]
async fn main() -> ExitCode {
    let options = match Options::of(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(why) => {
            eprintln!("error: {why}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    for (tool, package) in [("nginx", "nginx"), ("h2load", "nghttp2-client")] {
        if !subjects::is_there(tool) {
            eprintln!("error: `{tool}` is not on the PATH; it is in Debian's package `{package}`");
            return ExitCode::FAILURE;
        }
    }
    let bench = Bench::start().await;
    let mut report = Report::of_this_machine(options.pairs, options.requests);
    for comparison in comparisons(&bench) {
        if comparison.name.contains(&options.only) {
            report.add(compare(&comparison, &options));
        }
    }
    if "paced".contains(&options.only) {
        for (name, subject) in paced(&bench) {
            let run =
                Load { client: Client::Http1, connections: 64, streams: 1, requests: 0 }.paced(subject, 2_000, 10);
            report.add_latency(Latency { name, p50: run.percentile(50), p99: run.percentile(99) });
        }
    }
    if "large list".contains(&options.only) {
        report.add_throughput(large_list(&bench, options.pairs));
    }
    report.print();
    if options.write {
        report.write();
    }
    ExitCode::SUCCESS
}

/// Two subjects under the same load.
struct Pair<'a> {
    name: &'static str,
    gate: &'a Subject,
    peer: &'a Subject,
    load: (Client, usize, usize),
    /// At most this, by the goals that the project set itself; none where there is none.
    goal: Option<f64>,
}

fn comparisons(bench: &Bench) -> Vec<Pair<'_>> {
    let pair = |name, gate, peer, load, goal| Pair { name, gate, peer, load, goal };
    let (http1, http2) = ((Client::Http1, 16, 1), (Client::Http2, 4, 8));
    let mut pairs = vec![
        pair("HTTP/1.1, policy; HTTP/1.1 upstream", &bench.policy_http1, &bench.nginx, http1, Some(1.45)),
        pair("HTTP/1.1, policy; HTTP/2 upstream", &bench.policy, &bench.nginx, http1, Some(1.30)),
        pair("HTTP/1.1, permission off; HTTP/1.1 upstream", &bench.open_http1, &bench.nginx, http1, Some(1.0)),
        pair("HTTP/1.1, permission off; HTTP/2 upstream", &bench.open, &bench.nginx, http1, Some(1.0)),
        pair("HTTP/1.1, conditional policy; HTTP/2 upstream", &bench.conditional, &bench.nginx, http1, Some(1.05)),
        pair("HTTP/2, policy; HTTP/2 upstream", &bench.policy, &bench.nginx, http2, Some(1.15)),
        pair("HTTP/2, permission off; HTTP/2 upstream", &bench.open, &bench.nginx, http2, Some(0.75)),
        pair("HTTP/2, conditional policy; HTTP/2 upstream", &bench.conditional, &bench.nginx, http2, None),
    ];
    for connections in [1, 64, 256] {
        let name = match connections {
            1 => "HTTP/1.1, policy, 1 connection",
            64 => "HTTP/1.1, policy, 64 connections",
            _ => "HTTP/1.1, policy, 256 connections",
        };
        pairs.push(pair(name, &bench.policy, &bench.nginx, (Client::Http1, connections, 1), None));
    }
    for connections in [1, 16] {
        let name =
            if connections == 1 { "HTTP/2, policy, 1 connection" } else { "HTTP/2, policy, 16 connections of 16" };
        pairs.push(pair(name, &bench.policy, &bench.nginx, (Client::Http2, connections, 16), None));
    }
    if let Some(kubectl) = &bench.kubectl {
        pairs.push(pair("beside kubectl proxy (its client's leg is plain)", &bench.policy, kubectl, http1, Some(0.40)));
    }
    pairs
}

fn paced(bench: &Bench) -> [(&'static str, &Subject); 3] {
    [("direct", &bench.direct), ("nginx", &bench.nginx), ("gate, policy", &bench.policy)]
}

fn compare(pair: &Pair<'_>, options: &Options) -> Comparison {
    let (client, connections, streams) = pair.load;
    let load = Load { client, connections, streams, requests: options.requests };
    let warm_up = Load { requests: (options.requests / 10).max(connections * streams), ..load };
    warm_up.run(pair.gate);
    warm_up.run(pair.peer);
    let (mut gate, mut peer) = (Vec::new(), Vec::new());
    for _ in 0..options.pairs {
        gate.push(load.run(pair.gate));
        peer.push(load.run(pair.peer));
    }
    let comparison = Comparison::of(pair.name, &gate, &peer, pair.goal);
    eprintln!("{comparison}");
    comparison
}

/// A list of 13 MB, direct and through the gate; and how much larger the gate has become at most.
fn large_list(bench: &Bench, pairs: usize) -> Throughput {
    let load = Load { client: Client::Http1, connections: 4, streams: 1, requests: 40 };
    let gate = bench.policy.asking(subjects::LARGE);
    let direct = bench.direct.asking(subjects::LARGE);
    let before = cpu::resident_kib(gate.pids());
    let (mut through, mut straight) = (Vec::new(), Vec::new());
    for _ in 0..pairs {
        through.push(load.run(&gate));
        straight.push(load.run(&direct));
    }
    Throughput {
        gate: report::median(through.iter().map(Run::bytes_a_second)),
        direct: report::median(straight.iter().map(Run::bytes_a_second)),
        growth_kib: cpu::peak_kib(gate.pids()).saturating_sub(before),
    }
}

impl Options {
    fn of(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self { pairs: 5, requests: 20_000, only: String::new(), write: false };
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("`{word}` takes a value"));
            let number = |text: String| match text.parse() {
                Ok(number) if number > 0 => Ok(number),
                _ => Err(format!("`{text}` is not a number above 0")),
            };
            match word.as_str() {
                "--pairs" => options.pairs = number(value()?)?,
                "--requests" => options.requests = number(value()?)?,
                "--only" => options.only = value()?,
                "--write" => options.write = true,
                _ => return Err(format!("`{word}` is not an option")),
            }
        }
        Ok(options)
    }
}
