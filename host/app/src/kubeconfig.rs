//! `witgate kubeconfig`: a kubeconfig that leads kubectl to the gate, one context a cluster.
//!
//! It reads the gate's configuration and talks to nobody. It never makes a token up: a credential is a file that kubectl
//! reads itself, a command that it runs, or what a named variable of the environment holds.

use std::fmt;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use witgate_core::Redacted;

use crate::config::Config;

/// Print a kubeconfig that leads kubectl to the gate: one cluster and one context for each configured cluster
///
/// Example: `witgate kubeconfig --config witgate.yaml --server https://gate.example:7007 --token-file ~/.witgate-token > kubeconfig`
#[derive(Debug, clap::Args)]
pub(crate) struct KubeconfigArgs {
    /// The gate's configuration
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// The gate's URL as kubectl reaches it; without it, the address in `listen`
    #[arg(long, value_name = "URL")]
    server: Option<String>,
    /// The file from which kubectl reads your token, each time
    #[arg(long, value_name = "FILE", group = "credential")]
    token_file: Option<PathBuf>,
    /// The environment variable whose value, now, is written as your token
    #[arg(long, value_name = "NAME", group = "credential")]
    token_env: Option<String>,
    /// The command that kubectl runs for your token (it prints an ExecCredential)
    #[arg(long, value_name = "COMMAND", group = "credential")]
    exec: Option<String>,
    /// An argument of that command; may be given several times
    #[arg(long, value_name = "ARGUMENT", requires = "exec", allow_hyphen_values = true)]
    exec_arg: Vec<String>,
    /// Only this cluster; may be given several times
    #[arg(long, value_name = "NAME")]
    cluster: Vec<String>,
    /// The certificate authority of the gate's certificate (PEM), written into the kubeconfig
    #[arg(long, value_name = "FILE")]
    certificate_authority: Option<PathBuf>,
}

/// Prints the kubeconfig to standard output, and what one should know of it to standard error.
///
/// # Errors
/// When the configuration is wrong, or an argument does not fit it.
pub(crate) fn run(args: KubeconfigArgs) -> anyhow::Result<()> {
    let environment = |name: &str| std::env::var(name).ok();
    let config = Config::load(&args.config, &environment)?;
    let gate = GateAddress { listen: config.listen, scheme: if config.tls.is_some() { "https" } else { "http" } };
    let clusters: Vec<String> = config.clusters.iter().map(|cluster| cluster.details.name.to_string()).collect();
    let (kubeconfig, notes) = kubeconfig(&args, gate, &clusters, &environment)?;
    write!(std::io::stdout(), "{kubeconfig}").context("the kubeconfig cannot be written to standard output")?;
    for note in notes {
        eprintln!("note: {note}");
    }
    Ok(())
}

/// A kubeconfig; its `Display` is the file.
#[derive(Debug)]
pub(crate) struct Kubeconfig {
    /// Ways to the API servers.
    pub(crate) clusters: Vec<ClusterEntry>,
    /// Who may be spoken for.
    pub(crate) users: Vec<UserEntry>,
    /// Pairs of both; the first is current.
    pub(crate) contexts: Vec<ContextEntry>,
}

/// The way to one API server.
#[derive(Debug)]
pub(crate) struct ClusterEntry {
    /// Its name.
    pub(crate) name: String,
    /// Its URL.
    pub(crate) server: String,
    /// Whom its certificate must chain to.
    pub(crate) authority: Authority,
}

/// Whom a server's certificate must chain to.
#[derive(Clone, Debug)]
pub(crate) enum Authority {
    /// One that the system trusts.
    System,
    /// The certificates in this text (PEM).
    Pem(String),
}

/// Someone to speak for.
#[derive(Debug)]
pub(crate) struct UserEntry {
    /// A name, inside the file only.
    pub(crate) name: String,
    /// How they prove it.
    pub(crate) credential: UserCredential,
}

