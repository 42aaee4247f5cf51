//! Guests as text, for what no compiler would emit: answers that lie, memory that is not there, modules of a thousand parts.
//!
//! A test writes the body of one function; the rest of a well-behaved core module stands around it. What the
//! function returns is built at [`ANSWER`], texts may lie below it, and what the host passes in is allocated from 64 KiB on.
//!
//! A policy misbehaves when it is asked about a request to a cluster, and has no opinion about anything else; so its
//! neighbours can be looked at while it does.

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

use crate::artifacts;

/// Where an answer is built.
pub const ANSWER: u32 = 8192;

/// A core module for one world of the contract.
#[derive(Clone, Debug)]
pub struct TextGuest {
    world: &'static str,
    locals: String,
    body: String,
    fields: String,
    configure: String,
    realloc: String,
    memory: String,
    wasi: &'static str,
}

impl TextGuest {
    /// A policy whose `handle` has this body; its parameter `$arguments` is their address, its result an answer's.
    pub fn policy(body: &str) -> Self {
        Self::new("policy", body)
    }

    /// A strategy whose `get-credential` has this body; its parameter `$arguments` is their address.
    pub fn strategy(body: &str) -> Self {
        Self::new("strategy", body)
    }

    fn new(world: &'static str, body: &str) -> Self {
        Self {
            world,
            locals: String::new(),
            body: body.into(),
            fields: String::new(),
            configure: "(i32.store8 (i32.const 8192) (i32.const 0)) (i32.const 8192)".into(),
            realloc: "(local $address i32)
                (local.set $address (i32.and
                  (i32.add (global.get $allocated) (i32.sub (local.get $align) (i32.const 1)))
                  (i32.sub (i32.const 0) (local.get $align))))
                (global.set $allocated (i32.add (local.get $address) (local.get $size)))
                (local.get $address)"
                .into(),
            memory: "(memory (export \"memory\") 8)".into(),
            wasi: "",
        }
    }

    /// Local variables of the body.
    #[must_use]
    pub fn locals(self, locals: &str) -> Self {
        Self { locals: locals.into(), ..self }
    }

    /// More fields of the module: imports, globals, tables, functions, segments.
    #[must_use]
    pub fn with(self, fields: &str) -> Self {
        Self { fields: self.fields + fields + "\n", ..self }
    }

    /// The body of `configure`; its parameters are `$settings` and `$length`.
    #[must_use]
    pub fn configure(self, body: &str) -> Self {
        Self { configure: body.into(), ..self }
    }

    /// The body of `cabi_realloc`; its parameters are `$old`, `$old_size`, `$align` and `$size`.
    #[must_use]
    pub fn realloc(self, body: &str) -> Self {
        Self { realloc: body.into(), ..self }
    }

    /// Another memory than one of 8 pages.
    #[must_use]
    pub fn memory(self, memory: &str) -> Self {
        Self { memory: memory.into(), ..self }
    }

    /// Imports of WASI 0.2, as lines of a world; their functions are named in imports of [`with`](Self::with).
    #[must_use]
    pub fn wasi(self, imports: &'static str) -> Self {
        Self { wasi: imports, ..self }
    }

    /// The component.
    #[track_caller]
    pub fn build(&self) -> Vec<u8> {
        let mut module = wat::parse_str(self.text()).expect("the guest's text is WebAssembly");
        let mut resolve = Resolve::default();
        resolve.push_dir(artifacts::repository().join("wit/auth@0.1.0")).unwrap();
        let guest = format!(
            "package tests:guest; world guest {{ include witgate:auth/{}@0.1.0; {} }} {WASI}",
            self.world, self.wasi
        );
        let package = resolve.push_str("guest.wit", &guest).unwrap();
        let world = resolve.select_world(&[package], Some("guest")).unwrap();
        embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
        let encoder = ComponentEncoder::default();
        encoder.module(&module).unwrap().validate(true).encode().expect("the guest fits its world")
    }

    fn text(&self) -> String {
        let Self { world, locals, body, fields, configure, realloc, memory, wasi: _ } = self;
        // Imports come first in a module.
        let (imports, fields): (Vec<&str>, Vec<&str>) =
            fields.lines().partition(|line| line.trim_start().starts_with("(import"));
        let exports = match *world {
            "policy" => format!(
                "(func (export \"witgate:auth/permission-policy@0.1.0#handle\") (param $arguments i32) (result i32) {locals}
                   (if (result i32) (i32.load8_u offset=44 (local.get $arguments))
                     (then {body})
                     (else (i32.store8 (i32.const 8192) (i32.const 2)) (i32.const 8192))))"
            ),
            _ => format!(
                "(func (export \"witgate:auth/authentication-strategy@0.1.0#get-credential\")
                   (param $arguments i32) (result i32) {locals} {body})
                 (func (export \"witgate:auth/authentication-strategy@0.1.0#present-auth-metadata\")
                   (param i32 i32) (result i32)
                   (i32.store (i32.const 8196) (i32.const 0)) (i32.const 8192))
                 (func (export \"witgate:auth/authentication-strategy@0.1.0#validate-cluster\")
                   (param i32 i32) (result i32)
                   (i32.store (i32.const 8196) (i32.const 0)) (i32.const 8192))"
            ),
        };
        format!(
            "(module {imports}
               {memory}
               (global $allocated (mut i32) (i32.const 65536))
               (func (export \"cabi_realloc\")
                 (param $old i32) (param $old_size i32) (param $align i32) (param $size i32) (result i32) {realloc})
               (func (export \"witgate:auth/plugin@0.1.0#configure\")
                 (param $settings i32) (param $length i32) (result i32) {configure})
               {fields} {exports})",
            imports = imports.join("\n"),
            fields = fields.join("\n"),
        )
    }
}

/// As much of WASI's interfaces as guests of tests call.
const WASI: &str = "
    package wasi:io@0.2.0 {
        interface error { resource error; }
        interface poll { resource pollable { ready: func() -> bool; } }
        interface streams {
            use error.{error};
            variant stream-error { last-operation-failed(error), closed }
            resource input-stream { read: func(len: u64) -> result<list<u8>, stream-error>; }
            resource output-stream {
                blocking-write-and-flush: func(contents: list<u8>) -> result<_, stream-error>;
            }
        }
    }
    package wasi:cli@0.2.0 {
        interface environment { get-environment: func() -> list<tuple<string, string>>; }
        interface stdin { use wasi:io/streams@0.2.0.{input-stream}; get-stdin: func() -> input-stream; }
        interface stdout { use wasi:io/streams@0.2.0.{output-stream}; get-stdout: func() -> output-stream; }
    }
    package wasi:clocks@0.2.0 {
        interface monotonic-clock {
            use wasi:io/poll@0.2.0.{pollable};
            now: func() -> u64;
            subscribe-duration: func(when: u64) -> pollable;
        }
    }
    package wasi:random@0.2.0 { interface random { get-random-u64: func() -> u64; } }";

/// Code that stores the denial whose reason is `length` bytes at `address`, and returns it.
pub fn deny(address: &str, length: &str) -> String {
    format!(
        "(i32.store8 (i32.const {ANSWER}) (i32.const 1)) (i32.store offset=4 (i32.const {ANSWER}) {address})
         (i32.store offset=8 (i32.const {ANSWER}) {length}) (i32.const {ANSWER})"
    )
}

/// Code that returns an allowance.
pub const ALLOW: &str = "(i32.store8 (i32.const 8192) (i32.const 0)) (i32.const 8192)";

/// Code that never ends.
pub const SPIN: &str = "(loop $spin (br $spin)) (unreachable)";
