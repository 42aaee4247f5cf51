//! What a built-in strategy is granted where its sidecar does not say.
//!
//! A cloud's own clients find their identity in well-known variables of the environment, which the cloud's webhooks set
//! in a pod; Backstage's users rely on it. So do the strategies that stand for these clients, and no other: a file of
//! the same name that replaces one gets nothing that its sidecar does not grant.
//!
//! - `settings` are joined key by key: a variable stands where the sidecar has no such key.
//! - `secrets` are the sidecar's alone as soon as it has that key.
//! - `outboundHosts` follow from the settings, until the sidecar has that key.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use witgate_plugin::OutboundHost;

use crate::config::SecretSource;
use crate::plugins::sidecar::OutboundGrant;

/// The defaults of one built-in strategy.
#[derive(Debug, Default)]
pub(crate) struct Defaults {
    settings: Map<String, Value>,
    secrets: BTreeMap<String, SecretSource>,
    outbound_hosts: Option<fn(&Settings<'_>) -> Vec<String>>,
}

impl Defaults {
    /// The defaults of the built-in `name`; `environment` looks variables up.
    pub(crate) fn of(name: &str, environment: &dyn Fn(&str) -> Option<String>) -> Self {
        let variables = Variables(environment);
        match name {
            "aws" => Self {
                settings: variables.settings(&[
                    ("region", &["AWS_REGION", "AWS_DEFAULT_REGION"]),
                    ("roleArn", &["AWS_ROLE_ARN"]),
                    ("roleSessionName", &["AWS_ROLE_SESSION_NAME"]),
                    ("stsEndpoint", &["AWS_ENDPOINT_URL_STS"]),
                ]),
                secrets: variables.secrets(&[
                    ("access-key-id", Source::Value("AWS_ACCESS_KEY_ID")),
                    ("secret-access-key", Source::Value("AWS_SECRET_ACCESS_KEY")),
                    ("session-token", Source::Value("AWS_SESSION_TOKEN")),
                    ("web-identity-token", Source::Path("AWS_WEB_IDENTITY_TOKEN_FILE")),
                ]),
                outbound_hosts: Some(aws_hosts),
            },
            "azure" => Self {
                settings: variables.settings(&[
                    ("tenantId", &["AZURE_TENANT_ID"]),
                    ("clientId", &["AZURE_CLIENT_ID"]),
                    ("authorityHost", &["AZURE_AUTHORITY_HOST"]),
                ]),
                secrets: variables.secrets(&[
                    ("client-secret", Source::Value("AZURE_CLIENT_SECRET")),
                    ("federated-token", Source::Path("AZURE_FEDERATED_TOKEN_FILE")),
                ]),
                outbound_hosts: Some(azure_hosts),
            },
            "googleServiceAccount" => Self {
                secrets: variables.secrets(&[("service-account", Source::Path("GOOGLE_APPLICATION_CREDENTIALS"))]),
                outbound_hosts: Some(|_| vec!["https://oauth2.googleapis.com".to_owned()]),
                ..Self::default()
            },
            "pinniped" => Self { outbound_hosts: Some(|_| vec!["cluster".to_owned()]), ..Self::default() },
            _ => Self::default(),
        }
    }

    /// `settings` with what they leave out. What is no mapping stays as it is, for the plug-in to refuse.
    pub(crate) fn complete_settings(&self, settings: Value) -> Value {
        match settings {
            Value::Object(given) => Value::Object(self.settings.clone().into_iter().chain(given).collect()),
            other => other,
        }
    }

    /// The secrets of who has no `secrets`.
    pub(crate) fn secrets(&self) -> BTreeMap<String, SecretSource> {
        self.secrets.clone()
    }

    /// The hosts of who has no `outboundHosts`, by its whole settings.
    pub(crate) fn outbound_hosts(&self, settings: &Value) -> Vec<OutboundGrant> {
        let hosts = self.outbound_hosts.map(|hosts| hosts(&Settings(settings))).unwrap_or_default();
        hosts
            .iter()
            .filter_map(|host| OutboundHost::parse(host).ok())
            .map(|host| OutboundGrant { host, ca_file: None })
            .collect()
    }

    /// The limits that are not a drop-in's, of calls that go nowhere.
    ///
    /// A drop-in's 50 ms of time guard against code that nobody here has read. A built-in is ours, and a busy machine must not
    /// turn its microseconds of work into a 504.
    pub(crate) const LIMITS: &[(&str, u64)] = &[("deadlineMs", 1000), ("concurrency", 512)];
}

/// The settings as the plug-in will have them.
struct Settings<'a>(&'a Value);

