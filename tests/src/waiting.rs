//! Waiting for what must happen soon: always with a limit, so that a test that waits in vain fails and says for what.

use std::time::Duration;

/// How long anything may take that should take no time: long enough for a machine
/// that does much else, as only a failure ever waits for it to its end.
pub const SOON: Duration = Duration::from_secs(60);

/// Waits for `future` for at most [`SOON`]; `what` says in the failure's text what did not happen.
#[track_caller]
pub fn soon<F: Future>(what: &str, future: F) -> impl Future<Output = F::Output> {
    within(SOON, what, future)
}

/// Waits for `future` for at most `limit`.
#[track_caller]
pub fn within<F: Future>(limit: Duration, what: &str, future: F) -> impl Future<Output = F::Output> {
    let place = std::panic::Location::caller();
    async move {
        match tokio::time::timeout(limit, future).await {
            Ok(output) => output,
            Err(_) => panic!("{place}: {what}: not within {limit:?}"),
        }
    }
}

/// Asks again and again until there is an answer: for state of the gate that announces itself nowhere.
#[track_caller]
pub fn until<T, F: Future<Output = Option<T>>>(what: &str, mut ask: impl FnMut() -> F) -> impl Future<Output = T> {
    let asking = async move {
        let mut pace = tokio::time::interval(Duration::from_millis(20));
        loop {
            pace.tick().await;
            if let Some(answer) = ask().await {
                return answer;
            }
        }
    };
    soon(what, asking)
}

/// As [`until`], of something that only one can ask at a time.
pub async fn until_mut<S, T>(what: &str, subject: &mut S, mut ask: impl AsyncFnMut(&mut S) -> Option<T>) -> T {
    let asking = async {
        let mut pace = tokio::time::interval(Duration::from_millis(50));
        loop {
            pace.tick().await;
            if let Some(answer) = ask(subject).await {
                return answer;
            }
        }
    };
    soon(what, asking).await
}
