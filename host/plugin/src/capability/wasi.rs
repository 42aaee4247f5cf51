//! An inert WASI 0.2 for components of stock toolchains, which import it whether they need it or not.
//!
//! There is nothing in it: no arguments, environment, files or sockets. What is written to stdout and
//! stderr goes to the plug-in's log. A policy's clock and random numbers come from its query; while a
//! plug-in is configured they stand still, because a snapshot of that state would freeze them anyway.

use std::fmt::{self, Write as _};
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime::component::{Linker, ResourceTable};
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};
use wasmtime_wasi::{
    Deterministic, HostMonotonicClock, HostWallClock, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView, async_trait,
};
use witgate_core::{PolicyQuery, UserInfo};

use super::log::{CallLog, LINE_CHARS_MAX, Level};
use crate::limits::RESOURCES_MAX;
use crate::sandbox::Sandbox;

/// The interfaces that are there; all of version 0.2.
pub(crate) const INTERFACES: [&str; 27] = [
    "wasi:cli/environment",
    "wasi:cli/exit",
    "wasi:cli/stderr",
    "wasi:cli/stdin",
    "wasi:cli/stdout",
    "wasi:cli/terminal-input",
    "wasi:cli/terminal-output",
    "wasi:cli/terminal-stderr",
    "wasi:cli/terminal-stdin",
    "wasi:cli/terminal-stdout",
    "wasi:clocks/monotonic-clock",
    "wasi:clocks/wall-clock",
    "wasi:filesystem/preopens",
    "wasi:filesystem/types",
    "wasi:io/error",
    "wasi:io/poll",
    "wasi:io/streams",
    "wasi:random/insecure",
    "wasi:random/insecure-seed",
    "wasi:random/random",
    "wasi:sockets/instance-network",
    "wasi:sockets/ip-name-lookup",
    "wasi:sockets/network",
    "wasi:sockets/tcp",
    "wasi:sockets/tcp-create-socket",
    "wasi:sockets/udp",
    "wasi:sockets/udp-create-socket",
];

pub(crate) fn link(linker: &mut Linker<Sandbox>) -> wasmtime::Result<()> {
    wasmtime_wasi::p2::add_to_linker_async(linker)
}

/// Where a guest's clock and random numbers come from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Surroundings {
    /// The same in every run: for policies, and for every `configure`.
    Fixed {
        /// Seconds since the Unix epoch, for ever.
        now: u64,
        seed: u64,
    },
    /// The machine's: for strategies, which deal with expiring tokens and sign things.
    Real,
}

impl Surroundings {
    /// For `configure`.
    pub(crate) const STILL: Self = Self::Fixed { now: 0, seed: 0 };

    /// Derived from what a policy is asked, so that the same question gives the same answer.
    pub(crate) fn of_query(query: &PolicyQuery, user: Option<&UserInfo>) -> Self {
        let mut seed = Seed(0xcbf2_9ce4_8422_2325);
        let _infallible = write!(seed, "{query:?}{user:?}");
        Self::Fixed { now: query.now, seed: seed.0 }
    }

    fn context(self, output: &Arc<Output>) -> WasiCtx {
        let mut context = WasiCtxBuilder::new();
        context
            .stdout(LogStream::new(output, Level::Info))
            .stderr(LogStream::new(output, Level::Warn))
            .allow_tcp(false)
            .allow_udp(false)
            .allow_ip_name_lookup(false)
            .max_random_size(RANDOM_BYTES_MAX);
        match self {
            Self::Fixed { now, seed } => {
                let clock = StillClock { now: Duration::from_secs(now) };
                let numbers = random_bytes(seed);
                context
                    .wall_clock(clock)
                    .monotonic_clock(clock)
                    .insecure_random_seed(u128::from(seed))
                    .insecure_random(Deterministic::new(numbers.clone()))
                    .secure_random(Deterministic::new(numbers));
            }
            Self::Real => {}
        }
        context.build()
    }
}

/// FNV-1a over what is written. No guest needs secrecy from it, only sameness.
struct Seed(u64);

impl fmt::Write for Seed {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        Ok(())
    }
}

/// WASI's side of one instance.
pub(crate) struct WasiState {
    context: WasiCtx,
    table: ResourceTable,
    output: Arc<Output>,
}

impl WasiState {
    /// Whether the guest holds a handle of any capability.
    pub(crate) fn holds_handles(&self) -> bool {
        !self.table.is_empty()
    }

    /// From now on what is printed is the next call's, through handles that the guest kept too.
    pub(crate) fn begin_again(&self, log: &Arc<CallLog>) {
        *self.output.log() = Arc::clone(log);
    }

    /// Writes what was printed without the end of its line, while it is known what must not appear in it.
    pub(crate) fn end_call(&self) {
        self.output.flush();
    }

    /// Where the handles of all capabilities are.
    pub(crate) const fn table(&mut self) -> &mut ResourceTable {
        &mut self.table
    }
}

impl Sandbox {
    /// Goes on in other surroundings. Handles that the guest holds stay good.
    pub(crate) fn enter(&mut self, surroundings: Surroundings) {
        self.surroundings = surroundings;
        if let Some(state) = &mut self.wasi {
            state.context = surroundings.context(&state.output);
        }
    }

