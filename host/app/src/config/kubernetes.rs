//! Backstage's `kubernetes` section: the locators, and the clusters that they yield.
//!
//! Keys that Backstage has and witgate does not serve are ignored with a note. What a
//! cluster's strategy makes of its metadata is not known here.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use rustls::pki_types::ServerName;
use witgate_core::{ClusterDetails, ClusterName, Metadata, PluginName, Redacted};
use witgate_proxy::upstream::Proxy;

use super::interpolation::Environment;
use super::section::{Dialect, Field, Section, Text};
use super::url::{self, Query};
use super::{ClusterConfig, SecretSource, files, kubeconfig, listener};

/// The clusters of the section, without those that are problems.
pub(super) fn clusters(kubernetes: Field<'_>, pod_mount: &Path) -> Vec<ClusterConfig> {
    let Some(section) = kubernetes.in_dialect(Dialect::Backstage).section() else { return Vec::new() };
    let pod = Pod::find(section.field.scope().environment, pod_mount);
    let mut located = Vec::new();
    let what = "where the clusters stand; witgate knows the types config, localKubectlProxy and kubeconfig";
    let locators = section.required("clusterLocatorMethods", what).and_then(|field| field.list());
    for locator in locators.unwrap_or_default() {
        locate(&locator, pod.as_ref(), &mut located);
    }
    section.ignore_rest();
    without_duplicates(located)
}

/// A cluster, with the field to speak of when something about it is wrong.
pub(super) struct Located<'a> {
    pub(super) cluster: ClusterConfig,
    pub(super) field: Field<'a>,
}

fn locate<'a>(locator: &Field<'a>, pod: Option<&Pod>, located: &mut Vec<Located<'a>>) {
    let Some(section) = locator.section() else { return };
    let Some(kind) = section.required("type", "one of config, localKubectlProxy and kubeconfig") else { return };
    let Some(kind_text) = kind.text() else { return };
    match kind_text.text.as_str() {
        "config" => {
            let list = section.required("clusters", "the list of clusters").and_then(|field| field.list());
            for item in list.unwrap_or_default() {
                let Some(cluster) = item.section() else { continue };
                if let Some(cluster) = configured(&cluster, pod) {
                    located.push(Located { cluster, field: item });
                }
            }
            section.ignore_rest();
        }
        "localKubectlProxy" => {
            located.extend(local_kubectl_proxy(locator));
            section.ignore_rest();
        }
        "kubeconfig" => {
            // A type of ours: nobody brings keys for it from elsewhere.
            kubeconfig::locate(&section, located);
            section.refuse_rest();
        }
        _ => {
            let shown = if kind_text.literal { kind_text.text.escape_debug().to_string() } else { kind_text.shown };
            kind.problem(format_args!(
                "Unsupported kubernetes.clusterLocatorMethods: \"{shown}\"; supported are config, localKubectlProxy and kubeconfig"
            ));
        }
    }
}

