//! `NAME.yaml` beside `NAME.wasm`: what an operator gives one plug-in and takes from it.
//!
//! The file is parsed here, once, into a type that cannot be wrong; whether it suits
//! the plug-in's kind is known only when the component is loaded, and said by
//! [`Sidecar::misfits`]. Nothing here reads a secret: a sidecar names where it stands.
//!
//! Promise: no message of this module holds a value of `settings` or of `secrets`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use witgate_core::{Digest, PolicyMode};
use witgate_plugin::{AddressRange, Isolation, LimitNumbers, Limits, OutboundHost, PluginKind};

use super::DependsOn;
use super::builtin::Defaults;
use crate::config::SecretSource;

/// What a sidecar says; the default is what holds without one.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sidecar {
    /// Given to `configure`, as JSON.
    pub(crate) settings: Value,
    /// Origins that a strategy may call; `cluster` is the API server of the cluster at hand.
    pub(crate) outbound_hosts: Vec<OutboundGrant>,
    /// What the plug-in may ask for by name, beside its cluster's secrets.
    pub(crate) secrets: BTreeMap<String, SecretSource>,
    /// What one call may spend.
    pub(crate) limits: Limits,
    /// Whether calls share an instance.
    pub(crate) isolation: Isolation,
    /// What the component's digest must be.
    pub(crate) sha256: Option<DigestPin>,
    /// What a strategy's credentials depend on; none where the sidecar does not say.
    pub(crate) credential_depends_on: Option<DependsOn>,
    /// Whether a policy is asked a probe before it serves.
    pub(crate) self_test: SelfTest,
    /// Whether a policy's answer counts; none where the sidecar does not say.
    pub(crate) mode: Option<PolicyMode>,
}

/// Whether a policy is asked a probe before it serves.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum SelfTest {
    /// It is, and must answer.
    #[default]
    Asked,
    /// It is not: its first query is a caller's.
    Skipped,
}

impl Default for Sidecar {
    fn default() -> Self {
        Self {
            settings: Value::Object(Map::new()),
            outbound_hosts: Vec::new(),
            secrets: BTreeMap::new(),
            limits: Limits::default(),
            isolation: Isolation::Fresh,
            sha256: None,
            credential_depends_on: None,
            self_test: SelfTest::default(),
            mode: None,
        }
    }
}

impl Sidecar {
    /// What a built-in strategy may where it has no sidecar.
    pub(crate) fn of_builtin(defaults: &Defaults) -> Self {
        let mut reader = Reader { folder: Path::new(""), defaults: Some(defaults), problems: Vec::new() };
        reader.sidecar(Value::Null)
    }
}

/// A server that a strategy may call.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct OutboundGrant {
    /// Which, and at which addresses.
    pub(crate) host: OutboundHost,
    /// The authorities that its certificate must chain to, instead of the system's; read when the plug-in is loaded.
    pub(crate) ca_file: Option<PathBuf>,
}

/// The SHA-256 that a component must have, as 64 lower-case hexadecimal digits.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct DigestPin(Box<str>);

impl DigestPin {
    /// Whether `digest` is the pinned one.
    pub(crate) fn matches(&self, digest: Digest) -> bool {
        *self.0 == *digest.to_string()
    }
}

impl std::fmt::Display for DigestPin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// What is wrong with a sidecar: one text a problem, each with its key, what stands there and what would be right.
#[derive(Debug, thiserror::Error)]
#[error("{}", .problems.iter().map(|problem| format!("{}: {problem}", .file.display())).collect::<Vec<_>>().join("; "))]
pub(crate) struct SidecarError {
    file: PathBuf,
    problems: Vec<String>,
}

impl Sidecar {
    /// Parses the text of `file`. Relative paths in it are relative to the file's folder.
    ///
    /// # Errors
    /// With every problem of the file.
    pub(crate) fn parse(file: &Path, text: &str) -> Result<Self, SidecarError> {
        Self::parse_over(file, text, None)
    }

    /// Parses the text of a built-in strategy's `file`: what it leaves out is as in `defaults`.
    ///
    /// # Errors
    /// With every problem of the file.
    pub(crate) fn parse_for_builtin(file: &Path, text: &str, defaults: &Defaults) -> Result<Self, SidecarError> {
        Self::parse_over(file, text, Some(defaults))
    }

