//! What is refused when a plug-in is loaded, and in which words.

use std::sync::Arc;

use witgate_core::{AuthenticationStrategy, CallError, Metadata};
use witgate_plugin::{Grants, Limits, LoadError, OutboundHost, PluginSource};

use crate::guest::{ALLOW, Guest, chain, host, source};

/// Goal: a file that is no plug-in is named for what it is. Method: one row a file.
#[tokio::test]
async fn a_wrong_file_is_refused() {
    let component = Guest::allowing().build();
    let half = component.len() / 2;
    refused("a text file", "is not WebAssembly", b"policy: allow\n").await;
    refused("an empty file", "the file is empty", b"").await;
    refused("a core module", "it is a core module", &wat::parse_str("(module)").unwrap()).await;
    refused("a truncated component", "`x.wasm` is not a valid component: ", &component[..half]).await;
    refused("a component that ends in its header", "exports neither", &component[..8]).await;

    let mut damaged = component.to_vec();
    for byte in &mut damaged[half..half + 64] {
        *byte ^= 0x55;
    }
    refused("a damaged component", "`x.wasm` is not a valid component: ", &damaged).await;
}

async fn refused(what: &str, expected: &str, bytes: &[u8]) {
    let error = load_error(source("x", bytes.into())).await;
    let message = chain(&error);
    assert!(message.contains(expected), "{what}: {message}");
}

/// Goal: a component for something else is refused by the name of what does not fit.
/// Method: one world a row; each function exists and is never called.
#[tokio::test]
async fn a_wrong_world_is_refused() {
    let answer = "(i32.const 0)";
    let other =
        Guest::of_world("package other:thing@1.0.0; interface run { run: func() -> u32; } world guest { export run; }")
            .function("other:thing/run@1.0.0#run", "", answer);
    refused("another world", "it exports `other:thing/run@1.0.0`", &other.build()).await;

    let version = Guest::of_world(
        "package witgate:auth@0.7.0; interface permission-policy { handle: func() -> u32; }
         world guest { export permission-policy; }",
    )
    .function("witgate:auth/permission-policy@0.7.0#handle", "", answer);
    let expected =
        "plug-in `x` exports `witgate:auth/permission-policy@0.7.0`; this witgate speaks auth@0.1.0 and auth@0.2.0";
    refused("another version", expected, &version.build()).await;

    let unconfigured = Guest::of_world(
        "package witgate:auth@0.1.0; interface permission-policy { handle: func() -> u32; }
         world guest { export permission-policy; }",
    )
    .function("witgate:auth/permission-policy@0.1.0#handle", "", answer);
    let expected = "plug-in `x` does not export `witgate:auth/plugin@0.1.0`, which every policy must";
    refused("a missing export", expected, &unconfigured.build()).await;

    let types = Guest::of_world(
        "package witgate:auth@0.1.0; interface permission-policy { handle: func() -> u32; }
         interface plugin { configure: func() -> u32; }
         world guest { export plugin; export permission-policy; }",
    )
    .function("witgate:auth/permission-policy@0.1.0#handle", "", answer)
    .function("witgate:auth/plugin@0.1.0#configure", "", answer);
    refused("other types", "plug-in `x` does not fit the contract whose interfaces it names: ", &types.build()).await;
}

/// Goal: an import that nobody granted is refused by name.
#[tokio::test]
async fn an_ungranted_import_is_refused() {
    let imports = |wit| {
        Guest::of_world(wit).function("witgate:auth/permission-policy@0.1.0#handle", "", "(i32.const 0)").function(
            "witgate:auth/plugin@0.1.0#configure",
            "",
            "(i32.const 0)",
        )
    };
    let http = imports(
        "package witgate:auth@0.1.0; interface permission-policy { handle: func() -> u32; }
         interface plugin { configure: func() -> u32; }
         world guest { import wasi:http/outgoing-handler@0.2.0; export plugin; export permission-policy; }
         package wasi:http@0.2.0 { interface outgoing-handler { handle: func() -> u32; } }",
    )
    .with("\n(import \"wasi:http/outgoing-handler@0.2.0\" \"handle\" (func $import (result i32)))\n");
    let expected = "plug-in `x` imports `wasi:http/outgoing-handler@0.2.0`, which its sidecar does not grant";
    refused("http", expected, &http.build()).await;

    let secrets = imports(
        "package witgate:auth@0.1.0; interface permission-policy { handle: func() -> u32; }
         interface plugin { configure: func() -> u32; } interface secrets { get: func() -> u32; }
         world guest { import secrets; export plugin; export permission-policy; }",
    )
    .with("\n(import \"witgate:auth/secrets@0.1.0\" \"get\" (func $import (result i32)))\n");
    let expected = "plug-in `x` imports `witgate:auth/secrets@0.1.0`, which its sidecar does not grant";
    refused("a policy that asks for secrets", expected, &secrets.build()).await;
}

