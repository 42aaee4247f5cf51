//! Writes decisions as JSON lines, to standard output or a file that may be rotated.
//!
//! A request only ever puts its line into a bounded queue; one thread writes. A disk
//! that is full or slow costs lines, never requests: what finds no room is dropped,
//! counted, and said at most once a second; or, where no request may go unrecorded, a request takes its line's place before it
//! begins and is refused where there is none. A file that was moved or removed
//! is opened anew within a second, or at once when asked (SIGHUP); one that was cut short is written on from its new end.
//!
//! Promise: nothing here blocks, lines keep their order, and a line
//! is written whole or, where the process is killed, not at all to its end.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bytes::Bytes;
use tokio::sync::Semaphore;
use witgate_proxy::decision::{LogFull, Place};

use crate::config::{DecisionLogTarget, OnFullLog};

/// A decision log that is being written.
pub(crate) struct JsonLines {
    queue: SyncSender<Message>,
    on_full: OnFullLog,
    shared: Arc<Shared>,
}

enum Message {
    Line(Bytes, Place),
    /// Look at [`Shared::closing`] and [`Shared::reopening`].
    Wake,
}

/// What the writer and those that feed it both see.
struct Shared {
    /// One for each line that may wait.
    places: Arc<Semaphore>,
    lines_max: usize,
    drops: Drops,
    closing: AtomicBool,
    reopening: AtomicBool,
    ended: Mutex<bool>,
    /// Told when `closing` or `ended` changes, and when lines wait for their writer.
    changed: Condvar,
}

impl JsonLines {
    /// Opens `target` and starts to write.
    ///
    /// # Errors
    /// When the file cannot be opened for appending, or no thread can be started.
    pub(crate) fn start(target: &DecisionLogTarget, on_full: OnFullLog, lines_max: usize) -> anyhow::Result<Self> {
        let output = Output::open(target)?;
        let (log, lines) = Self::with_queue(lines_max, on_full);
        let shared = Arc::clone(&log.shared);
        let write = move || {
            write_all(&lines, output, &shared);
            *shared.ended() = true;
            shared.changed.notify_all();
        };
        std::thread::Builder::new()
            .name("decision-log".into())
            .spawn(write)
            .context("no thread for the decision log")?;
        Ok(log)
    }

    fn with_queue(lines_max: usize, on_full: OnFullLog) -> (Self, Receiver<Message>) {
        // A line has its place before it comes, so what is beyond them is for waking alone.
        let (queue, lines) = sync_channel(lines_max + WAKES_MAX);
        let shared = Shared {
            places: Arc::new(Semaphore::new(lines_max)),
            lines_max,
            drops: Drops::new(Instant::now()),
            closing: AtomicBool::new(false),
            reopening: AtomicBool::new(false),
            ended: Mutex::new(false),
            changed: Condvar::new(),
        };
        (Self { queue, on_full, shared: Arc::new(shared) }, lines)
    }

    /// How many lines were dropped since the start.
    pub(crate) fn dropped(&self) -> u64 {
        self.shared.drops.total.load(Ordering::Relaxed)
    }

    /// Writes what is queued and ends. Blocks, but no longer than [`CLOSE_TIMEOUT`]. Later records are dropped.
    pub(crate) fn close(&self) {
        self.shared.closing.store(true, Ordering::Release);
        // Full: the writer is not waiting for a line, and looks before it does.
        drop(self.queue.try_send(Message::Wake));
        self.shared.changed.notify_all();
        let ended = self.shared.changed.wait_timeout_while(self.shared.ended(), CLOSE_TIMEOUT, |ended| !*ended);
        if !*ended.unwrap_or_else(PoisonError::into_inner).0 {
            tracing::warn!("decision log not written to its end within {CLOSE_TIMEOUT:?}");
        }
    }

    /// Whether no other line has a place, and requests are refused for it.
    pub(crate) fn refuses(&self) -> bool {
        self.on_full == OnFullLog::Deny && self.shared.places.available_permits() == 0
    }

    /// Lines that wait to be written, or have a place kept.
    pub(crate) fn waiting(&self) -> usize {
        self.shared.waiting()
    }

    /// Opens the file anew, as after a rotation.
    pub(crate) fn reopen(&self) {
        if !self.shared.reopening.swap(true, Ordering::AcqRel) {
            drop(self.queue.try_send(Message::Wake));
        }
    }

