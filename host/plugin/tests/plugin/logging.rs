//! What a guest may write into our log.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use tracing::instrument::WithSubscriber as _;
use witgate_core::{Decision, PermissionPolicy};

use crate::guest::{ALLOW, Guest, query};

/// Runs `work` and returns what it logged, at every level.
pub(crate) async fn logged<T>(work: impl Future<Output = T>) -> (T, String) {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let output = work.with_subscriber(subscriber).await;
    let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    (output, text)
}

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub(crate) const IMPORT: &str = "\n(import \"witgate:auth/log@0.1.0\" \"log\" (func $log (param $level i32) (param $address i32) (param $length i32)))\n";

/// Goal: a line is one line, under the plug-in's name. Method: a guest that forges one.
#[tokio::test]
async fn a_guest_cannot_forge_a_line() {
    let guest =
        Guest::policy(&format!("(call $log (i32.const 1) (global.get $line) (global.get $line.length)) {ALLOW}"))
            .with(IMPORT)
            .text("line", "hello\n2026-01-01T00:00:00Z ERROR forged\u{1b}[2J");
    let policy = guest.into_policy().await;
    let (decision, log) = logged(async { policy.handle(&query(), None).await.unwrap() }).await;
    assert_eq!(decision, Decision::Allow);
    let line = log.lines().find(|line| line.contains("hello")).expect("it is logged");
    assert!(line.contains("WARN"), "{line}");
    assert!(line.contains("witgate::plugin"), "{line}");
    assert!(line.contains("plugin=x"), "{line}");
    assert!(line.contains("hello\\n2026"), "{line}");
    assert!(!log.contains('\u{1b}'), "{log}");
}

/// Goal: a guest that floods the log costs its own lines. Method: 10,000 of them in one call, which still answers.
#[tokio::test]
async fn a_flood_is_cut() {
    let guest = Guest::policy(&format!(
        "(local $i i32)
         (loop $more
           (call $log (i32.const 2) (global.get $line) (global.get $line.length))
           (local.set $i (i32.add (local.get $i) (i32.const 1)))
           (br_if $more (i32.lt_u (local.get $i) (i32.const 10000))))
         {ALLOW}"
    ))
    .with(IMPORT)
    .text("line", "flood");
    let policy = guest.into_policy_within(witgate_plugin::Limits::new(10_000, 64, 1).unwrap()).await;
    let (decision, log) = logged(async { policy.handle(&query(), None).await.unwrap() }).await;
    assert_eq!(decision, Decision::Allow);
    assert_eq!(log.matches("flood").count(), 64);
    assert_eq!(log.matches("more than 64 lines in a call; the rest of it is dropped").count(), 1);
}

/// Goal: a long line is cut, and the guest goes on. Method: a line of 1 MiB.
#[tokio::test]
async fn a_long_line_is_cut() {
    let guest = Guest::policy(&format!(
        "(memory.fill (i32.const 131072) (i32.const 122) (i32.const 1048576))
         (call $log (i32.const 0) (i32.const 131072) (i32.const 1048576)) {ALLOW}"
    ))
    .with(IMPORT)
    .memory_pages(32);
    let policy = guest.into_policy_within(witgate_plugin::Limits::new(10_000, 64, 1).unwrap()).await;
    let (decision, log) = logged(async { policy.handle(&query(), None).await.unwrap() }).await;
    assert_eq!(decision, Decision::Allow);
    assert!(log.contains("z … (1047552 more characters)"));
    assert!(log.len() < 4096, "{}", log.len());
}