impl Settings<'_> {
    fn text(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.as_str()
    }

    /// The origin at `key`, or `default` where there is none: the plug-in refuses what is not one, in its own words.
    fn origin(&self, key: &str, default: &str) -> String {
        let given = self.text(key).filter(|text| OutboundHost::parse(text).is_ok_and(|host| !host.is_cluster()));
        given.unwrap_or(default).to_owned()
    }
}

fn aws_hosts(settings: &Settings<'_>) -> Vec<String> {
    let region = settings.text("region").unwrap_or("us-east-1");
    let domain = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
    let public = format!("https://sts.{region}.{domain}");
    // A region that is none makes no host; the plug-in is to say so, and is loaded only with one.
    let public = if OutboundHost::parse(&public).is_ok() { public } else { "https://sts.amazonaws.com".to_owned() };
    vec![settings.origin("stsEndpoint", &public)]
}

fn azure_hosts(settings: &Settings<'_>) -> Vec<String> {
    let mut hosts = vec![settings.origin("authorityHost", "https://login.microsoftonline.com")];
    // The metadata service gives out more than tokens for clusters: only who asks for it gets there.
    if settings.0.get("managedIdentity").and_then(Value::as_bool) == Some(true) {
        hosts.push(settings.origin("managedIdentityEndpoint", "http://169.254.169.254"));
    }
    hosts
}

/// How a variable tells a secret.
#[derive(Clone, Copy)]
enum Source {
    /// It is the secret.
    Value(&'static str),
    /// It names the file that holds it.
    Path(&'static str),
}

struct Variables<'a>(&'a dyn Fn(&str) -> Option<String>);

impl Variables<'_> {
    fn value(&self, name: &str) -> Option<String> {
        (self.0)(name).filter(|value| !value.is_empty())
    }

    /// The settings of which a variable is set; of several, the first.
    fn settings(&self, known: &[(&str, &[&str])]) -> Map<String, Value> {
        let set = |names: &[&str]| names.iter().find_map(|name| self.value(name));
        known.iter().filter_map(|(key, names)| Some(((*key).to_owned(), set(names)?.into()))).collect()
    }

