//! The objects of one sample cluster, in memory, with the versions and the history that a watch needs.
//!
//! One counter numbers every change, as the real server's does. The history keeps the last changes; a watch reads it at
//! its own pace and holds no queue here, so a slow watcher costs nothing and finds out when it fell behind.
//!
//! Promise: an operation changes one object whole or nothing, and a failed or dry one leaves no trace.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Map, Value, json};
use tokio::sync::watch;

use super::failure::Failure;
use super::random;
use super::resources::{Resource, Scope};
use super::selector::Selector;

/// All objects of one cluster.
#[derive(Debug)]
pub(crate) struct Objects {
    state: Mutex<State>,
    progress: watch::Sender<Progress>,
}

/// How far the cluster has come.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Progress {
    /// The `resourceVersion` of the last change.
    pub(crate) version: u64,
    /// How often the clock ticked.
    pub(crate) ticks: u64,
}

/// What happened to one object.
#[derive(Debug)]
pub(crate) struct Change {
    /// Its number.
    pub(crate) version: u64,
    resource: &'static Resource,
    namespace: String,
    /// The object after the change; of a deleted one, its last state.
    pub(crate) object: Arc<Value>,
    before: Option<Arc<Value>>,
    deleted: bool,
    bytes: usize,
}

/// What a watch is told.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum EventKind {
    /// New, or newly selected.
    Added,
    /// Changed.
    Modified,
    /// Gone, or no longer selected.
    Deleted,
}

/// Which objects are meant.
#[derive(Clone, Debug)]
pub(crate) struct Query {
    /// Of which resource.
    pub(crate) resource: &'static Resource,
    /// In which namespace; all of them when `None`.
    pub(crate) namespace: Option<String>,
    /// With which labels and fields.
    pub(crate) selector: Selector,
}

/// Whether an operation is carried out or only tried (`dryRun=All`).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Effect {
    /// Carried out.
    Stored,
    /// Everything is checked and nothing is kept.
    Dry,
}

/// What a delete insists on.
#[derive(Clone, Debug, Default)]
pub(crate) struct Preconditions {
    /// The object's `uid`.
    pub(crate) uid: Option<String>,
    /// The object's `resourceVersion`.
    pub(crate) version: Option<String>,
}

#[derive(Debug, Default)]
struct State {
    objects: BTreeMap<Key, Stored>,
    bytes: usize,
    progress: Progress,
    history: VecDeque<Arc<Change>>,
    history_bytes: usize,
    forgotten: u64,
}

#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Key {
    plural: &'static str,
    namespace: String,
    name: String,
}

#[derive(Debug)]
struct Stored {
    resource: &'static Resource,
    object: Arc<Value>,
    bytes: usize,
}

impl Objects {
    /// A cluster without objects.
    pub(crate) fn new() -> Self {
        Self { state: Mutex::default(), progress: watch::Sender::new(Progress::default()) }
    }

    /// Tells of every change and tick.
    pub(crate) fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// One object.
    pub(crate) fn get(&self, resource: &'static Resource, namespace: &str, name: &str) -> Result<Arc<Value>, Failure> {
        let state = self.lock();
        let stored = state.objects.get(&Key::new(resource, namespace, name));
        stored.map(|stored| Arc::clone(&stored.object)).ok_or_else(|| Failure::not_found(resource, name))
    }

    /// The objects that `query` means, by namespace and name, and the version at which they are so.
    pub(crate) fn list(&self, query: &Query) -> (Vec<Arc<Value>>, Progress) {
        let state = self.lock();
        let first = Key::new(query.resource, query.namespace.as_deref().unwrap_or_default(), "");
        let objects = state
            .objects
            .range(first..)
            .take_while(|(key, _)| key.plural == query.resource.plural)
            .take_while(|(key, _)| query.namespace.as_ref().is_none_or(|namespace| *namespace == key.namespace))
            .filter(|(_, stored)| query.selector.matches(&stored.object))
            .map(|(_, stored)| Arc::clone(&stored.object))
            .collect();
        (objects, state.progress)
    }

