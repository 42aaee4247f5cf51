//! How long a call has taken, without the time in which it was ready to run and others ran instead.
//!
//! A guest that computes gives its thread up every few milliseconds. On a busy machine it then queues, and
//! a burst of short calls would miss a deadline of wall-clock time that each of them alone would keep. What is
//! counted is all else: computing, and waiting in a host call.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The clock of one call.
pub(crate) struct CallClock {
    begun: Instant,
    /// Nanoseconds for which it queued.
    queued_ns: AtomicU64,
    /// When it gave its thread up, in nanoseconds since it begun, and one; 0 where it did not.
    yielded_at_ns: AtomicU64,
}

impl CallClock {
    /// Begins now.
    pub(crate) fn begin() -> Self {
        Self { begun: Instant::now(), queued_ns: AtomicU64::new(0), yielded_at_ns: AtomicU64::new(0) }
    }

    /// One that has done nothing but queue, for so long.
    #[cfg(test)]
    pub(crate) fn queued_for(duration: Duration) -> Self {
        let begun = Instant::now().checked_sub(duration).expect("this machine has been up for longer");
        Self { begun, queued_ns: AtomicU64::new(nanoseconds(duration)), yielded_at_ns: AtomicU64::new(0) }
    }

    /// The guest gives its thread up, though it could go on.
    pub(crate) fn yields(&self) {
        self.yielded_at_ns.store(nanoseconds(self.begun.elapsed()).saturating_add(1), Ordering::Relaxed);
    }

    /// It has a thread again.
    pub(crate) fn resumes(&self) {
        if let Some(yielded_at) = self.yielded_at_ns.swap(0, Ordering::Relaxed).checked_sub(1) {
            let queued = nanoseconds(self.begun.elapsed()).saturating_sub(yielded_at);
            self.queued_ns.fetch_add(queued, Ordering::Relaxed);
        }
    }

    /// What counts against the deadline; it stands still while the call queues.
    pub(crate) fn taken(&self) -> Duration {
        let until = match self.yielded_at_ns.load(Ordering::Relaxed).checked_sub(1) {
            Some(yielded_at) => Duration::from_nanos(yielded_at),
            None => self.begun.elapsed(),
        };
        until.saturating_sub(Duration::from_nanos(self.queued_ns.load(Ordering::Relaxed)))
    }

    /// Whether the call queues now.
    pub(crate) fn queues(&self) -> bool {
        self.yielded_at_ns.load(Ordering::Relaxed) != 0
    }

    /// All of it, queueing included.
    pub(crate) fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: queueing does not count, all else does. Method: time passes in each state; no less than a sleep takes.
    #[test]
    fn queueing_does_not_count() {
        let pass = || {
            let until = Instant::now() + Duration::from_millis(5);
            while Instant::now() < until {
                std::hint::spin_loop();
            }
        };
        let clock = CallClock::begin();
        pass();
        clock.resumes(); // from a host call: that counted
        assert!(clock.taken() >= Duration::from_millis(5));
        clock.yields();
        let taken = clock.taken();
        pass();
        assert_eq!(clock.taken(), taken);
        clock.resumes();
        assert!(clock.elapsed() - clock.taken() >= Duration::from_millis(5));
    }
}
