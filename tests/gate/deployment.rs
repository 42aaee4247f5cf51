//! What `deploy/` holds: an API server takes every object of the manifests and of the chart, and the configuration in them is good.
//!
//! The rig's API server is of 1.20: `autoscaling/v2` and `policy/v1`, which came later, are shown to it as the beta versions of the same
//! shape. As they are written they are held against the schemas of a newer release, where `kubernetes-validate` (of PyPI) is on the
//! machine. The chart is rendered where `helm` is.

use std::fs;
use std::process::Command;

use witgate_tests::artifacts::{guest, plugin_cache, repository, witgate};
use witgate_tests::authority::Authority;
use witgate_tests::kube_rig;
use witgate_tests::kubectl::Kubectl;
use witgate_tests::process::{Ended, Process};

/// kubectl as the rig's administrator, or the end of the test.
macro_rules! kubectl_or_skip {
    () => {
        match administrator() {
            Ok(kubectl) => kubectl,
            Err(why) => return println!("skipped: {why}"),
        }
    };
}

/// A command's output, or the end of the test where the command is not on the machine.
macro_rules! output_or_skip {
    ($program:expr, $arguments:expr) => {
        match succeed($program, $arguments).await {
            Some(output) => output,
            None => return println!("skipped: there is no `{}`", $program),
        }
    };
}

#[tokio::test]
async fn the_manifests_are_taken_created_and_deleted() {
    let kubectl = kubectl_or_skip!();
    install_service_monitors(&kubectl).await;
    for (folder, kinds) in [("deploy/kubernetes", 9), ("deploy/kubernetes-with-metrics", 11)] {
        let folder = repository().join(folder);
        let manifests = kubectl.succeed(&["kustomize", folder.to_str().unwrap()]).await;
        taken_created_and_deleted(&kubectl, &manifests, "witgate", kinds).await;
    }
}

#[tokio::test]
async fn the_chart_is_taken_created_and_deleted() {
    let kubectl = kubectl_or_skip!();
    install_service_monitors(&kubectl).await;
    kubectl.succeed(&["create", "namespace", "charted"]).await;
    for (values, kinds) in [(&[][..], 8), (&EVERYTHING[..], 11)] {
        let rendered = output_or_skip!("helm", &template(values));
        taken_created_and_deleted(&kubectl, &rendered, "charted", kinds).await;
    }
}

/// What the gate may do in its own cluster is what every caller may do there at most.
#[tokio::test]
async fn the_local_cluster_may_be_read_but_for_secrets() {
    let kubectl = kubectl_or_skip!();
    let file = repository().join("deploy/kubernetes/rbac.yaml");
    let text = fs::read_to_string(file).unwrap().replace("name: witgate-local-cluster", "name: witgate-rbac-test");
    let file = kubectl.file("rbac.yaml", &text);
    kubectl.succeed(&["apply", "-f", &file]).await;
    for (words, allowed) in [
        (["list", "pods"], "yes"),
        (["watch", "deployments.apps"], "yes"),
        (["get", "pods/log"], "yes"),
        (["get", "secrets"], "no"),
        (["create", "pods"], "no"),
        (["create", "pods/exec"], "no"),
        (["list", "clusterrolebindings"], "no"),
        (["impersonate", "users"], "no"),
    ] {
        let asked = ["auth", "can-i", words[0], words[1], "-n", "dev", "--as=system:serviceaccount:witgate:witgate"];
        assert_eq!(kubectl.run(&asked).await.stdout.trim(), allowed, "{words:?}");
    }
    kubectl.succeed(&["delete", "-f", &file]).await;
}

#[tokio::test]
async fn manifests_and_chart_hold_to_the_schemas_of_new_releases() {
    let mut all = Vec::new();
    if let Ok(kubectl) = administrator() {
        for folder in ["deploy/kubernetes", "deploy/kubernetes-with-metrics"] {
            all.push(kubectl.succeed(&["kustomize", repository().join(folder).to_str().unwrap()]).await);
        }
    }
    for values in [&[][..], &EVERYTHING[..]] {
        all.extend(succeed("helm", &template(values)).await);
    }
    if all.is_empty() {
        return println!("skipped: there is neither the rig nor `helm`");
    }
    let folder = tempfile::tempdir().unwrap();
    for (index, text) in all.iter().enumerate() {
        let file = folder.path().join(format!("{index}.yaml"));
        fs::write(&file, without_comments(text)).unwrap();
        let file = file.to_str().unwrap();
        for version in ["1.29", "1.33"] {
            output_or_skip!("kubernetes-validate", &["-k", version, "--strict", "--quiet", file]);
        }
    }
}

