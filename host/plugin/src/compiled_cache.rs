//! Compiled code on disk, so that a restart does not compile again.
//!
//! Compiled code is machine code: whoever can write it runs with our rights. So it is read only from
//! a directory that is ours alone, under a name made of the component's hash and the engine's, and
//! only if the hash inside still fits. Anything else is a miss, never an error: the component is at hand
//! and is compiled again.
//!
//! It holds components as they were delivered, and policies (and plug-ins without settings) with the state that `configure`
//! left. What a strategy made of its settings is never written.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use tracing::{debug, warn};
use wasmtime::Engine;
use wasmtime::component::Component;
use witgate_core::Digest;

/// A directory of compiled components.
#[derive(Debug)]
pub(crate) struct CompiledCache {
    directory: PathBuf,
    /// What the engine must be like to run them.
    engine: u64,
    /// Who we are.
    uid: u32,
}

/// Why a directory cannot hold compiled code.
#[derive(Debug, thiserror::Error)]
pub enum CacheDirectoryError {
    /// The file system said no.
    #[error("cache directory `{}` cannot be used", directory.display())]
    Io {
        /// The directory.
        directory: PathBuf,
        /// What it said.
        #[source]
        source: io::Error,
    },
    /// Others could put code there.
    #[error("cache directory `{}` is {fault}; it must be a directory of ours with mode 0700", directory.display())]
    NotPrivate {
        /// The directory.
        directory: PathBuf,
        /// What is wrong with it.
        fault: String,
    },
}

impl CompiledCache {
    /// Uses `directory`, which is created if it is missing.
    pub(crate) fn open(directory: PathBuf, engine: &Engine) -> Result<Self, CacheDirectoryError> {
        let mut hasher = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        let failed = |source| CacheDirectoryError::Io { directory: directory.clone(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(&directory).map_err(failed)?;
        let uid = our_uid(&directory).map_err(failed)?;
        let cache = Self { directory, engine: hasher.finish(), uid };
        cache.check_private()?;
        Ok(cache)
    }

    /// The compiled form of the component that hashes to `digest`, if it is there and intact.
    pub(crate) fn find(&self, engine: &Engine, digest: Digest) -> Option<Component> {
        if let Err(error) = self.check_private() {
            warn!(error = %error, "the cache of compiled plug-ins is not used");
            return None;
        }
        let path = self.path(digest);
        let code = match read_private(&path, self.uid) {
            Ok(file) => match unsealed(&file, digest, self.engine) {
                Some(code) => code.to_vec(),
                None => {
                    warn!(file = %path.display(), "a compiled plug-in is not as we wrote it; it is compiled again");
                    return None;
                }
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                warn!(file = %path.display(), error = %error, "a compiled plug-in cannot be read; it is compiled again");
                return None;
            }
        };
        match deserialize(engine, &code) {
            Ok(component) => Some(component),
            Err(error) => {
                debug!(file = %path.display(), error = format!("{error:#}"), "compiled for another engine");
                None
            }
        }
    }

    /// Keeps `component` for the next start. Failing costs time then, and nothing else.
    pub(crate) fn keep(&self, component: &Component, digest: Digest) {
        let written = component.serialize().map_err(|error| io::Error::other(format!("{error:#}"))).and_then(|code| {
            self.check_private().map_err(io::Error::other)?;
            self.write(digest, &code)?;
            self.evict()
        });
        if let Err(error) = written {
            warn!(directory = %self.directory.display(), error = %error, "a compiled plug-in is not cached");
        }
    }

    fn write(&self, digest: Digest, code: &[u8]) -> io::Result<()> {
        let part = self.directory.join(part_name(&digest.to_string()));
        let written = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part).and_then(|mut file| {
            file.write_all(seal(code, digest, self.engine).as_bytes())?;
            file.write_all(code)?;
            // Renamed only when whole, so that a crash leaves no half file under a good name.
            file.sync_all()?;
            fs::rename(&part, self.path(digest))
        });
        if written.is_err() {
            let _gone = fs::remove_file(&part);
        }
        written
    }

    /// Removes the files that were written longest ago, beyond the number that is kept.
    fn evict(&self) -> io::Result<()> {
        let mut files: Vec<(SystemTime, PathBuf)> = fs::read_dir(&self.directory)?
            .filter_map(Result::ok)
            .filter(|entry| {
                entry.path().extension().is_some_and(|extension| extension == "cwasm" || extension == "part")
            })
            .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
            .collect();
        files.sort();
        let surplus = files.len().saturating_sub(FILES_MAX);
        for (_, path) in files.iter().take(surplus) {
            fs::remove_file(path)?;
        }
        Ok(())
    }

    fn path(&self, digest: Digest) -> PathBuf {
        self.directory.join(format!("{digest}-{:016x}.cwasm", self.engine))
    }

    /// Checks that nobody else can put files into the directory.
    fn check_private(&self) -> Result<(), CacheDirectoryError> {
        let fault = |fault: String| CacheDirectoryError::NotPrivate { directory: self.directory.clone(), fault };
        let metadata = fs::symlink_metadata(&self.directory)
            .map_err(|source| CacheDirectoryError::Io { directory: self.directory.clone(), source })?;
        if metadata.is_symlink() {
            return Err(fault("a symbolic link".into()));
        }
        if !metadata.is_dir() {
            return Err(fault("not a directory".into()));
        }
        if metadata.mode() & 0o077 != 0 {
            return Err(fault(format!("open to others (mode {:04o})", metadata.mode() & 0o7777)));
        }
        if metadata.uid() != self.uid {
            return Err(fault(format!("owned by user {}", metadata.uid())));
        }
        Ok(())
    }
}

/// Who owns the files that we make: the standard library does not tell us who we are. Also shows early whether
/// anything can be written there.
fn our_uid(directory: &Path) -> io::Result<u32> {
    let probe = directory.join(part_name("probe"));
    let uid = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&probe)?.metadata()?.uid();
    fs::remove_file(&probe)?;
    Ok(uid)
}

