//! The configuration of one witgate, read, checked and typed.
//!
//! [`Config::load`] reads the file once, gathers every problem that it can see
//! without loading a plug-in or talking to anyone, and yields types that hold what
//! the rest of the program needs and nothing that it would have to check again.
//! It does not know plug-ins: whether an `authProvider` exists is known only when
//! the plug-in folder is read.
//!
//! Promise: no text that this module yields, problems and notes included, holds a
//! secret of the configuration.

mod authentication;
mod document;
mod files;
mod interpolation;
mod kubeconfig;
mod kubernetes;
mod limits;
mod listener;
mod observation;
mod oci;
mod report;
mod section;
pub(crate) mod suggestion;
#[cfg(test)]
mod tests;
mod url;

use std::collections::BTreeMap;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use witgate_core::{ClusterDetails, PluginName, Redacted};
use witgate_proxy::limits::Limits;
use witgate_proxy::upstream::Proxy;

use self::interpolation::Environment;
use self::report::Report;
use self::section::{Field, Scope, Section, Variables};
use crate::decision_log::mask::Mask;
use crate::plugins::oci::OciConfig;
use crate::trusted_keys::{self, TrustedKeys};

/// A whole configuration, checked: nothing in it can be refused later except by the outside world.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// The file that it was read from.
    pub(crate) file: PathBuf,
    /// Every file that its text stands in, this one included: when one changes, it is to be read again.
    pub(crate) files: Vec<PathBuf>,
    /// Where the data plane listens.
    pub(crate) listen: SocketAddr,
    /// The data plane's certificate; none means plain HTTP.
    pub(crate) tls: Option<TlsFiles>,
    /// Where the admin routes listen; none means nowhere.
    pub(crate) admin: Option<AdminListen>,
    /// Ways to find out who calls, in the order in which they are tried. Empty: nobody gets in.
    pub(crate) authentication: Vec<AuthenticationMethod>,
    /// Whether policies are asked.
    pub(crate) permission: PermissionRule,
    /// Where plug-ins stand.
    pub(crate) plugins: PluginsConfig,
    /// Where decisions are written; none means nowhere.
    pub(crate) decision_log: Option<DecisionLogConfig>,
    /// Where traces and metrics are sent; none means nowhere.
    pub(crate) telemetry: Option<TelemetryConfig>,
    /// What a request may take, with what the file says of it.
    pub(crate) limits: Limits,
    /// The clusters, in the order of the file; no two of one name.
    pub(crate) clusters: Vec<ClusterConfig>,
    /// Things ignored or defaulted that an operator should know.
    pub(crate) notes: Vec<String>,
}

/// The files of the data plane's TLS.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct TlsFiles {
    /// The certificate chain as PEM, leaf first.
    pub(crate) cert_file: PathBuf,
    /// The leaf's private key as PEM.
    pub(crate) key_file: PathBuf,
    /// The authorities of client certificates; none means that none is asked for.
    pub(crate) client_ca_file: Option<PathBuf>,
}

/// One way to find out who calls.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum AuthenticationMethod {
    /// A signed token in `Authorization`.
    Jwt(JwtConfig),
    /// A token that stands in a file of tokens.
    TokenFile(PathBuf),
    /// The certificate of the TLS handshake.
    ClientCertificate,
    /// Everyone, as one user.
    Anonymous {
        /// The name that every caller gets.
        user: String,
        /// The groups that every caller gets.
        groups: Vec<String>,
    },
}

/// What makes a JWT believed, and who it says calls.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct JwtConfig {
    /// The `iss` that a token must have.
    pub(crate) issuer: Option<String>,
    /// The audiences of which a token's `aud` must name one.
    pub(crate) audiences: Vec<String>,
    /// Where the keys come from.
    pub(crate) keys: JwksSource,
    /// The claim that holds the user's name.
    pub(crate) username_claim: String,
    /// The claim that holds the groups.
    pub(crate) groups_claim: String,
}

