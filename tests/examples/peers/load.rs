//! The load: h2load, which is nghttp2's.

use std::fs;
use std::process::Command;
use std::time::Duration;

use crate::cpu;
use crate::subjects::Subject;

/// What the client speaks.
#[derive(Clone, Copy)]
pub(crate) enum Client {
    Http1,
    Http2,
}

/// How much is asked, and how.
#[derive(Clone, Copy)]
pub(crate) struct Load {
    pub(crate) client: Client,
    pub(crate) connections: usize,
    /// Requests under way on a connection.
    pub(crate) streams: usize,
    pub(crate) requests: usize,
}

/// What came of a load.
pub(crate) struct Run {
    /// Answers, each of them 2xx.
    pub(crate) answers: usize,
    /// From the first connection to the last answer.
    pub(crate) elapsed: Duration,
    /// Time on a processor of the subject.
    pub(crate) cpu: Duration,
    /// Each answer's time, sorted, in microseconds.
    latencies: Vec<u64>,
    body_bytes: u64,
}

impl Load {
    /// Asks as fast as it is answered.
    pub(crate) fn run(self, subject: &Subject) -> Run {
        self.ask(subject, &["-n".to_owned(), self.requests.to_string()])
    }

    /// Asks `a_second` times a second, for some seconds, whether or not the answers are there.
    pub(crate) fn paced(self, subject: &Subject, a_second: usize, seconds: usize) -> Run {
        let each = (a_second / self.connections).to_string();
        let words = ["--rps".to_owned(), each, "-D".to_owned(), seconds.to_string()];
        self.ask(subject, &words)
    }

    fn ask(self, subject: &Subject, how_many: &[String]) -> Run {
        let log = tempfile::NamedTempFile::new().unwrap();
        let mut command = Command::new("h2load");
        command.args(["-t", "1", "-c", &self.connections.to_string(), "-m", &self.streams.to_string()]);
        command.args(how_many).arg("--log-file").arg(log.path());
        match self.client {
            Client::Http1 => command.arg("--h1"),
            Client::Http2 => command.args(["--npn-list", "h2"]),
        };
        for header in subject.headers() {
            command.args(["-H", header]);
        }
        command.arg(subject.url());

        let before = cpu::time(subject.pids());
        let output = command.output().expect("h2load was looked for");
        let cpu = cpu::time(subject.pids()) - before;
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "h2load: {}", String::from_utf8_lossy(&output.stderr));
        Run::read(&text, &fs::read_to_string(log.path()).unwrap(), cpu)
            .unwrap_or_else(|why| panic!("{}: {why}\n{text}", subject.url()))
    }
}

impl Run {
    fn read(text: &str, log: &str, cpu: Duration) -> Result<Self, String> {
        let line = |start: &str| {
            text.lines().find_map(|line| line.strip_prefix(start)).ok_or_else(|| format!("no line `{start}`"))
        };
        let count = |words: &str, unit: &str| {
            let part = words.split(", ").find_map(|part| part.trim().strip_suffix(unit)).map(str::trim);
            part.and_then(|count| count.parse::<usize>().ok()).ok_or_else(|| format!("no count of `{unit}`"))
        };
        let requests = line("requests: ")?;
        let (done, succeeded) = (count(requests, " done")?, count(requests, " succeeded")?);
        let good = count(line("status codes: ")?, " 2xx")?;
        if done == 0 || succeeded != done || good != done {
            return Err(format!("of {done} answers, {good} were 2xx"));
        }
        let elapsed = line("finished in ")?.split(',').next().unwrap_or_default();
        let elapsed = duration(elapsed).ok_or_else(|| format!("`{elapsed}` is no duration"))?;
        let body = line("traffic: ")?.rsplit(", ").next().unwrap_or_default();
        let body = body.split(['(', ')']).nth(1).and_then(|bytes| bytes.parse().ok());
        let mut latencies: Vec<u64> = log.lines().filter_map(|line| line.split('\t').nth(2)?.parse().ok()).collect();
        latencies.sort_unstable();
        Ok(Self { answers: done, elapsed, cpu, latencies, body_bytes: body.ok_or("no count of body bytes")? })
    }

    /// Time on a processor for an answer, in microseconds.
    pub(crate) fn cpu_an_answer(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.answers as f64
    }

    /// Answers a second.
    pub(crate) fn answers_a_second(&self) -> f64 {
        self.answers as f64 / self.elapsed.as_secs_f64()
    }

    /// Bytes of bodies a second.
    pub(crate) fn bytes_a_second(&self) -> f64 {
        self.body_bytes as f64 / self.elapsed.as_secs_f64()
    }

    /// The time within which so many of a hundred answers were there, in microseconds.
    pub(crate) fn percentile(&self, of_hundred: usize) -> u64 {
        let last = self.latencies.len().saturating_sub(1);
        self.latencies.get(last * of_hundred / 100).copied().unwrap_or_default()
    }
}

/// `1.23s`, `456.78ms`, or with a unit of minutes, as h2load writes it.
fn duration(text: &str) -> Option<Duration> {
    let units = [("us", 1e-6), ("ms", 1e-3), ("min", 60.0), ("s", 1.0)];
    let (number, unit) = units.iter().find_map(|(unit, seconds)| Some((text.strip_suffix(unit)?, seconds)))?;
    Some(Duration::from_secs_f64(number.trim().parse::<f64>().ok()? * unit))
}
