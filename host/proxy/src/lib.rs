//! The data plane: one request from the listener to the API server and back.
//!
//! Read [`gate`] first: it is the life of a request from top to bottom, and every
//! other module is one step of it. Nothing here knows how a policy or a strategy
//! is run (they are traits of `witgate-core`), nor where the configuration
//! stands: it reads a [`Snapshot`](snapshot::Snapshot) that somebody else made.

pub mod authorize;
pub mod body;
mod caller;
mod clusters;
pub mod counts;
pub mod decision;
pub mod drain;
mod exchange;
mod forward;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
pub mod gate;
pub mod headers;
pub mod impersonation;
pub mod limits;
pub mod listener;
mod renewal;
pub mod respond;
pub mod route;
mod shadow;
pub mod snapshot;
pub mod tls;
pub mod trace;
mod trail;
mod upgrade;
pub mod upstream;
pub mod workers;
