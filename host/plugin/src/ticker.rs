//! The clock that interrupts guests which compute.
//!
//! It has a thread of its own: a task could not tick while guests hold every
//! worker of the runtime, which is just when it is needed. While no guest is called it rests, so that
//! an idle gate wakes nobody a thousand times a second.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle, Thread};
use std::time::Duration;

/// Ticks while somebody holds a [`Ticking`], until it is dropped.
pub(crate) struct Ticker {
    pulse: Arc<Pulse>,
    thread: Option<JoinHandle<()>>,
}

/// What the clock's thread and its users share.
#[derive(Default)]
struct Pulse {
    users: AtomicUsize,
    rests: AtomicBool,
    is_over: AtomicBool,
}

/// The clock ticks while this lives: whoever lets a guest run holds one.
pub(crate) struct Ticking<'a>(&'a Pulse);

/// How long a guest computes before it lets others run.
const TICK: Duration = Duration::from_millis(1);
/// Ticks without a user before the clock rests: waking it is a system call of the next user's.
const TICKS_BEFORE_REST: u32 = 50;

impl Ticker {
    /// Calls `tick` every millisecond.
    pub(crate) fn start(tick: impl Fn() + Send + 'static) -> io::Result<Self> {
        let pulse = Arc::<Pulse>::default();
        let shared = Arc::clone(&pulse);
        let thread = thread::Builder::new().name("witgate-epochs".into()).spawn(move || shared.run(tick))?;
        Ok(Self { pulse, thread: Some(thread) })
    }

    /// The clock ticks from now on, as long as the answer lives.
    pub(crate) fn ticking(&self) -> Ticking<'_> {
        self.pulse.users.fetch_add(1, Ordering::SeqCst);
        // Of the two that meet here, one sees the other: this thread that the clock rests, or the clock that it has a user.
        if self.pulse.rests.load(Ordering::SeqCst) {
            self.wake();
        }
        Ticking(&self.pulse)
    }

    #[cold]
    fn wake(&self) {
        self.thread.iter().map(JoinHandle::thread).for_each(Thread::unpark);
    }
}

impl Pulse {
    fn run(&self, tick: impl Fn()) {
        let mut unused = 0;
        while !self.is_over.load(Ordering::SeqCst) {
            thread::sleep(TICK);
            tick();
            unused = if self.users.load(Ordering::SeqCst) > 0 { 0 } else { unused + 1 };
            if unused > TICKS_BEFORE_REST {
                self.rest();
                unused = 0;
            }
        }
    }

    fn rest(&self) {
        self.rests.store(true, Ordering::SeqCst);
        while self.users.load(Ordering::SeqCst) == 0 && !self.is_over.load(Ordering::SeqCst) {
            thread::park();
        }
        self.rests.store(false, Ordering::SeqCst);
    }
}

impl Drop for Ticking<'_> {
    fn drop(&mut self) {
        self.0.users.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.pulse.is_over.store(true, Ordering::SeqCst);
        self.wake();
        if let Some(thread) = self.thread.take() {
            // It sleeps for a tick at most. It cannot panic, and if it did there would be nothing to save.
            let _ended = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Goal: it ticks for whoever needs it, however often it has rested before, and for nobody else.
    #[test]
    fn it_ticks_while_somebody_needs_it() {
        let (ticked, ticks) = mpsc::sync_channel(1024);
        let ticker = Ticker::start(move || _ = ticked.try_send(())).unwrap();
        for _ in 0..5 {
            while !ticker.pulse.rests.load(Ordering::SeqCst) {
                thread::yield_now();
            }
            while ticks.try_recv().is_ok() {}

            let ticking = ticker.ticking();
            for _ in 0..2 * TICKS_BEFORE_REST {
                ticks.recv_timeout(Duration::from_secs(30)).expect("it ticks");
            }
            assert!(!ticker.pulse.rests.load(Ordering::SeqCst));
            drop(ticking);
        }
    }
}
