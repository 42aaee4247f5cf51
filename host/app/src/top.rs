//! `witgate top`: a running gate's traffic, plug-ins, clusters and last decisions, in a terminal.
//!
//! It asks the admin listener what any tool may ask ([`client`]), makes a picture of two looks ([`board`]), and draws it
//! ([`screen`]) or prints it once ([`sheet`]). It knows nothing of the gate but what these routes tell.
//!
//! Promise: whatever callers wrote is shown without control characters, so that no name can do anything to the terminal.

mod board;
mod client;
mod looking;
mod samples;
mod screen;
mod sheet;

use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use anyhow::{Context as _, ensure};

use board::Board;

use crate::admin_client::AdminOptions;

/// Watch a running gate: requests, decisions, plug-ins and clusters as they go
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct TopArgs {
    #[command(flatten)]
    admin: AdminOptions,
    /// Print one look and end
    #[arg(long)]
    once: bool,
    /// Seconds between two looks
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    interval: Duration,
}

/// Shows until somebody has seen enough.
///
/// # Errors
/// When there is no gate at the first look, or no terminal.
pub(crate) async fn run(args: TopArgs) -> anyhow::Result<()> {
    let admin = &args.admin;
    if args.once {
        let first = looking::look(admin).await?;
        tokio::time::sleep(args.interval).await;
        let second = looking::look(admin).await?;
        let mut board = Board::default();
        board.learn(first);
        board.learn(second);
        board.decided(client::json(admin, &format!("/decisions?limit={DECISIONS_ONCE}")).await?);
        let text = sheet::plain(&board, &admin.place());
        return std::io::stdout().write_all(text.as_bytes()).context("standard output cannot be written");
    }
    ensure!(std::io::stdout().is_terminal(), "standard output is no terminal; `--once` prints one look");
    // A gate that is not there is said before the screen is taken.
    let first = looking::look(admin).await?;
    screen::run(first, &args).await
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().ok().filter(|seconds| (0.1..=60.0).contains(seconds));
    seconds.map(Duration::from_secs_f64).ok_or_else(|| "seconds are between 0.1 and 60".to_owned())
}

/// Decisions that `--once` prints.
const DECISIONS_ONCE: usize = 10;

const EXAMPLES: &str = "\
Examples:
  witgate top                                          the gate of this machine
  witgate top --admin unix:/run/witgate/admin.sock
  witgate top --admin https://gate.example:7008 --ca-file ca.pem --cert-file me.crt --key-file me.key
  witgate top --once                                   for scripts

Keys: q ends, p pauses, d shows denied requests alone, b shows built-in strategies that nothing asked.

Rates are of the time between two looks. p50 and p99 of a plug-in are upper bounds of its histogram's buckets, since it was
loaded.";
