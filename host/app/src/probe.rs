//! `witgate probe`: whether a gate lives or is ready, as an exit code.
//!
//! The admin listener is for its own machine or for holders of a certificate, so an orchestrator's HTTP probe does not
//! reach it; a command that runs beside the gate does. It reads no configuration and starts no engine.

use std::process::ExitCode;
use std::time::Duration;

use clap::ValueEnum;

use crate::admin_client::AdminOptions;

/// Ask a running gate whether it lives or is ready: exit code 0 when it is
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct ProbeArgs {
    /// What is asked
    #[arg(value_name = "CHECK", default_value = "readyz")]
    check: Check,
    #[command(flatten)]
    admin: AdminOptions,
    /// How long the answer may take
    #[arg(long, value_name = "MS", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..=600_000))]
    timeout_ms: u64,
}

/// What can be asked.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Check {
    /// It answers at all; when it does not, start it anew
    Livez,
    /// It serves; when it does not, send it no requests
    Readyz,
}

impl Check {
    const fn path(self) -> &'static str {
        match self {
            Self::Livez => "/livez",
            Self::Readyz => "/readyz",
        }
    }
}

/// Asks, and prints what the gate says.
///
/// # Errors
/// When nobody answers in time.
pub(crate) async fn run(args: ProbeArgs) -> anyhow::Result<ExitCode> {
    let ProbeArgs { check, admin, timeout_ms } = args;
    let timeout = Duration::from_millis(timeout_ms);
    let answer = tokio::time::timeout(timeout, admin.get(check.path()))
        .await
        .map_err(|_| anyhow::anyhow!("no answer within {timeout_ms} ms (`--timeout-ms`)"))??;
    let said: String = answer.body.trim_end().chars().take(SAID_CHARS_MAX).collect();
    if answer.status.is_success() {
        println!("{said}");
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("{}: {said}", answer.status.as_u16());
    Ok(ExitCode::FAILURE)
}

/// How much of an answer is printed: an orchestrator keeps it as an event.
const SAID_CHARS_MAX: usize = 4096;

const EXAMPLES: &str = "\
Examples:
  witgate probe                                              is the gate at 127.0.0.1:7008 ready?
  witgate probe livez --admin unix:/run/witgate/admin.sock
  witgate probe --admin https://127.0.0.1:7008 --server-name gate.example --ca-file ca.crt --cert-file probe.crt --key-file probe.key

In a pod (an `httpGet` probe does not reach an admin listener on 127.0.0.1):
  readinessProbe: { exec: { command: [witgate, probe, readyz] } }

Exit codes: 0 it is, 1 it is not or nobody answers, 2 the command line is not understood.";
