//! `POST /try`: what the policies that serve say to a request that nobody sends.
//!
//! Each policy is asked, the shadow ones too, and the verdict is folded by the rule itself. Nothing is forwarded, no strategy is
//! asked, no cluster need exist; nothing is logged as a decision or counted as a call, no answer is kept, and no failure
//! puts anybody in quarantine.
//!
//! Bounded: a few at once, a small body, and each policy within its own deadline.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use http::{Response, StatusCode};
use hyper::body::Body;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use witgate_core::{
    Answer, BoxError, CallError, ClusterName, Condition, Decision, Generation, Permission, PermissionPolicy,
    PluginName, PolicyAnswer, PolicyMode, PolicyQuery, RequestAttributes, UserInfo, Verdict, verdict,
};
use witgate_proxy::snapshot::{CurrentSnapshot, PermissionRule, Snapshot};

use super::body::{self, Body as Content};
use crate::request_line::{RequestLine, Subject};

/// Asks the policies that serve.
pub(crate) struct Trials {
    current: Arc<CurrentSnapshot>,
    places: Semaphore,
}

/// The body: who asks for what.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Asked {
    user: String,
    uid: Option<String>,
    #[serde(default)]
    groups: Vec<String>,
    #[serde(default)]
    extra: BTreeMap<String, Vec<String>>,
    /// `kubernetes.proxy`, unless it says another.
    permission: Option<String>,
    /// May be left out where there is one alone.
    cluster: Option<String>,
    /// Method and path, such as `GET /api/v1/namespaces/dev/pods`.
    request: Option<String>,
    /// What the request is about, in Kubernetes' words, instead of `request`.
    attributes: Option<AskedAttributes>,
    /// Whether the client asks for another protocol, as for exec.
    #[serde(default)]
    upgrade: bool,
    /// Of a patch.
    content_type: Option<String>,
}

/// What a request is about; as much as makes a path.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct AskedAttributes {
    verb: String,
    #[serde(default)]
    api_group: String,
    #[serde(default = "v1")]
    api_version: String,
    #[serde(default)]
    namespace: String,
    resource: String,
    #[serde(default)]
    subresource: String,
    #[serde(default)]
    name: String,
}

fn v1() -> String {
    "v1".to_owned()
}

/// The answer.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Tried<'a> {
    generation: Generation,
    verdict: ToldVerdict,
    /// How the gate understood the request; none for a permission that is not about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    request: Option<ToldRequest<'a>>,
    answers: Vec<ToldAnswer<'a>>,
}

#[derive(Serialize)]
struct ToldVerdict {
    decision: &'static str,
    /// What the caller would read.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// Who decided, where a policy did.
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<PluginName>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ToldRequest<'a> {
    cluster: &'a str,
    /// Whether there is a cluster of that name; looked up after the verdict, so policies may judge one that is not there.
    cluster_exists: bool,
    verb: &'a str,
    api_group: &'a str,
    api_version: &'a str,
    namespace: &'a str,
    resource: &'a str,
    subresource: &'a str,
    name: &'a str,
    method: &'a str,
    path: &'a str,
    action_class: &'static str,
    upgrade: bool,
    dry_run: bool,
}

/// What one policy said.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ToldAnswer<'a> {
    policy: &'a PluginName,
    /// A shadow policy's answer is told, and not counted.
    mode: PolicyMode,
    /// `allow`, `deny`, `no-opinion`, `conditional`, or `failed`.
    answer: &'static str,
    /// Of a denial: what it says. Of a failure: how it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// Of a conditional: whether it opens.
    #[serde(skip_serializing_if = "Option::is_none")]
    holds: Option<bool>,
    /// Of a conditional: the alternatives, each with its conditions.
    #[serde(skip_serializing_if = "Option::is_none")]
    any_of: Option<Vec<Vec<ToldCondition>>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
    /// How long the call took, instantiation included.
    microseconds: u64,
}

#[derive(Serialize)]
struct ToldCondition {
    rule: String,
    params: BTreeMap<String, Vec<String>>,
    negated: bool,
    holds: bool,
}

