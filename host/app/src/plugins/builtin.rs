//! The strategies that are embedded in the binary: guests like any other, built from `guests/strategies`.

#![expect(unreachable_pub, reason = "the build script does not know where its file is included")]

include!(concat!(env!("OUT_DIR"), "/builtins.rs"));
