//! Any bytes as a client's HTTP/1.1 connection: what was judged is what is sent.
//!
//! The first byte chooses as whom the request goes up; the rest is what the client writes. The invariant is
//! `witgate_proxy::fuzzing`'s.

#![no_main]

use libfuzzer_sys::{Corpus, fuzz_target};
use witgate_proxy::fuzzing::{Grant, check};

fuzz_target!(|input: &[u8]| -> Corpus {
    let Some((chosen, written)) = input.split_first() else { return Corpus::Reject };
    let grant = match chosen % 4 {
        0 => Grant::Bearer,
        1 => Grant::Impersonating,
        2 => Grant::Anonymous,
        _ => Grant::AsTheClientAsks,
    };
    check(written, grant);
    Corpus::Keep
});
