//! The folder that the demo writes: a configuration, tokens, certificates, a kubeconfig and policies.
//!
//! Promise: it never touches a folder that is not a demo's, nor a file there that no demo wrote; two demos never share one.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use witgate_core::Redacted;

use super::certificates::ServerCertificate;
use super::policies::SamplePolicy;
use super::random;
use crate::kubeconfig::{Authority, ClusterEntry, ContextEntry, Kubeconfig, UserCredential, UserEntry, cluster_url};

/// A demo's folder; locked against other demos for as long as this lives.
#[derive(Debug)]
pub(crate) struct Playground {
    folder: PathBuf,
    was_there: bool,
    _lock: File,
}

/// A sample cluster, as the configuration needs it.
#[derive(Clone, Debug)]
pub(crate) struct SampleCluster {
    /// Its name.
    pub(crate) name: &'static str,
    /// Its API server's URL.
    pub(crate) url: String,
    /// Its API server's certificate authority, as PEM.
    pub(crate) authority: String,
    /// Its service account's token.
    pub(crate) token: Redacted<String>,
}

impl Playground {
    /// Makes the folder, or takes over that of an earlier demo.
    ///
    /// # Errors
    /// When it holds something else, or another demo uses it.
    pub(crate) fn open(folder: &Path) -> anyhow::Result<Self> {
        let folder = std::path::absolute(folder)?;
        let shown = folder.display();
        let marker = folder.join(MARKER);
        let was_there = marker.is_file();
        match fs::read_dir(&folder) {
            Ok(entries) => {
                if !was_there && entries.count() > 0 {
                    bail!("{shown} is not empty, and no demo made it: give another folder with --directory");
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let mut folders = fs::DirBuilder::new();
                folders.recursive(true).mode(0o700);
                folders.create(&folder).with_context(|| format!("cannot make {shown}"))?;
            }
            Err(error) => return Err(error).with_context(|| format!("cannot read {shown}")),
        }
        let lock = OpenOptions::new().create(true).append(true).open(&marker);
        let lock = lock.with_context(|| format!("cannot write {}", marker.display()))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                bail!("another demo is running in {shown}: stop it, or give another folder with --directory");
            }
            Err(TryLockError::Error(error)) => return Err(error).with_context(|| format!("cannot lock {shown}")),
        }
        let folder = folder.canonicalize().with_context(|| format!("cannot read {shown}"))?;
        Ok(Self { folder, was_there, _lock: lock })
    }

    /// The folder, absolute.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The gate's configuration.
    pub(crate) fn config_file(&self) -> PathBuf {
        self.folder.join("witgate.yaml")
    }

    /// Writes everything, and returns what should be said about it.
    pub(crate) fn write(
        &self,
        listen: SocketAddr,
        admin: SocketAddr,
        certificate: &ServerCertificate,
        clusters: &[SampleCluster],
        policies: &[SamplePolicy],
    ) -> anyhow::Result<Vec<String>> {
        let mut notes = Vec::new();
        if self.was_there {
            notes.push("the folder of an earlier demo was taken over; its tokens and certificates are new".to_owned());
        }
        for folder in [POLICIES, POLICIES_TO_TRY] {
            fs::create_dir_all(self.folder.join(folder))
                .with_context(|| format!("cannot make {}", self.folder.join(folder).display()))?;
        }
        self.file("gate-ca.crt", &certificate.authority)?;
        self.file("gate.crt", &certificate.certificate)?;
        self.file("gate.key", certificate.key.expose())?;
        let mut tokens =
            String::from("# Who calls: the people of this demo. The gate reads it again when it changes.\n");
        for (person, group) in PEOPLE {
            let token = random::token(person);
            self.file(&format!("{person}.token"), token.expose())?;
            tokens.push_str(&format!("- {{ token: {}, user: {person}, groups: [{group}] }}\n", token.expose()));
        }
        self.file("tokens.yaml", &tokens)?;
        for cluster in clusters {
            self.file(&format!("{}.token", cluster.name), cluster.token.expose())?;
        }
        self.file("witgate.yaml", &configuration(listen, admin, clusters))?;
        self.file("kubeconfig", &kubeconfig(listen, certificate, clusters).to_string())?;

        self.file(DECISIONS, "")?;
        notes.extend(self.forget_policies(policies)?);
        for policy in policies {
            self.bytes(&format!("{POLICIES_TO_TRY}/{}.wasm", policy.name), &policy.component)?;
            if policy.name == "allow-all" {
                self.bytes(&format!("{POLICIES}/{}.wasm", policy.name), &policy.component)?;
            }
        }
        self.file(&format!("{POLICIES_TO_TRY}/namespace-tenancy.yaml"), TENANCY)?;
        Ok(notes)
    }

    /// Takes the sample policies of an earlier demo out of the drop-in folder, and says what else is there.
    fn forget_policies(&self, policies: &[SamplePolicy]) -> anyhow::Result<Vec<String>> {
        let folder = self.folder.join(POLICIES);
        let mut notes = Vec::new();
        for entry in fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))? {
            let entry = entry?;
            let path = entry.path();
            let name = path.file_stem().unwrap_or_default();
            let extension = path.extension().unwrap_or_default();
            let is_ours =
                policies.iter().any(|policy| name == policy.name) && (extension == "wasm" || extension == "yaml");
            if is_ours {
                fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
            } else {
                let shown = entry.file_name();
                notes.push(format!("{POLICIES}/{} was there already and stays in force", shown.display()));
            }
        }
        notes.sort();
        Ok(notes)
    }

    fn file(&self, name: &str, text: &str) -> anyhow::Result<()> {
        self.bytes(name, text.as_bytes())
    }

    /// Replaces a file at once, readable by its owner only: most of them hold secrets.
    fn bytes(&self, name: &str, bytes: &[u8]) -> anyhow::Result<()> {
        let path = self.folder.join(name);
        let write = || {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?.write_all(bytes)
        };
        write().with_context(|| format!("cannot write {}", path.display()))
    }
}