/// One entry of a `config` locator.
fn configured(section: &Section<'_>, pod: Option<&Pod>) -> Option<ClusterConfig> {
    let name_field = section.required("name", "the name by which callers ask for the cluster");
    let name = name_field.and_then(|field| cluster_name(&field, &field.text()?));
    let title = section.optional("title").and_then(|field| field.text()).map(|text| text.text);
    let url = section.required("url", "the API server's URL, such as `https://host:6443`");
    let given_provider = section.optional("authProvider");
    let metadata = section.optional("authMetadata");
    let token = section.optional("serviceAccountToken");
    let oidc = section.optional("oidcTokenProvider");
    let aws_role = section.optional("assumeRole");
    let aws_external_id = section.optional("externalId");
    let mut skip_tls_verify = flag(section, "skipTLSVerify", false);
    let ca_data = section.optional("caData");
    let ca_file = section.optional("caFile");
    let tls_server_name = section.optional("tlsServerName");
    let proxy_url = section.optional("proxyUrl");
    let disable_http2 = flag(section, "disableHttp2", false);
    let dashboard_url = section.optional("dashboardUrl").and_then(|field| field.text()).map(|text| text.text);
    let allow_impersonation = flag(section, "allowImpersonation", false);
    let allow_client_authorization = flag(section, "allowClientAuthorization", true);
    ignore_the_rest(section);

    // Backstage's short keys are laid under `authMetadata`, which wins.
    let mut auth_metadata = Metadata::new();
    for (field, key) in
        [(&oidc, OIDC_TOKEN_PROVIDER), (&aws_role, AWS_ASSUME_ROLE), (&aws_external_id, AWS_EXTERNAL_ID)]
    {
        if let Some(text) = field.as_ref().and_then(Field::text) {
            auth_metadata.insert(key.to_owned(), text.text);
        }
    }
    let mut secrets = BTreeMap::new();
    let token_given = token.is_some();
    if let Some(source) = token.and_then(|field| secret(&field)) {
        secrets.insert(SERVICE_ACCOUNT_TOKEN.to_owned(), source);
    }
    let mut provider = given_provider.clone();
    if let Some(metadata) = metadata.and_then(|field| field.section()) {
        for (key, field) in metadata.all() {
            match key {
                // Backstage's strategy reads the token from here.
                "serviceAccountToken" => {
                    if let Some(source) = secret(&field) {
                        secrets.insert(SERVICE_ACCOUNT_TOKEN.to_owned(), source);
                    }
                }
                _ => {
                    if let Some(value) = field.metadata_value() {
                        auth_metadata.insert(key.to_owned(), value);
                        if key == AUTH_PROVIDER {
                            if given_provider.is_some() {
                                field.note("this is used, not `authProvider`");
                            }
                            provider = Some(field);
                        }
                    }
                }
            }
        }
    }
    if provider.is_none() {
        // Backstage's text, with the place before it.
        let name = name.as_ref().map(ToString::to_string).unwrap_or_default();
        section.field.problem(format_args!(
            "cluster '{name}' has no auth provider configured; this must be specified via the 'authProvider' or 'authMetadata.{AUTH_PROVIDER}' parameter"
        ));
    }
    let auth_provider = provider.and_then(|field| provider_name(&field));
    let is_provider = |name: &str| auth_provider.as_ref().is_some_and(|provider| provider.as_str() == name);

    let mut server = url.and_then(|field| server(&field, is_provider(LOCAL_KUBECTL_PROXY)));
    if ca_file.is_some()
        && let Some(field) = &ca_data
    {
        field.note("ignored: `caFile` is given too, and wins as it does in Backstage");
    }
    // Outer none: a problem was reported.
    let mut authorities = match (ca_file, ca_data) {
        (Some(field), _) => listener::read(&field, pem_text).map(|(path, pem)| (Some(pem), Some(path))),
        (None, Some(field)) => field.text().and_then(|text| authorities(&field, &text)).map(|pem| (Some(pem), None)),
        (None, None) => Some((None, None)),
    };
    // Outer none: a problem was reported.
    let tls_server_name = match tls_server_name {
        Some(field) => server_name(&field).map(Some),
        None => Some(None),
    };
    let proxy = match proxy_url {
        Some(field) => proxy(&field).map(Some),
        None => Some(None),
    };
    if is_provider("serviceAccount") && !token_given && !secrets.contains_key(SERVICE_ACCOUNT_TOKEN) {
        let pod_authorities = in_pod(section, pod, server.as_deref())?;
        if let Some(pod) = pod {
            server = Some(pod.api_server.clone());
            authorities = Some((Some(pod_authorities), Some(pod.ca_file.clone())));
            secrets.insert(POD_TOKEN.to_owned(), SecretSource::File(pod.token_file.clone()));
        }
        skip_tls_verify = Some(false);
    }
    if let Some(provider) = &auth_provider {
        auth_metadata.insert(AUTH_PROVIDER.to_owned(), provider.to_string());
    }
    if skip_tls_verify == Some(true) {
        section.field.note("`skipTLSVerify`: whoever stands between can read and change everything");
    }
    let (ca_data, ca_file) = authorities?;
    Some(ClusterConfig {
        details: ClusterDetails {
            name: name?,
            title,
            server: server?,
            ca_data,
            skip_tls_verify: skip_tls_verify?,
            auth_metadata: auth_metadata.clone(),
        },
        auth_provider: auth_provider?,
        dashboard_url,
        oidc_token_provider: auth_metadata.remove(OIDC_TOKEN_PROVIDER),
        ca_file,
        tls_server_name: tls_server_name?,
        proxy: proxy?,
        disable_http2: disable_http2?,
        allow_impersonation: allow_impersonation?,
        allow_client_authorization: allow_client_authorization?,
        secrets,
        origin: section.field.place(),
    })
}

