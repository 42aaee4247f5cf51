//! The life cycle with plug-ins that are texts: no WebAssembly, no clock of the wall.

#![expect(clippy::indexing_slicing, reason = "a test may panic")]

use std::fs;
use std::sync::atomic::Ordering;

use witgate_core::{Digest, PolicyMode};
use witgate_plugin::PluginKind;

use super::stage::{KEPT_MAX, Stage};
use super::*;

/// Goal: what stands in the folder serves, beside the built-ins. Method: a start, and what it published.
#[tokio::test(start_paused = true)]
async fn the_first_generation_is_folder_and_builtins() {
    let stage = Stage::new();
    stage.write("deny.wasm", "policy 1");
    stage.write("deny.yaml", "mode: shadow");
    let gate = stage.start().await.unwrap();

    assert_eq!(gate.serves(), "1: deny=policy 1 oidc=strategy builtin");
    assert_eq!(gate.loads(), ["deny", "oidc"]);
    let status = gate.status();
    let deny = &status.plugins[0];
    assert_eq!(deny.kind, Some(PluginKind::Policy));
    assert_eq!(deny.mode, Some(PolicyMode::Shadow));
    assert_eq!(deny.contract.as_deref(), Some("auth@0.1.0"));
    assert_eq!(deny.digest.as_deref(), Some(&*Digest::of(b"policy 1").to_string()));
    assert_eq!(deny.generation, Some(Generation(1)));
    let oidc = &status.plugins[1];
    assert_eq!((oidc.kind, oidc.mode, oidc.builtin), (Some(PluginKind::Strategy), None, true));
    assert_eq!(status.last_reload.as_ref().unwrap().result, ReloadResult::Published);
}

/// Goal: a gate does not start without its policies, and all that is wrong is said at once. Method: several faults.
#[tokio::test(start_paused = true)]
async fn a_start_needs_every_plugin() {
    let stage = Stage::new();
    stage.write("a.wasm", "garbage");
    stage.write("b.wasm", "policy");
    stage.write("b.yaml", "mod: shadow");
    stage.write("c.wasm", "policy");
    stage.write("c.yml", "mode: shadow");
    stage.write("d.wasm", "panic");
    stage.write("e.wasm", "strategy");
    stage.write("e.yaml", "mode: shadow");
    stage.write("f.wasm", "policy");
    stage.write("f.yaml", format!("sha256: \"{}\"", Digest::of(b"abc")));
    stage.write("oidc.wasm", "policy");
    let refusal = stage.start().await.err().unwrap();
    let texts: Vec<_> = refusal.problems.iter().map(|problem| stage.clean(&problem.text)).collect();
    assert_eq!(
        texts,
        [
            "FOLDER/a.wasm: not a component: magic number is wrong",
            "FOLDER/b.yaml: the file has the unknown key `mod`: known are `settings`, `outboundHosts`, `secrets`, \
             `limits`, `isolation`, `sha256`, `credentialDependsOn`, `selfTest`, `mode`",
            "FOLDER/c.yml is not read: name it `c.yaml`",
            "FOLDER/e.yaml: `mode` is for policies only, and this component is a strategy: remove it",
            &format!(
                "FOLDER/f.wasm has the SHA-256 {}, but `sha256` in FOLDER/f.yaml is {}",
                Digest::of(b"policy"),
                Digest::of(b"abc")
            ),
            "FOLDER/oidc.wasm is a policy, but `oidc` is a built-in strategy, which only a strategy replaces: give \
             the file another name",
            "plug-in `d`: loading it ended without a result",
        ]
    );

    let stage = Stage::new();
    fs::remove_dir(stage.folder()).unwrap();
    let refusal = stage.start().await.err().unwrap();
    let expected = "the plug-in folder FOLDER does not exist: create it, or set `plugins.directory`";
    assert_eq!(stage.clean(&refusal.to_string()), expected);
}

