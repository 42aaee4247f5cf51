//! What one types to kubectl, as the request that kubectl then sends.
//!
//! Only as far as a policy can tell: method, path, query, patch type and upgrade. Where kubectl sends several requests, the one
//! that acts. What only a cluster or a file could tell (`apply -f`, `delete --all`) is an error that says what to write.

mod resources;

use std::collections::BTreeMap;

use crate::request_line::RequestLine;
use resources::Resource;

impl RequestLine {
    /// Reads kubectl's words, with or without `kubectl` before them.
    ///
    /// # Errors
    /// With what is wrong and what would be right.
    pub(crate) fn of_kubectl(text: &str) -> Result<Self, String> {
        let words = Words::split(text)?;
        Command::parse(words)?.request().map_err(|fault| format!("`{}`: {fault}", text.trim()))
    }
}

/// What stands on the command line.
struct Words {
    words: Vec<String>,
    /// Behind `--`.
    command: Vec<String>,
}

impl Words {
    /// Splits as a shell does, as far as quotes go.
    fn split(text: &str) -> Result<Self, String> {
        let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
        for character in text.chars() {
            match (quote, character) {
                (Some(open), close) if open == close => quote = None,
                (None, '\'' | '"') => {
                    quote = Some(character);
                    word.get_or_insert_default();
                }
                (None, space) if space.is_whitespace() => words.extend(word.take()),
                (_, other) => word.get_or_insert_default().push(other),
            }
        }
        words.extend(word);
        if quote.is_some() {
            return Err(format!("`{text}`: a quote is not closed"));
        }
        if words.first().is_some_and(|first| first == "kubectl") {
            words.remove(0);
        }
        let dashes = words.iter().position(|word| word == "--").unwrap_or(words.len());
        let command = words.split_off(dashes).into_iter().skip(1).collect();
        Ok(Self { words, command })
    }
}

/// A command with its flags apart.
struct Command {
    /// The command's name and what it is about.
    words: Vec<String>,
    /// Flags by their long names; those without a value are empty.
    flags: BTreeMap<&'static str, String>,
    command: Vec<String>,
}

/// Flags with a value, by their long and short names.
const VALUED: &[(&str, &str)] = &[
    ("namespace", "n"),
    ("selector", "l"),
    ("output", "o"),
    ("container", "c"),
    ("filename", "f"),
    ("patch", "p"),
    ("field-selector", ""),
    ("type", ""),
    ("subresource", ""),
    ("dry-run", ""),
    ("raw", ""),
    ("replicas", ""),
    ("image", ""),
    ("port", ""),
    ("tail", ""),
    ("since", ""),
    ("target", ""),
    ("timeout", ""),
    ("sort-by", ""),
    ("chunk-size", ""),
    ("from-literal", ""),
    ("clusterrole", ""),
    ("role", ""),
    ("user", ""),
    ("group", ""),
    ("serviceaccount", ""),
    ("verb", ""),
    ("resource", ""),
    ("duration", ""),
    ("audience", ""),
    ("field-manager", ""),
    ("grace-period", ""),
    ("target-port", ""),
    ("name", ""),
    ("schedule", ""),
    ("to-revision", ""),
];

/// Flags without a value, by their long and short names.
const PLAIN: &[(&str, &str)] = &[
    ("all-namespaces", "A"),
    ("watch", "w"),
    ("stdin", "i"),
    ("tty", "t"),
    ("quiet", "q"),
    ("follow", ""),
    ("previous", ""),
    ("watch-only", ""),
    ("all", ""),
    ("server-side", ""),
    ("force", ""),
    ("force-conflicts", ""),
    ("overwrite", ""),
    ("show-labels", ""),
    ("ignore-not-found", ""),
    ("rm", ""),
    ("now", ""),
    ("timestamps", ""),
    ("all-containers", ""),
];