/// Where a JSON Web Key Set comes from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum JwksSource {
    /// A file, read again when it changes.
    File(PathBuf),
    /// A URL, fetched again when a token names a key that is not known.
    Url(String),
}

/// Whether policies are asked (Backstage's `permission.enabled`).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum PermissionRule {
    /// Every request is judged.
    Enabled,
    /// Every authenticated caller may do everything.
    Disabled,
}

/// Where plug-ins stand.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct PluginsConfig {
    /// The drop-in folder.
    pub(crate) directory: PathBuf,
    /// Where compiled components are kept between starts; none means nowhere.
    pub(crate) cache_directory: Option<PathBuf>,
    /// Who must have signed what stands in the folder.
    pub(crate) trusted_keys: TrustedKeys,
    /// How many generations that served are kept, to be rolled back to.
    pub(crate) kept_generations_max: usize,
    /// Plug-ins that registries deliver.
    pub(crate) oci: OciConfig,
}

/// Where the admin routes listen. Whoever can reach them may use them, so not everybody can.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum AdminListen {
    /// For this machine alone.
    Loopback(SocketAddr),
    /// For whoever may open this file.
    Unix(PathBuf),
    /// For whoever has a certificate of these authorities.
    MutualTls(SocketAddr, TlsFiles),
}

/// The decision log.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct DecisionLogConfig {
    /// Where its lines are written.
    pub(crate) target: DecisionLogTarget,
    /// What a line without room means.
    pub(crate) on_full: OnFullLog,
    /// Lines that may wait.
    pub(crate) lines_max: usize,
    /// What nobody is to read.
    pub(crate) mask: Mask,
}

/// What becomes of a request whose line finds no room.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum OnFullLog {
    /// It goes on; its line is dropped and counted.
    Drop,
    /// It is refused.
    Deny,
}

/// Where traces and metrics are sent, by OTLP over HTTP.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TelemetryConfig {
    /// Without a slash at its end; `/v1/traces` and `/v1/metrics` follow.
    pub(crate) endpoint: String,
    /// Sent with each request.
    pub(crate) headers: Vec<(http::HeaderName, Redacted<String>)>,
    /// PEM of the only authorities that are believed; the system's where absent.
    pub(crate) certificate_authorities: Option<String>,
    /// Of requests whose client says nothing of a trace, the share that is traced.
    pub(crate) sample_ratio: f64,
    /// Whether traces are sent.
    pub(crate) traces: bool,
    /// Whether metrics are sent.
    pub(crate) metrics: bool,
    /// How often.
    pub(crate) metrics_interval: Duration,
}

/// Where decisions are written.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum DecisionLogTarget {
    /// Standard output.
    Stdout,
    /// A file, appended to.
    File(PathBuf),
}

/// One cluster, checked, with the names of its secrets.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct ClusterConfig {
    /// What a strategy may know of it.
    pub(crate) details: ClusterDetails,
    /// The strategy that yields its credential.
    pub(crate) auth_provider: PluginName,
    /// Shown by `GET /api/kubernetes/clusters`.
    pub(crate) dashboard_url: Option<String>,
    /// Shown by `GET /api/kubernetes/clusters`.
    pub(crate) oidc_token_provider: Option<String>,
    /// The file that the certificate authorities of `details` came from.
    pub(crate) ca_file: Option<PathBuf>,
    /// What the API server's certificate must name, instead of the URL's host.
    pub(crate) tls_server_name: Option<String>,
    /// The HTTP proxy on the way to the API server.
    pub(crate) proxy: Option<Proxy>,
    /// Whether the API server is spoken to by HTTP/1.1 alone.
    pub(crate) disable_http2: bool,
    /// Whether a caller may ask for another identity with `Impersonate-*`.
    pub(crate) allow_impersonation: bool,
    /// Whether a caller's `Backstage-Kubernetes-Authorization` is sent upstream as it is.
    pub(crate) allow_client_authorization: bool,
    /// What its strategy may ask for, by name.
    pub(crate) secrets: BTreeMap<String, SecretSource>,
    /// Where it stands, for messages: file and key.
    pub(crate) origin: String,
}