impl Trials {
    /// Asks the policies of `current`, whatever that is at the moment of asking.
    pub(crate) fn new(current: Arc<CurrentSnapshot>) -> Self {
        Self { current, places: Semaphore::new(TRIALS_MAX) }
    }

    /// Answers one request.
    pub(super) async fn respond<B>(&self, body: B) -> Response<Content>
    where
        B: Body<Data: Send, Error: Into<BoxError>> + Send,
    {
        let Ok(_place) = self.places.try_acquire() else {
            let why = format!("{TRIALS_MAX} are being tried already");
            return body::refusal(StatusCode::SERVICE_UNAVAILABLE, why);
        };
        let asked = match body::read(body, BODY_BYTES_MAX).await {
            Ok(body) => serde_json::from_slice::<Asked>(&body)
                .map_err(|error| format!("the body is not understood: {error}; expected is {EXPECTED}")),
            Err(why) => Err(why),
        };
        let snapshot = self.current.read();
        match asked.and_then(|asked| asked.question(&snapshot)) {
            Ok((query, user)) => tried(&snapshot, &query, &user).await,
            Err(why) => body::refusal(StatusCode::BAD_REQUEST, why),
        }
    }
}

async fn tried(snapshot: &Snapshot, query: &PolicyQuery, user: &UserInfo) -> Response<Content> {
    let mut told = Vec::new();
    let mut answers = Vec::new();
    for policy in &snapshot.policies {
        let began = Instant::now();
        let answer = policy.try_out(query, Some(user)).await;
        let microseconds = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        told.push(ToldAnswer::of(policy.as_ref(), &answer, query.request.as_ref(), microseconds));
        let answer = answer.map(|answer| answer.decision);
        answers.push(PolicyAnswer { policy: policy.name(), mode: policy.mode(), answer });
    }
    let verdict = match snapshot.permission {
        PermissionRule::Enabled => verdict(answers, query.request.as_ref()),
        PermissionRule::Disabled => Verdict::Allow { policy: None },
    };
    let verdict = match verdict {
        Verdict::Allow { policy } => ToldVerdict { decision: "allow", reason: None, policy },
        Verdict::Deny(reason) => {
            ToldVerdict { decision: "deny", reason: Some(reason.to_string()), policy: reason.policy().cloned() }
        }
    };
    let request = query.request.as_ref().map(|request| ToldRequest::of(request, snapshot));
    body::json(StatusCode::OK, &Tried { generation: snapshot.generation, verdict, request, answers: told })
}