/// Goal: each way to change the folder becomes one generation, in which only what differs was loaded; what changes
/// nothing loads and publishes nothing. Method: one life, step by step.
#[tokio::test(start_paused = true)]
async fn a_change_loads_only_what_differs() {
    let stage = Stage::new();
    stage.write("a.wasm", "policy a1");
    stage.write("b.wasm", "policy b1");
    let gate = stage.start().await.unwrap();
    let builtin = "oidc=strategy builtin";
    gate.expect(&format!("1: a=policy a1 b=policy b1 {builtin}"), &["a", "b", "oidc"]).await;

    stage.write("a.wasm", "policy a1");
    stage.write("README.md", "x");
    gate.expect(&format!("1: a=policy a1 b=policy b1 {builtin}"), &[]).await;

    stage.write("a.wasm", "policy a2");
    gate.expect(&format!("2: a=policy a2 b=policy b1 {builtin}"), &["a"]).await;
    assert_eq!(gate.generations(), [2, 1, 1], "what is the same keeps its generation");

    stage.write(".c.tmp", "policy c1");
    fs::rename(stage.path(".c.tmp"), stage.path("c.wasm")).unwrap();
    gate.expect(&format!("3: a=policy a2 b=policy b1 c=policy c1 {builtin}"), &["c"]).await;

    stage.write("c.yaml", "settings: { strict: true }");
    gate.expect(&format!("4: a=policy a2 b=policy b1 c=policy c1 {builtin}"), &["c"]).await;

    fs::remove_file(stage.path("b.wasm")).unwrap();
    gate.expect(&format!("5: a=policy a2 c=policy c1 {builtin}"), &[]).await;

    stage.write("oidc.wasm", "strategy mine");
    gate.expect("6: a=policy a2 c=policy c1 oidc=strategy mine", &["oidc"]).await;
    fs::remove_file(stage.path("oidc.wasm")).unwrap();
    gate.expect(&format!("7: a=policy a2 c=policy c1 {builtin}"), &[]).await;
    stage.write("oidc.yaml", "limits: { deadlineMs: 7 }");
    gate.expect(&format!("8: a=policy a2 c=policy c1 {builtin}"), &["oidc"]).await;

    stage.write("alone.yaml", "broken: [");
    gate.expect(&format!("8: a=policy a2 c=policy c1 {builtin}"), &[]).await;
}

/// Goal: whatever cannot serve changes nothing, is told, is not tried again for nothing, and is forgotten once it is
/// gone. Method: one fault after the other in one life; each row says what status tells.
#[tokio::test(start_paused = true)]
async fn a_bad_candidate_changes_nothing() {
    let stage = Stage::new();
    stage.write("a.wasm", "policy a1");
    let gate = stage.start().await.unwrap();
    let good = "1: a=policy a1 oidc=strategy builtin";
    gate.expect(good, &["a", "oidc"]).await;

    // A garbage file, beside a good one that must wait for it.
    stage.write("bad.wasm", "garbage");
    stage.write("new.wasm", "policy n1");
    gate.expect(good, &["bad", "new"]).await;
    let error = "FOLDER/bad.wasm: not a component: magic number is wrong";
    assert_eq!(gate.errors(), (Some(error.to_owned()), vec![format!("bad: {error}")]));
    gate.expect(good, &[]).await; // the same again is not loaded again
    assert_eq!(gate.errors().0.as_deref(), Some(error));

    // A plug-in that serves and is overwritten with garbage serves on.
    fs::remove_file(stage.path("bad.wasm")).unwrap();
    fs::remove_file(stage.path("new.wasm")).unwrap();
    stage.write("a.wasm", "garbage");
    gate.expect(good, &["a"]).await;
    let error = "FOLDER/a.wasm: not a component: magic number is wrong";
    assert_eq!(gate.errors(), (Some(error.to_owned()), vec![format!("a: {error}")]));
    let status = gate.status();
    assert_eq!(status.plugins[0].digest.as_deref(), Some(&*Digest::of(b"policy a1").to_string()));

    // What serves is back: no generation, and no error any more.
    stage.write("a.wasm", "policy a1");
    gate.expect(good, &[]).await;
    assert_eq!(gate.errors(), (None, vec![]));
    assert_eq!(gate.status().last_reload.as_ref().unwrap().result, ReloadResult::Unchanged);

    // The generation itself cannot be built.
    stage.write("a.wasm", "policy unbuildable");
    gate.expect(good, &["a"]).await;
    assert_eq!(gate.errors(), (Some("cluster `one`: no strategy of that name".to_owned()), vec![]));

    // The folder is gone, and comes back as it was, and then comes back changed.
    fs::rename(stage.folder(), stage.folder().with_extension("away")).unwrap();
    gate.expect(good, &[]).await;
    let error = "the plug-in folder FOLDER does not exist: create it, or set `plugins.directory`";
    assert_eq!(gate.errors(), (Some(error.to_owned()), vec![]));
    fs::rename(stage.folder().with_extension("away"), stage.folder()).unwrap();
    stage.write("a.wasm", "policy a1");
    gate.expect(good, &[]).await;
    assert_eq!(gate.errors(), (None, vec![]));
    stage.write("a.wasm", "policy a2");
    gate.expect("2: a=policy a2 oidc=strategy builtin", &["a"]).await;
}

