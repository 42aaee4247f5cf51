//! The `kubeconfig` locator: every context of a kubeconfig file as a cluster.
//!
//! The file is kubectl's, so keys that we do not know are left alone and `${…}` is
//! text. A user whose credential only kubectl can make is a problem that says what to
//! do, because a cluster without its credential would be a cluster for nobody.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use witgate_core::{ClusterDetails, Metadata, PluginName, Redacted};
use witgate_proxy::upstream::Proxy;

use super::document;
use super::files::{self, PairError};
use super::kubernetes::{self, Located};
use super::report::Report;
use super::section::{Dialect, Field, Scope, Section, Variables};
use super::{ClusterConfig, SecretSource, listener};

/// Adds the clusters of the file that the locator names.
pub(super) fn locate<'a>(locator: &Section<'a>, located: &mut Vec<Located<'a>>) {
    let file = locator.required("file", "the kubeconfig file, such as `~/.kube/config`");
    let chosen = locator.optional("contexts").map(|field| (field.texts().unwrap_or_default(), field));
    let Some(file) = file else { return };
    let Some((path, text)) = file.path() else { return };
    file.scope().report.reads(path.clone());
    let read =
        files::read(&path).and_then(|bytes| String::from_utf8(bytes).map_err(|_| "is not UTF-8 text".to_owned()));
    let yaml = match read {
        Ok(yaml) => yaml,
        Err(why) => return file.problem(files::about(Path::new(&text.text), &why)),
    };
    let report = Report::new(path.display().to_string());
    let clusters = match document::parse(&yaml) {
        Err(error) => {
            report.problem(error.line, "", error.message);
            Vec::new()
        }
        Ok(root) => {
            let scope = Scope {
                report: &report,
                folder: path.parent().unwrap_or(Path::new("")),
                environment: file.scope().environment,
                variables: Variables::AsWritten,
            };
            let root = Field::root(&scope, &root).in_dialect(Dialect::Backstage);
            root.section().map_or_else(Vec::new, |root| contexts(&root, chosen.as_ref()))
        }
    };
    file.scope().report.absorb(file.line, report);
    located.extend(clusters.into_iter().map(|cluster| Located { cluster, field: locator.field.clone() }));
}

/// The contexts as clusters, without those that are problems.
fn contexts(root: &Section<'_>, chosen: Option<&(Vec<String>, Field<'_>)>) -> Vec<ClusterConfig> {
    let named = |list: &'static str, what: &'static str| named(root, list, what);
    let (contexts, clusters, users) =
        (named("contexts", "context"), named("clusters", "cluster"), named("users", "user"));
    if let Some((names, field)) = chosen {
        for name in names.iter().filter(|name| !contexts.iter().any(|context| context.name == **name)) {
            field.problem(format_args!("`{}` is not a context of the file", name.escape_debug()));
        }
    } else if contexts.is_empty() {
        root.field.note("has no contexts, so no clusters");
    }
    contexts
        .iter()
        .filter(|context| chosen.is_none_or(|(names, _)| names.contains(&context.name)))
        .filter_map(|context| cluster(context, &clusters, &users))
        .collect()
}

/// An entry of one of a kubeconfig's three lists.
struct Named<'a> {
    name: String,
    name_field: Field<'a>,
    section: Section<'a>,
}

fn named<'a>(root: &Section<'a>, list: &'static str, what: &'static str) -> Vec<Named<'a>> {
    let items = root.optional(list).and_then(|field| field.list()).unwrap_or_default();
    let entry = |item: &Field<'a>| {
        let entry = item.section()?;
        let name_field = entry.required("name", "the name of the entry")?;
        let name = name_field.text()?.text;
        let section = entry.required(what, "what the entry holds")?.section()?;
        Some(Named { name, name_field, section })
    };
    items.iter().filter_map(entry).collect()
}

fn cluster(context: &Named<'_>, clusters: &[Named<'_>], users: &[Named<'_>]) -> Option<ClusterConfig> {
    let field = &context.name_field;
    let name = kubernetes::cluster_name(field, &field.text()?);
    let refers = |key: &'static str, entries: &'_ [Named<'_>]| {
        let reference = context.section.required(key, "a context names one")?;
        let wanted = reference.text()?.text;
        let index = entries.iter().position(|entry| entry.name == wanted);
        if index.is_none() {
            reference.problem(format_args!("no {key} of the file is named `{}`", wanted.escape_debug()));
        }
        index
    };
    let cluster = refers("cluster", clusters).and_then(|index| clusters.get(index));
    let user = refers("user", users).and_then(|index| users.get(index));
    let secrets = user.and_then(|user| secrets(&user.section));
    let ApiServer { server, ca_data, ca_file, skip_tls_verify, tls_server_name, proxy } =
        cluster.and_then(|cluster| api_server(&cluster.section))?;
    Some(ClusterConfig {
        details: ClusterDetails {
            name: name?,
            title: None,
            server,
            auth_metadata: Metadata::from([("kubernetes.io/auth-provider".to_owned(), STRATEGY.to_owned())]),
            ca_data,
            skip_tls_verify,
        },
        auth_provider: PluginName::try_from(STRATEGY).ok()?,
        dashboard_url: None,
        oidc_token_provider: None,
        ca_file,
        tls_server_name,
        proxy,
        disable_http2: false,
        allow_impersonation: false,
        allow_client_authorization: true,
        secrets: secrets?,
        origin: field.place(),
    })
}

/// How an API server is reached.
struct ApiServer {
    server: String,
    ca_data: Option<String>,
    ca_file: Option<PathBuf>,
    skip_tls_verify: bool,
    tls_server_name: Option<String>,
    proxy: Option<Proxy>,
}

