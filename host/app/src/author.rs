//! `witgate plugin`: the tools of whoever writes policies and strategies.
//!
//! One file a subcommand. `new`, `build` and `dev` know how a project becomes a component from `witgate-guest-project`. The others judge with the code that serves: the folder's reader and the sidecar's, the host's loader, RequestInfo, the
//! rule. What a tool says of a plug-in is therefore what the gate will do with it. Nothing here is on the path of a request, and
//! nothing here reaches an API server; `dev` asks a gate's admin listener what it enforces.

mod anatomy;
mod bench;
mod build;
mod dev;
mod guest_log;
mod inspect;
mod judgement;
mod kubectl;
mod new;
mod plugin_file;
mod policy_set;
mod question;
mod replay;
mod run;
mod strategy_run;
mod test;

use std::process::ExitCode;

use clap::{Args, Subcommand};

/// Tools for who writes policies and strategies
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES, subcommand_required = true, arg_required_else_help = true)]
pub(crate) struct PluginArgs {
    #[command(subcommand)]
    command: PluginCommand,
}

/// What can be done with a plug-in. Each stands in a file of its name.
#[derive(Debug, Subcommand)]
enum PluginCommand {
    New(new::NewArgs),
    Build(build::BuildArgs),
    Dev(Box<dev::DevArgs>),
    Inspect(inspect::InspectArgs),
    Run(Box<run::RunArgs>),
    Test(test::TestArgs),
    Bench(Box<bench::BenchArgs>),
    Replay(replay::ReplayArgs),
}

impl PluginArgs {
    /// Does what was asked. Starts a runtime where it is needed, so it must be called outside of one.
    ///
    /// # Errors
    /// When it could not be done; that a plug-in is bad or a test fails is an exit code.
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        match self.command {
            PluginCommand::New(args) => new::run(&args),
            PluginCommand::Build(args) => build::run(&args),
            PluginCommand::Dev(args) => dev::run(&args),
            PluginCommand::Inspect(args) => inspect::run(&args),
            PluginCommand::Run(args) => run::run(&args),
            PluginCommand::Test(args) => test::run(&args),
            PluginCommand::Bench(args) => bench::run(&args),
            PluginCommand::Replay(args) => replay::run(&args),
        }
    }
}

const EXAMPLES: &str = "\
Examples:
  witgate plugin new no-shells                                         a project of your own, in Rust; --lang js, python or c
  witgate plugin build                                                 from its sources to NAME.wasm
  witgate plugin dev --into DIR                                        at every save: build, swap into a running gate, test
  witgate plugin inspect policies/read-only.wasm                       would the gate take it? what is in it?
  witgate plugin run policies/ --user jane --kubectl 'get pods -n x'   what is decided, and why?
  witgate plugin test                                                  do all cases of *.test.yaml hold?
  witgate plugin bench read-only.wasm --save before                    how fast is it? later: --baseline before
  witgate plugin replay --log decisions.jsonl --candidate policies/    which recorded decisions would change?

Exit codes: 0 done and good, 1 the plug-in is refused or a test fails, 2 the command line is not understood.";