/// How kubectl proves who speaks.
#[derive(Debug)]
pub(crate) enum UserCredential {
    /// Not at all.
    None,
    /// With a token that it reads from a file.
    TokenFile(PathBuf),
    /// With a token that stands in the kubeconfig.
    Token(Redacted<String>),
    /// With what a command prints.
    Exec(String, Vec<String>),
}

/// A cluster and a user.
#[derive(Debug)]
pub(crate) struct ContextEntry {
    /// Its name, as in `kubectl --context`.
    pub(crate) name: String,
    /// The cluster's name.
    pub(crate) cluster: String,
    /// The user's name.
    pub(crate) user: String,
}

/// The URL under which the gate serves one cluster to kubectl.
pub(crate) fn cluster_url(gate: &str, cluster: &str) -> String {
    format!("{gate}/k8s/clusters/{cluster}")
}

#[derive(Clone, Copy)]
struct GateAddress {
    listen: std::net::SocketAddr,
    scheme: &'static str,
}

fn kubeconfig(
    args: &KubeconfigArgs,
    gate: GateAddress,
    configured: &[String],
    environment: &dyn Fn(&str) -> Option<String>,
) -> anyhow::Result<(Kubeconfig, Vec<String>)> {
    let mut notes = Vec::new();
    let server = server(args.server.as_deref(), gate)?;
    if server.starts_with("http:") {
        // client-go reads a user's credentials only where `rest.IsConfigTransportTLS` says yes (clientcmd).
        notes.push(format!(
            "{server} is plain HTTP, over which kubectl sends no token: give the gate `tls`, or name an https address with --server"
        ));
    }
    if let Some(unknown) = args.cluster.iter().find(|name| !configured.contains(name)) {
        bail!("--cluster `{unknown}` is not in {}: it has {}", args.config.display(), named(configured));
    }
    let clusters = configured.iter().filter(|name| args.cluster.is_empty() || args.cluster.contains(name));
    let clusters: Vec<&String> = clusters.collect();
    if clusters.is_empty() {
        bail!("{} has no clusters, so there is nothing to lead kubectl to", args.config.display());
    }
    let authority = match &args.certificate_authority {
        Some(file) => Authority::Pem(certificates(file)?),
        None => Authority::System,
    };
    let credential = credential(args, environment)?;
    if matches!(credential, UserCredential::None) {
        notes.push("no credential is written: give --token-file, --token-env or --exec".to_owned());
    }
    let kubeconfig = Kubeconfig {
        clusters: clusters
            .iter()
            .map(|name| ClusterEntry {
                name: (*name).clone(),
                server: cluster_url(&server, name),
                authority: authority.clone(),
            })
            .collect(),
        users: vec![UserEntry { name: USER.to_owned(), credential }],
        contexts: clusters
            .iter()
            .map(|name| ContextEntry { name: (*name).clone(), cluster: (*name).clone(), user: USER.to_owned() })
            .collect(),
    };
    Ok((kubeconfig, notes))
}

fn server(given: Option<&str>, gate: GateAddress) -> anyhow::Result<String> {
    let Some(given) = given else {
        if gate.listen.ip().is_unspecified() || gate.listen.port() == 0 {
            bail!("`listen` is {}, which is no address to connect to: give the gate's URL with --server", gate.listen);
        }
        return Ok(format!("{}://{}", gate.scheme, gate.listen));
    };
    let host = ["https://", "http://"].iter().find_map(|scheme| given.strip_prefix(scheme)).unwrap_or_default();
    if host.is_empty() || host.starts_with('/') || given.contains(['?', '#', '@', ' ']) {
        bail!("--server is `{given}`; it must be a URL such as `https://gate.example:7007`");
    }
    Ok(given.trim_end_matches('/').to_owned())
}

fn certificates(file: &Path) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(file).with_context(|| format!("--certificate-authority {}", file.display()))?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(text),
        _ => bail!("--certificate-authority {}: it holds no certificate in PEM", file.display()),
    }
}