/// Goal: many files at once are one candidate. Method: 300 files and as many notices.
#[tokio::test(start_paused = true)]
async fn many_files_at_once_are_one_generation() {
    let stage = Stage::new();
    let gate = stage.start().await.unwrap();
    gate.loads();
    for index in 0..300 {
        stage.write(format!("p{index}.wasm"), format!("policy {index}"));
        gate.changed.notify_one();
    }
    gate.settled().await;
    assert_eq!(gate.status().generation, Generation(2));
    assert_eq!(gate.status().plugins.len(), 301);
    assert_eq!(gate.loads().len(), 300);
}

/// Goal: who asks is answered with the generation that serves, or with why there is none; and what was refused is
/// tried again for them. Method: a loader that fails once.
#[tokio::test(start_paused = true)]
async fn who_asks_is_answered() {
    let stage = Stage::new();
    let gate = stage.start().await.unwrap();
    assert_eq!(gate.handle.reload_now().await, Ok(Generation(1)));
    stage.write("a.wasm", "flaky");
    let refused = gate.handle.reload_now().await.unwrap_err();
    let expected = "refused, and the last good generation serves on: FOLDER/a.wasm: too busy";
    assert_eq!(stage.clean(&refused.to_string()), expected);
    gate.loads();
    gate.expect("1: oidc=strategy builtin", &[]).await;
    assert_eq!(gate.handle.reload_now().await, Ok(Generation(2)));
    assert_eq!(gate.loads(), ["a"]);

    fs::remove_file(stage.path("a.wasm")).unwrap();
    assert_eq!(gate.handle.reload_now().await, Ok(Generation(3)), "without a word of the watch");
    assert_eq!(gate.serves(), "3: oidc=strategy builtin");

    let (one, two) = tokio::join!(gate.handle.reload_now(), gate.handle.reload_now());
    assert_eq!((one, two), (Ok(Generation(3)), Ok(Generation(3))));
    gate.running.abort();
    assert_eq!(gate.handle.reload_now().await, Err(ReloadError::Stopped));
}

/// Goal: nobody has to ask: what was refused is tried again by itself, more rarely each time. Method: paused time.
#[tokio::test(start_paused = true)]
async fn what_was_refused_is_tried_again() {
    let stage = Stage::new();
    let gate = stage.start().await.unwrap();
    let begun = Instant::now();
    stage.write("bad.wasm", "garbage");
    gate.expect("1: oidc=strategy builtin", &["bad", "oidc"]).await;
    let mut tries = Vec::new();
    while tries.len() < 7 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        tries.extend(gate.loads().iter().map(|_| begun.elapsed().as_secs()));
    }
    let pauses: Vec<_> = tries.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!((10..=11).contains(&tries[0]), "{tries:?}");
    for (pause, expected) in pauses.iter().zip([20, 40, 80, 160, 300, 300]) {
        assert!((expected..=expected + 1).contains(pause), "{pauses:?}");
    }
}

/// Goal: a generation that was replaced is gone, whole. Method: count the plug-ins that are alive over many reloads.
#[tokio::test(start_paused = true)]
async fn an_old_generation_drops() {
    let stage = Stage::new();
    let gate = stage.start().await.unwrap();
    for round in 0..50 {
        stage.write("a.wasm", format!("policy {round}"));
        stage.write("bad.wasm", "garbage");
        gate.settled().await;
        fs::remove_file(stage.path("bad.wasm")).unwrap();
        gate.settled().await;
        let alive = 2 + KEPT_MAX.min(round);
        assert_eq!(gate.shared.alive.load(Ordering::SeqCst), alive, "round {round}");
    }
    assert_eq!(gate.status().generation, Generation(51));
}