impl Command {
    fn parse(Words { words: all, command }: Words) -> Result<Self, String> {
        let is_logs = all.first().is_some_and(|first| first == "logs");
        let (mut words, mut flags) = (Vec::new(), BTreeMap::new());
        let mut rest = all.into_iter();
        while let Some(word) = rest.next() {
            if let Some(long) = word.strip_prefix("--") {
                let (name, value) =
                    long.split_once('=').map_or((long, None), |(name, value)| (name, Some(value.to_owned())));
                if let Some((name, _)) = PLAIN.iter().find(|(known, _)| *known == name) {
                    if value.as_deref() != Some("false") {
                        flags.insert(*name, String::new());
                    }
                } else if let Some((name, _)) = VALUED.iter().find(|(known, _)| *known == name) {
                    flags.insert(*name, Self::value(value, &mut rest, &word)?);
                } else if name == "as" || name == "as-group" {
                    return Err(format!(
                        "`{word}`: whom to be is the key `as: {{ user: NAME, groups: [GROUP] }}`, or a flag of `witgate plugin run`"
                    ));
                } else {
                    return Err(format!(
                        "kubectl's flag `--{name}` is not known here: leave it out, or write a `request` line"
                    ));
                }
                continue;
            }
            match word.strip_prefix('-').filter(|shorts| !shorts.is_empty()) {
                None => words.push(word),
                Some(shorts) => Self::short_flags(shorts, is_logs, &mut rest, &mut flags)?,
            }
        }
        Ok(Self { words, flags, command })
    }

    /// `-it`, `-n dev`, `-ndev`.
    fn short_flags(
        shorts: &str,
        is_logs: bool,
        rest: &mut impl Iterator<Item = String>,
        flags: &mut BTreeMap<&'static str, String>,
    ) -> Result<(), String> {
        let mut characters = shorts.chars();
        while let Some(short) = characters.next() {
            let named = |(_, known): &&(&'static str, &'static str)| known.chars().eq([short]);
            let of_logs = match short {
                'f' if is_logs => Some("follow"),
                'p' if is_logs => Some("previous"),
                _ => None,
            };
            if let Some(name) = of_logs.or_else(|| PLAIN.iter().find(named).map(|(name, _)| *name)) {
                flags.insert(name, String::new());
            } else if let Some((name, _)) = VALUED.iter().find(named) {
                let joined = characters.as_str().trim_start_matches('=');
                let value = (!joined.is_empty()).then(|| joined.to_owned());
                flags.insert(name, Self::value(value, rest, &format!("-{short}"))?);
                return Ok(());
            } else {
                return Err(format!(
                    "kubectl's flag `-{short}` is not known here: leave it out, or write a `request` line"
                ));
            }
        }
        Ok(())
    }

    fn value(given: Option<String>, rest: &mut impl Iterator<Item = String>, flag: &str) -> Result<String, String> {
        given.or_else(|| rest.next()).ok_or_else(|| format!("kubectl's flag `{flag}` needs a value"))
    }

    fn has(&self, flag: &str) -> bool {
        self.flags.contains_key(flag)
    }

    fn flag(&self, flag: &str) -> Option<&str> {
        self.flags.get(flag).map(String::as_str)
    }

    fn word(&self, index: usize) -> Option<&str> {
        self.words.get(index).map(String::as_str)
    }