fn credential(args: &KubeconfigArgs, environment: &dyn Fn(&str) -> Option<String>) -> anyhow::Result<UserCredential> {
    if let Some(file) = &args.token_file {
        // Kubectl takes a relative path from the kubeconfig's folder, which nobody knows yet.
        return Ok(UserCredential::TokenFile(std::path::absolute(file)?));
    }
    if let Some(name) = &args.token_env {
        let token = environment(name).filter(|token| !token.trim().is_empty());
        let token = token.with_context(|| format!("--token-env {name}: the variable is not set, or empty"))?;
        return Ok(UserCredential::Token(Redacted::new(token.trim().to_owned())));
    }
    Ok(match &args.exec {
        Some(command) => UserCredential::Exec(command.clone(), args.exec_arg.clone()),
        None => UserCredential::None,
    })
}

fn named(clusters: &[String]) -> String {
    if clusters.is_empty() { "no clusters".to_owned() } else { clusters.join(", ") }
}

impl fmt::Display for Kubeconfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "apiVersion: v1\nkind: Config\npreferences: {{}}")?;
        if let Some(first) = self.contexts.first() {
            writeln!(f, "current-context: {}", Quoted(&first.name))?;
        }
        writeln!(f, "clusters:")?;
        for cluster in &self.clusters {
            writeln!(
                f,
                "  - name: {}\n    cluster:\n      server: {}",
                Quoted(&cluster.name),
                Quoted(&cluster.server)
            )?;
            match &cluster.authority {
                Authority::System => {}
                Authority::Pem(pem) => writeln!(f, "      certificate-authority-data: {}", STANDARD.encode(pem))?,
            }
        }
        writeln!(f, "users:")?;
        for user in &self.users {
            writeln!(f, "  - name: {}", Quoted(&user.name))?;
            match &user.credential {
                UserCredential::None => writeln!(f, "    user: {{}}")?,
                UserCredential::TokenFile(file) => {
                    writeln!(f, "    user:\n      tokenFile: {}", Quoted(&file.display().to_string()))?;
                }
                UserCredential::Token(token) => writeln!(f, "    user:\n      token: {}", Quoted(token.expose()))?,
                UserCredential::Exec(command, arguments) => {
                    writeln!(f, "    user:\n      exec:\n        apiVersion: client.authentication.k8s.io/v1")?;
                    writeln!(f, "        interactiveMode: IfAvailable\n        command: {}", Quoted(command))?;
                    if !arguments.is_empty() {
                        writeln!(f, "        args:")?;
                    }
                    arguments.iter().try_for_each(|argument| writeln!(f, "          - {}", Quoted(argument)))?;
                }
            }
        }
        writeln!(f, "contexts:")?;
        self.contexts.iter().try_for_each(|context| {
            let (name, cluster, user) = (Quoted(&context.name), Quoted(&context.cluster), Quoted(&context.user));
            writeln!(f, "  - name: {name}\n    context:\n      cluster: {cluster}\n      user: {user}")
        })
    }
}

/// A YAML scalar, whatever the text holds: a JSON string is one.
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        serde_json::Value::from(self.0).fmt(f)
    }
}

