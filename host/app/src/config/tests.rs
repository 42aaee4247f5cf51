//! What an operator reads when a configuration is wrong, each text as a snapshot; and what good ones become.

use std::fs;
use std::path::Path;

use super::*;

/// Goal: a problem names file, line, key, what was given and what would be right. Method: one wrong file a row,
/// through the real loader; what it says is in `snapshots/NAME.snap`, with the file above it.
#[test]
fn wrong_files_are_refused_with_words_that_help() {
    refused("empty-file", "");
    refused("only-comments", "# nothing yet\n");
    refused("yaml-syntax", "listen: 127.0.0.1:7007\ntls: certFile: x\n");
    refused("yaml-unclosed", "listen: 127.0.0.1:7007\nauthentication: [{ anonymous: { user: x }\n");
    refused("duplicate-key", "listen: 127.0.0.1:7007\nlisten: 127.0.0.1:7008\n");
    refused("two-documents", "listen: 127.0.0.1:7007\n---\nlisten: 127.0.0.1:7008\n");
    refused("too-deep", &format!("listen: {}{}\n", "[".repeat(40), "]".repeat(40)));
    refused("alias-bomb", &alias_bomb());
    refused("not-a-map", "- listen: 127.0.0.1:7007\n");
    refused("unknown-key", "lisen: 127.0.0.1:7007\n");
    refused("unknown-key-far", "bogus: 1\n");
    refused("backstage-app-config", "app: { title: Portal }\nbackend: { baseUrl: 'http://localhost:7007' }\n");
    refused("listen-without-port", "listen: localhost\n");
    refused("listen-number", "listen: 7007\n");
    refused("admin-on-listen", "listen: 127.0.0.1:7007\nadmin: 127.0.0.1:7007\n");
    refused("permission-text", "permission: { enabled: \"yes\" }\n");
    refused("limits", "upstream: { headerTimeoutMs: 0, idleTimeout: 5 }\ndrain: { deadlineMs: 10s }\n");
    refused("limits-listener", "listener: { connectionsMax: 0, streamsMax: many, headerReadTimeout: 5 }\n");
    refused(
        "limits-counts",
        "upstream: { inFlightMax: 0, poolIdleMax: many, identitiesMax: 1.5, poolIdleTimeout: 1 }\n",
    );
    refused("permission-empty", "permission:\n");
    refused("plugins-folder", "plugins: { directory: ./missing }\n");
    refused("decision-log-folder", "decisionLog: { file: missing/decisions.json }\n");
    refused(
        "decision-log-words",
        "decisionLog: { file: '-', onFull: wait, queueLines: 0, mask: { user: sha256, groups: [remove], bogus: hash }, maskKey: '${WORD}' }\n",
    );
    refused("decision-log-no-key", "decisionLog: { file: '-', mask: { user: hash, groups: remove } }\n");
    refused("admin-open", "admin: 0.0.0.0:7008\n");
    refused("admin-open-tls", "admin: { listen: '[::]:7008', tls: { certFile: cert.pem, keyFile: key.pem } }\n");
    refused("telemetry", "telemetry: { otlp: { endpoint: 'ftp://x', sampleRatio: 2, traces: 1, interval: 5 } }\n");
    refused("variable-unset", "listen: ${LISTEN}\nadmin: { $env: ADMIN }\n");
    refused("file-missing", "listen: { $file: listen.txt }\nadmin: { $file: x, $env: y }\n");
}

#[test]
fn wrong_authentication_is_refused() {
    refused("authentication-unknown", "authentication: [{ ldap: {} }, { tokenfile: x }, clientCertificate, {}]\n");
    refused(
        "jwt-both-keys",
        "authentication:\n  - jwt: { issuer: i, audiences: [a], jwksFile: jwks.json, jwksUrl: 'https://i/jwks' }\n",
    );
    refused("jwt-no-keys", "authentication:\n  - jwt: { issuer: i, audiences: [a] }\n");
    refused("jwt-no-issuer", "authentication:\n  - jwt: { audiences: [a], jwksFile: jwks.json }\n");
    refused(
        "jwt-no-audiences",
        "authentication:\n  - jwt: { issuer: i, jwksFile: jwks.json }\n  - jwt: { issuer: i, audiences: [], jwksFile: jwks.json }\n",
    );
    refused("jwt-file-missing", "authentication:\n  - jwt: { issuer: i, audiences: a, jwksFile: missing.json }\n");
    refused(
        "jwt-url",
        "authentication:\n  - jwt: { issuer: i, audiences: [a], jwksUrl: 'ftp://i/jwks', groupClaim: x }\n",
    );
    refused("anonymous-without-user", "authentication:\n  - anonymous: { groups: [a] }\n");
    refused("client-certificate-without-ca", "authentication:\n  - clientCertificate: {}\n");
}