/// A start with the manifests' and with the chart's `witgate.yaml` refuses nothing.
#[tokio::test]
async fn the_configuration_in_them_is_good() {
    let mut all = vec![
        fs::read_to_string(repository().join("deploy/kubernetes/configmap.yaml")).unwrap(),
        fs::read_to_string(repository().join("deploy/kubernetes-with-metrics/configmap.yaml")).unwrap(),
    ];
    for values in [&[][..], &EVERYTHING[..]] {
        all.extend(succeed("helm", &[&template(values)[..], &["-s", "templates/configmap.yaml"]].concat()).await);
    }
    let authority = Authority::new("gate");
    let server = authority.server();
    for text in all {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for name in ["tls", "admin", "tokens", "plugins"] {
            fs::create_dir(path(name)).unwrap();
        }
        for name in ["tls/tls.crt", "admin/tls.crt"] {
            fs::write(path(name), server.certificate_pem()).unwrap();
        }
        for name in ["tls/tls.key", "admin/tls.key"] {
            fs::write(path(name), server.key_pem()).unwrap();
        }
        for name in ["tls/client-ca.crt", "admin/ca.crt"] {
            fs::write(path(name), authority.pem()).unwrap();
        }
        fs::write(path("tokens/tokens.yaml"), format!("- {{ sha256: {}, user: jane }}\n", "0".repeat(64))).unwrap();
        fs::copy(guest("policies/allow-all"), path("plugins/allow-all.wasm")).unwrap();
        // The test runs in no pod.
        let configuration = witgate_yaml(&text)
            .replace("/var/lib/witgate/plugins", "plugins")
            .replace("/var/cache/witgate/plugins", plugin_cache().to_str().unwrap())
            .replace("authProvider: serviceAccount", "authProvider: anonymous");
        fs::write(path("witgate.yaml"), &configuration).unwrap();
        let mut command = Command::new(witgate());
        let ended = Process::run(command.arg("check").arg("--config").arg(path("witgate.yaml"))).await;
        assert_eq!(ended.code, Some(0), "{}\n{configuration}", ended.stderr);
        assert!(ended.stdout.starts_with("ok: 1 cluster, 1 plug-in in "), "{}", ended.stdout);
    }
}

/// What would not work is refused when the chart is rendered, with what to do.
#[tokio::test]
async fn the_chart_refuses_what_would_not_work() {
    for (value, why) in [
        ("serviceMonitor.enabled=true", "needs `admin.mode: mtls`"),
        ("terminationGracePeriodSeconds=30", "must be more than `drain.delayMs` and `drain.deadlineMs` together"),
        ("config.listen=0.0.0.0:1", "`config.listen` is the chart's to set"),
        ("config.plugins.directory=/x", "`config.plugins.directory` is the chart's to set"),
        ("imge.tag=1", "additional properties 'imge' not allowed"),
        ("admin.mode=open", "value must be one of 'loopback', 'mtls'"),
        ("image.digest=latest", "does not match pattern"),
    ] {
        let Some(ended) = run("helm", &template(&["--set", value])).await else {
            return println!("skipped: there is no `helm`");
        };
        assert_ne!(ended.code, Some(0), "{value}: {}", ended.stdout);
        assert!(ended.stderr.contains(why), "{value}: {}", ended.stderr);
    }
}

