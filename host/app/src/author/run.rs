//! `witgate plugin run`: one question to policies, or to a strategy, with the way to the answer.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Args;
use serde_json::{Value, json};
use witgate_core::{Impersonation, RequestAttributes, Verdict};

use super::judgement::{Identity, Judgement, judge};
use super::plugin_file::{WorkshopOptions, runtime};
use super::policy_set::{Deadlines, PluginSet, read_settings};
use super::question::{IdentityKeys, OneOrMany, Question, QuestionKeys};
use super::strategy_run::{self, StrategyOptions};

/// Ask a policy one question, or a strategy for one credential, and show the way to the answer
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct RunArgs {
    /// The components, or folders of them; with several policies the rule is applied to all
    #[arg(value_name = "FILE.wasm|DIR", required = true)]
    plugins: Vec<PathBuf>,
    /// Settings instead of the sidecar's: a YAML or JSON file, or a sidecar of which `settings` count
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
    #[command(flatten)]
    question: QuestionOptions,
    #[command(flatten)]
    strategy: StrategyOptions,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    workshop: WorkshopOptions,
}

/// A question by flags.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct QuestionOptions {
    /// Who asks
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// A group of who asks; may be given several times
    #[arg(long = "group", value_name = "GROUP")]
    groups: Vec<String>,
    /// The uid of who asks
    #[arg(long, value_name = "UID")]
    uid: Option<String>,
    /// What else is known of who asks; a key may be given several times
    #[arg(long, value_name = "KEY=VALUE")]
    extra: Vec<String>,
    /// Whom to be, as with `kubectl --as`: the policies are asked about that too
    #[arg(long = "as", value_name = "NAME")]
    as_user: Option<String>,
    /// A group of whom to be; may be given several times
    #[arg(long = "as-group", value_name = "GROUP", requires = "as_user")]
    as_groups: Vec<String>,
    /// The uid of whom to be
    #[arg(long, value_name = "UID", requires = "as_user")]
    as_uid: Option<String>,
    /// What else is known of whom to be; a key may be given several times
    #[arg(long, value_name = "KEY=VALUE", requires = "as_user")]
    as_extra: Vec<String>,
    /// Which cluster is asked for; default: test
    #[arg(long, value_name = "NAME")]
    cluster: Option<String>,
    /// The time that the policy is told: seconds since 1970, or 2026-01-05T10:00:00Z; default: 2026-01-01
    #[arg(long, value_name = "TIME")]
    now: Option<String>,
    /// kubernetes.proxy, or kubernetes.clusters.read, which is about no request
    #[arg(long, value_name = "NAME")]
    permission: Option<String>,
    /// A request line: 'GET /api/v1/namespaces/x/pods?watch=1'
    #[arg(long, value_name = "LINE")]
    request: Option<String>,
    /// A header of that request: 'Upgrade: websocket', 'Content-Type: application/apply-patch+yaml'
    #[arg(long = "header", value_name = "NAME: VALUE")]
    headers: Vec<String>,
    /// What one would type to kubectl: 'exec web -n prod -it -- sh'
    #[arg(long, value_name = "WORDS", conflicts_with = "request")]
    kubectl: Option<String>,
    /// The question as JSON or YAML, with the keys of a test case; - reads standard input
    #[arg(long, value_name = "FILE")]
    query: Option<PathBuf>,
    /// A verb: get, list, watch, create, update, patch, delete, deletecollection
    #[arg(long, value_name = "VERB", conflicts_with_all = ["request", "kubectl"])]
    verb: Option<String>,
    /// A resource in the plural: pods
    #[arg(long, value_name = "NAME", requires = "verb")]
    resource: Option<String>,
    /// A subresource: log
    #[arg(long, value_name = "NAME", requires = "resource")]
    subresource: Option<String>,
    /// The resource's API group; default: the core group
    #[arg(long, value_name = "GROUP", requires = "resource")]
    api_group: Option<String>,
    /// The API group's version; default: v1
    #[arg(long, value_name = "VERSION", requires = "resource")]
    api_version: Option<String>,
    /// The namespace
    #[arg(long, short, value_name = "NAME", requires = "resource")]
    namespace: Option<String>,
    /// The object's name
    #[arg(long, value_name = "NAME", requires = "resource")]
    name: Option<String>,
}