    fn parse_over(file: &Path, text: &str, defaults: Option<&Defaults>) -> Result<Self, SidecarError> {
        let refuse = |problems| SidecarError { file: file.to_owned(), problems };
        // A snippet of the file could show a secret that stands in `settings`.
        let options = serde_saphyr::options! { with_snippet: false };
        let document: Value = serde_saphyr::from_str_with_options(text, options)
            .map_err(|error| refuse(vec![format!("not the YAML of a sidecar: {error}")]))?;
        let folder = file.parent().unwrap_or(Path::new(""));
        let mut reader = Reader { folder, defaults, problems: Vec::new() };
        let sidecar = reader.sidecar(document);
        if reader.problems.is_empty() { Ok(sidecar) } else { Err(refuse(reader.problems)) }
    }

    /// What in this sidecar does not suit a plug-in of this kind; none where all does.
    pub(crate) fn misfits(&self, kind: PluginKind) -> Option<&'static str> {
        match kind {
            PluginKind::Policy if !self.outbound_hosts.is_empty() => {
                Some("`outboundHosts` is for strategies only, and this component is a policy: remove it")
            }
            PluginKind::Policy if self.credential_depends_on.is_some() => {
                Some("`credentialDependsOn` is for strategies only, and this component is a policy: remove it")
            }
            PluginKind::Strategy if self.self_test == SelfTest::Skipped => {
                Some("`selfTest` is for policies only, and this component is a strategy: remove it")
            }
            PluginKind::Strategy if self.mode.is_some() => {
                Some("`mode` is for policies only, and this component is a strategy: remove it")
            }
            PluginKind::Policy | PluginKind::Strategy => None,
        }
    }
}

/// Walks a sidecar and gathers what is wrong with it.
struct Reader<'a> {
    folder: &'a Path,
    /// Of a built-in strategy.
    defaults: Option<&'a Defaults>,
    problems: Vec<String>,
}