    fn request(&self) -> Result<RequestLine, String> {
        if self.has("filename") {
            return Err("what is in the file cannot be told from here: name the object instead, as in `apply deployment/web -n dev`".to_owned());
        }
        if self.flag("dry-run") == Some("client") {
            return Err("with `--dry-run=client` kubectl changes nothing at the API server".to_owned());
        }
        let name = self.word(0).ok_or("write what one types to kubectl, such as `get pods -n dev`")?;
        match name {
            "get" | "describe" => self.get(),
            "create" => self.create(),
            "apply" => self.patched(if self.has("server-side") { APPLY } else { STRATEGIC }, None),
            "edit" => self.patched(STRATEGIC, None),
            "patch" => {
                let patch_type = match self.flag("type").unwrap_or("strategic") {
                    "strategic" => STRATEGIC,
                    "merge" => MERGE,
                    "json" => "application/json-patch+json",
                    other => return Err(format!("`--type {other}` is none of strategic, merge and json")),
                };
                self.patched(patch_type, self.flag("subresource"))
            }
            "label" | "annotate" => self.patched(MERGE, None),
            "scale" => self.patched(MERGE, Some("scale")),
            "autoscale" => self.object_of("horizontalpodautoscalers", None, None, "POST"),
            "set" => self.patched_from(2, STRATEGIC, None),
            "replace" => self.on_object("PUT", 1, None, &[]),
            "delete" => self.delete(),
            "exec" | "cp" | "attach" | "port-forward" => self.upgraded(name),
            "logs" => self.logs(),
            "debug" => self.debug(),
            "run" => self.object_of("pods", None, None, "POST"),
            "expose" => self.object_of("services", None, None, "POST"),
            "rollout" => self.rollout(),
            "cordon" | "uncordon" | "taint" => {
                let node = self.word(if self.word(1).is_some_and(is_node) { 2 } else { 1 }).ok_or("name a node")?;
                Ok(self.object_of("nodes", Some(node), None, "PATCH")?.with_type(STRATEGIC))
            }
            "drain" => Err("kubectl cordons the node and evicts each pod: write `cordon NODE`, and for a pod \
                            `request: POST /api/v1/namespaces/NS/pods/POD/eviction`"
                .to_owned()),
            "top" => self.top(),
            "certificate" => {
                let request = self.word(2).ok_or("name the request: `certificate approve NAME`")?;
                self.object_of("certificatesigningrequests", Some(request), Some("approval"), "PUT")
            }
            "auth" => match self.word(1) {
                Some("can-i") => Ok(plain("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews")),
                Some("whoami") => Ok(plain("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews")),
                _ => Err("known are `auth can-i` and `auth whoami`".to_owned()),
            },
            "api-resources" | "api-versions" => Ok(plain("GET", "/apis")),
            "version" => Ok(plain("GET", "/version")),
            "cluster-info" => Ok(plain(
                "GET",
                "/api/v1/namespaces/kube-system/services?labelSelector=kubernetes.io%2Fcluster-service%3Dtrue",
            )),
            other => Err(format!("kubectl's command `{other}` is not known here: write a `request` line instead")),
        }
    }

    fn get(&self) -> Result<RequestLine, String> {
        if let Some(raw) = self.flag("raw") {
            return Ok(plain("GET", raw));
        }
        let (resource, name) = self.resource_and_name(1)?;
        let mut query = Vec::new();
        let watched = self.has("watch") || self.has("watch-only");
        match &name {
            Some(_) if !watched => {}
            Some(name) => query.push(("fieldSelector", format!("metadata.name={name}"))),
            None => {}
        }
        if watched {
            query.push(("watch", "true".to_owned()));
        }
        query.extend(self.flag("selector").map(|selector| ("labelSelector", selector.to_owned())));
        query.extend(self.flag("field-selector").map(|selector| ("fieldSelector", selector.to_owned())));
        let name = name.filter(|_| !watched);
        let path = self.path(&resource, name.as_deref(), self.flag("subresource"))?;
        Ok(plain("GET", &with_query(path, &query)))
    }

    fn create(&self) -> Result<RequestLine, String> {
        if self.word(1) == Some("token") {
            let account = self.word(2).ok_or("name the service account: `create token NAME`")?;
            return self.object_of("serviceaccounts", Some(account), Some("token"), "POST");
        }
        let (resource, _name) = self.resource_and_name(1)?;
        let path = self.path(&resource, None, None)?;
        Ok(plain("POST", &with_query(path, &self.dry_run())))
    }