    /// What happened after `version`, oldest first.
    pub(crate) fn since(&self, version: u64) -> Result<Vec<Arc<Change>>, Failure> {
        let state = self.lock();
        if version < state.forgotten {
            return Err(Failure::expired(format!("too old resource version: {version} ({})", state.forgotten)));
        }
        let after = state.history.partition_point(|change| change.version <= version);
        Ok(state.history.iter().skip(after).cloned().collect())
    }

    /// Adds an object; its name is in it, or begins with its `generateName`.
    pub(crate) fn create(
        &self,
        resource: &'static Resource,
        namespace: &str,
        object: Value,
        effect: Effect,
    ) -> Result<Arc<Value>, Failure> {
        let mut state = self.lock();
        let mut object = checked(resource, namespace, object)?;
        let name = state.name_of(resource, &object)?;
        let key = Key::new(resource, namespace, &name);
        if state.objects.contains_key(&key) {
            return Err(Failure::already_exists(resource, &name));
        }
        if resource.scope == Scope::Namespace {
            let namespaces = Resource::named("namespaces");
            if !state.objects.contains_key(&Key::new(namespaces, "", namespace)) {
                return Err(Failure::not_found(namespaces, namespace));
            }
        }
        if state.objects.len() >= OBJECTS_MAX {
            return Err(Failure::full(format!("the sample API server keeps up to {OBJECTS_MAX} objects")));
        }
        let metadata = metadata(&mut object);
        metadata.insert("name".to_owned(), json!(name));
        metadata.insert("uid".to_owned(), json!(random::uuid()));
        metadata.insert("creationTimestamp".to_owned(), json!(now()));
        add_defaults(resource, &name, &mut object);
        let object = state.put(resource, key, object, effect)?;
        self.announce(&state);
        Ok(object)
    }

    /// Replaces an object by what `change` makes of it.
    pub(crate) fn update(
        &self,
        resource: &'static Resource,
        namespace: &str,
        name: &str,
        effect: Effect,
        change: impl FnOnce(&Value) -> Result<Value, Failure>,
    ) -> Result<Arc<Value>, Failure> {
        let mut state = self.lock();
        let key = Key::new(resource, namespace, name);
        let before = match state.objects.get(&key) {
            Some(stored) => Arc::clone(&stored.object),
            None => return Err(Failure::not_found(resource, name)),
        };
        let mut object = checked(resource, namespace, change(&before)?)?;
        let metadata = metadata(&mut object);
        for (field, pointer) in [("resourceVersion", "/metadata/resourceVersion"), ("uid", "/metadata/uid")] {
            let given = metadata.get(field).and_then(Value::as_str).unwrap_or_default();
            if !given.is_empty() && given != text(&before, pointer) {
                let why = "the object has been modified; please apply your changes to the latest version and try again";
                return Err(Failure::conflict(resource, name, why));
            }
        }
        for field in ["name", "uid", "resourceVersion", "creationTimestamp"] {
            let kept = before.get("metadata").and_then(|before| before.get(field)).cloned().unwrap_or_default();
            let given = metadata.insert(field.to_owned(), kept);
            if field == "name" && given.is_some_and(|given| given != name) {
                return Err(Failure::bad_request("the name of the object does not match the name on the URL"));
            }
        }
        if object == *before {
            return Ok(before); // the real server makes no new version of an unchanged object either
        }
        let object = state.put(resource, key, object, effect)?;
        self.announce(&state);
        Ok(object)
    }

    /// Removes an object, and with a namespace everything in it.
    pub(crate) fn delete(
        &self,
        resource: &'static Resource,
        namespace: &str,
        name: &str,
        preconditions: &Preconditions,
        effect: Effect,
    ) -> Result<Arc<Value>, Failure> {
        let mut state = self.lock();
        let key = Key::new(resource, namespace, name);
        let object = match state.objects.get(&key) {
            Some(stored) => Arc::clone(&stored.object),
            None => return Err(Failure::not_found(resource, name)),
        };
        for (wanted, pointer) in
            [(&preconditions.uid, "/metadata/uid"), (&preconditions.version, "/metadata/resourceVersion")]
        {
            if let Some(wanted) = wanted.as_deref().filter(|wanted| *wanted != text(&object, pointer)) {
                let why = format!("the precondition {wanted} does not hold");
                return Err(Failure::conflict(resource, name, &why));
            }
        }
        if resource.plural == "namespaces" && effect == Effect::Stored {
            let inside: Vec<Key> = state.objects.keys().filter(|key| key.namespace == name).cloned().collect();
            inside.into_iter().for_each(|key| state.remove(&key));
        }
        if effect == Effect::Stored {
            state.remove(&key);
        }
        self.announce(&state);
        Ok(object)
    }