    /// Keeps a place for a line, where a request must not go without one.
    ///
    /// # Errors
    /// When all are taken.
    pub(crate) fn admit(&self) -> Result<Place, LogFull> {
        match self.on_full {
            OnFullLog::Drop => Ok(Place::default()),
            OnFullLog::Deny => {
                Ok(Place(Some(Arc::clone(&self.shared.places).try_acquire_owned().map_err(|_full| LogFull)?)))
            }
        }
    }

    /// Takes a line, which ends with a line feed; drops and counts it where it has no place and there is none.
    pub(crate) fn put(&self, place: Place, line: Bytes) {
        let place = place.0.or_else(|| Arc::clone(&self.shared.places).try_acquire_owned().ok());
        if let Some(place) = place
            && self.queue.try_send(Message::Line(line, Place(Some(place)))).is_ok()
        {
            if self.shared.is_half_full() {
                self.shared.changed.notify_all();
            }
            return;
        }
        self.shared.drops.count();
        self.shared.drops.say_if_due(Instant::now());
    }
}

impl Shared {
    fn ended(&self) -> std::sync::MutexGuard<'_, bool> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    fn waiting(&self) -> usize {
        self.lines_max.saturating_sub(self.places.available_permits())
    }

    fn is_half_full(&self) -> bool {
        self.waiting() >= self.lines_max.div_ceil(2)
    }

    /// Lets more lines come, so that one waking and one write serve all of a busy moment; not at the end, and not where
    /// they are many already.
    fn gather(&self) {
        let more_may_come = |_: &mut bool| !self.is_closing() && !self.is_half_full();
        drop(self.changed.wait_timeout_while(self.ended(), GATHER_TIME, more_may_come));
    }
}

/// Lines that found no room.
struct Drops {
    started_at: Instant,
    total: AtomicU64,
    unsaid: AtomicU64,
    /// Milliseconds after `started_at` from which it may be said again.
    next_ms: AtomicU64,
}

impl Drops {
    fn new(started_at: Instant) -> Self {
        Self { started_at, total: AtomicU64::new(0), unsaid: AtomicU64::new(0), next_ms: AtomicU64::new(0) }
    }

    fn count(&self) {
        self.total.fetch_add(1, Ordering::Relaxed);
        self.unsaid.fetch_add(1, Ordering::Relaxed);
    }

    /// How many to say now: those that were not said yet, once a second.
    fn due(&self, now: Instant) -> Option<u64> {
        if self.unsaid.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let now_ms = u64::try_from(now.saturating_duration_since(self.started_at).as_millis()).unwrap_or(u64::MAX);
        let next_ms = self.next_ms.load(Ordering::Relaxed);
        if now_ms < next_ms {
            return None;
        }
        let later_ms = now_ms.saturating_add(SAY_INTERVAL_MS);
        self.next_ms.compare_exchange(next_ms, later_ms, Ordering::Relaxed, Ordering::Relaxed).ok()?;
        Some(self.unsaid.swap(0, Ordering::Relaxed)).filter(|dropped| *dropped > 0)
    }

    fn say_if_due(&self, now: Instant) {
        if let Some(dropped) = self.due(now) {
            tracing::warn!(dropped, "decision log is behind: lines dropped");
        }
    }
}

