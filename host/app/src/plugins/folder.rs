//! What stands in the drop-in folder, read and hashed, but not judged.
//!
//! [`signature`] is a look that costs one `stat` a file: it tells that something may have
//! changed. [`scan`] reads every byte: it tells what stands there, and only its digests decide
//! whether something did change. Where signatures are asked for, it checks them on those very bytes. Both block, so they are called off the runtime's workers.
//!
//! A file that cannot be used is a [`Problem`], never silence: a policy that nobody
//! could read must not look like a policy that nobody installed.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use witgate_core::{Digest, PluginName};

use super::Problem;
use crate::trusted_keys::{self, TrustedKeys, Untrusted};

/// What a scan found.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct FolderContents {
    /// Components, by the names of their plug-ins.
    pub(crate) components: BTreeMap<PluginName, ComponentFile>,
    /// Sidecars, by the names of their plug-ins; the component may be missing.
    pub(crate) sidecars: BTreeMap<PluginName, SidecarFile>,
    /// Files that cannot be used.
    pub(crate) problems: Vec<Problem>,
    /// Things passed over that an operator should know.
    pub(crate) notes: Vec<String>,
}

/// A `NAME.wasm`. Its bytes are not kept: most files are the same as before.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct ComponentFile {
    /// Where it stands.
    pub(crate) path: PathBuf,
    /// The digest of its bytes when it was scanned.
    pub(crate) digest: Digest,
    /// Where it was fetched from, where a registry delivered it.
    pub(crate) reference: Option<Arc<str>>,
}

impl ComponentFile {
    /// Reads the bytes that were hashed.
    ///
    /// # Errors
    /// When it cannot be read, or holds other bytes by now.
    pub(crate) fn read(&self) -> Result<Arc<[u8]>, ReadError> {
        let bytes = read_bounded(&self.path, COMPONENT_BYTES_MAX)?;
        if Digest::of(&bytes) == self.digest { Ok(bytes.into()) } else { Err(ReadError::Changed) }
    }
}

/// A `NAME.yaml`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct SidecarFile {
    /// Where it stands.
    pub(crate) path: PathBuf,
    /// What it says, not parsed.
    pub(crate) text: Arc<str>,
}

/// Why the folder as a whole cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FolderError {
    /// There is none.
    #[error("the plug-in folder {} does not exist: create it, or set `plugins.directory`", .0.display())]
    Missing(PathBuf),
    /// Something else stands there.
    #[error("{} is not a folder: `plugins.directory` must name one", .0.display())]
    NotAFolder(PathBuf),
    /// The system refuses.
    #[error("the plug-in folder {} cannot be read", .path.display())]
    Unreadable {
        /// The folder.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// More than a drop-in folder should hold.
    #[error("the plug-in folder {} holds more than {max} {what}", .path.display())]
    TooMany {
        /// The folder.
        path: PathBuf,
        /// How many there may be.
        max: usize,
        /// Of what.
        what: &'static str,
    },
}