/// A file that is missing in the image would only be missed where it is deployed.
#[tokio::test]
async fn what_the_image_holds_is_enough_to_run() {
    let root = tempfile::tempdir().unwrap();
    let binary = witgate();
    let lay_out = repository().join("deploy/image-root.sh");
    let laid_out = Process::run(Command::new(lay_out).arg(&binary).arg(root.path())).await;
    assert_eq!(laid_out.code, Some(0), "{}", laid_out.stderr);
    for shell in ["bin/sh", "usr/bin/sh", "bin/busybox"] {
        assert!(!root.path().join(shell).exists(), "{shell}");
    }
    let authorities = fs::read_to_string(root.path().join("etc/ssl/certs/ca-certificates.crt")).unwrap();
    assert!(authorities.contains("BEGIN CERTIFICATE"));
    // As the image runs it: nobody's user, and nothing that can be written.
    let script = r#"mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" && exec chroot --userspec=65532:65532 "$1" /usr/local/bin/witgate probe --admin 127.0.0.1:1"#;
    let mut command = Command::new("unshare");
    let words = ["--mount", "sh", "-c", script, "sh"];
    let ended =
        Process::run(command.args(words).arg(root.path()).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"))
            .await;
    if ended.stderr.contains("unshare failed") || ended.stderr.contains("must be superuser") {
        return println!("skipped: no file systems may be mounted here: {}", ended.stderr);
    }
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.stderr.starts_with("error: cannot ask 127.0.0.1:1;"), "{}", ended.stderr);
}

#[tokio::test]
async fn the_dockerfile_and_the_unit_satisfy_their_linters() {
    let dockerfile = repository().join("deploy/Dockerfile");
    match succeed("hadolint", &["--failure-threshold", "warning", dockerfile.to_str().unwrap()]).await {
        Some(_) => {}
        None => println!("skipped: there is no `hadolint`"),
    }
    let unit = fs::read_to_string(repository().join("deploy/systemd/witgate.service")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("witgate.service");
    fs::write(&file, unit.replace("/usr/local/bin/witgate", witgate().to_str().unwrap())).unwrap();
    let file = file.to_str().unwrap();
    let Some(verified) = run("systemd-analyze", &["verify", file]).await else {
        return println!("skipped: there is no `systemd-analyze`");
    };
    assert_eq!((verified.code, verified.stderr.as_str()), (Some(0), ""), "{}", verified.stdout);
    // In tenths: 20 of 100.
    output_or_skip!("systemd-analyze", &["security", "--offline=true", "--threshold=20", "--no-pager", file]);
}

/// Applies `manifests` by dry run and in earnest, finds all objects, and deletes them.
async fn taken_created_and_deleted(kubectl: &Kubectl, manifests: &str, namespace: &str, objects: usize) {
    let manifests = manifests
        .replace("apiVersion: autoscaling/v2\n", "apiVersion: autoscaling/v2beta2\n")
        .replace("apiVersion: policy/v1\n", "apiVersion: policy/v1beta1\n");
    let file = kubectl.file(&format!("{namespace}.yaml"), &manifests);
    // A dry run finds no namespace that it would make itself.
    if kubectl.run(&["get", "namespace", namespace]).await.code != Some(0) {
        kubectl.succeed(&["create", "namespace", namespace]).await;
    }
    let tried = kubectl.succeed(&["apply", "--dry-run=server", "-f", &file]).await;
    assert_eq!(tried.lines().filter(|line| line.ends_with("(server dry run)")).count(), objects, "{tried}");
    let created = kubectl.succeed(&["apply", "-f", &file]).await;
    assert_eq!(created.lines().count(), objects, "{created}");
    let found = kubectl.succeed(&["get", "-f", &file, "-o", "name"]).await;
    assert_eq!(found.lines().count(), objects, "{found}");
    let settings = kubectl.succeed(&["get", "deployment", "witgate", "-n", namespace, "-o", "jsonpath={.spec}"]).await;
    for kept in ["\"readOnlyRootFilesystem\":true", "\"runAsNonRoot\":true", "\"drop\":[\"ALL\"]", "\"RuntimeDefault\""]
    {
        assert!(settings.contains(kept), "{kept}: {settings}");
    }
    kubectl.succeed(&["delete", "-f", &file, "--timeout=20s"]).await;
    let left = kubectl.run(&["get", "-f", &file, "-o", "name", "--ignore-not-found"]).await;
    assert_eq!(left.stdout, "", "{}", left.stderr);
}

/// As much of the Prometheus Operator's ServiceMonitor as ours uses: what is not here is pruned, and a field that is wrong refused.
async fn install_service_monitors(kubectl: &Kubectl) {
    let file = kubectl.file("servicemonitors.yaml", SERVICE_MONITORS);
    kubectl.succeed(&["apply", "-f", &file]).await;
    let name = "crd/servicemonitors.monitoring.coreos.com";
    kubectl.succeed(&["wait", "--for=condition=established", name, "--timeout=20s"]).await;
}

fn administrator() -> Result<Kubectl, &'static str> {
    let rig = kube_rig::shared()?;
    Kubectl::new(rig.url(), &rig.certificate_authority(), rig.token_of("admin"))
}