/// Where a secret comes from. It is read when it is asked for, so that a rotated file is seen.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum SecretSource {
    /// It stood in the configuration.
    Value(Redacted<String>),
    /// A file holds it.
    File(PathBuf),
    /// A variable of the environment holds it.
    Env(String),
}

/// Everything that is wrong with a configuration; never empty.
#[derive(Debug)]
pub(crate) struct ConfigErrors {
    problems: Vec<String>,
}

impl ConfigErrors {
    /// With these problems; there must be some.
    pub(crate) const fn of(problems: Vec<String>) -> Self {
        Self { problems }
    }

    /// One text a problem, each naming file and key.
    pub(crate) fn problems(&self) -> &[String] {
        &self.problems
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problems.join("\n"))
    }
}

impl std::error::Error for ConfigErrors {}

impl AdminListen {
    /// Its address, where it has one.
    pub(crate) const fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Loopback(address) | Self::MutualTls(address, _) => Some(*address),
            Self::Unix(_) => None,
        }
    }
}

impl Config {
    /// Reads and checks a configuration file; `environment` looks up `${VAR}` and `$env`.
    ///
    /// # Errors
    /// With all problems found, when there is any.
    pub(crate) fn load(path: &Path, environment: &dyn Fn(&str) -> Option<String>) -> Result<Self, ConfigErrors> {
        Self::load_with_pod_mount(path, environment, Path::new(kubernetes::POD_MOUNT))
    }

    fn load_with_pod_mount(path: &Path, environment: Environment<'_>, mount: &Path) -> Result<Self, ConfigErrors> {
        let report = Report::new(path.display().to_string());
        report.reads(path.to_owned());
        let config = read(path, environment, mount, &report);
        let files = report.files();
        let (problems, notes) = report.finish();
        match config {
            Some(config) if problems.is_empty() => Ok(Self { files, notes, ..config }),
            Some(_) | None => Err(ConfigErrors { problems }),
        }
    }
}

/// The certificate authorities of a PEM file.
///
/// # Errors
/// With what is wrong with it, as a predicate.
pub(crate) fn certificate_authorities(path: &Path) -> Result<String, String> {
    files::read(path).and_then(|pem| kubernetes::pem_text(&pem))
}

/// The bytes of a file that a configuration names.
///
/// # Errors
/// With what is wrong with it, as a predicate.
pub(crate) fn bytes_of(path: &Path) -> Result<Vec<u8>, String> {
    files::read(path)
}