/// Moves lines from the queue to `output` until the log is closed or dropped.
fn write_all(lines: &Receiver<Message>, mut output: Output, shared: &Shared) {
    let mut open = true;
    while open {
        let patience = Duration::from_millis(SAY_INTERVAL_MS);
        let silent = shared.drops.unsaid.load(Ordering::Relaxed) == 0;
        let first = if shared.is_closing() {
            lines.try_recv().map_err(|_| RecvTimeoutError::Disconnected)
        } else if silent {
            lines.recv().map_err(|_| RecvTimeoutError::Disconnected)
        } else {
            lines.recv_timeout(patience) // drops are still to be said
        };
        if shared.reopening.swap(false, Ordering::AcqRel) {
            output.reopen();
        }
        match first {
            Ok(message) => {
                output.take(message);
                shared.gather();
                while output.has_room()
                    && let Ok(message) = lines.try_recv()
                {
                    output.take(message);
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => open = false,
        }
        // Until the output takes the lines again the queue fills, and then drops.
        while !output.flush(Instant::now()) {
            if shared.is_closing() {
                return;
            }
            shared.drops.say_if_due(Instant::now());
            let wait = shared.changed.wait_timeout_while(shared.ended(), RETRY_INTERVAL, |_| !shared.is_closing());
            drop(wait);
        }
        shared.drops.say_if_due(Instant::now());
    }
}

/// Where lines go, with those that are on their way.
struct Output {
    path: Option<PathBuf>,
    file: File,
    looked_at: Instant,
    lines: Vec<u8>,
    /// How many bytes of `lines` are written.
    written: usize,
    /// Whether the log was told that writing fails.
    failing: bool,
}

impl Output {
    fn open(target: &DecisionLogTarget) -> anyhow::Result<Self> {
        let (path, file) = match target {
            // A handle of our own: what `print!` buffers must not mix with it.
            DecisionLogTarget::Stdout => (None, File::from(io::stdout().as_fd().try_clone_to_owned()?)),
            DecisionLogTarget::File(path) => {
                let file = open(path).with_context(|| format!("decision log {} cannot be opened", path.display()))?;
                (Some(path.clone()), file)
            }
        };
        Ok(Self { path, file, looked_at: Instant::now(), lines: Vec::new(), written: 0, failing: false })
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Line(line, place) => {
                self.lines.extend_from_slice(&line);
                drop(place);
            }
            Message::Wake => {}
        }
    }

    fn has_room(&self) -> bool {
        self.lines.len() < BATCH_BYTES
    }

    /// Writes what it holds; false when that failed and is to be tried again.
    fn flush(&mut self, now: Instant) -> bool {
        match self.try_flush(now) {
            Ok(()) => {
                if self.failing {
                    tracing::info!("decision log is written again");
                }
                self.failing = false;
                true
            }
            Err(error) => {
                if !self.failing {
                    tracing::error!(error = %error, "decision log cannot be written; tried again until it can");
                }
                self.failing = true;
                false
            }
        }
    }

    fn try_flush(&mut self, now: Instant) -> io::Result<()> {
        if self.lines.is_empty() {
            return Ok(());
        }
        if self.failing || now.saturating_duration_since(self.looked_at) >= LOOK_INTERVAL {
            self.looked_at = now;
            self.follow_the_path()?;
        }
        while let Some(rest) = self.lines.get(self.written..).filter(|rest| !rest.is_empty()) {
            match self.file.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(bytes) => self.written += bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.lines.clear();
        self.written = 0;
        Ok(())
    }

    /// Opens the path anew before the next line, whatever it leads to; without a line too, so that the old file is let go.
    fn reopen(&mut self) {
        let Some(path) = &self.path else { return };
        match open(path) {
            Ok(file) if self.lines.is_empty() => self.file = file,
            // What is on its way is written first; the next look finds out whether the path leads elsewhere.
            Ok(_) => {}
            Err(error) => tracing::warn!(path = %path.display(), %error, "decision log cannot be opened anew"),
        }
        self.looked_at = Instant::now().checked_sub(LOOK_INTERVAL).unwrap_or(self.looked_at);
    }

    /// Opens the path anew where it no longer leads to the open file.
    fn follow_the_path(&mut self) -> io::Result<()> {
        let Some(path) = &self.path else { return Ok(()) };
        let open_now = self.file.metadata()?;
        let same = |there: std::fs::Metadata| (there.dev(), there.ino()) == (open_now.dev(), open_now.ino());
        if std::fs::metadata(path).is_ok_and(same) {
            return Ok(());
        }
        match open(path) {
            Ok(file) => self.file = file,
            // The moved file still takes lines; better there than nowhere.
            Err(error) if !self.failing => {
                tracing::warn!(path = %path.display(), error = %error, "decision log cannot be opened anew");
                return Ok(());
            }
            Err(error) => return Err(error),
        }
        // A line that the old file got a part of is written to the new one whole.
        let done = self.lines.get(..self.written).unwrap_or_default();
        self.written = done.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        Ok(())
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

/// Messages without a line that may wait: one of each reason.
const WAKES_MAX: usize = 2;

/// How much goes to the output at once.
const BATCH_BYTES: usize = 64 * 1024;

/// How long a line may wait for others. The waking of a sleeping thread and a write cost a request more than all else that it logs.
const GATHER_TIME: Duration = Duration::from_millis(10);

/// How often the path is looked at for a rotation.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// How long the writer waits before it tries again.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// How often dropped lines are said, at most.
const SAY_INTERVAL_MS: u64 = 1_000;

/// How long the end waits for the writer.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    fn target(path: &Path) -> DecisionLogTarget {
        DecisionLogTarget::File(path.to_owned())
    }

    fn start(path: &Path) -> anyhow::Result<JsonLines> {
        JsonLines::start(&target(path), OnFullLog::Drop, 8_192)
    }

    fn line(text: &str) -> Message {
        Message::Line(format!("{text}\n").into(), Place::default())
    }

    fn content(path: &Path) -> String {
        std::fs::read_to_string(path).unwrap()
    }

    /// Goal: lines arrive in order, appended, in a file that others cannot read. Method: two runs of 1,000 lines.
    #[test]
    fn lines_arrive_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("decisions.jsonl");
        let mut expected = String::new();
        for run in 0..2 {
            let log = start(&path).unwrap();
            for number in 0..1_000 {
                log.put(Place::default(), format!("{{\"run\":{run},\"line\":{number}}}\n").into());
                expected += &format!("{{\"run\":{run},\"line\":{number}}}\n");
            }
            log.close();
            log.put(Place::default(), "late\n".into());
            assert_eq!(content(&path), expected);
        }
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    }

    /// Goal: a log that is dropped without being closed still writes what it has. Method: wait for the file's end.
    #[test]
    fn a_dropped_log_writes_what_it_has() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("decisions.jsonl");
        let log = start(&path).unwrap();
        log.put(Place::default(), "1\n".into());
        let shared = Arc::clone(&log.shared);
        drop(log);
        let ended =
            shared.changed.wait_timeout_while(shared.ended(), Duration::from_secs(60), |ended| !*ended).unwrap();
        assert!(*ended.0);
        assert_eq!(content(&path), "1\n");
    }

    /// Goal: a full queue drops, counts and never blocks. Method: a queue of two that nobody reads.
    #[test]
    fn a_full_queue_drops_and_counts() {
        let (log, lines) = JsonLines::with_queue(2, OnFullLog::Drop);
        for number in 0..5 {
            log.put(Place::default(), format!("{number}\n").into());
        }
        assert_eq!(log.dropped(), 3);
        let kept: Vec<_> = lines
            .try_iter()
            .map(|message| match message {
                Message::Line(line, _) => String::from_utf8(line.to_vec()).unwrap(),
                Message::Wake => "wake".to_owned(),
            })
            .collect();
        assert_eq!(kept, ["0\n", "1\n"]);
    }

    /// Goal: where no request may go unrecorded, none is admitted without a place, and each has its line. Method: a queue of
    /// two: two are admitted, a third is not, the end of a stream finds no room, and a line that is written makes some.
    #[test]
    fn a_full_queue_admits_nobody_where_it_must_not() {
        let (log, lines) = JsonLines::with_queue(2, OnFullLog::Deny);
        let (first, second) = (log.admit().unwrap(), log.admit().unwrap());
        assert_eq!(log.admit().unwrap_err(), LogFull);
        assert!(log.refuses());
        log.put(Place::default(), "the end of a stream\n".into());
        assert_eq!(log.dropped(), 1);
        log.put(first, "first\n".into());
        log.put(second, "second\n".into());
        assert!(log.admit().is_err(), "they are not written yet");
        assert_eq!(log.dropped(), 1);
        drop(lines.try_recv().unwrap());
        assert!(log.admit().is_ok());
        assert!(!log.refuses());
    }

    /// Goal: drops are said at once and then once a second, each once. Method: drops and moments.
    #[test]
    fn drops_are_said_once_a_second() {
        let start = Instant::now();
        let drops = Drops::new(start);
        let check = |dropped: u64, after_ms: u64, expected: Option<u64>| {
            (0..dropped).for_each(|_| drops.count());
            assert_eq!(drops.due(start + Duration::from_millis(after_ms)), expected, "{dropped} at {after_ms}");
        };
        check(0, 0, None);
        check(3, 10, Some(3));
        check(0, 20, None);
        check(4, 1_009, None);
        check(1, 1_010, Some(5));
        check(0, 9_000, None);
        check(1, 9_000, Some(1));
    }

    /// Goal: a moved or removed file is opened anew within a second; a folder that is gone costs nothing.
    /// Method: what happens to the file, when, and where the line is then.
    #[test]
    fn a_rotated_file_is_opened_anew() {
        let folder = tempfile::tempdir().unwrap();
        let logs = folder.path().join("logs");
        std::fs::create_dir(&logs).unwrap();
        let path = logs.join("decisions.jsonl");
        let moved = logs.join("decisions.jsonl.1");
        let mut output = Output::open(&target(&path)).unwrap();
        let start = output.looked_at;
        let mut put = |text: &str, after_ms: u64| {
            output.take(line(text));
            assert!(output.flush(start + Duration::from_millis(after_ms)), "{text}");
        };
        put("a", 0);
        std::fs::rename(&path, &moved).unwrap();
        put("b", 999);
        assert_eq!(content(&moved), "a\nb\n");
        put("c", 1_000);
        assert_eq!((content(&moved), content(&path)), ("a\nb\n".into(), "c\n".into()));
        std::fs::remove_file(&path).unwrap();
        put("d", 2_000);
        assert_eq!(content(&path), "d\n");
        let away = folder.path().join("away");
        std::fs::rename(&logs, &away).unwrap();
        put("e", 3_000);
        assert_eq!(content(&away.join("decisions.jsonl")), "d\ne\n");
        std::fs::create_dir(&logs).unwrap();
        put("f", 4_000);
        assert_eq!(content(&path), "f\n");
    }

    /// Goal: a file that is copied and cut short is written on from its new end. Method: what `logrotate` does with `copytruncate`.
    #[test]
    fn a_file_that_was_cut_short_is_written_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("decisions.jsonl");
        let mut output = Output::open(&target(&path)).unwrap();
        let start = output.looked_at;
        output.take(line("a"));
        assert!(output.flush(start));
        std::fs::copy(&path, folder.path().join("decisions.jsonl.1")).unwrap();
        File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
        output.take(line("b"));
        assert!(output.flush(start));
        assert_eq!(content(&path), "b\n");
    }

    /// Goal: a signal opens the file anew at once, with lines on their way and without. Method: both, after a rename.
    #[test]
    fn a_file_is_opened_anew_when_asked() {
        for waiting in [false, true] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("decisions.jsonl");
            let mut output = Output::open(&target(&path)).unwrap();
            if waiting {
                output.take(line("a"));
            }
            std::fs::rename(&path, folder.path().join("decisions.jsonl.1")).unwrap();
            output.reopen();
            output.take(line("b"));
            assert!(output.flush(Instant::now()));
            assert_eq!(content(&path), if waiting { "a\nb\n" } else { "b\n" });
        }
    }

    /// Goal: a disk that is full loses no line that was taken. Method: a path to `/dev/full`, then to a file.
    #[test]
    fn a_full_disk_is_tried_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("decisions.jsonl");
        std::os::unix::fs::symlink("/dev/full", &path).unwrap();
        let mut output = Output::open(&target(&path)).unwrap();
        let start = output.looked_at;
        for text in ["a", "b"] {
            output.take(line(text));
            assert!(!output.flush(start));
        }
        std::fs::remove_file(&path).unwrap();
        assert!(output.flush(start));
        assert_eq!(content(&path), "a\nb\n");
        assert!(!output.failing);
    }

    /// Goal: a line that was half written before a rotation is whole in the new file. Method: pretend that half of it was.
    #[test]
    fn a_line_is_whole_in_one_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("decisions.jsonl");
        let mut output = Output::open(&target(&path)).unwrap();
        output.take(line("first"));
        output.take(line("second"));
        output.written = "first\nsec".len();
        std::fs::remove_file(&path).unwrap();
        assert!(output.flush(output.looked_at + LOOK_INTERVAL));
        assert_eq!(content(&path), "second\n");
    }

    /// Goal: a log that cannot be written ends all the same. Method: close one on a full disk with a line in it.
    #[test]
    fn a_log_that_cannot_be_written_still_closes() {
        let log = start(Path::new("/dev/full")).unwrap();
        log.put(Place::default(), "1\n".into());
        log.close();
        assert!(*log.shared.ended());
    }
}