#[test]
fn wrong_tls_files_are_refused() {
    refused("tls-without-key", "tls: { certFile: one.crt }\n");
    refused("tls-mismatch", "tls: { certFile: one.crt, keyFile: two.key }\n");
    refused("tls-swapped", "tls: { certFile: one.key, keyFile: one.crt }\n");
    refused("tls-missing", "tls: { certFile: missing.crt, keyFile: policies, clientCaFile: jwks.json }\n");
}

#[test]
fn wrong_clusters_are_refused() {
    refused("locator-missing", "kubernetes: { frontend: {} }\n");
    refused("locator-unknown", &locators("[{ type: bogus }, { type: gke, projectId: p }, { clusters: [] }, catalog]"));
    refused("cluster-without-provider", &clusters("{ name: one, url: 'https://one' }"));
    refused("cluster-without-name", &clusters("{ url: 'https://one', authProvider: aks }"));
    refused("cluster-without-url", &clusters("{ name: one, authProvider: aks }"));
    refused("cluster-name", &clusters("{ name: a/b, url: 'https://one', authProvider: aks }"));
    refused("cluster-name-number", &clusters("{ name: 1, url: 'https://one', authProvider: aks }"));
    refused("cluster-provider-name", &clusters("{ name: one, url: 'https://one', authProvider: a.b }"));
    refused("cluster-url", &clusters("{ name: one, url: not a url, authProvider: aks }"));
    refused("cluster-url-user", &clusters("{ name: one, url: 'https://jane:hunter2@one', authProvider: aks }"));
    refused("cluster-url-query", &clusters("{ name: one, url: 'https://one?token=hunter2', authProvider: aks }"));
    refused("cluster-url-variable", &clusters("{ name: one, url: 'https://${SECRET}:x', authProvider: aks }"));
    refused("cluster-ca-data", &clusters("{ name: one, url: 'https://one', authProvider: aks, caData: '!!!' }"));
    refused(
        "cluster-ca-data-pem",
        &clusters("{ name: one, url: 'https://one', authProvider: aks, caData: '-----BEGIN CERTIFICATE-----' }"),
    );
    refused(
        "cluster-ca-data-not-pem",
        &clusters("{ name: one, url: 'https://one', authProvider: aks, caData: aGVsbG8= }"),
    );
    refused("cluster-ca-file", &clusters("{ name: one, url: 'https://one', authProvider: aks, caFile: missing.crt }"));
    refused("cluster-ca-file-key", &clusters("{ name: one, url: 'https://one', authProvider: aks, caFile: one.key }"));
    refused("cluster-flag", &clusters("{ name: one, url: 'https://one', authProvider: aks, skipTLSVerify: perhaps }"));
    refused(
        "cluster-switch-misspelt",
        &clusters("{ name: one, url: 'https://one', authProvider: aks, allowClientAuthorisation: false }"),
    );
    let one = |keys: &str| clusters(&format!("{{ name: one, url: 'https://one', authProvider: aks, {keys} }}"));
    refused("cluster-http2", &one("disableHttp2: perhaps"));
    refused("cluster-http2-misspelt", &one("disableHTTP2: true"));
    refused("cluster-server-name", &one("tlsServerName: 'https://one:6443'"));
    refused("cluster-server-name-misspelt", &one("tlsServername: one.example"));
    refused("cluster-proxy-socks", &one("proxyUrl: 'socks5://proxy:1080'"));
    refused("cluster-proxy-https", &one("proxyUrl: 'https://jane:hunter2@proxy:3128'"));
    refused("cluster-proxy-path", &one("proxyUrl: 'http://proxy:3128/x'"));
    refused("cluster-proxy-password", &one("proxyUrl: 'http://jane:%zz@proxy'"));
    refused("cluster-proxy-variable", &one("proxyUrl: 'http://${SECRET}:x'"));
    refused("cluster-proxy-misspelt", &one("proxyURL: 'http://proxy:3128'"));
    refused("cluster-not-in-a-pod", &clusters("{ name: one, url: 'https://one', authProvider: serviceAccount }"));
    refused(
        "cluster-token",
        &clusters(
            "{ name: one, url: 'https://one', authProvider: serviceAccount, serviceAccountToken: 'hunter2 hunter2' }",
        ),
    );
    refused(
        "cluster-token-kind",
        &clusters("{ name: one, url: 'https://one', authProvider: serviceAccount, serviceAccountToken: [hunter2] }"),
    );
    refused(
        "cluster-token-number",
        &clusters("{ name: one, url: 'https://one', authProvider: serviceAccount, serviceAccountToken: 31337 }"),
    );
    refused(
        "cluster-metadata",
        &clusters("{ name: one, url: 'https://one', authProvider: aks, authMetadata: { a: [hunter2] } }"),
    );
    refused(
        "cluster-everything",
        &clusters("{ name: '', url: x, skipTLSVerify: 1, caData: '!', authMetadata: hunter2 }"),
    );
    refused(
        "duplicate-cluster",
        &clusters(
            "{ name: one, url: 'https://one', authProvider: aks }\n        - { name: one, url: 'https://two', authProvider: aks }",
        ),
    );
    refused(
        "duplicate-cluster-two-locators",
        "\
kubernetes:
  clusterLocatorMethods:
    - type: config
      clusters:
        - { name: local, url: 'https://one', authProvider: aks }
        - { name: user@one, url: 'https://one', authProvider: aks }
    - type: localKubectlProxy
    - { type: kubeconfig, file: kubeconfig }
",
    );
}

