//! Every secret of the test run, and the search for them in what the gate lets out.
//!
//! Tests run in any order and at the same time, so there is no last test that could search everything: instead each
//! text that leaves a gate is searched when it is complete, for the secrets of all tests so far.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use sha2::Digest as _;

/// What every secret of our own begins with, so that a text without it needs no search for each of them.
const MARK: &str = "sEcReT-";

/// How much of a foreign secret is searched for: short needles are found many times faster, and a log at level trace
/// is long.
const SEARCHED_BYTES_MAX: usize = 32;

/// Our own secrets, and what each is for the failure's text.
static OURS: Mutex<BTreeMap<String, String>> = Mutex::new(BTreeMap::new());

/// Secrets that somebody else chose, cut to [`SEARCHED_BYTES_MAX`], and what each is.
static FOREIGN: Mutex<BTreeMap<String, String>> = Mutex::new(BTreeMap::new());

/// A new secret that nothing else in this run contains. `what` says in a failure's text which one it was.
pub fn secret(what: &str) -> String {
    let secret = format!("{MARK}{}", unique());
    OURS.lock().unwrap().insert(secret.clone(), what.to_owned());
    secret
}

/// Adds a secret that somebody else chose, and gives it back.
pub fn register(what: &str, secret: &str) -> String {
    assert!(secret.len() >= 8, "`{secret}` ({what}) is too short to be searched for");
    let searched = secret.chars().take(SEARCHED_BYTES_MAX).collect();
    FOREIGN.lock().unwrap().insert(searched, what.to_owned());
    secret.to_owned()
}

/// Fails the test if `text`, which came out of `place`, holds any secret of this run.
#[track_caller]
pub fn assert_none_in(place: &str, text: &str) {
    let ours = if text.contains(MARK) { found_in(text, &OURS) } else { None };
    // The locks are free again: a panic with one in hand would fail every other test.
    if let Some((secret, what)) = ours.or_else(|| found_in(text, &FOREIGN)) {
        let line = text.lines().find(|line| line.contains(&secret)).unwrap_or_default();
        panic!("the {what} stands in {place}:\n{line}");
    }
}

fn found_in(text: &str, secrets: &Mutex<BTreeMap<String, String>>) -> Option<(String, String)> {
    let secrets = secrets.lock().unwrap();
    let found = secrets.iter().find(|(secret, _)| text.contains(secret.as_str()))?;
    Some((found.0.clone(), found.1.clone()))
}

/// A text that no other call in any test process yields: 24 hexadecimal digits.
fn unique() -> String {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let seed = format!(
        "{}:{}:{:?}",
        COUNT.fetch_add(1, Ordering::Relaxed),
        std::process::id(),
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)
    );
    sha2::Sha256::digest(seed).iter().take(12).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the search finds what it must. Method: a clean text, and one with each kind of secret.
    #[test]
    fn a_secret_in_a_text_is_found() {
        let ours = secret("a token of this test");
        let foreign = register("a key of this test", &format!("foreign-{}", unique().repeat(2)));
        assert_none_in("a clean text", "nothing here, and nothing but a mark: sEcReT-0123");
        for secret in [ours, foreign] {
            let found = std::panic::catch_unwind(|| assert_none_in("a log", &format!("first\nBearer {secret}\nlast")));
            assert!(found.is_err());
        }
    }
}