/// Why one file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    /// The system refuses.
    #[error("cannot be read")]
    Io(#[from] io::Error),
    /// It is no file, and links to none.
    #[error("is neither a file nor a link to one")]
    NotAFile,
    /// It is too large.
    #[error("is larger than {max_bytes} bytes")]
    TooLarge {
        /// How large it may be.
        max_bytes: u64,
    },
    /// It is a sidecar that does not read as text.
    #[error("is not UTF-8 text")]
    NotText,
    /// It is a sidecar by its content, but not by its name.
    #[error("is not read: name it `{right_name}`")]
    Misnamed {
        /// What it should be called.
        right_name: String,
    },
    /// It is not the file that was hashed.
    #[error("changed while it was read")]
    Changed,
    /// Nobody who is trusted has signed it.
    #[error(transparent)]
    Untrusted(#[from] Untrusted),
    /// There is a signature, but it cannot be read.
    #[error("has a signature that {0}")]
    Signature(Box<Self>),
}

/// Reads and hashes what stands in `directory`.
///
/// Every `*.wasm` counts, symbolic links followed, except names that begin with a dot, which is
/// what editors, `rsync` and Kubernetes use for files that are not meant to be seen. Sub-folders are passed over.
///
/// # Errors
/// When the folder itself cannot be read; a single bad file is a problem in the contents.
pub(crate) fn scan(directory: &Path, trusted_keys: &TrustedKeys) -> Result<FolderContents, FolderError> {
    let mut contents = FolderContents::default();
    let mut misnamed_sidecars = Vec::new();
    for (file_name, role) in entries(directory)? {
        if role == Role::Signature {
            continue; // read with what it signs
        }
        let path = directory.join(&file_name);
        if fs::metadata(&path).is_ok_and(|metadata| metadata.is_dir()) {
            contents.notes.push(format!("{} is a folder: plug-ins are not looked for in it", path.display()));
            continue;
        }
        let name = match plugin_name(&file_name) {
            Ok(name) => name,
            Err(fault) => {
                contents.problems.push(Problem::of_folder(format!("{}: {fault}", path.display())));
                continue;
            }
        };
        match role {
            Role::Component => {
                match read_trusted(&path, COMPONENT_BYTES_MAX, trusted_keys).map(|bytes| Digest::of(&bytes)) {
                    Ok(digest) => {
                        contents.components.insert(name, ComponentFile { path, digest, reference: None });
                    }
                    Err(fault) => contents.refuse(&name, &path, fault),
                }
            }
            Role::Sidecar => match read_trusted(&path, SIDECAR_BYTES_MAX, trusted_keys).map(String::from_utf8) {
                Ok(Ok(text)) => {
                    contents.sidecars.insert(name, SidecarFile { path, text: text.into() });
                }
                Ok(Err(_)) => contents.refuse(&name, &path, ReadError::NotText),
                Err(fault) => contents.refuse(&name, &path, fault),
            },
            Role::MisnamedSidecar => misnamed_sidecars.push((name, path)),
            Role::Signature => {}
        }
    }
    // A sidecar that is passed over would drop a digest pin or a rule without a word.
    for (name, path) in misnamed_sidecars {
        if contents.components.contains_key(&name) {
            contents.refuse(&name, &path, ReadError::Misnamed { right_name: format!("{name}.yaml") });
        }
    }
    if contents.components.len() > COMPONENTS_MAX {
        return Err(FolderError::TooMany { path: directory.to_owned(), max: COMPONENTS_MAX, what: "components" });
    }
    Ok(contents)
}

/// One component and its sidecar, read as [`scan`] reads those of a folder, wherever they stand.
///
/// # Errors
/// When the file's name is not a plug-in's, or it or its sidecar cannot be read.
pub(crate) fn single(path: &Path) -> Result<(PluginName, FolderContents), Problem> {
    let refuse = |path: &Path, fault: &dyn std::fmt::Display| Problem::of_folder(format!("{} {fault}", path.display()));
    let file_name = path.file_name().unwrap_or_default();
    if Role::of(file_name) != Some(Role::Component) {
        return Err(refuse(path, &"is not a plug-in: its name must end with `.wasm`"));
    }
    let name = plugin_name(file_name).map_err(|fault| Problem::of_folder(format!("{}: {fault}", path.display())))?;
    let refuse_read = |path: &Path, fault: ReadError| refuse(path, &format_args!("{:#}", anyhow::Error::new(fault)));
    let mut contents = FolderContents::default();
    let bytes = read_bounded(path, COMPONENT_BYTES_MAX).map_err(|fault| refuse_read(path, fault))?;
    let component = ComponentFile { path: path.to_owned(), digest: Digest::of(&bytes), reference: None };
    contents.components.insert(name.clone(), component);
    let sidecar = path.with_extension("yaml");
    match read_bounded(&sidecar, SIDECAR_BYTES_MAX) {
        Ok(text) => {
            let text = String::from_utf8(text).map_err(|_| refuse_read(&sidecar, ReadError::NotText))?;
            contents.sidecars.insert(name.clone(), SidecarFile { path: sidecar, text: text.into() });
        }
        Err(ReadError::Io(error)) if error.kind() == io::ErrorKind::NotFound => {}
        Err(fault) => return Err(refuse_read(&sidecar, fault)),
    }
    Ok((name, contents))
}

impl FolderContents {
    fn refuse(&mut self, name: &PluginName, path: &Path, fault: ReadError) {
        let text = format!("{} {:#}", path.display(), anyhow::Error::new(fault));
        self.problems.push(Problem::of_plugin(name, None, text));
    }
}

/// A cheap fingerprint of the folder: equal while nothing was written, linked, renamed or removed.
///
/// Two writes of the same size within one tick of the file system's clock leave it equal, so it
/// says when to look, never that there is nothing to see.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Signature {
    /// The folder cannot be listed.
    Absent,
    /// One stamp for each file that counts, sorted by name.
    Present(Vec<(OsString, Option<Stamp>)>),
}