impl Asked {
    /// What the policies are asked, and about whom.
    fn question(self, snapshot: &Snapshot) -> Result<(PolicyQuery, UserInfo), String> {
        let permission = match self.permission.as_deref() {
            None | Some("kubernetes.proxy") => Permission::PROXY,
            Some("kubernetes.clusters.read") => Permission::CLUSTERS_READ,
            Some(_) => return Err("`permission` is `kubernetes.proxy` or `kubernetes.clusters.read`".to_owned()),
        };
        let request = if permission == Permission::PROXY {
            Some(self.attributes(snapshot)?)
        } else if self.request.is_some() || self.attributes.is_some() || self.cluster.is_some() {
            return Err(format!("`{}` is about no request and no cluster", permission.name));
        } else {
            None
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let user = UserInfo { name: self.user, uid: self.uid, groups: self.groups, extra: self.extra };
        Ok((PolicyQuery { permission, resource_ref: None, request, now }, user))
    }

    fn attributes(&self, snapshot: &Snapshot) -> Result<RequestAttributes, String> {
        let cluster = match (&self.cluster, snapshot.clusters.only()) {
            (Some(name), _) => ClusterName::try_from(name.as_str()).map_err(|error| error.to_string())?,
            (None, Some(cluster)) => cluster.details.name.clone(),
            (None, None) => return Err("`cluster` is missing, and there is not just one".to_owned()),
        };
        let line = match (&self.request, &self.attributes) {
            (Some(line), None) => RequestLine::parse(line, [])?,
            (None, Some(attributes)) => attributes.line()?,
            (Some(_), Some(_)) | (None, None) => {
                return Err("one of `request` and `attributes` says what is asked for".to_owned());
            }
        };
        let line = RequestLine { upgrade: self.upgrade, content_type: self.content_type.clone(), ..line };
        let attributes = match line.subject(&cluster)? {
            Subject::Request(attributes) => *attributes,
            Subject::Clusters => {
                return Err("the list of clusters is asked about as `permission: kubernetes.clusters.read`".to_owned());
            }
        };
        if let Some(asked) = &self.attributes
            && !asked.is_of(&attributes)
        {
            let RequestLine { method, target, .. } = line;
            return Err(format!(
                "no request is about these attributes: the nearest, `{method} {target}`, has the verb `{}`",
                attributes.info.verb
            ));
        }
        Ok(attributes)
    }
}

impl AskedAttributes {
    /// The request that is about these.
    fn line(&self) -> Result<RequestLine, String> {
        let method = match self.verb.as_str() {
            "get" | "list" | "watch" => "GET",
            "create" => "POST",
            "update" => "PUT",
            "patch" => "PATCH",
            "delete" | "deletecollection" => "DELETE",
            other => {
                return Err(format!(
                    "`verb` is one of get, list, watch, create, update, patch, delete and deletecollection, not `{}`",
                    shown(other)
                ));
            }
        };
        let mut path = String::new();
        let mut push = |part: &str| {
            let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:@".contains(&byte);
            if part.is_empty() || !part.bytes().all(fits) {
                return Err(format!("`{}` cannot be part of a resource's path", shown(part)));
            }
            path.push('/');
            path.push_str(part);
            Ok(())
        };
        if self.api_group.is_empty() {
            push("api")?;
        } else {
            push("apis")?;
            push(&self.api_group)?;
        }
        push(&self.api_version)?;
        if !self.namespace.is_empty() {
            push("namespaces")?;
            push(&self.namespace)?;
        }
        push(&self.resource)?;
        for part in [&self.name, &self.subresource] {
            if !part.is_empty() {
                push(part)?;
            }
        }
        if self.verb == "watch" {
            path.push_str("?watch=1");
        }
        Ok(RequestLine { method: method.to_owned(), target: path, upgrade: false, content_type: None })
    }

    fn is_of(&self, attributes: &RequestAttributes) -> bool {
        let info = &attributes.info;
        self.verb == info.verb
            && self.resource == info.resource
            && self.subresource == info.subresource
            && (self.name == info.name || self.namespace == info.name)
    }
}

impl<'a> ToldRequest<'a> {
    fn of(request: &'a RequestAttributes, snapshot: &Snapshot) -> Self {
        let info = &request.info;
        Self {
            cluster: request.cluster.as_str(),
            cluster_exists: snapshot.clusters.find(&request.cluster).is_some(),
            verb: &info.verb,
            api_group: &info.api_group,
            api_version: &info.api_version,
            namespace: &info.namespace,
            resource: &info.resource,
            subresource: &info.subresource,
            name: &info.name,
            method: &request.method,
            path: &request.path,
            action_class: request.action_class.as_str(),
            upgrade: request.upgrade,
            dry_run: request.dry_run,
        }
    }
}

impl<'a> ToldAnswer<'a> {
    fn of(
        policy: &'a dyn PermissionPolicy,
        answer: &Result<Answer, CallError>,
        request: Option<&RequestAttributes>,
        microseconds: u64,
    ) -> Self {
        let mut told = Self {
            policy: policy.name(),
            mode: policy.mode(),
            answer: "failed",
            reason: None,
            holds: None,
            any_of: None,
            warnings: Vec::new(),
            microseconds,
        };
        let decision = match answer {
            Ok(Answer { decision, warnings }) => {
                told.warnings.clone_from(warnings);
                decision
            }
            Err(error) => {
                // The words of the log; what the engine says of the guest's insides stays there.
                told.reason = Some(format!("{}: {error}", error.code()));
                return told;
            }
        };
        match decision {
            Decision::Allow => told.answer = "allow",
            Decision::NoOpinion => told.answer = "no-opinion",
            Decision::Deny(reason) => {
                told.answer = "deny";
                told.reason = Some(reason.clone());
            }
            Decision::Conditional(conditional) => match conditional.holds(request) {
                Ok(holds) => {
                    told.answer = "conditional";
                    told.holds = Some(holds);
                    let tell = |condition: &Condition| ToldCondition::of(condition, request);
                    told.any_of = Some(conditional.any_of.iter().map(|all| all.iter().map(tell).collect()).collect());
                }
                Err(error) => told.reason = Some(format!("malformed-answer: {error}")),
            },
        }
        told
    }
}

impl ToldCondition {
    fn of(condition: &Condition, request: Option<&RequestAttributes>) -> Self {
        Self {
            rule: condition.rule.clone(),
            params: condition.params.iter().cloned().collect(),
            negated: condition.negated,
            holds: condition.holds(request).unwrap_or(false),
        }
    }
}

fn shown(text: &str) -> String {
    text.chars().take(40).flat_map(char::escape_debug).collect()
}

/// How many may be tried at once.
const TRIALS_MAX: usize = 4;

const BODY_BYTES_MAX: usize = 64 << 10;

const EXPECTED: &str =
    r#"`{"user": "jane", "groups": ["dev"], "cluster": "one", "request": "GET /api/v1/namespaces/dev/pods"}`"#;

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "a test may panic")]
mod tests {
    use http_body_util::{BodyExt as _, Full};
    use serde_json::Value;
    use witgate_core::{BoxFuture, Conditional, Digest};
    use witgate_proxy::snapshot::Clusters;

