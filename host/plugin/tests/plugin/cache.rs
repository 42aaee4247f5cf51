//! Compiled code on disk: found after a restart, compiled again where it was touched.

use std::fs;
use std::num::NonZeroU32;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use witgate_core::{Decision, PermissionPolicy};
use witgate_plugin::{Host, HostConfig, HostError};

use crate::guest::{DENY, Guest, policy_of, query, source};

/// Goal: a restart does not compile again, unless the file is not ours any more. Method: hosts one after the other
/// on one directory. What is compiled again is written again, as another file under the same name.
#[tokio::test]
async fn compiled_code_survives_a_restart_and_tampering_does_not() {
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("cache");
    restart(&directory).await;
    let file = only_file(&directory);
    let good = fs::read(&file).unwrap();

    check(&directory, "untouched", Kept::Yes, || {}).await;
    check(&directory, "one byte of machine code changed", Kept::No, || {
        let mut code = good.clone();
        code[good.len() / 2] ^= 1;
        fs::write(&file, code).unwrap();
    })
    .await;
    check(&directory, "compiled again, and kept again", Kept::Yes, || {}).await;
    check(&directory, "cut short, as by a full disk", Kept::No, || {
        fs::write(&file, &good[..good.len() / 2]).unwrap();
    })
    .await;
    check(&directory, "writable by others", Kept::No, || {
        fs::set_permissions(&file, fs::Permissions::from_mode(0o622)).unwrap();
    })
    .await;
    check(&directory, "a link to somewhere else", Kept::No, || {
        let elsewhere = parent.path().join("elsewhere");
        fs::rename(&file, &elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, &file).unwrap();
    })
    .await;
}

#[derive(Debug, PartialEq)]
enum Kept {
    Yes,
    No,
}

async fn check(directory: &Path, what: &str, expected: Kept, touch: impl FnOnce()) {
    touch();
    let file = only_file(directory);
    let before = fs::symlink_metadata(&file).unwrap().ino();
    restart(directory).await;
    let after = fs::symlink_metadata(&file).unwrap();
    assert!(after.is_file(), "{what}");
    let kept = if after.ino() == before { Kept::Yes } else { Kept::No };
    assert_eq!(kept, expected, "{what}");
}

/// Goal: what an operator configured and cannot be used is said at start, not found out later.
#[test]
fn a_directory_of_others_stops_the_start() {
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let error = Host::new(config(directory.path())).unwrap_err();
    assert!(matches!(error, HostError::CacheDirectory(_)), "{error}");
    assert!(error.to_string().contains("mode 0777"), "{error}");
}

async fn restart(directory: &Path) {
    let guest = Guest::policy(DENY).text("reason", "from the guest");
    let host = Host::new(config(directory)).unwrap();
    let policy = policy_of(host.load(source("x", guest.build())).await);
    let decision = policy.handle(&query(), None).await.unwrap();
    assert_eq!(decision, Decision::Deny("from the guest".into()));
}

fn config(directory: &Path) -> HostConfig {
    HostConfig { cache_directory: Some(directory.to_owned()), instances_max: NonZeroU32::MIN, ..HostConfig::default() }
}

fn only_file(directory: &Path) -> PathBuf {
    let files: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    files[0].clone()
}