/// The certificate authorities of the pod's API server, for a cluster without a token of its own.
fn in_pod(section: &Section<'_>, pod: Option<&Pod>, given_url: Option<&str>) -> Option<String> {
    let Some(pod) = pod else {
        section.field.problem(
            "has no `serviceAccountToken`, and witgate does not run in a pod with a mounted service-account token; give the cluster's token",
        );
        return None;
    };
    if given_url.is_some_and(|url| url.trim_end_matches('/') != pod.api_server) {
        section
            .field
            .note("`url` is not used: without a `serviceAccountToken`, the API server is that of witgate's own pod");
    }
    match files::read(&pod.ca_file).and_then(|pem| pem_text(&pem)) {
        Ok(pem) => Some(pem),
        Err(why) => {
            section.field.problem(format_args!("the pod's mounted CA {why}"));
            None
        }
    }
}

/// Notes the keys that are not served; a misspelt key of ours is a problem, because without it the
/// cluster would be more open than its owner thinks, or reached in another way.
fn ignore_the_rest(section: &Section<'_>) {
    for (_, field, meant) in section.rest() {
        if let Some(word) = meant.filter(|word| OUR_KEYS.contains(word)) {
            field.problem(format_args!("unknown key; did you mean `{word}`?"));
        }
    }
    section.ignore_rest();
}

/// Backstage's cluster for a `kubectl proxy` on this machine.
fn local_kubectl_proxy<'a>(locator: &Field<'a>) -> Option<Located<'a>> {
    let auth_provider = PluginName::try_from(LOCAL_KUBECTL_PROXY).ok()?;
    Some(Located {
        cluster: ClusterConfig {
            details: ClusterDetails {
                name: ClusterName::try_from("local").ok()?,
                title: None,
                server: "http://localhost:8001".to_owned(),
                auth_metadata: Metadata::from([(AUTH_PROVIDER.to_owned(), LOCAL_KUBECTL_PROXY.to_owned())]),
                ca_data: None,
                skip_tls_verify: false,
            },
            auth_provider,
            dashboard_url: None,
            oidc_token_provider: None,
            ca_file: None,
            tls_server_name: None,
            proxy: None,
            disable_http2: false,
            allow_impersonation: false,
            allow_client_authorization: true,
            secrets: BTreeMap::new(),
            origin: locator.place(),
        },
        field: locator.clone(),
    })
}

/// The clusters, of which the second of one name is a problem that names both places.
fn without_duplicates(located: Vec<Located<'_>>) -> Vec<ClusterConfig> {
    let mut seen: BTreeMap<ClusterName, String> = BTreeMap::new();
    let mut clusters = Vec::new();
    for Located { cluster, field } in located {
        match seen.entry(cluster.details.name.clone()) {
            Entry::Vacant(vacant) => {
                vacant.insert(cluster.origin.clone());
                clusters.push(cluster);
            }
            Entry::Occupied(first) => field.problem(format_args!(
                "Duplicate cluster name '{}': it stands at {} and at {}",
                cluster.details.name,
                first.get(),
                cluster.origin
            )),
        }
    }
    clusters
}

/// A cluster's name; none where a problem was reported.
pub(super) fn cluster_name(field: &Field<'_>, text: &Text) -> Option<ClusterName> {
    match ClusterName::try_from(text.text.as_str()) {
        Ok(name) => Some(name),
        Err(error) if text.literal => {
            field.problem(error);
            None
        }
        Err(_) => {
            field.problem(format_args!("{} is not a cluster name", text.shown));
            None
        }
    }
}

fn provider_name(field: &Field<'_>) -> Option<PluginName> {
    let text = field.text()?;
    match PluginName::try_from(text.text.as_str()) {
        Ok(name) => Some(name),
        Err(error) if text.literal => {
            field.problem(error);
            None
        }
        Err(_) => {
            field.problem(format_args!("{} is not a plug-in name", text.shown));
            None
        }
    }
}

/// An API server's URL; none where a problem was reported.
pub(super) fn server(field: &Field<'_>, without_credential: bool) -> Option<String> {
    match url::check(&field.text()?, Query::Refused) {
        Ok(checked) => {
            if checked.in_clear && !without_credential {
                field.note("plain `http`: the cluster's credential and all answers can be read on the way");
            }
            Some(checked.url)
        }
        Err(why) => {
            field.problem(why);
            None
        }
    }
}

/// What an API server's certificate must name; none where a problem was reported.
pub(super) fn server_name(field: &Field<'_>) -> Option<String> {
    let text = field.text()?;
    if ServerName::try_from(text.text.as_str()).is_err() {
        field.problem(format_args!(
            "{} is not a name that a certificate could hold; write a host name or an IP address, without a port",
            text.shown
        ));
        return None;
    }
    Some(text.text)
}

