//! Many reloads under load, and whether anybody noticed: for a test with a few of them, and for the program that runs a thousand.
//!
//! One policy, `judge`, allows and denies in turn, a generation each: odd ones allow, even ones deny. So each line of the
//! decision log shows by itself whether its answer came of one generation, and of which.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::api_server::ApiServer;
use crate::client::Client;
use crate::gate::Gate;
use crate::plugin_folder::{Plugin, PluginFolder};
use crate::waiting::until;

/// The path that all callers ask for.
pub const POD: &str = "/api/v1/namespaces/dev/pods/p";

const DECISIONS: &str = "decisions.jsonl";

/// A gate whose one policy is replaced again and again, as Kubernetes replaces what it mounts: component and sidecar at once.
pub struct Storm {
    gate: Gate,
    folder: PathBuf,
    allow: Plugin,
    deny: Plugin,
    generation: u64,
}

/// A policy that is written, and one rename away from standing in the folder.
struct Swap {
    link: PathBuf,
    data: PathBuf,
}

impl Swap {
    fn swap(&self) {
        fs::rename(&self.link, &self.data).unwrap();
    }
}

/// Callers who ask without an end, each on a connection of its own.
pub struct Load {
    stopped: Arc<AtomicBool>,
    callers: Vec<tokio::task::JoinHandle<Vec<Duration>>>,
}

impl Storm {
    /// A gate that allows, in generation 1.
    pub async fn start(api_server: &ApiServer) -> Self {
        let judge = |policy: &str| Plugin::policy(policy).named("judge");
        let (allow, deny) = (judge("allow-all"), judge("deny-proxy"));
        let builder = Gate::builder(api_server).without_allow_all();
        let folder = builder.folder().join("policies");
        PluginFolder::create(folder.join("..1")).put(&allow);
        symlink("..1", folder.join("..data")).unwrap();
        for file in ["judge.wasm", "judge.yaml"] {
            symlink(format!("..data/{file}"), folder.join(file)).unwrap();
        }
        let gate = builder.set("decisionLog", json!({ "file": DECISIONS })).log_level("info").start().await;
        Self { gate, folder, allow, deny, generation: 1 }
    }

    /// The gate.
    pub fn gate(&self) -> &Gate {
        &self.gate
    }

    /// Puts the policy of the next generation where it can be swapped in, with a sidecar that no kept one has: it is loaded anew,
    /// not found. With `number`, its bytes were never compiled.
    fn prepare(&mut self, number: Option<u32>) -> Swap {
        self.generation += 1;
        let policy = if self.generation % 2 == 1 { &self.allow } else { &self.deny };
        let policy = policy.clone().sidecar(json!({ "limits": { "deadlineMs": 2000 + self.generation % 1000 } }));
        let policy = number.map_or(policy.clone(), |number| policy.marked(number));
        let version = self.folder.join(format!("..{}", self.generation % 3));
        let _ = fs::remove_dir_all(&version);
        PluginFolder::create(version.clone()).put(&policy);
        let link = self.folder.join("..data_tmp");
        symlink(&version, &link).unwrap();
        Swap { link, data: self.folder.join("..data") }
    }

    /// One reload, asked for; how long it took.
    pub async fn reload(&mut self) -> Duration {
        self.prepare(None).swap();
        let begun = Instant::now();
        let answer = self.gate.admin().post("/reload", "").await;
        let took = begun.elapsed();
        assert_eq!(
            (answer.status(), answer.json().get("generation").and_then(Value::as_u64)),
            (200, Some(self.generation))
        );
        took
    }

    /// How long it takes from saving a policy until its answer is that of a caller. With `number`, its bytes were never compiled.
    pub async fn save_to_enforced(&mut self, number: Option<u32>) -> Duration {
        let swap = self.prepare(number);
        let expected = if self.generation % 2 == 1 { 200 } else { 403 };
        let jane = self.gate.client_as("jane");
        assert_ne!(jane.get(POD).await.status(), expected, "nothing is saved yet");
        let begun = Instant::now();
        swap.swap();
        while jane.get(POD).await.status() != expected {
            assert!(begun.elapsed() < Duration::from_secs(60), "the saved policy is not enforced");
        }
        begun.elapsed()
    }

    /// Begins to ask over `connections` connections, each `pause` after its last answer.
    pub fn load(&self, connections: usize, pause: Duration) -> Load {
        let stopped = Arc::new(AtomicBool::new(false));
        let callers = (0..connections).map(|_| {
            let caller = self.gate.client_as("john").on_new_connection();
            tokio::spawn(ask(caller, pause, Arc::clone(&stopped)))
        });
        Load { callers: callers.collect(), stopped }
    }

    /// Checks that each line of the decision log came of one generation, and that there are `answers` of them at least.
    /// Gives how many came of how many generations.
    pub async fn check_decisions(&self, answers: usize) -> (usize, usize) {
        let path = self.gate.folder().join(DECISIONS);
        let lines = until("every answer is in the decision log", || async {
            let text = fs::read_to_string(&path).unwrap();
            let lines: Vec<String> = text.lines().map(str::to_owned).collect();
            (lines.len() >= answers && text.ends_with('\n')).then_some(lines)
        });
        let lines = lines.await;
        let mut generations = std::collections::BTreeSet::new();
        for line in &lines {
            let line: Value = serde_json::from_str(line).unwrap();
            let generation = line.get("generation").and_then(Value::as_u64).unwrap();
            let decision = line.get("decision").and_then(Value::as_str).unwrap();
            let expected = if generation % 2 == 1 { "allow" } else { "deny" };
            assert_eq!(decision, expected, "{line}");
            generations.insert(generation);
        }
        (lines.len(), generations.len())
    }
}

/// Asks until it is stopped. Whatever the generation, the answer is an allow or a deny, and nothing else.
async fn ask(caller: Client, pause: Duration, stopped: Arc<AtomicBool>) -> Vec<Duration> {
    let mut latencies = Vec::new();
    while !stopped.load(Ordering::Relaxed) {
        let begun = Instant::now();
        let answer = caller.get(POD).await;
        latencies.push(begun.elapsed());
        match answer.status() {
            200 => {}
            403 => assert!(answer.body().contains("policy `judge`"), "{}", answer.summary()),
            _ => panic!("{}", answer.summary()),
        }
        tokio::time::sleep(pause).await;
    }
    latencies
}

impl Load {
    /// Ends; how long each answer took, the fastest first.
    pub async fn stop(self) -> Vec<Duration> {
        self.stopped.store(true, Ordering::Relaxed);
        let mut latencies = Vec::new();
        for caller in self.callers {
            latencies.extend(caller.await.expect("every answer is one that a generation gives"));
        }
        latencies.sort();
        latencies
    }
}