    fn delete(&self) -> Result<RequestLine, String> {
        let (resource, name) = self.resource_and_name(1)?;
        let name = name.ok_or_else(|| {
            format!(
                "kubectl lists the objects and deletes each: name one, or write `request: DELETE {}` for the collection",
                self.path(&resource, None, None).unwrap_or_default()
            )
        })?;
        let path = self.path(&resource, Some(&name), None)?;
        Ok(plain("DELETE", &with_query(path, &self.dry_run())))
    }

    /// kubectl asks for an upgrade with GET since 1.31.
    fn upgraded(&self, command: &str) -> Result<RequestLine, String> {
        let mut query = Vec::new();
        let subresource = match command {
            "port-forward" => "portforward",
            "attach" => "attach",
            _ => "exec",
        };
        let pod = match command {
            "cp" => {
                let remote =
                    self.words.iter().skip(1).find_map(|word| word.split_once(':')).ok_or("write `cp POD:/path .`")?;
                query.push(("command", "tar".to_owned()));
                remote.0
            }
            _ => self.word(1).ok_or("name a pod")?,
        };
        let (namespace, pod) = match pod.split_once('/') {
            Some((kind, name)) if Resource::named(kind).is_some_and(|resource| resource.plural == "pods") => {
                (None, name)
            }
            Some((namespace, name)) if command == "cp" => (Some(namespace), name),
            Some((kind, _)) => {
                return Err(format!("which pod `{kind}/…` leads to is known to the cluster alone: name a pod"));
            }
            None => (None, pod),
        };
        if command == "exec" {
            if self.command.is_empty() {
                return Err("say what to run, behind `--`: `exec web-0 -n dev -- sh`".to_owned());
            }
            query.extend(self.command.iter().map(|word| ("command", word.clone())));
        }
        query.extend(self.flag("container").map(|container| ("container", container.to_owned())));
        for (flag, key) in [("stdin", "stdin"), ("tty", "tty")] {
            if self.has(flag) {
                query.push((key, "true".to_owned()));
            }
        }
        let path = match namespace {
            None => self.path(&known("pods")?, Some(pod), Some(subresource))?,
            Some(namespace) => {
                format!("/api/v1/namespaces/{}/pods/{}/{subresource}", segment(namespace)?, segment(pod)?)
            }
        };
        Ok(RequestLine { upgrade: true, ..plain("GET", &with_query(path, &query)) })
    }

    fn logs(&self) -> Result<RequestLine, String> {
        let pod = self.word(1).ok_or("name a pod: `logs web-0 -n dev`")?;
        let pod = match pod.split_once('/') {
            None => pod,
            Some((kind, name)) if Resource::named(kind).is_some_and(|resource| resource.plural == "pods") => name,
            Some((kind, _)) => {
                return Err(format!("which pods `{kind}/…` leads to is known to the cluster alone: name a pod"));
            }
        };
        let mut query = Vec::new();
        query.extend(self.flag("container").map(|container| ("container", container.to_owned())));
        for flag in ["follow", "previous"] {
            if self.has(flag) {
                query.push((flag, "true".to_owned()));
            }
        }
        let path = self.path(&known("pods")?, Some(pod), Some("log"))?;
        Ok(plain("GET", &with_query(path, &query)))
    }

    fn debug(&self) -> Result<RequestLine, String> {
        let target = self.word(1).ok_or("name a pod: `debug web-0 -n dev --image busybox`")?;
        match target.split_once('/') {
            Some((kind, _)) if is_node(kind) => self.object_of("pods", None, None, "POST"),
            Some((_, pod)) => {
                Ok(self.object_of("pods", Some(pod), Some("ephemeralcontainers"), "PATCH")?.with_type(STRATEGIC))
            }
            None => {
                Ok(self.object_of("pods", Some(target), Some("ephemeralcontainers"), "PATCH")?.with_type(STRATEGIC))
            }
        }
    }