/// Goal: the generations that are kept can serve again, as new ones, without a plug-in being loaded; the pin lasts until the
/// folder changes. Method: one life, step by step.
#[tokio::test(start_paused = true)]
async fn a_rollback_brings_back_what_served() {
    let stage = Stage::new();
    stage.write("a.wasm", "policy a1");
    let gate = stage.start().await.unwrap();
    let serves = |generation: u64, text: &str| format!("{generation}: a=policy {text} oidc=strategy builtin");
    assert_eq!(gate.handle.rollback(None).await, Err(ReloadError::NotKept { wanted: None, kept: vec![] }));
    for text in ["a2", "a3", "a4", "a5"] {
        stage.write("a.wasm", format!("policy {text}"));
        gate.settled().await;
    }
    assert_eq!(gate.status().kept_generations, [2, 3, 4].map(Generation), "the limit, and what serves is not kept");
    gate.loads();

    // The one before; asked again, it goes further back and not to and fro.
    assert_eq!(gate.handle.rollback(None).await, Ok(Generation(6)));
    gate.expect(&serves(6, "a4"), &[]).await;
    assert_eq!(gate.handle.rollback(None).await, Ok(Generation(7)));
    gate.expect(&serves(7, "a3"), &[]).await;
    let status = gate.status();
    assert_eq!(status.pinned.as_ref().unwrap().content_of, Generation(3));
    assert_eq!(status.kept_generations, [2, 5, 6].map(Generation));
    assert_eq!(status.plugins[0].generation, Some(Generation(3)), "as it was");
    let record = status.reloads.last().unwrap();
    assert_eq!((record.cause, record.result), (Cause::Rollback, ReloadResult::Published));

    // To one by its number, to one that is not there, and to the one that serves.
    assert_eq!(gate.handle.rollback(Some(Generation(5))).await, Ok(Generation(8)));
    gate.expect(&serves(8, "a5"), &[]).await;
    assert_eq!(gate.status().pinned, None, "that is what the folder holds");
    let error = gate.handle.rollback(Some(Generation(3))).await.unwrap_err();
    assert_eq!(error.to_string(), "generation 3 is not kept; kept are 2, 6, 7");
    assert_eq!(gate.handle.rollback(Some(Generation(8))).await, Ok(Generation(8)));

    // A bad file in the folder changes nothing, and when it is gone the pin is as before.
    assert_eq!(gate.handle.rollback(Some(Generation(2))).await, Ok(Generation(9)));
    stage.write("bad.wasm", "garbage");
    gate.expect(&serves(9, "a2"), &["a", "bad"]).await;
    assert!(gate.status().pinned.is_some());
    fs::remove_file(stage.path("bad.wasm")).unwrap();
    gate.expect(&serves(9, "a2"), &[]).await;
    assert!(gate.status().pinned.is_some());
    assert_eq!(gate.errors(), (None, vec![]));

    // A change ends it; so does a reload that is asked for.
    stage.write("b.wasm", "policy b1");
    gate.expect("10: a=policy a5 b=policy b1 oidc=strategy builtin", &["a", "b"]).await;
    assert_eq!(gate.status().pinned, None);
    assert_eq!(gate.handle.rollback(None).await, Ok(Generation(11)));
    assert_eq!(gate.serves(), serves(11, "a2"));
    assert_eq!(gate.handle.reload_now().await, Ok(Generation(12)));
    assert_eq!(gate.serves(), "12: a=policy a5 b=policy b1 oidc=strategy builtin");

    assert_eq!(gate.loads(), ["a", "b"]);

    // The folder comes to hold what was rolled back to.
    assert_eq!(gate.handle.rollback(None).await, Ok(Generation(13)));
    assert!(gate.status().pinned.is_some());
    fs::remove_file(stage.path("b.wasm")).unwrap();
    stage.write("a.wasm", "policy a2");
    gate.expect(&serves(13, "a2"), &[]).await;
    assert_eq!(gate.status().pinned, None);
}

/// Goal: a rollback whose plug-ins do not fit any more changes nothing. Method: a publisher that refuses them by then.
#[tokio::test(start_paused = true)]
async fn a_rollback_that_cannot_be_built_changes_nothing() {
    let stage = Stage::new();
    stage.write("a.wasm", "policy a1");
    let gate = stage.start().await.unwrap();
    stage.write("a.wasm", "policy a2");
    gate.settled().await;
    *gate.shared.unbuildable.lock().unwrap() = "policy a1".to_owned();
    let refused = gate.handle.rollback(None).await.unwrap_err();
    assert!(matches!(refused, ReloadError::Refused(_)), "{refused}");
    assert_eq!(gate.serves(), "2: a=policy a2 oidc=strategy builtin");
    assert_eq!((gate.status().generation, gate.status().pinned.clone()), (Generation(2), None));
    let record = gate.status().reloads.last().unwrap().clone();
    assert_eq!((record.cause, record.result), (Cause::Rollback, ReloadResult::Refused));
}