    /// Counts a tick, and wakes everybody who follows [`Objects::progress`].
    pub(crate) fn tick(&self) {
        let mut state = self.lock();
        state.progress.ticks += 1;
        self.announce(&state);
    }

    fn announce(&self, state: &State) {
        let current = state.progress;
        self.progress.send_if_modified(|progress| std::mem::replace(progress, current) != current);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere leaves no half-done change behind: each is made by one insert or remove.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn name_of(&self, resource: &Resource, object: &Value) -> Result<String, Failure> {
        let name = match (text(object, "/metadata/name"), text(object, "/metadata/generateName")) {
            ("", "") => return Err(Failure::invalid(resource, "", "metadata.name: name or generateName is required")),
            ("", prefix) => format!("{prefix}{:05}", self.progress.version),
            (name, _) => name.to_owned(),
        };
        let valid = (1..=253).contains(&name.len())
            && name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.'))
            && [name.chars().next(), name.chars().last()].iter().flatten().all(char::is_ascii_alphanumeric);
        if valid {
            return Ok(name);
        }
        let why = "metadata.name: use 1 to 253 of `a-z`, `0-9`, `-` and `.`, with a letter or digit at both ends";
        Err(Failure::invalid(resource, &name.chars().take(253).collect::<String>(), why))
    }

    fn put(
        &mut self,
        resource: &'static Resource,
        key: Key,
        mut object: Value,
        effect: Effect,
    ) -> Result<Arc<Value>, Failure> {
        let version = self.progress.version + 1;
        metadata(&mut object).insert("resourceVersion".to_owned(), json!(version.to_string()));
        let bytes = object.to_string().len();
        if bytes > OBJECT_BYTES_MAX {
            return Err(Failure::too_large(OBJECT_BYTES_MAX));
        }
        let replaced_bytes = self.objects.get(&key).map_or(0, |stored| stored.bytes);
        let total = self.bytes - replaced_bytes + bytes;
        if total > TOTAL_BYTES_MAX {
            return Err(Failure::full(format!("the sample API server keeps up to {TOTAL_BYTES_MAX} bytes of objects")));
        }
        let object = Arc::new(object);
        if effect == Effect::Stored {
            self.bytes = total;
            self.progress.version = version;
            let stored = Stored { resource, object: Arc::clone(&object), bytes };
            let namespace = key.namespace.clone();
            let before = self.objects.insert(key, stored).map(|stored| stored.object);
            let object = Arc::clone(&object);
            self.remember(Change { version, resource, namespace, object, before, deleted: false, bytes });
        }
        Ok(object)
    }

    fn remove(&mut self, key: &Key) {
        let Some(Stored { resource, object, bytes }) = self.objects.remove(key) else { return };
        self.bytes -= bytes;
        self.progress.version += 1;
        let version = self.progress.version;
        let mut last = Value::clone(&object);
        metadata(&mut last).insert("resourceVersion".to_owned(), json!(version.to_string()));
        self.remember(Change {
            version,
            resource,
            namespace: key.namespace.clone(),
            object: Arc::new(last),
            before: Some(object),
            deleted: true,
            bytes,
        });
    }

    fn remember(&mut self, change: Change) {
        self.history_bytes += change.bytes;
        self.history.push_back(Arc::new(change));
        while self.history.len() > HISTORY_MAX || self.history_bytes > HISTORY_BYTES_MAX {
            let Some(oldest) = self.history.pop_front() else { break };
            self.history_bytes -= oldest.bytes;
            self.forgotten = oldest.version;
        }
    }
}

impl Change {
    /// What a watch of `query` is told of this, if anything.
    pub(crate) fn event(&self, query: &Query) -> Option<EventKind> {
        let about = self.resource == query.resource
            && query.namespace.as_ref().is_none_or(|namespace| *namespace == self.namespace);
        let selected = |object: &Value| about && query.selector.matches(object);
        let before = self.before.as_deref().is_some_and(selected);
        let after = !self.deleted && selected(&self.object);
        match (before, after) {
            (false, true) => Some(EventKind::Added),
            (true, true) => Some(EventKind::Modified),
            (true, false) => Some(EventKind::Deleted),
            (false, false) => None,
        }
    }
}

impl EventKind {
    /// The word in `type`.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Added => "ADDED",
            Self::Modified => "MODIFIED",
            Self::Deleted => "DELETED",
        }
    }
}