/// Prints the answer: 0 where there is one, whatever it says, and 1 where there is none.
///
/// # Errors
/// When the question is not one, or the gate would refuse a plug-in.
pub(crate) fn run(args: &RunArgs) -> anyhow::Result<ExitCode> {
    let workshop = args.workshop.open()?;
    let settings = args.settings.as_deref().map(read_settings).transpose()?;
    runtime()?.block_on(async {
        let set = PluginSet::load(&workshop, &args.plugins, settings, Deadlines::AsInTheGate).await?;
        if let ([], [(_, strategy)]) = (set.policies.as_slice(), set.strategies.as_slice()) {
            let keys = args.question.keys()?;
            if keys.impersonate.is_some() {
                bail!("`as` is asked of policies, and strategies are not told: leave it out");
            }
            return strategy_run::run(strategy.as_ref(), &args.strategy, &keys, args.json).await;
        }
        if set.policies.is_empty() {
            bail!("there is no policy in {}: name one, or one strategy alone", shown(&args.plugins));
        }
        args.strategy.are_absent()?;
        let questions = args.question.keys()?.questions().map_err(anyhow::Error::msg)?;
        let mut failed = false;
        for question in &questions {
            let judgement = judge(&set.policies, question).await;
            failed |= judgement.failure().is_some();
            if args.json {
                println!("{}", serde_json::to_string_pretty(&as_json(question, &judgement))?);
            } else {
                print_text(question, &judgement);
            }
        }
        if !set.strategies.is_empty() && !args.json {
            let names: Vec<_> = set.strategies.iter().map(|(name, _)| format!("`{name}`")).collect();
            eprintln!("note: strategies decide nothing and were not asked: {}", names.join(", "));
        }
        Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    })
}

fn print_text(question: &Question, judgement: &Judgement) {
    println!("{}", question.written);
    question.describe().iter().for_each(|line| println!("  {line}"));
    judgement.trace().iter().for_each(|line| println!("  {line}"));
    println!("{}", judgement.outcome());
}

fn as_json(question: &Question, judgement: &Judgement) -> Value {
    let (decision, reason) = match judgement.verdict() {
        Verdict::Allow { .. } => ("allow", None),
        Verdict::Deny(reason) => ("deny", Some(reason.to_string())),
    };
    let mut object = json!({
        "asked": question.written,
        "user": { "name": question.user.name, "uid": question.user.uid, "groups": question.user.groups, "extra": question.user.extra },
        "permission": question.query.permission.name,
        "now": question.query.now,
        "request": question.query.request.as_ref().map(request_json),
        "policies": judgement.answers,
        "decision": decision,
        "reason": reason,
    });
    if let (Some(Impersonation { user, uid, groups, extra }), Value::Object(keys)) =
        (&question.impersonate, &mut object)
    {
        keys.insert("as".to_owned(), json!({ "name": user, "uid": uid, "groups": groups, "extra": extra }));
        let identities = judgement.identities.iter().map(|Identity { query, answers, verdict, .. }| {
            let reason = match verdict {
                Verdict::Allow { .. } => None,
                Verdict::Deny(reason) => Some(reason.to_string()),
            };
            let decision = if reason.is_none() { "allow" } else { "deny" };
            let request = query.request.as_ref().map(request_json);
            json!({ "request": request, "policies": answers, "decision": decision, "reason": reason })
        });
        keys.insert("identities".to_owned(), identities.collect());
    }
    object
}

fn request_json(request: &RequestAttributes) -> Value {
    let RequestAttributes { cluster, info, method, path, action_class, upgrade, patch_type, dry_run } = request;
    json!({
        "cluster": cluster.as_str(), "verb": info.verb, "apiGroup": info.api_group, "apiVersion": info.api_version,
        "namespace": info.namespace, "resource": info.resource, "subresource": info.subresource, "name": info.name,
        "subpath": info.subpath, "fieldSelector": info.field_selector, "labelSelector": info.label_selector,
        "resourceRequest": info.is_resource_request, "method": method, "path": path, "actionClass": action_class.as_str(),
        "upgrade": upgrade, "patchType": patch_type, "dryRun": dry_run,
    })
}

impl QuestionOptions {
    /// The keys that the flags come to, over those of `--query`.
    ///
    /// # Errors
    /// When a flag or the query is not what it should be.
    pub(crate) fn keys(&self) -> anyhow::Result<QuestionKeys> {
        let of_query = match &self.query {
            None => QuestionKeys::default(),
            Some(path) => read_query(path)?,
        };
        let some = |list: &[String]| (!list.is_empty()).then(|| list.to_vec());
        let extra = by_key("--extra", &self.extra)?;
        let as_extra = by_key("--as-extra", &self.as_extra)?;
        let impersonate = self.as_user.clone().map(|user| IdentityKeys {
            user: Some(user),
            groups: self.as_groups.clone(),
            uid: self.as_uid.clone(),
            extra: as_extra,
        });
        let mut headers = BTreeMap::new();
        for header in &self.headers {
            let (name, value) =
                header.split_once(':').with_context(|| format!("--header `{header}`: write `NAME: VALUE`"))?;
            headers.insert(name.trim().to_owned(), value.trim().to_owned());
        }
        let line = match (&self.request, &self.verb) {
            (Some(line), _) => Some(line.clone()),
            (None, Some(verb)) => Some(self.line_of_verb(verb)?),
            (None, None) => None,
        };
        let flags = QuestionKeys {
            user: self.user.clone(),
            groups: some(&self.groups),
            uid: self.uid.clone(),
            extra: (!extra.is_empty()).then_some(extra),
            impersonate,
            cluster: self.cluster.clone(),
            now: self.now.clone().map(Value::String),
            permission: self.permission.clone(),
            headers: (!headers.is_empty()).then_some(headers),
            request: line.map(|line| OneOrMany(vec![line])),
            kubectl: self.kubectl.clone().map(|words| OneOrMany(vec![words])),
            ..QuestionKeys::default()
        };
        let mut keys = flags.over(&of_query);
        if keys.request.is_none() && keys.kubectl.is_none() {
            keys.request = of_query.request;
            keys.kubectl = of_query.kubectl;
        }
        Ok(keys)
    }