/// What the file says of an API server; none where a problem was reported.
fn api_server(section: &Section<'_>) -> Option<ApiServer> {
    let server = section.required("server", "the API server's URL").and_then(|field| kubernetes::server(&field, false));
    let skip = section.optional("insecure-skip-tls-verify").map_or(Some(false), |field| field.boolean());
    if skip == Some(true) {
        section.field.note("`insecure-skip-tls-verify`: whoever stands between can read and change everything");
    }
    let server_name = section.optional("tls-server-name").map(|field| kubernetes::server_name(&field));
    let proxy = section.optional("proxy-url").map(|field| kubernetes::proxy(&field));
    let (ca_data, ca_file) =
        match (section.optional("certificate-authority-data"), section.optional("certificate-authority")) {
            (Some(data), _) => (Some(kubernetes::authorities(&data, &data.text()?)?), None),
            (None, Some(file)) => {
                let (path, pem) = listener::read(&file, kubernetes::pem_text)?;
                (Some(pem), Some(path))
            }
            (None, None) => (None, None),
        };
    Some(ApiServer {
        server: server?,
        ca_data,
        ca_file,
        skip_tls_verify: skip?,
        tls_server_name: match server_name {
            Some(name) => Some(name?),
            None => None,
        },
        proxy: match proxy {
            Some(proxy) => Some(proxy?),
            None => None,
        },
    })
}

/// The credential of a user; none where a problem was reported.
fn secrets(user: &Section<'_>) -> Option<BTreeMap<String, SecretSource>> {
    let mut refused = false;
    for (key, instead) in [
        (
            "exec",
            "witgate runs no programs; use a `config` locator with the authProvider that yields this cluster's credential, or a user with a token",
        ),
        (
            "auth-provider",
            "kubectl itself has dropped it; use a `config` locator with an authProvider, or a user with a token",
        ),
        ("username", "API servers take no passwords since Kubernetes 1.19; use a token or a client certificate"),
        ("password", "API servers take no passwords since Kubernetes 1.19; use a token or a client certificate"),
        (
            "as",
            "a fixed impersonation is not supported, and without it the user would have other rights; remove it or use another user",
        ),
    ] {
        if let Some(field) = user.optional(key) {
            field.problem(format_args!(
                "not supported: {instead}; or leave its contexts out with the locator's `contexts: […]`"
            ));
            refused = true;
        }
    }
    if refused {
        return None;
    }

    let mut secrets = BTreeMap::new();
    // As in client-go: the file wins over the token, inline data over a file.
    match (user.optional("tokenFile"), user.optional("token")) {
        (Some(file), _) => {
            let (path, ()) = listener::read(&file, |bytes| {
                let token = std::str::from_utf8(bytes).unwrap_or_default().trim();
                if kubernetes::is_token(token) { Ok(()) } else { Err("does not hold a token".to_owned()) }
            })?;
            secrets.insert("cluster/token".to_owned(), SecretSource::File(path));
        }
        (None, Some(token)) => {
            secrets.insert("cluster/token".to_owned(), kubernetes::secret(&token)?);
        }
        (None, None) => {}
    }
    let certificate = pem(user, "client-certificate-data", "client-certificate", files::certificates)?;
    let key = pem(user, "client-key-data", "client-key", files::private_key)?;
    match (certificate, key) {
        (Some((certificate, chain)), Some((key, parsed))) => {
            if let Err(why) = files::check_pair(chain, parsed) {
                user.field.problem(match why {
                    PairError::Key => {
                        "`client-key` is of a kind that cannot be used; use RSA, ECDSA P-256/P-384 or Ed25519"
                    }
                    PairError::Mismatch => "`client-key` is not the private key of `client-certificate`",
                    PairError::Certificate => "`client-certificate` cannot be used for TLS",
                });
                return None;
            }
            secrets.insert("cluster/client-certificate".to_owned(), certificate);
            secrets.insert("cluster/client-key".to_owned(), key);
        }
        (None, None) => {}
        (Some(_), None) | (None, Some(_)) => {
            user.field.problem("`client-certificate` and `client-key` go together; one of them is missing");
            return None;
        }
    }
    if secrets.is_empty() {
        user.field
            .problem("has no credential; give it a `token`, a `tokenFile`, or `client-certificate` and `client-key`");
        return None;
    }
    Some(secrets)
}

/// PEM that stands in the file as base64 or in a file of its own. Outer none: a problem was reported.
fn pem<T>(
    user: &Section<'_>,
    data_key: &'static str,
    file_key: &'static str,
    parse: fn(&[u8]) -> Result<T, String>,
) -> Option<Option<(SecretSource, T)>> {
    match (user.optional(data_key), user.optional(file_key)) {
        (Some(data), _) => {
            let (encoded, _) = data.secret()?;
            let checked = kubernetes::decode(encoded.expose()).and_then(|pem| {
                let parsed = parse(&pem)?;
                let text = String::from_utf8(pem).map_err(|_| "is not UTF-8 text".to_owned())?;
                Ok((SecretSource::Value(Redacted::new(text)), parsed))
            });
            match checked {
                Ok(checked) => Some(Some(checked)),
                Err(why) => {
                    data.problem(why);
                    None
                }
            }
        }
        (None, Some(file)) => {
            let (path, parsed) = listener::read(&file, parse)?;
            Some(Some((SecretSource::File(path), parsed)))
        }
        (None, None) => Some(None),
    }
}

/// The built-in strategy that yields what a kubeconfig holds.
const STRATEGY: &str = "kubeconfig";