#[test]
fn wrong_kubeconfigs_are_refused() {
    refused("kubeconfig-missing", &locators("[{ type: kubeconfig, file: ~/.kube/config }, { type: kubeconfig }]"));
    refused("kubeconfig-users", &locators("[{ type: kubeconfig, file: kubeconfig-users }]"));
    refused("kubeconfig-broken", &locators("[{ type: kubeconfig, file: kubeconfig-broken, context: [x] }]"));
    refused("kubeconfig-context", &locators("[{ type: kubeconfig, file: kubeconfig, contexts: [nobody@one] }]"));
    refused("kubeconfig-ways", &locators("[{ type: kubeconfig, file: kubeconfig-ways }]"));
    refused("kubeconfig-is-a-token", &locators("[{ type: kubeconfig, file: token.txt }]"));
}

/// Goal: what stands in Backstage's section is read as Backstage reads it. Method: a section with most of what a
/// real one has; what becomes of it, notes included, is a snapshot.
#[test]
fn backstages_section_is_read_as_it_is() {
    read("backstage", BACKSTAGE);
}

#[test]
fn every_context_of_a_kubeconfig_is_a_cluster() {
    read("kubeconfig", &format!("{TOP}{}", locators("[{ type: kubeconfig, file: '${HOME}/kubeconfig' }]")));
    let one = locators("[{ type: kubeconfig, file: kubeconfig-users, contexts: [good] }]");
    read("kubeconfig-chosen", &format!("{TOP}{one}"));
}

#[test]
fn a_full_file_of_our_own_is_read() {
    read("full", FULL);
    read("smallest", "authentication: []\n");
}

/// Goal: without a token of its own, a serviceAccount cluster is the pod's. Method: a mount in the test's folder.
#[test]
fn in_a_pod_the_api_server_is_the_pods() {
    let folder = Folder::new();
    let file = folder.write(
        "witgate.yaml",
        &clusters("{ name: one, url: 'https://other', authProvider: serviceAccount, skipTLSVerify: true }"),
    );
    let environment = |name: &str| match name {
        "KUBERNETES_SERVICE_HOST" => Some("fd00::1".to_owned()),
        "KUBERNETES_SERVICE_PORT" => Some("443".to_owned()),
        _ => None,
    };
    let config = Config::load_with_pod_mount(&file, &environment, &folder.path().join("mount")).unwrap();
    let cluster = config.clusters.first().unwrap();
    assert_eq!(cluster.details.server, "https://[fd00::1]:443");
    assert!(!cluster.details.skip_tls_verify, "the pod's CA is known");
    assert_eq!(cluster.details.ca_data, Some(fs::read_to_string(folder.path().join("one.crt")).unwrap()));
    let token = SecretSource::File(folder.path().join("mount/token"));
    assert_eq!(cluster.secrets, BTreeMap::from([("pod/token".to_owned(), token)]));
    assert!(config.notes.iter().any(|note| note.contains("`url` is not used")), "{:?}", config.notes);
}

