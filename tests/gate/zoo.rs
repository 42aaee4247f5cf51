//! Guests that misbehave, each in its own way: every one is contained, says why in a code of its own, and is gone without a
//! trace when its file is.

use std::net::SocketAddr;

use serde_json::{Value, json};
use tokio::net::TcpListener;
use witgate_tests::api_server::ApiServer;
use witgate_tests::cluster::Cluster;
use witgate_tests::gate::Gate;
use witgate_tests::plugin_folder::Plugin;
use witgate_tests::text_guest::{ALLOW, SPIN, TextGuest, deny};

const PODS: &str = "/api/v1/namespaces/dev/pods";

/// Goal: whatever a policy does, its request is denied with the code of what it did; what it is not asked about is as before.
/// Method: one gate; each guest takes the place of the one before, and is asked.
#[tokio::test]
async fn misbehaving_policies_are_contained() {
    let api_server = ApiServer::start().await;
    let gate = Gate::builder(&api_server).start().await;
    let jane = gate.client_as("jane");
    let beasts = misbehaving_policies();

    for Beast { what, guest, code } in &beasts {
        let everywhere = matches!(guest, Made::Fixture(_)) || what.contains("realloc");
        let plugin =
            guest.plugin().sidecar(json!({ "selfTest": false, "limits": { "deadlineMs": deadline_ms(code) } }));
        serve(&gate, &plugin).await;

        let answer = jane.get(PODS).await;

        assert_eq!(answer.status(), 403, "{what}: {}", answer.body());
        assert_eq!(answer.message(), format!("policy `beast` gave no answer: {code}"), "{what}");
        let decision = gate.decision_of(&answer).await;
        assert_eq!((&decision["decision"], &decision["policy"]), (&json!("deny"), &json!("beast")), "{what}");
        if !everywhere {
            let neighbour = gate.caller("jane").get("/api/kubernetes/clusters").await;
            assert_eq!(neighbour.status(), 200, "{what}: {}", neighbour.body());
        }
    }

    assert_eq!(api_server.heard(), crate::NOTHING);
    assert!(beasts.len() >= 25, "{} guests", beasts.len());
    gate.plugins().remove("beast");
    gate.status_when("it is gone", |status| beast(status).is_none()).await;
    assert_eq!(jane.get(PODS).await.status(), 200);
    assert_eq!(gate.admin().get("/readyz").await.status(), 200);
}

