//! Says when the drop-in folder may have changed.
//!
//! The system's events say so at once; a slow look at the folder's signature stands in where a file
//! system sends none, where a link far away was moved, or where an event was lost. Nothing here
//! knows what a change means: [`reload`](super::reload) looks, and finds out.
//!
//! Promise: many events are one change, and a change while the last one is handled is not lost.

use std::collections::BTreeMap;
use std::fs;
use std::future::Future;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use notify::event::{AccessKind, AccessMode, ModifyKind};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior};
use tracing::{debug, warn};

use super::folder::{self, Signature};

/// Watches the drop-in folder, the folders that its links lead to, and its own coming and going.
pub(crate) struct FolderWatch {
    directory: PathBuf,
    /// None where the system has no events to give: then the slow look alone remains.
    watcher: Option<RecommendedWatcher>,
    /// What is watched, by what it is rather than by its name: a folder that was replaced is another one.
    watched: BTreeMap<FolderIdentity, PathBuf>,
    seen: Signature,
    events: Arc<Events>,
    changed: Arc<Notify>,
}

/// What the system's events tell.
#[derive(Default)]
struct Events {
    /// Something may have changed.
    any: Notify,
    /// A watched folder was removed or renamed: its watch went with it, even where the next folder of
    /// that name gets the same inode.
    folder_gone: AtomicBool,
}

impl FolderWatch {
    /// Watches from now on, so that nothing is missed that happens after a scan that follows.
    ///
    /// `changed` is notified once [`FolderWatch::run`] runs.
    ///
    /// # Errors
    /// When the working directory, which a relative path begins at, is unknown.
    pub(crate) fn new(directory: &Path, changed: Arc<Notify>) -> io::Result<Self> {
        let directory = std::path::absolute(directory)?;
        let events = Arc::<Events>::default();
        let watcher = watcher(&directory, Arc::clone(&events))
            .inspect_err(|error| warn!(%error, "no file system events: the plug-in folder is looked at every 2 s"))
            .ok();
        let seen = folder::signature(&directory);
        let mut watch = Self { directory, watcher, watched: BTreeMap::new(), seen, events, changed };
        watch.follow();
        Ok(watch)
    }

    /// Notifies whenever the folder may have changed; never ends.
    pub(crate) async fn run(mut self) {
        let mut poll = tokio::time::interval_at(Instant::now() + POLL_INTERVAL, POLL_INTERVAL);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let told = tokio::select! {
                () = self.events.any.notified() => true,
                _ = poll.tick() => false,
            };
            let looked = tokio::task::spawn_blocking(move || {
                let differs = self.look();
                (self, differs)
            });
            let differs;
            match looked.await {
                Ok(watch) => (self, differs) = watch,
                // The runtime is going away; or looking panicked, which has its own message.
                Err(_) => return,
            }
            if told || differs {
                self.changed.notify_one();
            }
            tokio::time::sleep(EVENT_PACE).await;
        }
    }

    /// Watches what is there now, and tells whether the folder differs from what was there at the last look.
    fn look(&mut self) -> bool {
        let new_watches = self.follow();
        let seen = folder::signature(&self.directory);
        // What happened in a folder before it was watched was told by nobody.
        let differs = new_watches || seen != self.seen;
        self.seen = seen;
        differs
    }

    /// Brings the watches in line with the folders that are there now, and tells whether there is a new one.
    fn follow(&mut self) -> bool {
        let Some(watcher) = &mut self.watcher else { return false };
        let folder_gone = self.events.folder_gone.swap(false, Ordering::AcqRel);
        let wanted = folders_to_watch(&self.directory);
        let stale = |identity: &FolderIdentity, path: &mut PathBuf| folder_gone || wanted.get(identity) != Some(&*path);
        for (_, path) in self.watched.extract_if(.., stale) {
            // It fails where the folder is gone, and the watch with it.
            if let Err(error) = watcher.unwatch(&path) {
                debug!(%error, path = %path.display(), "no longer watched");
            }
        }
        let mut any_new = false;
        for (identity, path) in wanted {
            if self.watched.contains_key(&identity) {
                continue;
            }
            match watcher.watch(&path, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    self.watched.insert(identity, path);
                    any_new = true;
                }
                Err(error) => debug!(%error, path = %path.display(), "not watched; looked at every 2 s instead"),
            }
        }
        any_new
    }
}