/// Goal: a limit that is given is taken, and the others keep their defaults. Method: some of each section.
#[test]
fn limits_are_read() {
    let folder = Folder::new();
    let file = folder.write("witgate.yaml", "upstream: { headerTimeoutMs: 250 }\ndrain: { deadlineMs: 5000, delayMs: 0 }\nupgrade: { idleTimeoutMs: 70, lifetimeMs: 80, halfCloseGraceMs: 90 }\nlistener: { connectionsMax: 3, streamsMax: 7, idleTimeoutMs: 9, handshakeTimeoutMs: 8, headerReadTimeoutMs: 6 }\n");
    let limits = Config::load(&file, &|_| None).unwrap().limits;
    let defaults = witgate_proxy::limits::Limits::default();
    assert_eq!(limits.header_timeout, std::time::Duration::from_millis(250));
    assert_eq!(
        (limits.drain_deadline, limits.drain_delay),
        (std::time::Duration::from_secs(5), std::time::Duration::ZERO)
    );
    let of_upgrades = [limits.upgrade_idle_timeout, limits.upgrade_lifetime, limits.half_close_grace];
    assert_eq!(of_upgrades.map(|limit| limit.as_millis()), [70, 80, 90]);
    assert_eq!(limits.connect_timeout, defaults.connect_timeout);
    assert_eq!((limits.connections_max, limits.streams_max), (3, 7));
    let waits = [limits.header_read_timeout, limits.handshake_timeout, limits.idle_timeout];
    assert_eq!(waits.map(|wait| wait.as_millis()), [6, 8, 9]);
    let delayed = Config::load(&folder.write("witgate.yaml", "drain: { delayMs: 60000 }\n"), &|_| None).unwrap();
    assert_eq!(delayed.limits.drain_delay, std::time::Duration::from_secs(60));
    assert!(Config::load(&folder.write("witgate.yaml", "drain: { delayMs: 60001 }\n"), &|_| None).is_err());
    let counts = "upstream: { inFlightMax: 1, poolIdleMax: 2, identitiesMax: 3, poolIdleTimeoutMs: 4 }\n";
    let limits = Config::load(&folder.write("witgate.yaml", counts), &|_| None).unwrap().limits;
    assert_eq!((limits.in_flight_max, limits.pool_idle_max, limits.identities_max), (1, 2, 3));
    assert_eq!(limits.pool_idle_timeout, std::time::Duration::from_millis(4));
}

/// Goal: a file that is too large, or none, is refused before it is read. Method: rows of paths.
#[test]
fn files_are_read_with_a_limit() {
    let folder = Folder::new();
    let large = folder.write("large.yaml", &"#".repeat(1024 * 1024 + 1));
    let check = |path: &Path, expected: &str| {
        let errors = Config::load(path, &|_| None).unwrap_err();
        assert_eq!(errors.problems(), [format!("{}: {expected}", path.display())]);
    };
    check(&large, "is larger than 1024 KiB");
    check(folder.path(), "is a folder; it must be a file");
    check(&folder.path().join("none.yaml"), "does not exist");
    check(Path::new("/dev/zero"), "is not a regular file");
}

/// Goal: an ignored key needs no variable. Method: unset ones under keys that Backstage has and we do not serve.
#[test]
fn variables_under_ignored_keys_may_be_unset() {
    let folder = Folder::new();
    let yaml = clusters(
        "{ name: one, url: 'https://one', authProvider: aks, dashboardParameters: { a: '${NONE}' }, dashboardApp: { $file: none } }",
    );
    let file = folder.write("witgate.yaml", &yaml);
    Config::load(&file, &|_| None).unwrap();
}

#[track_caller]
fn refused(name: &str, yaml: &str) {
    let folder = Folder::new();
    let file = folder.write("witgate.yaml", yaml);
    let errors = Config::load_with_pod_mount(&file, &folder.environment(), Path::new("none")).expect_err(name);
    snapshot(&format!("refused-{name}"), yaml, &folder.without_path(&errors.to_string()));
}

#[track_caller]
fn read(name: &str, yaml: &str) {
    let folder = Folder::new();
    let file = folder.write("witgate.yaml", yaml);
    let config = Config::load_with_pod_mount(&file, &folder.environment(), Path::new("none")).unwrap();
    // The limits have a test of their own, and their defaults are not the configuration's.
    let (mut text, mut within_limits) = (String::new(), false);
    for line in format!("{config:#?}").lines() {
        within_limits |= line == "    limits: Limits {";
        if !within_limits {
            text.push_str(line);
            text.push('\n');
        }
        within_limits &= line != "    },";
    }
    snapshot(&format!("read-{name}"), yaml, &folder.without_path(&text));
}