/// How a beast is made.
enum Made {
    /// Of Rust, in `guests/fixtures`.
    Fixture(&'static str),
    Text(TextGuest),
    Bytes(Vec<u8>),
}

struct Beast {
    what: &'static str,
    guest: Made,
    code: &'static str,
}

impl Made {
    fn plugin(&self) -> Plugin {
        match self {
            Self::Fixture(name) => Plugin::fixture(name).named("beast"),
            Self::Text(guest) => Plugin::of_bytes("beast", &guest.build()),
            Self::Bytes(bytes) => Plugin::of_bytes("beast", bytes),
        }
    }
}

/// Only what must miss its deadline has a short one: a busy machine must not make another code of it.
fn deadline_ms(code: &str) -> u64 {
    if code == "deadline-exceeded" { 100 } else { 5_000 }
}

fn misbehaving_policies() -> Vec<Beast> {
    let text = |what, code, guest: TextGuest| Beast { what, guest: Made::Text(guest), code };
    let body = |what, code, body: &str| Beast { what, guest: Made::Text(TextGuest::policy(body)), code };
    let fixture = |name, code| Beast { what: name, guest: Made::Fixture(name), code };
    let log = "(import \"witgate:auth/log@0.1.0\" \"log\" (func $log (param i32 i32 i32)))";
    vec![
        // It does not end.
        fixture("spin", "deadline-exceeded"),
        body("spins", "deadline-exceeded", SPIN),
        body(
            "copies memory without end",
            "deadline-exceeded",
            "(loop $more (memory.copy (i32.const 0) (i32.const 262144) (i32.const 262144)) (br $more)) (unreachable)",
        ),
        text(
            "logs without end",
            "deadline-exceeded",
            TextGuest::policy("(loop $more (call $log (i32.const 2) (i32.const 0) (i32.const 1000)) (br $more)) (unreachable)")
                .with(log),
        ),
        text("spins in realloc", "deadline-exceeded", TextGuest::policy(ALLOW).realloc(&format!("(if {QUERY} (then {SPIN})) (i32.const 65536)"))),
        text("spins after its answer", "deadline-exceeded", TextGuest::policy(ALLOW).with(&post_return(SPIN))),
        // It dies.
        fixture("trap", "trapped"),
        body("is unreachable", "trapped", "(unreachable)"),
        body("divides by zero", "trapped", "(i32.div_u (i32.const 1) (i32.load (i32.const 0)))"),
        body("reads what is not there", "trapped", "(i32.load (i32.const -4))"),
        text(
            "calls what is no function",
            "trapped",
            TextGuest::policy("(call_indirect $table (result i32) (i32.const 0))").with("(table $table 1 funcref)"),
        ),
        text("traps after its answer", "trapped", TextGuest::policy(ALLOW).with(&post_return("(unreachable)"))),
        text(
            "calls the host from realloc",
            "trapped",
            TextGuest::policy(ALLOW)
                .with(log)
                .realloc(&format!("(if {QUERY} (then (call $log (i32.const 0) (i32.const 0) (i32.const 0)))) (i32.const 65536)")),
        ),
        fixture("deep-recursion", "trapped"), // Rust's own stack ends first
        // It takes too much.
        text(
            "recurses",
            "stack-limit",
            TextGuest::policy("(call $deeper (i32.const 1))").with(
                "(func $deeper (param i32) (result i32) (i32.add (call $deeper (local.get 0)) (call $deeper (local.get 0))))",
            ),
        ),
        text(
            "recurses through host calls",
            "stack-limit",
            TextGuest::policy("(call $deeper (i32.const 1))").with(log).with(
                "(func $deeper (param i32) (result i32)
                   (call $log (i32.const 3) (i32.const 0) (i32.const 1)) (i32.add (call $deeper (local.get 0)) (i32.const 1)))",
            ),
        ),
        fixture("hoard", "memory-limit"),
        fixture("hoard-aborts", "memory-limit"),
        body(
            "grows and answers all the same",
            "memory-limit",
            "(loop $more (br_if $more (i32.ne (memory.grow (i32.const 64)) (i32.const -1))))
             (i32.store8 (i32.const 8192) (i32.const 0)) (i32.const 8192)",
        ),
        text(
            "grows its table and answers all the same",
            "table-limit",
            TextGuest::policy(&format!("(drop (table.grow $table (ref.null func) (i32.const 200000))) {ALLOW}"))
                .with("(table $table 1 funcref)"),
        ),
        fixture("huge-output", "output-limit"),
        text(
            "answers 1.1 MB",
            "output-limit",
            TextGuest::policy(&deny("(i32.const 131072)", "(i32.const 1100000)")).memory("(memory (export \"memory\") 32)"),
        ),
        text(
            "answers a million conditions in 160 KB",
            "output-limit",
            TextGuest::policy(
                "(loop $fill
                   (i32.store (i32.add (i32.const 200000) (i32.mul (local.get $i) (i32.const 8))) (i32.const 300000))
                   (i32.store (i32.add (i32.const 200004) (i32.mul (local.get $i) (i32.const 8))) (i32.const 10000))
                   (local.set $i (i32.add (local.get $i) (i32.const 1)))
                   (br_if $fill (i32.lt_u (local.get $i) (i32.const 10000))))
                 (i32.store8 (i32.const 8192) (i32.const 3))
                 (i32.store offset=4 (i32.const 8192) (i32.const 200000))
                 (i32.store offset=8 (i32.const 8192) (i32.const 10000))
                 (i32.const 8192)",
            )
            .locals("(local $i i32)")
            .memory("(memory (export \"memory\") 16)"),
        ),
        // Its answer is none.
        fixture("bad-condition", "malformed-answer"),
        fixture("empty-condition", "malformed-answer"),
        body("answers from outside its memory", "malformed-answer", "(i32.const -8)"),
        body("answers at an odd address", "malformed-answer", "(i32.const 8193)"),
        body(
            "answers what there is not",
            "malformed-answer",
            "(i32.store8 (i32.const 8192) (i32.const 9)) (i32.const 8192)",
        ),
        body(
            "answers half an option",
            "malformed-answer",
            "(i32.store8 (i32.const 8192) (i32.const 3)) (i32.store offset=4 (i32.const 8192) (i32.const 0))
             (i32.store offset=8 (i32.const 8192) (i32.const 0)) (i32.store8 offset=12 (i32.const 8192) (i32.const 7))
             (i32.const 8192)",
        ),
        body("gives a reason beyond its memory", "malformed-answer", &deny("(i32.const 524280)", "(i32.const 100)")),
        body("gives a reason of 4 GiB", "malformed-answer", &deny("(i32.const 16)", "(i32.const -1)")),
        body(
            "gives a reason that is no UTF-8",
            "malformed-answer",
            &format!("(i32.store (i32.const 16) (i32.const 0xfffefdfc)) {}", deny("(i32.const 16)", "(i32.const 4)")),
        ),
        body(
            "gives a reason that is half a surrogate",
            "malformed-answer",
            &format!("(i32.store (i32.const 16) (i32.const 0x80a0ed)) {}", deny("(i32.const 16)", "(i32.const 3)")),
        ),
        text("lies in realloc", "malformed-answer", TextGuest::policy(ALLOW).realloc(&format!("(select (i32.const -16) (i32.const 65536) {QUERY})"))),
        text("gives odd addresses in realloc", "malformed-answer", TextGuest::policy(ALLOW).realloc(&format!("(select (i32.const 65537) (i32.const 65536) {QUERY})"))),
    ]
}