    fn rollout(&self) -> Result<RequestLine, String> {
        match self.word(1) {
            Some("restart" | "pause" | "resume" | "undo") => self.patched_from(2, STRATEGIC, None),
            Some("status" | "history") => self.on_object("GET", 2, None, &[]),
            _ => Err("known are `rollout restart|pause|resume|undo|status|history`".to_owned()),
        }
    }

    fn top(&self) -> Result<RequestLine, String> {
        let (resource, name) = self.resource_and_name(1)?;
        let resource = Resource { group: "metrics.k8s.io".to_owned(), version: "v1beta1".to_owned(), ..resource };
        if !matches!(resource.plural.as_str(), "pods" | "nodes") {
            return Err("known are `top pods` and `top nodes`".to_owned());
        }
        Ok(plain("GET", &self.path(&resource, name.as_deref(), None)?))
    }

    fn patched(&self, patch_type: &str, subresource: Option<&str>) -> Result<RequestLine, String> {
        self.patched_from(1, patch_type, subresource)
    }

    fn patched_from(&self, word: usize, patch_type: &str, subresource: Option<&str>) -> Result<RequestLine, String> {
        Ok(self.on_object("PATCH", word, subresource, &self.dry_run())?.with_type(patch_type))
    }

    fn on_object(
        &self,
        method: &str,
        word: usize,
        subresource: Option<&str>,
        query: &[(&str, String)],
    ) -> Result<RequestLine, String> {
        let (resource, name) = self.resource_and_name(word)?;
        let name = name.ok_or("name the object, as in `deployment/web`")?;
        Ok(plain(method, &with_query(self.path(&resource, Some(&name), subresource)?, query)))
    }

    fn object_of(
        &self,
        resource: &str,
        name: Option<&str>,
        subresource: Option<&str>,
        method: &str,
    ) -> Result<RequestLine, String> {
        let path = self.path(&known(resource)?, name, subresource)?;
        let query = if method == "GET" { Vec::new() } else { self.dry_run() };
        Ok(plain(method, &with_query(path, &query)))
    }

    fn dry_run(&self) -> Vec<(&'static str, String)> {
        let is_dry = self.flag("dry-run") == Some("server");
        if is_dry { vec![("dryRun", "All".to_owned())] } else { Vec::new() }
    }

    /// `pods`, `pods web`, `pod/web`.
    fn resource_and_name(&self, word: usize) -> Result<(Resource, Option<String>), String> {
        let first = self.word(word).ok_or("name a resource, such as `pods`")?;
        if first.contains(',') {
            return Err(format!("`{first}` is several requests: write a case for each"));
        }
        let (kind, name) = match first.split_once('/') {
            Some((kind, name)) => (kind, Some(name)),
            None => (first, self.word(word + 1)),
        };
        let resource = Resource::named(kind).ok_or_else(|| {
            format!(
                "`{kind}` is not a resource that every API server has: write it in full, as in `widgets.v1.example.com`"
            )
        })?;
        Ok((resource, name.map(str::to_owned)))
    }

    fn path(&self, resource: &Resource, name: Option<&str>, subresource: Option<&str>) -> Result<String, String> {
        let mut path = resource.prefix();
        let namespaced = resource.namespaced.unwrap_or_else(|| self.has("namespace"));
        if namespaced && !self.has("all-namespaces") {
            path = format!("{path}/namespaces/{}", segment(self.flag("namespace").unwrap_or("default"))?);
        } else if namespaced && name.is_some() {
            return Err("an object by its name is in one namespace: `-A` does not go with it".to_owned());
        }
        path = format!("{path}/{}", resource.plural);
        for part in [name, subresource].into_iter().flatten() {
            path = format!("{path}/{}", segment(part)?);
        }
        Ok(path)
    }
}

impl RequestLine {
    fn with_type(self, content_type: &str) -> Self {
        Self { content_type: Some(content_type.to_owned()), ..self }
    }
}