/// Goal: the loader keeps the code of what serves, of what may serve again and of what is tried again; and no more.
/// Method: the components that it is told, after each step.
#[tokio::test(start_paused = true)]
async fn code_is_kept_as_long_as_it_may_be_needed() {
    let stage = Stage::new();
    stage.write("a.wasm", "policy 0");
    let gate = stage.start().await.unwrap();
    for round in 1..=5 {
        stage.write("a.wasm", format!("policy {round}"));
        gate.settled().await;
    }
    let serving_and_kept = ["policy 2", "policy 3", "policy 4", "policy 5", "strategy builtin"];
    assert_eq!(gate.retained(), serving_and_kept);
    stage.write("a.wasm", "garbage");
    gate.settled().await;
    let with_refused: Vec<_> = ["garbage"].into_iter().chain(serving_and_kept).collect();
    assert_eq!(gate.retained(), with_refused);
    stage.write("a.wasm", "policy 5");
    gate.settled().await;
    assert_eq!(gate.retained(), serving_and_kept);
}

/// Goal: a policy that cannot answer does not begin to deny everybody, unless its sidecar takes that risk. Method: one that traps.
#[tokio::test(start_paused = true)]
async fn a_policy_that_cannot_answer_is_refused() {
    let stage = Stage::new();
    let gate = stage.start().await.unwrap();
    stage.write("a.wasm", "mute");
    gate.expect("1: oidc=strategy builtin", &["a", "oidc"]).await;
    let error = "FOLDER/a.wasm: fails its self-test, which `selfTest: false` in its sidecar skips: plug-in `a` trapped: \
                 unreachable";
    assert_eq!(gate.errors(), (Some(error.to_owned()), vec![format!("a: {error}")]));
    stage.write("a.yaml", "selfTest: false");
    gate.expect("2: a=mute oidc=strategy builtin", &["a"]).await;
}

/// Goal: a plug-in whose loading never ends is refused at its deadline, and nothing waits for it longer. Method: paused time.
#[tokio::test(start_paused = true)]
async fn a_load_has_a_deadline() {
    let stage = Stage::new();
    let gate = stage.start().await.unwrap();
    stage.write("a.wasm", "hang");
    let begun = Instant::now();
    let error = stage.clean(&gate.handle.reload_now().await.unwrap_err().to_string());
    assert!(error.ends_with("FOLDER/a.wasm: was not loaded within 120s"), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(125), "{:?}", begun.elapsed());
}

/// Goal: `/status` tells the last reloads with what they took, and no more than the limit. Method: more of them than that.
#[tokio::test(start_paused = true)]
async fn the_last_reloads_are_told() {
    let stage = Stage::new();
    let gate = stage.start().await.unwrap();
    let first = gate.status().reloads[0].clone();
    assert_eq!((first.number, first.cause, first.result), (1, Cause::Start, ReloadResult::Published));
    assert_eq!(first.changes.as_deref(), Some("+oidc"));
    for round in 0..RECORDS_MAX {
        stage.write("a.wasm", format!("policy {round}"));
        gate.settled().await;
    }
    let status = gate.status();
    assert_eq!(status.reloads.len(), RECORDS_MAX);
    let last = status.reloads.last().unwrap();
    assert_eq!((last.number, last.generation, last.cause), (51, Generation(51), Cause::Changed));
    assert_eq!(last.changes.as_deref(), Some("~a"));
    assert!(last.phases.settle >= Duration::from_millis(50), "{}", last.phases);
    assert_eq!(status.reloads[0].number, 2);
}

/// Goal: who asks for more than may wait is told so. Method: a reload that nobody runs.
#[tokio::test(start_paused = true)]
async fn too_many_requests_are_refused() {
    let stage = Stage::new();
    let gate = stage.start().await.unwrap();
    stage.write("a.wasm", "hang");
    let mut waiting: Vec<_> = (0..=REQUESTS_MAX).map(|_| Box::pin(gate.handle.rollback(Some(Generation(9))))).collect();
    let mut full = 0;
    for request in &mut waiting {
        if let Some(Err(ReloadError::Full)) = polled_once(request) {
            full += 1;
        }
    }
    assert_eq!(full, 1);
}

