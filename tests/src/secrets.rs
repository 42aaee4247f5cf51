//! Every secret of the test run, and the search for them in what the gate lets out.
//!
//! Tests run in any order and at the same time, so there is no last test that could search everything: instead each
//! text that leaves a gate is searched when it is complete, for the secrets of all tests so far.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use sha2::Digest as _;

/// Secret to what it is, for the failure's text.
static SECRETS: Mutex<BTreeMap<String, String>> = Mutex::new(BTreeMap::new());

/// A new secret that nothing else in this run contains. `what` says in a failure's text which one it was.
pub fn secret(what: &str) -> String {
    register(what, &unique("sEcReT"))
}

/// Adds a secret that somebody else chose, and gives it back.
pub fn register(what: &str, secret: &str) -> String {
    assert!(secret.len() >= 8, "`{secret}` ({what}) is too short to be searched for");
    SECRETS.lock().unwrap().insert(secret.to_owned(), what.to_owned());
    secret.to_owned()
}

/// Fails the test if `text`, which came out of `place`, holds any secret of this run.
#[track_caller]
pub fn assert_none_in(place: &str, text: &str) {
    for (secret, what) in SECRETS.lock().unwrap().iter() {
        if let Some(line) = text.lines().find(|line| line.contains(secret)) {
            panic!("the {what} stands in {place}:\n{line}");
        }
    }
}

/// A text that no other call in any test process yields: 32 hexadecimal digits after `prefix`.
fn unique(prefix: &str) -> String {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let seed = format!(
        "{}:{}:{:?}",
        COUNT.fetch_add(1, Ordering::Relaxed),
        std::process::id(),
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)
    );
    let digest: String = sha2::Sha256::digest(seed).iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    format!("{prefix}-{digest}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the search finds what it must. Method: the same text with and without a secret.
    #[test]
    fn a_secret_in_a_text_is_found() {
        let token = secret("a token of this test");
        assert_none_in("a clean text", "nothing here");
        let found = std::panic::catch_unwind(|| assert_none_in("a log", &format!("first\nBearer {token}\nlast")));
        assert!(found.is_err());
    }
}