/// What `stat` tells of a file, links followed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Stamp {
    device: u64,
    inode: u64,
    mode: u32,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl From<&Metadata> for Stamp {
    fn from(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            mode: metadata.mode(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// Looks at the folder without reading a file.
pub(crate) fn signature(directory: &Path) -> Signature {
    let Ok(entries) = entries(directory) else { return Signature::Absent };
    let stamp = |name: OsString| {
        let stamp = fs::metadata(directory.join(&name)).ok().map(|metadata| Stamp::from(&metadata));
        (name, stamp)
    };
    Signature::Present(entries.into_iter().map(|(name, _)| stamp(name)).collect())
}

/// What a file's name makes of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Role {
    Component,
    Sidecar,
    MisnamedSidecar,
    Signature,
}

impl Role {
    fn of(file_name: &OsStr) -> Option<Self> {
        let bytes = file_name.as_encoded_bytes();
        // `NAME.test.yaml` are an author's cases for a policy, which may stand beside it.
        if bytes.starts_with(b".") || bytes.ends_with(b".test.yaml") {
            return None;
        }
        [
            (&b".wasm"[..], Self::Component),
            (b".yaml", Self::Sidecar),
            (b".yml", Self::MisnamedSidecar),
            (b".wasm.minisig", Self::Signature),
            (b".yaml.minisig", Self::Signature),
        ]
        .into_iter()
        .find_map(|(suffix, role)| bytes.ends_with(suffix).then_some(role))
    }
}

/// The names that count, sorted.
fn entries(directory: &Path) -> Result<Vec<(OsString, Role)>, FolderError> {
    let path = || directory.to_owned();
    let refuse = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => FolderError::Missing(path()),
        io::ErrorKind::NotADirectory => FolderError::NotAFolder(path()),
        _ => FolderError::Unreadable { path: path(), source },
    };
    let mut names = Vec::new();
    for (index, entry) in fs::read_dir(directory).map_err(refuse)?.enumerate() {
        if index >= ENTRIES_MAX {
            return Err(FolderError::TooMany { path: path(), max: ENTRIES_MAX, what: "entries" });
        }
        let name = entry.map_err(refuse)?.file_name();
        if let Some(role) = Role::of(&name) {
            names.push((name, role));
        }
    }
    names.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
    Ok(names)
}

fn plugin_name(file_name: &OsStr) -> Result<PluginName, String> {
    let stem = Path::new(file_name).file_stem().unwrap_or_default();
    let stem = stem.to_str().ok_or("its name is not UTF-8")?;
    PluginName::try_from(stem).map_err(|error| error.to_string())
}

/// Opens a regular file. What is not one is never opened: a FIFO would wait for its writer.
fn open(path: &Path, max_bytes: u64) -> Result<File, ReadError> {
    let metadata = fs::metadata(path)?;
    if !metadata.is_file() {
        return Err(ReadError::NotAFile);
    }
    if metadata.size() > max_bytes {
        return Err(ReadError::TooLarge { max_bytes });
    }
    Ok(File::open(path)?)
}

fn read_bounded(path: &Path, max_bytes: u64) -> Result<Vec<u8>, ReadError> {
    let mut bytes = Vec::new();
    // A file may grow after its size was looked at.
    open(path, max_bytes)?.take(max_bytes.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max_bytes { Err(ReadError::TooLarge { max_bytes }) } else { Ok(bytes) }
}

/// Reads a file that one of the keys has signed; any file, where there are none.
fn read_trusted(path: &Path, max_bytes: u64, trusted_keys: &TrustedKeys) -> Result<Vec<u8>, ReadError> {
    let bytes = read_bounded(path, max_bytes)?;
    if trusted_keys.is_empty() {
        return Ok(bytes);
    }
    let file_name = path.file_name().unwrap_or_default();
    let mut signature_path = path.as_os_str().to_owned();
    signature_path.push(trusted_keys::SUFFIX);
    let signature = match read_bounded(Path::new(&signature_path), SIGNATURE_BYTES_MAX) {
        Ok(signature) => Some(String::from_utf8(signature).map_err(|_| Untrusted::Malformed)?),
        Err(ReadError::Io(error)) if error.kind() == io::ErrorKind::NotFound => None,
        Err(fault) => return Err(ReadError::Signature(fault.into())),
    };
    trusted_keys.verify(&file_name.to_string_lossy(), &bytes, signature.as_deref())?;
    Ok(bytes)
}

/// How large a component may be: a Python guest, with its interpreter, takes about 40 MB.
pub(crate) const COMPONENT_BYTES_MAX: u64 = 64 << 20;
/// How large a sidecar may be.
pub(crate) const SIDECAR_BYTES_MAX: u64 = 1 << 20;
/// How large a signature may be, its comments included.
pub(crate) const SIGNATURE_BYTES_MAX: u64 = 8 << 10;
/// How many components a folder may hold.
pub(crate) const COMPONENTS_MAX: usize = 1024;
/// How many entries of any sort a folder may hold.
pub(crate) const ENTRIES_MAX: usize = 16_384;

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "a test may panic")]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::trusted_keys::samples;

    /// Goal: components and sidecars are found by name, and nothing else is. Method: a folder full of what people leave.
    #[test]
    fn only_components_and_sidecars_count() {
        let folder = tempfile::tempdir().unwrap();
        for name in [
            "a.wasm",
            "b.wasm",
            "b.yaml",
            "alone.yaml",
            "a.test.yaml",
            "notes.yml",
            ".a.wasm.swp",
            ".hidden.wasm",
            "a.wasm~",
            ".#a.wasm",
            "4913",
            "README.md",
            "c.wasm.tmp",
            "#a.wasm#",
            "a.wat",
        ] {
            fs::write(folder.path().join(name), name).unwrap();
        }
        fs::create_dir(folder.path().join("sub.wasm")).unwrap();
        symlink("a.wasm", folder.path().join("linked.wasm")).unwrap();

        let contents = scan_unsigned(folder.path()).unwrap();

        assert_eq!(names(&contents.components), ["a", "b", "linked"]);
        assert_eq!(names(&contents.sidecars), ["alone", "b"]);
        assert_eq!(contents.components[&name("a")].digest, Digest::of(b"a.wasm"));
        assert_eq!(contents.components[&name("linked")].digest, Digest::of(b"a.wasm"));
        assert_eq!(&*contents.sidecars[&name("b")].text, "b.yaml");
        assert_eq!(contents.problems, []);
        assert_eq!(contents.notes.len(), 1, "{:?}", contents.notes);
    }

    /// Goal: what cannot be used is named. Method: a row a fault; the path stands for the folder.
    #[test]
    fn a_file_that_cannot_be_used_is_a_problem() {
        check(
            |at| fs::write(at.join("my policy.wasm"), ""),
            "FOLDER/my policy.wasm: `my policy` is not a plug-in name: use 1 to 63 of `a-z`, `A-Z`, `0-9`, `-` and `_`, \
             beginning with a letter or digit",
        );
        check(
            |at| symlink("nowhere", at.join("x.wasm")),
            "FOLDER/x.wasm cannot be read: No such file or directory (os error 2)",
        );
        check(|at| symlink("/dev/null", at.join("x.wasm")), "FOLDER/x.wasm is neither a file nor a link to one");
        check(|at| fs::write(at.join("x.yaml"), [0xff]), "FOLDER/x.yaml is not UTF-8 text");
        check(
            |at| File::create(at.join("x.wasm"))?.set_len(COMPONENT_BYTES_MAX + 1),
            "FOLDER/x.wasm is larger than 67108864 bytes",
        );
        check(
            |at| File::create(at.join("x.yaml"))?.set_len(SIDECAR_BYTES_MAX + 1),
            "FOLDER/x.yaml is larger than 1048576 bytes",
        );
        check(
            |at| fs::write(at.join("x.wasm"), "").and_then(|()| fs::write(at.join("x.yml"), "")),
            "FOLDER/x.yml is not read: name it `x.yaml`",
        );
    }

    /// Goal: a folder that cannot be read is an error, not an empty folder. Method: rows.
    #[test]
    fn a_folder_that_cannot_be_read_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let text = |path: &Path| {
            let error = scan_unsigned(path).unwrap_err().to_string();
            error.replace(folder.path().to_str().unwrap(), "FOLDER")
        };
        assert_eq!(
            text(&folder.path().join("gone")),
            "the plug-in folder FOLDER/gone does not exist: create it, or set `plugins.directory`"
        );
        fs::write(folder.path().join("file"), "").unwrap();
        assert_eq!(text(&folder.path().join("file")), "FOLDER/file is not a folder: `plugins.directory` must name one");
        assert_eq!(signature(&folder.path().join("gone")), Signature::Absent);

        for index in 0..=COMPONENTS_MAX {
            fs::write(folder.path().join(format!("p{index}.wasm")), "").unwrap();
        }
        assert_eq!(text(folder.path()), "the plug-in folder FOLDER holds more than 1024 components");
    }

    /// Goal: every way to change the folder changes its signature, and what does not count does not.
    /// Method: one step after the other on one folder, laid out as Kubernetes lays out a mounted ConfigMap.
    #[test]
    fn a_change_shows_in_the_signature() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let mut last = signature(folder.path());
        let mut step = |what: &str, changes: bool| {
            let now = signature(folder.path());
            assert_eq!(now != last, changes, "{what}");
            last = now;
        };

        fs::create_dir(at("..v1")).unwrap();
        fs::create_dir(at("..v2")).unwrap();
        fs::write(at("..v1/x.wasm"), "one").unwrap();
        fs::write(at("..v2/x.wasm"), "two").unwrap();
        symlink("..v1", at("..data")).unwrap();
        step("nothing that counts yet", false);
        symlink("..data/x.wasm", at("x.wasm")).unwrap();
        step("a link to a component", true);
        assert_eq!(scan_unsigned(folder.path()).unwrap().components[&name("x")].digest, Digest::of(b"one"));
        symlink("..v2", at("..data_tmp")).unwrap();
        fs::rename(at("..data_tmp"), at("..data")).unwrap();
        step("a swap of ..data", true);
        assert_eq!(scan_unsigned(folder.path()).unwrap().components[&name("x")].digest, Digest::of(b"two"));

        fs::write(at("y.wasm"), "short").unwrap();
        step("a new file", true);
        fs::write(at("y.wasm"), "a longer text").unwrap();
        step("a write in place", true);
        let modified = fs::metadata(at("y.wasm")).unwrap().modified().unwrap();
        fs::write(at("y.wasm"), "a longer task").unwrap();
        File::options().write(true).open(at("y.wasm")).unwrap().set_modified(modified).unwrap();
        step("a write of the same size that hides its time", true);
        fs::write(at(".y.wasm.tmp"), "renamed").unwrap();
        step("a hidden file", false);
        fs::rename(at(".y.wasm.tmp"), at("y.wasm")).unwrap();
        step("a rename over it", true);
        fs::write(at("y.yaml"), "{}").unwrap();
        step("a sidecar", true);
        fs::remove_file(at("y.wasm")).unwrap();
        step("a removal", true);
        fs::write(at("README.md"), "x").unwrap();
        step("a file that does not count", false);
    }

    /// Goal: what is loaded is what was hashed. Method: other bytes between scan and read.
    #[test]
    fn bytes_are_read_as_they_were_hashed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.wasm");
        fs::write(&path, "one").unwrap();
        let file = scan_unsigned(folder.path()).unwrap().components.remove(&name("x")).unwrap();
        assert_eq!(&*file.read().unwrap(), b"one");
        fs::write(&path, "two").unwrap();
        assert!(matches!(file.read(), Err(ReadError::Changed)));
        fs::remove_file(&path).unwrap();
        assert!(matches!(file.read(), Err(ReadError::Io(_))));
    }

    fn scan_unsigned(directory: &Path) -> Result<FolderContents, FolderError> {
        scan(directory, &TrustedKeys::default())
    }

    /// Goal: where keys are given, nothing unsigned takes effect, sidecars included, and a signature that comes or goes is a
    /// change. Method: one folder, file by file, with signatures that minisign made.
    #[test]
    fn only_signed_files_take_effect() {
        let trusted_keys = TrustedKeys::new(vec![trusted_keys::public_key(samples::KEY).unwrap()]);
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let problems = || {
            let contents = scan(folder.path(), &trusted_keys).unwrap();
            let problems = contents.problems.iter().map(|problem| problem.to_string());
            problems.map(|text| text.replace(folder.path().to_str().unwrap(), "FOLDER")).collect::<Vec<_>>()
        };
        let unsigned = |name: &str| {
            format!(
                "FOLDER/{name} is not signed: `plugins.trustedKeys` is given, and there is no `{name}.minisig` beside it"
            )
        };

        fs::write(at("x.wasm"), "component").unwrap();
        fs::write(at("x.yaml"), "mode: shadow").unwrap();
        assert_eq!(problems(), [unsigned("x.wasm"), unsigned("x.yaml")]);
        let before = signature(folder.path());
        fs::write(at("x.wasm.minisig"), samples::SIGNATURE).unwrap();
        assert_ne!(signature(folder.path()), before);
        assert_eq!(problems(), [unsigned("x.yaml")]);
        fs::write(at("x.yaml.minisig"), samples::OF_SIDECAR).unwrap();
        assert_eq!(problems(), Vec::<String>::new());
        let contents = scan(folder.path(), &trusted_keys).unwrap();
        assert_eq!((names(&contents.components), names(&contents.sidecars)), (vec!["x"], vec!["x"]));

        fs::write(at("x.yaml"), "mode: enforce").unwrap();
        assert_eq!(problems(), ["FOLDER/x.yaml does not match its signature: one of the two was changed"]);
        fs::remove_file(at("x.yaml")).unwrap();
        fs::rename(at("x.wasm"), at("y.wasm")).unwrap();
        fs::rename(at("x.wasm.minisig"), at("y.wasm.minisig")).unwrap();
        assert_eq!(
            problems(),
            [
                "FOLDER/y.wasm has a signature that is not for this name: its trusted comment must hold `file:y.wasm`, as \
              minisign writes it"
            ]
        );
        File::create(at("y.wasm.minisig")).unwrap().set_len(SIGNATURE_BYTES_MAX + 1).unwrap();
        assert_eq!(problems(), ["FOLDER/y.wasm has a signature that is larger than 8192 bytes"]);
        assert_eq!(scan_unsigned(folder.path()).unwrap().problems, []);
    }

    #[track_caller]
    fn check(arrange: impl FnOnce(&Path) -> io::Result<()>, expected: &str) {
        let folder = tempfile::tempdir().unwrap();
        arrange(folder.path()).unwrap();
        let problems: Vec<_> = scan_unsigned(folder.path())
            .unwrap()
            .problems
            .into_iter()
            .map(|problem| problem.to_string().replace(folder.path().to_str().unwrap(), "FOLDER"))
            .collect();
        assert_eq!(problems, [expected]);
    }

    fn names<T>(of: &BTreeMap<PluginName, T>) -> Vec<&str> {
        of.keys().map(PluginName::as_str).collect()
    }

    fn name(name: &str) -> PluginName {
        PluginName::try_from(name).unwrap()
    }
}