fn plain(method: &str, target: &str) -> RequestLine {
    RequestLine { method: method.to_owned(), target: target.to_owned(), upgrade: false, content_type: None }
}

fn known(resource: &str) -> Result<Resource, String> {
    Resource::named(resource).ok_or_else(|| format!("`{resource}` is not known"))
}

fn is_node(kind: &str) -> bool {
    matches!(kind, "node" | "nodes" | "no")
}

/// A name as it may stand in a path.
fn segment(name: &str) -> Result<&str, String> {
    let fits = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._:@".contains(&byte));
    if fits { Ok(name) } else { Err(format!("`{name}` is not a name")) }
}

fn with_query(path: String, query: &[(&str, String)]) -> String {
    let pairs: Vec<_> = query.iter().map(|(key, value)| format!("{key}={}", escaped(value))).collect();
    if pairs.is_empty() { path } else { format!("{path}?{}", pairs.join("&")) }
}

fn escaped(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

const STRATEGIC: &str = "application/strategic-merge-patch+json";
const MERGE: &str = "application/merge-patch+json";
const APPLY: &str = "application/apply-patch+yaml";

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: words become the request that kubectl sends. Method: rows; `^` marks an upgrade, `{…}` a patch type.
    #[test]
    fn words_become_requests() {
        check("get pods -n team-a", "GET /api/v1/namespaces/team-a/pods");
        check("kubectl get po", "GET /api/v1/namespaces/default/pods");
        check("get pods -A", "GET /api/v1/pods");
        check("get pod web -n x", "GET /api/v1/namespaces/x/pods/web");
        check("get deploy/web -nx", "GET /apis/apps/v1/namespaces/x/deployments/web");
        check("get pods -n x -w", "GET /api/v1/namespaces/x/pods?watch=true");
        check(
            "get pods web -n x --watch",
            "GET /api/v1/namespaces/x/pods?fieldSelector=metadata.name%3Dweb&watch=true",
        );
        check(
            "get pods -l 'app=web,tier!=x'",
            "GET /api/v1/namespaces/default/pods?labelSelector=app%3Dweb%2Ctier%21%3Dx",
        );
        check("get nodes", "GET /api/v1/nodes");
        check("get --raw /healthz", "GET /healthz");
        check("get widgets.v1.example.com -n x", "GET /apis/example.com/v1/namespaces/x/widgets");
        check("get widgets.v1.example.com w", "GET /apis/example.com/v1/widgets/w");
        check("describe node n", "GET /api/v1/nodes/n");
        check(
            "exec web-0 -n prod -it -- sh -c 'echo hi'",
            "GET^ /api/v1/namespaces/prod/pods/web-0/exec?command=sh&command=-c&command=echo%20hi&stdin=true&tty=true",
        );
        check("exec pod/web -c main -- ls", "GET^ /api/v1/namespaces/default/pods/web/exec?command=ls&container=main");
        check("attach web", "GET^ /api/v1/namespaces/default/pods/web/attach");
        check("port-forward web 8080:80 -n x", "GET^ /api/v1/namespaces/x/pods/web/portforward");
        check("cp x/web:/etc/hosts .", "GET^ /api/v1/namespaces/x/pods/web/exec?command=tar");
        check("logs web -f -n x", "GET /api/v1/namespaces/x/pods/web/log?follow=true");
        check("logs web -c a -p", "GET /api/v1/namespaces/default/pods/web/log?container=a&previous=true");
        check("delete pod web -n x", "DELETE /api/v1/namespaces/x/pods/web");
        check("delete ns team-a", "DELETE /api/v1/namespaces/team-a");
        check("create deployment web --image nginx -n x", "POST /apis/apps/v1/namespaces/x/deployments");
        check("create ns x", "POST /api/v1/namespaces");
        check("create token bot -n ci", "POST /api/v1/namespaces/ci/serviceaccounts/bot/token");
        check(
            "create clusterrolebinding x --clusterrole admin --user jane",
            "POST /apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
        );
        check(
            "apply deployment/web --server-side --dry-run=server",
            "PATCH /apis/apps/v1/namespaces/default/deployments/web?dryRun=All {application/apply-patch+yaml}",
        );
        check(
            "patch pod web --type json -p x",
            "PATCH /api/v1/namespaces/default/pods/web {application/json-patch+json}",
        );
        check("label node n a=b", "PATCH /api/v1/nodes/n {application/merge-patch+json}");
        check(
            "scale deploy/web --replicas 3",
            "PATCH /apis/apps/v1/namespaces/default/deployments/web/scale {application/merge-patch+json}",
        );
        check(
            "set image deploy/web a=b",
            "PATCH /apis/apps/v1/namespaces/default/deployments/web {application/strategic-merge-patch+json}",
        );
        check(
            "rollout restart sts/db -n x",
            "PATCH /apis/apps/v1/namespaces/x/statefulsets/db {application/strategic-merge-patch+json}",
        );
        check("rollout status deploy web", "GET /apis/apps/v1/namespaces/default/deployments/web");
        check("cordon n1", "PATCH /api/v1/nodes/n1 {application/strategic-merge-patch+json}");
        check(
            "debug web --image x -n y",
            "PATCH /api/v1/namespaces/y/pods/web/ephemeralcontainers {application/strategic-merge-patch+json}",
        );
        check("debug node/n1 --image x", "POST /api/v1/namespaces/default/pods");
        check("run x --image y", "POST /api/v1/namespaces/default/pods");
        check("top pods -n x", "GET /apis/metrics.k8s.io/v1beta1/namespaces/x/pods");
        check("top nodes", "GET /apis/metrics.k8s.io/v1beta1/nodes");
        check("certificate approve c", "PUT /apis/certificates.k8s.io/v1/certificatesigningrequests/c/approval");
        check("auth can-i get pods", "POST /apis/authorization.k8s.io/v1/selfsubjectaccessreviews");
        check("version", "GET /version");
    }

    /// Goal: what cannot be told says what to write. Method: rows of words and a piece of the error.
    #[test]
    fn what_cannot_be_told_says_what_to_write() {
        for (words, expected) in [
            ("", "write what one types to kubectl"),
            ("apply -f x.yaml", "name the object instead"),
            ("delete pods --all", "request: DELETE /api/v1/namespaces/default/pods"),
            ("get widgets", "write it in full"),
            ("get pods,svc", "write a case for each"),
            ("exec web", "say what to run"),
            ("exec deploy/web -- sh", "name a pod"),
            ("logs deploy/web", "name a pod"),
            ("get pods --bogus", "`--bogus` is not known here"),
            ("get pods -z", "`-z` is not known here"),
            ("get pods -n", "`-n` needs a value"),
            ("get pods --as jane", "whom to be is the key `as: { user: NAME, groups: [GROUP] }`"),
            ("frobnicate", "write a `request` line instead"),
            ("get pods 'a b'", "`a b` is not a name"),
            ("get pods 'a", "a quote is not closed"),
            ("get pod x -A", "`-A` does not go with it"),
            ("create cm x --dry-run=client", "changes nothing"),
            ("drain n", "evicts each pod"),
        ] {
            let error = RequestLine::of_kubectl(words).unwrap_err();
            assert!(error.contains(expected), "{words}: {error}");
        }
    }

    #[track_caller]
    fn check(words: &str, expected: &str) {
        let got = match RequestLine::of_kubectl(words) {
            Ok(RequestLine { method, target, upgrade, content_type }) => {
                let upgrade = if upgrade { "^" } else { "" };
                let patch_type = content_type.map(|text| format!(" {{{text}}}")).unwrap_or_default();
                format!("{method}{upgrade} {target}{patch_type}")
            }
            Err(error) => error,
        };
        assert_eq!(got, expected, "{words}");
    }
}