/// The HTTP proxy on the way to an API server; none where a problem was reported. Its URL may hold a password.
pub(super) fn proxy(field: &Field<'_>) -> Option<Proxy> {
    let text = field.text()?;
    match Proxy::parse(&text.text) {
        Ok(proxy) => Some(proxy),
        Err(why) if text.text.contains('@') || text.shown.contains('@') => {
            field.problem(format_args!("the URL {why}"));
            None
        }
        Err(why) => {
            field.problem(format_args!("{} {why}", text.shown));
            None
        }
    }
}

/// Certificate authorities in base64 of PEM; none where a problem was reported.
pub(super) fn authorities(field: &Field<'_>, text: &Text) -> Option<String> {
    match decode(&text.text).and_then(|pem| pem_text(&pem)) {
        Ok(pem) => Some(pem),
        Err(why) => {
            field.problem(why);
            None
        }
    }
}

/// The bytes of base64 text, lines and missing padding allowed.
///
/// # Errors
/// With what is wrong, as a predicate that shows none of it.
pub(super) fn decode(text: &str) -> Result<Vec<u8>, String> {
    if text.trim_start().starts_with("-----BEGIN") {
        return Err("is PEM as it is; it must be the base64 of that PEM, on one line".to_owned());
    }
    let packed: String = text.split_ascii_whitespace().collect();
    let lenient = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    GeneralPurpose::new(&STANDARD, lenient)
        .decode(packed)
        .map_err(|_| "is not base64; it must be the base64 of a PEM text".to_owned())
}

/// PEM as text, once its certificates are checked.
pub(super) fn pem_text(pem: &[u8]) -> Result<String, String> {
    files::certificates(pem)?;
    String::from_utf8(pem.to_vec()).map_err(|_| "is not UTF-8 text".to_owned())
}

/// A secret that is sent in a header. One that a file holds is read again when it is used.
pub(super) fn secret(field: &Field<'_>) -> Option<SecretSource> {
    let (value, file) = field.secret()?;
    let trimmed = value.expose().trim();
    if !is_token(trimmed) {
        field.problem("holds white space or control characters, so it cannot be sent in a header");
        return None;
    }
    Some(match file {
        Some(path) => SecretSource::File(path),
        None => SecretSource::Value(Redacted::new(trimmed.to_owned())),
    })
}

/// Whether a text can be a bearer token.
pub(super) fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn flag(section: &Section<'_>, key: &'static str, default: bool) -> Option<bool> {
    section.optional(key).map_or(Some(default), |field| field.boolean())
}

/// The pod that witgate runs in.
struct Pod {
    api_server: String,
    ca_file: PathBuf,
    token_file: PathBuf,
}

impl Pod {
    /// The pod, if this is one and its service-account token is mounted.
    fn find(environment: Environment<'_>, mount: &Path) -> Option<Self> {
        let host = environment("KUBERNETES_SERVICE_HOST").filter(|host| !host.is_empty())?;
        let port = environment("KUBERNETES_SERVICE_PORT").filter(|port| !port.is_empty());
        let (token_file, ca_file) = (mount.join("token"), mount.join("ca.crt"));
        let host = if host.contains(':') { format!("[{host}]") } else { host };
        let api_server = format!("https://{host}:{}", port.as_deref().unwrap_or("443"));
        token_file.is_file().then_some(Self { api_server, ca_file, token_file })
    }
}

/// The keys of a cluster that Backstage does not have.
const OUR_KEYS: [&str; 5] =
    ["allowImpersonation", "allowClientAuthorization", "disableHttp2", "tlsServerName", "proxyUrl"];

/// Where Kubernetes mounts a pod's service account.
pub(super) const POD_MOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

const AUTH_PROVIDER: &str = "kubernetes.io/auth-provider";
const OIDC_TOKEN_PROVIDER: &str = "kubernetes.io/oidc-token-provider";
const AWS_ASSUME_ROLE: &str = "kubernetes.io/aws-assume-role";
const AWS_EXTERNAL_ID: &str = "kubernetes.io/aws-external-id";

/// The name of the secret that `serviceAccountToken` holds.
const SERVICE_ACCOUNT_TOKEN: &str = "cluster/service-account-token";

/// The name of the secret that the pod's mount holds.
const POD_TOKEN: &str = "pod/token";

/// The strategy of a `kubectl proxy`.
const LOCAL_KUBECTL_PROXY: &str = "localKubectlProxy";