fn configuration(listen: SocketAddr, admin: SocketAddr, clusters: &[SampleCluster]) -> String {
    let mut text = format!(
        "\
# The gate of this demo. While the demo runs, its sample clusters serve another gate too: change `listen` and `admin`,
# then `witgate serve --config witgate.yaml`.
listen: {listen:?}
admin: {admin:?}
tls: {{ certFile: gate.crt, keyFile: gate.key }}
authentication:
  - tokenFile: tokens.yaml
plugins: {{ directory: {POLICIES} }}
decisionLog: {{ file: {DECISIONS} }}
kubernetes: # as in Backstage's app-config
  clusterLocatorMethods:
    - type: config
      clusters:
"
    );
    for SampleCluster { name, url, authority, .. } in clusters {
        text.push_str(&format!(
            "        \
        - name: {name}
          url: {url}
          authProvider: serviceAccount
          serviceAccountToken: {{ $file: {name}.token }}
          caData: {}
",
            STANDARD.encode(authority)
        ));
    }
    text
}

fn kubeconfig(listen: SocketAddr, certificate: &ServerCertificate, clusters: &[SampleCluster]) -> Kubeconfig {
    let gate = format!("https://{listen}");
    let authority = Authority::Pem(certificate.authority.clone());
    Kubeconfig {
        clusters: clusters
            .iter()
            .map(|cluster| ClusterEntry {
                name: cluster.name.to_owned(),
                server: cluster_url(&gate, cluster.name),
                authority: authority.clone(),
            })
            .collect(),
        users: PEOPLE
            .iter()
            .map(|(person, _)| UserEntry {
                name: (*person).to_owned(),
                credential: UserCredential::TokenFile(PathBuf::from(format!("{person}.token"))),
            })
            .collect(),
        contexts: clusters
            .iter()
            .flat_map(|cluster| PEOPLE.iter().map(move |(person, _)| (cluster.name, person)))
            .map(|(cluster, person)| ContextEntry {
                name: format!("{cluster}-{person}"),
                cluster: cluster.to_owned(),
                user: (*person).to_owned(),
            })
            .collect(),
    }
}