/// The configuration of a file; none where a problem was reported.
fn read(path: &Path, environment: Environment<'_>, pod_mount: &Path, report: &Report) -> Option<Config> {
    let text = files::read(path)
        .and_then(|bytes| String::from_utf8(bytes).map_err(|_| "is not UTF-8 text".to_owned()))
        .map_err(|why| report.problem(0, "", why))
        .ok()?;
    let root = document::parse(&text).map_err(|error| report.problem(error.line, "", error.message)).ok()?;
    let scope =
        Scope { report, folder: path.parent().unwrap_or(Path::new("")), environment, variables: Variables::Filled };
    let root = Field::root(&scope, &root);
    if root.is_null() {
        report.problem(0, "", "is empty; it needs at least `authentication` and `kubernetes` to be of use");
        return None;
    }
    let section = root.section()?;

    let listen = match section.optional("listen") {
        Some(field) => listener::address(&field),
        None => {
            if !section.has("listen") {
                section.field.note(format_args!("`listen` is not given; {LISTEN_DEFAULT} is used"));
            }
            Some(LISTEN_DEFAULT)
        }
    };
    let tls_field = section.optional("tls");
    let tls = tls_field.as_ref().and_then(Field::section).and_then(|tls| listener::tls(&tls));
    let admin_field = section.optional("admin");
    let admin = admin_field.as_ref().map(observation::admin);
    if let (Some(field), Some(admin), Some(listen)) =
        (&admin_field, admin.as_ref().and_then(Option::as_ref).and_then(AdminListen::address), listen)
        && admin == listen
        && admin.port() != 0
    {
        field.problem(format_args!("`{admin}` is the address of `listen` too; give each its own port"));
    }
    let authentication = authentication(&section, tls.as_ref(), tls_field.is_some());
    let permission = permission(&section);
    let plugins = plugins(&section, &scope);
    let decision_log = section.optional("decisionLog").map(|field| observation::decision_log(&field));
    let telemetry = section.optional("telemetry").map(|field| observation::telemetry(&field));
    let limits = limits::limits(&section);
    let clusters = section.optional("kubernetes").map_or_else(Vec::new, |field| kubernetes::clusters(field, pod_mount));
    if clusters.is_empty() {
        section.field.note("there are no clusters: every request to one gets 404");
    }
    refuse_unknown_keys(&section);

    Some(Config {
        file: path.to_owned(),
        files: Vec::new(),
        listen: listen?,
        tls,
        admin: match admin {
            Some(listen) => Some(listen?),
            None => None,
        },
        authentication,
        permission: permission?,
        plugins: plugins?,
        decision_log: match decision_log {
            Some(log) => Some(log?),
            None => None,
        },
        telemetry: match telemetry {
            Some(telemetry) => Some(telemetry?),
            None => None,
        },
        limits,
        clusters,
        notes: Vec::new(),
    })
}

fn authentication(section: &Section<'_>, tls: Option<&TlsFiles>, tls_given: bool) -> Vec<AuthenticationMethod> {
    let field = section.optional("authentication");
    let methods = field.as_ref().map_or_else(Vec::new, authentication::methods);
    let field = field.as_ref().unwrap_or(&section.field);
    if methods.is_empty() {
        field.note("no authentication method is given: nobody gets in");
    }
    // TLS files with a problem may yet have named the authorities.
    let client_ca_missing = tls.map_or(!tls_given, |tls| tls.client_ca_file.is_none());
    if client_ca_missing && methods.contains(&AuthenticationMethod::ClientCertificate) {
        field.problem(
            "`clientCertificate` needs `tls.clientCaFile`: the authorities that client certificates must chain to",
        );
    }
    if methods.iter().any(|method| matches!(method, AuthenticationMethod::Anonymous { .. })) {
        field.note("`anonymous`: a caller without credentials is let in under that name");
    }
    methods
}

fn permission(section: &Section<'_>) -> Option<PermissionRule> {
    let Some(field) = section.optional("permission") else { return Some(PermissionRule::Enabled) };
    let permission = field.section()?;
    let enabled = permission.optional("enabled");
    permission.refuse_rest();
    match enabled.map(|field| field.boolean()) {
        None | Some(Some(true)) => Some(PermissionRule::Enabled),
        Some(Some(false)) => {
            field.note("policies are switched off: every authenticated caller may do everything");
            Some(PermissionRule::Disabled)
        }
        Some(None) => None,
    }
}

