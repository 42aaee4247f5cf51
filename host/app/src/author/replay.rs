//! `witgate plugin replay`: which recorded decisions a candidate would change.
//!
//! One thread reads, one a processor asks. What is held of the log at any time are a few batches of lines; what is kept of the
//! answers is a [`Tally`], which is bounded. A policy is a pure function of its query, the time included, so that asking
//! it again is all there is to it.

mod changes;
mod record;

use std::fs::File;
use std::io::{BufRead, BufReader, Read as _};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};
use serde_json::json;
use witgate_core::{CallError, PermissionPolicy, PolicyAnswer, PolicyMode, verdict};

use super::plugin_file::{WorkshopOptions, runtime};
use super::policy_set::{Deadlines, PluginSet, read_settings};
use changes::Tally;
use record::{MaskedLines, Recorded, Skipped};

/// Ask candidate policies what a decision log recorded, and show which decisions would change
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct ReplayArgs {
    /// The decision log, as `decisionLog.file` wrote it; - reads standard input
    #[arg(long, value_name = "FILE")]
    log: PathBuf,
    /// The candidate: a policy, or a folder that would be the drop-in folder; may be given several times
    #[arg(long = "candidate", value_name = "FILE.wasm|DIR", required = true)]
    candidates: Vec<PathBuf>,
    /// Settings instead of the sidecar's, where the candidate is one component
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
    /// What becomes of lines in which `decisionLog.mask` has masked what a policy may look at
    #[arg(long, value_name = "WHAT", default_value = "skip")]
    masked: Masked,
    /// How many threads ask; default: one a processor
    #[arg(long, value_name = "COUNT")]
    threads: Option<NonZeroUsize>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    workshop: WorkshopOptions,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Masked {
    /// Count them, and do not ask: a policy would see the mask instead of the value
    Skip,
    /// Ask with the mask as the value: right for policies that do not look at it
    Ask,
}

/// Lines on their way to who asks.
struct Batch {
    /// The number of its first line.
    first_line: u64,
    bytes: Vec<u8>,
    /// Where its lines end.
    ends: Vec<usize>,
}

/// Replays: 0 where no decision would change, 1 where one would, or where there was nothing to ask.
///
/// # Errors
/// When the log cannot be read, or the gate would refuse the candidate.
pub(crate) fn run(args: &ReplayArgs) -> anyhow::Result<ExitCode> {
    let workshop = args.workshop.open()?;
    let settings = args.settings.as_deref().map(read_settings).transpose()?;
    let set = runtime()?.block_on(PluginSet::load(&workshop, &args.candidates, settings, Deadlines::Patient))?;
    if set.policies.iter().all(|policy| policy.mode() == PolicyMode::Shadow) {
        bail!("the candidate holds no policy that counts, so everything would be denied");
    }
    let masked = match args.masked {
        Masked::Skip => MaskedLines::Skipped,
        Masked::Ask => MaskedLines::Asked,
    };
    let began = Instant::now();
    let threads = args.threads.or_else(|| std::thread::available_parallelism().ok()).map_or(1, NonZeroUsize::get);
    let tally = replay(open(&args.log)?, &set.policies, threads.min(THREADS_MAX), masked)
        .with_context(|| format!("{} cannot be read", args.log.display()))?;
    let took = began.elapsed();
    if args.json {
        print_json(&tally, took)?;
    } else {
        print_text(&tally, took);
    }
    if tally.replayed == 0 {
        eprintln!("error: {} holds no decision that could be asked for again", args.log.display());
        return Ok(ExitCode::FAILURE);
    }
    Ok(if tally.changed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn open(path: &Path) -> anyhow::Result<Box<dyn BufRead + Send>> {
    if path == Path::new("-") {
        return Ok(Box::new(BufReader::new(std::io::stdin())));
    }
    let file = File::open(path).with_context(|| format!("{} cannot be read", path.display()))?;
    Ok(Box::new(BufReader::with_capacity(READ_BYTES, file)))
}

/// Asks about every line of `log`.
fn replay(
    mut log: Box<dyn BufRead + Send>,
    policies: &[Arc<dyn PermissionPolicy>],
    threads: usize,
    masked: MaskedLines,
) -> anyhow::Result<Tally> {
    let (batches, receiver) = sync_channel(threads * BATCHES_WAITING);
    let receiver = Mutex::new(receiver);
    let done = AtomicU64::new(0);
    let (ended, ending) = sync_channel::<()>(0);
    std::thread::scope(|scope| {
        let done = &done;
        scope.spawn(move || tell_progress(done, &ending));
        let asking: Vec<_> = (0..threads).map(|_| scope.spawn(|| ask_all(&receiver, policies, masked, done))).collect();
        let read = read_all(&mut log, &batches);
        drop(batches);
        let mut tally = Tally::default();
        let mut failed = None;
        for thread in asking {
            match thread.join() {
                Ok(Ok(part)) => tally.merge(part),
                Ok(Err(error)) => failed = Some(error),
                Err(_) => failed = Some(anyhow::anyhow!("a thread ended without a result")),
            }
        }
        drop(ended);
        for line in read? {
            tally.skip(Skipped::TooLong, line);
        }
        match failed {
            None => Ok(tally),
            Some(error) => Err(error),
        }
    })
}

/// Hands the log out in batches; the numbers of lines that are too long come back.
fn read_all(log: &mut dyn BufRead, batches: &SyncSender<Batch>) -> anyhow::Result<Vec<u64>> {
    let mut too_long = Vec::new();
    let mut line = 1;
    loop {
        let mut batch = Batch { first_line: line, bytes: Vec::with_capacity(BATCH_BYTES + 4096), ends: Vec::new() };
        while batch.bytes.len() < BATCH_BYTES {
            let begin = batch.bytes.len();
            let read = (&mut *log).take(LINE_BYTES_MAX).read_until(b'\n', &mut batch.bytes)?;
            if read == 0 {
                break;
            }
            if read as u64 == LINE_BYTES_MAX && batch.bytes.last() != Some(&b'\n') {
                batch.bytes.truncate(begin);
                log.skip_until(b'\n')?;
                if too_long.len() < TOO_LONG_MAX {
                    too_long.push(line);
                }
            }
            batch.ends.push(batch.bytes.len());
            line += 1;
        }
        if batch.ends.is_empty() {
            return Ok(too_long);
        }
        // Nobody listens any more where all threads failed; they say why.
        if batches.send(batch).is_err() {
            return Ok(too_long);
        }
    }
}

fn ask_all(
    batches: &Mutex<Receiver<Batch>>,
    policies: &[Arc<dyn PermissionPolicy>],
    masked: MaskedLines,
    done: &AtomicU64,
) -> anyhow::Result<Tally> {
    let runtime = runtime()?;
    // What guests log of a hundred thousand questions is nothing to read.
    let _silent = tracing::subscriber::set_default(tracing::subscriber::NoSubscriber::default());
    let mut tally = Tally::default();
    loop {
        let received = batches.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Batch { first_line, bytes, ends }) = received else { return Ok(tally) };
        runtime.block_on(async {
            let mut begin = 0;
            for (number, end) in (first_line..).zip(ends) {
                let line = bytes.get(begin..end).unwrap_or_default().trim_ascii();
                begin = end;
                if line.is_empty() {
                    continue;
                }
                match Recorded::parse(line, masked) {
                    Ok(recorded) => {
                        let answered = ask(policies, &recorded).await;
                        tally.count(&recorded, &answered);
                    }
                    Err(why) => tally.skip(why, number),
                }
                done.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
}

async fn ask(policies: &[Arc<dyn PermissionPolicy>], recorded: &Recorded) -> witgate_core::Verdict {
    let mut answers = Vec::with_capacity(policies.len());
    for policy in policies.iter().filter(|policy| policy.mode() == PolicyMode::Enforce) {
        let mut answer = policy.handle(&recorded.query, Some(&recorded.user)).await;
        for _ in 1..TRIES_MAX {
            if !matches!(answer, Err(CallError::DeadlineExceeded { .. })) {
                break;
            }
            answer = policy.handle(&recorded.query, Some(&recorded.user)).await;
        }
        answers.push(PolicyAnswer { policy: policy.name(), mode: policy.mode(), answer });
    }
    verdict(answers, recorded.query.request.as_ref())
}

/// Says every few seconds how far it is.
fn tell_progress(done: &AtomicU64, ending: &Receiver<()>) {
    let began = Instant::now();
    while ending.recv_timeout(PROGRESS_INTERVAL) == Err(RecvTimeoutError::Timeout) {
        let lines = done.load(Ordering::Relaxed);
        let each_second = lines as f64 / began.elapsed().as_secs_f64();
        eprintln!("{lines} lines so far, {each_second:.0} a second");
    }
}

fn print_text(tally: &Tally, took: Duration) {
    let each_second = tally.replayed as f64 / took.as_secs_f64().max(1e-9);
    println!(
        "{} lines: {} asked again, {} passed over; {:.1} s, {each_second:.0} decisions a second",
        tally.replayed + tally.skipped_count(),
        tally.replayed,
        tally.skipped_count(),
        took.as_secs_f64()
    );
    for (why, (count, line)) in &tally.skipped {
        println!("{count:>8}  passed over: {why} (first in line {line})");
    }
    println!("          not in the log, so policies were not told: the caller's uid and extra, patch type, dry run");
    if tally.changed == 0 {
        println!("No decision would change.");
        return;
    }
    let groups = tally.groups();
    println!("{} decisions would change, in {} groups:", tally.changed, groups.len());
    for (key, group) in groups.iter().take(GROUPS_SHOWN_MAX) {
        key.describe(group).iter().for_each(|line| println!("{line}"));
    }
    let rest: u64 = groups.iter().skip(GROUPS_SHOWN_MAX).map(|(_, group)| group.count).sum::<u64>() + tally.ungrouped();
    if rest > 0 {
        println!("{rest:>8}  more, in groups that are not shown (--json shows up to 1000)");
    }
}

fn print_json(tally: &Tally, took: Duration) -> anyhow::Result<()> {
    let skipped: Vec<_> = tally
        .skipped
        .iter()
        .map(|(why, (count, line))| json!({ "why": why.to_string(), "count": count, "firstLine": line }))
        .collect();
    let groups: Vec<_> = tally.groups().iter().map(|(key, group)| key.as_json(group)).collect();
    let object = json!({
        "replayed": tally.replayed, "changed": tally.changed, "skipped": skipped, "groups": groups,
        "ungrouped": tally.ungrouped(), "seconds": took.as_secs_f64(),
        "notTold": ["uid", "extra", "patchType", "dryRun"],
    });
    println!("{}", serde_json::to_string_pretty(&object)?);
    Ok(())
}

const READ_BYTES: usize = 1 << 20;
/// Lines that go to a thread at once.
const BATCH_BYTES: usize = 256 << 10;
/// Batches that wait, for each thread.
const BATCHES_WAITING: usize = 2;
/// The gate's own lines have less than a hundredth of it, but for a path or a selector that a client chose.
const LINE_BYTES_MAX: u64 = 1 << 20;
/// Lines that are too long of which the numbers are kept.
const TOO_LONG_MAX: usize = 1_000;
const THREADS_MAX: usize = 256;
/// How often a policy is asked that is late.
const TRIES_MAX: usize = 3;
const GROUPS_SHOWN_MAX: usize = 50;
const PROGRESS_INTERVAL: Duration = Duration::from_secs(2);

const EXAMPLES: &str = "\
Examples:
  witgate plugin replay --log decisions.jsonl --candidate tenancy.wasm --settings tenants.yaml
  witgate plugin replay --log decisions.jsonl --candidate policies/         what would this folder have decided?
  zcat decisions.jsonl.gz | witgate plugin replay --log - --candidate policies/ --json

Each line is asked again with its own time. What a log cannot tell is said: lines of requests that no policy was asked about,
masked values, and what is not recorded (uid, extra, patch type, dry run). Policies have a second at least: that a busy machine
is late is no change. A request by `kubectl --as` is several
questions and one line: it is asked as the request alone.

Exit codes: 0 no decision would change; 1 one would, or there was none to ask; 2 the command line is not understood.";

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: lines come out whole and numbered, and one that is too long is passed over. Method: a log with each sort.
    #[test]
    fn a_log_is_read_in_lines() {
        let long = "x".repeat(LINE_BYTES_MAX as usize + 5);
        let text = format!("a\n\n{long}\nb");
        let (sender, receiver) = sync_channel(8);
        let too_long = read_all(&mut text.as_bytes(), &sender).unwrap();
        drop(sender);
        let mut lines = Vec::new();
        for batch in receiver {
            let mut begin = 0;
            for (number, end) in (batch.first_line..).zip(batch.ends) {
                lines.push((number, String::from_utf8(batch.bytes.get(begin..end).unwrap().to_vec()).unwrap()));
                begin = end;
            }
        }
        assert_eq!(too_long, [3]);
        assert_eq!(lines, [(1, "a\n".into()), (2, "\n".into()), (3, String::new()), (4, "b".into())]);
    }
}