/// Goal: what a sidecar says must fit the plug-in's kind and this version.
#[tokio::test]
async fn a_sidecar_that_does_not_fit_is_refused() {
    let policy = Guest::allowing().build();
    let strategy = Guest::strategy("(unreachable)").build();

    let error = load_error(source("my-idp", Arc::clone(&strategy))).await;
    assert!(error.to_string().starts_with("Strategy name can not include dashes"), "{error}");

    let grants = Grants { outbound_hosts: vec![OutboundHost::parse("https://idp.example").unwrap()], ..Grants::none() };
    let error = load_error(PluginSource { grants, ..source("x", policy) }).await;
    assert!(error.to_string().contains("`outboundHosts`, which only strategies have"), "{error}");
}

/// Goal: settings that the guest does not take are refused, with its reasons. Method: a guest that returns two.
#[tokio::test]
async fn refused_settings_are_listed() {
    let guest = Guest::allowing()
        .configure(
            "(i32.store (i32.const 9000) (global.get $first)) (i32.store (i32.const 9004) (global.get $first.length))
             (i32.store (i32.const 9008) (global.get $second)) (i32.store (i32.const 9012) (global.get $second.length))
             (i32.store8 (i32.const 8192) (i32.const 1))
             (i32.store (i32.const 8196) (i32.const 9000)) (i32.store (i32.const 8200) (i32.const 2))
             (i32.const 8192)",
        )
        .text("first", "`team` is missing")
        .text("second", "`color` is\nunknown");
    let error = load_error(source("x", guest.build())).await;
    assert_eq!(error.to_string(), "plug-in `x` refuses its settings: `team` is missing; `color` is unknown");
}

/// Goal: a `configure` that fails is a plug-in that is not loaded. Method: one row a way to fail.
#[tokio::test]
async fn a_configure_that_fails_is_refused() {
    configure_fails("(unreachable)", "plug-in `x` could not be configured: plug-in `x` trapped").await;
    configure_fails("(loop $spin (br $spin)) (unreachable)", "plug-in `x` did not answer within 2s").await;
    configure_fails("(drop (memory.grow (i32.const 30000))) (unreachable)", "plug-in `x` reached its limit of memory")
        .await;
    configure_fails("(i32.const -4)", "malformed answer").await;
}

async fn configure_fails(body: &str, expected: &str) {
    let error = load_error(source("x", Guest::allowing().configure(body).build())).await;
    let message = chain(&error);
    assert!(message.contains(expected), "{message}");
}

/// Goal: a component that needs more than it may have is refused at load, not at its first call.
#[tokio::test]
async fn a_component_over_its_memory_is_refused() {
    let limits = Limits::new(5_000, 1, 64).unwrap();
    let error = load_error(PluginSource { limits, ..source("x", Guest::allowing().memory_pages(17).build()) }).await;
    assert!(
        matches!(&error, LoadError::NotConfigured { source: CallError::LimitReached { .. }, .. }),
        "{}",
        chain(&error)
    );
}

/// Goal: names with everything else still load. Method: a strategy, asked for something harmless.
#[tokio::test]
async fn a_strategy_loads() {
    let strategy = Guest::strategy(ALLOW).into_strategy().await;
    let metadata = Metadata::from([("a".into(), "b".into())]);
    assert_eq!(strategy.present_auth_metadata(&metadata).await.unwrap(), metadata);
    assert_eq!(strategy.validate_cluster(&metadata).await.unwrap(), Vec::<String>::new());
}

async fn load_error(source: PluginSource) -> LoadError {
    match host().load(source).await {
        Ok(_) => panic!("it was loaded"),
        Err(error) => error,
    }
}