    /// Whether nothing was asked for by a flag.
    pub(crate) const fn is_empty(&self) -> bool {
        self.request.is_none()
            && self.kubectl.is_none()
            && self.query.is_none()
            && self.verb.is_none()
            && self.permission.is_none()
    }

    /// The request line that is read as these attributes.
    fn line_of_verb(&self, verb: &str) -> anyhow::Result<String> {
        let resource = self.resource.as_deref().context("--verb is about a --resource")?;
        let (method, query, named) = match verb {
            "get" => ("GET", "", true),
            "list" => ("GET", "", false),
            "watch" => ("GET", "?watch=true", false),
            "create" => ("POST", "", false),
            "update" => ("PUT", "", true),
            "patch" => ("PATCH", "", true),
            "delete" => ("DELETE", "", true),
            "deletecollection" => ("DELETE", "", false),
            other => bail!(
                "--verb `{other}` is none of get, list, watch, create, update, patch, delete and deletecollection; \
                 for other requests give --request"
            ),
        };
        let version = self.api_version.as_deref().unwrap_or("v1");
        let mut path = match self.api_group.as_deref().filter(|group| !group.is_empty()) {
            None => format!("/api/{version}"),
            Some(group) => format!("/apis/{group}/{version}"),
        };
        if let Some(namespace) = &self.namespace {
            path.push_str(&format!("/namespaces/{namespace}"));
        }
        path.push_str(&format!("/{resource}"));
        match &self.name {
            Some(name) if verb != "list" && verb != "deletecollection" && verb != "watch" => {
                path.push_str(&format!("/{name}"))
            }
            Some(_) => bail!("--verb {verb} is about all objects: leave --name out"),
            None if named => bail!("--verb {verb} is about one object: give its --name"),
            None => {}
        }
        if let Some(subresource) = &self.subresource {
            path.push_str(&format!("/{subresource}"));
        }
        Ok(format!("{method} {path}{query}"))
    }
}

/// The values of a flag that is given as KEY=VALUE, by key.
fn by_key(flag: &str, pairs: &[String]) -> anyhow::Result<BTreeMap<String, Vec<String>>> {
    let mut values = BTreeMap::<String, Vec<String>>::new();
    for pair in pairs {
        let (key, value) = pair.split_once('=').with_context(|| format!("{flag} `{pair}`: write KEY=VALUE"))?;
        values.entry(key.to_owned()).or_default().push(value.to_owned());
    }
    Ok(values)
}

fn read_query(path: &Path) -> anyhow::Result<QuestionKeys> {
    let mut text = String::new();
    if path == Path::new("-") {
        std::io::stdin().take(QUERY_BYTES_MAX).read_to_string(&mut text).context("standard input cannot be read")?;
    } else {
        let file = std::fs::File::open(path).with_context(|| format!("{} cannot be read", path.display()))?;
        file.take(QUERY_BYTES_MAX)
            .read_to_string(&mut text)
            .with_context(|| format!("{} cannot be read", path.display()))?;
    }
    let options = serde_saphyr::options! { with_snippet: false };
    serde_saphyr::from_str_with_options(&text, options).with_context(|| format!("{} is not a question", path.display()))
}

fn shown(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

/// How large a question may be.
const QUERY_BYTES_MAX: u64 = 1 << 20;

const EXAMPLES: &str = "\
Examples:
  witgate plugin run read-only.wasm --user jane --request 'DELETE /api/v1/namespaces/dev/pods/web'
  witgate plugin run policies/ --user jane --group group:default/dev --cluster staging --kubectl 'exec web -n dev -it -- sh'
  witgate plugin run tenancy.wasm --settings tenants.yaml --user jane --verb list --resource pods -n team-a
  witgate plugin run rbac.wasm --user jane --as support-viewer --as-group support --kubectl 'get pods -n dev'
  echo '{\"user\": \"jane\", \"request\": \"GET /api/v1/pods\", \"now\": \"2026-01-05T10:00:00Z\"}' | witgate plugin run tenancy.wasm --query -
  witgate plugin run oidc.wasm --user jane --cluster one --auth-metadata kubernetes.io/oidc-token-provider=okta --token oidc-okta=token.txt

What is shown: how the gate reads the request, what each policy says and logs, each condition with its outcome, and how the rule
comes to the verdict; with --as, all that again for each part of that identity. Of a credential, its kind, expiry and impersonation; never a token.

Exit codes: 0 there is an answer, allow or deny; 1 a policy gave none, or is refused; 2 the command line is not understood.";