/// Waits until the folder has kept still for [`SETTLE_QUIET`], or no longer than [`SETTLE_MAX`]: whoever writes
/// without end must not keep another plug-in's change from being seen.
///
/// It is looked at more often than that, so that a change soon after the first look costs its own quiet time and not twice that:
/// whoever writes a file beside its place and renames it makes two changes, of which the first counts for nothing.
///
/// Takes the look at the folder as a function, so that a test can say what is seen.
pub(crate) async fn settle<F: Future<Output = Signature>>(mut look: impl FnMut() -> F) -> Signature {
    let latest = Instant::now() + SETTLE_MAX;
    let mut seen = look().await;
    let mut changed_at = Instant::now();
    loop {
        tokio::time::sleep(SETTLE_LOOK).await;
        let looked_at = Instant::now();
        let now = look().await;
        if now != seen {
            (seen, changed_at) = (now, looked_at);
        }
        if looked_at >= changed_at + SETTLE_QUIET || looked_at >= latest {
            return seen;
        }
    }
}

/// Which folder it is, whatever it is called: device, inode, and when it was made, as inodes are used again.
type FolderIdentity = (u64, u64, Option<SystemTime>);

fn identity(metadata: &fs::Metadata) -> FolderIdentity {
    (metadata.dev(), metadata.ino(), metadata.created().ok())
}

/// The folder, its parent (which tells that it comes and goes), and every folder that a link in it leads through.
fn folders_to_watch(directory: &Path) -> BTreeMap<FolderIdentity, PathBuf> {
    let mut folders = BTreeMap::new();
    let mut add = |path: &Path| {
        if let Ok(metadata) = fs::metadata(path)
            && metadata.is_dir()
            && folders.len() < FOLDERS_WATCHED_MAX
        {
            folders.entry(identity(&metadata)).or_insert_with(|| path.to_owned());
        }
    };
    add(directory);
    let parent = directory.parent().unwrap_or(directory);
    add(parent);
    follow_links(directory, &mut add);
    if let Signature::Present(files) = folder::signature(directory) {
        for (name, _) in files {
            follow_links(&directory.join(name), &mut add);
        }
    }
    folders
}

/// Calls `add` with the folder of each place that the link at `path` leads to: in Kubernetes' mounts,
/// `x.wasm` leads to `..data/x.wasm`, and `..data` to the folder of one version.
fn follow_links(path: &Path, add: &mut impl FnMut(&Path)) {
    let mut place = path.to_owned();
    for _ in 0..LINKS_MAX {
        let Ok(target) = fs::read_link(&place) else { return };
        place = place.parent().unwrap_or(Path::new("/")).join(target);
        if let Some(parent) = place.parent() {
            add(parent);
        }
    }
}

/// A watcher that notifies of events which concern the folder.
fn watcher(directory: &Path, events: Arc<Events>) -> notify::Result<RecommendedWatcher> {
    let directory = directory.to_owned();
    notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // An error (a queue that overflowed, say) may have swallowed a change.
        let Ok(event) = event else { return events.any.notify_one() };
        if concerns(&directory, &event) {
            let goes = matches!(event.kind, EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(_)));
            if goes && event.paths.contains(&directory) {
                events.folder_gone.store(true, Ordering::Release);
            }
            events.any.notify_one();
        }
    })
}