impl Reader<'_> {
    fn sidecar(&mut self, document: Value) -> Sidecar {
        let mut sidecar = Sidecar::default();
        let (mut limits, mut outbound_hosts, mut secrets) = (Value::Null, None, None);
        for (key, value) in self.mapping("the file", document, KEYS).unwrap_or_default() {
            match key.as_str() {
                "settings" => sidecar.settings = value,
                "outboundHosts" => outbound_hosts = Some(self.outbound_hosts(value)),
                "secrets" => secrets = Some(self.secrets(value)),
                "limits" => limits = value,
                "isolation" => {
                    let choices = [("fresh", Isolation::Fresh), ("reused", Isolation::Reused)];
                    sidecar.isolation = self.choice("isolation", &value, choices).unwrap_or(Isolation::Fresh);
                }
                "sha256" => sidecar.sha256 = self.sha256(&value),
                "credentialDependsOn" => {
                    let choices = [
                        ("cluster", DependsOn::Cluster),
                        ("requestAuth", DependsOn::RequestAuth),
                        ("caller", DependsOn::Caller),
                    ];
                    sidecar.credential_depends_on = self.choice("credentialDependsOn", &value, choices);
                }
                "selfTest" => match value.as_bool() {
                    Some(true) => sidecar.self_test = SelfTest::Asked,
                    Some(false) => sidecar.self_test = SelfTest::Skipped,
                    None => self.wrong("selfTest", &show(&value), "`true` or `false`"),
                },
                "mode" => {
                    let choices = [("enforce", PolicyMode::Enforce), ("shadow", PolicyMode::Shadow)];
                    sidecar.mode = self.choice("mode", &value, choices);
                }
                _ => {}
            }
        }
        if let Some(defaults) = self.defaults {
            sidecar.settings = defaults.complete_settings(sidecar.settings);
            secrets = secrets.or_else(|| Some(defaults.secrets()));
            outbound_hosts = outbound_hosts.or_else(|| Some(defaults.outbound_hosts(&sidecar.settings)));
        }
        sidecar.secrets = secrets.unwrap_or_default();
        sidecar.outbound_hosts = outbound_hosts.unwrap_or_default();
        sidecar.limits = self.limits(limits, &sidecar.outbound_hosts);
        sidecar
    }

    fn outbound_hosts(&mut self, value: Value) -> Vec<OutboundGrant> {
        let Value::Array(items) = value else {
            self.wrong(
                "outboundHosts",
                &show(&value),
                "a list of origins such as `https://sts.eu-west-1.amazonaws.com`",
            );
            return Vec::new();
        };
        if items.len() > OUTBOUND_HOSTS_MAX {
            self.wrong(
                "outboundHosts",
                &format!("{} long", items.len()),
                &format!("at most {OUTBOUND_HOSTS_MAX} origins"),
            );
        }
        items.into_iter().enumerate().filter_map(|(index, item)| self.outbound_host(index, item)).collect()
    }

    /// An origin, or an origin with what else is granted of it.
    fn outbound_host(&mut self, index: usize, item: Value) -> Option<OutboundGrant> {
        const ORIGIN: &str = "`https://HOST[:PORT]`, `http://HOST[:PORT]` or `cluster`";
        let at = format!("outboundHosts[{index}]");
        let fields = match item {
            Value::Object(fields) => fields,
            origin => {
                let host = origin.as_str().and_then(|text| OutboundHost::parse(text).ok());
                if host.is_none() {
                    self.wrong(&at, &show(&origin), ORIGIN);
                }
                return host.map(|host| OutboundGrant { host, ca_file: None });
            }
        };
        let mut fields = self.mapping(&format!("`{at}`"), Value::Object(fields), OUTBOUND_KEYS)?;
        let origin = fields.remove("origin").unwrap_or(Value::Null);
        // Of the cluster at hand its own configuration says all this.
        let host = origin.as_str().and_then(|text| OutboundHost::parse(text).ok()).filter(|host| !host.is_cluster());
        if host.is_none() {
            self.wrong(&format!("{at}.origin"), &show(&origin), "`https://HOST[:PORT]` or `http://HOST[:PORT]`");
        }
        let addresses = self.addresses(&at, fields.remove("addresses"));
        let ca_file = match fields.remove("caFile") {
            None => None,
            Some(Value::String(path)) if !path.is_empty() => Some(self.folder.join(path)),
            Some(other) => {
                self.wrong(&format!("{at}.caFile"), &show(&other), "the path of a file of PEM certificates");
                None
            }
        };
        host.map(|host| OutboundGrant { host: host.with_addresses(addresses), ca_file })
    }

    fn addresses(&mut self, at: &str, value: Option<Value>) -> Vec<AddressRange> {
        const EXPECTED: &str = "a list of ranges such as `10.0.0.0/8`, `fd00::/8` or `10.1.2.3`";
        let at = format!("{at}.addresses");
        let items = match value {
            None => return Vec::new(),
            Some(Value::Array(items)) if items.len() <= ADDRESSES_MAX => items,
            Some(Value::Array(items)) => {
                self.wrong(&at, &format!("{} long", items.len()), &format!("at most {ADDRESSES_MAX} ranges"));
                return Vec::new();
            }
            Some(other) => {
                self.wrong(&at, &show(&other), EXPECTED);
                return Vec::new();
            }
        };
        let mut ranges = Vec::new();
        for item in items {
            match item.as_str().and_then(|text| text.parse().ok()) {
                Some(range) => ranges.push(range),
                None => self.wrong(&at, &show(&item), EXPECTED),
            }
        }
        ranges
    }

    fn secrets(&mut self, value: Value) -> BTreeMap<String, SecretSource> {
        const EXPECTED: &str = "`{ file: PATH }` or `{ env: NAME }`; the secret itself does not belong in this file";
        let Value::Object(secrets) = value else {
            self.wrong("secrets", kind_of(&value), &format!("a mapping of names, each to {EXPECTED}"));
            return BTreeMap::new();
        };
        let mut sources = BTreeMap::new();
        for (name, source) in secrets {
            let at = format!("secrets.{name}");
            if name.starts_with("cluster/") || name.starts_with("pod/") {
                self.problems.push(format!(
                    "`{at}` has a name that the gate gives out itself: use one that does not begin with `cluster/` or `pod/`"
                ));
                continue;
            }
            let mut entries = match source {
                Value::Object(entries) => entries.into_iter(),
                other => {
                    self.wrong(&at, kind_of(&other), EXPECTED);
                    continue;
                }
            };
            match (entries.next(), entries.next()) {
                (Some((key, Value::String(path))), None) if key == "file" && !path.is_empty() => {
                    sources.insert(name, SecretSource::File(self.folder.join(path)));
                }
                (Some((key, Value::String(variable))), None)
                    if key == "env" && !variable.is_empty() && !variable.contains(['=', '\0']) =>
                {
                    sources.insert(name, SecretSource::Env(variable));
                }
                _ => self.wrong(&at, "something else", EXPECTED),
            }
        }
        sources
    }

    /// The limits that stand there; the others are the defaults, with more time for what goes out.
    fn limits(&mut self, value: Value, outbound_hosts: &[OutboundGrant]) -> Limits {
        let mut numbers = LimitNumbers::default();
        let builtin = if self.defaults.is_some() { Defaults::LIMITS } else { &[] };
        let outbound: &[_] = if outbound_hosts.is_empty() { &[] } else { &[("deadlineMs", OUTBOUND_DEADLINE_MS)] };
        for (key, preset) in builtin.iter().chain(outbound) {
            if let Some(slot) = numbers.slot(key) {
                *slot = *preset;
            }
        }
        for (key, value) in self.mapping("`limits`", value, &LimitNumbers::KEYS).unwrap_or_default() {
            match (numbers.slot(&key), value.as_u64()) {
                (Some(slot), Some(number)) => *slot = number,
                (Some(_), None) => self.wrong(&format!("limits.{key}"), &show(&value), "a whole number"),
                (None, _) => {}
            }
        }
        Limits::try_from(numbers).unwrap_or_else(|error| {
            self.problems.push(format!("in `limits`, {error}"));
            Limits::default()
        })
    }

    fn sha256(&mut self, value: &Value) -> Option<DigestPin> {
        match value.as_str() {
            Some(text) if text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
                Some(DigestPin(text.to_ascii_lowercase().into()))
            }
            _ => {
                self.wrong("sha256", &show(value), "64 hexadecimal digits in quotes, as `sha256sum` prints them");
                None
            }
        }
    }

    fn choice<T: Copy, const N: usize>(&mut self, key: &str, value: &Value, choices: [(&str, T); N]) -> Option<T> {
        let chosen = choices.iter().find(|(name, _)| value.as_str() == Some(name)).map(|(_, choice)| *choice);
        if chosen.is_none() {
            let names: Vec<_> = choices.iter().map(|(name, _)| format!("`{name}`")).collect();
            self.wrong(key, &show(value), &names.join(" or "));
        }
        chosen
    }

    /// The fields of a mapping; `null`, which is what an empty file or key is, has none.
    fn mapping(&mut self, at: &str, value: Value, known: &[&str]) -> Option<Map<String, Value>> {
        let fields = match value {
            Value::Object(fields) => fields,
            Value::Null => return None,
            other => {
                self.problems.push(format!(
                    "{at} is {}: expected a mapping with keys of {}",
                    kind_of(&other),
                    list(known)
                ));
                return None;
            }
        };
        for key in fields.keys().filter(|key| !known.contains(&key.as_str())) {
            self.problems.push(format!("{at} has the unknown key `{key}`: known are {}", list(known)));
        }
        // A key without a value says nothing, so the default holds.
        Some(fields.into_iter().filter(|(_, value)| !value.is_null()).collect())
    }

    fn wrong(&mut self, key: &str, given: &str, expected: &str) {
        self.problems.push(format!("`{key}` is {given}: expected {expected}"));
    }
}