#[track_caller]
fn snapshot(name: &str, yaml: &str, text: &str) {
    // What the files and variables of the test hold in secret.
    for secret in ["hunter2", "31337", "PRIVATE KEY-----\n"] {
        assert!(!text.contains(secret), "{name} shows a secret: {text}");
    }
    let mut settings = insta::Settings::new();
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.set_description(if yaml.len() < 4096 { yaml } else { "a long file" });
    settings.bind(|| insta::assert_snapshot!(name, text));
}

fn locators(list: &str) -> String {
    format!("kubernetes:\n  clusterLocatorMethods: {list}\n")
}

fn clusters(list: &str) -> String {
    format!("kubernetes:\n  clusterLocatorMethods:\n    - type: config\n      clusters:\n        - {list}\n")
}

/// A list of ten, in a list of ten, in a list of ten, …
fn alias_bomb() -> String {
    let mut yaml = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..9 {
        let inner = vec![format!("*a{}", level - 1); 10].join(", ");
        yaml.push_str(&format!("a{level}: &a{level} [{inner}]\n"));
    }
    yaml
}

/// A folder with files for configurations to name: two certificates with their keys, kubeconfigs, a pod's mount.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        fs::create_dir(folder.path().join("policies")).unwrap();
        fs::create_dir(folder.path().join("mount")).unwrap();
        let (certificate, key) = pair(1);
        folder.write("one.crt", &certificate);
        folder.write("one.key", &key);
        folder.write("two.key", &pair(2).1);
        folder.write("mount/ca.crt", &certificate);
        folder.write("mount/token", "hunter2");
        folder.write("token.txt", "hunter2\n");
        folder.write("jwks.json", r#"{"keys":[]}"#);
        folder.write("kubeconfig", KUBECONFIG);
        folder.write("kubeconfig-users", KUBECONFIG_USERS);
        folder.write("kubeconfig-ways", KUBECONFIG_WAYS);
        folder.write("kubeconfig-broken", KUBECONFIG_BROKEN);
        folder
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path().join(name);
        fs::write(&path, text).unwrap();
        path
    }

    fn environment(&self) -> impl Fn(&str) -> Option<String> {
        let home = self.path().display().to_string();
        move |name| match name {
            "HOME" => Some(home.clone()),
            "SECRET" => Some("hunter2".to_owned()),
            "REGION" => Some("eu".to_owned()),
            _ => None,
        }
    }

    /// The text as it reads wherever the folder stands, and whatever the certificates are.
    fn without_path(&self, text: &str) -> String {
        let certificate = fs::read_to_string(self.path().join("one.crt")).unwrap();
        text.replace(&format!("{certificate:?}"), "[one.crt]").replace(&self.path().display().to_string(), "[folder]")
    }
}

/// A certificate with its key, the same at each call: making them for every row would take long.
fn pair(number: usize) -> (String, String) {
    static PAIRS: std::sync::OnceLock<Vec<(String, String)>> = std::sync::OnceLock::new();
    let make = |_| {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate =
            rcgen::CertificateParams::new(vec!["gate.example".to_owned()]).unwrap().self_signed(&key).unwrap();
        (certificate.pem(), key.serialize_pem())
    };
    PAIRS.get_or_init(|| (1..=2).map(make).collect()).get(number - 1).cloned().unwrap()
}

const TOP: &str = "listen: 127.0.0.1:7007\nauthentication: []\nplugins: { directory: policies }\n";

const FULL: &str = "\
listen: '[::1]:0'
tls: { certFile: one.crt, keyFile: one.key, clientCaFile: one.crt }
admin: 127.0.0.1:0
authentication:
  - jwt: { issuer: 'https://backstage.example', audiences: [backstage], jwksUrl: 'https://backstage.example/jwks.json' }
  - jwt: { issuer: i, audiences: [a, b], jwksFile: jwks.json, usernameClaim: email, groupsClaim: groups }
  - tokenFile: tokens.yaml
  - clientCertificate: {}
  - anonymous: { user: 'user:default/guest', groups: [guests] }
permission: { enabled: false }
plugins: { directory: ./policies, cacheDirectory: ./cache }
decisionLog: { file: - }
kubernetes:
  clusterLocatorMethods: [{ type: localKubectlProxy }]
";