/// A name that no other write of this or another process uses.
fn part_name(of: &str) -> String {
    static WRITES: AtomicU64 = AtomicU64::new(0);
    format!("{of}.{}.{}.part", std::process::id(), WRITES.fetch_add(1, Ordering::Relaxed))
}

/// Turns code that `unsealed` has let pass into a component.
#[expect(
    unsafe_code,
    reason = "compiled code is trusted: it comes from a directory that only we can write, under the component's hash, and its own hash fits"
)]
fn deserialize(engine: &Engine, code: &[u8]) -> wasmtime::Result<Component> {
    // SAFETY: `find` calls this with bytes that `Component::serialize` gave to `keep`: they lay in a
    // directory of mode 0700 that we own, in a file that we own, and hash to what we wrote before them.
    // The engine itself refuses code of another version or configuration.
    unsafe { Component::deserialize(engine, code) }
}

/// The file's bytes, if it is a plain file of ours (we are `uid`) that nobody else can write.
fn read_private(path: &Path, uid: u32) -> io::Result<Vec<u8>> {
    let link = fs::symlink_metadata(path)?;
    let file = File::open(path)?;
    let opened = file.metadata()?;
    let same = (link.dev(), link.ino()) == (opened.dev(), opened.ino());
    if !link.is_file() || !same || opened.mode() & 0o022 != 0 || opened.uid() != uid {
        return Err(io::Error::other("it is not a plain file that only we can write"));
    }
    if opened.len() > FILE_BYTES_MAX {
        return Err(io::Error::other(format!("it is larger than {FILE_BYTES_MAX} bytes")));
    }
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The line before the code: what it is, what it was compiled from and for which engine, and what it hashes to.
fn seal(code: &[u8], digest: Digest, engine: u64) -> String {
    format!("witgate compiled plug-in 2 {digest} {engine:016x} {}\n", Digest::of(code))
}

/// The code behind the seal, if the two belong together.
fn unsealed(file: &[u8], digest: Digest, engine: u64) -> Option<&[u8]> {
    let end = file.iter().take(SEAL_BYTES_MAX).position(|byte| *byte == b'\n')?;
    let (line, code) = file.split_at_checked(end + 1)?;
    (line == seal(code, digest, engine).as_bytes()).then_some(code)
}

const FILES_MAX: usize = 256;
const FILE_BYTES_MAX: u64 = 1 << 30;
const SEAL_BYTES_MAX: usize = 256;

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "tests may")]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn opened(directory: &Path) -> Result<CompiledCache, CacheDirectoryError> {
        CompiledCache::open(directory.to_owned(), &Engine::default())
    }

    /// Goal: code of others never runs. Method: every way in which a directory may not be ours alone.
    #[test]
    fn a_directory_that_others_can_reach_is_refused() {
        let parent = tempfile::tempdir().unwrap();
        let fresh = parent.path().join("a/b");
        opened(&fresh).unwrap();
        assert_eq!(fs::metadata(&fresh).unwrap().mode() & 0o777, 0o700);

        let open = parent.path().join("open");
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, fs::Permissions::from_mode(0o750)).unwrap();
        check(&open, "is open to others (mode 0750)");

        let link = parent.path().join("link");
        std::os::unix::fs::symlink(&fresh, &link).unwrap();
        check(&link, "is a symbolic link");

        let file = parent.path().join("file");
        fs::write(&file, "").unwrap();
        check(&file, "cannot be used");
    }

    #[track_caller]
    fn check(directory: &Path, expected: &str) {
        let message = opened(directory).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    }

    /// Goal: a changed file is a miss, and so is one for another component or engine. Method: each part of a good file changed.
    #[test]
    fn a_seal_fits_its_code_alone() {
        let digest = Digest::of(b"component");
        let good = [seal(b"code", digest, 7).as_bytes(), b"code"].concat();
        assert_eq!(unsealed(&good, digest, 7), Some(&b"code"[..]));
        assert_eq!(unsealed(&good, Digest::of(b"another"), 7), None);
        assert_eq!(unsealed(&good, digest, 8), None);
        assert_eq!(unsealed(b"", digest, 7), None);
        assert_eq!(unsealed(&good[..good.len() - 1], digest, 7), None);
        for position in 0..good.len() {
            let mut changed = good.clone();
            changed[position] ^= 1;
            assert_eq!(unsealed(&changed, digest, 7), None, "byte {position}");
        }
    }

    /// Goal: a file that somebody else put there, or could have written, is not read. Method: a row a way; we are another
    /// user in one, because only root can give a file away.
    #[test]
    fn only_plain_files_of_ours_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "code").unwrap();
        let uid = fs::metadata(&path).unwrap().uid();
        let set_mode = |mode| fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        set_mode(0o600);
        assert_eq!(read_private(&path, uid).unwrap(), b"code");
        assert!(read_private(&path, uid + 1).is_err(), "a file of another user");
        for mode in [0o620, 0o602] {
            set_mode(mode);
            assert!(read_private(&path, uid).is_err(), "mode {mode:o}");
        }
        set_mode(0o600);
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(read_private(&link, uid).is_err(), "a link");
        assert!(read_private(folder.path(), uid).is_err(), "a directory");
    }

    /// Goal: the cache does not grow for ever. Method: one file more than is kept.
    #[test]
    fn the_oldest_files_make_room() {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o700)).unwrap();
        let cache = opened(directory.path()).unwrap();
        for number in 0..=FILES_MAX {
            cache.write(Digest::of(&number.to_le_bytes()), b"code").unwrap();
        }
        cache.evict().unwrap();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), FILES_MAX);
    }
}
