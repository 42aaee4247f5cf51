//! The `witgate` binary: configuration, plug-in folder, reload, admin routes and command line.

mod admin;
mod admin_client;
mod authentication;
mod author;
mod check;
mod cli;
mod cluster_health;
mod config;
mod configured;
mod credential_cache;
mod decision_cache;
mod decision_log;
mod demo;
mod kubeconfig;
mod listener_tls;
mod log_level;
mod metrics;
mod plugins;
mod probe;
mod reachable;
mod request_line;
mod secrets;
mod serve;
mod snapshot;
mod telemetry;
mod top;
mod trust_files;
mod trusted_keys;

use std::process::ExitCode;

use clap::Parser as _;

/// The figures that chose it are in docs/performance.md.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    cli::Cli::parse().run()
}
