//! A child process: its output collected, its end awaited, itself gone when the test is.

use std::fs;
use std::process::{ChildStdin, Command, ExitStatus, Stdio};
use std::time::Duration;

use tokio::sync::watch;

use crate::output::Output;
use crate::waiting::{SOON, within};

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
        Self::start_with(command, Stdio::null()).0
    }

    /// Starts `command`; what it reads from its standard input is what the test writes.
    pub fn start_with_input(command: &mut Command) -> (Self, ChildStdin) {
        let (process, input) = Self::start_with(command, Stdio::piped());
        (process, input.expect("piped"))
    }

    fn start_with(command: &mut Command, input: Stdio) -> (Self, Option<ChildStdin>) {
        let mut child = command
            .stdin(input)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", command.get_program().display()));
        let stdout = Output::collect(child.stdout.take().expect("piped"));
        let stderr = Output::collect(child.stderr.take().expect("piped"));
        let (pid, input) = (child.id(), child.stdin.take());
        let (ended, exited) = watch::channel(None);
        // A thread and not a task: a runtime that ends must not wait for a process that does not.
        std::thread::spawn(move || ended.send(Some(child.wait().expect("the child is ours"))));
        (Self { pid, exited, stdout, stderr }, input)
    }

    /// Its number, as the kernel counts processes.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// What Linux counts for the process in KiB: a field of its `status`, such as `VmRSS`.
    pub fn memory_kib(&self, field: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        let count = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok());
        count.unwrap_or_else(|| panic!("no {field} in {status}"))
    }

    /// Lets Linux count the peak of its resident memory (`VmHWM`) from now on.
    pub fn forget_memory_peak(&self) {
        fs::write(format!("/proc/{}/clear_refs", self.pid), "5").unwrap();
    }

    /// Runs `command` to its end.
    pub async fn run(command: &mut Command) -> Ended {
        Self::start(command).ended().await
    }

    /// Waits for its end, and reads what it left.
    pub async fn ended(self) -> Ended {
        self.ended_within(SOON).await
    }

    /// The same, for one that has more to do.
    pub async fn ended_within(self, limit: Duration) -> Ended {
        let mut process = self;
        let status = process.exit_status_within(limit).await;
        process.finish_output();
        Ended { code: status.code(), stdout: process.stdout.text(), stderr: process.stderr.text() }
    }

    /// Waits for its end.
    pub async fn exit_status(&self) -> ExitStatus {
        self.exit_status_within(SOON).await
    }

    async fn exit_status_within(&self, limit: Duration) -> ExitStatus {
        let mut exited = self.exited.clone();
        let ended = within(limit, "the process ends", exited.wait_for(Option::is_some)).await;
        ended.expect("the waiting thread tells before it ends").expect("waited for")
    }

    /// Whether it has ended.
    pub fn has_ended(&self) -> bool {
        self.exited.borrow().is_some()
    }

    /// Sends it SIGTERM.
    pub fn terminate(&self) {
        self.signal("TERM");
    }

    /// Sends it SIGHUP.
    pub fn hang_up(&self) {
        self.signal("HUP");
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