    use super::*;

    type Says = fn(&PolicyQuery, &UserInfo) -> Result<Decision, CallError>;

    /// Says what it is told to, to who tries it out alone.
    struct Fake {
        name: PluginName,
        mode: PolicyMode,
        says: Says,
    }

    impl PermissionPolicy for Fake {
        fn name(&self) -> &PluginName {
            &self.name
        }

        fn digest(&self) -> Digest {
            Digest::of(b"")
        }

        fn mode(&self) -> PolicyMode {
            self.mode
        }

        fn handle<'a>(
            &'a self,
            _: &'a PolicyQuery,
            _: Option<&'a UserInfo>,
        ) -> BoxFuture<'a, Result<Decision, CallError>> {
            panic!("a trial is no request")
        }

        fn try_out<'a>(
            &'a self,
            query: &'a PolicyQuery,
            user: Option<&'a UserInfo>,
        ) -> BoxFuture<'a, Result<Answer, CallError>> {
            let answer = (self.says)(query, user.unwrap());
            Box::pin(std::future::ready(answer.map(Answer::from)))
        }
    }

    fn is(rule: &str, param: &str, value: &str, negated: bool) -> Condition {
        Condition { rule: rule.into(), params: vec![(param.into(), vec![value.into()])], negated }
    }

    fn trials(policies: &[(PolicyMode, Says)]) -> Trials {
        let policies = policies.iter().enumerate().map(|(number, (mode, says))| {
            let name = PluginName::try_from(format!("p{number}")).unwrap();
            Arc::new(Fake { name, mode: *mode, says: *says }) as Arc<dyn PermissionPolicy>
        });
        let snapshot = Snapshot {
            generation: Generation(7),
            authenticator: crate::authentication::nobody(),
            permission: PermissionRule::Enabled,
            policies: policies.collect(),
            clusters: Clusters::default(),
        };
        Trials::new(Arc::new(CurrentSnapshot::new(Arc::new(snapshot))))
    }

    async fn post(trials: &Trials, body: &str) -> (u16, Value) {
        let response = trials.respond(Full::new(bytes::Bytes::from(body.to_owned()))).await;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&body).unwrap())
    }

    const ASKED: &str =
        r#"{"user":"jane","groups":["dev"],"cluster":"one","request":"GET /api/v1/namespaces/dev/pods/p?limit=1"}"#;

    /// Goal: what each policy says, and what the rule makes of it. Method: one policy of each kind of answer; the shadow one denies.
    #[tokio::test]
    async fn every_policy_is_asked_and_the_rule_decides() {
        use PolicyMode::{Enforce, Shadow};
        let trials = trials(&[
            (Enforce, |_, _| Ok(Decision::NoOpinion)),
            (Enforce, |_, _| {
                let any_of = vec![
                    vec![is("IS_CLUSTER", "clusters", "two", false)],
                    vec![is("IS_VERB", "verbs", "get", false), is("IS_CLUSTER", "clusters", "two", true)],
                ];
                Ok(Decision::Conditional(Conditional { any_of, reusable_for: Some(9) }))
            }),
            (Shadow, |query, user| {
                assert_eq!((user.name.as_str(), user.groups.as_slice()), ("jane", &["dev".to_owned()][..]));
                Ok(Decision::Deny(format!("no {}", query.request.as_ref().unwrap().info.verb)))
            }),
        ]);
        let (status, mut told) = post(&trials, ASKED).await;
        assert_eq!(status, 200, "{told}");
        for answer in told["answers"].as_array_mut().unwrap() {
            assert!(answer["microseconds"].is_u64());
            answer["microseconds"] = 0.into();
        }
        insta::assert_snapshot!(serde_json::to_string_pretty(&told).unwrap(), @r#"
        {
          "generation": 7,
          "verdict": {
            "decision": "allow",
            "policy": "p1"
          },
          "request": {
            "cluster": "one",
            "clusterExists": false,
            "verb": "get",
            "apiGroup": "",
            "apiVersion": "v1",
            "namespace": "dev",
            "resource": "pods",
            "subresource": "",
            "name": "p",
            "method": "GET",
            "path": "/api/v1/namespaces/dev/pods/p",
            "actionClass": "read",
            "upgrade": false,
            "dryRun": false
          },
          "answers": [
            {
              "policy": "p0",
              "mode": "enforce",
              "answer": "no-opinion",
              "microseconds": 0
            },
            {
              "policy": "p1",
              "mode": "enforce",
              "answer": "conditional",
              "holds": true,
              "anyOf": [
                [
                  {
                    "rule": "IS_CLUSTER",
                    "params": {
                      "clusters": [
                        "two"
                      ]
                    },
                    "negated": false,
                    "holds": false
                  }
                ],
                [
                  {
                    "rule": "IS_VERB",
                    "params": {
                      "verbs": [
                        "get"
                      ]
                    },
                    "negated": false,
                    "holds": true
                  },
                  {
                    "rule": "IS_CLUSTER",
                    "params": {
                      "clusters": [
                        "two"
                      ]
                    },
                    "negated": true,
                    "holds": true
                  }
                ]
              ],
              "microseconds": 0
            },
            {
              "policy": "p2",
              "mode": "shadow",
              "answer": "deny",
              "reason": "no get",
              "microseconds": 0
            }
          ]
        }
        "#);
    }

    /// Goal: a failure is told as one, and denies. Method: a policy that traps.
    #[tokio::test]
    async fn a_failure_is_told_and_denies() {
        let trials = trials(&[(PolicyMode::Enforce, |_, _| {
            let plugin = PluginName::try_from("p0").unwrap();
            Err(CallError::Trapped { plugin, source: "the guest's insides".into() })
        })]);
        let (_, told) = post(&trials, ASKED).await;
        assert_eq!(told["verdict"]["reason"], "policy `p0` gave no answer: trapped");
        assert_eq!(told["answers"][0]["reason"], "trapped: plug-in `p0` trapped");
    }

    /// Goal: attributes become the request that is about them. Method: rows; each path as the policies see it.
    #[tokio::test]
    async fn attributes_become_a_request() {
        check(r#"{"verb":"list","resource":"pods"}"#, "GET /api/v1/pods read").await;
        check(r#"{"verb":"watch","namespace":"dev","resource":"pods"}"#, "GET /api/v1/namespaces/dev/pods read").await;
        check(
            r#"{"verb":"patch","apiGroup":"apps","namespace":"dev","resource":"deployments","name":"web","subresource":"scale"}"#,
            "PATCH /apis/apps/v1/namespaces/dev/deployments/web/scale write",
        )
        .await;
        check(r#"{"verb":"delete","resource":"nodes","name":"n:1"}"#, "DELETE /api/v1/nodes/n:1 delete").await;
        check(r#"{"verb":"deletecollection","resource":"nodes"}"#, "DELETE /api/v1/nodes delete").await;
        check(r#"{"verb":"get","resource":"namespaces","name":"dev"}"#, "GET /api/v1/namespaces/dev read").await;
        check(
            r#"{"verb":"get","resource":"pods"}"#,
            "400 no request is about these attributes: the nearest, `GET /api/v1/pods`, has the verb `list`",
        )
        .await;
        let verbs =
            "400 `verb` is one of get, list, watch, create, update, patch, delete and deletecollection, not `use`";
        check(r#"{"verb":"use","resource":"pods"}"#, verbs).await;
        check(r#"{"verb":"get","resource":"pods","name":"a/b"}"#, "400 `a/b` cannot be part of a resource's path")
            .await;
    }

    async fn check(attributes: &str, expected: &str) {
        let trials = trials(&[]);
        let (status, told) =
            post(&trials, &format!(r#"{{"user":"j","cluster":"one","attributes":{attributes}}}"#)).await;
        let request = &told["request"];
        let word = |key: &str| request[key].as_str().unwrap_or_default();
        let got = match told["error"].as_str() {
            Some(error) => format!("{status} {error}"),
            None => format!("{} {} {}", word("method"), word("path"), word("actionClass")),
        };
        assert_eq!(got, expected, "{attributes}");
    }

    /// Goal: what the gate would not ask a policy about, and what is not understood, is refused with why. Method: rows.
    #[tokio::test]
    async fn what_is_no_question_is_refused() {
        let request = |line: &str| format!(r#"{{"user":"j","cluster":"one","request":"{line}"}}"#);
        for (body, why) in [
            ("", "the body is not understood"),
            (r#"{"user":"j","clusters":"x"}"#, "unknown field `clusters`"),
            (r#"{"user":"j","request":"GET /x"}"#, "`cluster` is missing, and there is not just one"),
            (r#"{"user":"j","cluster":"one"}"#, "one of `request` and `attributes`"),
            (r#"{"user":"j","permission":"x"}"#, "`permission` is"),
            (r#"{"user":"j","permission":"kubernetes.clusters.read","cluster":"one"}"#, "is about no request"),
            (&request("GET"), "`GET` is not a request line"),
            (&request("get /x"), "answers 405 to the method `get`"),
            (&request("CONNECT /x"), "answers 405 to the method `CONNECT`"),
            (&request("GET /api/v1/../pods"), "answers 400 to `GET /api/v1/../pods`"),
            (&request("OPTIONS /api/v1/pods"), "knows no verb for it"),
            (&request("GET /api/kubernetes/clusters"), "kubernetes.clusters.read"),
            (&format!(r#"{{"user":"{}"}}"#, "x".repeat(BODY_BYTES_MAX)), "more than 65536 bytes"),
        ] {
            let (status, told) = post(&trials(&[]), body).await;
            let error = told["error"].as_str().unwrap();
            assert!(status == 400 && error.contains(why), "{status} {error}");
        }
        let (status, told) = post(&trials(&[]), r#"{"user":"j","permission":"kubernetes.clusters.read"}"#).await;
        assert_eq!((status, told["verdict"]["decision"].as_str()), (200, Some("deny")), "{told}");
    }

    /// Goal: as many as may be, and no more. Method: all places taken, then given back.
    #[tokio::test]
    async fn trials_are_bounded() {
        let trials = trials(&[(PolicyMode::Enforce, |_, _| Ok(Decision::Allow))]);
        let taken = trials.places.try_acquire_many(u32::try_from(TRIALS_MAX).unwrap()).unwrap();
        let (status, told) = post(&trials, ASKED).await;
        assert_eq!((status, told["error"].as_str()), (503, Some("4 are being tried already")));
        drop(taken);
        let (status, told) = post(&trials, ASKED).await;
        assert_eq!((status, told["verdict"]["decision"].as_str()), (200, Some("allow")), "{told}");
    }
}