fn polled_once<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    match std::pin::Pin::new(future).poll(&mut std::task::Context::from_waker(std::task::Waker::noop())) {
        std::task::Poll::Ready(output) => Some(output),
        std::task::Poll::Pending => None,
    }
}

/// Goal: a configuration that changed becomes a generation with the same plug-ins, none of them loaded again, and a bad one
/// changes nothing. Method: what the configuration says, step by step.
#[tokio::test(start_paused = true)]
async fn a_configuration_is_part_of_a_generation() {
    let stage = Stage::new();
    stage.write("a.wasm", "policy 1");
    let gate = stage.start().await.unwrap();
    gate.expect("1: a=policy 1 oidc=strategy builtin", &["a", "oidc"]).await;

    gate.configure(Ok("two clusters"));
    gate.expect("2: (two clusters) a=policy 1 oidc=strategy builtin", &[]).await;
    assert_eq!(gate.status().reloads.last().unwrap().changes.as_deref(), Some("~configuration"));
    assert_eq!(gate.status().kept_generations, [], "there is no other content to roll back to");
    gate.configure(Err("witgate.yaml:3: unknown key"));
    gate.expect("2: (two clusters) a=policy 1 oidc=strategy builtin", &[]).await;
    assert_eq!(gate.errors().0.as_deref(), Some("witgate.yaml:3: unknown key"));
    assert!(gate.handle.reload_now().await.is_err(), "who asks is told");
    gate.configure(Ok("two clusters"));
    gate.settled().await;
    gate.configure(Ok("three clusters"));
    stage.write("a.wasm", "policy 2");
    gate.expect("4: (three clusters) a=policy 2 oidc=strategy builtin", &["a"]).await;
    assert_eq!(gate.status().reloads.last().unwrap().changes.as_deref(), Some("~configuration ~a"));
}

/// Goal: where plug-ins and configuration do not serve together, either serves with what served of the other. Method: each
/// of the two bad, and both good together alone.
#[tokio::test(start_paused = true)]
async fn one_bad_change_does_not_keep_a_good_one_out() {
    let stage = Stage::new();
    stage.write("a.wasm", "policy 1");
    let gate = stage.start().await.unwrap();
    gate.expect("1: a=policy 1 oidc=strategy builtin", &["a", "oidc"]).await;

    gate.configure(Ok("unbuildable"));
    stage.write("a.wasm", "policy 2");
    gate.expect("2: a=policy 2 oidc=strategy builtin", &["a"]).await;
    assert_eq!(gate.errors().0.as_deref(), Some("cluster `one`: no strategy of that name"));
    gate.configure(Ok("good"));
    stage.write("a.wasm", "garbage");
    gate.expect("3: (good) a=policy 2 oidc=strategy builtin", &["a"]).await;
    assert!(gate.errors().0.unwrap().contains("not a component"));

    *gate.shared.unbuildable.lock().unwrap() = "(needs b) a=policy 2".to_owned();
    gate.configure(Ok("needs b"));
    gate.settled().await;
    stage.write("a.wasm", "policy 3");
    gate.settled().await;
    assert!(gate.serves().ends_with(": (needs b) a=policy 3 oidc=strategy builtin"), "{}", gate.serves());
    assert_eq!(gate.errors(), (None, vec![]));
}

/// Goal: a configuration that changes leaves a rollback in force. Method: a rollback, then another configuration.
#[tokio::test(start_paused = true)]
async fn a_configuration_leaves_a_rollback_in_force() {
    let stage = Stage::new();
    stage.write("a.wasm", "policy 1");
    let gate = stage.start().await.unwrap();
    stage.write("a.wasm", "policy 2");
    gate.settled().await;
    gate.handle.rollback(None).await.unwrap();
    assert_eq!(gate.serves(), "3: a=policy 1 oidc=strategy builtin");

    gate.configure(Ok("other"));
    gate.settled().await;

    assert_eq!(gate.serves(), "4: (other) a=policy 1 oidc=strategy builtin");
    assert_eq!(gate.status().pinned.as_ref().map(|pinned| pinned.content_of), Some(Generation(1)));
    assert_eq!(gate.status().kept_generations, [Generation(2)]);
}
