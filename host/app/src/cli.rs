//! The command line: what can be asked of witgate, and what it answers.
//!
//! Exit codes: 0 done, 1 failed, 2 not understood. A failure is printed once, to
//! standard error, with its causes.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand, ValueEnum};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::check::Undelivered;
use crate::config::{Config, ConfigErrors};
use crate::{author, check, demo, kubeconfig, log_level, probe, serve, top};

/// A gate in front of Kubernetes API servers.
///
/// witgate finds out who calls, asks sandboxed WebAssembly policies whether they may, asks a sandboxed authentication
/// strategy for the cluster's credential, and forwards the request: every byte of it, streams and upgrades included.
#[derive(Debug, Parser)]
#[command(version, after_long_help = EXAMPLES, max_term_width = 100, subcommand_required = true, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    log: LogOptions,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve requests until SIGTERM or SIGINT
    #[command(after_long_help = SERVE_EXAMPLES)]
    Serve(ConfigOption),
    /// Say everything that a start would refuse, and start nothing
    #[command(after_long_help = CHECK_EXAMPLES)]
    Check(CheckOptions),
    Demo(demo::DemoArgs),
    Kubeconfig(kubeconfig::KubeconfigArgs),
    Top(top::TopArgs),
    Probe(probe::ProbeArgs),
    Plugin(author::PluginArgs),
}

#[derive(Debug, Args)]
struct ConfigOption {
    /// The configuration file; paths in it are relative to its folder
    #[arg(long, short, value_name = "FILE", default_value = "witgate.yaml", env = "WITGATE_CONFIG")]
    config: PathBuf,
}

#[derive(Debug, Args)]
struct CheckOptions {
    #[command(flatten)]
    config: ConfigOption,
    /// Fetch the plug-ins of `plugins.oci` that are not in the cache yet, and check them too
    #[arg(long)]
    fetch: bool,
}

#[derive(Debug, Args)]
struct LogOptions {
    /// What is logged: error, warn, info, debug, trace, or a filter such as `info,witgate_proxy=debug`
    ///
    /// Default: info for `serve` and `demo`, warn for the others. No level ever logs a credential.
    #[arg(long, global = true, value_name = "LEVEL", env = "WITGATE_LOG")]
    log_level: Option<String>,
    /// How it is logged, to standard error
    #[arg(long, global = true, value_name = "FORMAT", env = "WITGATE_LOG_FORMAT", default_value = "text")]
    log_format: LogFormat,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogFormat {
    /// A line for people
    Text,
    /// A JSON object a line
    Json,
}

impl Cli {
    /// Does what was asked. Starts a runtime where it is needed, so it must be called outside of one.
    pub(crate) fn run(self) -> ExitCode {
        let level = match &self.command {
            Command::Serve(_) | Command::Demo(_) => "info",
            Command::Check(_) | Command::Kubeconfig(_) | Command::Probe(_) | Command::Plugin(_) => "warn",
            // It would be written across the picture.
            Command::Top(_) => "off",
        };
        if let Err(error) = self.log.start(level) {
            eprintln!("error: {error:#}");
            return ExitCode::from(USAGE);
        }
        match self.command.run() {
            Ok(code) => code,
            Err(error) => {
                print_error(&error);
                ExitCode::FAILURE
            }
        }
    }
}

impl Command {
    fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Serve(ConfigOption { config }) => {
                let config = Config::load(&config, &environment)?;
                runtime()?.block_on(serve::run(config))?;
            }
            Self::Check(CheckOptions { config: ConfigOption { config }, fetch }) => {
                let undelivered = if fetch { Undelivered::Fetched } else { Undelivered::Noted };
                return Ok(runtime()?.block_on(check::run(&config, undelivered)));
            }
            Self::Demo(args) => runtime()?.block_on(demo::run(args))?,
            Self::Kubeconfig(args) => kubeconfig::run(args)?,
            Self::Top(args) => runtime()?.block_on(top::run(args))?,
            Self::Probe(args) => return small_runtime()?.block_on(probe::run(args)),
            Self::Plugin(args) => return args.run(),
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl LogOptions {
    fn start(&self, default: &str) -> anyhow::Result<()> {
        let level = self.log_level.as_deref().filter(|level| !level.is_empty()).unwrap_or(default);
        let filter = EnvFilter::builder().parse(level).map_err(|_| {
            anyhow::anyhow!(
                "`{}` is not a log level or filter; write error, warn, info, debug or trace, or `target=level,…`",
                level.escape_debug()
            )
        })?;
        let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
        let (started, change) = match self.log_format {
            LogFormat::Text => {
                // Colours are for terminals; a log file keeps no escape codes.
                let log = log.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).with_filter_reloading();
                let handle = log.reload_handle();
                let started = log.finish().with(filter_fn(may_be_logged)).try_init();
                (started, Box::new(move |filter| handle.reload(filter)) as log_level::Change)
            }
            LogFormat::Json => {
                let log = log.json().flatten_event(true).with_filter_reloading();
                let handle = log.reload_handle();
                let started = log.finish().with(filter_fn(may_be_logged)).try_init();
                (started, Box::new(move |filter| handle.reload(filter)) as log_level::Change)
            }
        };
        started.map_err(|error| anyhow::anyhow!(error).context("the log cannot be started"))?;
        log_level::started(level, change);
        Ok(())
    }
}

/// Whether an event may be logged at all, whatever the operator's filter says, then and later: the WASI libraries trace the
/// arguments of a guest's calls, and a URL or a header that a strategy sends holds credentials.
fn may_be_logged(metadata: &tracing::Metadata<'_>) -> bool {
    *metadata.level() != tracing::Level::TRACE || !metadata.target().starts_with("wasmtime_wasi")
}

/// A variable of the environment that is text.
pub(crate) fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().context("the runtime cannot be started")
}

