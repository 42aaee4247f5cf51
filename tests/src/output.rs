//! What a process writes, collected line by line as it comes, and waited for.

use std::io::{BufRead as _, BufReader, Read};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::watch;

use crate::waiting::{SOON, within};

/// One stream of a process, read to its end by a thread of its own.
pub struct Output {
    lines: Arc<Mutex<Vec<String>>>,
    written: watch::Receiver<()>,
    reader: Option<JoinHandle<()>>,
}

impl Output {
    /// Begins to read.
    pub(crate) fn collect(stream: impl Read + Send + 'static) -> Self {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (tell, written) = watch::channel(());
        let kept = Arc::clone(&lines);
        let reader = std::thread::spawn(move || {
            // A line that is no UTF-8 must not end the collection: a secret could stand behind it.
            for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
                kept.lock().unwrap().push(String::from_utf8_lossy(&line).into_owned());
                tell.send_replace(());
            }
        });
        Self { lines, written, reader: Some(reader) }
    }

    /// All that was written so far.
    pub fn text(&self) -> String {
        self.lines.lock().unwrap().join("\n")
    }

    /// The lines so far that are JSON.
    pub fn json_lines(&self) -> Vec<Value> {
        self.lines.lock().unwrap().iter().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Waits until the stream holds `count` lines that `wanted` takes, and gives what it makes of them.
    pub async fn wait_for<T>(&self, what: &str, count: usize, wanted: impl Fn(&str) -> Option<T>) -> Vec<T> {
        self.wait_for_within(SOON, what, count, wanted).await
    }

    /// As [`wait_for`](Self::wait_for), for what takes another time than soon.
    pub async fn wait_for_within<T>(
        &self,
        limit: Duration,
        what: &str,
        count: usize,
        wanted: impl Fn(&str) -> Option<T>,
    ) -> Vec<T> {
        let mut written = self.written.clone();
        let mut seen_count = 0;
        let mut found = Vec::new();
        within(limit, what, async {
            loop {
                {
                    let lines = self.lines.lock().unwrap();
                    found.extend(lines.iter().skip(seen_count).filter_map(|line| wanted(line)));
                    seen_count = lines.len();
                }
                if found.len() >= count {
                    return found;
                }
                assert!(written.changed().await.is_ok(), "{what}: the process ended first:\n{}", self.text());
            }
        })
        .await
    }

    /// Waits until the stream holds `count` JSON lines that `wanted` takes.
    pub async fn wait_for_json(&self, what: &str, count: usize, wanted: impl Fn(&Value) -> bool) -> Vec<Value> {
        let parse = |line: &str| serde_json::from_str(line).ok().filter(|line| wanted(line));
        self.wait_for(what, count, parse).await
    }

    /// Reads on to the stream's end; the process must be gone or going.
    pub(crate) fn finish(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.join().expect("the reader does not panic");
        }
    }
}