/// The one user of the file.
const USER: &str = "witgate";

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use insta::assert_snapshot;

    #[derive(Parser)]
    struct CommandLine {
        #[command(flatten)]
        args: KubeconfigArgs,
    }

    /// Goal: the whole file reads well and keeps to what was asked. Method: snapshots of three ways to prove oneself.
    #[test]
    fn a_kubeconfig_leads_to_each_cluster() {
        let gate = "--server https://gate.example/ ";
        assert_snapshot!(text(&format!("{gate} --token-file /run/token"), "https"), @r#"
        apiVersion: v1
        kind: Config
        preferences: {}
        current-context: "staging"
        clusters:
          - name: "staging"
            cluster:
              server: "https://gate.example/k8s/clusters/staging"
          - name: "arn:aws:eks:x"
            cluster:
              server: "https://gate.example/k8s/clusters/arn:aws:eks:x"
        users:
          - name: "witgate"
            user:
              tokenFile: "/run/token"
        contexts:
          - name: "staging"
            context:
              cluster: "staging"
              user: "witgate"
          - name: "arn:aws:eks:x"
            context:
              cluster: "arn:aws:eks:x"
              user: "witgate"
        "#);
        assert_snapshot!(text("--cluster staging --exec login --exec-arg --audience --exec-arg gate", "https"), @r#"
        apiVersion: v1
        kind: Config
        preferences: {}
        current-context: "staging"
        clusters:
          - name: "staging"
            cluster:
              server: "https://127.0.0.1:7007/k8s/clusters/staging"
        users:
          - name: "witgate"
            user:
              exec:
                apiVersion: client.authentication.k8s.io/v1
                interactiveMode: IfAvailable
                command: "login"
                args:
                  - "--audience"
                  - "gate"
        contexts:
          - name: "staging"
            context:
              cluster: "staging"
              user: "witgate"
        "#);
        assert_snapshot!(text("--cluster staging --token-env TOKEN", "http"), @r#"
        apiVersion: v1
        kind: Config
        preferences: {}
        current-context: "staging"
        clusters:
          - name: "staging"
            cluster:
              server: "http://127.0.0.1:7007/k8s/clusters/staging"
        users:
          - name: "witgate"
            user:
              token: "from \"env\""
        contexts:
          - name: "staging"
            context:
              cluster: "staging"
              user: "witgate"
        note: http://127.0.0.1:7007 is plain HTTP, over which kubectl sends no token: give the gate `tls`, or name an https address with --server
        "#);
    }

    /// Goal: what cannot work is said and not written. Method: one command line a row.
    #[test]
    fn what_cannot_work_is_refused() {
        check("--cluster nope", "--cluster `nope` is not in witgate.yaml: it has staging, arn:aws:eks:x");
        check("--token-env UNSET", "--token-env UNSET: the variable is not set, or empty");
        check(
            "--server gate.example",
            "--server is `gate.example`; it must be a URL such as `https://gate.example:7007`",
        );
        check("--server https://", "--server is `https://`; it must be a URL such as `https://gate.example:7007`");
        check(
            "--server https://me@x",
            "--server is `https://me@x`; it must be a URL such as `https://gate.example:7007`",
        );
        check(
            "--certificate-authority Cargo.toml",
            "--certificate-authority Cargo.toml: it holds no certificate in PEM",
        );
        assert!(parse("--token-env A --exec b").is_err(), "one credential at a time");
        assert!(parse("--exec-arg b").is_err(), "an argument of no command");
    }

    #[test]
    fn an_address_that_is_none_needs_a_server() {
        let listen = "0.0.0.0:7007".parse().unwrap();
        let error = server(None, GateAddress { listen, scheme: "https" }).unwrap_err();
        assert_eq!(
            error.to_string(),
            "`listen` is 0.0.0.0:7007, which is no address to connect to: give the gate's URL with --server"
        );
    }

    #[track_caller]
    fn check(arguments: &str, expected: &str) {
        assert_eq!(outcome(arguments, "https").unwrap_err().to_string(), expected);
    }

    fn text(arguments: &str, scheme: &'static str) -> String {
        let (kubeconfig, notes) = outcome(arguments, scheme).unwrap();
        notes.into_iter().fold(kubeconfig.to_string(), |text, note| format!("{text}note: {note}\n"))
    }

    fn outcome(arguments: &str, scheme: &'static str) -> anyhow::Result<(Kubeconfig, Vec<String>)> {
        let gate = GateAddress { listen: "127.0.0.1:7007".parse().unwrap(), scheme };
        let clusters = ["staging".to_owned(), "arn:aws:eks:x".to_owned()];
        let environment = |name: &str| (name == "TOKEN").then(|| "from \"env\"\n".to_owned());
        kubeconfig(&parse(arguments).unwrap(), gate, &clusters, &environment)
    }

    fn parse(arguments: &str) -> Result<KubeconfigArgs, clap::Error> {
        let words = ["witgate", "--config", "witgate.yaml"].into_iter().chain(arguments.split_whitespace());
        CommandLine::try_parse_from(words).map(|line| line.args)
    }
}