impl Key {
    fn new(resource: &'static Resource, namespace: &str, name: &str) -> Self {
        Self { plural: resource.plural, namespace: namespace.to_owned(), name: name.to_owned() }
    }
}

/// The text at `pointer`, or nothing.
pub(crate) fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// Now, as Kubernetes writes it.
pub(crate) fn now() -> String {
    format!("{:.0}", jiff::Timestamp::now())
}

/// Refuses what is no object of this resource in this namespace.
fn checked(resource: &Resource, namespace: &str, object: Value) -> Result<Value, Failure> {
    let Value::Object(fields) = object else {
        return Err(Failure::bad_request("the body is not an object"));
    };
    // Both come first, for people who read JSON.
    let mut ordered = Map::new();
    for (field, expected) in [("apiVersion", resource.api_version()), ("kind", resource.kind.to_owned())] {
        let given = fields.get(field).and_then(Value::as_str).unwrap_or_default();
        if !given.is_empty() && given != expected {
            let message = format!("the {field} of the object is `{given}`; this URL takes `{expected}`");
            return Err(Failure::bad_request(message));
        }
        ordered.insert(field.to_owned(), json!(expected));
    }
    ordered.extend(fields.into_iter().filter(|(field, _)| field != "apiVersion" && field != "kind"));
    let mut object = Value::Object(ordered);
    let metadata = metadata(&mut object);
    match (resource.scope, metadata.get("namespace").and_then(Value::as_str).unwrap_or_default()) {
        (Scope::Cluster, _) => drop(metadata.shift_remove("namespace")),
        (Scope::Namespace, "") => drop(metadata.insert("namespace".to_owned(), json!(namespace))),
        (Scope::Namespace, given) if given == namespace => {}
        (Scope::Namespace, _) => {
            let message = "the namespace of the provided object does not match the namespace sent on the request";
            return Err(Failure::bad_request(message));
        }
    }
    Ok(object)
}

/// What the real server's defaulting and controllers would add to a new object, as far as it shows in a listing.
fn add_defaults(resource: &Resource, name: &str, object: &mut Value) {
    let mut default = |parent: &[&str], field: &str, value: Value| {
        let mut at = &mut *object;
        for key in parent {
            let Some(fields) = at.as_object_mut() else { return };
            at = fields.entry(*key).or_insert_with(|| json!({}));
        }
        if let Some(fields) = at.as_object_mut() {
            fields.entry(field).or_insert(value);
        }
    };
    match resource.plural {
        "namespaces" => {
            default(&["metadata", "labels"], "kubernetes.io/metadata.name", json!(name));
            default(&["status"], "phase", json!("Active"));
        }
        "pods" => default(&["status"], "phase", json!("Pending")),
        "secrets" => default(&[], "type", json!("Opaque")),
        "services" => default(&["spec"], "type", json!("ClusterIP")),
        "deployments" => default(&["spec"], "replicas", json!(1)),
        _ => {}
    }
}

fn metadata(object: &mut Value) -> &mut Map<String, Value> {
    if !object.is_object() {
        *object = json!({});
    }
    let fields = object.as_object_mut().expect("made an object just above");
    let metadata = fields.entry("metadata").or_insert_with(|| json!({}));
    if !metadata.is_object() {
        *metadata = json!({});
    }
    metadata.as_object_mut().expect("made an object just above")
}

/// Objects that one cluster keeps.
const OBJECTS_MAX: usize = 10_000;
/// Bytes of JSON of one object.
const OBJECT_BYTES_MAX: usize = 1 << 20;
/// Bytes of JSON of all objects.
const TOTAL_BYTES_MAX: usize = 64 << 20;
/// Changes that a watch may be behind.
const HISTORY_MAX: usize = 1024;
/// Bytes of JSON in those.
const HISTORY_BYTES_MAX: usize = 16 << 20;