/// A value as it stands in the file, as far as it is short.
fn show(value: &Value) -> String {
    const SHOWN_CHARS_MAX: usize = 60;
    match value {
        Value::Object(_) | Value::Array(_) => kind_of(value).to_owned(),
        scalar => {
            let text = scalar.to_string();
            if text.chars().count() > SHOWN_CHARS_MAX {
                format!("`{}…`", text.chars().take(SHOWN_CHARS_MAX).collect::<String>())
            } else {
                format!("`{text}`")
            }
        }
    }
}

const fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "empty",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a mapping",
    }
}

fn list(keys: &[&str]) -> String {
    keys.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ")
}

const KEYS: &[&str] = &[
    "settings",
    "outboundHosts",
    "secrets",
    "limits",
    "isolation",
    "sha256",
    "credentialDependsOn",
    "selfTest",
    "mode",
];
const OUTBOUND_KEYS: &[&str] = &["origin", "addresses", "caFile"];
const OUTBOUND_HOSTS_MAX: usize = 64;
/// Ranges of addresses of one of them.
const ADDRESSES_MAX: usize = 64;

/// For strategies that go out: they wait for others.
const OUTBOUND_DEADLINE_MS: u64 = 10_000;

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "a test may panic")]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Goal: what the documentation shows is taken. Method: one sidecar with every key.
    #[test]
    fn every_key_is_read() {
        let text = r#"
            settings: { groups: [dev], deep: { n: 1 } }
            outboundHosts:
              - https://STS.eu-west-1.amazonaws.com/
              - cluster
              - { origin: "https://sts.internal:8443", addresses: [10.0.0.0/8], caFile: ca.pem }
            secrets: { client-secret: { file: secret.txt }, other: { env: OTHER } }
            limits: { deadlineMs: 70, memoryMiB: 32, concurrency: 8, instanceCalls: 9 }
            isolation: reused
            credentialDependsOn: requestAuth
            sha256: "BA7816BF8F01CFEA414140DE5DAE2223B00361A396177A9CB410FF61F20015AD"
            mode: shadow
        "#;
        let sidecar = Sidecar::parse(Path::new("policies/x.yaml"), text).unwrap();
        assert_eq!(sidecar.settings, serde_json::json!({ "groups": ["dev"], "deep": { "n": 1 } }));
        let host = |text: &str| OutboundHost::parse(text).unwrap();
        let range = "10.0.0.0/8".parse().unwrap();
        let expected = [
            OutboundGrant { host: host("https://sts.eu-west-1.amazonaws.com"), ca_file: None },
            OutboundGrant { host: host("cluster"), ca_file: None },
            OutboundGrant {
                host: host("https://sts.internal:8443").with_addresses([range]),
                ca_file: Some("policies/ca.pem".into()),
            },
        ];
        assert_eq!(sidecar.outbound_hosts, expected);
        assert_eq!(sidecar.secrets["client-secret"], SecretSource::File("policies/secret.txt".into()));
        assert_eq!(sidecar.secrets["other"], SecretSource::Env("OTHER".into()));
        assert_eq!(sidecar.limits, Limits::new(70, 32, 8).unwrap().with_instance_calls(9).unwrap());
        assert_eq!(sidecar.isolation, Isolation::Reused);
        assert!(sidecar.sha256.as_ref().unwrap().matches(Digest::of(b"abc")));
        assert!(!sidecar.sha256.as_ref().unwrap().matches(Digest::of(b"abd")));
        assert_eq!(sidecar.credential_depends_on, Some(DependsOn::RequestAuth));
        assert_eq!(sidecar.mode, Some(PolicyMode::Shadow));
    }

    /// Goal: saying nothing is the same as having no sidecar. Method: rows of ways to say nothing.
    #[test]
    fn an_empty_sidecar_is_the_default() {
        for text in ["", "# nothing\n", "{}", "settings:\nlimits:\n", "limits: {}\nsecrets: {}\noutboundHosts: []"] {
            assert_eq!(Sidecar::parse(Path::new("x.yaml"), text).unwrap(), Sidecar::default(), "{text:?}");
        }
    }

    /// Goal: what waits for others has more time, unless it is told how much. Method: rows.
    #[test]
    fn a_strategy_that_goes_out_has_more_time() {
        let deadline = |text: &str| Sidecar::parse(Path::new("x.yaml"), text).unwrap().limits.deadline;
        assert_eq!(deadline(""), Duration::from_millis(50));
        assert_eq!(deadline("limits: { memoryMiB: 1 }\noutboundHosts: [cluster]"), Duration::from_secs(10));
        assert_eq!(deadline("limits: { deadlineMs: 7 }\noutboundHosts: [cluster]"), Duration::from_millis(7));
    }

    /// Goal: a sidecar takes from a built-in only what it speaks of. Method: rows of what it says.
    #[test]
    fn a_builtins_sidecar_changes_what_it_says() {
        let defaults = |name| Defaults::of(name, &|_| None);
        let pinniped = defaults("pinniped");
        let parse = |text: &str| Sidecar::parse_for_builtin(Path::new("pinniped.yaml"), text, &pinniped).unwrap();
        let builtin = Sidecar::of_builtin(&pinniped);
        assert_eq!(
            builtin.outbound_hosts,
            [OutboundGrant { host: OutboundHost::parse("cluster").unwrap(), ca_file: None }]
        );
        assert_eq!(builtin.limits, Limits::new(10_000, 64, 512).unwrap());
        assert_eq!(parse("{}"), builtin);
        let settings = serde_json::json!({ "apiGroupSuffix": "a.b" });
        assert_eq!(parse("settings: { apiGroupSuffix: a.b }"), Sidecar { settings, ..builtin.clone() });
        let limits = Limits::new(7, 64, 512).unwrap();
        assert_eq!(parse("limits: { deadlineMs: 7 }"), Sidecar { limits, ..builtin.clone() });
        assert_eq!(parse("outboundHosts: []").outbound_hosts, []);

        let text = "credentialDependsOn: caller";
        let parsed = Sidecar::parse_for_builtin(Path::new("oidc.yaml"), text, &defaults("oidc")).unwrap();
        assert_eq!(parsed.limits, Limits::new(1000, 64, 512).unwrap());
    }

    /// Goal: each wrong file is refused with file, key, value and what would be right.
    /// Method: a row a mistake; `hunter2` stands for a secret and never shows.
    #[test]
    fn a_wrong_sidecar_says_what_would_be_right() {
        check(
            "setings: {}",
            "x.yaml: the file has the unknown key `setings`: known are `settings`, `outboundHosts`, `secrets`, \
             `limits`, `isolation`, `sha256`, `credentialDependsOn`, `selfTest`, `mode`",
        );
        check(
            "token: hunter2",
            "x.yaml: the file has the unknown key `token`: known are `settings`, `outboundHosts`, `secrets`, \
             `limits`, `isolation`, `sha256`, `credentialDependsOn`, `selfTest`, `mode`",
        );
        check(
            "[hunter2]",
            "x.yaml: the file is a list: expected a mapping with keys of `settings`, `outboundHosts`, `secrets`, \
             `limits`, `isolation`, `sha256`, `credentialDependsOn`, `selfTest`, `mode`",
        );
        check(
            "limits: { deadline: 50 }",
            "x.yaml: `limits` has the unknown key `deadline`: known are `deadlineMs`, `memoryMiB`, \
             `tableElements`, `coreInstances`, `outputKiB`, `logKiB`, `concurrency`, `queue`, \
             `instanceCalls`",
        );
        check(
            "limits: { deadlineMs: fast, memoryMiB: 0 }",
            "x.yaml: `limits.deadlineMs` is `\"fast\"`: expected a whole number; \
             x.yaml: in `limits`, `memoryMiB` is 0; it must be between 1 and 1024",
        );
        check(
            "limits: { instanceCalls: 0 }",
            "x.yaml: in `limits`, `instanceCalls` is 0; it must be between 1 and 1000000",
        );
        check(
            "limits: { tableElements: 100001 }",
            "x.yaml: in `limits`, `tableElements` is 100001; it must be between 1 and 100000",
        );
        check("limits: { queue: 1025 }", "x.yaml: in `limits`, `queue` is 1025; it must be between 0 and 1024");
        check("limits: { concurrency: -1 }", "x.yaml: `limits.concurrency` is `-1`: expected a whole number");
        check("limits: { deadlineMs: 1.5 }", "x.yaml: `limits.deadlineMs` is `1.5`: expected a whole number");
        check("isolation: none", "x.yaml: `isolation` is `\"none\"`: expected `fresh` or `reused`");
        check("mode: dry-run", "x.yaml: `mode` is `\"dry-run\"`: expected `enforce` or `shadow`");
        check(
            "credentialDependsOn: false",
            "x.yaml: `credentialDependsOn` is `false`: expected `cluster` or `requestAuth` or `caller`",
        );
        check("mode: true", "x.yaml: `mode` is `true`: expected `enforce` or `shadow`");
        check(
            "sha256: abc",
            "x.yaml: `sha256` is `\"abc\"`: expected 64 hexadecimal digits in quotes, as `sha256sum` prints them",
        );
        check(
            "outboundHosts: cluster",
            "x.yaml: `outboundHosts` is `\"cluster\"`: expected a list of origins such as \
             `https://sts.eu-west-1.amazonaws.com`",
        );
        check(
            "outboundHosts: [{ origin: cluster, addresses: [10.0.0.1/8], caFile: 7, ca: x }]",
            "x.yaml: `outboundHosts[0]` has the unknown key `ca`: known are `origin`, `addresses`, `caFile`; \
             x.yaml: `outboundHosts[0].origin` is `\"cluster\"`: expected `https://HOST[:PORT]` or `http://HOST[:PORT]`; \
             x.yaml: `outboundHosts[0].addresses` is `\"10.0.0.1/8\"`: expected a list of ranges such as `10.0.0.0/8`, \
             `fd00::/8` or `10.1.2.3`; \
             x.yaml: `outboundHosts[0].caFile` is `7`: expected the path of a file of PEM certificates",
        );
        for host in [
            "sts.amazonaws.com",
            "http://2130706433",
            "https://x/path",
            "ftp://x",
            "https://u:p@x",
            "https://*.x",
            "https://x?q",
        ] {
            check(
                &format!("outboundHosts: [\"{host}\"]"),
                &format!(
                    "x.yaml: `outboundHosts[0]` is `\"{host}\"`: expected `https://HOST[:PORT]`, `http://HOST[:PORT]` \
                     or `cluster`"
                ),
            );
        }
        let source = "`{ file: PATH }` or `{ env: NAME }`; the secret itself does not belong in this file";
        check(
            "secrets: hunter2",
            &format!("x.yaml: `secrets` is a text: expected a mapping of names, each to {source}"),
        );
        check("secrets: { key: hunter2 }", &format!("x.yaml: `secrets.key` is a text: expected {source}"));
        check(
            "secrets: { key: { value: hunter2 } }",
            &format!("x.yaml: `secrets.key` is something else: expected {source}"),
        );
        check(
            "secrets: { key: { file: a, env: B } }",
            &format!("x.yaml: `secrets.key` is something else: expected {source}"),
        );
        check(
            "secrets: { cluster/token: { env: A } }",
            "x.yaml: `secrets.cluster/token` has a name that the gate gives out itself: use one that does not begin \
             with `cluster/` or `pod/`",
        );
    }

    /// Goal: broken YAML is refused without a word of what it holds. Method: rows with a secret in them.
    #[test]
    fn broken_yaml_shows_nothing_of_itself() {
        for text in
            ["settings: { a: hunter2", "settings: [hunter2\nmode: x", "a: b: hunter2", "mode: enforce\nmode: shadow"]
        {
            let error = Sidecar::parse(Path::new("x.yaml"), text).unwrap_err().to_string();
            assert!(error.starts_with("x.yaml: not the YAML of a sidecar: "), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    /// Goal: what suits one kind only is refused for the other. Method: rows.
    #[test]
    fn a_sidecar_suits_the_kind_of_its_plugin() {
        let misfit = |text: &str, kind| Sidecar::parse(Path::new("x.yaml"), text).unwrap().misfits(kind);
        assert_eq!(misfit("mode: shadow", PluginKind::Policy), None);
        assert_eq!(misfit("outboundHosts: [cluster]", PluginKind::Strategy), None);
        assert!(misfit("mode: shadow", PluginKind::Strategy).unwrap().starts_with("`mode` is for policies only"));
        assert!(
            misfit("outboundHosts: [cluster]", PluginKind::Policy)
                .unwrap()
                .starts_with("`outboundHosts` is for strategies only")
        );
        assert!(
            misfit("credentialDependsOn: cluster", PluginKind::Policy)
                .unwrap()
                .starts_with("`credentialDependsOn` is for strategies only")
        );
        assert_eq!(misfit("credentialDependsOn: cluster", PluginKind::Strategy), None);
    }

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let error = Sidecar::parse(Path::new("x.yaml"), text).unwrap_err().to_string();
        assert_eq!(error, expected);
        assert!(!error.contains("hunter2"));
    }
}