/// In `cabi_realloc`, whether it is asked for a query: settings are two bytes, and what a query brings is longer.
const QUERY: &str = "(i32.gt_u (local.get $size) (i32.const 2))";

fn post_return(body: &str) -> String {
    format!(
        "(func (export \"cabi_post_witgate:auth/permission-policy@0.1.0#handle\") (param i32)
           (if (i32.eqz (i32.load8_u (local.get 0))) (then {body})))"
    )
}

/// Goal: a policy that dies for one request in ten costs that one. Method: ten, the fifth of which it dies of.
#[tokio::test]
async fn one_request_in_ten() {
    let api_server = ApiServer::start().await;
    let gate = Gate::builder(&api_server).plugin(Plugin::fixture("trap-sometimes")).start().await;
    let jane = gate.client_as("jane");

    for request in 0..30 {
        let (namespace, expected) = if request % 10 == 4 { ("trap", 403) } else { ("dev", 200) };
        let answer = jane.get(&format!("/api/v1/namespaces/{namespace}/pods")).await;
        assert_eq!(answer.status(), expected, "{request}: {}", answer.body());
    }
}

/// Goal: what lies about itself within its own memory harms nobody else. Method: guests that get an answer through.
#[tokio::test]
async fn what_a_guest_does_to_itself_is_its_own_matter() {
    let api_server = ApiServer::start().await;
    let gate = Gate::builder(&api_server).start().await;
    let jane = gate.client_as("jane");
    let log = "(import \"witgate:auth/log@0.1.0\" \"log\" (func $log (param i32 i32 i32)))";
    let beasts = [
        // The arguments overwrite each other, and are never looked at.
        ("gives one address for everything", TextGuest::policy(ALLOW).realloc("(i32.const 65536)"), 200),
        ("forgets its arguments", TextGuest::policy("(memory.fill (i32.const 65536) (i32.const 255) (i32.const 65536)) (i32.store8 (i32.const 8192) (i32.const 0)) (i32.const 8192)"), 200),
        ("denies with control characters", TextGuest::policy(&format!("(i32.store (i32.const 16) (i32.const 0x0a0d1b00)) {}", deny("(i32.const 16)", "(i32.const 4)"))), 403),
        ("logs 10,000 times", TextGuest::policy(&format!("(loop $more (call $log (i32.const 0) (i32.const 0) (i32.const 3)) (local.set $i (i32.add (local.get $i) (i32.const 1))) (br_if $more (i32.lt_u (local.get $i) (i32.const 10000)))) {ALLOW}")).locals("(local $i i32)").with(log), 200),
    ];
    for (what, guest, expected) in beasts {
        serve(&gate, &Plugin::of_bytes("beast", &guest.build()).sidecar(json!({ "selfTest": false }))).await;
        let answer = jane.get(PODS).await;
        assert_eq!(answer.status(), expected, "{what}: {}", answer.body());
    }
    let flooded = gate.log().lines().filter(|line| line.contains("\"plugin\":\"beast\"")).count();
    assert!(flooded < 1_000, "{flooded} lines of 10,000");
}

