//! Where guests are built, whoever asks.
//!
//! `cargo xtask` and the binary's build script must name the same directory, or everything is built twice. Neither can ask
//! cargo; but both stand in the outer target directory, which cargo marks with a `CACHEDIR.TAG`.

use std::path::{Path, PathBuf};

/// The target directory in which `inside` lies: an executable's path, or a build script's `OUT_DIR`.
///
/// `target` in `repository` where no directory above `inside` is marked.
pub fn target_directory(inside: &Path, repository: &Path) -> PathBuf {
    let marked = inside.ancestors().skip(1).find(|directory| directory.join("CACHEDIR.TAG").is_file());
    marked.map_or_else(|| repository.join("target"), Path::to_owned)
}

/// Where guests are built: a directory of their own in that target directory, so with a lock of its own.
pub fn guests_target_directory(inside: &Path, repository: &Path) -> PathBuf {
    target_directory(inside, repository).join("guests-build")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the executable and the build script mean one directory. Method: both layouts, marked and not.
    #[test]
    fn xtask_and_build_script_agree() {
        let repository = tempfile::tempdir().unwrap();
        let target = repository.path().join("elsewhere");
        std::fs::create_dir_all(&target).unwrap();
        let xtask = target.join("debug/xtask");
        let out_dir = target.join("release/build/witgate-0123/out");

        assert_eq!(target_directory(&xtask, repository.path()), repository.path().join("target"));

        std::fs::write(target.join("CACHEDIR.TAG"), "").unwrap();
        assert_eq!(guests_target_directory(&xtask, repository.path()), target.join("guests-build"));
        assert_eq!(guests_target_directory(&out_dir, repository.path()), target.join("guests-build"));
    }
}