/// Who may call, and the group of each.
pub(crate) const PEOPLE: [(&str, &str); 2] = [("jane", "platform"), ("joe", "team-a")];
/// The drop-in folder.
pub(crate) const POLICIES: &str = "policies";
/// Policies to drop in.
pub(crate) const POLICIES_TO_TRY: &str = "policies-to-try";
/// The decision log.
pub(crate) const DECISIONS: &str = "decisions.jsonl";
/// Tells a demo's folder from others.
const MARKER: &str = ".witgate-demo";

const TENANCY: &str = "\
# What namespace-tenancy.wasm opens, and to whom. It only opens: allow-all.wasm beside it would open everything.
settings:
  tenants:
    - groups: [platform]
      clusters: [\"*\"]
      namespaces: [\"*\"]
      actions: [\"*\"]
      listClusters: true
    - groups: [team-a]
      clusters: [staging]
      namespaces: [team-a]
      actions: [read, write, delete]
";

#[cfg(test)]
mod tests {
    use super::*;
    use std::borrow::Cow;
    use std::os::unix::fs::PermissionsExt as _;

    fn write(playground: &Playground) -> Vec<String> {
        let address: SocketAddr = "127.0.0.1:7007".parse().unwrap();
        let certificate = ServerCertificate::generate("test", &["localhost".to_owned()]).unwrap();
        let cluster = SampleCluster {
            name: "staging",
            url: "https://127.0.0.1:1".to_owned(),
            authority: certificate.authority.clone(),
            token: Redacted::new("t".to_owned()),
        };
        let policy = |name| SamplePolicy { name, component: Cow::Borrowed(b"wasm") };
        let policies = [policy("allow-all"), policy("read-only")];
        playground.write(address, address, &certificate, &[cluster], &policies).unwrap()
    }

    /// Goal: a second demo starts afresh and says what it left. Method: drop two files in, then open the folder again.
    #[test]
    fn a_former_folder_is_taken_over_and_the_rest_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/demo");
        let playground = Playground::open(&path).unwrap();
        assert_eq!(write(&playground), Vec::<String>::new());
        let token = fs::read_to_string(path.join("jane.token")).unwrap();
        fs::copy(path.join("policies-to-try/read-only.wasm"), path.join("policies/read-only.wasm")).unwrap();
        fs::write(path.join("policies/mine.wasm"), "").unwrap();

        let error = Playground::open(&path).unwrap_err().to_string();
        assert!(error.starts_with("another demo is running in "), "{error}");
        drop(playground);
        let notes = write(&Playground::open(&path).unwrap());
        assert_eq!(
            notes,
            [
                "the folder of an earlier demo was taken over; its tokens and certificates are new",
                "policies/mine.wasm was there already and stays in force",
            ]
        );
        let mut left: Vec<_> =
            fs::read_dir(path.join("policies")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["allow-all.wasm", "mine.wasm"]);
        assert_ne!(fs::read_to_string(path.join("jane.token")).unwrap(), token);
    }

    #[test]
    fn a_foreign_folder_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("thesis.tex"), "").unwrap();
        let error = Playground::open(folder.path()).unwrap_err().to_string();
        assert!(error.ends_with("is not empty, and no demo made it: give another folder with --directory"), "{error}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn no_secret_is_for_others_to_read() {
        let folder = tempfile::tempdir().unwrap();
        write(&Playground::open(folder.path()).unwrap());
        for secret in ["gate.key", "tokens.yaml", "jane.token", "joe.token", "staging.token"] {
            let mode = fs::metadata(folder.path().join(secret)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{secret}");
        }
    }
}