    /// WASI's side, made now where the guest has not asked before.
    pub(crate) fn make_wasi(&mut self) -> &mut WasiState {
        let Self { wasi, surroundings, log, .. } = self;
        wasi.get_or_insert_with(|| {
            let mut table = ResourceTable::new();
            table.set_max_capacity(RESOURCES_MAX);
            let output = Arc::new(Output::new(Arc::clone(log)));
            Box::new(WasiState { context: surroundings.context(&output), table, output })
        })
    }
}

impl WasiView for Sandbox {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let state = self.make_wasi();
        WasiCtxView { ctx: &mut state.context, table: &mut state.table }
    }
}

/// A clock that stands.
#[derive(Clone, Copy)]
struct StillClock {
    now: Duration,
}

impl HostWallClock for StillClock {
    fn resolution(&self) -> Duration {
        Duration::from_secs(1)
    }

    fn now(&self) -> Duration {
        self.now
    }
}

impl HostMonotonicClock for StillClock {
    fn resolution(&self) -> u64 {
        1_000_000_000
    }

    fn now(&self) -> u64 {
        // Its beginning is nobody's business, but Go's runtime ends where it reads zero.
        u64::try_from(self.now.as_nanos()).unwrap_or(u64::MAX).max(1)
    }
}

/// SplitMix64.
fn random_bytes(mut seed: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(RANDOM_CYCLE_BYTES);
    while bytes.len() < RANDOM_CYCLE_BYTES {
        seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = seed;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bytes.extend((word ^ (word >> 31)).to_le_bytes());
    }
    bytes
}

/// What one instance prints: each line is one of the log's.
struct Output {
    /// That of the call at hand.
    log: Mutex<Arc<CallLog>>,
    stdout: Mutex<Vec<u8>>,
    stderr: Mutex<Vec<u8>>,
}

/// Stdout or stderr.
#[derive(Clone)]
struct LogStream {
    output: Arc<Output>,
    level: Level,
}

impl LogStream {
    fn new(output: &Arc<Output>, level: Level) -> Self {
        Self { output: Arc::clone(output), level }
    }

    fn take(&self, bytes: &[u8]) {
        let log = Arc::clone(&self.output.log());
        let mut begun = self.output.begun(self.level);
        for &byte in bytes {
            if byte == b'\n' {
                log.write(self.level, &String::from_utf8_lossy(&begun));
                begun.clear();
            } else if begun.len() < LINE_BYTES_MAX {
                begun.push(byte);
            }
        }
    }
}

impl Output {
    fn new(log: Arc<CallLog>) -> Self {
        Self { log: Mutex::new(log), stdout: Mutex::default(), stderr: Mutex::default() }
    }

    fn log(&self) -> MutexGuard<'_, Arc<CallLog>> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The line that has not ended yet.
    fn begun(&self, level: Level) -> MutexGuard<'_, Vec<u8>> {
        let stream = match level {
            Level::Info | Level::Debug => &self.stdout,
            Level::Warn | Level::Error => &self.stderr,
        };
        stream.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn flush(&self) {
        for level in [Level::Info, Level::Warn] {
            let line = mem::take(&mut *self.begun(level));
            if !line.is_empty() {
                self.log().write(level, &String::from_utf8_lossy(&line));
            }
        }
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        self.flush();
    }
}

impl IsTerminal for LogStream {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for LogStream {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        // Only WASI 0.3 asks for this one, and it is not linked.
        Box::new(tokio::io::sink())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

impl OutputStream for LogStream {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.take(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_BYTES_MAX)
    }
}

#[async_trait]
impl Pollable for LogStream {
    async fn ready(&mut self) {}
}

const RANDOM_BYTES_MAX: u64 = 1 << 20;
/// After so many bytes the numbers of a policy begin again.
const RANDOM_CYCLE_BYTES: usize = 4096;
const WRITE_BYTES_MAX: usize = 64 << 10;
/// A line's characters take up to four bytes each; what is cut here would be cut in the log.
const LINE_BYTES_MAX: usize = LINE_CHARS_MAX * 4 + 4;

#[cfg(test)]
mod tests {
    use witgate_core::Permission;

    use super::*;

    /// Goal: a policy's random numbers are a function of its query. Method: two equal queries, one other.
    #[test]
    fn the_seed_follows_the_query() {
        let seed = |now, user: &str| {
            let query = PolicyQuery { permission: Permission::PROXY, resource_ref: None, request: None, now };
            match Surroundings::of_query(&query, Some(&UserInfo::named(user))) {
                Surroundings::Fixed { now, seed } => (now, seed),
                Surroundings::Real => unreachable!("a query fixes its surroundings"),
            }
        };
        assert_eq!(seed(7, "jane"), seed(7, "jane"));
        assert_ne!(seed(7, "jane"), seed(7, "joe"));
        assert_ne!(seed(7, "jane"), seed(8, "jane"));
        assert_eq!(random_bytes(1).len(), RANDOM_CYCLE_BYTES);
        assert_ne!(random_bytes(1), random_bytes(2));
    }

    /// Goal: the clock of `configure` is none that a runtime takes for a broken one, as Go's does where it reads zero.
    #[test]
    fn the_still_clock_is_past_its_beginning() {
        let now = |seconds| HostMonotonicClock::now(&StillClock { now: Duration::from_secs(seconds) });
        assert_eq!((now(0), now(7), now(u64::MAX)), (1, 7_000_000_000, u64::MAX));
    }
}