/// `helm template` of the chart, with further words.
fn template<'a>(words: &[&'a str]) -> Vec<&'a str> {
    static CHART: std::sync::LazyLock<String> =
        std::sync::LazyLock::new(|| repository().join("deploy/helm/witgate").to_str().unwrap().to_owned());
    [&["template", "witgate", CHART.as_str(), "-n", "charted"], words].concat()
}

/// What a command prints that must succeed; None where it is not on the machine.
async fn succeed(program: &str, arguments: &[&str]) -> Option<String> {
    let ended = run(program, arguments).await?;
    assert_eq!(ended.code, Some(0), "{program} {}: {}{}", arguments.join(" "), ended.stdout, ended.stderr);
    Some(ended.stdout)
}

async fn run(program: &str, arguments: &[&str]) -> Option<Ended> {
    let present = Command::new(program).arg("--help").output().is_ok();
    if present { Some(Process::run(Command::new(program).args(arguments)).await) } else { None }
}

/// The lines under `witgate.yaml: |`, without their indentation.
fn witgate_yaml(config_map: &str) -> String {
    let lines = config_map.lines().skip_while(|line| line.trim() != "witgate.yaml: |").skip(1);
    let text: Vec<_> = lines.map_while(|line| line.strip_prefix("    ")).collect();
    assert!(!text.is_empty(), "{config_map}");
    text.join("\n") + "\n"
}

/// kubernetes-validate takes a document of comments alone for one without a kind.
fn without_comments(text: &str) -> String {
    text.lines().filter(|line| !line.starts_with('#')).map(|line| format!("{line}\n")).collect()
}

/// Values that turn everything on.
const EVERYTHING: [&str; 22] = [
    "--set",
    "admin.mode=mtls",
    "--set",
    "serviceMonitor.enabled=true,serviceMonitor.labels.release=prometheus",
    "--set",
    "tls.clientCaKey=ca.crt",
    "--set",
    "plugins.configMaps={witgate-plugins}",
    "--set-string",
    "plugins.files.read-only\\.yaml=mode: shadow",
    "--set",
    "config.plugins.keptGenerations=7",
    "--set",
    "service.type=LoadBalancer,service.annotations.team=platform,podLabels.team=platform,podAnnotations.team=platform",
    "--set-json",
    r#"networkPolicy.from=[{"podSelector":{}}]"#,
    "--set-json",
    r#"env=[{"name":"AWS_REGION","value":"eu-west-1"}]"#,
    "--set-json",
    r#"tolerations=[{"key":"dedicated","operator":"Exists"}]"#,
    "--set",
    "nodeSelector.pool=gates,priorityClassName=system-cluster-critical,imagePullSecrets[0].name=pull,envFrom[0].secretRef.name=clouds",
];

const SERVICE_MONITORS: &str = r#"
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: { name: servicemonitors.monitoring.coreos.com }
spec:
  group: monitoring.coreos.com
  scope: Namespaced
  names: { plural: servicemonitors, singular: servicemonitor, kind: ServiceMonitor, listKind: ServiceMonitorList }
  versions:
    - name: v1
      served: true
      storage: true
      schema:
        openAPIV3Schema:
          type: object
          required: [spec]
          properties:
            spec:
              type: object
              required: [selector, endpoints]
              properties:
                selector:
                  type: object
                  properties: { matchLabels: { type: object, additionalProperties: { type: string } } }
                endpoints:
                  type: array
                  items:
                    type: object
                    required: [port]
                    properties:
                      port: { type: string }
                      scheme: { type: string, enum: [http, https] }
                      path: { type: string }
                      interval: { type: string }
                      tlsConfig:
                        type: object
                        properties:
                          serverName: { type: string }
                          ca: { type: object, required: [secret], properties: { secret: { type: object, required: [name, key], properties: { name: { type: string }, key: { type: string } } } } }
                          cert: { type: object, required: [secret], properties: { secret: { type: object, required: [name, key], properties: { name: { type: string }, key: { type: string } } } } }
                          keySecret: { type: object, required: [name, key], properties: { name: { type: string }, key: { type: string } } }
"#;
