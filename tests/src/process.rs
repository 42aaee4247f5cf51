//! A child process: its output collected, its end awaited, itself gone when the test is.

use std::process::{Command, ExitStatus, Stdio};

use tokio::sync::watch;

use crate::output::Output;
use crate::waiting::soon;

/// A running, or ended, child process.
pub struct Process {
    pid: u32,
    exited: watch::Receiver<Option<ExitStatus>>,
    /// What it writes to its standard output.
    pub stdout: Output,
    /// What it writes to its standard error.
    pub stderr: Output,
}

/// What a process that ended has left.
#[derive(Clone, Debug)]
pub struct Ended {
    /// Its exit code; None where a signal ended it.
    pub code: Option<i32>,
    /// All of its standard output.
    pub stdout: String,
    /// All of its standard error.
    pub stderr: String,
}

impl Process {
    /// Starts `command` with nothing on its standard input.
    pub fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", command.get_program().display()));
        let stdout = Output::collect(child.stdout.take().expect("piped"));
        let stderr = Output::collect(child.stderr.take().expect("piped"));
        let pid = child.id();
        let (ended, exited) = watch::channel(None);
        // A thread and not a task: a runtime that ends must not wait for a process that does not.
        std::thread::spawn(move || ended.send(Some(child.wait().expect("the child is ours"))));
        Self { pid, exited, stdout, stderr }
    }

    /// Runs `command` to its end.
    pub async fn run(command: &mut Command) -> Ended {
        let mut process = Self::start(command);
        let status = process.exit_status().await;
        process.finish_output();
        Ended { code: status.code(), stdout: process.stdout.text(), stderr: process.stderr.text() }
    }

    /// Waits for its end.
    pub async fn exit_status(&self) -> ExitStatus {
        let mut exited = self.exited.clone();
        let ended = soon("the process ends", exited.wait_for(Option::is_some)).await;
        ended.expect("the waiting thread tells before it ends").expect("waited for")
    }

    /// Whether it has ended.
    pub fn has_ended(&self) -> bool {
        self.exited.borrow().is_some()
    }

    /// The memory that it holds, in KiB.
    pub fn memory_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid)).expect("the process runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("Linux tells it");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }

    /// Sends it SIGTERM.
    pub fn terminate(&self) {
        self.signal("TERM");
    }

    /// Ends it at once, and reads what it left.
    pub fn kill(&mut self) {
        self.signal("KILL");
        self.finish_output();
    }

    fn signal(&self, name: &str) {
        if !self.has_ended() {
            let signalled =
                Command::new("kill").args(["-s", name, &self.pid.to_string()]).stderr(Stdio::null()).status();
            signalled.expect("`kill` is part of every system");
        }
    }

    fn finish_output(&mut self) {
        self.stdout.finish();
        self.stderr.finish();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.signal("KILL");
    }
}
