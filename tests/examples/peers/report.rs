//! The tables and the plot, on the terminal and in the documentation.

use std::fmt::{self, Write as _};
use std::fs;
use std::process::Command;

use witgate_tests::artifacts;

use crate::load::Run;

/// Everything that was measured in this run.
pub(crate) struct Report {
    machine: String,
    method: String,
    comparisons: Vec<Comparison>,
    latencies: Vec<Latency>,
    throughput: Option<Throughput>,
}

/// The gate beside one peer, under one load.
pub(crate) struct Comparison {
    name: &'static str,
    /// Microseconds of processor time an answer.
    gate: f64,
    peer: f64,
    gate_answers_a_second: f64,
    peer_answers_a_second: f64,
    /// The smallest and the largest ratio of a single pair.
    spread: (f64, f64),
    goal: Option<f64>,
}

/// Latencies in microseconds at a fixed pace.
pub(crate) struct Latency {
    pub(crate) name: &'static str,
    pub(crate) p50: u64,
    pub(crate) p99: u64,
}

/// The list of 13 MB, in bytes a second.
pub(crate) struct Throughput {
    pub(crate) gate: f64,
    pub(crate) direct: f64,
    pub(crate) growth_kib: u64,
}

/// The middle value; of an even number, the upper of the two in the middle.
pub(crate) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

impl Comparison {
    pub(crate) fn of(name: &'static str, gate: &[Run], peer: &[Run], goal: Option<f64>) -> Self {
        let ratios = gate.iter().zip(peer).map(|(gate, peer)| gate.cpu_an_answer() / peer.cpu_an_answer());
        let spread = ratios.fold((f64::INFINITY, 0.0_f64), |(low, high), ratio| (low.min(ratio), high.max(ratio)));
        Self {
            name,
            gate: median(gate.iter().map(Run::cpu_an_answer)),
            peer: median(peer.iter().map(Run::cpu_an_answer)),
            gate_answers_a_second: median(gate.iter().map(Run::answers_a_second)),
            peer_answers_a_second: median(peer.iter().map(Run::answers_a_second)),
            spread,
            goal,
        }
    }

    fn ratio(&self) -> f64 {
        self.gate / self.peer
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (low, high) = self.spread;
        let (ratio, goal) = (self.ratio(), self.goal.map_or("–".to_owned(), |goal| format!("{goal:.2}")));
        write!(
            f,
            "| {} | {:.1} | {:.1} | **{ratio:.2}** | {low:.2}–{high:.2} | {goal} | {:.0} | {:.0} |",
            self.name, self.gate, self.peer, self.gate_answers_a_second, self.peer_answers_a_second,
        )
    }
}