    /// The secrets of which the variable is set.
    fn secrets(&self, known: &[(&str, Source)]) -> BTreeMap<String, SecretSource> {
        let source = |source: Source| match source {
            Source::Value(name) => self.value(name).map(|_| SecretSource::Env(name.to_owned())),
            Source::Path(name) => self.value(name).map(|path| SecretSource::File(path.into())),
        };
        known.iter().filter_map(|(name, known)| Some(((*name).to_owned(), source(*known)?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;
    use witgate_plugin::Limits;

    use super::*;
    use crate::plugins::sidecar::Sidecar;

    /// Goal: what a built-in is granted follows from sidecar and environment, and a sidecar's key always wins. Method: rows.
    #[test]
    fn what_is_not_said_is_the_default() {
        let none: &[(&str, &str)] = &[];
        check("aws", none, None, "{} [] https://sts.us-east-1.amazonaws.com");
        check("azure", none, None, "{} [] https://login.microsoftonline.com");
        check("oidc", &[("AWS_REGION", "eu-west-1")], None, "{} [] ");
        check("googleServiceAccount", none, None, "{} [] https://oauth2.googleapis.com");
        let key = &[("GOOGLE_APPLICATION_CREDENTIALS", "/key.json")];
        check("googleServiceAccount", key, None, "{} [service-account] https://oauth2.googleapis.com");
        check("pinniped", none, None, "{} [] cluster");
        let irsa = &[
            ("AWS_REGION", "eu-west-1"),
            ("AWS_DEFAULT_REGION", "eu-west-2"),
            ("AWS_ROLE_ARN", "arn"),
            ("AWS_WEB_IDENTITY_TOKEN_FILE", "/token"),
            ("AWS_ACCESS_KEY_ID", ""),
        ];
        let settings = r#"{"region":"eu-west-1","roleArn":"arn"}"#;
        let expected = format!("{settings} [web-identity-token] https://sts.eu-west-1.amazonaws.com");
        check("aws", irsa, None, &expected);
        check("aws", irsa, Some(""), &expected);
        check("aws", irsa, Some("limits: { concurrency: 7 }"), &expected);
        check(
            "aws",
            irsa,
            Some("settings: { region: cn-north-1 }"),
            r#"{"region":"cn-north-1","roleArn":"arn"} [web-identity-token] https://sts.cn-north-1.amazonaws.com.cn"#,
        );
        check(
            "aws",
            irsa,
            Some("{ settings: { stsEndpoint: 'https://sts.example/' }, secrets: { access-key-id: { env: A } } }"),
            r#"{"region":"eu-west-1","roleArn":"arn","stsEndpoint":"https://sts.example/"} [access-key-id] https://sts.example"#,
        );
        let hosts = "outboundHosts: [ 'https://a.example', { origin: 'https://b.example', addresses: [10.0.0.0/8] } ]";
        let expected = format!("{settings} [web-identity-token] https://a.example https://b.example");
        check("aws", irsa, Some(hosts), &expected);
        check("aws", irsa, Some("outboundHosts: []"), &format!("{settings} [web-identity-token] "));
        for odd in ["settings: { region: 'x y' }", "settings: { stsEndpoint: cluster, region: a/b }"] {
            let granted = granted("aws", none, Some(odd));
            assert!(granted.ends_with(" [] https://sts.amazonaws.com"), "{granted}");
        }
        let workload = &[
            ("AZURE_TENANT_ID", "t"),
            ("AZURE_CLIENT_ID", "c"),
            ("AZURE_AUTHORITY_HOST", "https://login.chinacloudapi.cn/"),
            ("AZURE_FEDERATED_TOKEN_FILE", "/token"),
        ];
        let settings = r#"{"tenantId":"t","clientId":"c","authorityHost":"https://login.chinacloudapi.cn/"}"#;
        check("azure", workload, None, &format!("{settings} [federated-token] https://login.chinacloudapi.cn"));
        check(
            "azure",
            none,
            Some("settings: { managedIdentity: true }"),
            r#"{"managedIdentity":true} [] https://login.microsoftonline.com http://169.254.169.254"#,
        );
        check("azure", none, Some("settings: [1]"), "[1] [] https://login.microsoftonline.com");
    }

    #[track_caller]
    fn check(name: &str, environment: &[(&str, &str)], sidecar: Option<&str>, expected: &str) {
        assert_eq!(granted(name, environment, sidecar), expected);
    }

    fn granted(name: &str, environment: &[(&str, &str)], sidecar: Option<&str>) -> String {
        let environment =
            |wanted: &str| environment.iter().find(|(name, _)| *name == wanted).map(|(_, value)| (*value).to_owned());
        let defaults = Defaults::of(name, &environment);
        let sidecar = match sidecar {
            None => Sidecar::of_builtin(&defaults),
            Some(text) => Sidecar::parse_for_builtin(Path::new("x.yaml"), text, &defaults).unwrap(),
        };
        let secrets: Vec<_> = sidecar.secrets.keys().map(String::as_str).collect();
        let hosts: Vec<_> = sidecar.outbound_hosts.iter().map(|grant| grant.host.to_string()).collect();
        format!("{} [{}] {}", sidecar.settings, secrets.join(" "), hosts.join(" "))
    }

    /// Goal: a variable that is a secret is named, not copied, and one that names a file is read when it is asked for.
    #[test]
    fn a_secret_stays_where_it_is() {
        let environment = |name: &str| Some(format!("/value/of/{name}"));
        let secrets = Defaults::of("aws", &environment).secrets();
        assert_eq!(secrets.get("secret-access-key"), Some(&SecretSource::Env("AWS_SECRET_ACCESS_KEY".into())));
        let file = SecretSource::File("/value/of/AWS_WEB_IDENTITY_TOKEN_FILE".into());
        assert_eq!(secrets.get("web-identity-token"), Some(&file));
        assert_eq!(Defaults::of("mine", &environment).complete_settings(json!({})), json!({}));
    }

    /// Goal: who goes out has the time for it. Method: the limits of both kinds.
    #[test]
    fn a_builtin_has_its_own_limits() {
        let limits = |name: &str, text: &str| {
            let defaults = Defaults::of(name, &|_| None);
            Sidecar::parse_for_builtin(Path::new("x.yaml"), text, &defaults).unwrap().limits
        };
        assert_eq!(limits("oidc", ""), Limits::new(1000, 64, 512).unwrap());
        assert_eq!(limits("aws", ""), Limits::new(10_000, 64, 512).unwrap());
        assert_eq!(limits("aws", "limits: { concurrency: 9 }"), Limits::new(10_000, 64, 9).unwrap());
    }
}
