//! Counts the instructions of a call, by running this same command twice under a counter: with few calls and with more.
//!
//! The difference is what the additional calls took; loading and compiling fall out. The processor's counters
//! are read with `perf`, where the machine has and grants them; valgrind's are exact anywhere, and slow.

use std::path::Path;
use std::process::{Command, Stdio};

/// Instructions of a fresh call.
///
/// # Errors
/// With why they cannot be counted here, for people.
pub(super) fn count(with_valgrind: bool) -> Result<u64, String> {
    let executable = std::env::current_exe().map_err(|error| format!("this program is not found: {error}"))?;
    let by_perf = difference(&executable, Counter::Perf);
    let Err(why) = by_perf else { return by_perf };
    if !with_valgrind {
        return Err(format!("{why}; --instructions counts with valgrind"));
    }
    difference(&executable, Counter::Valgrind).map_err(|other| format!("{why}; {other}"))
}

#[derive(Clone, Copy)]
enum Counter {
    Perf,
    Valgrind,
}

fn difference(executable: &Path, counter: Counter) -> Result<u64, String> {
    let (few, many) = match counter {
        Counter::Perf => (100, 5_100),
        Counter::Valgrind => (10, 60),
    };
    let (less, more) = (counter.run(executable, few)?, counter.run(executable, many)?);
    Ok(more.saturating_sub(less) / (many - few))
}

impl Counter {
    /// Instructions of a whole run with so many calls.
    fn run(self, executable: &Path, calls: u64) -> Result<u64, String> {
        let (name, mut command) = match self {
            Self::Perf => {
                let mut command = Command::new("perf");
                command.args(["stat", "-x,", "-e", "instructions:u", "--"]);
                ("perf", command)
            }
            Self::Valgrind => {
                let mut command = Command::new("valgrind");
                command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--"]);
                ("valgrind", command)
            }
        };
        let only_call = format!("--only-call={calls}");
        let output = command
            .arg(executable)
            .args(std::env::args_os().skip(1))
            .arg(only_call)
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .output()
            .map_err(|error| format!("{name} cannot be started: {error}"))?;
        let text = String::from_utf8_lossy(&output.stderr);
        let counted = match self {
            Self::Perf => of_perf(&text),
            Self::Valgrind => of_callgrind(&text),
        };
        counted.filter(|_| output.status.success()).ok_or_else(|| {
            let said = text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("nothing");
            format!("{name} counts none on this machine (it says: {})", said.trim())
        })
    }
}

/// `123456,,instructions:u,…`; `<not supported>` where there are no counters.
fn of_perf(text: &str) -> Option<u64> {
    text.lines().find(|line| line.contains("instructions:u"))?.split(',').next()?.parse().ok()
}

/// `==7== Collected : 123456`.
fn of_callgrind(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.split_once("Collected :"))?.1.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: what counters print is read, and that they count nothing. Method: rows.
    #[test]
    fn counters_are_read() {
        assert_eq!(of_perf("1234,,instructions:u,100,100.00,,\n"), Some(1234));
        assert_eq!(of_perf("<not supported>,,instructions:u,0,100.00,,\n"), None);
        assert_eq!(of_perf(""), None);
        assert_eq!(of_callgrind("==7== Events    : Ir\n==7== Collected : 98765\n"), Some(98765));
        assert_eq!(of_callgrind("valgrind: cannot"), None);
    }
}
