//! What a file says, read again when the file changes.
//!
//! Token files and key sets are rotated under a running gate: by an editor, by a
//! rename, by the `..data` symlink of a Kubernetes mount. Nothing is watched
//! here; whoever needs the content asks, and at most once a second the file is
//! looked at, on a blocking thread.
//!
//! Promise: a file that went missing or bad changes nothing but the log, once.

use std::fs::{File, Metadata};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context as _;
use arc_swap::ArcSwap;
use witgate_core::Digest;

use super::now::Now;

/// A file's content as a `T`, kept up to date.
#[derive(Debug)]
pub(super) struct Reread<T> {
    file: Arc<WatchedFile<T>>,
    opened_at: Instant,
    /// Milliseconds after `opened_at` from which the file is looked at again.
    next_look_ms: AtomicU64,
}

#[derive(Debug)]
struct WatchedFile<T> {
    path: PathBuf,
    bytes_max: u64,
    parse: fn(&[u8]) -> anyhow::Result<T>,
    current: ArcSwap<T>,
    last: Mutex<LastLook>,
}

#[derive(Debug)]
struct LastLook {
    stamp: Stamp,
    digest: Digest,
    /// What was last said to be wrong, so that it is said once.
    complaint: Option<String>,
}

/// What tells a changed file from an unchanged one without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    modified_ns: i128,
    changed_ns: i128,
    /// Whether the last change is long enough ago that another one must have moved the times.
    settled: bool,
}

impl<T: Send + Sync + 'static> Reread<T> {
    /// Reads `path` for the first time. Blocks.
    ///
    /// # Errors
    /// When it cannot be read, is larger than `bytes_max`, or is refused by `parse`.
    pub(super) fn open(path: &Path, bytes_max: u64, parse: fn(&[u8]) -> anyhow::Result<T>) -> anyhow::Result<Self> {
        let (stamp, content) = read(path, bytes_max)?;
        let current = ArcSwap::from_pointee(parse(&content)?);
        let last = Mutex::new(LastLook { stamp, digest: Digest::of(&content), complaint: None });
        Ok(Self {
            file: Arc::new(WatchedFile { path: path.to_owned(), bytes_max, parse, current, last }),
            opened_at: Instant::now(),
            next_look_ms: AtomicU64::new(0),
        })
    }

    /// What the file last said that was good.
    pub(super) fn current(&self) -> Arc<T> {
        self.file.current.load_full()
    }

    /// Looks at the file if nobody has within a second. The caller that looks waits for it, others do not.
    pub(super) async fn refresh(&self, now: Now) {
        let now_ms = u64::try_from(now.monotonic.saturating_duration_since(self.opened_at).as_millis());
        let now_ms = now_ms.unwrap_or(u64::MAX);
        let due_ms = self.next_look_ms.load(Ordering::Relaxed);
        if now_ms < due_ms {
            return;
        }
        let next_ms = now_ms.saturating_add(LOOK_INTERVAL_MS);
        if self.next_look_ms.compare_exchange(due_ms, next_ms, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            self.look_again().await;
        }
    }

    /// Looks at the file now; waits for a file system that hangs no longer than [`LOOK_TIMEOUT`].
    ///
    /// Dropping the future does not stop the look.
    pub(super) async fn look_again(&self) {
        let file = Arc::clone(&self.file);
        let look = tokio::task::spawn_blocking(move || file.look());
        if tokio::time::timeout(LOOK_TIMEOUT, look).await.is_err() {
            tracing::warn!(path = %self.file.path.display(), "file does not answer; its last content still serves");
        }
    }
}

