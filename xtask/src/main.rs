//! The project's menu: `cargo xtask --help`.
//!
//! Each task sets up what it needs. CI runs nothing but these tasks.

mod examples;
mod guests;
mod instructions;
mod tasks;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Build, test and try witgate.
///
/// On a fresh clone, `cargo xtask demo` shows what it does, and `cargo xtask test` that it works.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Builds every guest into target/guests/{policies,strategies,examples,fixtures}/NAME.wasm
    ///
    /// Adds the target wasm32-unknown-unknown through rustup where it is missing, prints each component's size and imports, and
    /// fails where one imports more than its world names.
    Guests,
    /// Builds the examples in JavaScript, Python and C into target/guests/examples/NAME-LANGUAGE.wasm
    ///
    /// Fetches each language's toolchain once, in a pinned version, by npm and pip, into `WITGATE_TEST_CACHE`, or `witgate-tests` in the
    /// folder for caches. What cannot be had is said and left out.
    Examples,
    /// Runs every test: the guests' own, then the workspace's
    ///
    /// Words after `--` go to the workspace's `cargo test`, such as `cargo xtask test -- -p witgate-core`; the guests are built all
    /// the same, since integration tests load them.
    Test {
        /// Passed to `cargo test`; `--workspace` where there are none.
        #[arg(last = true)]
        cargo_test: Vec<String>,
    },
    /// Builds the guests and runs `witgate demo`, with the ready policies at hand
    Demo {
        /// Passed to `witgate demo`; see `witgate demo --help`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        demo: Vec<String>,
    },
    /// Measures; without a word more, `calls`
    Bench {
        #[command(subcommand)]
        subject: Option<Bench>,
    },
    /// Writes docs/contract.md from the comments in wit/
    Contract,
    /// Fails where a file is not formatted
    Fmt,
    /// Fails on any lint, in the workspace and in the guests
    Clippy,
    /// Builds the documentation, and fails on broken links
    Doc,
    /// What CI runs: fmt, clippy, doc, guests, test
    Ci,
}

#[derive(Subcommand)]
enum Bench {
    /// Times calls of the ready policies beside the engine alone
    ///
    /// Prints a table: a fresh call, a warm one, instantiation, what the host adds, two threads, and the same after a pause. Figures of
    /// one run can be compared; the machine's load is printed with them.
    Calls {
        /// More folders of policies, such as those of other languages; with settings in NAME.json beside NAME.wasm.
        folders: Vec<std::path::PathBuf>,
    },
    /// Compares the gate with its peers: CPU time an answer, latency, a large list
    ///
    /// Needs nginx and h2load (Debian: nginx, nghttp2-client); kubectl is a peer where it is there. See docs/performance.md.
    Peers {
        /// Passed on: `--pairs N`, `--requests N`, `--only TEXT`, and `--write` for docs/performance.md.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<String>,
    },
    /// Counts a request's instructions, and fails where they are noticeably more than the baseline's
    ///
    /// Needs valgrind (Debian: valgrind); `cargo xtask test` does it too, where that is there. The baseline is of one compiler and one kind
    /// of machine: elsewhere it says so and compares nothing.
    Instructions {
        /// Keep what is counted as the baseline, in host/bench/instructions.txt.
        #[arg(long)]
        write: bool,
    },
}

fn main() -> ExitCode {
    let result = match Arguments::parse().task {
        Task::Guests => guests::build_and_show(),
        Task::Examples => examples::build_and_show(),
        Task::Test { cargo_test } => tasks::test(&cargo_test),
        Task::Demo { demo } => tasks::demo(&demo),
        Task::Bench { subject: None } => tasks::bench_calls(&[]),
        Task::Bench { subject: Some(Bench::Calls { folders }) } => tasks::bench_calls(&folders),
        Task::Bench { subject: Some(Bench::Peers { words }) } => tasks::bench_peers(&words),
        Task::Bench { subject: Some(Bench::Instructions { write }) } => instructions::run(write),
        Task::Contract => tasks::contract(),
        Task::Fmt => tasks::fmt(),
        Task::Clippy => tasks::clippy(),
        Task::Doc => tasks::doc(),
        Task::Ci => tasks::ci(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