fn plugins(section: &Section<'_>, scope: &Scope<'_>) -> Option<PluginsConfig> {
    let plugins = match section.optional("plugins") {
        Some(field) => Some(field.section()?),
        None => None,
    };
    let directory = plugins.as_ref().and_then(|plugins| plugins.optional("directory"));
    let cache_directory = plugins.as_ref().and_then(|plugins| plugins.optional("cacheDirectory"));
    let trusted_keys = plugins.as_ref().and_then(|plugins| plugins.optional("trustedKeys"));
    let kept_generations = plugins.as_ref().and_then(|plugins| plugins.optional("keptGenerations"));
    let oci = plugins.as_ref().map(oci::oci);
    if let Some(plugins) = &plugins {
        plugins.refuse_rest();
    }
    let (field, directory, shown) = match directory {
        Some(field) => {
            let (path, text) = field.path()?;
            (field, path, text.shown)
        }
        None => {
            section.field.note("`plugins.directory` is not given; `policies` beside this file is used");
            (section.field.clone(), scope.folder.join(PLUGINS_DIRECTORY_DEFAULT), "`policies`".to_owned())
        }
    };
    if !directory.is_dir() {
        field.problem(format_args!(
            "{shown} is not a folder; make it, or name the folder with your plug-ins in `plugins.directory`"
        ));
        return None;
    }
    // It is made when something is compiled.
    let cache_directory = match cache_directory {
        Some(field) => {
            let (path, text) = field.path()?;
            if path.exists() && !path.is_dir() {
                field.problem(format_args!("{} is not a folder", text.shown));
                return None;
            }
            Some(path)
        }
        None => None,
    };
    let trusted_keys = match trusted_keys {
        Some(field) => self::trusted_keys(&field)?,
        None => TrustedKeys::default(),
    };
    let kept_generations_max = match kept_generations {
        Some(field) => field.count(KEPT_GENERATIONS)?,
        None => KEPT_GENERATIONS_DEFAULT,
    };
    let oci = match oci {
        Some(oci) => oci?,
        None => OciConfig::default(),
    };
    if !oci.plugins.is_empty() && cache_directory.is_none() {
        field.problem("`plugins.oci` needs `plugins.cacheDirectory`: what is fetched is kept there, for a start without the registry");
        return None;
    }
    Some(PluginsConfig { directory, cache_directory, trusted_keys, kept_generations_max, oci })
}

/// The keys of the list; none where a problem was reported. A list without keys would trust everybody.
fn trusted_keys(field: &Field<'_>) -> Option<TrustedKeys> {
    let items = field.list()?;
    if items.is_empty() {
        field.problem("is an empty list: name a public key of minisign's, or leave `trustedKeys` out");
        return None;
    }
    let mut keys = Vec::new();
    for item in &items {
        let key = item.text().map(|text| trusted_keys::public_key(&text.text));
        if let Some(None) = key {
            item.problem("is not a public key of minisign's: write the line of `minisign.pub` that begins with `RW`");
        }
        keys.push(key.flatten());
    }
    keys.into_iter().collect::<Option<Vec<_>>>().map(TrustedKeys::new)
}

fn refuse_unknown_keys(section: &Section<'_>) {
    for (key, field, meant) in section.rest() {
        match meant {
            Some(word) => field.problem(format_args!("unknown key; did you mean `{word}`?")),
            None if BACKSTAGE_KEYS.contains(&key) => {
                field.problem("unknown key; of Backstage's app-config, take only the `kubernetes` section over");
            }
            None => field.problem(format_args!("unknown key; known here: {}", section.known())),
        }
    }
}

/// How many generations may be kept: each costs what its own plug-ins cost.
const KEPT_GENERATIONS: RangeInclusive<usize> = 0..=100;
/// How many are kept when nobody says.
pub(crate) const KEPT_GENERATIONS_DEFAULT: usize = 5;
/// Where the data plane listens when nobody says: this machine alone can reach it.
const LISTEN_DEFAULT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 7007);

/// The drop-in folder when nobody names one.
const PLUGINS_DIRECTORY_DEFAULT: &str = "policies";

/// Sections of an app-config that someone may copy along with `kubernetes`.
const BACKSTAGE_KEYS: [&str; 12] = [
    "app",
    "auth",
    "backend",
    "catalog",
    "costInsights",
    "homepage",
    "integrations",
    "organization",
    "proxy",
    "scaffolder",
    "search",
    "techdocs",
];