/// A runtime for one question: an orchestrator asks it every few seconds.
fn small_runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("the runtime cannot be started")
}

/// One line for the error with its causes; for a configuration, one for each problem.
fn print_error(error: &anyhow::Error) {
    match error.downcast_ref::<ConfigErrors>() {
        Some(errors) => errors.problems().iter().for_each(|problem| eprintln!("error: {problem}")),
        None => eprintln!("error: {error:#}"),
    }
}

/// The exit code for a command line that is not understood, as clap's own.
const USAGE: u8 = 2;

const EXAMPLES: &str = "\
Examples:
  witgate demo                                  try it: two sample clusters, two people, policies to play with
  witgate check --config witgate.yaml           what would a start refuse?
  witgate serve --config witgate.yaml           serve until SIGTERM
  witgate kubeconfig --config witgate.yaml      a kubeconfig whose contexts lead through the gate
  witgate probe readyz                          does the gate on this machine serve?
  witgate plugin --help                         tools for who writes policies and strategies

A smallest configuration (witgate.yaml):
  listen: 127.0.0.1:7007
  authentication:
    - tokenFile: tokens.yaml                    # - { token: …, user: jane, groups: [dev] }
  plugins: { directory: ./policies }            # drop *.wasm in; they are swapped while it runs
  kubernetes:                                   # Backstage's section, as it is
    clusterLocatorMethods:
      - type: config
        clusters:
          - { name: one, url: 'https://10.0.0.1:6443', authProvider: serviceAccount, serviceAccountToken: '${TOKEN}', caFile: ca.pem }

Exit codes:
  0  done
  1  failed: the configuration is refused, an address is taken, …
  2  the command line is not understood";

const SERVE_EXAMPLES: &str = "\
Examples:
  witgate serve --config /etc/witgate/witgate.yaml --log-format json
  WITGATE_LOG=info,witgate_proxy=debug witgate serve

Nothing is served unless the whole configuration and every plug-in are good. Without a policy that allows a request, it
is denied. SIGTERM: /readyz fails, requests under way finish, then witgate exits with 0.";

const CHECK_EXAMPLES: &str = "\
Example:
  witgate check --config witgate.yaml && witgate serve --config witgate.yaml

Every problem is named with file, line and key; notes are what an operator should know. Plug-ins are loaded and asked
about the clusters as at a start. No identity provider and no API server is called, and no registry without --fetch.

Exit codes: 0 a start would do, 1 it would refuse.";

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    /// Goal: a command line that is not understood ends with 2 and one that asks for help with 0. Method: rows.
    #[test]
    fn usage_errors_end_with_two() {
        check(&["serve", "--config", "x.yaml"], None);
        check(&["check"], None);
        check(&["check", "--fetch"], None);
        check(&["probe"], None);
        check(&["probe", "livez", "--admin", "unix:/run/x"], None);
        check(&["probe", "healthz"], Some(2));
        check(&["probe", "--admin", "127.0.0.1"], Some(2));
        check(&["probe", "--cert-file", "x"], Some(2));
        check(&["--log-level", "debug", "serve", "--log-format", "json"], None);
        check(&[], Some(2));
        check(&["serv"], Some(2));
        check(&["serve", "--bogus"], Some(2));
        check(&["serve", "--log-format", "xml"], Some(2));
        check(&["--help"], Some(0));
        check(&["--version"], Some(0));
    }

    #[track_caller]
    fn check(arguments: &[&str], exit_code: Option<i32>) {
        let parsed = Cli::try_parse_from(std::iter::once("witgate").chain(arguments.iter().copied()));
        assert_eq!(parsed.err().map(|error| error.exit_code()), exit_code);
    }
}