/// Whether an event may mean a change: not when someone only read, as our own scans do, and not
/// when the parent folder tells of a neighbour.
fn concerns(directory: &Path, event: &notify::Event) -> bool {
    match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => {}
        EventKind::Access(_) => return false,
        EventKind::Any | EventKind::Create(_) | EventKind::Modify(_) | EventKind::Remove(_) | EventKind::Other => {}
    }
    let neighbour = |path: &PathBuf| path != directory && path.parent() == directory.parent();
    event.paths.is_empty() || !event.paths.iter().all(neighbour)
}

/// How often the folder is looked at without being told to.
pub(crate) const POLL_INTERVAL: Duration = Duration::from_secs(2);
/// How long the folder must keep still.
pub(crate) const SETTLE_QUIET: Duration = Duration::from_millis(50);
/// How often it is looked at meanwhile.
const SETTLE_LOOK: Duration = Duration::from_millis(10);
/// How long a folder that does not keep still is waited for.
pub(crate) const SETTLE_MAX: Duration = Duration::from_secs(1);
/// The least time between two looks, however many events there are.
const EVENT_PACE: Duration = Duration::from_millis(5);
/// Links that are followed from one file, as in the kernel's own limit.
const LINKS_MAX: usize = 40;
/// Folders that are watched; links into more of them are seen by the slow look.
const FOLDERS_WATCHED_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::os::unix::fs::symlink;
    use std::sync::Mutex;

    use notify::event::{CreateKind, DataChange, RemoveKind};

    use super::*;

    /// Goal: a folder is read once it keeps still, and no later than the limit. Method: what each look sees, as rows.
    #[tokio::test(start_paused = true)]
    async fn settling_waits_for_quiet_and_not_for_ever() {
        let [quiet, changing] = [&["a"; 6][..], &["a", "b", "b", "b", "b", "b", "b"]];
        settles(quiet, 50).await;
        settles(changing, 60).await;
        settles(&["a", "a", "b", "a", "a", "a", "a", "a", "a"], 80).await;
        settles(&["a", "a", "a", "a", "a", "b", "b", "b", "b", "b", "b"], 100).await;
        let endless: Vec<_> = (0..101).map(|look| look.to_string()).collect();
        settles(&endless.iter().map(String::as_str).collect::<Vec<_>>(), 1000).await;
    }

    async fn settles(looks: &[&str], expected_ms: u128) {
        let remaining = Mutex::new(looks.iter());
        let begun = Instant::now();
        let seen = settle(async || see(remaining.lock().unwrap().next().expect("a look after the last"))).await;
        assert_eq!(begun.elapsed().as_millis(), expected_ms, "{looks:?}");
        if expected_ms < SETTLE_MAX.as_millis() {
            assert_eq!(seen, see(looks.last().unwrap()));
        }
    }

    fn see(name: &str) -> Signature {
        Signature::Present(vec![(OsString::from(name), None)])
    }

    /// Goal: our own reading and the neighbours of the folder wake nobody. Method: a row an event.
    #[test]
    fn only_what_may_be_a_change_counts() {
        let concerns = |kind, paths: &[&str]| {
            let mut event = notify::Event::new(kind);
            event.paths = paths.iter().map(PathBuf::from).collect();
            super::concerns(Path::new("/etc/policies"), &event)
        };
        let written = EventKind::Access(AccessKind::Close(AccessMode::Write));
        let opened = EventKind::Access(AccessKind::Open(AccessMode::Any));
        let modified = EventKind::Modify(ModifyKind::Data(DataChange::Any));
        assert!(concerns(written, &["/etc/policies/a.wasm"]));
        assert!(concerns(modified, &["/etc/policies/a.wasm"]));
        assert!(concerns(EventKind::Create(CreateKind::Any), &["/etc/policies"]));
        assert!(concerns(EventKind::Remove(RemoveKind::Any), &["/etc/policies"]));
        assert!(concerns(modified, &["/mnt/shared/a.wasm"]));
        assert!(concerns(modified, &["/etc/passwd", "/etc/policies"]), "a rename to the folder");
        assert!(concerns(EventKind::Other, &[]), "a queue that overflowed");
        assert!(!concerns(opened, &["/etc/policies/a.wasm"]));
        assert!(!concerns(written, &["/etc/passwd"]));
        assert!(!concerns(modified, &["/etc/passwd"]));
    }

    /// Goal: every folder through which a plug-in is reached is watched. Method: links as Kubernetes lays them,
    /// seen through a link from elsewhere.
    #[test]
    fn the_folders_behind_links_are_watched() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        for folder in ["mount", "mount/..v1", "policies"] {
            fs::create_dir(at(folder)).unwrap();
        }
        fs::write(at("mount/..v1/x.wasm"), "x").unwrap();
        symlink("..v1", at("mount/..data")).unwrap();
        symlink("..data/x.wasm", at("mount/x.wasm")).unwrap();
        symlink("../mount/x.wasm", at("policies/x.wasm")).unwrap();

        let identity = |path: &PathBuf| identity(&fs::metadata(path).unwrap());
        let mut expected: Vec<_> =
            [at("policies"), root.path().to_owned(), at("mount"), at("mount/..v1")].iter().map(identity).collect();
        expected.sort_unstable();
        let watched: Vec<_> = folders_to_watch(&at("policies")).into_keys().collect();
        assert_eq!(watched, expected);
    }

    /// Goal: where the system has no events the slow look finds the change, and only a change. Method: no watcher, and
    /// paused time.
    #[tokio::test(start_paused = true)]
    async fn without_events_the_slow_look_tells() {
        let folder = tempfile::tempdir().unwrap();
        let changed = Arc::new(Notify::new());
        let mut watch = FolderWatch::new(folder.path(), Arc::clone(&changed)).unwrap();
        watch.watcher = None;
        watch.look();
        let running = tokio::spawn(watch.run());

        let told = async || tokio::time::timeout(POLL_INTERVAL * 3, changed.notified()).await.is_ok();
        assert!(!told().await, "nothing changed");
        fs::write(folder.path().join("a.wasm"), "one").unwrap();
        assert!(told().await, "a new file");
        assert!(!told().await, "told once");

        running.abort();
    }

    /// Goal: whatever happens to the folder is told. Method: the system's own events, one change after the other;
    /// each step waits for the news that it must bring.
    #[tokio::test]
    async fn each_sort_of_change_is_told() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("policies");
        let at = |name: &str| folder.join(name);
        fs::create_dir(&folder).unwrap();
        let changed = Arc::new(Notify::new());
        let running = tokio::spawn(FolderWatch::new(&folder, Arc::clone(&changed)).unwrap().run());

        let tells = async |what: &str, step: &dyn Fn() -> io::Result<()>| {
            // What is left of the step before.
            let _ = tokio::time::timeout(Duration::ZERO, changed.notified()).await;
            step().unwrap();
            tokio::time::timeout(Duration::from_secs(10), changed.notified()).await.expect(what);
        };
        tells("a new file", &|| fs::write(at("a.wasm"), "one")).await;
        tells("a write in place", &|| fs::write(at("a.wasm"), "two")).await;
        fs::write(at(".a.tmp"), "three").unwrap();
        tells("a rename", &|| fs::rename(at(".a.tmp"), at("a.wasm"))).await;
        tells("a removal", &|| fs::remove_file(at("a.wasm"))).await;
        for _ in 0..3 {
            tells("the folder gone", &|| fs::remove_dir_all(&folder)).await;
            tells("the folder back", &|| fs::create_dir(&folder)).await;
            tells("the folder replaced", &|| fs::remove_dir_all(&folder).and_then(|()| fs::create_dir(&folder))).await;
            tells("a file in it", &|| fs::write(at("a.wasm"), "four")).await;
        }

        running.abort();
    }
}