const BACKSTAGE: &str = "\
listen: 127.0.0.1:7007
authentication: [{ anonymous: { user: guest } }]
plugins: { directory: policies }
decisionLog: { file: decisions.json }
kubernetes:
  frontend:
    podDelete: { enabled: true }
  serviceLocatorMethod:
    type: 'multiTenant'
  objectTypes: [pods, services]
  apiVersionOverrides: { cronjobs: v1beta1 }
  customResources: [{ group: argoproj.io, apiVersion: v1alpha1, plural: rollouts }]
  clusterLocatorMethods:
    - type: 'config'
      clusters:
        - url: https://${REGION}.one.example:6443
          name: one
          title: 'Cluster One'
          authProvider: 'serviceAccount'
          skipTLSVerify: false
          skipMetricsLookup: true
          serviceAccountToken: ${SECRET}
          dashboardUrl: http://127.0.0.1:64713
          dashboardApp: standard
          caFile: one.crt
          customResources: []
        - url: http://127.0.0.1:9999
          name: two
          authProvider: 'google'
          skipTLSVerify: 'yes'
          serviceAccountToken: { $file: ./token.txt }
        - url: https://three.example/k8s/clusters/c-1
          name: three
          authMetadata:
            kubernetes.io/auth-provider: oidc
            kubernetes.io/oidc-token-provider: okta
            serviceAccountToken: { $env: SECRET }
            audience: 7
        - url: ${URL:-https://four.example}
          name: arn:aws:eks:eu-west-1:1:cluster-four
          authProvider: aws
          assumeRole: role
          externalId: $${id}
          oidcTokenProvider: gitlab
          caDta: x
          proxyUrl: http://jane:${SECRET}@proxy.example:3128
          tlsServerName: kubernetes.default.svc
          disableHttp2: true
          allowImpersonation: true
          allowClientAuthorization: false
    - type: localKubectlProxy
";

const KUBECONFIG: &str = "\
apiVersion: v1
kind: Config
preferences: {}
current-context: user@one
clusters:
  - { name: one, cluster: { server: 'https://one.example:6443', certificate-authority: one.crt, tls-server-name: x, extensions: [] } }
  - { name: two, cluster: { server: 'https://two.example:6443', insecure-skip-tls-verify: true, proxy-url: 'http://jane:hunter2@p', disable-compression: true } }
contexts:
  - { name: user@one, context: { cluster: one, user: token, namespace: dev } }
  - { name: user@two, context: { cluster: two, user: files } }
users:
  - { name: token, user: { token: 'hunter2${literal}' } }
  - { name: files, user: { tokenFile: token.txt, client-certificate: one.crt, client-key: one.key } }
";

const KUBECONFIG_USERS: &str = "\
clusters:
  - { name: one, cluster: { server: 'https://one.example:6443' } }
contexts:
  - { name: good, context: { cluster: one, user: good } }
  - { name: exec, context: { cluster: one, user: exec } }
  - { name: password, context: { cluster: one, user: password } }
  - { name: provider, context: { cluster: one, user: provider } }
  - { name: as, context: { cluster: one, user: as } }
  - { name: nothing, context: { cluster: one, user: nothing } }
  - { name: half, context: { cluster: one, user: half } }
  - { name: mismatch, context: { cluster: one, user: mismatch } }
  - { name: data, context: { cluster: one, user: data } }
users:
  - { name: good, user: { token: hunter2 } }
  - { name: exec, user: { exec: { command: aws } } }
  - { name: password, user: { username: jane, password: hunter2 } }
  - { name: provider, user: { auth-provider: { name: gcp } } }
  - { name: as, user: { token: hunter2, as: admin } }
  - { name: nothing, user: {} }
  - { name: half, user: { client-certificate: one.crt } }
  - { name: mismatch, user: { client-certificate: one.crt, client-key: two.key } }
  - { name: data, user: { client-certificate: one.crt, client-key-data: hunter2 } }
";

const KUBECONFIG_WAYS: &str = "\
clusters:
  - { name: one, cluster: { server: 'https://one.example:6443', tls-server-name: 'a b', proxy-url: 'socks5://p:1' } }
contexts:
  - { name: one, context: { cluster: one, user: u } }
users:
  - { name: u, user: { token: hunter2 } }
";

const KUBECONFIG_BROKEN: &str = "\
clusters:
  - { name: one, cluster: { server: one.example, certificate-authority-data: x } }
  - { name: two }
contexts:
  - { name: a b, context: { cluster: one, user: u } }
  - { name: c, context: { cluster: nowhere, user: nobody } }
  - { name: d, context: { cluster: one } }
users:
  - { name: u, user: { tokenFile: missing.txt } }
";
