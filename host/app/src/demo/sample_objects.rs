//! What the sample clusters hold, and what a second changes in them.

use serde_json::{Value, json};

use super::failure::Failure;
use super::objects::{Effect, Objects, Query, now, text};
use super::resources::Resource;
use super::selector::Selector;

/// The objects that a cluster begins with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum SampleObjects {
    /// Two teams at work: namespaces `team-a` and `team-b`.
    Staging,
    /// A shop that sells: namespaces `shop` and `payments`.
    Production,
}

impl SampleObjects {
    /// Puts them into an empty cluster.
    pub(crate) fn create_in(self, objects: &Objects) -> Result<(), Failure> {
        let create = |plural: &str, namespace: &str, object: Value| {
            objects.create(Resource::named(plural), namespace, object, Effect::Stored).map(drop)
        };
        let named = |name: &str| json!({ "metadata": { "name": name } });
        for namespace in ["default", "kube-system"].iter().chain(self.namespaces()) {
            create("namespaces", "", named(namespace))?;
        }
        let name = match self {
            Self::Staging => "staging",
            Self::Production => "production",
        };
        create("nodes", "", node(&format!("{name}-node-1")))?;
        create("configmaps", "default", clock(0))?;
        create("pods", "default", pod("ticker", "ticker", name))?;
        for (namespace, app, replicas) in self.applications() {
            for replica in 1..=*replicas {
                create("pods", namespace, pod(&format!("{app}-{replica}"), app, name))?;
            }
            let labels = json!({ "app": app });
            create(
                "deployments",
                namespace,
                json!({
                    "metadata": { "name": app, "labels": labels },
                    "spec": {
                        "replicas": replicas, "selector": { "matchLabels": labels },
                        "template": { "metadata": { "labels": labels }, "spec": { "containers": [container(app)] } },
                    },
                    "status": {
                        "replicas": replicas, "readyReplicas": replicas, "updatedReplicas": replicas,
                        "availableReplicas": replicas,
                    },
                }),
            )?;
            create(
                "services",
                namespace,
                json!({
                    "metadata": { "name": app },
                    "spec": { "selector": labels, "ports": [{ "port": 80, "protocol": "TCP" }] },
                }),
            )?;
            create(
                "configmaps",
                namespace,
                json!({
                    "metadata": { "name": format!("{app}-settings") },
                    "data": { "environment": name, "log-level": "info" },
                }),
            )?;
            create(
                "secrets",
                namespace,
                json!({
                    "metadata": { "name": format!("{app}-database") },
                    "data": { "password": "c2FtcGxl" }, // `sample`
                }),
            )?;
        }
        tick(objects)
    }

    const fn namespaces(self) -> &'static [&'static str] {
        match self {
            Self::Staging => &["team-a", "team-b"],
            Self::Production => &["shop", "payments"],
        }
    }

    const fn applications(self) -> &'static [(&'static str, &'static str, u32)] {
        match self {
            Self::Staging => &[("team-a", "web", 2), ("team-a", "worker", 1), ("team-b", "billing", 1)],
            Self::Production => &[("shop", "web", 3), ("payments", "ledger", 2)],
        }
    }
}

/// A second passes: the clock goes on, and pods that were pending run.
pub(crate) fn tick(objects: &Objects) -> Result<(), Failure> {
    let (config_maps, pods) = (Resource::named("configmaps"), Resource::named("pods"));
    let ticks = objects.progress().borrow().ticks + 1;
    let updated = objects.update(config_maps, "default", "clock", Effect::Stored, |clock| {
        let mut clock = clock.clone();
        clock.as_object_mut().and_then(|clock| clock.insert("data".to_owned(), clock_data(ticks)));
        Ok(clock)
    });
    drop(updated); // somebody may have deleted the clock; the others go on
    let (all, _) = objects.list(&Query { resource: pods, namespace: None, selector: Selector::default() });
    for pod in all.iter().filter(|pod| text(pod, "/status/phase") == "Pending") {
        let (namespace, name) = (text(pod, "/metadata/namespace"), text(pod, "/metadata/name"));
        objects.update(pods, namespace, name, Effect::Stored, |pod| Ok(running(pod.clone())))?;
    }
    objects.tick();
    Ok(())
}

/// What container `container` of pod `name` wrote at `tick`.
pub(crate) fn log_line(name: &str, container: &str, tick: u64) -> String {
    format!("{name}/{container}: tick {tick}\n")
}

fn clock(ticks: u64) -> Value {
    json!({ "metadata": { "name": "clock" }, "data": clock_data(ticks) })
}

fn clock_data(ticks: u64) -> Value {
    json!({ "ticks": ticks.to_string(), "time": now() })
}

fn container(app: &str) -> Value {
    json!({ "name": app, "image": format!("registry.example/{app}:1.0") })
}

fn pod(name: &str, app: &str, cluster: &str) -> Value {
    json!({
        "metadata": { "name": name, "labels": { "app": app } },
        "spec": { "nodeName": format!("{cluster}-node-1"), "containers": [container(app)] },
    })
}

fn node(name: &str) -> Value {
    json!({
        "metadata": { "name": name },
        "status": {
            "conditions": [{ "type": "Ready", "status": "True" }],
            "nodeInfo": { "kubeletVersion": "v1.32.0" },
        },
    })
}

fn running(mut pod: Value) -> Value {
    let started = now();
    let containers = pod.pointer("/spec/containers").and_then(Value::as_array).into_iter().flatten();
    let statuses: Vec<Value> = containers
        .map(|container| {
            json!({
                "name": container.get("name"), "image": container.get("image"), "imageID": "", "ready": true,
                "started": true, "restartCount": 0, "state": { "running": { "startedAt": started } },
            })
        })
        .collect();
    let status = json!({
        "phase": "Running", "startTime": started, "containerStatuses": statuses,
        "conditions": [{ "type": "Ready", "status": "True" }],
    });
    pod.as_object_mut().and_then(|pod| pod.insert("status".to_owned(), status));
    pod
}