/// Goal: a strategy that misbehaves fails its cluster's requests with the status of what it did, and sends nothing.
/// Method: as for policies; a second cluster is asked in between.
#[tokio::test]
async fn misbehaving_strategies_are_contained() {
    let api_server = ApiServer::start().await;
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let beasts = misbehaving_strategies(silent.local_addr().unwrap());
    let metadata = json!({ "witgate.io/url": format!("http://{}/", silent.local_addr().unwrap()) });
    let gate = Gate::builder(&api_server)
        .cluster(Cluster::at("two", &api_server, "beast").with("authMetadata", metadata))
        .plugin(Plugin::strategy("anonymous").named("beast"))
        .start()
        .await;
    let (jane, neighbour) = (gate.caller("jane").backstage("two"), gate.client_as("jane"));

    for (what, plugin, status, reason) in &beasts {
        serve(&gate, plugin).await;
        let answer = jane.get(PODS).await;
        assert_eq!(answer.status(), *status, "{what}: {}", answer.body());
        gate.log_line_with(reason).await;
        assert_eq!(api_server.heard(), crate::NOTHING, "{what}");
    }
    assert_eq!(neighbour.get(PODS).await.status(), 200);
}

fn misbehaving_strategies(silent: SocketAddr) -> Vec<(&'static str, Plugin, u16, &'static str)> {
    let fixture = |name| Plugin::fixture(name).named("beast");
    let text = |guest: TextGuest| Plugin::of_bytes("beast", &guest.build()).sidecar(json!({}));
    let short = json!({ "limits": { "deadlineMs": 100 } });
    let waiting = json!({ "limits": { "deadlineMs": 300 }, "outboundHosts": [format!("http://{silent}")] });
    let token = |address: &str, length: &str| {
        format!(
            "(i32.store8 (i32.const 8192) (i32.const 0)) (i32.store8 offset=8 (i32.const 8192) (i32.const 0))
             (i32.store offset=12 (i32.const 8192) {address}) (i32.store offset=16 (i32.const 8192) {length})
             (i32.store8 offset=24 (i32.const 8192) (i32.const 0)) (i32.const 8192)"
        )
    };
    vec![
        ("spins", fixture("spin-strategy").sidecar(short.clone()), 504, "plug-in `beast` did not answer within 100ms"),
        (
            "waits for a server that is silent",
            fixture("fetch").sidecar(waiting),
            504,
            "plug-in `beast` did not answer within 300ms",
        ),
        ("traps", fixture("trap-strategy"), 500, "plug-in `beast` trapped"),
        ("is unreachable", text(TextGuest::strategy("(unreachable)")), 500, "plug-in `beast` trapped"),
        ("answers from outside its memory", text(TextGuest::strategy("(i32.const -8)")), 500, "malformed answer"),
        (
            "yields a token that no header could carry",
            text(TextGuest::strategy(&format!(
                "(i32.store (i32.const 16) (i32.const 0x0a0d4141)) {}",
                token("(i32.const 16)", "(i32.const 4)")
            ))),
            500,
            "its bearer token holds something other than visible ASCII",
        ),
        (
            "yields an empty token",
            text(TextGuest::strategy(&token("(i32.const 16)", "(i32.const 0)"))),
            500,
            "its bearer token is empty",
        ),
        (
            "yields a token of 1.1 MB",
            text(
                TextGuest::strategy(&format!(
                    "(memory.fill (i32.const 131072) (i32.const 65) (i32.const 1100000)) {}",
                    token("(i32.const 131072)", "(i32.const 1100000)")
                ))
                .memory("(memory (export \"memory\") 32)"),
            ),
            500,
            "plug-in `beast` reached its limit of output size",
        ),
        (
            "uses a handle that an earlier call may have had",
            text(TextGuest::strategy("(call $write (i32.const 1) (i32.const 16) (i32.const 1) (i32.const 32)) (unreachable)")
                .wasi("import wasi:cli/stdout@0.2.0;")
                .with("(import \"wasi:io/streams@0.2.0\" \"[method]output-stream.blocking-write-and-flush\" (func $write (param i32 i32 i32 i32)))")),
            500,
            "plug-in `beast` trapped",
        ),
        (
            "opens handles without end",
            text(TextGuest::strategy("(loop $more (drop (call $stdout)) (br $more)) (unreachable)")
                .wasi("import wasi:cli/stdout@0.2.0;")
                .with("(import \"wasi:cli/stdout@0.2.0\" \"get-stdout\" (func $stdout (result i32)))")),
            500,
            "plug-in `beast` trapped",
        ),
        (
            "recurses",
            text(TextGuest::strategy("(call $deeper (i32.const 1))").with(
                "(func $deeper (param i32) (result i32) (i32.add (call $deeper (local.get 0)) (call $deeper (local.get 0))))",
            )),
            500,
            "plug-in `beast` reached its limit of stack",
        ),
        (
            "grows its table and yields a token all the same",
            text(TextGuest::strategy(&format!(
                "(i32.store (i32.const 16) (i32.const 0x41414141)) (drop (table.grow $table (ref.null func) (i32.const 200000))) {}",
                token("(i32.const 16)", "(i32.const 4)")
            ))
            .with("(table $table 1 funcref)")),
            500,
            "plug-in `beast` reached its limit of table",
        ),
        (
            "hoards",
            text(TextGuest::strategy(
                "(loop $more (br_if $more (i32.ne (memory.grow (i32.const 64)) (i32.const -1)))) (unreachable)",
            )),
            500,
            "plug-in `beast` reached its limit of memory",
        ),
    ]
}

