//! `/decisions`: the last ones, picked, and the next ones as they come.
//!
//! Followed as server-sent events (`Accept: text/event-stream`, or `?follow`): an event `decision` for each, with the log's line;
//! an event `lost` with how many when the reader was too slow for them.

use std::time::Duration;

use bytes::Bytes;
use http::header::ACCEPT;
use http::{HeaderMap, Response, StatusCode};
use tokio::sync::mpsc;

use super::body::{self, Body};
use crate::decision_log::recent::{FOLLOWERS_MAX, Filter, Follower, Heard, KEPT_MAX, Recent};

/// Answers with the decisions that the query asks for.
pub(super) fn respond(recent: &Recent, query: Option<&str>, headers: &HeaderMap) -> Response<Body> {
    let wanted = match Wanted::parse(query.unwrap_or_default()) {
        Ok(wanted) => wanted,
        Err(why) => return body::refusal(StatusCode::BAD_REQUEST, why),
    };
    let accepts_events = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok());
    let follow = wanted.follow || accepts_events.is_some_and(|accept| accept.contains("text/event-stream"));
    if !follow {
        let kept = recent.last(&wanted.filter, wanted.limit.unwrap_or(LIMIT_DEFAULT));
        return body::whole(StatusCode::OK, "application/json", list(&kept));
    }
    let Some((kept, follower)) = recent.follow(wanted.filter, wanted.limit.unwrap_or_default()) else {
        let why = format!("{FOLLOWERS_MAX} follow the decisions already");
        return body::refusal(StatusCode::SERVICE_UNAVAILABLE, why);
    };
    let (events, receiver) = mpsc::channel(EVENTS_WAITING_MAX);
    tokio::spawn(tell(kept, follower, events));
    body::answer(StatusCode::OK, "text/event-stream", Body::Events(receiver))
}

/// What a query asks for.
#[derive(Debug, Default, Eq, PartialEq)]
struct Wanted {
    filter: Filter,
    limit: Option<usize>,
    follow: bool,
}

impl Wanted {
    fn parse(query: &str) -> Result<Self, String> {
        let mut wanted = Self::default();
        for part in query.split('&').filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let value = decode(value).ok_or_else(|| format!("the value of `{}` is not text", shown(name)))?;
            let filter = &mut wanted.filter;
            match name {
                "follow" => wanted.follow = !matches!(value.as_str(), "0" | "false"),
                "limit" => match value.parse() {
                    Ok(limit) if limit <= KEPT_MAX => wanted.limit = Some(limit),
                    _ => return Err(format!("`limit` is a number up to {KEPT_MAX}")),
                },
                "id" => filter.id = Some(value),
                "user" => filter.user = Some(value),
                "cluster" => filter.cluster = Some(value),
                "policy" => filter.policy = Some(value),
                "verb" => filter.verb = Some(value),
                "decision" if matches!(value.as_str(), "allow" | "deny") => filter.decision = Some(value),
                "decision" => return Err("`decision` is `allow` or `deny`".to_owned()),
                "since" => {
                    let since: jiff::Timestamp =
                        value.parse().map_err(|_| "`since` is a time such as 2026-01-02T03:04:05Z".to_owned())?;
                    filter.since = Some(since);
                }
                _ => {
                    return Err(format!(
                        "no such filter: `{}`; there are id, user, cluster, decision, policy, verb, since, limit and follow",
                        shown(name)
                    ));
                }
            }
        }
        Ok(wanted)
    }
}

fn shown(text: &str) -> String {
    text.chars().take(40).flat_map(char::escape_debug).collect()
}

/// The text of a query's value.
fn decode(value: &str) -> Option<String> {
    let mut bytes = value.bytes();
    let mut decoded = Vec::with_capacity(value.len());
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'+' => b' ',
            b'%' => {
                let (high, low) = (char::from(bytes.next()?).to_digit(16)?, char::from(bytes.next()?).to_digit(16)?);
                u8::try_from(high * 16 + low).ok()?
            }
            other => other,
        });
    }
    String::from_utf8(decoded).ok()
}

/// `{"decisions": [the lines]}`: they are JSON already.
fn list(lines: &[Bytes]) -> Bytes {
    let mut list = b"{\"decisions\": [".to_vec();
    for (index, line) in lines.iter().enumerate() {
        list.extend_from_slice(if index == 0 { b"\n" } else { b",\n" });
        list.extend_from_slice(line.trim_ascii_end());
    }
    list.extend_from_slice(b"\n]}\n");
    list.into()
}

/// Sends events until the reader is gone, or there is nothing to come.
async fn tell(kept: Vec<Bytes>, mut follower: Follower, events: mpsc::Sender<Bytes>) {
    // Says that it begins, so that a reader knows that it misses nothing from now on.
    let mut next = Bytes::from_static(b": following\n\n");
    let mut kept = kept.into_iter();
    loop {
        if events.send(next).await.is_err() {
            return;
        }
        if let Some(line) = kept.next() {
            next = event(&line);
            continue;
        }
        next = tokio::select! {
            heard = follower.next() => match heard {
                Some(Heard::Decision(line)) => event(&line),
                Some(Heard::Lost(count)) => format!("event: lost\ndata: {{\"lost\":{count}}}\n\n").into(),
                None => return,
            },
            () = events.closed() => return,
            () = tokio::time::sleep(SIGN_OF_LIFE) => Bytes::from_static(b": nothing new\n\n"),
        };
    }
}

fn event(line: &[u8]) -> Bytes {
    let mut event = b"event: decision\ndata: ".to_vec();
    // JSON has no line feed of its own.
    event.extend_from_slice(line.trim_ascii_end());
    event.extend_from_slice(b"\n\n");
    event.into()
}

/// Decisions that are told when nobody says how many.
const LIMIT_DEFAULT: usize = 100;

/// Events that wait for the reader's connection; behind them the decisions wait, and then are lost.
const EVENTS_WAITING_MAX: usize = 16;

/// How often a reader hears something, so that both notice when the other is gone.
const SIGN_OF_LIFE: Duration = Duration::from_secs(15);

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a query is understood as a whole, or refused. Method: rows.
    #[test]
    fn a_query_is_understood_or_refused() {
        let some = |text: &str| Some(text.to_owned());
        check("", Ok(Wanted::default()));
        check("follow", Ok(Wanted { follow: true, ..Wanted::default() }));
        check("follow=false&limit=5", Ok(Wanted { limit: Some(5), ..Wanted::default() }));
        let filter = Filter { user: some("user:default/jane doe"), ..Filter::default() };
        check("user=user%3Adefault/jane+doe", Ok(Wanted { filter, ..Wanted::default() }));
        check("limit=1001", Err("`limit` is a number up to 1000"));
        check("decision=perhaps", Err("`decision` is `allow` or `deny`"));
        check("since=yesterday", Err("`since` is a time such as 2026-01-02T03:04:05Z"));
        check("user=%ff", Err("the value of `user` is not text"));
        check("user=%4", Err("the value of `user` is not text"));
        let unknown =
            "no such filter: `x`; there are id, user, cluster, decision, policy, verb, since, limit and follow";
        check("x=1", Err(unknown));
    }

    #[track_caller]
    fn check(query: &str, expected: Result<Wanted, &str>) {
        assert_eq!(Wanted::parse(query), expected.map_err(str::to_owned), "{query}");
    }
}
