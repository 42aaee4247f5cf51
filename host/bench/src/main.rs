//! What a call of a policy costs in this host, beside a bare loop over the same component in the same engine: the limit.
//!
//! `cargo xtask bench calls` builds and starts it. Its arguments are folders: every policy in them is measured, with the settings
//! in `NAME.json` beside it. Bare and host take turns in short batches, so that what else the machine does hits both;
//! figures are medians, and only those of one run are to be compared.

mod bare;
mod guests;
mod measure;
mod subject;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::measure::Row;

fn main() -> ExitCode {
    let folders: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    match run(&folders) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(folders: &[PathBuf]) -> anyhow::Result<()> {
    let guests = guests::find(folders)?;
    println!("{}\n", machine());
    println!("{}", Row::HEAD);
    for guest in &guests {
        println!("{}", measure::measure(guest)?);
    }
    println!(
        "\nµs a call; ×: host / bare; 2 threads: calls of two threads / calls of one; allocs: host allocations a fresh call."
    );
    println!("{}", machine());
    Ok(())
}

/// How many processors there are, and how many others want them.
fn machine() -> String {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load: Vec<_> = load.split(' ').take(3).collect();
    format!("{processors} processors; load {}", load.join(" "))
}