impl<T> WatchedFile<T> {
    fn look(&self) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match self.read_if_changed(&mut last) {
            Ok(false) => last.complaint = None,
            Ok(true) => {
                last.complaint = None;
                tracing::info!(path = %self.path.display(), "file read again");
            }
            Err(error) => {
                let complaint = format!("{error:#}");
                if last.complaint.as_ref() != Some(&complaint) {
                    tracing::warn!(path = %self.path.display(), error = complaint, "file not taken; its last good content still serves");
                    last.complaint = Some(complaint);
                }
            }
        }
    }
    /// Whether the file says something new.
    fn read_if_changed(&self, last: &mut LastLook) -> anyhow::Result<bool> {
        let metadata = std::fs::metadata(&self.path).context("cannot be read")?;
        if last.stamp.settled && Stamp::of(&metadata) == last.stamp {
            return Ok(false);
        }
        let (stamp, content) = read(&self.path, self.bytes_max)?;
        let digest = Digest::of(&content);
        last.stamp = stamp;
        if digest == last.digest {
            return Ok(false);
        }
        // Noted before it is judged: bad content is judged once, not every second.
        last.digest = digest;
        self.current.store(Arc::new((self.parse)(&content)?));
        Ok(true)
    }
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        let ns = |seconds: i64, nanos: i64| i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
        let age = |time: std::io::Result<SystemTime>| time.ok().and_then(|time| time.elapsed().ok());
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.len(),
            modified_ns: ns(metadata.mtime(), metadata.mtime_nsec()),
            changed_ns: ns(metadata.ctime(), metadata.ctime_nsec()),
            settled: age(metadata.modified()).is_some_and(|age| age >= SETTLED_AFTER),
        }
    }
}

/// The whole of a regular file, and its stamp from before it was read.
fn read(path: &Path, bytes_max: u64) -> anyhow::Result<(Stamp, Vec<u8>)> {
    // Asked before it is opened: opening a pipe would wait for a writer.
    let is_file = std::fs::metadata(path).context("cannot be read")?.is_file();
    anyhow::ensure!(is_file, "is not a regular file");
    let file = File::open(path).context("cannot be read")?;
    let stamp = Stamp::of(&file.metadata().context("cannot be read")?);
    let mut content = Vec::new();
    file.take(bytes_max.saturating_add(1)).read_to_end(&mut content).context("cannot be read")?;
    let within = u64::try_from(content.len()).is_ok_and(|bytes| bytes <= bytes_max);
    anyhow::ensure!(within, "is larger than {bytes_max} bytes, the most that is read");
    Ok((stamp, content))
}

/// How often a file is looked at, at most.
const LOOK_INTERVAL_MS: u64 = 1_000;

/// How long a caller waits for a look.
const LOOK_TIMEOUT: Duration = Duration::from_secs(2);

/// A file's times are coarser than two writes can be close together; a younger file is read again to be sure.
const SETTLED_AFTER: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(content: &[u8]) -> anyhow::Result<String> {
        let text = String::from_utf8(content.to_vec())?;
        anyhow::ensure!(text != "bad", "is bad");
        Ok(text)
    }

    /// Goal: new content is taken when a second has passed, bad or missing content never.
    /// Method: what is written, when it is asked, what is read.
    #[tokio::test]
    async fn a_changed_file_is_taken_and_a_bad_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        std::fs::write(&path, "one").unwrap();
        let file = Reread::open(&path, 10, parse).unwrap();
        let start = Now::read();
        check(&file, start, "one").await;
        std::fs::write(&path, "two").unwrap(); // as long, and perhaps within one tick of the file's times
        check(&file, start, "one").await;
        check(&file, start.after(1), "two").await;
        for (second, bad) in [(2, "bad"), (3, "longer than ten")] {
            std::fs::write(&path, bad).unwrap();
            check(&file, start.after(second), "two").await;
        }
        std::fs::remove_file(&path).unwrap();
        check(&file, start.after(4), "two").await;
        std::fs::create_dir(&path).unwrap();
        check(&file, start.after(5), "two").await;
        std::fs::remove_dir(&path).unwrap();
        std::fs::write(&path, "two").unwrap();
        check(&file, start.after(6), "two").await;
        std::fs::write(folder.path().join("g"), "three").unwrap();
        std::fs::rename(folder.path().join("g"), &path).unwrap();
        check(&file, start.after(7), "three").await;
    }

    async fn check(file: &Reread<String>, now: Now, expected: &str) {
        file.refresh(now).await;
        assert_eq!(*file.current(), expected);
    }

    /// Goal: a file that does not change is neither parsed again nor replaced. Method: the content's address, before and after.
    #[tokio::test]
    async fn an_unchanged_file_stays_the_same_value() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        std::fs::write(&path, "one").unwrap();
        let file = Reread::open(&path, 10, parse).unwrap();
        let before = file.current();
        std::fs::write(&path, "one").unwrap();
        file.look_again().await;
        assert!(Arc::ptr_eq(&before, &file.current()));
    }
}