impl Report {
    pub(crate) fn of_this_machine(pairs: usize, requests: usize) -> Self {
        let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1));
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let load = load.split(' ').next().unwrap_or_default().to_owned();
        let nginx = Command::new("nginx").arg("-v").output().map(|output| output.stderr).unwrap_or_default();
        let nginx = String::from_utf8_lossy(&nginx).trim().replace("nginx version: ", "");
        Self {
            machine: format!(
                "{cores} processors ({}), Linux {}, {nginx}; load {load} at the start",
                model.unwrap_or("unknown"),
                kernel.trim()
            ),
            method: format!("{pairs} pairs of runs of {requests} requests, medians"),
            comparisons: Vec::new(),
            latencies: Vec::new(),
            throughput: None,
        }
    }

    pub(crate) fn add(&mut self, comparison: Comparison) {
        self.comparisons.push(comparison);
    }

    pub(crate) fn add_latency(&mut self, latency: Latency) {
        self.latencies.push(latency);
    }

    pub(crate) fn add_throughput(&mut self, throughput: Throughput) {
        self.throughput = Some(throughput);
    }

    pub(crate) fn print(&self) {
        println!("{}", self.tables());
    }

    /// Replaces what stands between the markers in `docs/performance.md`, and the plot.
    pub(crate) fn write(&self) {
        let docs = artifacts::repository().join("docs");
        let page = docs.join("performance.md");
        let text = fs::read_to_string(&page).unwrap_or_else(|error| panic!("{}: {error}", page.display()));
        let around = text.split_once(BEGIN).and_then(|(before, rest)| Some((before, rest.split_once(END)?.1)));
        let (before, after) = around.unwrap_or_else(|| panic!("{} has no `{BEGIN}` … `{END}`", page.display()));
        fs::write(&page, format!("{before}{BEGIN}\n{}\n{END}{after}", self.tables())).unwrap();
        fs::write(docs.join("peers.svg"), self.plot()).unwrap();
        println!("written: docs/performance.md, docs/peers.svg");
    }

    fn tables(&self) -> String {
        let mut text = format!("{}. {}.\n", self.machine, self.method);
        if !self.comparisons.is_empty() {
            text.push_str("\n| small GET, TLS 1.3 on both legs, JWT caller | gate µs | peer µs | ratio | pairs | goal | gate/s | peer/s |\n|---|---|---|---|---|---|---|---|\n");
            for comparison in &self.comparisons {
                let _ = writeln!(text, "{comparison}");
            }
        }
        if !self.latencies.is_empty() {
            text.push_str("\n| 2,000 requests a second, 64 connections, HTTP/1.1 | p50 µs | p99 µs |\n|---|---|---|\n");
            for Latency { name, p50, p99 } in &self.latencies {
                let _ = writeln!(text, "| {name} | {p50} | {p99} |");
            }
        }
        if let Some(Throughput { gate, direct, growth_kib }) = &self.throughput {
            let _ = writeln!(
                text,
                "\nA list of 13 MB on 4 connections: {:.0} MB/s through the gate, {:.0} MB/s direct: {:.0} %. \
                 The gate's memory grew by {:.1} MiB at most.",
                gate / 1e6,
                direct / 1e6,
                100.0 * gate / direct,
                *growth_kib as f64 / 1024.0
            );
        }
        text
    }

    /// A bar a comparison: its ratio, beside the line of the peer.
    fn plot(&self) -> String {
        const ROW: f64 = 26.0;
        const LEFT: f64 = 360.0;
        /// The longest bar, and the room for its figure behind it.
        const WIDEST: f64 = 450.0;
        let greatest = self.comparisons.iter().map(Comparison::ratio).fold(1.5, f64::max);
        let unit = (WIDEST / greatest).floor();
        let height = ROW * (self.comparisons.len() as f64 + 2.0);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 860 {height}\" font-family=\"sans-serif\" font-size=\"13\">\n\
             <rect width=\"860\" height=\"{height}\" fill=\"#ffffff\"/>\n\
             <text x=\"{LEFT}\" y=\"18\">CPU time an answer, the peer's = 1 (red: the goal)</text>\n"
        );
        for (row, comparison) in self.comparisons.iter().enumerate() {
            let y = ROW * (row as f64 + 1.2);
            let ratio = comparison.ratio();
            let width = unit * ratio;
            let _ = writeln!(
                svg,
                "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>\
                 <rect x=\"{LEFT}\" y=\"{y}\" width=\"{width:.1}\" height=\"16\" fill=\"#3b6ea5\"/>\
                 <text x=\"{:.1}\" y=\"{}\">{ratio:.2}</text>",
                LEFT - 8.0,
                y + 13.0,
                comparison.name,
                LEFT + width + 6.0,
                y + 13.0,
            );
            if let Some(goal) = comparison.goal {
                let x = LEFT + unit * goal;
                let _ = writeln!(svg, "<path d=\"M{x:.1} {y}v16\" stroke=\"#c0392b\" stroke-width=\"2\"/>");
            }
        }
        let one = LEFT + unit;
        let _ =
            writeln!(svg, "<path d=\"M{one} {ROW}V{height}\" stroke=\"#888888\" stroke-dasharray=\"4 3\"/>\n</svg>");
        svg
    }
}

const BEGIN: &str = "<!-- peers: written by `cargo xtask bench peers --write` -->";
const END: &str = "<!-- /peers -->";
