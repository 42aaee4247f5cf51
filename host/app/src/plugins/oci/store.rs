//! Manifests and components on disk, so that a restart without the registry serves what was served before.
//!
//! Everything is named after its digest and read with it: a file that was changed is a miss, and is fetched again. The
//! folder is ours alone all the same.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use super::reference::Sha256;

/// A folder of manifests (`DIGEST.json`) and components (`DIGEST.wasm`). Its functions block.
#[derive(Clone, Debug)]
pub(super) struct Store {
    directory: PathBuf,
}

/// What a file is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    Manifest,
    Component,
}

impl Store {
    /// Below the folder of compiled plug-ins.
    pub(super) fn below(cache_directory: &Path) -> Self {
        Self { directory: cache_directory.join("oci") }
    }

    /// Where it stands, or would.
    pub(super) fn path(&self, kind: Kind, digest: &Sha256) -> PathBuf {
        let extension = match kind {
            Kind::Manifest => "json",
            Kind::Component => "wasm",
        };
        self.directory.join(format!("{}.{extension}", digest.digits()))
    }

    /// The bytes of that digest; None where they are not there, or not those any more.
    pub(super) fn find(&self, kind: Kind, digest: &Sha256, bytes_max: u64) -> Option<Vec<u8>> {
        let path = self.path(kind, digest);
        // What is no file of ours is never opened: a pipe would wait for its writer.
        if !fs::symlink_metadata(&path).ok()?.is_file() {
            return None;
        }
        let mut bytes = Vec::new();
        fs::File::open(path).ok()?.take(bytes_max.saturating_add(1)).read_to_end(&mut bytes).ok()?;
        digest.matches(&bytes).then_some(bytes)
    }

    /// Keeps bytes that were verified: whole or not at all.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub(super) fn keep(&self, kind: Kind, digest: &Sha256, bytes: &[u8]) -> io::Result<()> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        DirBuilder::new().recursive(true).mode(0o700).create(&self.directory)?;
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let part = self.directory.join(format!(".{}-{number}.part", std::process::id()));
        let written = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part).and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&part, self.path(kind, digest))
        });
        if written.is_err() {
            let _ = fs::remove_file(&part);
        }
        written
    }

    /// Removes the oldest files but `needed`, as long as there are more than [`KEPT_MAX`].
    pub(super) fn tidy(&self, needed: &[PathBuf]) {
        let Ok(entries) = fs::read_dir(&self.directory) else { return };
        let mut others: Vec<(SystemTime, PathBuf)> = entries
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| !needed.contains(path))
            .filter_map(|path| Some((fs::symlink_metadata(&path).ok()?.modified().ok()?, path)))
            .collect();
        others.sort();
        let surplus = others.len().saturating_sub(KEPT_MAX);
        for (_, path) in others.into_iter().take(surplus) {
            // Another gate that shares the folder may have removed it.
            let _ = fs::remove_file(path);
        }
    }
}

/// Files that nobody needs now and that are kept all the same, for who goes back to an earlier configuration.
pub(super) const KEPT_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn digest_of(bytes: &[u8]) -> Sha256 {
        Sha256::parse(&format!("sha256:{}", witgate_core::Digest::of(bytes))).unwrap()
    }

    /// Goal: what is found is what was kept, bit for bit, or nothing. Method: a file that is changed, cut, replaced and removed.
    #[test]
    fn what_was_changed_is_not_found() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::below(&folder.path().join("cache"));
        let digest = digest_of(b"component");
        assert_eq!(store.find(Kind::Component, &digest, 100), None, "before anything is there");
        store.keep(Kind::Component, &digest, b"component").unwrap();
        assert_eq!(store.find(Kind::Component, &digest, 100).as_deref(), Some(&b"component"[..]));
        assert_eq!(store.find(Kind::Manifest, &digest, 100), None);
        assert_eq!(store.find(Kind::Component, &digest, 5), None, "too large");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let path = store.path(Kind::Component, &digest);
        assert_eq!((mode(path.parent().unwrap()), mode(&path)), (0o700, 0o600));
        for changed in [&b"Component"[..], b"compon", b"component and more"] {
            fs::write(&path, changed).unwrap();
            assert_eq!(store.find(Kind::Component, &digest, 100), None, "{changed:?}");
        }
        store.keep(Kind::Component, &digest, b"component").unwrap();
        assert!(store.find(Kind::Component, &digest, 100).is_some(), "it is replaced");
        let elsewhere = folder.path().join("elsewhere");
        fs::rename(&path, &elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, &path).unwrap();
        assert_eq!(store.find(Kind::Component, &digest, 100), None, "a link leads out of the folder");
    }

    /// Goal: the folder does not grow without end, and what is needed stays. Method: more files than are kept.
    #[test]
    fn the_oldest_go_first_and_the_needed_stay() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::below(folder.path());
        let mut paths = Vec::new();
        for number in 0..KEPT_MAX + 3 {
            let bytes = number.to_string().into_bytes();
            store.keep(Kind::Manifest, &digest_of(&bytes), &bytes).unwrap();
            let path = store.path(Kind::Manifest, &digest_of(&bytes));
            let time = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(number as u64);
            fs::File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
            paths.push(path);
        }
        let needed = paths.first().cloned().into_iter().collect::<Vec<_>>();
        store.tidy(&needed);
        let there: Vec<_> = paths.iter().map(|path| path.exists()).collect();
        assert_eq!(there.iter().filter(|there| **there).count(), KEPT_MAX + 1);
        assert_eq!(there.get(..4), Some(&[true, false, false, true][..]), "needed, two oldest, the next");
    }
}