/// Goal: what cannot be run is refused by name, and what serves goes on. Method: rows of files; the gate is asked after each.
#[tokio::test]
async fn what_cannot_be_run_is_refused() {
    let api_server = ApiServer::start().await;
    let gate = Gate::builder(&api_server).start().await;
    let jane = gate.client_as("jane");
    let whole = TextGuest::policy(ALLOW).build();
    let bytes = |bytes: &[u8]| Made::Bytes(bytes.to_vec());
    let text = Made::Text;
    let exports = |names: &[&str]| {
        let exports: String = names.iter().map(|name| format!("(export \"{name}\" (instance $i))")).collect();
        Made::Bytes(wat_component(&format!("(component (component $c) (instance $i (instantiate $c)) {exports})")))
    };
    let (plugin, policy) = ("witgate:auth/plugin@0.1.0", "witgate:auth/permission-policy@0.1.0");
    let strategy = "witgate:auth/authentication-strategy@0.1.0";
    let start = "(func $start (loop $spin (br $spin))) (start $start)";
    let rows = [
        ("an empty file", bytes(b""), "beast.wasm"),
        ("a text file", bytes(b"this is no component"), "is not WebAssembly"),
        ("a core module", bytes(b"\0asm\x01\0\0\0"), "is not a component: it is a core module"),
        ("a truncated component", bytes(&whole[..whole.len() / 2]), "is not a valid component"),
        ("a component with a flipped byte", bytes(&flipped(&whole)), "beast.wasm"),
        ("a component that is too large", bytes(&with_custom_section(&whole, 65 << 20)), "beast.wasm"),
        ("another world", exports(&["wasi:cli/run@0.2.0"]), "exports neither"),
        ("another version", exports(&["witgate:auth/plugin@0.9.0", policy]), "`witgate:auth/plugin@0.9.0`"),
        ("both kinds", exports(&[plugin, policy, strategy]), "must be one of them"),
        ("no `configure`", exports(&[policy]), "does not export `witgate:auth/plugin@0.1.0`"),
        ("the right names with nothing behind them", exports(&[plugin, policy]), "does not fit the contract"),
        (
            "an import that nobody granted",
            Made::Bytes(wat_component(&format!(
                "(component (import \"evil:door/open@1.0.0\" (instance)) (component $c) (instance $i (instantiate $c))
                   (export \"{plugin}\" (instance $i)) (export \"{policy}\" (instance $i)))"
            ))),
            "imports `evil:door/open@1.0.0`, which its sidecar does not grant",
        ),
        ("a start function that spins", text(TextGuest::policy(ALLOW).with(start)), "did not answer within 2s"),
        (
            "a start function that traps",
            text(TextGuest::policy(ALLOW).with("(func $start (unreachable)) (start $start)")),
            "trapped",
        ),
        ("a `configure` that spins", Made::Fixture("configure-spin"), "did not answer within 2s"),
        ("a `configure` that traps", Made::Fixture("configure-trap"), "trapped"),
        ("a `configure` that refuses", Made::Fixture("configure-fails"), "refuses its settings"),
        (
            "a `configure` that hoards",
            text(TextGuest::policy(ALLOW).configure("(drop (memory.grow (i32.const 30000))) (unreachable)")),
            "limit of memory",
        ),
        (
            "more memory than it may have",
            text(TextGuest::policy(ALLOW).memory("(memory (export \"memory\") 2000)")),
            "limit of memory",
        ),
        ("more table than it may have", text(TextGuest::policy(ALLOW).with("(table 100001 funcref)")), "beast.wasm"),
        (
            "data beyond its memory",
            text(TextGuest::policy(ALLOW).with("(data (i32.const 524286) \"beyond\")")),
            "could not be configured",
        ),
        (
            "900 core instances",
            bytes(&with_core_instances(&whole, 900)),
            "its limit of core instances, tables or memories",
        ),
    ];

    for (what, guest, expected) in rows {
        gate.plugins().put(&guest.plugin());
        let status = gate.status_when(what, |status| !beast(status).unwrap_or(&Value::Null)["error"].is_null()).await;
        let error = beast(&status).unwrap()["error"].as_str().unwrap().to_owned();
        assert!(error.contains(expected), "{what}: {error}");
        assert_eq!(status["lastReload"]["result"], "refused", "{what}");
        assert_eq!(jane.get(PODS).await.status(), 200, "{what}");
        gate.plugins().remove("beast");
        gate.status_when("it is gone", |status| beast(status).is_none()).await;
    }
}

fn wat_component(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap()
}

/// One bit of the core module's code is another.
fn flipped(component: &[u8]) -> Vec<u8> {
    let mut bytes = component.to_vec();
    let place = bytes.len() / 3;
    bytes[place] ^= 0x40;
    bytes
}

fn with_custom_section(component: &[u8], length: usize) -> Vec<u8> {
    let mut bytes = component.to_vec();
    let content = [&[1, b'x'], vec![0; length].as_slice()].concat();
    bytes.push(0);
    leb128(&mut bytes, content.len());
    bytes.extend(content);
    bytes
}

/// The component with one more module, an empty one, instantiated so many times.
fn with_core_instances(component: &[u8], count: usize) -> Vec<u8> {
    const EMPTY_MODULE: &[u8] = b"\0asm\x01\0\0\0";
    const MODULE_SECTION: u8 = 1;
    const INSTANCE_SECTION: u8 = 2;
    let modules = sections(component).filter(|section| *section == MODULE_SECTION).count();
    let mut bytes = component.to_vec();
    bytes.push(MODULE_SECTION);
    leb128(&mut bytes, EMPTY_MODULE.len());
    bytes.extend(EMPTY_MODULE);
    let mut instances = Vec::new();
    leb128(&mut instances, count);
    for _ in 0..count {
        instances.push(0); // instantiate
        leb128(&mut instances, modules);
        instances.push(0); // with nothing
    }
    bytes.push(INSTANCE_SECTION);
    leb128(&mut bytes, instances.len());
    bytes.extend(instances);
    bytes
}

/// The kinds of a component's sections.
fn sections(component: &[u8]) -> impl Iterator<Item = u8> {
    let mut rest = &component[8..];
    std::iter::from_fn(move || {
        let (kind, mut after) = rest.split_first()?;
        let (mut length, mut shift) = (0_usize, 0);
        loop {
            let (byte, more) = after.split_first().unwrap();
            length |= usize::from(byte & 0x7f) << shift;
            (after, shift) = (more, shift + 7);
            if byte & 0x80 == 0 {
                break;
            }
        }
        rest = &after[length..];
        Some(*kind)
    })
}

fn leb128(bytes: &mut Vec<u8>, mut number: usize) {
    while number >= 0x80 {
        bytes.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

/// Puts a plug-in in and waits until it serves.
pub(crate) async fn serve(gate: &Gate, plugin: &Plugin) {
    gate.plugins().put(plugin);
    let (name, digest) = (plugin.name(), plugin.digest());
    gate.status_when("the plug-in serves", |status| {
        let serves = |entry: &Value| entry["name"] == name && entry["digest"] == digest && entry["error"].is_null();
        status["plugins"].as_array().unwrap().iter().any(serves)
    })
    .await;
}

fn beast(status: &Value) -> Option<&Value> {
    status["plugins"].as_array().unwrap().iter().find(|plugin| plugin["name"] == "beast")
}
