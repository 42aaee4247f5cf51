//! The strategies that are embedded in the binary: guests like any other, built from `guests/strategies`.

include!(concat!(env!("OUT_DIR"), "/builtins.rs"));
