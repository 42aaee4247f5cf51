//! Responses that go on: watches and followed logs.
//!
//! Each runs in a task that writes frames into a short channel; the response body reads it. The task ends when the client
//! leaves, when the server stops, when its time is over, or when the watch fell behind the history.
//!
//! Promise: a watch skips no change and tells none twice; where it cannot keep up it says so with a 410 and ends.

use std::ops::RangeInclusive;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};

use super::failure::Failure;
use super::objects::{EventKind, Objects, Progress, Query};
use super::table::{Header, TableOptions, table};

/// A body whose frames come from a task.
#[derive(Debug)]
pub(crate) struct StreamedBody(mpsc::Receiver<Bytes>);

impl Body for StreamedBody {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        self.0.poll_recv(context).map(|frame| frame.map(|bytes| Ok(Frame::data(bytes))))
    }
}

/// A watch as it was asked for.
#[derive(Clone, Debug)]
pub(crate) struct WatchRequest {
    /// Of which objects.
    pub(crate) query: Query,
    /// From where on.
    pub(crate) start: WatchStart,
    /// As rows, or as objects when `None`.
    pub(crate) table: Option<TableOptions>,
    /// Whether bookmarks are wanted.
    pub(crate) bookmarks: Bookmarks,
    /// When it ends by itself.
    pub(crate) timeout: Duration,
}

/// Where a watch begins.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum WatchStart {
    /// With every object as it is now.
    Now,
    /// With every object as it is now, then a bookmark that says so (`sendInitialEvents`).
    NowAndSayWhenComplete,
    /// With what happened after this version.
    After(u64),
}

/// Whether bookmarks are wanted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Bookmarks {
    /// They are.
    Wanted,
    /// They are not.
    Unwanted,
}

/// Starts a watch.
pub(crate) fn watch_objects(objects: Arc<Objects>, request: WatchRequest, stop: watch::Receiver<bool>) -> StreamedBody {
    let timeout = request.timeout;
    stream(timeout, stop, |frames| async move {
        let mut events = Events { frames, objects, request, version: 0 };
        if let Err(Ended::Failed(failure)) = events.run().await {
            events.send("ERROR", failure.to_json()).await.ok();
        }
    })
}

/// Starts a log that follows the clock: the last `lines`, then a line a tick.
pub(crate) fn follow_log(
    objects: Arc<Objects>,
    lines: u64,
    line: impl Fn(u64) -> String + Send + 'static,
    stop: watch::Receiver<bool>,
) -> StreamedBody {
    stream(STREAM_TIMEOUT_MAX, stop, |frames| async move {
        let mut progress = objects.progress();
        let mut seen = progress.borrow_and_update().ticks;
        let mut ticks = last_ticks(seen, lines);
        loop {
            for tick in ticks {
                if frames.send(line(tick).into()).await.is_err() {
                    return;
                }
            }
            if progress.changed().await.is_err() {
                return;
            }
            let now = progress.borrow_and_update().ticks;
            ticks = seen + 1..=now;
            seen = now;
        }
    })
}

/// The ticks whose lines are the last ones of a log.
pub(crate) const fn last_ticks(ticks: u64, lines: u64) -> RangeInclusive<u64> {
    ticks.saturating_sub(lines) + 1..=ticks
}

fn stream<F: Future<Output = ()> + Send + 'static>(
    timeout: Duration,
    mut stop: watch::Receiver<bool>,
    write: impl FnOnce(mpsc::Sender<Bytes>) -> F,
) -> StreamedBody {
    let (frames, body) = mpsc::channel(FRAMES_MAX);
    let client = frames.clone();
    let write = write(frames);
    tokio::spawn(async move {
        tokio::select! {
            () = write => {}
            () = client.closed() => {}
            () = tokio::time::sleep(timeout) => {}
            _ = stop.wait_for(|stop| *stop) => {}
        }
    });
    StreamedBody(body)
}

struct Events {
    frames: mpsc::Sender<Bytes>,
    objects: Arc<Objects>,
    request: WatchRequest,
    version: u64,
}

enum Ended {
    ClientLeft,
    Failed(Failure),
}

impl Events {
    async fn run(&mut self) -> Result<(), Ended> {
        let mut progress = self.objects.progress();
        let mut bookmarked = progress.borrow().ticks;
        match self.request.start {
            WatchStart::After(version) => self.version = version,
            WatchStart::Now | WatchStart::NowAndSayWhenComplete => {
                let (objects, at) = self.objects.list(&self.request.query);
                self.version = at.version;
                for object in objects {
                    self.event(EventKind::Added, &object).await?;
                }
                if self.request.start == WatchStart::NowAndSayWhenComplete {
                    self.bookmark(json!({ "k8s.io/initial-events-end": "true" })).await?;
                }
            }
        }
        loop {
            let Progress { ticks, .. } = *progress.borrow_and_update();
            for change in self.objects.since(self.version).map_err(Ended::Failed)? {
                self.version = change.version;
                if let Some(kind) = change.event(&self.request.query) {
                    self.event(kind, &change.object).await?;
                }
            }
            if self.request.bookmarks == Bookmarks::Wanted && ticks >= bookmarked + BOOKMARK_TICKS {
                bookmarked = ticks;
                self.bookmark(Value::Null).await?;
            }
            if progress.changed().await.is_err() {
                return Ok(()); // the server is gone
            }
        }
    }

    async fn event(&mut self, kind: EventKind, object: &Arc<Value>) -> Result<(), Ended> {
        let object = match self.request.table {
            None => Value::clone(object),
            Some(options) => {
                // The first event describes the columns, as the real server's does.
                self.request.table = Some(TableOptions { header: Header::Omitted, ..options });
                let metadata = json!({ "resourceVersion": self.version.to_string() });
                table(self.request.query.resource, std::slice::from_ref(object), metadata, options, Timestamp::now())
            }
        };
        self.send(kind.as_str(), object).await
    }

    async fn bookmark(&self, annotations: Value) -> Result<(), Ended> {
        let resource = self.request.query.resource;
        let mut metadata = json!({ "resourceVersion": self.version.to_string(), "creationTimestamp": null });
        if let (Some(metadata), false) = (metadata.as_object_mut(), annotations.is_null()) {
            metadata.insert("annotations".to_owned(), annotations);
        }
        let object = json!({ "kind": resource.kind, "apiVersion": resource.api_version(), "metadata": metadata });
        let object = match self.request.table {
            None => object,
            Some(options) => table(resource, &[Arc::new(object)], metadata, options, Timestamp::now()),
        };
        self.send("BOOKMARK", object).await
    }

    async fn send(&self, kind: &str, object: Value) -> Result<(), Ended> {
        let mut line = json!({ "type": kind, "object": object }).to_string();
        line.push('\n');
        self.frames.send(line.into()).await.map_err(|_| Ended::ClientLeft)
    }
}

/// Frames that wait for a slow reader; the writer waits then.
const FRAMES_MAX: usize = 16;
/// Ticks from one bookmark to the next.
pub(crate) const BOOKMARK_TICKS: u64 = 30;
/// How long a stream lasts at most.
pub(crate) const STREAM_TIMEOUT_MAX: Duration = Duration::from_secs(3600);
