//! The clock that interrupts guests which compute.
//!
//! It has a thread of its own: a task could not tick while guests hold every
//! worker of the runtime, which is just when it is needed.

use std::io;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use wasmtime::Engine;

/// Moves the engines' epochs on, until it is dropped.
pub(crate) struct Ticker {
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Ticker {
    pub(crate) fn start(engines: [Engine; 2]) -> io::Result<Self> {
        let (stop, stopped) = mpsc::channel::<()>();
        let thread = thread::Builder::new().name("witgate-epochs".into()).spawn(move || {
            while stopped.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
                engines.iter().for_each(Engine::increment_epoch);
            }
        })?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            // It sleeps for a tick at most. It cannot panic, and if it did there would be nothing to save.
            let _ended = thread.join();
        }
    }
}

/// How long a guest computes before it lets others run.
const TICK: Duration = Duration::from_millis(1);
