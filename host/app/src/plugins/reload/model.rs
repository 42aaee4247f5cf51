//! A model of the life cycle, held against the real one with events in any order.
//!
//! The model knows the folder as it was written, and a few rules; it reads no file, hashes nothing and keeps no time. After
//! each burst of events the real one, which looks at a real folder, must serve what the model says.

use std::collections::BTreeMap;
use std::fs;

use proptest::prelude::*;
use proptest::sample::select;

use super::stage::{Gate, KEPT_MAX, Stage};
use super::*;

/// What may happen.
#[derive(Clone, Debug)]
enum Event {
    /// A component is written: one that serves, or one that is refused in one way or another.
    Write(&'static str, Component),
    Delete(&'static str),
    Rename(&'static str, &'static str),
    Sidecar(&'static str, Sidecar),
    DeleteSidecar(&'static str),
    /// A file that does not count.
    Litter,
    FolderGone,
    FolderBack,
    /// The word of the watch, and time for what follows.
    Settle,
    ReloadNow,
    Rollback(Target),
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Component {
    Good(u8),
    /// Not whole yet.
    Partial,
    Garbage,
    /// Its loading never ends.
    Hangs,
    /// It does not pass its self-test.
    Mute,
    /// No cluster takes it.
    Unbuildable,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Sidecar {
    Shadow,
    Settings(u8),
    Bad,
}

#[derive(Clone, Copy, Debug)]
enum Target {
    Previous,
    /// So many generations ago.
    Ago(u64),
}

impl Component {
    fn text(self) -> String {
        match self {
            Self::Good(number) => format!("policy {number}"),
            Self::Partial => "pol".to_owned(),
            Self::Garbage => "garbage".to_owned(),
            Self::Hangs => "hang".to_owned(),
            Self::Mute => "mute".to_owned(),
            Self::Unbuildable => "policy unbuildable".to_owned(),
        }
    }
}

impl Sidecar {
    fn text(self) -> String {
        match self {
            Self::Shadow => "mode: shadow".to_owned(),
            Self::Settings(number) => format!("settings: {{ number: {number} }}"),
            Self::Bad => "mode: sometimes".to_owned(),
        }
    }
}

/// What stands in the folder, by name.
type Files = BTreeMap<&'static str, (Component, Option<Sidecar>)>;

/// What should be true.
struct Model {
    components: BTreeMap<&'static str, Component>,
    sidecars: BTreeMap<&'static str, Sidecar>,
    folder_is_there: bool,
    generation: u64,
    serving: Files,
    content_of: u64,
    kept: Vec<(u64, Files)>,
    /// What the folder held at the rollback that is in force; inner none where it was gone.
    pinned: Option<Option<Files>>,
}

impl Model {
    fn new() -> Self {
        Self {
            components: BTreeMap::new(),
            sidecars: BTreeMap::new(),
            folder_is_there: true,
            generation: 1,
            serving: Files::new(),
            content_of: 1,
            kept: Vec::new(),
            pinned: None,
        }
    }

    /// What the folder holds, where it can be read.
    fn folder(&self) -> Option<Files> {
        let sidecar = |name| self.sidecars.get(name).copied();
        let files = self.components.iter().map(|(name, component)| (*name, (*component, sidecar(name))));
        self.folder_is_there.then(|| files.collect())
    }

    fn is_good(files: &Files) -> bool {
        files
            .values()
            .all(|(component, sidecar)| matches!(component, Component::Good(_)) && *sidecar != Some(Sidecar::Bad))
    }

    fn publish(&mut self, files: Files, content_of: u64) {
        let before = std::mem::replace(&mut self.serving, files);
        self.kept.push((self.generation, before));
        self.kept.retain(|(generation, _)| *generation != content_of);
        if self.kept.len() > KEPT_MAX {
            self.kept.remove(0);
        }
        self.generation += 1;
        self.content_of = content_of;
        self.pinned = None;
    }

    /// The folder was looked at, because somebody asked or because of a change; whether it serves now.
    fn look(&mut self, is_asked: bool) -> bool {
        let Some(folder) = self.folder() else { return false };
        if !is_asked && self.pinned == Some(Some(folder.clone())) {
            return true;
        }
        if folder == self.serving {
            self.pinned = None;
            return true;
        }
        let is_good = Self::is_good(&folder);
        if is_good {
            self.publish(folder, self.generation + 1);
        }
        is_good
    }

    /// Whether there was something to roll back to.
    fn roll_back(&mut self, to: Option<u64>) -> bool {
        if to == Some(self.generation) {
            return true;
        }
        let target = match to {
            Some(to) => self.kept.iter().find(|(generation, _)| *generation == to),
            None => self.kept.iter().rfind(|(generation, _)| *generation < self.content_of),
        };
        let Some((content_of, files)) = target.cloned() else { return false };
        self.publish(files, content_of);
        let folder = self.folder();
        self.pinned = (folder.as_ref() != Some(&self.serving)).then_some(folder);
        true
    }

    /// What the real one publishes for what serves.
    fn line(&self) -> String {
        let plugins = self.serving.iter().map(|(name, (component, _))| format!("{name}={}", component.text()));
        let plugins: Vec<_> = plugins.chain(["oidc=strategy builtin".to_owned()]).collect();
        format!("{}: {}", self.generation, plugins.join(" "))
    }
}

/// Does to the folder, or asks, what the event says; then both have the same history.
async fn happen(event: &Event, stage: &Stage, gate: &Gate, model: &mut Model) {
    let away = stage.folder().with_extension("away");
    match *event {
        Event::Write(name, component) if model.folder_is_there => {
            // As long as the other texts of its sort, at times within one tick of the file's clock.
            stage.write(format!("{name}.wasm"), component.text());
            model.components.insert(name, component);
        }
        Event::Delete(name) if model.components.contains_key(name) && model.folder_is_there => {
            fs::remove_file(stage.path(format!("{name}.wasm"))).unwrap();
            model.components.remove(name);
        }
        Event::Rename(from, to) if model.components.contains_key(from) && model.folder_is_there => {
            fs::rename(stage.path(format!("{from}.wasm")), stage.path(format!("{to}.wasm"))).unwrap();
            let component = model.components.remove(from).unwrap();
            model.components.insert(to, component);
        }
        Event::Sidecar(name, sidecar) if model.folder_is_there => {
            stage.write(format!("{name}.yaml"), sidecar.text());
            model.sidecars.insert(name, sidecar);
        }
        Event::DeleteSidecar(name) if model.sidecars.contains_key(name) && model.folder_is_there => {
            fs::remove_file(stage.path(format!("{name}.yaml"))).unwrap();
            model.sidecars.remove(name);
        }
        Event::Litter if model.folder_is_there => stage.write(".a.wasm.swp", "litter"),
        Event::FolderGone if model.folder_is_there => {
            fs::rename(stage.folder(), away).unwrap();
            model.folder_is_there = false;
        }
        Event::FolderBack if !model.folder_is_there => {
            fs::rename(away, stage.folder()).unwrap();
            model.folder_is_there = true;
        }
        Event::Settle => {
            gate.changed.notify_one();
            // Longer than a plug-in may take to load and a refusal waits to be tried again.
            tokio::time::sleep(Duration::from_secs(400)).await;
            model.look(false);
        }
        Event::ReloadNow => {
            let serves = model.look(true);
            let outcome = gate.handle.reload_now().await;
            assert_eq!(outcome.is_ok(), serves, "{outcome:?}");
            assert!(!serves || outcome == Ok(Generation(model.generation)), "{outcome:?}");
        }
        Event::Rollback(target) => {
            let to = match target {
                Target::Previous => None,
                Target::Ago(count) => Some(model.generation.saturating_sub(count)),
            };
            let done = model.roll_back(to);
            let outcome = gate.handle.rollback(to.map(Generation)).await;
            assert_eq!(outcome.is_ok(), done, "{to:?}: {outcome:?}");
        }
        Event::Write(..)
        | Event::Delete(_)
        | Event::Rename(..)
        | Event::Sidecar(..)
        | Event::DeleteSidecar(_)
        | Event::Litter
        | Event::FolderGone
        | Event::FolderBack => {}
    }
}

/// What must hold at any time, whatever the folder looks like.
fn check(gate: &Gate, model: &Model, last: &mut Generation) {
    assert_eq!(gate.serves(), model.line(), "what serves is one whole generation, and the right one");
    let status = gate.status();
    assert_eq!(status.generation, Generation(model.generation));
    assert!(status.generation >= *last, "generations only grow");
    *last = status.generation;
    let kept: Vec<_> = model.kept.iter().map(|(generation, _)| Generation(*generation)).collect();
    assert_eq!(status.kept_generations, kept);
    let pinned = model.pinned.is_some().then_some(Generation(model.content_of));
    assert_eq!(status.pinned.as_ref().map(|pinned| pinned.content_of), pinned);
    assert!(Model::is_good(&model.serving), "only what was good ever serves");
}

fn run(events: &[Event]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let stage = Stage::new();
        let gate = stage.start().await.unwrap();
        let (mut model, mut last) = (Model::new(), Generation(0));
        for event in events {
            happen(event, &stage, &gate, &mut model).await;
            check(&gate, &model, &mut last);
        }
        // Whatever happened: once the folder is there, good and quiet, it serves, unless it was rolled back from.
        for event in [
            Event::FolderBack,
            Event::Settle,
            Event::Write("a", Component::Good(0)),
            Event::Write("b", Component::Good(1)),
            Event::Delete("c"),
            Event::DeleteSidecar("a"),
            Event::DeleteSidecar("b"),
            Event::Settle,
        ] {
            happen(&event, &stage, &gate, &mut model).await;
        }
        check(&gate, &model, &mut last);
        if model.pinned.is_none() {
            assert_eq!(Some(&model.serving), model.folder().as_ref(), "what serves is what the folder holds");
            assert_eq!(gate.errors().0, None);
        }
    });
}

fn event() -> impl Strategy<Value = Event> {
    let name = || select(&["a", "b", "c"][..]);
    let component = prop_oneof![
        6 => (0..4u8).prop_map(Component::Good),
        1 => Just(Component::Partial),
        1 => Just(Component::Garbage),
        1 => Just(Component::Hangs),
        1 => Just(Component::Mute),
        1 => Just(Component::Unbuildable),
    ];
    let sidecar = prop_oneof![
        2 => Just(Sidecar::Shadow),
        2 => (0..3u8).prop_map(Sidecar::Settings),
        1 => Just(Sidecar::Bad),
    ];
    let target = prop_oneof![Just(Target::Previous), (0..6u64).prop_map(Target::Ago)];
    prop_oneof![
        6 => (name(), component).prop_map(|(name, component)| Event::Write(name, component)),
        2 => name().prop_map(Event::Delete),
        1 => (name(), name()).prop_map(|(from, to)| Event::Rename(from, to)),
        2 => (name(), sidecar).prop_map(|(name, sidecar)| Event::Sidecar(name, sidecar)),
        1 => name().prop_map(Event::DeleteSidecar),
        1 => Just(Event::Litter),
        1 => Just(Event::FolderGone),
        2 => Just(Event::FolderBack),
        6 => Just(Event::Settle),
        2 => Just(Event::ReloadNow),
        3 => target.prop_map(Event::Rollback),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, failure_persistence: None, ..ProptestConfig::default() })]

    /// Goal: in whatever order things happen, one whole, good generation serves, and the right one. Method: the model above,
    /// after each of up to 40 events.
    #[test]
    fn the_life_cycle_is_that_of_the_model(events in prop::collection::vec(event(), 1..40)) {
        run(&events);
    }
}

/// Goal: sequences that once went wrong. Method: rows.
#[test]
fn known_sequences() {
    use Component::{Garbage, Good, Hangs};
    use Event::{FolderBack, FolderGone, ReloadNow, Rollback, Settle, Write};
    run(&[Write("a", Good(1)), Settle, Write("a", Good(2)), Settle, Rollback(Target::Previous), Settle, ReloadNow]);
    run(&[Write("a", Good(1)), Settle, FolderGone, Settle, Rollback(Target::Previous), FolderBack, Settle]);
    run(&[
        Write("a", Good(1)),
        Settle,
        Rollback(Target::Previous),
        Write("b", Garbage),
        Settle,
        Write("b", Hangs),
        ReloadNow,
    ]);
}
